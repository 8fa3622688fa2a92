"""Kills a process that writes to a sqlite store, at random moments, and looks what is left.

``python -m tests.services.store.crash --kills 200`` prints how many acknowledged commits there were, and how many of them
were lost or torn: none.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec
import trio

from duplex_services.store import Store, missing, open_store, unchanged

WRITERS: Final = 8

#: Seconds after its first commit that a process lives at most.
_LIFE: Final = 0.15


class Tally(msgspec.Struct):
    """What came of it."""

    kills: int = 0
    acknowledged: int = 0
    lost: int = 0
    torn: int = 0


async def _write(path: str) -> None:
    async with open_store(f"sqlite:{path}") as store, trio.open_nursery() as nursery:
        for writer in range(WRITERS):
            nursery.start_soon(_count, store, writer)


async def _count(store: Store, writer: int) -> None:
    entry = await store.get(f"count/{writer}")
    while True:
        number = 0 if entry is None else int(entry.value)
        condition = (
            missing(f"count/{writer}") if entry is None else unchanged(f"count/{writer}", entry.modified)
        )
        value = b"%d" % (number + 1)
        await store.commit({f"count/{writer}": value, f"pair/{writer}": value}, when=[condition])
        # One write of less than a pipe's buffer: whole, or not at all.
        sys.stdout.buffer.write(b"%d %d\n" % (writer, number + 1))
        sys.stdout.buffer.flush()
        entry = await store.get(f"count/{writer}")


def kill_once(path: Path, after: float, best: dict[int, int]) -> int:
    """Have a process write, and kill it.

    Args:
        path: of the store.
        after: seconds after its first commit.
        best: the last number that each writer was acknowledged; brought up to date.

    Returns:
        How many commits were acknowledged.
    """
    command = [sys.executable, "-m", "tests.services.store.crash", "write", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        first = child.stdout.readline()
        # It is the moment that is drawn by lot, and there is no other way to wait for it.
        time.sleep(after)
        child.kill()
        output = first + child.stdout.read()
    assert first, "it did not come up"
    lines = [line.split() for line in output.splitlines(keepends=True) if line.endswith(b"\n")]
    for writer, number in lines:
        best[int(writer)] = max(best.get(int(writer), 0), int(number))
    return len(lines)


async def _look(path: Path) -> dict[str, int]:
    async with open_store(f"sqlite:{path}") as store:
        return {entry.key: int(entry.value) for entry in (await store.list()).entries}


def kill(kills: int, seed: int) -> Tally:
    """Kill so many times, and count what was lost."""
    chance = random.Random(seed)
    tally = Tally()
    best: dict[int, int] = {}
    with tempfile.TemporaryDirectory(prefix="duplex-crash-") as folder:
        path = Path(folder) / "store.db"
        for _ in range(kills):
            tally.acknowledged += kill_once(path, chance.random() * _LIFE, best)
            tally.kills += 1
            found = trio.run(_look, path)
            for writer, number in best.items():
                tally.lost += found.get(f"count/{writer}", 0) < number
                tally.torn += found.get(f"count/{writer}") != found.get(f"pair/{writer}")
    return tally


def main() -> None:
    """Read the command line."""
    if sys.argv[1:2] == ["write"]:
        trio.run(_write, sys.argv[2])
        return
    parser = argparse.ArgumentParser(prog="python -m tests.services.store.crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()
    tally = kill(options.kills, options.seed)
    sys.stdout.write(
        f"{tally.kills} SIGKILLs in {time.monotonic() - began:.0f} s: {tally.acknowledged} commits acknowledged, "
        f"{tally.lost} lost, {tally.torn} torn\n"
    )
    sys.exit(bool(tally.lost or tally.torn))


if __name__ == "__main__":
    main()
