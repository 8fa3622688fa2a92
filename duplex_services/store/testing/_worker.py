"""Another process that makes operations on a key: ``python -m duplex_services.store.testing._worker``."""

from __future__ import annotations

import sys

import msgspec
import trio

from duplex_services.store._open import open_store
from duplex_services.store.testing._history import record


async def work(url: str, key: str, client: str, count: int, seed: int, tasks: int) -> None:
    """Say ``ready``, wait for a line, make operations in tasks, and print what each saw."""
    async with open_store(url) as store, trio.open_nursery() as nursery:

        async def one(number: int) -> None:
            for operation in await record(store, key, f"{client}-{number}", count, seed + number):
                sys.stdout.buffer.write(msgspec.json.encode(operation) + b"\n")

        # Begun together with the process that started this one.
        print("ready", flush=True)  # noqa: T201
        await trio.to_thread.run_sync(sys.stdin.readline)
        for number in range(tasks):
            nursery.start_soon(one, number)


if __name__ == "__main__":
    trio.run(
        work, sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), int(sys.argv[6])
    )
