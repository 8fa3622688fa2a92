"""What the clients of the soak do: one operation after another, chosen by a seed, each with what may become of it.

An operation ends well, and then its result is exactly right; or it ends with an outcome that the faults
explain. Anything else is a violation, and so is an operation that does not end in time.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import trio

import duplex

#: Seconds that a call is given.
TIMEOUT: Final = 5.0
#: Seconds after which an operation did not end: its timeout, and all the time that processes may stand still.
STUCK: Final = 60.0
#: What lost, slow and restarted servers make of a call.
EXPECTED: Final = (duplex.Unavailable, duplex.DeadlineExceeded, duplex.ConnectError)
#: What they make of a channel.
BROKEN: Final = (trio.BrokenResourceError, trio.ClosedResourceError)
SIZES: Final = (0, 10, 1000, 50_000, 200_000)


class Worker:
    """One task's work."""

    def __init__(self, peer: duplex.Peer, name: str, seed: str, violate: Callable[[str], None]) -> None:
        self.random = random.Random(seed)
        self.name = name
        self.remote: Any = peer.service("soak").with_options(timeout=TIMEOUT)
        self.violate = violate
        self.counts: Counter[str] = Counter()
        self._turn = 0
        self._kinds = sorted(kind for kind in dir(self) if kind.startswith("do_"))

    async def run(self, until: trio.Event) -> None:
        """Work until told otherwise; then the operation that runs is the last."""
        while not until.is_set():
            kind = self.random.choice(self._kinds)
            cancelled_after = self.random.random() ** 2 * 0.1 if self.random.random() < 0.15 else None
            await self._once(kind, cancelled_after)
            await trio.sleep(self.random.random() * 0.03)

    async def _once(self, kind: str, cancelled_after: float | None) -> None:
        outcome = "good"
        with trio.move_on_after(STUCK) as guard:
            with trio.move_on_after(STUCK if cancelled_after is None else cancelled_after) as scope:
                try:
                    await getattr(self, kind)()
                except* EXPECTED as group:
                    outcome = _names(group)
                except* BROKEN as group:
                    outcome = _names(group)
                except* Exception as group:
                    outcome = "violation"
                    self.violate(f"{kind}: {_texts(group)}")
            if scope.cancelled_caught and cancelled_after is not None:
                outcome = "cancelled"
        if guard.cancelled_caught or (scope.cancelled_caught and cancelled_after is None):
            outcome = "violation"
            self.violate(f"{kind} did not end within {STUCK:g} s")
        self.counts[f"{kind[3:]} {outcome}"] += 1

    def _call_name(self) -> str:
        self._turn += 1
        return f"{self.name}-{self._turn}"

    def _expect(self, what: str, is_so: bool) -> None:
        if not is_so:
            self.violate(what)

    # -- operations --------------------------------------------------------------------------------------

    async def do_small(self) -> None:
        value = self.random.choice([1, "text", [1, {"a": None}], list(range(50))])
        self._expect("echo gave another value", await self.remote.echo(self._call_name(), value) == value)

    async def do_large(self) -> None:
        value = self.random.randbytes(self.random.choice(SIZES))
        self._expect("echo gave other bytes", await self.remote.echo(self._call_name(), value) == value)

    async def do_notify(self) -> None:
        await self.remote.note.notify(self._call_name())

    async def do_refused(self) -> None:
        name = self._call_name()
        try:
            await self.remote.refuse(name)
        except duplex.Aborted as error:
            self._expect("the details of an error changed", error.details == [name])
        else:
            self.violate("a call that fails succeeded")

    async def do_deadline(self) -> None:
        with contextlib.suppress(*EXPECTED):
            await self.remote.with_options(timeout=self.random.random() * 0.1).hang()
            self.violate("a call that hangs returned")

    async def do_stream(self) -> None:
        count, size = self.random.randrange(60), self.random.choice(SIZES[:4])
        slow = self.random.random() < 0.2
        expected = 0
        async with self.remote.numbers.open(count, size) as call:
            async for number, data in call:
                if number != expected or len(data) != size:
                    self.violate(f"item {number} came instead of {expected}")
                expected += 1
                if slow:
                    # A slow reader is one that takes its time.
                    await trio.sleep(0.005)
        self._expect(f"{expected} items of {count} came", expected == count)

    async def do_abandon(self) -> None:
        async with self.remote.numbers.open(1_000_000, 1000) as call:
            for expected in range(self.random.randrange(5)):
                number, _ = await call.receive()
                self._expect(f"item {number} came instead of {expected}", number == expected)

    async def do_upload(self) -> None:
        stop = self.random.choice([3, 1000])
        async with self.remote.total.open(stop_after=stop) as call:
            with contextlib.suppress(trio.BrokenResourceError):
                for number in range(20):
                    await call.send(number)
                await call.send_eof()
            self._expect("items were lost", await call.result() == min(stop, 20))

    async def do_both_ways(self) -> None:
        items = [self.random.randrange(1000) for _ in range(self.random.randrange(40))]
        async with self.remote.mirror.open() as call, trio.open_nursery() as nursery:

            async def send() -> None:
                for item in items:
                    await call.send(item)
                await call.send_eof()

            nursery.start_soon(send)
            received = [item async for item in call]
            self._expect("the mirror shows something else", received == items)

    async def do_callback(self) -> None:
        called: list[int] = []

        async def function(number: int) -> int:
            called.append(number)
            await trio.lowlevel.checkpoint()
            return number + 1

        times = self.random.randrange(5)
        result = await self.remote.apply(function, times)
        self._expect("a callback gave something else", result == [number + 1 for number in range(times)])
        self._expect("a callback was not called once each", called == list(range(times)))

    async def do_channels(self) -> None:
        sink, source = trio.open_memory_channel[int](5)
        back_sink, back = trio.open_memory_channel[int](0)
        with sink, source, back_sink, back:
            received: list[int] = []
            async with trio.open_nursery() as nursery:

                async def send() -> None:
                    with sink, contextlib.suppress(*BROKEN):
                        for number in range(10):
                            await sink.send(number)

                async def receive() -> None:
                    with contextlib.suppress(*BROKEN):
                        received.extend([item async for item in back])

                nursery.start_soon(send)
                nursery.start_soon(receive)
                count = await self.remote.pump(source, back_sink)
            self._expect("a pumped item is missing", count == 10 and received == list(range(10)))


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


def _names(group: BaseExceptionGroup[Any]) -> str:
    return type(_leaves(group)[0]).__name__


def _texts(group: BaseExceptionGroup[Any]) -> str:
    return "; ".join(f"{type(error).__name__}: {error}" for error in _leaves(group))
