"""The calls of the oracle: each checks what comes back, and its journal says what it was told."""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

import duplex
from tests.machine import within
from tests.oracle.journal import BROKEN, Journal
from tests.oracle.service import answer
from tests.oracle.verdict import KEYED

#: Seconds that a call is given; and after which, on a quiet machine, it has not ended: all that processes and networks
#: may stand still.
TIMEOUT: Final = 10.0
STUCK: Final = 60.0
#: So many calls are cancelled by their caller, and so many have a deadline that is early; up to so many seconds.
CANCELLED: Final = 0.1
HURRIED: Final = 0.1
EARLY: Final = 0.02
#: How often the same key is tried.
ATTEMPTS: Final = 6
SIZES: Final = (0, 10, 1000, 20_000, 100_000)
#: How a call may end beside well, whatever happens to its link. Everything else is wrong.
EXPECTED: Final = (duplex.Unavailable, duplex.DeadlineExceeded, duplex.CallCancelled, *BROKEN)
#: How calls may fail by themselves: as asked, or since a call that their handler makes fails, which is unexpected there.
FAILS: Final[dict[str, tuple[type[Exception], ...]]] = {
    "fail": (duplex.Aborted, duplex.Internal),
    "back": (duplex.Internal,),
    "apply": (duplex.Internal,),
    "apply_thread": (duplex.Internal,),
}


