"""A service that counts how often it was really used, for the tests of idempotency keys."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import trio
import trio.testing

import duplex
from tests.engine.helpers import Pair, until


class Till:
    """A service that counts how often it was really used."""

    def __init__(self) -> None:
        self.runs = 0
        self.running = 0
        self.cancelled = 0
        self.seen: list[Any] = []
        #: A slow handler ends when this is set.
        self.go = trio.Event()
        self.thread_may_end = threading.Event()
        self.thread_began = threading.Event()
        self.array = np.zeros(100_000, dtype=np.uint8)
        self.service = service = duplex.Service("till")

        @service.rpc
        async def charge(amount: int) -> int:
            self.runs += 1
            self.seen.append(duplex.current_call().metadata)
            duplex.current_call().trailers["run"] = str(self.runs)
            return amount * 100 + self.runs

        @service.rpc
        async def slow(amount: int = 0) -> int:
            self.runs += 1
            self.running += 1
            assert self.running == 1, "two runs at once for one key"
            try:
                await self.go.wait()
            except trio.Cancelled:
                self.cancelled += 1
                raise
            finally:
                self.running -= 1
            return amount * 100 + self.runs

        @service.rpc
        async def slow_to_stop() -> int:
            self.runs += 1
            if self.runs > 1:
                return self.runs
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await self.go.wait()
            raise AssertionError("unreachable")

        @service.rpc(inline=True)
        def inline() -> int:
            self.runs += 1
            return self.runs

        @service.rpc
        def thread() -> int:
            self.runs += 1
            self.thread_began.set()
            assert self.thread_may_end.wait(10)
            return self.runs

        @service.rpc
        async def refuse() -> None:
            self.runs += 1
            duplex.current_call().trailers["run"] = str(self.runs)
            raise duplex.NotFound("no such account", details={"account": self.runs})

        @service.rpc
        async def crash() -> None:
            self.runs += 1
            raise ValueError("not for callers")

        @service.rpc
        async def blob(size: int) -> bytes:
            self.runs += 1
            return bytes(size)

        @service.rpc
        async def shared() -> Any:
            self.runs += 1
            return self.array

        @service.rpc
        async def count(upto: int) -> AsyncIterator[int]:
            for number in range(upto):
                yield number

        @service.rpc
        async def blobs(count: int) -> AsyncIterator[bytes]:
            for _ in range(count):
                yield bytes(2000)

        @service.rpc
        async def total(numbers: duplex.ReceiveChannel[int]) -> int:
            return sum([number async for number in numbers])

        @service.rpc
        async def call_back(function: duplex.Callback[[], int]) -> int:
            return await function()

        @service.rpc
        async def bad_trailers() -> int:
            duplex.current_call().trailers["Not A Key"] = "x"
            return 1

    def keyed(self, pair: Pair, key: str = "k", **options: Any) -> duplex.ServiceProxy:
        return pair.service("till").with_options(idempotency_key=key, **options)


async def given_up(condition: Callable[[], object], method: Any, *arguments: Any) -> None:
    """Begin a call, and cancel it once something is so."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(method, *arguments)
        await until(condition)
        nursery.cancel_scope.cancel()
