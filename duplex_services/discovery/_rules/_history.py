"""What has changed: the last changes of every service and of all, and what comes of several."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Sequence
from itertools import takewhile
from typing import Final

import msgspec

from duplex_services.discovery._model import Change, Instance, Kind

#: Kinds of changes that are of an instance, not of its service.
_OF_INSTANCES: Final = frozenset({"up", "update", "down"})

#: Services of which changes are kept before those that are gone are forgotten.
_MANY: Final = 10_000

_NONE: Final[deque[Change]] = deque()


class History:
    """The last changes.

    Each service has some of its own, so that who follows a quiet one loses nothing by what happens to a busy one.

    Args:
        most: changes that are kept of all services.
        most_of_one: and of each.
    """

    def __init__(self, *, most: int = 10_000, most_of_one: int = 1_000) -> None:
        self._all: deque[Change] = deque()
        self._of: dict[str, deque[Change]] = {}
        self._forgotten: dict[str, int] = {}
        self._most = most
        self._most_of_one = most_of_one
        self._begun = 0
        self._pruned = 0
        #: The index of the last change that is not kept any more.
        self.forgotten = 0
        self.forgotten_at = 0.0

    def begin(self, index: int, at: float) -> None:
        """Forget all: what is known up to this index did not come as changes."""
        self._all.clear()
        self._of.clear()
        self._forgotten.clear()
        self._begun = self.forgotten = index
        self._pruned = 0
        self.forgotten_at = at

    def add(self, change: Change) -> None:
        """Keep a change, whose index is higher than that of all others."""
        self._all.append(change)
        own = self._of.setdefault(change.service, deque())
        own.append(change)
        if len(own) > self._most_of_one:
            self._forgotten[change.service] = own.popleft().index
        if len(self._all) > self._most:
            oldest = self._all.popleft()
            self.forgotten, self.forgotten_at = oldest.index, oldest.at

    def prune(self, known: Container[str]) -> None:
        """Forget the services that are gone, if there are very many."""
        if len(self._of) <= _MANY:
            return
        for service in [name for name in self._of if name not in known]:
            self._pruned = max(self._pruned, self._of.pop(service)[-1].index)
            self._forgotten.pop(service, None)

    def since(self, service: str, index: int) -> list[Change] | None:
        """Return the changes after an index, in order; ``None`` if some are not kept any more.

        Args:
            service: of which service; empty for all.
            index: of the last change that is known.
        """
        own = self._of.get(service, _NONE) if service else self._all
        if index < self.forgotten_of(service):
            return None
        found = list(takewhile(lambda change: change.index > index, reversed(own)))
        found.reverse()
        return found

    def forgotten_of(self, service: str) -> int:
        """Return the index of the last change of a service that is not kept any more; empty: of any."""
        if not service:
            return self.forgotten
        return self._forgotten.get(service, max(self._begun, self._pruned))

    def index_at(self, at: float) -> int | None:
        """Return the index of the last change up to a time, in seconds since 1970; ``None`` if that is forgotten."""
        if at < self.forgotten_at:
            return None
        found = self.forgotten
        for change in self._all:
            if change.at > at:
                break
            found = change.index
        return found

    def last_of(self, service: str, id: str, most: int) -> tuple[Change, ...]:
        """Return the last changes of an instance."""
        found = [
            change
            for change in self._of.get(service, ())
            if change.id == id and change.kind in _OF_INSTANCES | {"leader"}
        ]
        return tuple(found[-most:])


def net(changes: Sequence[Change]) -> tuple[Change, ...]:
    """Merge the changes of each instance, and of each other thing, into one, or none if it is again as it was."""
    if len(changes) < 2:
        return tuple(changes)
    firsts: dict[tuple[str, str], Change] = {}
    lasts: dict[tuple[str, str], Change] = {}
    for change in changes:
        what = change.service, f"/{change.id}" if change.kind in _OF_INSTANCES else change.kind
        firsts.setdefault(what, change)
        # The order is that of the last changes.
        lasts.pop(what, None)
        lasts[what] = change
    if len(lasts) == len(changes):
        return tuple(changes)
    merged = (_merged(firsts[what], last) for what, last in lasts.items())
    return tuple(change for change in merged if change is not None)


def _merged(first: Change, last: Change) -> Change | None:
    if first is last or last.kind not in _OF_INSTANCES:
        return last
    before, instance = first.before, last.instance
    if before == instance:
        return None
    return msgspec.structs.replace(last, kind=kind_of(before, instance), before=before)


def kind_of(before: Instance | None, instance: Instance | None) -> Kind:
    """Return what kind of change it is from one to the other."""
    if before is None:
        return "up"
    return "down" if instance is None else "update"
