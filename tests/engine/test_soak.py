"""Many tasks that do everything at once and give up at any moment; in the end nothing may be left over."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import trio

import duplex
from tests.engine.helpers import Pair, collect, linked, quiet, until
from tests.machine import fail_after
from tests.sizes import size

pytestmark = pytest.mark.unmeasured("calls of every kind for seconds")

#: Small, so that every limit is met all the time.
LIMITS = duplex.Limits(channel_window=2048, link_window=16_384, max_channels=64, max_message=50_000)
#: What may become of an operation, whatever the others do.
EXPECTED = (
    duplex.RPCError,
    duplex.EncodeError,
    trio.EndOfChannel,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)

soak = duplex.Service("soak")


@soak.rpc
async def echo(value: Any) -> Any:
    return value


@soak.rpc(inline=True)
def inline(value: Any) -> Any:
    return value


@soak.rpc
async def fail() -> None:
    raise duplex.Aborted("as asked", details=[1, 2, 3])


@soak.rpc
async def numbers(count: int, size: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield bytes(size)


@soak.rpc(inline=True)
def inline_numbers(count: int, size: int) -> Iterator[bytes]:
    for _ in range(count):
        yield bytes(size)


@soak.rpc
async def total(items: duplex.ReceiveChannel[bytes], stop_after: int) -> int:
    count = 0
    async for _ in items:
        count += 1
        if count == stop_after:
            break
    return count


@soak.rpc
async def mirror(items: duplex.Channel[Any, Any]) -> None:
    async for item in items:
        await items.send(item)


@soak.rpc
async def apply(function: duplex.Callback[..., Any], times: int) -> list[Any]:
    try:
        return [await function(number) for number in range(times)]
    except duplex.OutOfRange as error:
        raise duplex.OutOfRange(error.message) from error


@soak.rpc
async def pump(source: duplex.ReceiveChannel[Any], sink: duplex.SendChannel[Any]) -> int:
    count = 0
    async for item in source:
        await sink.send(item)
        count += 1
    return count


@soak.rpc
async def make(count: int) -> Callable[[int], int] | Any:
    """Return a function, or a channel."""
    if count % 2:
        return lambda number: number + count
    sink, source = trio.open_memory_channel[int](count)
    with sink:
        for number in range(count):
            sink.send_nowait(number)
    return source


@soak.rpc
async def hang() -> None:
    await trio.sleep_forever()


class Worker:
    """Does one thing after another, chosen by its own random numbers."""

    def __init__(self, pair: Pair, seed: str) -> None:
        self.random = random.Random(seed)
        self.link: Any = pair.link if self.random.random() < 0.7 else pair.back
        self.remote = self.link.service("soak")
        self.done = 0

    async def run(self, count: int) -> None:
        for _ in range(count):
            name = self.random.choice([name for name in dir(self) if name.startswith("do_")])
            limit = self.random.choice([None, None, 0.0, 0.001, 0.005])
            with trio.move_on_after(1e9 if limit is None else limit):
                try:
                    await getattr(self, name)()
                except* EXPECTED:
                    pass  # also within the group of a nursery of the operation's own
            self.done += 1

    def _value(self) -> Any:
        return self.random.choice([1, "text", b"x" * 3000, bytes(40_000), [1, {"a": None}], list(range(50))])

    async def do_echo(self) -> None:
        value = self._value()
        assert await self.remote.echo(value) == value

    async def do_inline(self) -> None:
        value = self._value()
        assert await self.remote.inline(value) == value

    async def do_fail(self) -> None:
        await self.remote.fail()

    async def do_wrong(self) -> None:
        await self.random.choice([self.remote.gone, self.remote.echo])(1, 2, lambda: 3)

    async def do_notify(self) -> None:
        await self.remote.echo.notify(self._value())

    async def do_too_large(self) -> None:
        await self.remote.echo([lambda: 1, bytes(60_000)])

    async def do_hang(self) -> None:
        await self.remote.with_options(timeout=0.002).hang()

    async def do_numbers(self) -> None:
        method = self.random.choice([self.remote.numbers, self.remote.inline_numbers])
        async with method.open(20, self.random.choice([0, 100, 5000])) as call:
            await collect(call, self.random.randrange(30))

    async def do_total(self) -> None:
        stop = self.random.choice([5, 1000])
        async with self.remote.total.open(stop_after=stop) as call:
            for _ in range(15):
                await call.send(bytes(self.random.randrange(1000)))
            assert await call.result() == min(stop, 15)

    async def do_mirror(self) -> None:
        async with self.remote.mirror.open() as call, trio.open_nursery() as nursery:
            items = [self.random.randrange(100) for _ in range(20)]

            async def send() -> None:
                with contextlib.suppress(*EXPECTED):
                    for item in items:
                        await call.send(item)
                    await call.send_eof()

            nursery.start_soon(send)
            assert await collect(call) == items

    async def do_apply(self) -> None:
        async def function(number: int) -> int:
            await trio.lowlevel.checkpoint()
            return number + 1

        assert await self.remote.apply(function, 3) == [1, 2, 3]

    async def do_apply_failing(self) -> None:
        async def function(number: int) -> int:
            if number:
                raise duplex.OutOfRange("enough")
            return 0

        await self.remote.apply(function, 3)

    async def do_pump(self) -> None:
        sink, source = trio.open_memory_channel[int](5)
        back_sink, back = trio.open_memory_channel[int](0)
        with sink, source, back_sink, back:
            async with trio.open_nursery() as nursery:
                received: list[int] = []

                async def send() -> None:
                    with sink, contextlib.suppress(*EXPECTED):
                        for number in range(10):
                            await sink.send(number)

                async def receive() -> None:
                    with contextlib.suppress(*EXPECTED):
                        received.extend(await collect(back))

                nursery.start_soon(send)
                nursery.start_soon(receive)
                assert await self.remote.pump(source, back_sink) == 10
            assert received == list(range(10))

    async def do_make(self) -> None:
        count = self.random.randrange(6)
        async with self.remote.make.open(count) as call:
            result = await call.result()
            if count % 2:
                assert await result(1) == 1 + count
            else:
                assert await collect(result) == list(range(count))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(size(3, 8)))
@pytest.mark.parametrize("scheme", ["tcp", "memory"])
async def test_everything_at_once(scheme: str, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    endpoint = "tcp://127.0.0.1:*" if scheme == "tcp" else "memory://*"
    options = {"limits": LIMITS}
    async with linked(
        soak, offers=[soak], endpoint=endpoint, within=20, server=options, client=options
    ) as pair:
        workers = [Worker(pair, f"{seed}-{number}") for number in range(25)]
        async with trio.open_nursery() as nursery:
            for worker in workers:
                nursery.start_soon(worker.run, 12)
        await until(lambda: not pair.link.statistics().outgoing and not pair.back.statistics().outgoing)
    assert all(worker.done == 12 for worker in workers)
    assert [record.getMessage() for record in caplog.records if "incident" in record.getMessage()] == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(size(3, 6)))
@pytest.mark.parametrize("scheme", ["tcp", "memory"])
async def test_everything_at_once_while_links_are_lost(scheme: str, seed: int) -> None:
    """Whatever is under way when a link ends comes to an end too, and leaves nothing."""
    endpoint = "tcp://127.0.0.1:*" if scheme == "tcp" else "memory://*"
    options = {"limits": LIMITS}
    source = random.Random(f"lost-{seed}")
    async with linked(
        soak, offers=[soak], endpoint=endpoint, within=20, check=False, server=options, client=options
    ) as pair:
        workers = [Worker(pair, f"lost-{seed}-{number}") for number in range(25)]
        async with trio.open_nursery() as nursery:
            for worker in workers:
                nursery.start_soon(worker.run, 12)
            await until(lambda: sum(worker.done for worker in workers) >= source.randrange(20, 200))
            await source.choice([pair.link.aclose, pair.back.aclose])()
        assert all(worker.done == 12 for worker in workers)
        for link in (pair.link, pair.back):
            await link.wait_closed()
            assert not link._inside.channels.users
            assert not link._inside.credit.waiters
            assert not link._inside.values.functions


@pytest.mark.parametrize("seed", range(6))
async def test_links_that_come_and_go(autojump_clock: object, seed: int) -> None:
    """Three servers lose their links all the time; every call ends, most of them well."""
    source = random.Random(f"chaos-{seed}")
    ended = 0
    good = 0
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(duplex.open_peer(connect_timeout=5))
        for _ in range(3):
            server = await stack.enter_async_context(duplex.open_peer(services=[soak], limits=LIMITS))
            await client.connect(await server.bind("memory://*"))

        async def work() -> None:
            nonlocal ended, good
            remote = client.service("soak")
            for _ in range(20):
                try:
                    with fail_after(60):
                        async with remote.numbers.open(10, 100) as call:
                            assert await collect(call) == [bytes(100)] * 10
                        assert await remote.apply(lambda number: number, 3) == [0, 1, 2]
                        good += 1
                except duplex.Unavailable:
                    pass
                ended += 1
                await trio.sleep(source.random() / 10)

        async def disturb() -> None:
            while True:
                await trio.sleep(source.random())
                for link in source.sample(client.links, min(1, len(client.links))):
                    await link.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(disturb)
            async with trio.open_nursery() as workers:
                for _ in range(10):
                    workers.start_soon(work)
            nursery.cancel_scope.cancel()
        await quiet(*client.links)
    assert ended == 200
    assert good > 100
