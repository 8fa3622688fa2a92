"""Services that find each other by name: workers register by living, and a caller follows them.

A registration is a call that stays open; leaving its block withdraws the instance. A caller that follows a name knows at any
moment who is there, how it is, and who leads.
"""

from __future__ import annotations

import trio

import duplex
from duplex_services.discovery import open_directory, open_server
from duplex_services.discovery.client import Following, Registration, follow, keep_registered, open_client

calc = duplex.Service("calc")


@calc.rpc
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def work(discovery: str, name: str, leave: trio.Event) -> None:
    """Be a worker until told to leave."""
    async with duplex.open_peer(services=[calc], name=name) as peer, open_client(discovery) as client:
        endpoint = await peer.bind("tcp://127.0.0.1:*")
        worker = Registration(name, endpoint=endpoint, protocol="duplex", metadata={"host": "here"})
        async with keep_registered(client, "calc", worker):
            await leave.wait()


async def until(workers: Following, count: int) -> None:
    """Follow until there are so many, and somebody leads."""
    while len(workers.instances) != count or workers.leader is None:
        await workers.receive()


async def main() -> None:
    async with (
        open_directory("memory:") as directory,
        open_server(directory, ["tcp://127.0.0.1:*"]) as (_, ends),
    ):
        async with (
            open_client(*ends) as client,
            follow(client, "calc") as workers,
            trio.open_nursery() as nursery,
        ):
            leave = {name: trio.Event() for name in ("one", "two")}
            for number, (name, event) in enumerate(leave.items(), 1):
                nursery.start_soon(work, ends[0], name, event)
                await until(workers, number)

            print("found:", [worker.id for worker in workers.instances])
            print("leader:", workers.leader.id if workers.leader else None)
            for worker in workers.instances:
                async with duplex.open_peer() as caller:
                    await caller.connect(worker.endpoint)
                    print(f"1 + 2 at {worker.id}:", await caller.service("calc").add(1, 2))

            leave["one"].set()
            while [worker.id for worker in workers.instances] != ["two"]:
                await workers.receive()
            while workers.leader is None or workers.leader.id != "two":
                await workers.receive()
            print("left:", [worker.id for worker in workers.instances])
            print("leader:", workers.leader.id)
            leave["two"].set()


if __name__ == "__main__":
    trio.run(main)