class Caller:
    """One task's calls.

    Args:
        peer: whose they are.
        own: the service of this side, which the other may call.
        others: the services to call.
        name: what the names of the calls begin with.
        journal: where they are noted.
        seed: of what is left to chance.
    """

    def __init__(
        self, peer: duplex.Peer, own: str, others: list[str], name: str, journal: Journal, seed: str
    ) -> None:
        self._peer = peer
        self._own = own
        self._others = others
        self._name = name
        self._journal = journal
        self._random = random.Random(seed)
        self._turn = 0
        self._remote: Any = None
        self._kinds: dict[str, Callable[[str], Awaitable[None]]] = {
            kind.removeprefix("do_"): getattr(self, kind)
            for kind in sorted(dir(self))
            if kind.startswith("do_")
        }

    async def once(self) -> None:
        """Make one call of any kind."""
        chance = self._random
        kind = chance.choice(list(self._kinds))
        self._turn += 1
        name = f"{self._name}-{self._turn}"
        hurried = chance.random() < HURRIED
        self._remote = self._peer.service(chance.choice(self._others)).with_options(
            timeout=chance.random() * EARLY if hurried else TIMEOUT
        )
        given_up_after = chance.random() * EARLY if chance.random() < CANCELLED else math.inf
        with trio.move_on_after(within(STUCK)) as guard, trio.move_on_after(given_up_after):
            await self._attempt(kind, name)
        if guard.cancelled_caught:
            self._journal.note("bad", name, f"{kind} did not end in {STUCK:g} s of a quiet machine")

    async def _attempt(self, kind: str, name: str) -> None:
        for _ in range(ATTEMPTS if kind == KEYED else 1):
            if await self._ended(kind, name):
                return

    async def _ended(self, kind: str, name: str) -> bool:
        """Make a call, and tell whether the answer is that of the handler."""
        ended = True
        try:
            with self._journal.asking(name, kind):
                await self._kinds[kind](name)
        except* EXPECTED:
            ended = False
        except* Exception as group:
            _, rest = group.split(FAILS.get(kind, ()))
            if rest is not None:
                links = [f"{link.peer_name} offers {', '.join(link.services)}" for link in self._peer.links]
                self._journal.note(
                    "bad", name, f"{kind} raised {rest.exceptions!r}, linked: {'; '.join(links)}"
                )
        return ended

    def _expect(self, name: str, got: Any, wanted: Any) -> None:
        self._journal.expect(name, got == wanted, f"{str(got)[:200]} came instead of {str(wanted)[:200]}")

    def _value(self) -> Any:
        chance = self._random
        return chance.choice([1, "text", [1, {"a": None}], chance.randbytes(chance.choice(SIZES))])

    # -- one answer --------------------------------------------------------------------------------------

    async def _echo(self, method: Any, name: str) -> None:
        value = self._value()
        self._expect(name, await method(name, value), answer(name, value))

    async def do_echo(self, name: str) -> None:
        await self._echo(self._remote.echo, name)

    async def do_threaded(self, name: str) -> None:
        await self._echo(self._remote.threaded, name)

    async def do_inline(self, name: str) -> None:
        await self._echo(self._remote.inline, name)

    async def do_keyed(self, name: str) -> None:
        # Of every attempt the same, as the key stands for what is called.
        method = ("echo", "threaded", "inline")[self._turn % 3]
        keyed = self._remote[method].with_options(idempotency_key=name)
        self._expect(name, await keyed(name, "keyed"), answer(name, "keyed"))

    async def do_opened(self, name: str) -> None:
        async with self._remote.echo.open(name, 1) as call:
            self._expect(name, await call.result(), answer(name, 1))

    async def do_fail(self, name: str) -> None:
        unexpectedly = self._random.random() < 0.3
        try:
            await self._remote.fail(name, unexpectedly)
        except duplex.Aborted as error:
            self._expect(name, (error.details, unexpectedly), ([name], False))
            raise
        except duplex.Internal:
            self._expect(name, "Internal", "Internal" if unexpectedly else "Aborted")
            raise
        self._journal.note("bad", name, "a call that fails succeeded")

    async def do_slow(self, name: str) -> None:
        method = self._random.choice([self._remote.slow, self._remote.slow_thread])
        self._expect(name, await method(name, self._random.random() * EARLY), answer(name, None))

    async def do_note(self, name: str) -> None:
        await self._remote.note.notify(name)

    # -- streams -----------------------------------------------------------------------------------------

    async def do_numbers(self, name: str) -> None:
        count, size = self._random.randrange(100), self._random.choice(SIZES[:3])
        async with self._remote.numbers.open(name, count, size) as call:
            came = [(number, len(data)) async for number, data in call]
        self._expect(name, came, [(number, size) for number in range(count)])

    async def do_steps(self, name: str) -> None:
        count = self._random.randrange(20)
        async with self._remote.steps.open(name, count) as call:
            came = [number async for number in call]
        self._expect(name, came, list(range(count)))

    async def do_abandoned(self, name: str) -> None:
        async with self._remote.numbers.open(name, 10_000, 100) as call:
            for expected in range(self._random.randrange(1, 5)):
                self._expect(name, (await call.receive())[0], expected)

    async def do_follow(self, name: str) -> None:
        count = self._random.randrange(500)
        method = self._remote.follow.with_options(resume=True)
        async with method.open(name, count) as stream:
            came = [number async for number in stream]
        self._expect(name, came, list(range(count)))

    async def do_total(self, name: str) -> None:
        count = self._random.randrange(50)
        async with self._remote.total.open(name, count) as call:
            for number in range(count):
                await call.send(number)
            await call.send_eof()
            self._expect(name, await call.result(), count)

    async def do_shout(self, name: str) -> None:
        await self._there_and_back(self._remote.shout, name)

    async def do_mirror(self, name: str) -> None:
        await self._there_and_back(self._remote.mirror, name)

    async def _there_and_back(self, method: Any, name: str) -> None:
        count = self._random.randrange(50)
        async with method.open(name, count) as call, trio.open_nursery() as nursery:

            async def send() -> None:
                for number in range(count):
                    await call.send(number)
                await call.send_eof()

            nursery.start_soon(send)
            came = [item async for item in call]
        self._expect(name, came, [-number for number in range(count)])

    # -- functions and channels as values ----------------------------------------------------------------

    async def do_apply(self, name: str) -> None:
        await self._apply(self._remote.apply, name)

    async def do_apply_thread(self, name: str) -> None:
        await self._apply(self._remote.apply_thread, name)

    async def _apply(self, method: Any, name: str) -> None:
        times = self._random.randrange(6)
        called: list[int] = []

        async def function(inner: str, number: int) -> int:
            with self._journal.running(inner):
                called.append(number)
                await trio.lowlevel.checkpoint()
                return number

        self._expect(name, await method(name, times, function), sum(range(times)))
        self._expect(name, called, list(range(times)))

    async def do_back(self, name: str) -> None:
        depth = self._random.randrange(5)
        self._expect(name, await self._remote.back(name, self._own, depth), depth)

    async def do_fill(self, name: str) -> None:
        await self._fill(self._remote.fill, name)

    async def do_fill_thread(self, name: str) -> None:
        await self._fill(self._remote.fill_thread, name)

    async def _fill(self, method: Any, name: str) -> None:
        count = self._random.randrange(30)
        sink, source = trio.open_memory_channel[int](math.inf)
        with sink, source:
            self._expect(name, await method(name, count, sink), count)
            self._expect(name, [item async for item in source], list(range(count)))

    async def do_drain(self, name: str) -> None:
        count = self._random.randrange(30)
        self._expect(name, await self._remote.drain(name, _filled(count)), list(range(count)))

    async def do_pump(self, name: str) -> None:
        count = self._random.randrange(30)
        sink, back = trio.open_memory_channel[int](math.inf)
        with sink, back:
            self._expect(name, await self._remote.pump(name, _filled(count), sink), count)
            self._expect(name, [item async for item in back], list(range(count)))

    async def do_produce(self, name: str) -> None:
        count = self._random.randrange(30)
        async with self._remote.produce.open(name, count) as call:
            came = [item async for item in await call.result()]
        self._expect(name, came, list(range(count)))

    async def do_relay(self, name: str) -> None:
        counts = [self._random.randrange(10) for _ in range(self._random.randrange(5))]
        async with self._remote.relay.open(name) as call:
            for count in counts:
                await call.send(_filled(count))
            await call.send_eof()
            self._expect(name, await call.result(), [list(range(count)) for count in counts])

    async def do_deliver(self, name: str) -> None:
        count = self._random.randrange(6)
        sink, outer = trio.open_memory_channel[Any](math.inf)
        with sink, outer:
            async with self._remote.deliver.open(name, count, sink) as call, trio.open_nursery() as nursery:
                came: list[list[int]] = []

                async def receive() -> None:
                    came.extend([[item async for item in inner] async for inner in outer])

                nursery.start_soon(receive)
                self._expect(name, await call.result(), count)
        self._expect(name, came, [list(range(number)) for number in range(count)])


def _filled(count: int) -> trio.MemoryReceiveChannel[int]:
    sink, source = trio.open_memory_channel[int](math.inf)
    with sink:
        for number in range(count):
            sink.send_nowait(number)
    return source
