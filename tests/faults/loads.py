"""The calls that a process makes: one of each kind, checked to the last item, and many of them at once."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from typing import Any, Final

import trio

import duplex
from tests.faults.ledger import Ledger, Outcomes

#: The length of a stream that only its fault ends.
ENDLESS: Final = 10**9
#: Seconds of a unary call that only its fault ends.
_LONG: Final = 10_000.0
#: Seconds between two items, so that a stream is under way and does not take the whole processor.
_PAUSE: Final = 0.002
#: Seconds before a call is tried again after a failure.
_AGAIN: Final = 0.02


class Wrong(Exception):
    """A call ended well with something other than what it should have given."""


class Caller:
    """Makes calls to the other process.

    Args:
        tag: distinguishes the numbers of this process's calls from those of all others.
    """

    def __init__(self, remote: duplex.ServiceProxy, tag: int, ledger: Ledger, outcomes: Outcomes) -> None:
        self.remote = remote
        self.ledger = ledger
        self.outcomes = outcomes
        self._numbers = itertools.count(tag * 10**9)
        #: Processes that answered, as ``work`` says.
        self.answered: set[int] = set()

    def number(self) -> int:
        """Return the number of the next call."""
        return next(self._numbers)

    async def unary(self, number: int, length: int) -> None:
        seconds = _LONG if length == ENDLESS else random.choice((0.0, _PAUSE))
        answer = await self.remote.work(number, seconds)
        self._expect(answer[0], number)
        if answer[1] not in self.answered:
            self.answered.add(answer[1])
            self.outcomes.bell.ring()

    async def unary_at_once(self, number: int, length: int) -> None:
        """A call that fails if there is no link at the moment."""
        answer = await self.remote.work.with_options(wait_for_ready=False)(number, 0.0)
        self._expect(answer[0], number)

    async def server_stream(self, number: int, length: int) -> None:
        sequence = self.ledger.sequence("server stream", number)
        async with self.remote.produce.open(number, length, _PAUSE) as call:
            async for item in call:
                sequence.check(item)
        self._expect(sequence.count, length)

    async def client_stream(self, number: int, length: int) -> None:
        async with self.remote.consume.open(number) as call:
            for index in range(length):
                await call.send([number, index])
                await trio.sleep(_PAUSE)  # a pace, not a wait
            self._expect(await call.result(), length)

    async def bidirectional(self, number: int, length: int) -> None:
        sequence = self.ledger.sequence("bidirectional", number)
        problems: list[duplex.RPCError] = []

        async def send(call: Any) -> None:
            try:
                for index in range(length):
                    await call.send([number, index])
                    await trio.sleep(_PAUSE)  # a pace, not a wait
                await call.send_eof()
            except duplex.RPCError as error:
                problems.append(error)

        async with self.remote.mirror.open(number) as call, trio.open_nursery() as nursery:
            nursery.start_soon(send, call)
            try:
                async for item in call:
                    sequence.check(item)
            except duplex.RPCError as error:
                problems.append(error)
        if problems:
            raise problems[0]
        self._expect(sequence.count, length)

    async def callback(self, number: int, length: int) -> None:
        sequence = self.ledger.sequence("callback", number)

        async def function(item: list[int]) -> int:
            sequence.check(item)
            return sequence.count

        self._expect(await self.remote.call_back(number, length, _PAUSE, function), length)
        self._expect(sequence.count, length)

    def _expect(self, given: object, expected: object) -> None:
        if given != expected:
            raise Wrong(f"{given} instead of {expected}")

    async def one(self, kind: str, length: int) -> bool:
        """Make a call of some kind and note its outcome; tell whether it was good."""
        number = self.number()
        good = False
        with self.outcomes.call(kind, number):
            await _ALL_KINDS[kind](self, number, length)
            good = True
        return good


KINDS: Final[dict[str, Callable[[Caller, int, int], Any]]] = {
    "unary": Caller.unary,
    "server stream": Caller.server_stream,
    "client stream": Caller.client_stream,
    "bidirectional": Caller.bidirectional,
    "callback": Caller.callback,
}
#: Short calls that do not wait for a link.
AT_ONCE: Final = "unary at once"
_ALL_KINDS: Final = {**KINDS, AT_ONCE: Caller.unary_at_once}


class Load:
    """Tasks that make calls, one after the other, until they are told to stop or their calls fail."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._stopping = False
        self.running = 0

    async def run(
        self, kinds: list[str], tasks: int, *, length: int, times: int, again: bool, nursery: trio.Nursery
    ) -> None:
        """Start calls.

        Args:
            kinds: which kinds of calls, each by as many tasks.
            tasks: how many tasks for each.
            length: items of each stream; of a unary call only whether it ends by itself.
            times: how many calls each task makes.
            again: whether a task goes on after a call that failed.
            nursery: where the tasks run.
        """
        self._stopping = False
        for kind in kinds:
            for _ in range(tasks):
                self.running += 1
                nursery.start_soon(self._repeat, kind, length, times, again)

    async def _repeat(self, kind: str, length: int, times: int, again: bool) -> None:
        caller = self._caller
        try:
            for _ in range(times):
                if self._stopping:
                    return
                if not await caller.one(kind, length):
                    if not again:
                        return
                    await trio.sleep(_AGAIN)
        finally:
            self.running -= 1
            caller.outcomes.bell.ring()

    def stop(self) -> None:
        """Let every task end after the call that it is in."""
        self._stopping = True

    async def wait(self) -> None:
        """Return once no task is left."""
        await self._caller.outcomes.bell.wait_for(lambda: not self.running)


