"""What a view knows, as data: a step changes it, and the view answers from it."""

from __future__ import annotations

from collections.abc import Iterator

from duplex_services.discovery._model import ServerInfo
from duplex_services.discovery._rules._history import History
from duplex_services.discovery._rules._holding import Held, ServiceView, Unreadable


class State:
    """All that is known of the directory. The dicts stay the same ones.

    Args:
        history: the changes that are to be kept.

    Attributes:
        index: of the last change.
        revision: the store's, which it goes up to.
        epoch: which life of the store it was read from; empty while nothing was read.
        at: the time of the last step, in seconds since 1970; it never goes back.
        count: how many instances there are.
        services: all of them, by name.
        servers: those of discovery that live, by name.
        orphans: instances that no living server keeps, and since when.
        suspects: instances that have vanished in a way that says little, and until when they stay.
        withdrawn: instances that were deregistered but are still in the store.
        unreadable: keys whose values make no sense.
        expected: instances that this server is about to delete, and why.
    """

    def __init__(self, history: History) -> None:
        self.history = history
        self.index = 0
        self.revision = 0
        self.epoch = ""
        self.at = 0.0
        self.count = 0
        self.services: dict[str, ServiceView] = {}
        self.servers: dict[str, ServerInfo] = {}
        self.orphans: dict[tuple[str, str], float] = {}
        self.suspects: dict[tuple[str, str], float] = {}
        self.withdrawn: dict[tuple[str, str], Held] = {}
        self.unreadable: dict[str, Unreadable] = {}
        self.expected: dict[tuple[str, str], str] = {}

    def held(self, service: str, id: str) -> Held | None:
        """Return an instance with what is in the store for it."""
        found = self.services.get(service)
        return None if found is None else found.held.get(id)

    def all_held(self) -> Iterator[Held]:
        """Return all instances of all services."""
        return (held for service in self.services.values() for held in service.held.values())
