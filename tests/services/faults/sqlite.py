"""A file whose owner is killed, and a disk that is full."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import trio

from duplex_services.store import Refused, last_writer_wins, open_store
from tests.services.faults.report import Finding
from tests.services.store.crash import kill

#: Of the disk that is filled.
_DISK_BYTES = 2 * 1024 * 1024


def kills(size: float) -> Iterator[Finding]:
    """Kill a writing process at random moments."""
    count = max(2, round(200 * size))
    tally = kill(count, seed=1)
    came = f"{tally.acknowledged} commits acknowledged, {tally.lost} lost, {tally.torn} torn"
    is_right = not tally.lost and not tally.torn and tally.acknowledged > count
    yield Finding(f"{count} SIGKILLs of a writing process", came, is_right)


def full_disk(size: float) -> Iterator[Finding]:
    """Write until a real disk is full, make room, and go on."""
    if os.geteuid() != 0:
        return
    with mounted() as folder:
        came, is_right = trio.run(_fill, folder)
    yield Finding("a full disk", came, is_right)


@contextlib.contextmanager
def mounted() -> Iterator[Path]:
    """Mount a small disk of memory; root."""
    with tempfile.TemporaryDirectory(prefix="duplex-full-") as folder:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "duplex-full", folder], check=True
        )
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


async def _fill(folder: Path) -> tuple[str, bool]:
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(_DISK_BYTES // 4))
    kept = 0
    async with open_store(f"sqlite:{folder}/store.db") as store:
        try:
            while kept < 1000:
                await store.commit({f"k/{kept}": bytes(10_000)}, when=last_writer_wins)
                kept += 1
        except Refused as refused:
            reason = refused.message
        found = len((await store.list("k/")).entries)
        ballast.unlink()
        await store.commit({"after": b""}, when=last_writer_wins)
    async with open_store(f"sqlite:{folder}/store.db") as store:
        again = len((await store.list("k/")).entries)
        is_there = await store.get("after") is not None
    came = f"{kept} commits, then refused ({reason}); {again} there when it is opened again, and it went on"
    return came, kept == found == again and is_there and 0 < kept < 1000
