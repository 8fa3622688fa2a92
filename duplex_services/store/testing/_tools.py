"""What the checks share: clients, names of their own, and folding updates into a state."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol, TypeVar

import msgspec
import trio

from duplex_services.store._model import Conflict, Entry, Update, last_writer_wins, unchanged
from duplex_services.store._store import Store, Watch
from duplex_services.store.testing._faults import Faults

T = TypeVar("T")
E = TypeVar("E", bound=Exception)

ANY: Final = last_writer_wins


class Opener(Protocol):
    """Opens one more client of the store under test, with what ``open_store`` takes."""

    def __call__(self, **options: float) -> AbstractAsyncContextManager[Store]: ...


class Bench(msgspec.Struct, frozen=True):
    """What a check is given.

    Attributes:
        one: a client.
        two: another client of the same store.
        open: opens more.
        prefix: keys of this check's own, ending in ``/``.
        ttl: of leases, in seconds; as short as this store can.
        faults: what can be done to it.
        url: where another process can open it, or ``None``.
        slack: seconds that what should come soon may take on a busy machine.
    """

    one: Store
    two: Store
    open: Opener
    prefix: str
    ttl: float
    faults: Faults
    url: str | None
    slack: float


class Folded:
    """The state that the updates of a watch make, as any reader would keep it."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.updates = 0
        self.epochs: list[str] = []
        self.deleted: list[str] = []
        self.revision = 0
        self.stale_since: float | None = None
        self._epoch = ""

    @property
    def values(self) -> dict[str, bytes]:
        """The values by key."""
        return {key: entry.value for key, entry in self.entries.items()}

    def take(self, update: Update) -> None:
        """Apply an update, and check that it makes sense after the others."""
        self.updates += 1
        self.stale_since = update.stale_since
        if not update.epoch:
            assert not update.puts, f"entries of no epoch: {update}"
            return
        if self._epoch != update.epoch:
            assert update.full, f"a new epoch comes with a full update: {update}"
            self.epochs.append(update.epoch)
        else:
            assert update.revision >= self.revision, f"went back from revision {self.revision}: {update}"
        for entry in update.puts:
            old = self.entries.get(entry.key)
            assert entry.modified <= update.revision, f"newer than its update: {update}"
            if update.epoch == self._epoch and old is not None:
                assert entry.modified > old.modified, f"went back from {old}, or told twice: {entry}"
            self.entries[entry.key] = entry
        for key in update.deletes:
            assert key in self.entries, f"{key!r} is told as deleted, and was never told: {update}"
            del self.entries[key]
            self.deleted.append(key)
        self.revision = update.revision
        self._epoch = update.epoch


async def fold(watch: Watch, into: Folded, until: Callable[[Folded], bool], within: float) -> Folded:
    """Take updates until something holds.

    Raises:
        AssertionError: it did not hold in time; with what there was.
    """
    with trio.move_on_after(within):
        while not until(into):
            into.take(await watch.receive())
        return into
    raise AssertionError(f"after {within:g} s and {into.updates} updates there is still {into.values!r:.500}")


async def error_of(kind: type[E], call: Awaitable[object]) -> E:
    """Await what must fail, and return how it did."""
    try:
        answer = await call
    except kind as error:
        return error
    raise AssertionError(f"this is no {kind.__name__}, but {answer}")


async def count_up(store: Store, key: str, times: int) -> None:
    """Add one to a number so many times, on condition that nobody else did."""
    for _ in range(times):
        while True:
            entry = await store.get(key)
            assert entry is not None, key
            try:
                await store.commit(
                    {key: b"%d" % (int(entry.value) + 1)}, when=[unchanged(key, entry.modified)]
                )
            except Conflict:
                continue
            break


async def all_at_once(calls: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """Make calls in tasks of their own, and return what they return, in order."""
    results: dict[int, T] = {}

    async def run(index: int, call: Callable[[], Awaitable[T]]) -> None:
        results[index] = await call()

    async with trio.open_nursery() as nursery:
        for index, call in enumerate(calls):
            nursery.start_soon(run, index, call)
    return [results[index] for index in range(len(calls))]


def name() -> str:
    """Return a name that nobody else has."""
    return secrets.token_hex(6)
