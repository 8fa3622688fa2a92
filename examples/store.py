"""A store: keys with revisions, commits that are all or nothing, watches, leases and elections.

The store here is a file that one process has open. It serves it, so that others can use it too, as the second client
does, which might as well be on another host.
"""

from __future__ import annotations

import tempfile

import trio

import duplex
from duplex_services.store import Conflict, Store, Watch, missing, open_store, store_service, unchanged


async def show(updates: Watch) -> None:
    update = await updates.receive()
    puts = {entry.key: entry.value.decode() for entry in update.puts}
    print("all of it:" if update.full else "changed:", puts, "gone:", list(update.deletes))


async def use(here: Store, there: Store) -> None:
    async with there.watch("config/") as updates:
        await show(updates)

        # Every commit says on what condition: here, that nobody has made the key yet.
        revision = await here.commit(
            {"config/colour": b"red", "config/size": b"5"}, when=[missing("config/colour")]
        )
        await show(updates)

        # Both read the same, and both change it: the second is told what it missed.
        await here.commit({"config/colour": b"green"}, when=[unchanged("config/colour", revision)])
        try:
            await there.commit({"config/colour": b"blue"}, when=[unchanged("config/colour", revision)])
        except Conflict as conflict:
            print("too late:", conflict.found and conflict.found.value.decode())
        await show(updates)

        # What is put under a lease goes with its holder, however that ends.
        async with here.lease(10) as lease:
            await here.commit({"config/by": b"ann"}, when=[missing("config/by")], lease=lease)
            await show(updates)
        await show(updates)

    # One of many leads; what it writes carries the guard, which fails once another leads.
    async with there.lead("sweeper", value=b"there") as term:
        await there.commit({"config/size": b"6"}, when=[term.guard])
        leader = await here.leader("sweeper")
        print("leader:", leader and leader.value.decode())

    for entry in (await here.list()).entries:
        print(entry.key, entry.value.decode())


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with open_store(f"sqlite:{folder}/store.db") as here:
            async with duplex.open_peer(services=[store_service(here)]) as peer:
                endpoint = await peer.bind("tcp://127.0.0.1:*")
                async with open_store(f"duplex+{endpoint}") as there:
                    await use(here, there)


if __name__ == "__main__":
    trio.run(main)
