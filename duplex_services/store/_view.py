"""What is known of the store, in memory, and its readers: one watch upstream, any number of them here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import trio

from duplex_services.store._model import Entry, StoreError, Update
from duplex_services.store._rules._keys import is_shown
from duplex_services.store._rules._views import to_tell

#: What a reader was told of a key in an epoch that is over: no revision of this one.
_OTHER_EPOCH = -1


class View:
    """The entries of the store as far as they are known, and what is known about that.

    Attributes:
        entries: by key; without writer's keys.
        revision: how far they go.
        epoch: which life of the store they are of; empty before anything is known.
        confirmed: when the store was asked, the last time that it had nothing newer; ``None`` for never.
        confirmed_by: the number of that question; 0 for none.
        stale_since: what :attr:`Update.stale_since` is to say.
        trouble: why nothing more is known.
    """

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.revision = 0
        self.epoch = ""
        self.confirmed: float | None = None
        self.confirmed_by = 0
        self.stale_since: float | None = None
        self.trouble: StoreError | None = None
        self._moved = trio.Event()
        self._readers: dict[str | None, set[Reader]] = {}

    @property
    def reader_count(self) -> int:
        """How many there are."""
        return sum(len(readers) for readers in self._readers.values())

    async def moved(self) -> None:
        """Wait until the revision changes."""
        await self._moved.wait()

    def move(
        self, changes: Mapping[str, Entry | None], revision: int, epoch: str, *, is_full: bool = False
    ) -> None:
        """Take changes in, and tell the readers whom they concern.

        Args:
            changes: entries by key, ``None`` for what is gone.
            revision: how far they go.
            epoch: which life of the store they are of.
            is_full: whether they come from a whole listing after something may have been missed.
        """
        other_epoch = epoch != self.epoch
        for prefix, readers in self._readers.items():
            concerned = {key: self._heard(key, other_epoch) for key in changes if is_shown(key, prefix)}
            for reader in readers:
                reader.note(concerned, is_full=is_full, other_epoch=other_epoch)
        for key, entry in changes.items():
            if entry is None:
                self.entries.pop(key, None)
            else:
                self.entries[key] = entry
        self.revision = revision
        self.epoch = epoch
        self._moved.set()
        self._moved = trio.Event()

    def confirm(self, number: int, asked: float, *, is_stale: bool) -> None:
        """Note that the store, asked at that time, had nothing newer.

        Args:
            number: of the question.
            asked: ``trio.current_time()`` then.
            is_stale: whether that is too long ago even so.
        """
        self.confirmed = asked
        self.confirmed_by = number
        if not is_stale:
            self.stale_since = None
            self.trouble = None
        self._wake_all()

    def lose(self, since: float) -> None:
        """Note that for too long it has not been known whether something changed."""
        self.stale_since = since
        self._wake_all()

    def add(self, reader: Reader) -> None:
        """Tell a reader from now on."""
        self._readers.setdefault(reader.prefix, set()).add(reader)

    def remove(self, reader: Reader) -> None:
        """Tell a reader no more."""
        readers = self._readers[reader.prefix]
        readers.discard(reader)
        if not readers:
            del self._readers[reader.prefix]

    def under(self, prefix: str | None) -> tuple[Entry, ...]:
        """Return what is known under a prefix, sorted by key."""
        return in_order(entry for key, entry in self.entries.items() if is_shown(key, prefix))

    def _heard(self, key: str, other_epoch: bool) -> int | None:
        entry = self.entries.get(key)
        if entry is None:
            return None
        return _OTHER_EPOCH if other_epoch else entry.modified

    def _wake_all(self) -> None:
        for readers in self._readers.values():
            for reader in readers:
                reader.wake()


class Reader:
    """One watch: what it was told, and what it is still to hear, which is never more than each key once.

    Args:
        view: of what.
        prefix: which keys; ``None``: all, with the store's own.
        after: the number of the last question to the store; what is told first is confirmed by a later one.
    """

    def __init__(self, view: View, prefix: str | None, after: int) -> None:
        self.prefix = prefix
        self._view = view
        self._after = after
        self._has_begun = False
        self._heard: dict[str, int | None] = {}
        self._is_full = False
        self._epoch = ""
        self._stale_since: float | None = None
        self._news = trio.Event()

    def note(self, concerned: Mapping[str, int | None], *, is_full: bool, other_epoch: bool) -> None:
        """Remember that keys are about to change, and what this reader knew of them.

        Args:
            concerned: for each key the revision that put it, ``None`` if it was not there.
            is_full: as :meth:`View.move` says.
            other_epoch: whether what comes is of another life of the store.
        """
        if not self._has_begun:
            return
        for key, modified in concerned.items():
            self._heard.setdefault(key, modified)
        if other_epoch:
            # A revision of another epoch may look the same.
            for key, modified in self._heard.items():
                if modified is not None:
                    self._heard[key] = _OTHER_EPOCH
        if concerned or other_epoch:
            self._is_full |= is_full
            self.wake()

    def wake(self) -> None:
        """Look again whether there is something to tell."""
        self._news.set()

    async def receive(self) -> Update:
        """Wait for something to tell."""
        await trio.lowlevel.checkpoint()
        while True:
            self._news = trio.Event()
            update = self._next() if self._has_begun else self._first()
            if update is not None:
                return update
            await self._news.wait()

    def _first(self) -> Update | None:
        view = self._view
        is_stale = view.stale_since is not None
        if view.epoch and (is_stale or view.confirmed_by > self._after):
            self._has_begun = True
            return self._told(view.under(self.prefix), (), is_full=True)
        if is_stale and self._stale_since != view.stale_since:
            return self._told((), (), is_full=False)
        return None

    def _next(self) -> Update | None:
        view = self._view
        puts, deletes = to_tell(self._heard, view.entries)
        self._heard.clear()
        is_full, self._is_full = self._is_full, False
        if puts or deletes or view.epoch != self._epoch or view.stale_since != self._stale_since:
            return self._told(puts, deletes, is_full=is_full)
        return None

    def _told(self, puts: tuple[Entry, ...], deletes: tuple[str, ...], *, is_full: bool) -> Update:
        view = self._view
        self._epoch = view.epoch
        self._stale_since = view.stale_since
        return Update(puts, deletes, view.revision, view.epoch, is_full, view.stale_since)


def in_order(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return entries sorted by key."""
    return tuple(sorted(entries, key=lambda entry: entry.key))
