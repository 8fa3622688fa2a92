"""A message for everybody who listens, by callbacks: a listener that fails, or leaves, is nobody else's trouble.

Each listener stays in a call of its own, whose handler waits for what is published and calls it. What goes wrong with one
ends that call, and no other.
"""

from __future__ import annotations

from typing import TypeAlias

import trio

import duplex

Listener: TypeAlias = duplex.Callback[[str], None]

room = duplex.Service("room")
said: duplex.Topic[str] = duplex.Topic()


@room.rpc
async def listen(tell: Listener) -> None:
    """Be told what is said, until the call is cancelled."""
    texts = said.subscribe(overflow="drop_oldest")
    try:
        await tell("welcome")
        async for text in texts:
            await tell(text)
    except duplex.RPCError:
        return  # it left, or it failed, and is told no more


@room.rpc
async def say(text: str) -> None:
    """Tell everybody who listens."""
    await said.publish(text)


async def main() -> None:
    async with (
        duplex.open_peer(services=[room]) as server,
        duplex.open_peer() as client,
        trio.open_nursery() as nursery,
    ):
        await client.connect(await server.bind("tcp://127.0.0.1:*"))
        remote = client.service("room")

        async def listening() -> trio.MemoryReceiveChannel[str]:
            """Listen, until the channel that is returned is closed."""
            send, receive = trio.open_memory_channel[str](10)

            async def hear(text: str) -> None:
                try:
                    await send.send(text)
                except trio.BrokenResourceError:
                    raise duplex.Unavailable("nobody listens any more") from None

            nursery.start_soon(remote.listen, hear)
            assert await receive.receive() == "welcome"
            return receive

        async def refuse(text: str) -> None:
            raise duplex.Unavailable("not now")

        ann = await listening()
        carl = await listening()
        await remote.listen(refuse)
        print("bob listens no more")

        await remote.say("hello")
        print("ann and carl heard:", await ann.receive(), await carl.receive())
        await carl.aclose()
        await remote.say("carl does not listen")
        print("ann heard:", await ann.receive())
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
