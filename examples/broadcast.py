"""A message for everybody who listens: callbacks that are kept, and a listener who leaves is nobody else's trouble.

A callback lives as long as the call that brought it, so a listener stays in its call. To call many of them, give
each a task and a time of its own: one that fails, is slow, or has gone, then costs the others nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio

import duplex

Listener: TypeAlias = duplex.Callback[[str], None]

room = duplex.Service("room")
listeners: dict[str, Listener] = {}


@room.rpc
async def listen(name: str, tell: Listener) -> None:
    """Be told what is said, until the call is cancelled."""
    listeners[name] = tell
    try:
        await tell(f"welcome, {name}")
        await trio.sleep_forever()
    finally:
        del listeners[name]


@room.rpc
async def say(text: str) -> list[str]:
    """Tell everybody who listens, and return who was told."""
    told: list[str] = []

    async def tell(name: str, listener: Listener) -> None:
        with trio.move_on_after(10):
            try:
                await listener(text)
            except duplex.RPCError:
                return  # it left, or it failed
            told.append(name)

    async with trio.open_nursery() as nursery:
        for name, listener in listeners.items():
            nursery.start_soon(tell, name, listener)
    return sorted(told)


async def main() -> None:
    async with (
        duplex.open_peer(services=[room]) as server,
        duplex.open_peer() as client,
        trio.open_nursery() as nursery,
    ):
        await client.connect(await server.bind("tcp://127.0.0.1:*"))
        remote = client.service("room")
        heard: list[str] = []

        async def refuse(text: str) -> None:
            raise duplex.Unavailable("not now")

        async def listening(name: str, function: Listener) -> Callable[[], Awaitable[None]]:
            """Listen until the function that is returned is called."""
            scope, welcomed, left = trio.CancelScope(), trio.Event(), trio.Event()

            async def tell(text: str) -> None:
                if welcomed.is_set():
                    await function(text)
                welcomed.set()

            async def stay() -> None:
                with scope:
                    await remote.listen(name, tell)
                left.set()

            async def leave() -> None:
                scope.cancel()
                await left.wait()

            nursery.start_soon(stay)
            await welcomed.wait()
            return leave

        async def hear(text: str) -> None:
            await trio.lowlevel.checkpoint()
            heard.append(text)

        await listening("ann", hear)
        await listening("bob", refuse)
        leave = await listening("carl", hear)

        print("told:", await remote.say("hello"))
        await leave()
        print("told:", await remote.say("carl has left"))
        print("heard:", heard)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
