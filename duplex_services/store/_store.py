"""The store: one face for every backend."""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, Self

import trio

from duplex_services._shared._background import background
from duplex_services.store._backend import SENTINEL, Backend, Listing
from duplex_services.store._epochs import Epochs, epoch_in
from duplex_services.store._leases import Lease
from duplex_services.store._model import (
    Conflict,
    Denied,
    Entry,
    LeaseLost,
    Snapshot,
    StoreError,
    StoreStatistics,
    Unavailable,
    Unchanged,
    Unknown,
    Update,
    missing,
)
from duplex_services.store._queue import CommitQueue
from duplex_services.store._rules._clocks import next_pause
from duplex_services.store._rules._commits import When, check_commit
from duplex_services.store._rules._elections import leader_key, still_leads
from duplex_services.store._rules._keys import check_key, check_prefix, is_shown
from duplex_services.store._rules._numbers import check_seconds
from duplex_services.store._upstream import Upstream
from duplex_services.store._view import Reader, in_order

_log: Final = logging.getLogger("duplex")

#: Seconds that tidying up may take; others do what is left.
_FORGET_WITHIN: Final = 1.0

_NOTHING: Final[Mapping[str, bytes]] = MappingProxyType({})


class Watch:
    """What :meth:`Store.watch` gives: iterate over it.

    An update that has not been taken is merged with what comes after it, so a slow reader costs little, and ends with
    the same state as a fast one.
    """

    def __init__(self, upstream: Upstream, reader: Reader) -> None:
        self._upstream = upstream
        self._reader = reader

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Update:
        return await self._reader.receive()

    async def receive(self) -> Update:
        """Wait for the next update. If this is cancelled, nothing is lost."""
        return await self._reader.receive()

    @property
    def stale_since(self) -> float | None:
        """As :attr:`Update.stale_since`, at this moment."""
        return self._upstream.view.stale_since

    @property
    def trouble(self) -> StoreError | None:
        """Why nothing newer is known, while nothing is; else ``None``."""
        return self._upstream.view.trouble


class Term:
    """What :meth:`Store.lead` gives: the time for which this process leads.

    Attributes:
        name: of the election.
        fence: a number that grows from term to term, within one epoch. What a leader does outside the store carries
            it, so that the other side can refuse what is older.
        guard: a condition for commits, which fail once the term is over.
        lost: set when the term is lost.
    """

    def __init__(self, name: str, fence: int, lease: Lease) -> None:
        self.name = name
        self.fence = fence
        self.guard = Unchanged(leader_key(name), fence)
        self.lost = trio.Event()
        self._lease = lease

    def __repr__(self) -> str:
        return f"<Term {self.fence} of {self.name!r}{', lost' if self.is_lost else ''}>"

    @property
    def is_lost(self) -> bool:
        """Whether it is lost at this moment, by the clock too."""
        return self.lost.is_set() or self._lease.is_lost


