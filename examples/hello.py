"""The shortest complete program: a service, a peer that serves it and a peer that calls it.

Both peers live in one process here. In real life they are two, and only the endpoint is known to both.
"""

from __future__ import annotations

import trio

import duplex

greeter = duplex.Service("greeter")


@greeter.rpc
async def hello(name: str) -> str:
    """Greet somebody."""
    return f"Hello, {name}!"


async def main() -> None:
    async with duplex.open_peer(services=[greeter]) as server, duplex.open_peer() as client:
        endpoint = await server.bind("tcp://127.0.0.1:*")  # `*` takes a free port; the real one comes back
        await client.connect(endpoint)

        remote = client.service("greeter")
        print(await remote.hello("world"))
        print(await remote.hello(name="you"))


if __name__ == "__main__":
    trio.run(main)
