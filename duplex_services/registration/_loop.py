"""The loop: what sources tell, what is to be listed of it, and the registries that are kept."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final, final

import trio

from duplex_services._shared._background import background
from duplex_services.registration._fetching import fetch
from duplex_services.registration._keeping import Keeper
from duplex_services.registration._model import Container, Desired, Finding, Host, Options, Service
from duplex_services.registration._rules._desired import desired
from duplex_services.registration._rules._exits import kept_until
from duplex_services.registration._source import Source
from duplex_services.registration._state import State

_log: Final = logging.getLogger("duplex")

#: Seconds between two decisions, if nothing hints at a change: for what time alone changes.
_INTERVAL: Final = 1.0


@final
class Registrar:
    """What runs is what is listed.

    Args:
        sources: what tells what runs.
        keepers: one for each registry.
        options: what is to be listed, and how.
        host: the machine; asked each time, since addresses change.
        state: what is kept over restarts.
        clock: the time, in seconds since 1970.

    Attributes:
        services: what is to be listed.
        findings: what became of each port.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        keepers: Sequence[Keeper],
        options: Options,
        host: Callable[[], Host],
        state: State,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.services: tuple[Service, ...] = ()
        self.findings: tuple[Finding, ...] = ()
        self._sources = sources
        self._keepers = keepers
        self._options = options
        self._host = host
        self._state = state
        self._clock = clock
        self._fetched: dict[str, bytes] = {}
        #: Of each source, what the last decision was made of, and the decision.
        self._last: dict[str, tuple[tuple[Container, ...], Host, Desired]] = {}
        self._hint = trio.Event()
        self._told: tuple[tuple[Service, ...], bool] | None = None

    async def run(self) -> None:
        """List what runs until cancelled; what is listed then stays."""
        async with background() as nursery:
            for keeper in self._keepers:
                nursery.start_soon(keeper.run)
            for source in self._sources:
                nursery.start_soon(source.run, self._wake)
            while True:
                await self._decide()
                with trio.move_on_after(_INTERVAL):
                    await self._hint.wait()
                self._hint = trio.Event()

    def _wake(self) -> None:
        self._hint.set()

    async def _decide(self) -> None:
        by_source: dict[str, tuple[Service, ...]] = {}
        findings: list[Finding] = []
        for source in self._sources:
            before = self._state.services.get(source.name, ())
            if source.containers is None:
                # Nothing was heard of it in this life: what it told the last one still holds.
                by_source[source.name] = before
                continue
            found = await self._desired(source, before)
            by_source[source.name] = found.services
            findings += found.findings
        self.services = tuple(service for services in by_source.values() for service in services)
        self.findings = tuple(findings)
        try:
            self._state.keep(by_source)
        except OSError as error:
            _log.warning("what is listed cannot be kept for the next start: %s", error)
        is_known = all(source.containers is not None for source in self._sources)
        told = (self.services, is_known)
        if told != self._told:
            self._told = told
            for keeper in self._keepers:
                keeper.want(self.services, may_drop=is_known)

    async def _desired(self, source: Source, before: Sequence[Service]) -> Desired:
        containers = source.containers or ()
        now, host = self._clock(), self._host()
        last = self._last.get(source.name)
        if (
            last is not None
            and last[0] == containers
            and last[1] == host
            and not self._depends_on_time(containers)
        ):
            return last[2]
        found = desired(containers, self._options, host, now=now, before=before, fetched=self._fetched)
        if found.wanted:
            await fetch(found.wanted, self._fetched)
            found = desired(containers, self._options, host, now=now, before=before, fetched=self._fetched)
        self._last[source.name] = (containers, host, found)
        return found

    def _depends_on_time(self, containers: Sequence[Container]) -> bool:
        options = self._options
        return any(kept_until(one, options) is not None for one in containers if not one.is_alive)
