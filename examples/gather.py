"""The same question to every server: each one's answer or failure, as they come, and no longer than they are wanted."""

from __future__ import annotations

import contextlib

import trio

import duplex


class Store:
    def __init__(self, stock: int, delay: float = 0.0) -> None:
        self._stock = stock
        self._delay = delay

    @duplex.rpc
    async def stock(self, item: str) -> int:
        await trio.sleep(self._delay)
        if item != "tea":
            raise duplex.NotFound(f"we have no {item}")
        return self._stock


async def main() -> None:
    stores = {"north": Store(3), "east": Store(5, delay=0.6), "south": Store(8, delay=60)}
    async with duplex.open_peer() as client, contextlib.AsyncExitStack() as stack:
        remote = client.service("store")
        try:
            async for _, outcome in remote.stock.gather("tea"):
                print(outcome)
        except duplex.NoPeers:
            print("nobody to ask yet")

        for name, store in stores.items():
            server = await stack.enter_async_context(duplex.open_peer(name=name))
            server.expose(store)
            await client.connect(await server.bind("tcp://127.0.0.1:*"))

        print("two answers:")
        async for peer, outcome in remote.stock.with_options(max_answers=2).gather("tea"):
            print(f"  {peer} has {outcome.result()}")

        print("until one is enough:")
        async for peer, outcome in remote.stock.gather("tea"):
            if outcome.result() >= 5:
                print(f"  {peer} has enough")
                break

        print("who fails, fails alone:")
        with trio.move_on_after(3):
            async for peer, outcome in remote.stock.gather("coffee"):
                if isinstance(outcome.error, duplex.NotFound):
                    print(f"  {peer}: {outcome.error.message}")


if __name__ == "__main__":
    trio.run(main)
