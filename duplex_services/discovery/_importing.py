"""What is in Consul's catalogue alone: services that others have registered with their agents are instances of the directory too.

A loop compares what Consul has with what is in the directory, and registers the difference as any registrant would. Each instance
is kept by one server: the first, by name, that finds it missing; the others come after it only if that is gone.
"""

from __future__ import annotations

import logging
import urllib.parse
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from duplex_services.discovery._directory import Directory
from duplex_services.discovery._errors import DirectoryError
from duplex_services.discovery._registrations import Session
from duplex_services.discovery._rules._catalogue import ROOT
from duplex_services.discovery._rules._importing import Foreign, foreign
from duplex_services.discovery._rules._liveness import RANK_PAUSE, What, rank_of
from duplex_services.store import StoreError, Unavailable

if TYPE_CHECKING:
    from duplex_services.store.consul import ConsulApi

_log: Final = logging.getLogger("duplex")

#: Seconds that an instance stays without the server that keeps it, half as long: others have it by then.
_TTL: Final = 30.0
#: Seconds of one question that waits for changes.
_WAIT: Final = 30.0
#: Seconds between two comparisons, at least; and until one that nothing asks for.
_LEAST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0
#: How long the pause after a comparison is, as a multiple of the time that it took.
_RESTS: Final = 4.0
#: Seconds after which what failed is tried again.
_REST: Final = 1.0
_AT_ONCE: Final = 4
#: Has Consul leave out what directories have registered, which may be thousands; it is left out here in any case.
_OTHERS: Final = urllib.parse.quote(f'"{ROOT}" not in Service.Meta')


class Importing:
    """Keeps in the directory what others have registered with Consul.

    Args:
        directory: of this server.
        api: of Consul.
    """

    def __init__(self, directory: Directory, api: ConsulApi) -> None:
        self._directory = directory
        self._api = api
        self._kept: dict[What, tuple[Session, Foreign]] = {}
        self._missing: dict[What, float] = {}
        self._refused: dict[str, str] = {}
        self._moved = trio.Event()
        self._is_away = False

    async def run(self) -> None:
        """Compare until cancelled."""
        async with trio.open_nursery() as nursery:
            for path in ("/v1/catalog/services", "/v1/health/state/any"):
                nursery.start_soon(self._wait, path)
            while True:
                self._moved = trio.Event()
                began = trio.current_time()
                try:
                    await self._compare()
                    rest = max(_LEAST_PAUSE, _RESTS * (trio.current_time() - began))
                    self._tell("")
                except (StoreError, DirectoryError) as error:
                    rest = _REST
                    self._tell(error.message)
                await trio.sleep(rest)
                with trio.move_on_after(_LONGEST_PAUSE):
                    await self._moved.wait()

    def _tell(self, problem: str) -> None:
        if bool(problem) == self._is_away:
            return
        self._is_away = bool(problem)
        if problem:
            _log.warning("what Consul's catalogue has besides stays as it was: %s", problem)
        else:
            _log.warning("what Consul's catalogue has besides is known again")

    async def _wait(self, path: str) -> None:
        """Notice when something has changed: a hint to look, no more."""
        index = 0
        while True:
            try:
                found = await self._api.wait(path, index, _WAIT)
            except StoreError:
                index = 0
                await trio.sleep(_REST)
                continue
            if found != index:
                self._moved.set()
            # A Consul that was replaced counts from the beginning.
            index = found if found >= index else 0
            await trio.sleep(_LEAST_PAUSE)

    async def _compare(self) -> None:
        reading = self._directory.reading
        if not reading.is_known or reading.status().stale:
            # What is to be taken over, and what is there, is not known.
            return
        wanted = await self._read()
        for what, (session, had) in list(self._kept.items()):
            one = wanted.get(what)
            if session.ended.is_set():
                del self._kept[what]
            elif one is None:
                await self._directory.instances.withdraw(session, "Consul has it no more")
                del self._kept[what]
            elif one != had:
                await self._put(what, one, had)
        self._missing = {what: since for what, since in self._missing.items() if what in wanted}
        for what, one in wanted.items():
            if what not in self._kept and self._is_ours_to_keep(what):
                await self._put(what, one)

    async def _read(self) -> dict[What, Foreign]:
        names = await self._api.ask_agent("GET", "/v1/catalog/services")
        if not names:
            # Consul answers so to who may not read; its own servers are a service.
            raise Unavailable("Consul shows no service, not even its own: the token may not read them")
        found: dict[What, Foreign] = {}
        refused: dict[str, str] = {}
        limit = trio.CapacityLimiter(_AT_ONCE)
        failed: list[StoreError] = []

        async def read(name: str) -> None:
            async with limit:
                try:
                    path = f"/v1/health/service/{urllib.parse.quote(name, safe='')}?filter={_OTHERS}"
                    instances, problems = foreign(await self._api.ask_agent("GET", path))
                except StoreError as error:
                    failed.append(error)
                    return
                except (AttributeError, KeyError, TypeError, ValueError) as error:
                    failed.append(Unavailable(f"what Consul says of {name} makes no sense: {error!r}"))
                    return
            found.update((What(one.service, one.said.id), one) for one in instances)
            refused.update(problems)

        async with trio.open_nursery() as nursery:
            for name in sorted(names):
                nursery.start_soon(read, name)
        if failed:
            raise failed[0]
        for where, problem in refused.items():
            if self._refused.get(where) != problem:
                _log.warning("%s of Consul's catalogue is left out: %s", where, problem)
        self._refused = refused
        return found

    def _is_ours_to_keep(self, what: What) -> bool:
        """Whether nobody keeps it, and those who come before us have had their time to."""
        view, info = self._directory.reading.view, self._directory.info
        held = view.held(*what)
        server = None if held is None else view.servers.get(held.record.server)
        if held is not None and server is not None and server.incarnation == held.record.incarnation:
            self._missing.pop(what, None)
            return server.name == info.name
        since = self._missing.setdefault(what, trio.current_time())
        return trio.current_time() >= since + RANK_PAUSE * rank_of(info.name, list(view.servers))

    async def _put(self, what: What, one: Foreign, had: Foreign | None = None) -> None:
        instances = self._directory.instances
        if had is None or msgspec.structs.replace(had.said, health=one.said.health) != one.said:
            session = await instances.register(one.service, one.said, _TTL, is_held=True)
        else:
            session, _ = self._kept[what]
        await instances.report(one.service, one.said.id, one.said.health, one.note)
        self._kept[what] = session, one
