"""The words of the store: entries, snapshots, updates, conditions, and how a commit may end. No I/O.

::

    StoreError (duplex.DuplexError)
    ├─ Conflict(condition, found)    a condition did not hold: nothing changed
    ├─ Refused                       the store will not do this: nothing changed, and repeating it will not help
    │   ├─ TooLarge                  over a limit; .what, .size and .limit
    │   ├─ Denied                    not allowed, or not readable
    │   └─ LeaseLost                 the lease is gone, and what was held under it
    ├─ Unavailable                   nobody answers: nothing was sent, nothing is known
    ├─ Unknown                       may be committed now, later, or never
    └─ OpenError                     this store cannot be opened as it is
"""

from __future__ import annotations

from typing import Final, TypeAlias, final

import msgspec

import duplex

#: Bytes of UTF-8 that a key may have.
MAX_KEY_BYTES: Final = 200

#: Puts, deletes and conditions of one commit together.
MAX_OPERATIONS: Final = 60

#: Bytes of the keys and values of one commit together.
MAX_COMMIT_BYTES: Final = 256 * 1024


# ------------------------------------------------------------------------------------------ what is there


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A key and what is kept under it.

    Attributes:
        key: UTF-8 text of at most 200 bytes, parts separated by ``/``.
        value: what was put.
        created: the revision that made the key; another one after it was deleted and put again.
        modified: the revision that put this value; what :func:`unchanged` compares with.
        lease: the id of the lease that the key goes with, or ``None``.
    """

    key: str
    value: bytes
    created: int
    modified: int
    lease: str | None = None


class Snapshot(msgspec.Struct, frozen=True):
    """Everything under a prefix at one moment.

    Attributes:
        entries: sorted by key.
        revision: all commits up to this one are in it, and no later one.
        epoch: which life of the store this is; in another one, revisions mean nothing.
    """

    entries: tuple[Entry, ...]
    revision: int
    epoch: str


class Update(msgspec.Struct, frozen=True):
    """What a watch tells: a difference to what it told before, to be applied as one.

    Attributes:
        puts: entries that are new or have a new value. Changes may have been merged, the last value counts.
        deletes: keys that are gone.
        revision: how far this goes.
        epoch: which life of the store this is. A new one says that the store was wiped or replaced: it does not say
            that what is gone from it is dead.
        full: the difference comes from comparing a whole listing, not from single changes: the first update of a
            watch, which has everything, and the first after a gap.
        stale_since: the time (``trio.current_time()``) at which the store was last known to hold nothing newer, once
            that is too long ago; else ``None``. An update with it set may change nothing else.
    """

    puts: tuple[Entry, ...]
    deletes: tuple[str, ...]
    revision: int
    epoch: str
    full: bool = False
    stale_since: float | None = None


class StoreStatistics(msgspec.Struct, frozen=True):
    """What an open store has done, and what it knows.

    Attributes:
        commits: that were sent; copies are not counted.
        groups: in which they were sent: fewer, where many waited.
        doubts: commits whose first answer did not come.
        waiting: commits that wait for their turn.
        listings: how often everything was listed, for the watches.
        watches: that are open.
        entries: that are known for them, the store's own included.
        revision: how far they go.
        epoch: of which life of the store they are; empty until a watch is opened.
        confirmed: the time (``trio.current_time()``) as of which nothing newer is there; ``None`` for never.
        stale_since: as :attr:`Update.stale_since`.
        trouble: why nothing newer is known, for a human; empty while there is no trouble.
    """

    commits: int
    groups: int
    doubts: int
    waiting: int
    listings: int
    watches: int
    entries: int
    revision: int
    epoch: str
    confirmed: float | None
    stale_since: float | None
    trouble: str


# ---------------------------------------------------------------------------------------------- conditions


class Missing(msgspec.Struct, frozen=True, tag="missing", array_like=True):
    """Holds while there is no such key."""

    key: str


class Exists(msgspec.Struct, frozen=True, tag="exists", array_like=True):
    """Holds while there is such a key, whatever its value."""

    key: str


class Unchanged(msgspec.Struct, frozen=True, tag="unchanged", array_like=True):
    """Holds while the value is still the one that the revision ``modified`` put."""

    key: str
    modified: int


Condition: TypeAlias = Missing | Exists | Unchanged


def missing(key: str) -> Missing:
    """Make the condition that there is no such key."""
    return Missing(key)


def exists(key: str) -> Exists:
    """Make the condition that there is such a key."""
    return Exists(key)


def unchanged(key: str, modified: int) -> Unchanged:
    """Make the condition that nobody has put or deleted the key since.

    Args:
        key: which.
        modified: :attr:`Entry.modified` as it was read.
    """
    return Unchanged(key, modified)


@final
class LastWriterWins:
    """The type of :data:`last_writer_wins`."""

    def __repr__(self) -> str:
        return "last_writer_wins"


#: Stands for a condition, and says that a late copy of this commit may overwrite what others wrote meanwhile.
last_writer_wins: Final = LastWriterWins()


class Commit(msgspec.Struct, frozen=True):
    """One commit, checked: what a backend is given.

    Attributes:
        puts: values by key.
        deletes: keys; one that is not there is no fault.
        when: all must hold. The first that does not, in this order, is told.
        lease: the id of the lease that all puts go with, or ``None``: then they outlive every lease, also where the
            key was under one before.
    """

    puts: dict[str, bytes] = {}
    deletes: tuple[str, ...] = ()
    when: tuple[Condition, ...] = ()
    lease: str | None = None


# -------------------------------------------------------------------------------------------------- errors


class StoreError(duplex.DuplexError):
    """The root of what a store raises."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Conflict(StoreError):
    """A condition of the commit did not hold; nothing changed.

    Attributes:
        condition: the first that did not hold.
        found: the entry that was there instead; ``None`` if there was none.
    """

    def __init__(self, condition: Condition, found: Entry | None) -> None:
        super().__init__(f"{condition.key!r} {_what_was_found(condition, found)}")
        self.condition = condition
        self.found = found


class Refused(StoreError):
    """The store will not do this; nothing changed. To repeat it as it is will not help."""


class TooLarge(Refused):
    """More than a key or a commit may have.

    Attributes:
        what: what is too large, for a human.
        size: how large it is.
        limit: how large it may be.
    """

    def __init__(self, what: str, size: int, limit: int) -> None:
        super().__init__(f"{what}: {size}, more than {limit}")
        self.what = what
        self.size = size
        self.limit = limit


class Denied(Refused):
    """Not allowed, or not readable. What cannot be read is never told as empty."""


class LeaseLost(Refused):
    """The lease is gone, and what was held under it with it.

    Attributes:
        lease: its id.
    """

    def __init__(self, lease: str) -> None:
        super().__init__(f"lease {lease!r} is gone, and the keys under it go with it")
        self.lease = lease


class Unavailable(StoreError):
    """The store does not answer. A commit was surely not sent; of what is stored nothing is known."""


class Unknown(StoreError):
    """A commit was sent and the answer did not come: it may be committed now, later, or never."""


class OpenError(StoreError):
    """This store cannot be opened as it is: another process has it, or its file is damaged or not a store's."""


def _what_was_found(condition: Condition, found: Entry | None) -> str:
    if found is None:
        return "is not there"
    if isinstance(condition, Unchanged):
        return f"was changed: put by revision {found.modified}, not {condition.modified}"
    return f"is there, put by revision {found.modified}"
