"""What a ZooKeeper store holds, in memory, as of one revision. No I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

from duplex_services.store._backend import SENTINEL, Changes, Listing
from duplex_services.store._backends._zookeeper_words import Head
from duplex_services.store._model import Entry

#: Commits whose keys are remembered for who follows.
_REMEMBERED: Final = 4096


class Mirror:
    """Entries, and what changed last.

    Attributes:
        head: as of which commit.
        version: of the node of the head.
        life: tells the node of the head from another one in its place; 0 while nothing is known.
        entries: by key.
        leases: keys by their lease.
    """

    def __init__(self) -> None:
        self.head = Head(0)
        self.version = 0
        self.life = 0
        self.entries: dict[str, Entry] = {}
        self.leases: dict[str, set[str]] = {}
        self._log: deque[tuple[int, tuple[str, ...]]] = deque(maxlen=_REMEMBERED)
        self._forgotten = 0

    @property
    def revision(self) -> int:
        """As of which revision this is."""
        return self.head.revision

    def load(self, entries: Mapping[str, Entry | None], head: Head, version: int, life: int) -> None:
        """Begin anew with all that there is."""
        self.entries.clear()
        self.leases.clear()
        self._log.clear()
        self._forgotten = head.revision
        self.life = life
        self._take(entries, head, version)

    def advance(self, changes: Mapping[str, Entry | None], head: Head, version: int) -> None:
        """Take in what changed, ``None`` for what is gone."""
        if len(self._log) == _REMEMBERED:
            self._forgotten = self._log[0][0]
        self._log.append((head.revision, tuple(changes)))
        self._take(changes, head, version)

    def _take(self, changes: Mapping[str, Entry | None], head: Head, version: int) -> None:
        for key, entry in changes.items():
            old = self.entries.pop(key, None)
            if old is not None and old.lease is not None:
                self.leases[old.lease].discard(key)
                if not self.leases[old.lease]:
                    del self.leases[old.lease]
            if entry is not None:
                self.entries[key] = entry
                if entry.lease is not None:
                    self.leases.setdefault(entry.lease, set()).add(key)
        self.head = head
        self.version = version

    def forget(self) -> None:
        """Let everything be read anew."""
        self.life = 0

    def listing(self, prefix: str) -> Listing:
        """Return what is under a prefix."""
        found = tuple(entry for key, entry in self.entries.items() if key.startswith(prefix))
        return Listing(found, self.revision, self.entries.get(SENTINEL))

    def changes_since(self, revision: int) -> Changes | None:
        """Return what changed since a revision, ``None`` if that is not known any more."""
        if not self._forgotten <= revision <= self.revision:
            return None
        keys: dict[str, None] = {}
        for step, changed in reversed(self._log):
            if step <= revision:
                break
            keys.update(dict.fromkeys(changed))
        puts = tuple(self.entries[key] for key in keys if key in self.entries)
        return Changes(puts, tuple(key for key in keys if key not in self.entries), self.revision)
