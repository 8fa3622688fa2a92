"""Leases: a promise to be alive, kept by beats, and lost by the holder's own clock before the server's."""

from __future__ import annotations

import logging
from typing import Final

import trio

from duplex_services.store._backend import Backend, Grant
from duplex_services.store._model import LeaseLost, StoreError, Unavailable
from duplex_services.store._rules._clocks import LeaseClock

_log: Final = logging.getLogger("duplex")

#: Seconds that giving a lease back may take; it ends by itself, only later.
_REVOKE_WITHIN: Final = 2.0


class Lease:
    """A lease that this process holds.

    Attributes:
        id: its name in the store, as :attr:`Entry.lease` has it.
        ttl: seconds that the store counts with, which may be others than were asked for.
        gone_within: the longest time, in seconds, until the keys of a holder that died are gone.
        lost: set when the lease is lost: the store said so, or no beat was confirmed for so long that it may have
            given it up.
        trouble: why the last beat failed; ``None`` if it did not.
    """

    def __init__(self, backend: Backend, grant: Grant, asked: float) -> None:
        self.id = grant.id
        self.ttl = grant.ttl
        self.gone_within = grant.gone_within
        self.lost = trio.Event()
        self.trouble: StoreError | None = None
        self._backend = backend
        self._clock = LeaseClock(grant.ttl, asked)
        self._keeping = trio.CancelScope()

    def __repr__(self) -> str:
        return f"<Lease {self.id!r}{', lost' if self.is_lost else ''}>"

    @property
    def is_lost(self) -> bool:
        """Whether it is lost at this moment, by the clock: a process that slept knows it here before any event."""
        return self.lost.is_set() or trio.current_time() >= self._clock.lost_at

    @property
    def lost_at(self) -> float:
        """The time (``trio.current_time()``) at which it is lost if no beat is confirmed any more."""
        return self._clock.lost_at

    async def keep(self) -> None:
        """Beat until the lease is lost or given back."""
        with self._keeping:
            await self._beat()
            _log.info("lease %s of %s is lost", self.id, self._backend.address)
            self.lost.set()

    async def _beat(self) -> None:
        while True:
            await trio.sleep_until(min(self._clock.beat_at, self._clock.lost_at))
            if self.is_lost:
                return
            sent = trio.current_time()
            try:
                with trio.fail_after(self._clock.patience(sent)):
                    await self._backend.beat(self.id)
            except LeaseLost as lost:
                self.trouble = lost
                return
            except (StoreError, trio.TooSlowError) as error:
                slow = Unavailable(f"{self._backend.address} did not answer a beat in time")
                self.trouble = error if isinstance(error, StoreError) else slow
                self._clock = self._clock.missed(trio.current_time())
            else:
                self.trouble = None
                self._clock = self._clock.confirmed(sent)

    async def give_back(self) -> None:
        """End it; if that fails it ends by itself."""
        self._keeping.cancel()
        self.lost.set()
        with trio.move_on_after(_REVOKE_WITHIN, shield=True):
            try:
                await self._backend.revoke(self.id)
            except StoreError as error:
                _log.info("lease %s was not given back, and ends by itself: %s", self.id, error)
