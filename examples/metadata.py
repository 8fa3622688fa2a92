"""Metadata: headers that go with a call, beside its arguments, and trailers that come back with its result."""

from __future__ import annotations

import trio

import duplex

files = duplex.Service("files")


@files.rpc
async def read(path: str) -> str:
    """Return the content of a file, and say in a trailer what it cost."""
    call = duplex.current_call()
    user = call.metadata.get("user") or "nobody"
    call.trailers["cost"] = str(len(path))
    return f"{path}, read by {user!r} for {call.method}"


async def main() -> None:
    async with duplex.open_peer(services=[files]) as server, duplex.open_peer() as client:
        await client.connect(await server.bind("tcp://127.0.0.1:*"))

        print(await client.service("files").read("a.txt"))

        # Options are set beside the call, so that they cannot be mistaken for its arguments.
        remote = client.service("files").with_options(metadata={"user": "ann"})
        print(await remote.read("b.txt"))

        traced = remote.read.with_options(metadata={"trace-id": bytes([1, 2, 3])})  # adds to what was set
        async with traced.open("c.txt") as call:
            print(await call.result())
            print("trailers:", dict(call.trailers))

        try:
            remote.with_options(metadata={"User Name": "ann"})
        except duplex.ConfigurationError as error:
            print("refused at once:", error)


if __name__ == "__main__":
    trio.run(main)
