"""The view: all that is known of the directory, in memory, as it comes from the store.

It is a function of what it was given: updates of the store's watch, and the time. Every answer of discovery comes from one,
and goes on coming while the store is away. A full update is a difference like any other, but what it says to be gone may only
be gone from a store that was replaced or put back, so if that is much it is *suspect* first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from duplex_services.discovery._model import (
    Change,
    Instance,
    Leader,
    Position,
    ServiceConfig,
    ServiceInfo,
)
from duplex_services.discovery._rules._history import History, net
from duplex_services.discovery._rules._holding import DEFAULT_CONFIG, Held
from duplex_services.discovery._rules._keys import read_key
from duplex_services.discovery._rules._state import State
from duplex_services.discovery._rules._steps import Step
from duplex_services.store import Update

#: Positions from which what has changed is kept, for the next one who asks. They are as many as somebody likes.
_MOST_CAUGHT_UP: Final = 4096

#: Changes that are told as such; of more, the state is told instead. It bounds what a slow watcher costs.
_MOST_MERGED: Final = 2000


class View:
    """All that is known of the directory.

    Args:
        origin: names this view; its indexes mean nothing to others.
        history: the changes that it is to keep.
    """

    def __init__(self, origin: str, history: History | None = None) -> None:
        self.origin = origin
        self._state = state = State(history or History())
        #: Servers of discovery that live, by name.
        self.servers = state.servers
        #: Instances that no living server keeps, and since when.
        self.orphans = state.orphans
        #: Instances that have vanished in a way that says little, and until when they stay.
        self.suspects = state.suspects
        #: Instances that were deregistered but are still in the store.
        self.withdrawn = state.withdrawn
        #: Keys whose values make no sense.
        self.unreadable = state.unreadable
        #: Called with the changes of each step, if there are any.
        self.on_changes: Callable[[list[Change]], None] | None = None
        self._history = state.history
        self._services = state.services
        self._caught_up: dict[tuple[str, int], tuple[Change, ...] | None] = {}

    @property
    def index(self) -> int:
        """Of the last change."""
        return self._state.index

    @property
    def revision(self) -> int:
        """The store's, which this goes up to."""
        return self._state.revision

    @property
    def epoch(self) -> str:
        """Which life of the store this was read from; empty while nothing was read."""
        return self._state.epoch

    # ------------------------------------------------------------------------------------------ lookups

    def __len__(self) -> int:
        return self._state.count

    @property
    def count_of_services(self) -> int:
        """How many services there are."""
        return len(self._services)

    def instances(self, service: str) -> tuple[Instance, ...]:
        """Return the instances of a service that serve, the oldest first."""
        found = self._services.get(service)
        return () if found is None else found.serving

    def all_instances(self, service: str) -> tuple[Instance, ...]:
        """Return all instances of a service, in whatever state, the oldest first."""
        found = self._services.get(service)
        return () if found is None else found.all

    def instance(self, service: str, id: str) -> Instance | None:
        """Return an instance."""
        held = self.held(service, id)
        return None if held is None else held.instance

    def held(self, service: str, id: str) -> Held | None:
        """Return an instance with what is in the store for it."""
        return self._state.held(service, id)

    def all_held(self) -> Iterator[Held]:
        """Return all instances of all services."""
        return self._state.all_held()

    def services(self) -> tuple[str, ...]:
        """Return the names of all services, sorted."""
        return tuple(sorted(self._services))

    def __contains__(self, service: str) -> bool:
        return service in self._services

    def service(self, name: str) -> ServiceInfo | None:
        """Return what is known of a service; ``None`` if there is no such service."""
        found = self._services.get(name)
        if found is None:
            return None
        return ServiceInfo(
            name,
            found.config,
            found.config_index,
            found.metadata,
            len(found.serving),
            len(found.held),
            self.leader(name),
        )

    def config(self, service: str) -> ServiceConfig:
        """Return how a service is treated, even one that has no instances."""
        found = self._services.get(service)
        return DEFAULT_CONFIG if found is None else found.config

    def leader(self, service: str) -> Leader | None:
        """Return who leads a service."""
        found = self._services.get(service)
        if found is None or not found.leader:
            return None
        held = found.held.get(found.leader_id)
        return Leader(found.leader_id, found.leader, self.epoch, None if held is None else held.instance)

    def orphans_of(self, instances: Iterable[Instance]) -> tuple[str, ...]:
        """Return the ids of those instances that no living server keeps."""
        if not self.orphans:
            return ()
        return tuple(one.id for one in instances if (one.service, one.id) in self.orphans)

    def modified_of(self, key: str) -> int:
        """Return the revision that put what is in the store under a key of discovery's, as far as is known; 0 if nothing is."""
        bad = self.unreadable.get(key)
        if bad is not None:
            return bad.modified
        where = read_key(key)
        if where.place == "instance":
            what = where.name, where.id
            held = self.withdrawn.get(what) or self.held(*what)
            return 0 if held is None or what in self.suspects else held.modified
        found = self._services.get(where.name)
        if found is None:
            return 0
        if where.place == "leader":
            return found.leader
        if where.place == "config":
            return found.config_index
        return 0 if found.metadata is None else found.metadata.index

    # ------------------------------------------------------------------------------------------ changes

    def catch_up(self, service: str, after: Position | None) -> tuple[bool, Iterable[Change]]:
        """Return what somebody has to be told who was told all up to a position.

        Args:
            service: of which service; empty for all.
            after: what was told before; ``None`` for nothing.

        Returns:
            Whether it is all there is, because the position is no help, or so much has changed; and the changes, merged.
        """
        if after is not None and after.origin == self.origin and after.index <= self.index:
            what = service, after.index
            if what not in self._caught_up:
                if len(self._caught_up) >= _MOST_CAUGHT_UP:
                    self._caught_up.clear()
                self._caught_up[what] = self._difference(service, after.index)
            found = self._caught_up[what]
            if found is not None:
                return False, found
        return True, self.state(service)

    def _difference(self, service: str, index: int) -> tuple[Change, ...] | None:
        changes = self._history.since(service, index)
        merged = None if changes is None else net(changes)
        return None if merged is None or len(merged) > _MOST_MERGED else merged

    def state(self, service: str) -> Iterator[Change]:
        """Return all there is now, as changes from nothing: of each service its configuration, instances, leader, metadata.

        The view may change while they are taken; what they tell does not.
        """
        names = self.services() if not service else (service,) if service in self._services else ()
        index, at = self.index, self._state.at
        parts = []
        for name in names:
            found = self._services[name]
            config = found.config if found.config_index else None
            parts.append((name, config, found.all, self.leader(name), found.metadata))

        def tell() -> Iterator[Change]:
            for name, config, instances, leader, metadata in parts:
                if config is not None:
                    yield Change(index, at, "config", name, "", config=config)
                for instance in instances:
                    yield Change(index, at, "up", name, instance.id, instance)
                if leader is not None:
                    yield Change(index, at, "leader", name, leader.id, leader=leader)
                if metadata is not None:
                    yield Change(index, at, "metadata", name, "", metadata=metadata)

        return tell()

    def diff(self, service: str, first: int, last: int) -> tuple[Change, ...] | None:
        """Return what became different between two indexes; ``None`` if that is not remembered any more."""
        changes = self._history.since(service, first)
        return None if changes is None else net([change for change in changes if change.index <= last])

    def index_at(self, at: float) -> int | None:
        """Return the index at a time, in seconds since 1970; ``None`` if that is not remembered any more."""
        return self._history.index_at(at)

    def remembered(self, service: str) -> int:
        """Return the index since which all changes of a service are remembered; empty: those of all."""
        return self._history.forgotten_of(service)

    def last_changes(self, service: str, id: str, most: int = 10) -> tuple[Change, ...]:
        """Return the last changes of an instance that are remembered."""
        return self._history.last_of(service, id, most)

    # ------------------------------------------------------------------------------------------ updates

    def expect(self, service: str, id: str, why: str) -> None:
        """Note that an instance is about to be deleted by this server, and why: then it is never suspect."""
        self._state.expected[service, id] = why

    def forgo(self, service: str, id: str) -> None:
        """Note that it was not deleted after all."""
        self._state.expected.pop((service, id), None)

    def apply(self, update: Update, now: float, at: float) -> list[Change]:
        """Take an update of the store in.

        Args:
            update: of the watch of all keys of discovery's.
            now: the time by which suspects go, which never jumps.
            at: the time of the day, in seconds since 1970.

        Returns:
            What has changed.
        """
        if not update.epoch:
            return []
        step = Step(
            self._state, now, at, is_first=not self.epoch, other_epoch=update.epoch not in ("", self.epoch)
        )
        step.take(update)
        self._state.epoch = update.epoch
        self._state.revision = update.revision
        return self._end(step)

    def tick(self, now: float, at: float) -> list[Change]:
        """Let go of what has been suspect for long enough. Returns what has changed."""
        step = Step(self._state, now, at)
        for what, until in list(self.suspects.items()):
            if until <= now:
                step.remove(*what, why="vanished from the store, and nobody registered it again in time")
        return self._end(step)

    def _end(self, step: Step) -> list[Change]:
        if step.is_first:
            # What was there before is no change.
            self._history.begin(self.index, self._state.at)
        if not step.changes:
            return []
        self._caught_up.clear()
        self._history.prune(self._services)
        if self.on_changes is not None:
            self.on_changes(step.changes)
        return step.changes
