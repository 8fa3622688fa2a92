"""Checking an instance again and again: in the registrant or in a server."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import trio

import duplex
from duplex_services.discovery._model import Check, Health, Registration
from duplex_services.discovery._probes import probe
from duplex_services.discovery._rules._monitor import Monitor, Result


async def monitor(
    check: Check,
    registration: Registration,
    known: Health | None,
    report: Callable[[Result], Awaitable[None]],
    limit: Callable[[Health | None], trio.CapacityLimiter] | None = None,
    *,
    tls: duplex.TLS | None = None,
) -> None:
    """Check again and again, until cancelled, and report the health each time that it is another one.

    Args:
        check: how.
        registration: what.
        known: what is known from before.
        report: told what was found; the next check waits for it.
        limit: how many checks may run at once of those whose instances are as this one is; ``None`` before the first success.
        tls: for an instance at ``tls://``.
    """
    state = Monitor(check.threshold, known)
    while True:
        if limit is None:
            found = await probe(check, registration, tls)
        else:
            async with limit(state.health):
                found = await probe(check, registration, tls)
        before, state = state.health, state.take(found.health)
        if state.health is not None and state.health != before:
            await report(found)
        pause = state.pause(check)
        # Checks of many instances are not to fall together.
        await trio.sleep(pause * random.uniform(0.9, 1.0))
