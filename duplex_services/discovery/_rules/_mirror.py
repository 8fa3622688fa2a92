"""What a follower knows of a service, from the batches of any server, in any order of failures."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from duplex_services.discovery._model import (
    Batch,
    Change,
    Instance,
    Leader,
    Metadata,
    Position,
    ServiceConfig,
)
from duplex_services.discovery._rules._history import kind_of

_K = TypeVar("_K")
_V = TypeVar("_V")


class Mirror:
    """The instances, leaders, configurations and metadata that were told, and what each batch changes of them.

    A batch that begins anew is a difference too: what it does not have is gone.

    Args:
        is_partial: what was told before the first batch was told to somebody else, and is not known here.
    """

    def __init__(self, *, is_partial: bool = False) -> None:
        self.instances: dict[tuple[str, str], Instance] = {}
        self.leaders: dict[str, Leader] = {}
        self.configs: dict[str, ServiceConfig] = {}
        self.metadata: dict[str, Metadata] = {}
        #: From where to go on; ``None`` while there is nothing to go on from.
        self.position: Position | None = None
        #: Not all that was told is known here: so it is until all begins anew.
        self.is_partial = is_partial
        self._new: Mirror | None = None

    def take(self, batch: Batch) -> list[Change]:
        """Take a batch in, and return what it changes of what was known before."""
        if batch.reset:
            self._new = Mirror()
            if self.is_partial:
                # There is nothing to tell a difference from.
                self._forget()
        if self._new is None:
            # Of what is not known here a change is one all the same.
            changes = [change for change in batch.changes if self._put(change) or self.is_partial]
        else:
            for change in batch.changes:
                self._new._put(change)
            changes = []
            if batch.current:
                changes = self._become(self._new, batch)
                self._new = None
        if batch.current:
            self.position = Position(batch.status.origin, batch.status.as_of)
        return changes

    def lost(self) -> None:
        """Note that the server was lost: half of a state is none."""
        self._new = None

    def _forget(self) -> None:
        self.instances, self.leaders, self.configs, self.metadata = {}, {}, {}, {}
        self.is_partial = False

    def _put(self, change: Change) -> bool:
        """Take a change in. Tells whether it was one."""
        key = change.service, change.id
        if change.kind == "leader":
            return _set(self.leaders, change.service, change.leader)
        if change.kind == "config":
            return _set(self.configs, change.service, change.config)
        if change.kind == "metadata":
            return _set(self.metadata, change.service, change.metadata)
        return _set(self.instances, key, change.instance)

    def _become(self, new: Mirror, batch: Batch) -> list[Change]:
        index, at = batch.status.as_of, max((change.at for change in batch.changes), default=0.0)
        changes: list[Change] = []
        for service in sorted(self.configs.keys() | new.configs.keys()):
            config = new.configs.get(service)
            if config != self.configs.get(service):
                changes.append(Change(index, at, "config", service, "", config=config or ServiceConfig()))
        for key in [*(self.instances.keys() - new.instances.keys()), *new.instances]:
            before, instance = self.instances.get(key), new.instances.get(key)
            if before != instance:
                kind = kind_of(before, instance)
                changes.append(Change(index, at, kind, *key, instance, before))
        for service in sorted(self.leaders.keys() | new.leaders.keys()):
            leader = new.leaders.get(service)
            if _brief(leader) != _brief(self.leaders.get(service)):
                id = "" if leader is None else leader.id
                changes.append(Change(index, at, "leader", service, id, leader=leader))
        for service in sorted(self.metadata.keys() | new.metadata.keys()):
            metadata = new.metadata.get(service)
            if metadata != self.metadata.get(service):
                changes.append(Change(index, at, "metadata", service, "", metadata=metadata))
        self.instances, self.leaders = new.instances, new.leaders
        self.configs, self.metadata = new.configs, new.metadata
        return changes


def _brief(leader: Leader | None) -> Leader | None:
    """Return who leads without what else is known of the instance, which is told by itself."""
    return None if leader is None else msgspec.structs.replace(leader, instance=None)


def _set(known: dict[_K, _V], key: _K, value: _V | None) -> bool:
    before = known.get(key)
    if value is None:
        known.pop(key, None)
    else:
        known[key] = value
    return before != value
