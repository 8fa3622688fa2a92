"""The floor that stands on trio and pyzmq: it returns what it was given, and sleeps on no message."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import numpy as np
import pytest
import trio
import trio.testing

from benchmarks._payloads import CHUNK, KiB, some_bytes
from benchmarks.peers import Client
from benchmarks.peers.trio_pyzmq_peer import TrioPyzmqPeer


@contextlib.asynccontextmanager
async def clients_of_a_server(number: int) -> AsyncIterator[list[Client]]:
    """Clients of a server in the same event loop."""
    peer = TrioPyzmqPeer()
    addresses: list[str] = []
    async with trio.open_nursery() as nursery, contextlib.AsyncExitStack() as stack:
        nursery.start_soon(peer.receive, addresses.append)
        await trio.testing.wait_all_tasks_blocked()
        yield await peer.runtime.keep(stack, [lambda: peer.connect(addresses[0])] * number)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("size", [0, KiB, 64 * KiB - 1, 64 * KiB, 1000 * KiB])
async def test_what_is_sent_comes_back(size: int) -> None:
    async with clients_of_a_server(1) as (client,):
        data = some_bytes(size)
        returned = await client.echo(data)
        assert type(returned) is bytes
        assert returned == data
        array = np.arange(size // 8, dtype=np.float64)
        assert np.array_equal(await client.array(array), array)


async def test_streams_count_anew_each_time() -> None:
    left = 0

    def more(done: int) -> bool:
        nonlocal left
        left -= done
        return left > 0

    async with clients_of_a_server(1) as (client,):
        for _ in range(2):
            left = 100 * CHUNK
            assert await client.upload({"value": 1}, more) == 100 * CHUNK
        left = 100 * CHUNK
        await client.download({"value": 1}, more)
        assert left == 0
        assert await client.unary({"value": 1}) == {"value": 1}


async def test_no_wake_up_is_lost() -> None:
    """Sends take the notes of messages that come at the same time, so a socket that was not asked would hang."""
    async with clients_of_a_server(5) as clients:

        async def work(first: int) -> None:
            for turn in range(first, first + 200):
                value = {"turn": turn}
                assert await clients[turn % len(clients)].unary(value) == value

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                for worker in range(20):
                    nursery.start_soon(work, worker)


async def test_no_message_is_left_behind_the_first() -> None:
    """So many calls at once are several messages, and nothing comes or goes after them that would help."""
    async with clients_of_a_server(1) as (client,):
        for _ in range(20):
            with trio.fail_after(10):
                async with trio.open_nursery() as nursery:
                    for number in range(200):
                        nursery.start_soon(client.unary, {"number": number})
