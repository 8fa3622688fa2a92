"""Checking an instance again and again, by whoever does."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator

import trio

from duplex_services.discovery._model import Check, Health, Registration
from duplex_services.discovery._probes import probe
from duplex_services.discovery._rules._monitor import Monitor, Result


async def monitored(
    check: Check,
    registration: Registration,
    known: Health | None,
    limit: trio.CapacityLimiter | None = None,
) -> AsyncGenerator[Result]:
    """Check again and again, and give the health each time that it is another one.

    Args:
        check: how.
        registration: what.
        known: what is known from before.
        limit: how many checks may run at once.
    """
    monitor = Monitor(check.threshold, known)
    while True:
        if limit is None:
            found = await probe(check, registration)
        else:
            async with limit:
                found = await probe(check, registration)
        before, monitor = monitor.health, monitor.take(found.health)
        if monitor.health is not None and monitor.health != before:
            yield found
        pause = monitor.pause(check)
        # Checks of many instances are not to fall together.
        await trio.sleep(pause * random.uniform(0.9, 1.0))
