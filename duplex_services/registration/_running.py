"""A registrar as a process, and single looks at what one would do."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import trio

import duplex
from duplex_services._shared._background import background
from duplex_services.registration._fetching import fetch
from duplex_services.registration._keeping import Keeper
from duplex_services.registration._loop import Registrar
from duplex_services.registration._machine import Machine
from duplex_services.registration._model import Container, Desired
from duplex_services.registration._open import Settings, open_sources, open_targets
from duplex_services.registration._rules._desired import desired
from duplex_services.registration._rules._difference import Difference
from duplex_services.registration._rules._templates import Template
from duplex_services.registration._source import SourceError
from duplex_services.registration._state import open_state, read_state
from duplex_services.registration._target import TargetError


async def run_registrar(settings: Settings, announce: Callable[[str], None]) -> None:
    """List what runs until SIGTERM or SIGINT. What is listed then stays for its TTL, and is adopted by the next run.

    Args:
        settings: what to list, and where.
        announce: told each target once it begins.

    Raises:
        ConfigurationError: something makes no sense.
    """
    check_options(settings)
    with open_state(settings.state) as state:
        sources = open_sources(settings, state.owner)
        targets = open_targets(settings, state.owner)
        keepers = [Keeper(target, state.owner, interval=settings.interval) for target in targets]
        registrar = Registrar(sources, keepers, settings.options, _machine(settings), state)
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with background() as nursery:
                nursery.start_soon(registrar.run)
                for target in targets:
                    announce(target.name)
                await signals.__anext__()


async def look(settings: Settings) -> tuple[list[Container], Desired]:
    """Return what runs now, and what is to be listed of it.

    Raises:
        ConfigurationError: something makes no sense.
        Unavailable: what runs cannot be seen.
    """
    check_options(settings)
    state = read_state(settings.state)
    containers: list[Container] = []
    for source in open_sources(settings, state.owner):
        try:
            await source.look()
        except SourceError as error:
            raise duplex.Unavailable(str(error)) from error
        containers += source.containers or ()
    host = _machine(settings)()
    before = [service for services in state.services.values() for service in services]
    fetched: dict[str, bytes] = {}
    found = desired(containers, settings.options, host, now=time.time(), before=before)
    if found.wanted:
        await fetch(found.wanted, fetched)
        found = desired(containers, settings.options, host, now=time.time(), before=before, fetched=fetched)
    return containers, found


async def plan(settings: Settings) -> list[tuple[str, Difference | str]]:
    """Return of each target its name, and what would be done there now, or why that is not known.

    Raises:
        ConfigurationError, Unavailable: as :func:`look`.
    """
    state = read_state(settings.state)
    _, found = await look(settings)
    results: list[tuple[str, Difference | str]] = []
    for target in open_targets(settings, state.owner):
        keeper = Keeper(target, state.owner)
        async with background() as nursery:
            nursery.start_soon(target.run, keeper.wake)
            try:
                results.append((target.name, await keeper.plan(found.services)))
            except TargetError as error:
                results.append((target.name, str(error)))
    return results


def check_options(settings: Settings) -> None:
    """Refuse options that make no sense, before anything is begun.

    Raises:
        ConfigurationError: all that is wrong.
    """
    try:
        Template(settings.options.tags)
    except ValueError as error:
        raise duplex.ConfigurationError(f"--tags: {error}") from error


def _machine(settings: Settings) -> Machine:
    machine = Machine(settings.advertise, name=settings.hostname, resolves=settings.options.compat)
    host = machine()
    if settings.advertise and not (host.four or host.six):
        raise duplex.ConfigurationError(machine.trouble)
    return machine
