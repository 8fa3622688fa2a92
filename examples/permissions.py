"""Who may call what: methods say what their callers need, and a function of the peer decides who has it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import trio

import duplex

ledger = duplex.Service("ledger")
entries: list[int] = [10, 20]

#: What each password is good for. Until there are keys, this is what a caller can show.
PASSWORDS = {"sesame": {"read"}, "abracadabra": {"read", "write"}}


@ledger.rpc
async def describe() -> str:
    """Say what this is."""
    return "a ledger"


@ledger.rpc(requires="read")
async def read() -> AsyncIterator[int]:
    """Stream all entries."""
    for entry in entries:
        yield entry


@ledger.rpc(requires="write")
async def write(amount: int) -> None:
    """Add an entry."""
    entries.append(amount)


def authorize(identity: duplex.Identity, method: str, call: duplex.AskedCall) -> bool:
    """Allow what requires nothing, or what the password is good for."""
    return call.requires <= PASSWORDS.get(str(call.metadata.get("password")), set())


async def main() -> None:
    async with (
        duplex.open_peer(services=[ledger], authorize=authorize) as server,
        duplex.open_peer() as client,
    ):
        await client.connect(await server.bind("tcp://127.0.0.1:*"))
        remote = client.service("ledger")
        print("anybody:", await remote.describe())

        reader = remote.with_options(metadata={"password": "sesame"})
        async with reader.read.open() as call:
            print("reader:", [entry async for entry in call])
        try:
            await reader.write("not even looked at")
        except duplex.PermissionDenied as error:
            print(f"reader: {error.message}")

        writer = remote.with_options(metadata={"password": "abracadabra"})
        await writer.write(30)
        async with writer.read.open() as call:
            print("writer:", [entry async for entry in call])


if __name__ == "__main__":
    trio.run(main)
