"""A service that is followed: links are made to servers that come, and left when they go.

Where it is says a resolver. This one is told by the program; others read a file or ask name servers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import trio

import duplex


class Worker:
    """One of several that do the same."""

    def __init__(self, name: str) -> None:
        self._name = name

    @duplex.rpc
    async def work(self, item: int) -> str:
        """Do something, and say who did it."""
        await trio.sleep(0.05)
        return f"item {item} by {self._name}"


class Announced:
    """A resolver: says where a service is, again and again."""

    def __init__(self) -> None:
        self.announce, self._announced = trio.open_memory_channel[list[str]](10)

    async def resolve(self, service: str) -> AsyncIterator[list[str]]:
        """Yield one complete list of endpoints after the other."""
        async for endpoints in self._announced:
            yield endpoints


async def main() -> None:
    async with (
        duplex.open_peer(name="one") as one,
        duplex.open_peer(name="two") as two,
        duplex.open_peer(balancer="round_robin") as client,
    ):
        first, second = [await server.bind("tcp://127.0.0.1:*") for server in (one, two)]
        for server in (one, two):
            server.expose(Worker(server.name))

        resolver = Announced()
        followed = client.connect_service("worker", resolver)
        remote = client.service("worker")

        async def announce_later() -> None:
            await trio.sleep(0.1)
            await resolver.announce.send([first])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(announce_later)
            print("waited for:", await remote.work(0))

        await resolver.announce.send([first, second])
        answers: set[str] = set()
        while len(answers) < 2:
            answers.add(await remote.work(1))
        print("both:", sorted(answers))

        async def work(item: int) -> None:
            print("running while one is left:", await remote.work(item))

        async with trio.open_nursery() as nursery:
            (link,) = [link for link in client.links if link.peer_name == "one"]
            nursery.start_soon(work, 2)
            await trio.sleep(0.01)
            await resolver.announce.send([second])
            await link.wait_closed()
        print("left:", await remote.work(3), "and", await remote.work(4))

        links = client.links
        followed.leave()
        for link in links:
            await link.wait_closed()
        print("nobody is linked any more")


if __name__ == "__main__":
    trio.run(main)
