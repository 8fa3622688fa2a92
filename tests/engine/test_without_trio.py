"""Who calls from outside of trio is told that Duplex needs it, and what to do: asyncio, notebooks, plain threads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from outcome import Outcome

import duplex

calc = duplex.Service("calc")


@calc.rpc
async def add(a: int, b: int) -> int:
    return a + b


#: What is awaited of a peer that is linked to one which serves `calc`.
WAYS: dict[str, Callable[[duplex.Peer], Awaitable[Any]]] = {
    "call": lambda peer: peer.service("calc").add(1, 2),
    "call of a link": lambda peer: peer.links[0].service("calc").add(1, 2),
    "open": lambda peer: peer.service("calc").add.open(1, 2).__aenter__(),
    "notify": lambda peer: peer.service("calc").add.notify(1, 2),
    "bind": lambda peer: peer.bind("memory://another"),
    "connect": lambda peer: peer.connect("memory://without-trio"),
    "unbind": lambda peer: peer.unbind("memory://nowhere"),
    "disconnect": lambda peer: peer.disconnect("memory://without-trio"),
    "drain": lambda peer: peer.drain(1),
    "call that finds nobody": lambda peer: peer.service("another").add(1, 2),
    "call with a timeout": lambda peer: peer.service("calc").with_options(timeout=1).add(1, 2),
}


async def test_opening_a_peer_in_asyncio() -> None:
    async def main() -> None:
        async with duplex.open_peer():
            pytest.fail("the peer opened")

    with pytest.raises(RuntimeError, match=r"a task of asyncio's: start the program with trio\.run"):
        await trio.to_thread.run_sync(asyncio.run, main())


def test_opening_a_peer_without_any_event_loop() -> None:
    with pytest.raises(RuntimeError, match="not called from a task of trio's"):
        duplex.open_peer().__aenter__().send(None)


@pytest.mark.parametrize("way", WAYS)
def test_using_a_peer_from_asyncio_in_the_same_thread(way: str) -> None:
    # Guest mode: trio's loop and asyncio's share a thread, so no check of threads tells them apart.
    async def in_trio(ready: asyncio.Event, done: trio.Event, peers: list[duplex.Peer]) -> None:
        async with duplex.open_peer(services=[calc]) as server, duplex.open_peer() as client:
            await client.connect(await server.bind("memory://without-trio"))
            peers.append(client)
            ready.set()
            await done.wait()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ready, ended, done = asyncio.Event(), asyncio.Event(), trio.Event()

        def end(outcome: Outcome[None]) -> None:
            ended.set()
            outcome.unwrap()

        peers: list[duplex.Peer] = []
        trio.lowlevel.start_guest_run(
            in_trio,
            ready,
            done,
            peers,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=end,
        )
        await ready.wait()
        try:
            with pytest.raises(RuntimeError, match="a task of asyncio's"):
                await WAYS[way](peers[0])
        finally:
            done.set()
            await ended.wait()

    asyncio.run(main())
