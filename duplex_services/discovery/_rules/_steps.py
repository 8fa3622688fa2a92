"""One step of the view: from what was known, by an update of the store or by time, to what is known after it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

import msgspec

from duplex_services.discovery._model import Change, Instance, Kind, Leader, Metadata, Record, ServiceConfig
from duplex_services.discovery._rules._checking import read_service_metadata
from duplex_services.discovery._rules._history import kind_of
from duplex_services.discovery._rules._holding import (
    DEFAULT_CONFIG,
    Held,
    ServiceView,
    Unreadable,
    instance_of,
)
from duplex_services.discovery._rules._keys import (
    Where,
    read_config,
    read_key,
    read_leader,
    read_record,
    read_server,
)
from duplex_services.discovery._rules._state import State
from duplex_services.store import Entry, Update

#: How long what is suspect stays, in TTLs.
_SUSPECT_TTLS: Final = 2.0

_T = TypeVar("_T")


class Step:
    """One step from what is known to the next.

    Args:
        state: what is known, which it changes.
        now: the time by which suspects go, which never jumps.
        at: the time of the day, in seconds since 1970.
        is_first: nothing was known before.
        other_epoch: what is known is of another life of the store.
    """

    def __init__(
        self, state: State, now: float, at: float, *, is_first: bool = False, other_epoch: bool = False
    ) -> None:
        self._state = state
        self.changes: list[Change] = []
        self.is_first = is_first
        self._now = now
        self._other_epoch = other_epoch
        # The time of the day may be put back.
        state.at = max(at, state.at)

    # -- the store's entries ------------------------------------------------------------------------------

    def take(self, update: Update) -> None:
        """Take puts and deletes in: configurations, instances, metadata, and at last leaders."""
        puts: dict[str, list[tuple[Where, Entry]]] = {}
        deletes: dict[str, list[Where]] = {}
        for entry in update.puts:
            where = self._where(entry.key, entry.modified)
            if where is not None:
                puts.setdefault(where.place, []).append((where, entry))
        for key in update.deletes:
            where = self._where(key, 0)
            self._state.unreadable.pop(key, None)
            if where is not None:
                deletes.setdefault(where.place, []).append(where)
        servers = self._servers(puts.get("server", ()), deletes.get("server", ()))
        for where in deletes.get("config", ()):
            self._config(where.name, None)
        for where, entry in puts.get("config", ()):
            self._config(where.name, entry)
        self._instances(puts.get("instance", ()), deletes.get("instance", ()), is_full=update.full)
        for where in deletes.get("metadata", ()):
            self._metadata(where.name, None)
        for where, entry in puts.get("metadata", ()):
            self._metadata(where.name, entry)
        for where in deletes.get("leader", ()):
            self._leader(where.name, None)
        for where, entry in puts.get("leader", ()):
            self._leader(where.name, entry)
        if servers:
            self._look_for_orphans()

    def _where(self, key: str, modified: int) -> Where | None:
        try:
            return read_key(key)
        except ValueError as error:
            self._state.unreadable[key] = Unreadable(str(error), modified)
            return None

    def _servers(self, puts: Iterable[tuple[Where, Entry]], deletes: Iterable[Where]) -> bool:
        state = self._state
        before = dict(state.servers)
        for where in deletes:
            state.servers.pop(where.name, None)
        for where, entry in puts:
            server = self._read(entry, read_server)
            if server is not None:
                state.servers[where.name] = server
        return state.servers != before

    def _instances(
        self, puts: Iterable[tuple[Where, Entry]], deletes: Iterable[Where], *, is_full: bool
    ) -> None:
        state = self._state
        gone = [where for where in deletes if state.held(where.name, where.id) is not None]
        doubtful = is_full and (self._other_epoch or len(gone) * 2 > state.count)
        for where in deletes:
            state.withdrawn.pop((where.name, where.id), None)
        for where in gone:
            why = state.expected.pop((where.name, where.id), None)
            if doubtful and why is None:
                self._suspect(where.name, where.id)
            else:
                self.remove(where.name, where.id, why=why or "deleted from the store")
        for where, entry in puts:
            record = self._read(entry, read_record)
            if record is not None:
                self._put(where.name, where.id, record, entry)

    def _put(self, service: str, id: str, record: Record, entry: Entry) -> None:
        state = self._state
        held = Held(instance_of(service, id, record, entry.created), record, entry.modified)
        if record.withdrawn:
            state.withdrawn[service, id] = held
            if state.held(service, id) is not None:
                self.remove(service, id, why=record.note or "deregistered")
            return
        state.withdrawn.pop((service, id), None)
        state.suspects.pop((service, id), None)
        self._hold(service, id, held, why="")
        self._look_for_orphan(service, id, record)

    def _suspect(self, service: str, id: str) -> None:
        """Keep an instance that is not in the store any more, for a time."""
        held = self._state.held(service, id)
        assert held is not None
        self._state.suspects[service, id] = self._now + _SUSPECT_TTLS * held.record.ttl
        instance = msgspec.structs.replace(held.instance, suspect=True)
        self._hold(
            service, id, msgspec.structs.replace(held, instance=instance), why="vanished from the store"
        )

    def _config(self, service: str, entry: Entry | None) -> None:
        config = DEFAULT_CONFIG
        if entry is not None:
            found = self._read(entry, read_config)
            if found is None:
                return
            config = found
        view = self._service(service)
        view.config = config
        view.config_index = 0 if entry is None else entry.modified
        self._note("config", service, config=config)
        self._tidy(service)

    def _metadata(self, service: str, entry: Entry | None) -> None:
        metadata = None
        if entry is not None:
            try:
                metadata = Metadata(read_service_metadata(entry.value), entry.modified)
            except ValueError as error:
                self._state.unreadable[entry.key] = Unreadable(str(error), entry.modified)
                return
            self._state.unreadable.pop(entry.key, None)
        self._service(service).metadata = metadata
        self._note("metadata", service, metadata=metadata)
        self._tidy(service)

    def _leader(self, service: str, entry: Entry | None) -> None:
        id = ""
        if entry is not None:
            found = self._read(entry, read_leader)
            if found is None:
                return
            id = found.id
        view = self._service(service)
        view.leader_id = id
        view.leader = 0 if entry is None else entry.modified
        leader = None
        if entry is not None:
            held = view.held.get(id)
            leader = Leader(id, entry.modified, self._state.epoch, None if held is None else held.instance)
        self._note("leader", service, id, leader=leader)
        self._tidy(service)

    def _read(self, entry: Entry, reader: Callable[[bytes], _T]) -> _T | None:
        """Read a value; one that makes no sense changes nothing, and is remembered."""
        try:
            value = reader(entry.value)
        except ValueError as error:
            self._state.unreadable[entry.key] = Unreadable(str(error), entry.modified)
            return None
        self._state.unreadable.pop(entry.key, None)
        return value

    # -- what comes of them -------------------------------------------------------------------------------

    def remove(self, service: str, id: str, *, why: str) -> None:
        """Have an instance no more."""
        self._state.suspects.pop((service, id), None)
        self._state.orphans.pop((service, id), None)
        self._hold(service, id, None, why=why)
        self._tidy(service)

    def _hold(self, service: str, id: str, held: Held | None, *, why: str) -> None:
        view = self._service(service)
        old = view.held.get(id)
        before = None if old is None else old.instance
        instance = None if held is None else held.instance
        if held is not None and before == instance and old is not None:
            # The old one is known to others already.
            held = msgspec.structs.replace(held, instance=old.instance)
            view.held[id] = held
            return
        view.hold(id, held)
        self._state.count += (held is not None) - (old is not None)
        self._note(kind_of(before, instance), service, id, instance, before, why)

    def _note(
        self,
        kind: Kind,
        service: str,
        id: str = "",
        instance: Instance | None = None,
        before: Instance | None = None,
        why: str = "",
        leader: Leader | None = None,
        config: ServiceConfig | None = None,
        metadata: Metadata | None = None,
    ) -> None:
        state = self._state
        state.index += 1
        change = Change(
            state.index, self._state.at, kind, service, id, instance, before, why, leader, config, metadata
        )
        self.changes.append(change)
        if not self.is_first:
            state.history.add(change)

    def _service(self, name: str) -> ServiceView:
        found = self._state.services.get(name)
        if found is None:
            found = self._state.services[name] = ServiceView()
        return found

    def _tidy(self, name: str) -> None:
        found = self._state.services.get(name)
        if found is not None and found.is_empty:
            del self._state.services[name]

    def _look_for_orphans(self) -> None:
        for held in self._state.all_held():
            self._look_for_orphan(held.instance.service, held.instance.id, held.record)

    def _look_for_orphan(self, service: str, id: str, record: Record) -> None:
        server = self._state.servers.get(record.server)
        if server is not None and server.incarnation == record.incarnation:
            self._state.orphans.pop((service, id), None)
        else:
            self._state.orphans.setdefault((service, id), self._now)
