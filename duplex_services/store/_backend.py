"""What a store is built on: the few things that differ between memory, a file, Consul, etcd and ZooKeeper.

:class:`Store` has all that is the same: limits, the queue of commits, the settling of unknown outcomes, the epoch, the
one upstream watch and its many readers, the clocks of leases, elections. A backend answers the questions below and has
no policy of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeAlias

import msgspec

from duplex_services.store._model import Commit, Conflict, Entry, Refused, Unavailable, Unknown

#: The key that every store has: an empty listing without it is not an empty store.
SENTINEL: Final = "_epoch"

#: Keys below it say which commit each client made last; they are nobody else's business.
WRITERS: Final = "_w/"

#: Seconds that one request to a store may take before its backend gives up on it.
ANSWER_WITHIN: Final = 2.0

#: How one commit ended: the revision it made (or, if it changed nothing, any revision at which that was so), or why not.
Outcome: TypeAlias = int | Conflict | Refused | Unavailable | Unknown


class Listing(msgspec.Struct, frozen=True):
    """What a backend found under a prefix, all of one moment.

    Attributes:
        entries: in any order. Keys that begin with ``_w/`` may be left out, unless the prefix itself begins so.
        revision: every commit up to it is in the entries and no later one; not lower than any entry's ``modified``,
            and not lower than in an earlier answer, unless the store itself was put back to an older state.
        sentinel: the entry of ``_epoch``, read at the same moment or later, or ``None`` if it was not found.
    """

    entries: tuple[Entry, ...]
    revision: int
    sentinel: Entry | None


class Changes(msgspec.Struct, frozen=True):
    """What happened between the last report and ``revision``; of a key that changed twice only the last counts.

    Attributes:
        puts: entries that were put.
        deletes: keys that were deleted.
        revision: how far this goes; greater than that of the last report.
    """

    puts: tuple[Entry, ...]
    deletes: tuple[str, ...]
    revision: int


#: What :meth:`Backend.follow` calls. Returns at once; never raises.
Report: TypeAlias = Callable[[Changes | Listing], None]


class Grant(msgspec.Struct, frozen=True):
    """A lease that a store gave.

    Attributes:
        id: its name in this store.
        ttl: seconds that the server counts with; not always those that were asked for.
        gone_within: the longest time, in seconds from the last beat, until the keys of a holder that died are gone,
            with an election of the store itself in between.
    """

    id: str
    ttl: float
    gone_within: float


class Backend(Protocol):
    """One store, reached in its own way. Implementations are tested by :func:`duplex_services.store.testing.check_store`.

    **Open and close** are the business of the function that makes a backend (an async context manager that has its
    tasks and connections). It needs not reach the store: the first question does.

    **Keys** are given and returned as users write them; where they live in the store (a root, quoting) is the backend's
    business. Those that begin with ``_`` are the store's own, and like any other to a backend.

    **Errors** of all methods, beside what each says: :class:`Unavailable` if the store cannot be asked or does not
    answer within :data:`ANSWER_WITHIN` (each endpoint is tried once, and the one that failed is not tried first next
    time); :class:`Denied` if it will not answer us, and another :class:`Refused` if it will not do this, for want of room
    for example. Nothing else may be raised, no library's own error and no
    ``ExceptionGroup``. An answer that makes no sense is ``Unavailable`` too, with what was wrong about it.

    **Cancellation**: ``get``, ``list``, ``newest`` and ``follow`` are cancelled at any time, and leave no
    connection behind that would give the answer to somebody else. ``commit`` is cancelled only when the store is
    closed. Methods are called concurrently, ``commit`` and ``follow`` never twice at once.
    """

    @property
    def address(self) -> str:
        """Where this is, for messages; without passwords or tokens."""
        ...

    @property
    def is_late(self) -> bool:
        """Whether a commit that ended as :class:`Unknown` may still happen later, after others.

        If so, every commit is given a writer's key, ``_w/CLIENT/SLOT``: a put of it, and as the first condition that
        it is unchanged. With that a late copy dies, and a copy that was sent again tells what became of the first.
        ``False`` only where there are no unknown outcomes, or where the backend settles them itself, exactly.
        """
        ...

    @property
    def hides_denied(self) -> bool:
        """Whether this store says "there is no such key" of a key that it does not let us read."""
        ...

    @property
    def group_limit(self) -> int:
        """How many commits ``commit`` takes at once; 1 if it cannot do better with many than with one."""
        ...

    async def get(self, key: str) -> Entry | None:
        """Read one key, linearizably: what was committed before the call began is seen."""
        ...

    async def list(self, prefix: str) -> Listing:
        """Read all keys that begin with a prefix, linearizably, and the sentinel.

        A store that was never used gives no entries, no sentinel and any revision.
        """
        ...

    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        """Commit a group, each for itself: what becomes of one has no part in what becomes of another.

        No commit of a group names a key that another one changes, so their order does not matter and they may share a
        revision. Each has at most 62 operations, of which the two of the writer's key are nobody's fault.

        Args:
            commits: at least one, at most ``group_limit``.

        Returns:
            An outcome for each, in order. A conflict has the first condition, in the order of ``when``, that did not
            hold, and the entry found there. A revision is greater than all before it, and is the ``modified`` of all
            entries that the commit put, and their ``created`` if the key was not there.

        Raises:
            Unavailable: nothing of the group was sent, and nothing will happen.
            Unknown: any of them may have happened, or may yet happen. When in doubt between the two, it is this one.
        """
        ...

    async def follow(self, since: Listing, report: Report) -> None:
        """Tell of every change after a listing of everything, until that is no longer certain.

        Reports go forward only: each has a greater revision than the one before. Changes must be complete between two
        reports. Where the store does not know single changes, or has forgotten some, report a whole ``Listing`` of the
        prefix ``""``, or return: then everything is listed, and this is called again. It may be silent for as long
        as nothing changes; :meth:`newest` is what tells a quiet store from a deaf watch.
        It is cancelled when it was deaf; called again then, it begins at another endpoint.

        Args:
            since: what ``list("")`` gave.
            report: called with each piece of news.

        Returns:
            When there is a gap: history was compacted, the server was replaced, its answer is older than ours.

        Raises:
            Unavailable: the connection is lost, or the server has lost the others.
        """
        ...

    async def newest(self, revision: int, count: int) -> int:
        """Ask, linearizably, for the revision of the newest change: how a deaf watch is told from a quiet store.

        Followers ask it every few seconds. It should cost little where nothing has changed.

        Args:
            revision: that of the last report.
            count: how many keys there are after it, those that begin with ``_w/`` not counted.

        Returns:
            ``revision`` if, when this was asked or later, nothing had changed since. Else any revision that is not lower
            than that of the newest change before this was asked: the answer counts as right when reports have come so
            far. If they do not come at all, or this is lower than ``revision``, the following is given up, and everything is
            listed.
        """
        ...

    async def grant(self, ttl: float) -> Grant:
        """Make a lease.

        Args:
            ttl: a wish, in seconds; the store may give more or less.
        """
        ...

    async def beat(self, lease: str) -> None:
        """Keep a lease for another ``ttl``, counted by the server from now.

        Raises:
            LeaseLost: there is no such lease any more.
        """
        ...

    async def revoke(self, lease: str) -> None:
        """End a lease and delete its keys, before this returns. One that is gone is no fault."""
        ...
