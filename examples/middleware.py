"""Middleware: code that runs around every handler, to measure it, to ask who calls, to see what it streams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import trio

import duplex

TOKENS = {"s3cret": "ann"}


async def measure(call: duplex.ServedCall, next: duplex.Next) -> Any:
    """Tell the caller how long it took, and print how it ended."""
    began = trio.current_time()
    try:
        result = await next(call)
    except duplex.RPCError as error:
        print(f"  [{call.method}: {error.code.name}]")
        raise
    call.trailers["seconds"] = f"{trio.current_time() - began:.0f}"
    print(f"  [{call.method}: OK]")
    return result


async def authenticate(call: duplex.ServedCall, next: duplex.Next) -> Any:
    """Let those in who have a token, and leave the name of the user to the handler, instead of the token."""
    user = TOKENS.get(str(call.metadata.get("token")))
    if user is None:
        raise duplex.Unauthenticated("a token is needed, in the metadata")
    call.metadata = {"user": user}
    return await next(call)


async def number_lines(call: duplex.ServedCall, next: duplex.Next) -> Any:
    """Number what the handler streams."""
    count = 0

    async def number(line: str, send: Callable[[str], Awaitable[None]]) -> None:
        nonlocal count
        count += 1
        await send(f"{count}. {line}")

    call.wrap_send(number)
    return await next(call)


notes = duplex.Service("notes", middleware=[authenticate])


@notes.rpc
def whoami() -> str:
    """A plain function, in a thread."""
    return str(duplex.current_call().metadata["user"])


@notes.rpc(middleware=[number_lines])
async def read() -> AsyncIterator[str]:
    """A stream."""
    for line in ("milk", "bread"):
        yield line


async def main() -> None:
    async with (
        duplex.open_peer(services=[notes], middleware=[measure]) as server,
        duplex.open_peer() as client,
    ):
        await client.connect(await server.bind("tcp://127.0.0.1:*"))
        remote = client.service("notes")

        try:
            await remote.whoami()
        except duplex.Unauthenticated as error:
            print("refused:", error.message)

        remote = remote.with_options(metadata={"token": "s3cret"})
        print("I am", await remote.whoami())

        async with remote.read.open() as lines:
            async for line in lines:
                print(line)
            print("trailers:", dict(lines.trailers))


if __name__ == "__main__":
    trio.run(main)
