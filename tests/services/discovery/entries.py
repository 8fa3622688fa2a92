"""What a store would tell, made by hand: entries of discovery's, and updates of a watch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from duplex_services.discovery._model import LeaderRecord, Record, ServerInfo, ServiceConfig
from duplex_services.discovery._rules._keys import (
    config_key,
    encode,
    instance_key,
    leader_key,
    metadata_key,
    server_key,
)
from duplex_services.discovery._rules._view import View
from duplex_services.store import Entry, Update

RECORD = Record("here", "one", host="127.0.0.1", port=80)


def instance(id: str, revision: int, service: str = "web", created: int = 0, **fields: Any) -> Entry:
    record = msgspec.structs.replace(RECORD, **fields)
    return Entry(instance_key(service, id), encode(record), created or revision, revision)


def config(revision: int, service: str = "web", **fields: Any) -> Entry:
    return Entry(config_key(service), encode(ServiceConfig(**fields)), revision, revision)


def leader(id: str, revision: int, service: str = "web") -> Entry:
    return Entry(leader_key(service), encode(LeaderRecord(id)), revision, revision)


def metadata(data: Any, revision: int, service: str = "web") -> Entry:
    return Entry(metadata_key(service), msgspec.json.encode(data), revision, revision)


def server(name: str, incarnation: str, revision: int) -> Entry:
    return Entry(server_key(name), encode(ServerInfo(name, incarnation)), revision, revision)


def update(
    *puts: Entry, deletes: Iterable[str] = (), revision: int = 0, epoch: str = "e1", full: bool = False
) -> Update:
    newest = max((entry.modified for entry in puts), default=0)
    return Update(tuple(puts), tuple(deletes), revision or newest, epoch, full)


def gone(*ids: str, service: str = "web") -> list[str]:
    return [instance_key(service, id) for id in ids]


class Told:
    """A view that is told things, with a time of its own."""

    def __init__(self, origin: str = "v", **options: Any) -> None:
        self.view = View(origin, **options)
        self.now = 100.0
        self.at = 1_700_000_000.0

    def __call__(self, *puts: Entry, **options: Any) -> list[tuple[str, str]]:
        """Apply an update, and return the kind and the id of each change."""
        changes = self.view.apply(update(*puts, **options), self.now, self.at)
        return [(change.kind, change.id) for change in changes]

    def later(self, seconds: float) -> list[tuple[str, str]]:
        self.now += seconds
        self.at += seconds
        return [(change.kind, change.id) for change in self.view.tick(self.now, self.at)]
