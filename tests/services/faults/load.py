"""Clients that use a store while something happens to it, and what they must have seen."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Final, final

import trio

from duplex_services.store import (
    Conflict,
    Store,
    StoreError,
    last_writer_wins,
    missing,
    open_store,
    unchanged,
)
from duplex_services.store.testing import Operation, explain_history
from duplex_services.store.testing._history import record
from duplex_services.store.testing._tools import Folded
from tests.machine import within

_PREFIX: Final = "load/"
_COUNTER: Final = f"{_PREFIX}n"
_LEASED: Final = f"{_PREFIX}leased"
_REGISTER: Final = "register"
#: Seconds between two writes, and between two reads.
_PACE: Final = 0.05
#: Seconds within which all is well again after the fault.
_BACK_WITHIN: Final = 30.0


@final
class Load:
    """What some clients do, and saw.

    Args:
        urls: of one store; watchers begin at different ones of its servers.
        ttl: of the lease that is held.
    """

    def __init__(self, urls: list[str], ttl: float) -> None:
        self._urls = urls
        self._ttl = ttl
        self._over = trio.Event()
        self._started = 0
        self.problems: list[str] = []
        self.acknowledged = 0
        self.written: list[float] = []
        self.slowest_read = 0.0
        self.failed_reads = 0
        self.reads = 0
        self.lease = ""
        self._history: list[Operation] = []
        self._watched: list[Folded] = []

    async def run(self, harm: Callable[[], contextlib.AbstractAsyncContextManager[None]]) -> None:
        """Use the store before, during and after a fault, and check what came of it."""
        async with contextlib.AsyncExitStack() as stack:
            writer = await stack.enter_async_context(open_store(self._urls[0], patience=60))
            await writer.commit({_COUNTER: b"0"}, when=[missing(_COUNTER)])
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hold)
                for url in self._urls:
                    nursery.start_soon(self._watch, url)
                async with trio.open_nursery() as workers:
                    workers.start_soon(self._write)
                    workers.start_soon(self._read)
                    for number in range(2):
                        workers.start_soon(self._record, f"r{number}.")
                    await trio.sleep(2)  # of ordinary life
                    async with harm():
                        pass
                    await self._until_written_again()
                    await trio.sleep(2)  # of ordinary life
                    self._over.set()
                await self._check(writer)
                nursery.cancel_scope.cancel()

    async def _until_written_again(self) -> None:
        enough = self.acknowledged + 10
        with trio.move_on_after(within(_BACK_WITHIN)):
            while self.acknowledged < enough:
                await trio.sleep(_PACE)  # nobody tells

    # ------------------------------------------------------------------------------------------ clients

    async def _write(self) -> None:
        async with open_store(self._urls[0], patience=60) as store:
            while not self._over.is_set():
                with contextlib.suppress(StoreError):
                    entry = await store.get(_COUNTER)
                    assert entry is not None
                    number = int(entry.value) + 1
                    if number != self.acknowledged + 1:
                        self.problems.append(
                            f"{entry.value!r} is there, and {self.acknowledged} were acknowledged"
                        )
                        return
                    puts = {_COUNTER: b"%d" % number, f"{_PREFIX}{number % 20}": b"%d" % number}
                    try:
                        await store.commit(puts, when=[unchanged(_COUNTER, entry.modified)])
                    except Conflict as conflict:
                        self.problems.append(f"a conflict, and nobody else writes: {conflict}")
                        return
                    self.acknowledged += 1
                    self.written.append(trio.current_time())
                await trio.sleep(_PACE)

    async def _read(self) -> None:
        async with open_store(self._urls[-1]) as store:
            while not self._over.is_set():
                began = trio.current_time()
                self.reads += 1
                try:
                    with trio.fail_after(10):
                        entry = await store.get(_COUNTER)
                    if entry is None:
                        self.problems.append("a read says that nothing is there")
                except (StoreError, trio.TooSlowError):
                    self.failed_reads += 1
                self.slowest_read = max(self.slowest_read, trio.current_time() - began)
                await trio.sleep(2 * _PACE)

    async def _watch(self, url: str) -> None:
        state = Folded()
        self._watched.append(state)
        last = 0
        async with open_store(url) as store, store.watch(_PREFIX) as watch:
            while True:
                state.take(await watch.receive())
                number = int(state.values.get(_COUNTER, b"0"))
                if number < last:
                    self.problems.append(f"a watch goes back from {last} to {number}")
                last = number

    async def _hold(self) -> None:
        """Hold a lease; its key must not be gone before the holder knows."""
        async with open_store(self._urls[0]) as store:
            try:
                async with store.lease(self._ttl) as lease:
                    self.lease = "never used"
                    await store.commit({_LEASED: b""}, lease=lease, when=last_writer_wins)
                    self.lease = "kept"
                    while not lease.is_lost:
                        if any(_LEASED in state.deleted for state in self._watched) and not lease.is_lost:
                            self.problems.append("the key of a lease is gone, and its holder does not know")
                        await trio.sleep(_PACE)
                    self.lease = "lost, and the holder knew first"
                    await trio.sleep_forever()
            except StoreError as error:
                self.lease = f"none: {error}"

    async def _record(self, client: str) -> None:
        """Read and write one key with another such client."""
        async with open_store(self._urls[0]) as store:
            number = 0
            while not self._over.is_set():
                number += 1
                self._history += await record(store, _REGISTER, f"{client}{number}.", 10, number)
                await trio.sleep(_PACE)

    # ------------------------------------------------------------------------------------------- checks

    async def _check(self, store: Store) -> None:
        """Compare what the clients saw with what is there now."""
        entries = {}
        with trio.move_on_after(within(_BACK_WITHIN)):
            while True:
                try:
                    listed = {entry.key: entry for entry in (await store.list(_PREFIX)).entries}
                except StoreError:
                    continue
                entries = {key: entry for key, entry in listed.items() if key != _LEASED}
                if all(_without_lease(state) == entries for state in self._watched):
                    break
                await trio.sleep(_PACE)
        for number, state in enumerate(self._watched):
            if _without_lease(state) != entries:
                self.problems.append(f"watch {number} does not come to what is there")
            if set(state.deleted) - {_LEASED}:
                self.problems.append(
                    f"watch {number} was told of deletes that nobody made: {state.deleted[:5]}"
                )
            if len(state.epochs) != 1:
                self.problems.append(f"watch {number} saw {len(state.epochs)} epochs")
        found = entries.get(_COUNTER)
        if found is None or int(found.value) != self.acknowledged:
            self.problems.append(f"{found} is there, and {self.acknowledged} were acknowledged")
        problem = explain_history(self._history)
        if problem is not None:
            self.problems.append(f"not linearizable: {problem}")

    def longest_gap(self) -> float:
        """The longest time between two writes that were acknowledged, in seconds."""
        return max(
            (later - earlier for earlier, later in zip(self.written, self.written[1:], strict=False)),
            default=0.0,
        )


def _without_lease(state: Folded) -> dict[str, object]:
    return {key: entry for key, entry in state.entries.items() if key != _LEASED}


@contextlib.asynccontextmanager
async def for_a_while(
    begin: Callable[[], None], end: Callable[[], None], seconds: float
) -> AsyncIterator[None]:
    """Do harm for some seconds, and undo it."""
    began = time.monotonic()
    begin()
    try:
        await trio.sleep(max(0.0, seconds - (time.monotonic() - began)))
        yield
    finally:
        end()
