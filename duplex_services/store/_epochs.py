"""Which life of the store this is: a random id under a key that every store has, which also shows that it can be read."""

from __future__ import annotations

import secrets

from duplex_services.store._backend import SENTINEL, Backend
from duplex_services.store._model import Commit, Conflict, Denied, Entry, Missing, Unchanged
from duplex_services.store._queue import CommitQueue


def epoch_in(sentinel: Entry) -> str:
    """Return the epoch that a sentinel names."""
    return sentinel.value.decode(errors="backslashreplace") or "an empty one"


class Epochs:
    """Finds, begins and renews the epoch of a store.

    Args:
        backend: of which store.
        queue: where it is written.
    """

    def __init__(self, backend: Backend, queue: CommitQueue) -> None:
        self._backend = backend
        self._queue = queue

    async def establish(self) -> None:
        """Begin an epoch in a store in which none is found: it is new, or was wiped, or we may not read it.

        Raises:
            Denied: there is one that we cannot see, or we may not write it.
            Unavailable, Unknown: nobody knows.
        """
        try:
            await self._queue.submit(Commit({SENTINEL: _new_epoch()}, when=(Missing(SENTINEL),)))
        except Conflict:
            # Somebody else may have been faster; who sees it now has just come too early.
            if await self._backend.get(SENTINEL) is None:
                raise Denied(
                    f"{self._backend.address} has the key {SENTINEL} but does not let us read it: "
                    "what is listed as empty need not be so. Allow reading of all keys of this store"
                ) from None
        except Denied as denied:
            raise Denied(
                f"{self._backend.address} shows no key {SENTINEL} and does not let us write it: either we may not "
                f"read there, or nobody has opened this store yet who may write ({denied.message})"
            ) from denied

    async def renew(self, sentinel: Entry) -> None:
        """End the epoch of a sentinel, whose revisions have been put back."""
        try:
            when = (Unchanged(SENTINEL, sentinel.modified),)
            await self._queue.submit(Commit({SENTINEL: _new_epoch()}, when=when))
        except Conflict:
            pass  # somebody else has noticed too


def _new_epoch() -> bytes:
    return secrets.token_hex(16).encode()
