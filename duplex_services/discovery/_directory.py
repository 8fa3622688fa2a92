"""The directory over a store: what is known, who registers, what is kept of services, and one loop that follows the store."""

from __future__ import annotations

import contextlib
import logging
import secrets
import time
from collections.abc import Sequence
from typing import Final

import msgspec
import trio

import duplex
from duplex_services.discovery._checking import Checker
from duplex_services.discovery._model import ServerInfo
from duplex_services.discovery._presence import Presence, superseded
from duplex_services.discovery._reading import Freshness, Reading
from duplex_services.discovery._registrations import Registrations
from duplex_services.discovery._rules._keys import PREFIX, read_key
from duplex_services.discovery._rules._liveness import What
from duplex_services.discovery._rules._plans import Owner
from duplex_services.discovery._rules._view import View
from duplex_services.discovery._services import Services
from duplex_services.discovery._writing import Writer
from duplex_services.store import Denied, Store, Update

_log: Final = logging.getLogger("duplex")


class Directory:
    """A server of discovery. :func:`open_directory` makes it; any number of tasks may use it at once.

    Attributes:
        info: which server this is.
        reading: for all questions, which are answered from memory.
        instances: to register, deregister, and say how instances are.
        services: to configure services.
    """

    def __init__(self, store: Store, info: ServerInfo, presence: Presence, max_entries: int) -> None:
        self.info = info
        self._presence = presence
        self._store = store
        self._view = View(secrets.token_hex(8))
        self._freshness = Freshness()
        self._writer = Writer(store, self._view, max_entries)
        self.instances = Registrations(self._view, self._writer, Owner(info.name, info.incarnation))
        self.services = Services(self._view, self._writer, self.instances)
        self.reading = Reading(self._view, self._fresh, self.instances.here)
        self._keeper = self.instances.keeper
        self._checker = Checker(self._view, self.instances, info.name)
        self._trouble = ""
        self._is_announced = False
        self._stale_since: float | None = None

    def __repr__(self) -> str:
        return f"<Directory {self.info.name} over {self._store.address}>"

    @property
    def commits(self) -> int:
        """Commits that were sent to the store for what others asked and what this server keeps."""
        return self._writer.commits

    @property
    def checked(self) -> int:
        """Instances whose health this server checks."""
        return self._checker.checked

    def announce(self, endpoints: Sequence[str]) -> None:
        """Have the others told where this server is reached, as soon as the store takes it.

        Args:
            endpoints: all of them, instead of those that were told before.
        """
        self.info = msgspec.structs.replace(self.info, endpoints=tuple(endpoints))
        self._presence.say(self.info)

    async def run(self, nursery: trio.Nursery, *, checks: bool, tls: duplex.TLS | None) -> None:
        """Follow the store, and keep it as it should be."""
        nursery.start_soon(self._follow)
        nursery.start_soon(self._presence.run)
        nursery.start_soon(self._keeper.run, self._is_fresh, self._tick)
        await self.reading.known()
        await self._presence.announced.wait()
        if checks:
            nursery.start_soon(self._checker.run, tls)

    async def _follow(self) -> None:
        async with self._store.watch(PREFIX) as updates:
            async for update in updates:
                trouble = updates.trouble
                self._trouble = "" if trouble is None else trouble.message
                if isinstance(trouble, Denied):
                    _log.warning("%r cannot read its store: %s", self, trouble)
                was_fresh, self._stale_since = self._is_fresh(), update.stale_since
                self._take(update)
                if was_fresh != self._is_fresh():
                    self.reading.turned()

    def _take(self, update: Update) -> None:
        changes = self._view.apply(update, trio.current_time(), time.time())
        self._keeper.note(changes)
        for key in (*(entry.key for entry in update.puts), *update.deletes):
            with contextlib.suppress(ValueError):
                where = read_key(key)
                what = What(where.name, where.id)
                if where.place == "instance":
                    self._keeper.look_at(what)
        self._writer.moved()
        if self._view.epoch:
            self.reading.now_known()
        here = self._view.servers.get(self.info.name)
        if here is not None and here.incarnation == self.info.incarnation:
            self._is_announced = True
        elif here is not None and self._is_announced:
            raise superseded(self.info.name)

    def _tick(self) -> None:
        self._keeper.note(self._view.tick(trio.current_time(), time.time()))

    def _is_fresh(self) -> bool:
        return self._stale_since is None and bool(self._view.epoch)

    def _fresh(self) -> Freshness:
        freshness = self._freshness
        freshness.confirmed = self._store.statistics().confirmed
        freshness.stale = not self._is_fresh()
        freshness.trouble = self._trouble if freshness.stale else ""
        return freshness