async def flood(caller: Caller, way: str, count: int, tasks: int) -> dict[str, Any]:
    """Send a great many tiny messages, and tell how many came back and how long it took.

    Args:
        way: ``notify``, ``unary``, ``send`` (one stream there) or ``receive`` (one stream here).
        count: how many.
        tasks: how many tasks do that, for notifications and unary calls.
    """
    remote, outcomes = caller.remote, caller.outcomes
    began = time.monotonic()
    came = 0
    with outcomes.call(f"flood, {way}", caller.number()):
        if way == "receive":
            async with remote.ticks.open(count) as call:
                async for index in call:
                    if index != came:
                        raise Wrong(f"{index} instead of {came}")
                    came += 1
        elif way == "send":
            async with remote.tick_each.open() as call:
                for index in range(count):
                    await call.send(index)
                came = await call.result()
        else:
            indices = iter(range(count))

            async def some() -> None:
                nonlocal came
                for index in indices:
                    if way == "notify":
                        await remote.tick.notify(index)
                    elif await remote.tick(index) != index:
                        raise Wrong(f"another answer than {index}")
                    else:
                        came += 1

            async with trio.open_nursery() as nursery:
                for _ in range(tasks):
                    nursery.start_soon(some)
    return {"came": came, "seconds": time.monotonic() - began}


async def abandon(caller: Caller, count: int, tasks: int, seed: int) -> dict[str, int]:
    """Open calls of every kind and give each up at a random moment, by cancelling or by leaving its block."""
    source = random.Random(seed)
    kinds = list(KINDS)
    remaining = iter(range(count))
    counts = {"cancelled": 0, "left": 0, "ended": 0}

    async def leave(number: int) -> None:
        method = source.choice(("produce", "consume", "mirror", "hang"))
        arguments = (ENDLESS, 0.0) if method == "produce" else ()
        async with caller.remote[method].open(number, *arguments) as call:
            for index in range(source.randrange(3)):
                if method == "produce":
                    await call.receive()
                elif method != "hang":
                    await call.send([number, index])
        counts["left"] += 1

    async def some() -> None:
        for _ in remaining:
            number = caller.number()
            if source.random() < 0.3:
                with caller.outcomes.call("left", number):
                    await leave(number)
                continue
            kind = source.choice(kinds)
            with trio.move_on_after(source.choice((0.0, 0.0005, 0.002, 0.005))) as scope:
                with caller.outcomes.call("abandoned", number):
                    await KINDS[kind](caller, number, ENDLESS)
            counts["cancelled" if scope.cancelled_caught else "ended"] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(tasks):
            nursery.start_soon(some)
    return counts


async def hold(caller: Caller, number: int, method: str) -> None:
    """Open a call and keep it until the link or this process ends."""
    with caller.outcomes.call("held", number):
        async with caller.remote[method].open(number, *((ENDLESS, 0.0) if method == "produce" else ())):
            await trio.sleep_forever()


async def slow_receive(caller: Caller, size: int, pause: float, blocks: int) -> int:
    """Take blocks from a sender that never stops, one in ``pause`` seconds."""
    taken = 0
    with caller.outcomes.call("slow reader", caller.number()):
        async with caller.remote.firehose.open(size) as call:
            async for _ in call:
                taken += 1
                if taken == blocks:
                    break
                await trio.sleep(pause)  # what a slow reader is
    return taken


async def slow_send(caller: Caller, size: int, pause: float, seconds: float, blocks: float) -> int:
    """Send blocks as fast as a slow handler lets this side, for some seconds or so many; return how many."""
    sent = 0
    block = bytes(size)
    with caller.outcomes.call("slow reader", caller.number()):
        async with caller.remote.sip.open(pause) as call:
            with trio.move_on_after(seconds):
                while sent < blocks:
                    await call.send(block)
                    sent += 1
    return sent


async def beat(caller: Caller, seconds: float, pause: float) -> list[float]:
    """Make one small unary call after the other, and return how long each took."""
    took: list[float] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        if not await caller.one("unary", 1):
            break
        took.append(time.monotonic() - began)
        await trio.sleep(pause)  # a pace, not a wait
    return took
