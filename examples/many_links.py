"""One client, several servers: calls go, here in turn, over all links that offer the service.

When a server goes away the others take its share; ``link.service()`` is for those who care which one they
call.
"""

from __future__ import annotations

import trio

import duplex


class Worker:
    """One of several that do the same."""

    def __init__(self, name: str) -> None:
        self._name = name

    @duplex.rpc
    async def work(self, item: int) -> str:
        """Do something, and say who did it."""
        return f"item {item} by {self._name}"


async def main() -> None:
    async with (
        duplex.open_peer(name="one") as one,
        duplex.open_peer(name="two") as two,
        duplex.open_peer() as client,
    ):
        one.expose(Worker("one"))
        two.expose(Worker("two"))
        link_one = await client.connect(await one.bind("tcp://127.0.0.1:*"))
        link_two = await client.connect(await two.bind("tcp://127.0.0.1:*"))

        remote = client.service("worker").with_options(balancer="round_robin")
        for item in range(4):
            print(await remote.work(item))

        print("pinned:", await link_one.service("worker").work(4))
        print("pinned:", await link_one.service("worker").work(5))

        await two.aclose()
        await link_two.wait_closed()
        for item in range(6, 8):
            print("two is gone:", await remote.work(item))


if __name__ == "__main__":
    trio.run(main)
