"""Much at once. Nothing here measures speed; it shows that numbers do not change what is right."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest
import trio
import trio.testing

import duplex
from tests.engine.helpers import collect, linked, process, quiet, until
from tests.engine.serve_load import LIMITS, exchange
from tests.machine import fail_after, within

pytestmark = pytest.mark.unmeasured("thousands of the same calls")

busy = duplex.Service("busy")


@busy.rpc
async def echo(value: Any) -> Any:
    return value


@busy.rpc
async def slow_echo(value: Any) -> Any:
    """Let others go first, some more often than others."""
    for _ in range(value % 7):
        await trio.lowlevel.checkpoint()
    return value


@busy.rpc
async def shout(words: duplex.ReceiveChannel[int]) -> AsyncIterator[int]:
    async for word in words:
        yield -word


@busy.rpc
async def numbers(start: int, count: int) -> AsyncIterator[int]:
    for number in range(start, start + count):
        yield number


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["tcp", "memory"])
async def test_200_callers_on_one_link(scheme: str) -> None:
    endpoint = "tcp://127.0.0.1:*" if scheme == "tcp" else "memory://*"
    done = 0

    async with linked(busy, endpoint=endpoint) as pair:
        remote = pair.service("busy")

        async def caller(number: int) -> None:
            nonlocal done
            for turn in range(20):
                value = 100 * number + turn
                assert await (remote.slow_echo if turn % 2 else remote.echo)(value) == value
                done += 1

        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(caller, number)
    assert done == 200 * 20


@pytest.mark.slow
async def test_50_links_to_one_peer() -> None:
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(fail_after(20))
        server = await stack.enter_async_context(duplex.open_peer(services=[busy]))
        endpoint = await server.bind("tcp://127.0.0.1:*")
        clients = [await stack.enter_async_context(duplex.open_peer(services=[busy])) for _ in range(50)]
        links: list[duplex.Link] = []

        async def client(peer: duplex.Peer, number: int) -> None:
            links.append(await peer.connect(endpoint))
            remote = peer.service("busy")
            for turn in range(5):
                assert await remote.echo([number, turn]) == [number, turn]
            async with remote.numbers.open(number, 50) as call:
                assert await collect(call) == list(range(number, number + 50))

        async with trio.open_nursery() as nursery:
            for number, peer in enumerate(clients):
                nursery.start_soon(client, peer, number)
        await until(lambda: len(server.links) == 50)

        async def call_back(link: duplex.Link) -> None:
            assert await link.service("busy").echo(link.peer_id) == link.peer_id

        async with trio.open_nursery() as nursery:
            for link in server.links:
                nursery.start_soon(call_back, link)
        await quiet(*links)
        await quiet(*server.links)


@pytest.mark.slow
async def test_1000_channels_at_once() -> None:
    async with linked(busy, endpoint="tcp://127.0.0.1:*", within=20) as pair:
        remote = pair.service("busy")
        async with contextlib.AsyncExitStack() as stack:
            calls = [await stack.enter_async_context(remote.shout.open()) for _ in range(1000)]
            await pair.settle()
            assert pair.link.statistics().outgoing == 1000
            assert pair.back.statistics().incoming == 1000
            for turn in range(3):
                for number, call in enumerate(calls):
                    await call.send(1000 * turn + number)
                for number, call in enumerate(reversed(calls)):
                    assert await call.receive() == -(1000 * turn + 999 - number)
            for call in calls[::2]:
                await call.send_eof()
                assert await collect(call) == []
            assert pair.link.statistics().outgoing <= 1000


async def test_channels_up_to_the_limit() -> None:
    """The one beyond is refused here, without asking; when one is over, there is room again."""
    limits = duplex.Limits(max_channels=20)
    async with linked(busy, server={"limits": limits}) as pair:
        remote = pair.link.service("busy")
        async with contextlib.AsyncExitStack() as stack:
            calls = [await stack.enter_async_context(remote.shout.open()) for _ in range(20)]
            for _ in range(3):
                with pytest.raises(duplex.ResourceExhausted, match=r"max_channels") as caught:
                    await remote.echo(1)
                assert caught.value.may_have_executed is False
            await calls[0].send_eof()
            assert await collect(calls[0]) == []
            assert await remote.echo(1) == 1


@pytest.fixture(scope="module")
def other_process() -> Iterator[str]:
    with process("tests.engine.serve_load", "tcp://127.0.0.1:*") as (_, endpoint):
        yield endpoint


@pytest.mark.slow
async def test_100_000_items_in_each_direction(other_process: str) -> None:
    count = 100_000
    with fail_after(30):
        async with duplex.open_peer() as client:
            link = await client.connect(other_process)
            async with client.service("load").exchange.open(count=count) as call:
                assert await exchange(call, count, end=True) < within(1), "it stood still"
                assert float(call.trailers["longest-gap"]) < within(1), "it stood still"
            await quiet(link)


@pytest.mark.slow
async def test_array_of_64_mib(other_process: str) -> None:
    array = np.arange(8 * 1024 * 1024, dtype=np.float64)
    with fail_after(20):
        async with duplex.open_peer(limits=LIMITS) as client:
            link = await client.connect(other_process)
            result = await client.service("load").echo(array)
            assert result.nbytes == 64 * 1024 * 1024
            assert np.array_equal(result, array)
            await quiet(link)


@pytest.mark.slow
async def test_array_over_the_limit_is_refused_where_it_is(other_process: str) -> None:
    array = np.zeros(11 * 1024 * 1024, dtype=np.float64)
    with fail_after(20):
        async with duplex.open_peer() as client:
            link = await client.connect(other_process)
            with pytest.raises(duplex.MessageTooLarge):
                await client.service("load").echo(array)
            with pytest.raises(duplex.ResourceExhausted):
                await client.service("load").echo(array[: 3 * 1024 * 1024])
            await quiet(link)
