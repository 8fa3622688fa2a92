"""Health: every peer offers ``duplex.health``, for supervisors and load balancers.

The shape is that of gRPC's health checking: ``check`` once, ``watch`` for changes, ``list`` for everything;
the empty name means the peer as a whole.
"""

from __future__ import annotations

import trio

import duplex

database = duplex.Service("database")


@database.rpc
async def query(text: str) -> list[str]:
    """Return some rows."""
    return [text]


async def main() -> None:
    async with duplex.open_peer(services=[database]) as server, duplex.open_peer() as client:
        await client.connect(await server.bind("tcp://127.0.0.1:*"))
        health = client.service("duplex.health")

        print("the peer:", await health.check())
        print("the service:", await health.check("database"))

        async with health.watch.open("database") as changes:
            print("watched:", await changes.receive())
            server.set_health("database", serving=False)  # says the server of itself
            print("watched:", await changes.receive())
            server.set_health("database", serving=True)
            print("watched:", await changes.receive())

        try:
            await health.check("cache")
        except duplex.NotFound as error:
            print(error.message)


if __name__ == "__main__":
    trio.run(main)
