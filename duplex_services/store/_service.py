"""A store, served: what other processes reach with ``open_store("duplex+tcp://…")``."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final

import trio

import duplex
from duplex_services.store._backend import SENTINEL, WRITERS
from duplex_services.store._model import (
    Commit,
    Conflict,
    Denied,
    Entry,
    LeaseLost,
    Refused,
    StoreError,
    TooLarge,
    Unavailable,
    Unknown,
    last_writer_wins,
)
from duplex_services.store._rules._commits import LEADERS, SPARE, check_commit
from duplex_services.store._rules._keys import check_key, check_prefix
from duplex_services.store._rules._numbers import check_seconds
from duplex_services.store._store import Store
from duplex_services.store._view import Reader
from duplex_services.store.client import SERVICE, Answer, Granted, Kind, News, Page

#: Entries, and bytes of their values, of one page: far below what a message may have.
_PAGE_ENTRIES: Final = 1000
_PAGE_BYTES: Final = 256 * 1024

#: Commits that one call may make.
GROUP_LIMIT: Final = 64


def store_service(store: Store, *, name: str = SERVICE) -> duplex.Service:
    """Serve a store: ``open_peer(services=[store_service(store)])``.

    Everyone who reaches the peer can read and write all of it: bind to a Unix socket or to loopback.

    Args:
        store: which.
        name: of the service; ``open_store`` asks for this one.
    """
    return duplex.Service.from_object(_Served(store), name=name, version="1.0.0")


class _Served:
    """Keys with revisions, transactions, leases and watches."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @duplex.rpc(idempotent=True)
    async def get(self, key: str) -> Entry | None:
        """Read a key."""
        with _told():
            return await self._store.get(key)

    @duplex.rpc(name="list", idempotent=True)
    async def list_(self, prefix: str = "") -> AsyncIterator[Page]:
        """List the keys that begin with a prefix, the store's own too."""
        with _told():
            check_prefix(prefix)
            listing, _ = await self._store._list(prefix)
        for entries, more in _pages(listing.entries):
            yield Page(entries, more, listing.revision, listing.sentinel)

    @duplex.rpc
    async def commit(self, commits: tuple[Commit, ...]) -> tuple[Answer, ...]:
        """Make commits, each for itself."""
        if not 0 < len(commits) <= GROUP_LIMIT:
            raise duplex.InvalidArgument(f"a call makes 1 to {GROUP_LIMIT} commits, not {len(commits)}")
        with _told():
            # All of them before any is made.
            checked = [_checked(commit) for commit in commits]
        answers: dict[int, Answer] = {}

        async def make(index: int, commit: Commit) -> None:
            answers[index] = await self._make(commit)

        async with trio.open_nursery() as nursery:
            for index, commit in enumerate(checked):
                nursery.start_soon(make, index, commit)
        return tuple(answers[index] for index in range(len(commits)))

    @duplex.rpc(idempotent=True)
    async def follow(self, revision: int) -> AsyncIterator[News]:
        """Tell what has changed since a revision, and what changes from now on. Ends when the store's epoch does."""
        with self._store._reading(None) as reader:
            first = await reader.receive()
            if first.stale_since is not None or first.revision < revision:
                raise duplex.Unavailable(f"{self._store.address} is not known to be up to date here")
            if first.revision > revision:
                for entries, more in _pages(first.puts):
                    yield News(entries, (), more, first.revision, whole=True)
            async for news in _news_after(reader, first.epoch):
                yield news

    @duplex.rpc(idempotent=True)
    async def newest(self, revision: int, count: int) -> int:
        """Tell the revision of the newest change since a revision, after which there are so many keys."""
        with _told():
            return await self._store._backend.newest(revision, count)

    @duplex.rpc
    async def grant(self, ttl: float) -> Granted:
        """Grant a lease of about so many seconds."""
        with _told():
            grant = await self._store._backend.grant(check_seconds("the ttl of a lease", ttl))
            return Granted(grant.id, grant.ttl, grant.gone_within)

    @duplex.rpc(idempotent=True)
    async def beat(self, lease: str) -> None:
        """Keep a lease. Raises NotFound if it is gone."""
        with _told():
            await self._store._backend.beat(lease)

    @duplex.rpc(idempotent=True)
    async def revoke(self, lease: str) -> None:
        """End a lease, and delete its keys."""
        with _told():
            await self._store._backend.revoke(lease)

    async def _make(self, commit: Commit) -> Answer:
        try:
            return Answer("made", await self._store._queue.submit(commit))
        except Conflict as conflict:
            return Answer("conflict", condition=commit.when.index(conflict.condition), found=conflict.found)
        except StoreError as error:
            kind = next(kind for cls, kind in _KINDS if isinstance(error, cls))
            return Answer(kind, message=error.message)


_KINDS: Final[tuple[tuple[type[StoreError], Kind], ...]] = (
    (Denied, "denied"),
    (LeaseLost, "lease_lost"),
    (Refused, "refused"),
    (Unavailable, "unavailable"),
    (Unknown, "unknown"),
)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn what a store raises into the outcome of a call."""
    try:
        yield
    except (TypeError, ValueError, TooLarge) as error:
        raise duplex.InvalidArgument(str(error)) from error
    except Denied as error:
        raise duplex.PermissionDenied(error.message) from error
    except LeaseLost as error:
        raise duplex.NotFound(error.message) from error
    except Refused as error:
        raise duplex.FailedPrecondition(error.message) from error
    except StoreError as error:
        raise duplex.Unavailable(error.message) from error


def _checked(commit: Commit) -> Commit:
    """Check what a client's own store has checked already, and added its writer's key to."""
    for key in (*commit.puts, *commit.deletes):
        if key.startswith("_") and key != SENTINEL and not key.startswith((WRITERS, LEADERS)):
            check_key(key)
    when = (*commit.when, last_writer_wins)
    return check_commit(commit.puts, commit.deletes, when, commit.lease, own=True, spare=SPARE)


def _pages(entries: Sequence[Entry]) -> Iterator[tuple[tuple[Entry, ...], bool]]:
    """Cut entries into pages; the last one, which may be empty, says that there are no more."""
    page: list[Entry] = []
    size = 0
    for entry in entries:
        if page and (len(page) == _PAGE_ENTRIES or size + len(entry.value) > _PAGE_BYTES):
            yield tuple(page), True
            page, size = [], 0
        page.append(entry)
        size += len(entry.value)
    yield tuple(page), False


async def _news_after(reader: Reader, epoch: str) -> AsyncIterator[News]:
    """Tell changes until the epoch ends."""
    while True:
        update = await reader.receive()
        if update.epoch != epoch:
            return
        if not update.puts and not update.deletes:
            continue
        deletes = update.deletes
        while len(deletes) > _PAGE_ENTRIES:
            yield News((), deletes[:_PAGE_ENTRIES], True, update.revision)
            deletes = deletes[_PAGE_ENTRIES:]
        for entries, more in _pages(update.puts):
            yield News(entries, deletes, more, update.revision)
            deletes = ()
