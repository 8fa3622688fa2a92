"""Who may call what: methods say what their callers need, and a function of the peer decides who has it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import trio

import duplex

ledger = duplex.Service("ledger")
entries: list[int] = [10, 20]

#: Who comes with which token, and what they may do.
READER = duplex.Identity("reader", "token", {"may": {"read"}})
WRITER = duplex.Identity("writer", "token", {"may": {"read", "write"}})
TOKENS = {b"sesame": READER, b"abracadabra": WRITER}


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


async def authenticator(handshake: duplex.Handshake) -> duplex.Identity:
    """Say who is linked; a peer without a token stays anonymous."""
    return TOKENS.get(handshake.credentials or b"", handshake.identity)


def authorize(identity: duplex.Identity, method: str, call: duplex.AskedCall) -> bool:
    """Allow what the caller has all permissions for; what requires none is for everybody."""
    may: set[str] = identity.attributes.get("may", set())
    return call.requires <= may


async def main() -> None:
    async with (
        duplex.open_peer(services=[ledger], authenticator=authenticator, authorize=authorize) as server,
        duplex.open_peer() as anybody,
        duplex.open_peer(credentials=b"sesame") as reader,
        duplex.open_peer(credentials=b"abracadabra") as writer,
    ):
        endpoint = await server.bind("tcp://127.0.0.1:*")
        for peer in (anybody, reader, writer):
            await peer.connect(endpoint)
        print("anybody:", await anybody.service("ledger").describe())

        async with reader.service("ledger").read.open() as call:
            print("reader:", [entry async for entry in call])
        try:
            await reader.service("ledger").write("not even looked at")
        except duplex.PermissionDenied as error:
            print("reader:", error.message)

        await writer.service("ledger").write(30)
        async with writer.service("ledger").read.open() as call:
            print("writer:", [entry async for entry in call])


if __name__ == "__main__":
    trio.run(main)
