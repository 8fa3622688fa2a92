"""Consul's catalogue beside the directory: what this server keeps is registered with its agent, so that Consul's own DNS, clients and
pages see the same services.

The directory itself is in Consul's key-value store, whose compare-and-set the catalogue has not. A loop compares what the agent has with
what it should have, and registers the difference with the agent that owns it: what goes around it would come back, or vanish, as soon
as the agent compares itself with the catalogue.
"""

from __future__ import annotations

import logging
import math
import urllib.parse
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Final

import trio

from duplex_services.discovery._directory import Directory
from duplex_services.discovery._locks import Locks
from duplex_services.discovery._rules._catalogue import (
    REFRESH,
    Lead,
    Listed,
    Said,
    by_id,
    difference,
    lead_of,
    listed,
    read_agent,
    registration,
    said_of,
)
from duplex_services.store import StoreError, Unavailable, Unknown

if TYPE_CHECKING:
    from duplex_services.store.consul import ConsulApi

_log: Final = logging.getLogger("duplex")

#: Seconds between two comparisons, at least; and until one that nothing asks for, as others change what the agent has.
_LEAST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0
#: How long the pause after a comparison is, as a multiple of the time that it took.
_RESTS: Final = 4.0
#: Seconds after which what failed is tried again.
_REST: Final = 1.0
_AT_ONCE: Final = 8


class Catalogue:
    """Keeps what the agent has as it should be.

    Args:
        directory: of this server.
        api: of Consul.
        root: names the directory.
    """

    def __init__(self, directory: Directory, api: ConsulApi, root: str) -> None:
        self._directory = directory
        self._api = api
        self._root = root
        self._node = ""
        self._said: dict[str, tuple[Said, float]] = {}
        self._limit = trio.CapacityLimiter(_AT_ONCE)
        self._is_away = False
        self._locks = Locks(api)
        #: Who leads of those that this server keeps.
        self._leads: dict[str, Lead] = {}
        #: What the agent had of ours when it was last there.
        self._there: dict[str, Listed] = {}

    async def run(self) -> None:
        """Compare until cancelled."""
        while True:
            index = self._directory.reading.view.index
            began = trio.current_time()
            try:
                await self._compare()
                # With thousands of services a comparison takes its time, and is not to be all that is done.
                rest = max(_LEAST_PAUSE, _RESTS * (trio.current_time() - began))
                if self._is_away:
                    self._is_away = False
                    _log.warning("Consul's catalogue is as it should be again")
            except StoreError as error:
                rest = _REST
                if not self._is_away:
                    self._is_away = True
                    _log.warning("Consul's catalogue is not as it should be: %s", error)
                if isinstance(error, (Unavailable, Unknown)):
                    await self._remove_elsewhere()
            await trio.sleep(rest)
            with trio.move_on_after(_LONGEST_PAUSE):
                while self._directory.reading.view.index == index:
                    await self._directory.reading.news("")

    def _wanted(self) -> Iterator[tuple[Listed, Said]]:
        info, view = self._directory.info, self._directory.reading.view
        self._leads = {}
        for held in view.all_held():
            record, one = held.record, held.instance
            if (record.server, record.incarnation) != (info.name, info.incarnation):
                continue
            leader = view.leader(one.service)
            leads = leader is not None and leader.id == one.id
            found = listed(one, self._root, info.name, leads=leads)
            if found is None:
                continue
            if leader is not None and leads and one.serves:
                self._leads[one.service] = lead_of(found, one.id, leader.fence, self._root)
            yield found, said_of(one)

    async def _compare(self) -> None:
        if not self._node:
            self._node = (await self._api.ask_agent("GET", "/v1/agent/self"))["Config"]["NodeName"]
        services = await self._api.ask_agent("GET", "/v1/agent/services")
        self._there = read_agent(services, self._root, self._directory.info.name)
        if not self._directory.reading.is_known or self._directory.reading.status().stale:
            # What is not known is no reason to deregister anybody.
            return
        wanted, said = by_id(self._wanted())
        puts, deletes = difference(wanted, self._there)
        for id in self._said.keys() - wanted.keys():
            del self._said[id]
        await self._all([self._register(one, said[one.id]) for one in puts])
        await self._all([self._deregister(id) for id in deletes])
        now = trio.current_time()
        due = [id for id, how in said.items() if self._is_due(id, how, now)]
        await self._all([self._say(id, said[id]) for id in due])
        # Consul gives no session to a check that it has not yet, or that fails.
        await self._locks.compare(self._leads)

    def _is_due(self, id: str, how: Said, now: float) -> bool:
        last, at = self._said.get(id, (None, -math.inf))
        return last != how or now >= at + REFRESH

    def _register(self, one: Listed, how: Said) -> Callable[[], Awaitable[None]]:
        async def register() -> None:
            await self._api.ask_agent("PUT", "/v1/agent/service/register", registration(one, how))
            self._said.pop(one.id, None)
            self._there[one.id] = one

        return register

    def _deregister(self, id: str) -> Callable[[], Awaitable[None]]:
        async def deregister() -> None:
            await self._api.ask_agent(
                "PUT", f"/v1/agent/service/deregister/{urllib.parse.quote(id, safe='')}"
            )
            self._there.pop(id, None)

        return deregister

    def _say(self, id: str, how: Said) -> Callable[[], Awaitable[None]]:
        async def say() -> None:
            body = {"Status": how.status, "Output": how.output}
            await self._api.ask_agent(
                "PUT", f"/v1/agent/check/update/{urllib.parse.quote(id, safe='')}", body
            )
            self._said[id] = how, trio.current_time()

        return say

    async def _all(self, actions: list[Callable[[], Awaitable[None]]]) -> None:
        """Do some things, few at a time; the first error is raised when the others are done."""
        failed: list[StoreError] = []

        async def do(action: Callable[[], Awaitable[None]]) -> None:
            async with self._limit:
                try:
                    await action()
                except StoreError as error:
                    failed.append(error)

        async with trio.open_nursery() as nursery:
            for action in actions:
                nursery.start_soon(do, action)
        if failed:
            raise failed[0]

    async def _remove_elsewhere(self) -> None:
        """Take out of the catalogue what is gone while the agent is. If that comes back it has it again, until the next comparison."""
        if not self._node or not self._directory.reading.is_known or self._directory.reading.status().stale:
            return
        wanted, _ = by_id(self._wanted())
        for id in [id for id in self._there if id not in wanted]:
            try:
                await self._api.ask_others(
                    "PUT", "/v1/catalog/deregister", {"Node": self._node, "ServiceID": id}
                )
            except StoreError as error:
                _log.info("%s stays in Consul's catalogue until its agent is back: %s", id, error)
                return
            self._there.pop(id, None)
            _log.warning("%s was taken out of Consul's catalogue by another host, as its agent is away", id)
