"""What ``duplex discovery watch --live`` draws: all that is known now, and since when."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from typing import Final, final

import trio

import duplex
from duplex.cli.live import Part, show_live
from duplex_services.discovery._following import Following, News, follow
from duplex_services.discovery._model import Instance, Leader, Status
from duplex_services.discovery._showing import address_of, show_status

_SERVICES: Final = ("service", "serving", "all", "leader")
_INSTANCES: Final = ("service", "instance", "state", "for", "leader", "address", "note")


@final
class Board:
    """What was told, and when it was seen to become so.

    Args:
        service: which is followed; empty for all.
        now: the time, in seconds of a clock that never jumps.
    """

    def __init__(self, service: str, now: float) -> None:
        self._service = service
        self._began = now
        self._instances: dict[tuple[str, str], Instance] = {}
        #: Since when each is in its state; nothing if it was so before anybody looked.
        self._since: dict[tuple[str, str], float] = {}
        self._leaders: dict[str, Leader] = {}
        self._services: set[str] = set()
        self._is_known = False
        self._status: Status | None = None
        self._told = now

    def take(self, news: News, now: float) -> None:
        """Take in what has changed."""
        for change in news.changes:
            key = change.service, change.id
            if change.kind in ("config", "metadata"):
                self._services.add(change.service)
            elif change.kind == "leader":
                self._leaders.pop(change.service, None)
                if change.leader is not None:
                    self._leaders[change.service] = change.leader
            elif change.instance is None:
                self._instances.pop(key, None)
                self._since.pop(key, None)
            else:
                before = self._instances.get(key)
                if self._is_known and (before is None or before.state != change.instance.state):
                    self._since[key] = now
                self._instances[key] = change.instance
        self._is_known |= news.current
        if news.status is not None or self._status is not None:
            self._told = now
        self._status = news.status

    def parts(self, now: float) -> list[Part]:
        """Return what to show."""
        instances = sorted(self._instances.values(), key=lambda one: (one.service, one.index, one.id))
        rows = [self._row(one, now) for one in instances]
        title, is_bad = self._title(instances, now)
        if self._service:
            return [Part(title, is_bad, _INSTANCES[1:], [row[1:] for row in rows], len(_INSTANCES))]
        serving = Counter(one.service for one in instances if one.serves)
        every = Counter(one.service for one in instances)
        services = [
            (
                name,
                f"{serving[name]}",
                f"{every[name]}",
                self._leaders[name].id if name in self._leaders else "",
            )
            for name in sorted({*every, *self._services, *self._leaders})
        ]
        return [
            Part(title, is_bad, _SERVICES, services, len(_SERVICES)),
            Part("instances", False, _INSTANCES, rows, len(_INSTANCES)),
        ]

    def _row(self, one: Instance, now: float) -> tuple[str, ...]:
        since = self._since.get((one.service, one.id))
        leader = self._leaders.get(one.service)
        leads = leader is not None and leader.id == one.id
        return (
            one.service,
            one.id,
            f"{one.state}, suspect" if one.suspect else one.state,
            f"> {duration(now - self._began)}" if since is None else duration(now - since),
            f"fence {leader.fence}" if leads and leader is not None else "",
            address_of(one),
            one.note,
        )

    def _title(self, instances: list[Instance], now: float) -> tuple[str, bool]:
        what = self._service or "discovery"
        if self._status is None:
            known = (
                f"what was known {duration(now - self._told)} ago" if self._is_known else "nothing is known"
            )
            return f"{what}: no server answers; {known}", True
        serving = sum(one.serves for one in instances)
        return f"{what}: {serving} of {len(instances)} serve; {show_status(self._status)}", self._status.stale


def duration(seconds: float) -> str:
    """Return a time in the largest unit of which there are two."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


async def show_board(peer: duplex.Peer, service: str, *, interval: float, count: int | None) -> None:
    """Show all that is known, again and again, until cancelled.

    Args:
        peer: with links to servers of discovery.
        service: which to show; empty for all.
        interval: seconds between two looks.
        count: how many looks; ``None`` for no end.

    Raises:
        InvalidArgument: this is no service.
    """
    board = Board(service, time.monotonic())

    async def take(following: Following) -> None:
        async for news in following:
            board.take(news, time.monotonic())

    async with contextlib.AsyncExitStack() as stack:
        following = await stack.enter_async_context(follow(peer, service))
        nursery = await stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(take, following)
        await show_live(lambda: board.parts(time.monotonic()), interval=interval, count=count)
        nursery.cancel_scope.cancel()
