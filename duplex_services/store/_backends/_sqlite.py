"""``sqlite:///PATH``: a store in a file, for one process; others reach it through that process.

All is in memory, for reading; the file is read when it is opened and written at every commit. Commits that wait while
the disk is busy are written together.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import AsyncGenerator, Sequence
from typing import Final

import trio

from duplex_services._shared._background import background
from duplex_services.store._backend import Grant, Listing, Outcome, Report
from duplex_services.store._backends._database import Database, Full, MaybeWritten, NotWritten
from duplex_services.store._backends._file_lock import FileLock
from duplex_services.store._backends._state import State, Step
from duplex_services.store._backends._thread import OwnedThread, owned_thread
from duplex_services.store._model import Commit, Entry, OpenError, Refused, StoreError, Unavailable, Unknown
from duplex_services.store._url import StoreURL, file_of

_log: Final = logging.getLogger("duplex")

#: Seconds between two looks whether the file is still where it was.
_LOOK_EVERY: Final = 1.0
#: Seconds that a busy loop may be late.
_LATE: Final = 1.0


class SqliteBackend:
    """A :class:`Backend` over a file that this process owns."""

    is_late = False
    hides_denied = False
    group_limit = 64

    def __init__(self, address: str, database: Database, thread: OwnedThread) -> None:
        self.address = address
        self._database = database
        self._thread = thread
        self._writing = trio.Lock()
        self._state = State()
        self._trouble: str | None = None
        self._take_contents()

    # ----------------------------------------------------------------------------------------- reading

    async def get(self, key: str) -> Entry | None:
        await self._look()
        return self._state.entries.get(key)

    async def list(self, prefix: str) -> Listing:
        await self._look()
        return self._state.listing(prefix)

    async def follow(self, since: Listing, report: Report) -> None:
        await self._state.follow(since, report)

    async def newest(self, revision: int, count: int) -> int:
        await self._look()
        return self._state.revision

    async def _look(self) -> None:
        await trio.lowlevel.checkpoint()
        if self._trouble is not None:
            raise Unavailable(self._trouble)

    # ----------------------------------------------------------------------------------------- writing

    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        async with self._writing:
            await self._mend()
            outcomes, steps = self._state.plan(commits)
            if not steps:
                return outcomes
            try:
                await self._thread.run(self._database.write, steps)
            except (NotWritten, MaybeWritten) as error:
                changed = {step.revision for step in steps}
                return [_failed(error) if outcome in changed else outcome for outcome in outcomes]
            self._state.apply(steps)
            return outcomes

    async def _mend(self) -> None:
        """Open the file again if it failed; what it holds then is what is true."""
        if self._database.is_open:
            return
        try:
            await self._thread.run(self._database.reopen)
        except (OpenError, NotWritten) as error:
            raise Unavailable(str(error)) from error
        self._take_contents()

    def _take_contents(self) -> None:
        contents = self._database.contents
        self._state.become(contents.entries, contents.revision, contents.leases)
        # How long ago anybody beat is not known, and no wall clock tells.
        self._state.grace(trio.current_time())

    # ------------------------------------------------------------------------------------------ leases

    async def grant(self, ttl: float) -> Grant:
        lease = secrets.token_hex(8)
        async with self._writing:
            await self._mend()
            await self._write({lease: ttl}, (), ())
            self._state.grant(lease, ttl, trio.current_time())
        # With a restart in between, after which every lease is given twice its time.
        return Grant(lease, ttl, 3 * ttl + _LATE)

    async def beat(self, lease: str) -> None:
        await self._look()
        self._state.beat(lease, trio.current_time())

    async def revoke(self, lease: str) -> None:
        async with self._writing:
            await self._mend()
            steps = self._state.plan_end(lease)
            await self._write({}, steps, (lease,))
            self._state.apply(steps)
            self._state.forget(lease)

    async def _write(self, granted: dict[str, float], steps: Sequence[Step], ended: Sequence[str]) -> None:
        try:
            await self._thread.run(self._database.write, steps, granted, ended)
        except (NotWritten, MaybeWritten) as error:
            failed = _failed(error)
            raise Unavailable(failed.message) if isinstance(failed, Unknown) else failed from error

    async def end_leases(self) -> None:
        """Delete the keys of leases whose time is over, until cancelled."""
        while True:
            for lease in await self._state.ended():
                try:
                    await self.revoke(lease)
                except StoreError as error:
                    _log.warning("the keys of lease %s stay for now: %s", lease, error)
                    await trio.sleep(_LOOK_EVERY)

    async def mind_the_place(self) -> None:
        """Notice when the file is not where it was any more, and open it again after it failed, until cancelled."""
        while True:
            await trio.sleep(_LOOK_EVERY)
            try:
                async with self._writing:
                    await self._mend()
                await self._thread.run(self._database.check_place)
            except (NotWritten, Unavailable) as error:
                if self._trouble is None:
                    _log.error("%s", error)
                self._trouble = str(error)
            else:
                self._trouble = None


def _failed(error: NotWritten | MaybeWritten) -> Refused | Unavailable | Unknown:
    if isinstance(error, MaybeWritten):
        return Unknown(str(error))
    return Refused(str(error)) if isinstance(error, Full) else Unavailable(str(error))


@contextlib.asynccontextmanager
async def open_backend(url: StoreURL) -> AsyncGenerator[SqliteBackend]:
    """Open the file, or make it.

    Raises:
        OpenError: it cannot be opened as it is; the message says what to do.
    """
    path = file_of(url)
    async with owned_thread("duplex-store") as thread:
        lock = await thread.run(FileLock, path)
        try:
            database = await thread.run(Database, path)
            try:
                backend = SqliteBackend(url.address, database, thread)
                async with background() as nursery:
                    nursery.start_soon(backend.end_leases)
                    nursery.start_soon(backend.mind_the_place)
                    yield backend
            finally:
                await thread.run(database.close)
        finally:
            await thread.run(lock.release)
