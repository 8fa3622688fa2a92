"""Writing to the store: on condition that what was known still holds, and again if it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from duplex_services.discovery._errors import Full, StoreAway
from duplex_services.discovery._rules._plans import Plan, is_full
from duplex_services.discovery._rules._view import View
from duplex_services.store import Conflict, Entry, Refused, Store, StoreError, Unknown

#: Seconds that a change may take, until it is said that the store is away.
_PATIENCE: Final = 10.0

#: Seconds at most before what was in conflict is planned again: somebody changes it all the time.
_LONGEST_PAUSE: Final = 0.1

#: Seconds until what was written is seen, after which nobody waits any more.
_SEEN_WITHIN: Final = 5.0


class Writer:
    """Commits what is planned from the view, until it holds.

    Args:
        store: to write to.
        view: what is known; it is fed by somebody else, who says so by :meth:`moved`.
        most: instances and services, together, that the directory may have.
    """

    def __init__(self, store: Store, view: View, most: int) -> None:
        self._store = store
        self._view = view
        self._most = most
        self._moved = trio.Event()
        #: Commits that were sent.
        self.commits = 0

    def moved(self) -> None:
        """Tell that the view has moved."""
        self._moved.set()
        self._moved = trio.Event()

    def check_room(self) -> None:
        """Check that there is room for one more instance or service.

        Raises:
            Full: there is none.
        """
        if is_full(self._view, self._most):
            raise Full(
                f"there are {self._most} instances and services, and this directory takes no more: deregister what is not needed, or "
                "run its servers with a higher --max-entries"
            )

    async def write(self, plan: Callable[[], Plan | None]) -> int:
        """Write what is planned.

        Args:
            plan: returns what to write, by what the view knows then, or ``None`` if there is nothing to write; raises to refuse.
                It is asked again if the view was behind.

        Returns:
            The revision of the commit; 0 if there was nothing to write. The view has it, unless it lags.

        Raises:
            StoreAway: the store did not take it; the message says whether it may have.
        """
        until = trio.current_time() + _PATIENCE
        pause = 0.0
        while True:
            step = plan()
            if step is None:
                return 0
            try:
                self.commits += 1
                revision = await self._store.commit(step.puts, step.deletes, step.when)
            except Conflict as conflict:
                await self._see(conflict.condition.key, conflict.found, until)
                await trio.sleep(pause)
                pause = min(_LONGEST_PAUSE, max(0.001, 2 * pause))
            except Unknown as error:
                raise StoreAway(f"{error.message}; it may have been done, or may yet be") from error
            except Refused as error:
                raise StoreAway(f"the store refuses it: {error.message}") from error
            except StoreError as error:
                raise StoreAway(f"{error.message}; nothing changed") from error
            else:
                await self._reach(revision)
                return revision

    async def _see(self, key: str, found: Entry | None, until: float) -> None:
        """Wait until the view knows what was in the way."""
        there = 0 if found is None else found.modified
        with trio.move_on_at(until) as scope:
            await trio.lowlevel.checkpoint()
            while self._view.modified_of(key) < there or (not there and self._view.modified_of(key)):
                await self._moved.wait()
        if scope.cancelled_caught:
            raise StoreAway(f"{key!r} has been changed, and this server has not heard how; nothing changed")

    async def _reach(self, revision: int) -> None:
        epoch = self._view.epoch
        with trio.move_on_after(_SEEN_WITHIN):
            while self._view.revision < revision and self._view.epoch == epoch:
                await self._moved.wait()
