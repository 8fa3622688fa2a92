"""Checks that a server of discovery makes: of its share of the instances, and what they come to is reported."""

from __future__ import annotations

import logging
from typing import Final

import msgspec
import trio

import duplex
from duplex_services.discovery._errors import DirectoryError, StoreAway
from duplex_services.discovery._model import Check, Health, Record, Registration
from duplex_services.discovery._monitoring import monitor
from duplex_services.discovery._registrations import Registrations
from duplex_services.discovery._rules._liveness import What
from duplex_services.discovery._rules._monitor import Result, checker_of
from duplex_services.discovery._rules._plans import NOT_CHECKED
from duplex_services.discovery._rules._view import View

_log: Final = logging.getLogger("duplex")

#: Seconds between two looks at which instances are to be checked here.
_LOOK_EVERY: Final = 0.25

#: Checks that run at once: of instances that are well, and of all others, whose checks may all wait for answers that never come.
_AT_ONCE: Final = 256


class Job(msgspec.Struct, frozen=True):
    """An instance to check: if its address or its check changes, it is another one."""

    check: Check
    endpoint: str
    host: str
    port: int


class Checker:
    """Makes the checks that fall to this server.

    Args:
        view: what is known.
        instances: to report to.
        server: this server's name.
    """

    def __init__(self, view: View, instances: Registrations, server: str) -> None:
        self._view = view
        self._instances = instances
        self._server = server
        self._running: dict[What, tuple[Job, trio.CancelScope]] = {}
        self._shares: dict[What, bool] = {}
        self._servers: tuple[str, ...] = ()
        self._tls: duplex.TLS | None = None
        self._of_well = trio.CapacityLimiter(_AT_ONCE)
        self._of_others = trio.CapacityLimiter(_AT_ONCE)

    @property
    def checked(self) -> int:
        """How many instances are checked here."""
        return len(self._running)

    async def run(self, tls: duplex.TLS | None = None) -> None:
        """Check, whatever comes and goes.

        Args:
            tls: for instances at ``tls://``.
        """
        self._tls = tls
        async with trio.open_nursery() as nursery:
            while True:
                self._look(nursery)
                await trio.sleep(_LOOK_EVERY)

    def _look(self, nursery: trio.Nursery) -> None:
        servers = tuple(sorted(self._view.servers))
        if servers != self._servers:
            self._servers = servers
            self._shares.clear()
        due: dict[What, tuple[Job, Record]] = {}
        for held in self._view.all_held():
            check = held.record.check
            # Programs are run by those alone who registered the instance.
            if check is not None and check.kind != "command":
                what = What(held.instance.service, held.instance.id)
                if self._is_share(what):
                    record = held.record
                    due[what] = Job(check, record.endpoint, record.host, record.port), record
        for what, (job, scope) in list(self._running.items()):
            if what not in due or due[what][0] != job:
                scope.cancel()
                del self._running[what]
        for what, (job, record) in due.items():
            if what not in self._running:
                scope = trio.CancelScope()
                self._running[what] = job, scope
                nursery.start_soon(self._watch, what, job, record, scope)

    def _is_share(self, what: What) -> bool:
        found = self._shares.get(what)
        if found is None:
            found = self._shares[what] = checker_of(*what, self._servers) == self._server
        return found

    async def _watch(self, what: What, job: Job, record: Record, scope: trio.CancelScope) -> None:
        said = Registration(what.id, endpoint=job.endpoint, host=job.host, port=job.port)

        async def report(found: Result) -> None:
            await self._report(what, found)

        with scope:
            await monitor(job.check, said, known_of(record), report, self._limit, tls=self._tls)

    def _limit(self, health: Health | None) -> trio.CapacityLimiter:
        return self._of_well if health in ("passing", "warning") else self._of_others

    async def _report(self, what: What, found: Result) -> None:
        while True:
            try:
                await self._instances.report(*what, found.health, found.note)
            except StoreAway:
                await trio.sleep(1)
            except DirectoryError as error:
                _log.info("%s/%s is %s, and is not there: %s", *what, found.health, error)
                return
            else:
                return


def known_of(record: Record) -> Health | None:
    """Return the health that earlier checks found; ``None`` if there was none yet."""
    return None if record.note == NOT_CHECKED else record.health
