"""What is held of a service: its instances with what is in the store for them, and the tuples that lookups return."""

from __future__ import annotations

from typing import Final

import msgspec

from duplex_services.discovery._model import SERVING, Instance, Metadata, Record, ServiceConfig, State

DEFAULT_CONFIG: Final = ServiceConfig()


class Held(msgspec.Struct, frozen=True, gc=False):
    """An instance, and what is in the store for it.

    Attributes:
        instance: as others see it.
        record: as it is kept.
        modified: the revision that put the record, for the next change.
    """

    instance: Instance
    record: Record
    modified: int


class Unreadable(msgspec.Struct, frozen=True):
    """A value in the store that makes no sense.

    Attributes:
        why: what is wrong with it.
        modified: the revision that put it.
    """

    why: str
    modified: int


class ServiceView:
    """A service. Only the view changes it."""

    __slots__ = (
        "_all",
        "_serving",
        "config",
        "config_index",
        "held",
        "leader",
        "leader_id",
        "metadata",
    )

    def __init__(self) -> None:
        self.held: dict[str, Held] = {}
        self.config = DEFAULT_CONFIG
        self.config_index = 0
        self.metadata: Metadata | None = None
        self.leader_id = ""
        #: The revision that made the leader, which is its fence.
        self.leader = 0
        self._all: tuple[Instance, ...] | None = ()
        self._serving: tuple[Instance, ...] | None = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known of it any more."""
        return not (self.held or self.config_index or self.metadata or self.leader)

    @property
    def all(self) -> tuple[Instance, ...]:
        """All instances, the oldest first."""
        found = self._all
        if found is None:
            found = tuple(sorted((held.instance for held in self.held.values()), key=_age))
            self._all = found
        return found

    @property
    def serving(self) -> tuple[Instance, ...]:
        """Those that serve, the oldest first."""
        found = self._serving
        if found is None:
            found = tuple(instance for instance in self.all if instance.state in SERVING)
            self._serving = found
        return found

    def hold(self, id: str, held: Held | None) -> None:
        """Have an instance, or not any more."""
        if held is None:
            del self.held[id]
        else:
            self.held[id] = held
        self._all = self._serving = None


def _age(instance: Instance) -> tuple[int, str]:
    return instance.index, instance.id


def instance_of(service: str, id: str, record: Record, created: int) -> Instance:
    """Return what others see of a record."""
    state: State = record.mode or record.health
    return Instance(
        service,
        id,
        record.endpoint,
        record.host,
        record.port,
        record.protocol,
        record.metadata,
        record.weight,
        record.zone,
        state,
        record.mode_note if record.mode else record.note,
        created,
        record.ttl,
    )
