"""A store that another process serves, which is stopped, killed and replaced, again and again."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import trio

from duplex_services.store import Unavailable, open_store
from duplex_services.store.testing import CHECKS, check_store
from tests.services.faults.report import Finding
from tests.services.store.served import Served


def served_faults(size: float) -> Iterator[Finding]:
    """Run every check with a fault that such a store can have."""
    rounds = max(1, round(10 * size))
    for check in CHECKS:
        if check.partition("_")[0] not in ("stall", "restart", "replace") and check != "history":
            continue
        began = time.monotonic()
        failures = [problem for problem in (_once(check) for _ in range(rounds)) if problem]
        came = f"{rounds - len(failures)} of {rounds} as they must be, {time.monotonic() - began:.0f} s"
        yield Finding(f"served: {check}", "; ".join([came, *failures[:2]]), not failures)


def _once(check: str) -> str:
    with tempfile.TemporaryDirectory(prefix="duplex-served-") as folder:
        server = Served(Path(folder))
        server.start()
        try:
            trio.run(_check, server, check)
        except AssertionError as error:
            return str(error)
        finally:
            server.end()
    return ""


async def _check(server: Served, check: str) -> None:
    with trio.fail_after(30):
        while True:
            try:
                async with open_store(server.url):
                    break
            except Unavailable:
                continue
    await check_store(
        lambda **options: open_store(server.url, **options),
        only=[check],
        faults=server.faults,
        url=server.url,
        slack=15,
    )
