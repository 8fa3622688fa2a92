"""Three servers, one of them slow, and who gets the calls: by load, in turn, always the first, by a key, by weight."""

from __future__ import annotations

from collections import Counter

import trio

import duplex


class Worker:
    """One of several that do the same, some in less time than others."""

    def __init__(self, name: str, seconds: float) -> None:
        self._name = name
        self._seconds = seconds

    @duplex.rpc
    async def work(self) -> str:
        """Do something, and say who did it."""
        await trio.sleep(self._seconds)
        return self._name


async def answers(remote: duplex.ServiceProxy, count: int) -> Counter[str]:
    """Make so many calls, six at a time, and return how many of them each worker has answered."""
    found: Counter[str] = Counter()

    async def call() -> None:
        for _ in range(count // 6):
            found[await remote.work()] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(call)
    return found


async def main() -> None:
    async with (
        duplex.open_peer(name="quick") as quick,
        duplex.open_peer(name="also quick") as also_quick,
        duplex.open_peer(name="slow") as slow,
        duplex.open_peer() as client,
    ):
        for server, seconds in ((quick, 0.01), (also_quick, 0.01), (slow, 0.4)):
            server.expose(Worker(server.name, seconds), name="worker")
            await client.connect(await server.bind(f"memory://{server.name}"))
        remote = client.service("worker")

        by_load = await answers(remote, 600)  # a third would be 200
        print("by load, the slow one gets little:", by_load["slow"] < 100)

        in_turn = await answers(remote.with_options(balancer="round_robin"), 12)
        print("in turn:", dict(sorted(in_turn.items())))

        first = await answers(remote.with_options(balancer="pick_first"), 12)
        print("always the first:", dict(first))

        homes = []
        for user in ("ann", "bob", "ann", "bob"):
            keyed = remote.with_options(balancer=duplex.ConsistentHash(user))
            homes.append((user, await keyed.work()))
        print("the same user at the same worker:", homes[0] == homes[2] and homes[1] == homes[3])

        await client.disconnect("memory://quick")
        await client.connect("memory://quick", weight=4)
        weighted = await answers(remote.with_options(balancer="round_robin"), 12)
        print("with four times the weight:", dict(sorted(weighted.items())))


if __name__ == "__main__":
    trio.run(main)
