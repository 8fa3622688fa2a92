"""A link is lost on which thousands of calls run: they end a few at a time, and so do those who wait for them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest
import trio

import duplex
from duplex.engine.links._lost import AT_ONCE, IN_A_PASS
from tests.engine.helpers import GUARD, Pair, linked, until
from tests.machine import fail_after

pytestmark = pytest.mark.plain_wire("counts passes of the event loop")

MANY = 10 * AT_ONCE


class Work:
    """A service whose handlers wait, and note in which pass of the event loop they ended."""

    def __init__(self) -> None:
        self.server: duplex.Peer
        self.ended: dict[int, int] = {}
        self.go = trio.Event()
        self.begun = 0
        self.problems: list[BaseException] = []
        self.service = service = duplex.Service("work")

        @service.rpc
        async def wait() -> None:
            self.begun += 1
            try:
                await self.go.wait()
            finally:
                now = self.server._inside.flusher.passes
                self.ended[now] = self.ended.get(now, 0) + 1

        @service.rpc
        async def stream(items: duplex.Channel[int, int]) -> None:
            self.begun += 1
            try:
                await self.go.wait()
                await items.send_eof()
            except BaseException as error:
                self.problems.append(error)
                raise

        @service.rpc
        async def at_once() -> str:
            return "here"

    @property
    def count(self) -> int:
        return sum(self.ended.values())


@contextlib.asynccontextmanager
async def _busy(work: Work, method: str = "wait", flags: int = 3) -> AsyncIterator[Pair]:
    """A server with a client that has many calls under way."""
    async with linked(work.service, check=False) as pair:
        work.server = pair.server
        for _ in range(MANY):
            pair.link._inside.connection.open(
                f"work.{method}", payload=b"\x91\x90" if flags == 3 else None, flags=flags
            )
        pair.link._inside.outbound.transmit()
        if flags == 3:
            await until(lambda: work.begun == MANY)
        yield pair


async def test_handlers_are_cancelled_a_few_in_each_pass(autojump_clock: object) -> None:
    work = Work()
    async with _busy(work) as pair, duplex.open_peer() as other:
        await other.connect(pair.endpoint)
        pair.back._inside.lose("a test")
        assert pair.back._inside.error is not None
        assert await other.service("work").at_once() == "here"
        assert 0 < work.count < MANY
        await until(lambda: not pair.back._inside.running)
        assert work.count == MANY
        assert max(work.ended.values()) <= AT_ONCE + IN_A_PASS
        assert sorted(work.ended.values())[-2] <= IN_A_PASS
        assert not pair.back._inside.channels.users


async def test_callers_are_told_a_few_in_each_pass(autojump_clock: object) -> None:
    work = Work()
    told: dict[int, int] = {}
    async with linked(work.service, check=False) as pair, trio.open_nursery() as nursery:
        work.server = pair.server

        @nursery.start_soon
        async def call_all() -> None:
            async with trio.open_nursery() as inner:
                for _ in range(MANY):
                    inner.start_soon(call)

        async def call() -> None:
            with pytest.raises(duplex.PeerLost):
                await pair.link.service("work").wait()
            now = pair.client._inside.flusher.passes
            told[now] = told.get(now, 0) + 1

        await until(lambda: work.begun == MANY)
        pair.link._inside.lose("a test")
        await until(lambda: sum(told.values()) == MANY)
        assert max(told.values()) <= AT_ONCE + IN_A_PASS
        pair.server._inside.close()


async def test_a_peer_that_ends_tells_all(autojump_clock: object) -> None:
    work = Work()
    async with _busy(work) as pair:
        pair.back._inside.lose("a test")
        pair.server._inside.close()
    assert work.count == MANY
    assert not pair.back._inside.channels.users


async def test_a_peer_that_is_closed_tells_all_at_once(autojump_clock: object) -> None:
    work = Work()
    async with _busy(work) as pair:
        pair.server._inside.close()
        assert not pair.back._inside.channels.users
        await until(lambda: work.count == MANY)
        assert len(work.ended) == 1


async def test_notifications_are_left_behind_at_once(autojump_clock: object) -> None:
    """Who drains waits for them."""
    work = Work()
    async with linked(work.service, check=False) as pair:
        work.server = pair.server
        for _ in range(MANY):
            await pair.link.service("work").wait.notify()
        await until(lambda: work.begun == MANY)
        pair.back._inside.lose("a test")
        assert len(pair.server._inside.left_behind) == MANY
        assert not pair.back._inside.channels.users
        work.go.set()
        await until(lambda: not pair.server._inside.left_behind)
        assert work.count == MANY


async def test_handlers_that_go_on_before_they_are_told_see_nothing_odd(autojump_clock: object) -> None:
    work = Work()
    async with _busy(work, "stream", flags=0) as pair:
        for channel in list(pair.link._inside.connection._channels):
            pair.link._inside.connection.send(channel, b"\x91\x90")
        pair.link._inside.outbound.transmit()
        await until(lambda: work.begun == MANY)
        pair.back._inside.lose("a test")
        work.go.set()
        await until(lambda: not pair.back._inside.running)
        kinds = {type(problem) for problem in work.problems}
        assert kinds <= {trio.Cancelled, duplex.CallCancelled, trio.BrokenResourceError}
        assert not pair.back._inside.channels.users


async def test_callers_are_told_though_their_peer_ends_before_it_has_told_all(autojump_clock: object) -> None:
    work = Work()
    told = 0

    async def call(link: duplex.Link) -> None:
        nonlocal told
        with pytest.raises(duplex.PeerLost, match="a test"):
            await link.service("work").wait()
        told += 1

    async with trio.open_nursery() as nursery:
        async with linked(work.service, check=False) as pair:
            work.server = pair.server
            for _ in range(MANY):
                nursery.start_soon(call, pair.link)
            await until(lambda: work.begun == MANY)
            pair.link._inside.lose("a test")
            pair.client._inside.home.nursery.cancel_scope.cancel()
        with fail_after(GUARD):
            await until(lambda: told == MANY)
