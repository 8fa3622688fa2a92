"""A stream that goes on where it was when its server is started anew, without an item lost or repeated.

The handler yields every item with a cursor, and takes one to go on behind it. The caller asks for it with
``resume=True``; the loop does not notice that the server was gone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

import trio

import duplex

#: Where a server is, and what stops it.
Server: TypeAlias = tuple[str, Callable[[], Awaitable[None]]]


def news_of(lines: list[str]) -> duplex.Service:
    """Make a service that streams lines; what they are is in a database, so to say."""
    news = duplex.Service("news")

    @news.rpc(resumable=True)
    async def follow(*, cursor: int | None = None) -> AsyncIterator[duplex.Tracked[int, str]]:
        """Stream all lines, or those behind a cursor, and go on when there are more."""
        first = 0 if cursor is None else cursor + 1
        print(f"  (the server begins at line {first})")
        for number in range(first, len(lines)):
            yield duplex.Tracked(number, lines[number])
        await trio.sleep_forever()

    return news


async def serve(lines: list[str], endpoint: str, *, task_status: trio.TaskStatus[Server]) -> None:
    """Serve until it is stopped; gives the endpoint, and what stops it."""
    scope, stopped = trio.CancelScope(), trio.Event()

    async def stop() -> None:
        scope.cancel()
        await stopped.wait()

    with scope:
        async with duplex.open_peer(services=[news_of(lines)]) as peer:
            task_status.started((await peer.bind(endpoint), stop))
            await trio.sleep_forever()
    stopped.set()


async def main() -> None:
    lines = ["one", "two", "three"]
    async with duplex.open_peer() as client, trio.open_nursery() as nursery:
        endpoint, stop = await nursery.start(serve, lines, "tcp://127.0.0.1:*")
        await client.connect(endpoint)

        async with client.service("news").follow.with_options(resume=True).open() as stream:
            async for line in stream:
                print(line)
                if line == "three":
                    await stop()
                    lines += ["four", "five"]
                    _, stop = await nursery.start(serve, lines, endpoint)
                elif line == "five":
                    break
            print(f"resumed {stream.resumptions} time; a later run can go on behind cursor {stream.cursor}")

        # To any other caller, cursors are part of the items.
        async with client.service("news").follow.open(cursor=2) as call:
            print(await call.receive())

        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
