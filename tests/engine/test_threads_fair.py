"""Threads are shared between links."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator
from typing import Any

import trio

import duplex
from duplex.engine.threads import _threads
from tests.engine.helpers import GUARD, linked, until


class Holding:
    """A service whose plain function holds a thread until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun: list[str] = []
        self.service = service = duplex.Service("holding")

        @service.rpc
        def hold(who: str) -> str:
            self.begun.append(who)
            self.go.wait(GUARD)
            return who

        @service.rpc
        def ask(question: duplex.Callback[[], None]) -> None:
            trio.from_thread.run(question)

        @service.rpc
        def step(who: str) -> str:
            self.begun.append(who)
            return who


@contextlib.asynccontextmanager
async def _greedy_and_other(
    max_threads: int,
) -> AsyncIterator[tuple[Holding, duplex.Peer, Any, Any, trio.Nursery]]:
    holding = Holding()
    options = {"max_threads": max_threads}
    async with (
        linked(holding.service, server=options, check=False) as pair,
        duplex.open_peer() as other,
    ):
        await other.connect(pair.endpoint)
        try:
            async with trio.open_nursery() as nursery:
                yield holding, pair.server, pair.service("holding"), other.service("holding"), nursery
                holding.go.set()
        finally:
            holding.go.set()


async def test_one_link_leaves_threads_to_others() -> None:
    """However many calls of it wait: those of another link need not wait for one of these to end."""
    async with _greedy_and_other(20) as (holding, server, greedy, other, nursery):
        for _ in range(60):
            nursery.start_soon(greedy.hold, "greedy")
        await until(lambda: len(holding.begun) == 18 and server._inside.threads.waiting == 42)
        assert await other.step("other") == "other"


async def test_a_thread_that_comes_free_is_for_the_link_with_the_fewest() -> None:
    async with _greedy_and_other(2) as (holding, server, greedy, other, nursery):
        nursery.start_soon(greedy.hold, "greedy")
        nursery.start_soon(greedy.hold, "greedy")
        await until(lambda: len(holding.begun) == 2)
        for _ in range(20):
            nursery.start_soon(greedy.step, "greedy")
        await until(lambda: server._inside.threads.waiting == 20)
        nursery.start_soon(other.step, "other")
        await until(lambda: server._inside.threads.waiting == 21)
        holding.go.set()
        await until(lambda: len(holding.begun) == 23)
        assert holding.begun.index("other") <= 4


async def test_a_link_that_gives_up_waiting_is_forgotten() -> None:
    async with _greedy_and_other(2) as (holding, server, greedy, other, nursery):
        for _ in range(2):
            nursery.start_soon(greedy.hold, "greedy")
        await until(lambda: len(holding.begun) == 2)
        async with trio.open_nursery() as patience:
            for _ in range(5):
                patience.start_soon(other.step, "other")
            await until(lambda: server._inside.threads.waiting == 5)
            patience.cancel_scope.cancel()
        await until(lambda: server._inside.threads.waiting == 0)
        holding.go.set()
        assert await other.step("again") == "again"
        await until(lambda: server._inside.threads.running == 0)
        assert not server._inside.threads._held
        assert not server._inside.threads._owners
        assert not server._inside.threads._waiting


async def test_threads_that_wait_for_one_link_leave_some_to_others() -> None:
    """More begin while those that began wait for calls of their own; who never answers these must not get them all."""
    async with _greedy_and_other(2) as (_holding, server, greedy, other, nursery):
        released = trio.Event()

        async def question() -> None:
            await released.wait()

        async def ask() -> None:
            try:
                await greedy.ask(question)
            except duplex.ResourceExhausted:
                pass  # some are too many

        for _ in range(60):
            nursery.start_soon(ask)
        await until(lambda: server._inside.threads.calling == 16)
        began = trio.current_time()
        for _ in range(3):
            assert await other.step("other") == "other"
        assert trio.current_time() - began < 50 * _threads.STILL  # and not when all is refused at last
        released.set()
