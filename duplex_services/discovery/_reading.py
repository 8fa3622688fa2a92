"""How everything that answers reads the directory: lookups from memory, and watches that cannot miss the last state.

RPC, HTTP, SSE, DNS and resolvers stand on a :class:`Reading`; none of them looks into the store.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Self, final

import msgspec
import trio

from duplex_services.discovery._model import (
    Batch,
    Change,
    Explanation,
    Leader,
    Listing,
    Position,
    ServiceInfo,
    Status,
)
from duplex_services.discovery._rules._explaining import explain
from duplex_services.discovery._rules._selecting import NO_FILTER, Filter, select
from duplex_services.discovery._rules._view import View

#: Changes of one batch: far below what a message may have.
MOST_CHANGES: Final = 500

#: What an answer may have before it has to wait for its turn.
_MANY: Final = 200

#: Seconds between two batches of a watcher, for each who watches the same, and at most.
_REST_OF_EACH: Final = 0.001
_LONGEST_REST: Final = 0.2


class Freshness:
    """How up to date a view is; kept by what feeds it.

    Attributes:
        confirmed: the time (``trio.current_time()``) as of which nothing newer was there; ``None`` for never.
        stale: whether that is too long ago.
        trouble: why.
    """

    def __init__(self) -> None:
        self.confirmed: float | None = None
        self.stale = True
        self.trouble = ""


@final
class Reading:
    """What can be asked of the directory.

    Args:
        view: what is known, for lookups that take half a microsecond: ``reading.view.instances("web")``.
        freshness: returns how up to date it is.
        here: returns what this process knows of an instance besides, for a human.
    """

    def __init__(
        self,
        view: View,
        freshness: Callable[[], Freshness],
        here: Callable[[str, str], str] | None = None,
    ) -> None:
        self.view = view
        self._freshness = freshness
        self._here = here
        self._news: dict[str, trio.Event] = {}
        self._crowds: dict[str, int] = {}
        self._known = trio.Event()
        self._large = trio.Lock()
        #: How often it became stale, or fresh again.
        self.turns = 0
        view.on_changes = self._tell

    @property
    def is_known(self) -> bool:
        """Whether anything has been read from the store."""
        return bool(self.view.epoch)

    async def known(self) -> None:
        """Wait until something was read from the store."""
        while not self.is_known:
            await self._known.wait()

    def now_known(self) -> None:
        """Tell those who wait for it that something was read. Called by what feeds the view."""
        self._known.set()

    async def turn(self, size: int) -> None:
        """Wait until an answer of so many things may be made, if that takes long: one of those in each pass of the event loop, so that
        who asks for many of them at once holds up nobody else for longer than for one."""
        if size > _MANY:
            async with self._large:
                await trio.lowlevel.checkpoint()

    def status(self) -> Status:
        """Return how good what is known is."""
        view, freshness = self.view, self._freshness()
        confirmed = freshness.confirmed
        age = None if confirmed is None else max(0.0, trio.current_time() - confirmed)
        return Status(
            view.origin, view.index, view.epoch, view.revision, age, freshness.stale, freshness.trouble
        )

    def listing(self, service: str, wanted: Filter = NO_FILTER) -> Listing:
        """Return the instances of a service that somebody asks for."""
        view = self.view
        found = view.all_instances(service) if wanted.everything else view.instances(service)
        chosen = select(found, wanted)
        known = service in view
        return Listing(service, chosen, known, view.orphans_of(chosen), self.status())

    def leader(self, service: str) -> Leader | None:
        """Return who leads a service."""
        return self.view.leader(service)

    def service(self, name: str) -> ServiceInfo | None:
        """Return what is known of a service."""
        return self.view.service(name)

    def services(self) -> tuple[ServiceInfo, ...]:
        """Return all services, sorted by name."""
        found = (self.view.service(name) for name in self.view.services())
        return tuple(info for info in found if info is not None)

    def explain(self, service: str, id: str, wanted: Filter = NO_FILTER) -> Explanation:
        """Say why an instance is listed to who asks for something, or is not."""
        here = "" if self._here is None else self._here(service, id)
        return explain(self.view, service, id, trio.current_time(), wanted, here=here)

    def watch(self, service: str = "", after: Position | None = None) -> Watching:
        """Watch a service, even one that has no instances; empty for all services.

        Args:
            service: which.
            after: go on from there, without what was told before.
        """
        return Watching(self, service, after)

    async def news(self, service: str) -> None:
        """Wait for the next change of a service (empty: of any). Nothing else wakes who waits here."""
        event = self._news.get(service)
        if event is None:
            event = self._news[service] = trio.Event()
        try:
            await event.wait()
        finally:
            # Names are as many as somebody likes to ask for: of one that nobody waits for any more nothing is kept.
            if self._news.get(service) is event and not event.statistics().tasks_waiting:
                del self._news[service]
                self._crowds.pop(service, None)

    def turned(self) -> None:
        """Tell all watchers that what is known has become stale, or is fresh again. Called by what feeds the view."""
        self.turns += 1
        self._wake(set(self._news))

    def rest(self, service: str) -> float:
        """Return the seconds that pass between two batches of one watcher: the longer, the more watch the same. What changes
        meanwhile comes in one batch, so many changes and many watchers do not multiply."""
        return min(_LONGEST_REST, _REST_OF_EACH * self._crowds.get(service, 0))

    def _tell(self, changes: Iterable[Change]) -> None:
        self._known.set()
        self._wake({"", *(change.service for change in changes)})

    def _wake(self, services: Iterable[str]) -> None:
        for service in services:
            event = self._news.pop(service, None)
            if event is not None:
                self._crowds[service] = event.statistics().tasks_waiting
                event.set()


@final
class Watching:
    """A watch: batches of changes. It needs no closing, and costs nothing while nobody waits in it.

    What is not taken is merged with what comes after it, so a slow reader ends with the same state as a fast one.
    """

    def __init__(self, reading: Reading, service: str, after: Position | None) -> None:
        self.service = service
        self._reading = reading
        self._after = after
        self._rest: Iterator[Change] | None = None
        self._next: Change | None = None
        self._reset = False
        self._has_told = False
        self._turns = reading.turns
        self._told_at = 0.0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        return await self.receive()

    async def receive(self) -> Batch:
        """Wait for the next batch. The first comes at once if the store has been read: what has changed since the position,
        which may be nothing, or all there is. One without changes says that what is known has become stale, or is fresh again. If
        this is cancelled, nothing is lost."""
        await trio.lowlevel.checkpoint()
        await self._reading.known()
        while self._rest is None:
            view = self._reading.view
            self._reset, changes = view.catch_up(self.service, self._after)
            self._after = Position(view.origin, view.index)
            rest = iter(changes)
            self._next = next(rest, None)
            is_news = self._reset or not self._has_told or self._turns != self._reading.turns
            if self._next is None and not is_news:
                await self._reading.news(self.service)
                await trio.sleep_until(self._told_at + self._reading.rest(self.service))
            else:
                self._rest = rest
        self._turns = self._reading.turns
        self._told_at = trio.current_time()
        self._has_told = True
        return self._part(self._rest)

    def _part(self, rest: Iterator[Change]) -> Batch:
        changes = [] if self._next is None else [self._next, *itertools.islice(rest, MOST_CHANGES - 1)]
        self._next = next(rest, None)
        is_last = self._next is None
        if is_last:
            self._rest = None
        reset, self._reset = self._reset, False
        assert self._after is not None
        # What has come since will be told, so it is not told as known.
        status = msgspec.structs.replace(self._reading.status(), as_of=self._after.index)
        return Batch(self.service, reset, tuple(changes), is_last, status)