class Store:
    """A store. :func:`open_store` makes it; its methods may be called by any number of tasks at once."""

    def __init__(
        self, backend: Backend, nursery: trio.Nursery, *, patience: float, verify_every: float
    ) -> None:
        self._backend = backend
        self._nursery = nursery
        self._queue = CommitQueue(backend, secrets.token_hex(8), patience)
        self._epochs = Epochs(backend, self._queue)
        self._upstream = Upstream(backend, self._epochs, verify_every)
        self._is_watching = False

    def __repr__(self) -> str:
        return f"<Store {self.address}>"

    @property
    def address(self) -> str:
        """The URL, without what is secret in it."""
        return self._backend.address

    def statistics(self) -> StoreStatistics:
        """Return what was done, and what is known."""
        queue, view = self._queue, self._upstream.view
        return StoreStatistics(
            commits=queue.commits,
            groups=queue.groups,
            doubts=queue.doubts,
            waiting=queue.waiting,
            listings=self._upstream.listings,
            watches=view.reader_count,
            entries=len(view.entries),
            revision=view.revision,
            epoch=view.epoch,
            confirmed=view.confirmed,
            stale_since=view.stale_since,
            trouble="" if view.trouble is None else view.trouble.message,
        )

    # ----------------------------------------------------------------------------------------- reading

    async def get(self, key: str) -> Entry | None:
        """Return what is kept under a key, or ``None`` if there is no such key.

        What was committed before this was called is seen.

        Raises:
            Denied: it cannot be read.
            Unavailable: the store does not answer.
        """
        check_key(key, own=True)
        self._queue.check_open()
        entry = await self._backend.get(key)
        if entry is None and self._backend.hides_denied and key != SENTINEL:
            while await self._backend.get(SENTINEL) is None:
                await self._epochs.establish()
        return entry

    async def list(self, prefix: str = "") -> Snapshot:
        """Return all that is kept under keys that begin with a prefix.

        What was committed before this was called is seen. Keys of the store's own, which begin with ``_``, are
        listed only if the prefix begins so.

        Raises:
            Denied: it cannot be read.
            Unavailable: the store does not answer.
        """
        check_prefix(prefix)
        listing, sentinel = await self._list(prefix)
        shown = in_order(entry for entry in listing.entries if is_shown(entry.key, prefix))
        return Snapshot(shown, listing.revision, epoch_in(sentinel))

    async def _list(self, prefix: str) -> tuple[Listing, Entry]:
        """List what there is, and the sentinel without which nothing is told."""
        self._queue.check_open()
        while True:
            listing = await self._backend.list(prefix)
            if listing.sentinel is not None:
                return listing, listing.sentinel
            await self._epochs.establish()

    # ----------------------------------------------------------------------------------------- writing

    async def commit(
        self,
        puts: Mapping[str, bytes] = _NOTHING,
        deletes: Iterable[str] = (),
        when: When = (),
        lease: Lease | None = None,
    ) -> int:
        """Put and delete keys, all or none, if all conditions hold.

        If this is cancelled before the commit was sent, it never happens. Afterwards it may or may not have.

        Args:
            puts: values by key.
            deletes: keys; one that is not there is no fault.
            when: conditions. At least one of them is :func:`missing` or :func:`unchanged` of a key that the commit
                changes, or the guard of a :class:`Term`: it is what keeps a copy that comes late from overwriting
                what others wrote meanwhile. :data:`last_writer_wins`, alone or beside others, does without.
            lease: what is put goes when it ends. Without, it stays, also where the key went with a lease before.

        Returns:
            The revision, greater than all before it: the ``modified`` of what was put.

        Raises:
            Conflict: a condition did not hold; nothing changed.
            TooLarge: over a limit: 200 bytes of a key; 60 puts, deletes and conditions, and 256 KiB, of a commit.
            LeaseLost: the lease is over; nothing changed.
            Refused: the store will not do it; nothing changed.
            Unavailable: it was not sent; nothing changed.
            Unknown: nobody answered within the store's patience. It may have happened, or may yet happen.
            TypeError, ValueError: what was given makes no commit.
        """
        if lease is not None and not isinstance(lease, Lease):
            raise TypeError(f"lease is what `async with store.lease(ttl)` gives, not {lease!r:.100}")
        commit = check_commit(puts, deletes, when, None if lease is None else lease.id)
        if lease is not None and lease.is_lost:
            raise LeaseLost(lease.id)
        return await self._queue.submit(commit)

    # ---------------------------------------------------------------------------------------- watching

    @contextlib.asynccontextmanager
    async def watch(self, prefix: str = "") -> AsyncIterator[Watch]:
        """Watch all keys that begin with a prefix: ``async with store.watch("a/") as updates``.

        The first update has all that is there, and it is not older than the call. Then come changes; they never go
        back, and none is missed that is the last of its key, while several of one key may come as one. If the store is
        away, or a change may have been missed, the watch goes on by itself: it compares what there is now with what it
        told, and tells the difference.

        If for ``verify_every`` seconds nobody could say that nothing newer is there, an update says since when. A
        store that cannot be read, or has never answered, is told in this way too, and :attr:`Watch.trouble` says why:
        no watch raises for that, and none tells what is unreadable as empty.
        """
        check_prefix(prefix)
        with self._reading(prefix) as reader:
            yield Watch(self._upstream, reader)

    @contextlib.contextmanager
    def _reading(self, prefix: str | None) -> Iterator[Reader]:
        """Read from the one watch upstream, which the first reader begins; ``None`` is all, the store's own keys too."""
        self._queue.check_open()
        if not self._is_watching:
            self._is_watching = True
            self._nursery.start_soon(self._upstream.run)
        reader = self._upstream.open_reader(prefix)
        try:
            yield reader
        finally:
            self._upstream.view.remove(reader)

    # ------------------------------------------------------------------------------ leases and elections

    @contextlib.asynccontextmanager
    async def lease(self, ttl: float) -> AsyncIterator[Lease]:
        """Hold a lease: ``async with store.lease(10) as lease``; ``commit(..., lease=lease)`` puts keys under it.

        Leaving the block ends it and deletes its keys. A process holds few of them, best one. When it is lost the block
        goes on; :attr:`Lease.lost` tells.

        Args:
            ttl: a wish, in seconds: after how long without a sign of life the keys go. What was granted, and how long
                it takes at worst, :attr:`Lease.ttl` and :attr:`Lease.gone_within` tell.

        Raises:
            Unavailable: the store does not answer.
            ValueError: the time makes no sense.
        """
        seconds = check_seconds("the ttl of a lease", ttl)
        self._queue.check_open()
        asked = trio.current_time()
        lease = Lease(self._backend, await self._backend.grant(seconds), asked)
        self._nursery.start_soon(lease.keep)
        try:
            yield lease
        finally:
            await lease.give_back()

    @contextlib.asynccontextmanager
    async def lead(self, name: str, *, ttl: float = 10.0, value: bytes = b"") -> AsyncIterator[Term]:
        """Wait until this process leads, and lead: ``async with store.lead("sweeper") as term``.

        At most one term holds at any revision. Two processes may believe for an instant that they lead: so commits
        of a leader carry ``term.guard``, and what it does elsewhere ``term.fence``. When the term is lost, the block is
        cancelled, and :class:`LeaseLost` raised after it. Leaving the block ends the term.

        Args:
            name: of the election; each has one leader at most.
            ttl: as that of :meth:`lease`: how soon another may lead after this process has died.
            value: who leads, for those who ask :meth:`leader`.

        Raises:
            LeaseLost: the term was lost.
            Denied: this process may not take part.
        """
        key = leader_key(name)
        async with contextlib.AsyncExitStack() as stack:
            lease, fence = await self._stand(key, ttl, value, stack)
            term = Term(name, fence, lease)
            body = trio.CancelScope()
            minding = trio.CancelScope()
            self._nursery.start_soon(self._mind_term, term, minding, body)
            try:
                with body:
                    yield term
            finally:
                minding.cancel()
                term.lost.set()
            if body.cancelled_caught:
                raise LeaseLost(lease.id)

    async def leader(self, name: str) -> Entry | None:
        """Return who leads: an entry whose value is what it gave to :meth:`lead`, and ``modified`` its fence."""
        return await self.get(leader_key(name))

    async def _stand(
        self, key: str, ttl: float, value: bytes, stack: contextlib.AsyncExitStack
    ) -> tuple[Lease, int]:
        """Take part in an election until it is won; leave the lease to the stack."""
        pause = 0.0
        while True:
            await self._until_vacant(key)
            try:
                async with contextlib.AsyncExitStack() as attempt:
                    lease = await attempt.enter_async_context(self.lease(ttl))
                    commit = check_commit({key: value}, (), [missing(key)], lease.id, own=True)
                    fence = await self._queue.submit(commit)
                    stack.push_async_exit(attempt.pop_all())
                    return lease, fence
            except Conflict:
                pause = 0.0
            except (LeaseLost, Unavailable, Unknown) as error:
                _log.info("%r cannot stand for %s: %s", self, key, error)
                pause = next_pause(pause, first=0.05, longest=1.0)
                await trio.sleep(pause)

    async def _until_vacant(self, key: str) -> None:
        async with self.watch(key) as updates:
            leader: Entry | None = None
            async for update in updates:
                leader = _now(key, update, leader)
                if update.stale_since is None:
                    if leader is None:
                        return
                elif isinstance(updates.trouble, Denied):
                    # It may have been allowed since; else this raises.
                    await self.get(key)

    async def _mind_term(self, term: Term, minding: trio.CancelScope, body: trio.CancelScope) -> None:
        """End a term when its lease is lost, or its key is not what it put."""
        key = term.guard.key
        with minding:
            async with trio.open_nursery() as nursery:

                async def mind_lease() -> None:
                    await term._lease.lost.wait()
                    nursery.cancel_scope.cancel()

                async def mind_key() -> None:
                    leader: Entry | None = None
                    async with self.watch(key) as updates:
                        async for update in updates:
                            leader = _now(key, update, leader)
                            if update.stale_since is None and not still_leads(leader, term.fence):
                                nursery.cancel_scope.cancel()

                nursery.start_soon(mind_lease)
                nursery.start_soon(mind_key)
            term.lost.set()
            body.cancel()

    # --------------------------------------------------------------------------------- open and close

    async def _open(self) -> None:
        self._nursery.start_soon(self._queue.run)
        while await self._backend.get(SENTINEL) is None:
            await self._epochs.establish()
        if self._backend.is_late:
            self._nursery.start_soon(self._queue.sweep)


def _now(key: str, update: Update, before: Entry | None) -> Entry | None:
    """Return what is kept under a key after an update."""
    for entry in update.puts:
        if entry.key == key:
            return entry
    return None if key in update.deletes else before


@contextlib.asynccontextmanager
async def run_store(backend: Backend, *, patience: float, verify_every: float) -> AsyncGenerator[Store]:
    """Make a store of a backend, and close it."""
    async with background() as nursery:
        store = Store(backend, nursery, patience=patience, verify_every=verify_every)
        await store._open()
        try:
            yield store
        finally:
            with trio.move_on_after(_FORGET_WITHIN, shield=True):
                await store._queue.forget()
