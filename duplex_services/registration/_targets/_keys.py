"""Key-value stores as targets: a key for each service, which says where it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, final

import trio

from duplex_services._shared._http_client import HttpError
from duplex_services.registration._ledger import Ledger
from duplex_services.registration._model import Entry, Service
from duplex_services.registration._rules._difference import Put
from duplex_services.registration._target import RefusedError, TargetError


class KeyStore(Protocol):
    """What a key-value store does for a target. All of it raises ``HttpError``, or ``RefusedError``."""

    async def run(self) -> None:
        """Do what has to be done all the time, until cancelled."""

    async def read(self, prefix: str) -> Mapping[str, str]:
        """Return all keys below a prefix with their values."""

    async def put(self, key: str, value: str, *, is_new: bool) -> bool:
        """Write a value, a new one only if the key is not there. Tells whether it was written."""

    async def delete(self, key: str) -> None:
        """Delete a key, be it there or not."""

    def lasts(self, key: str) -> bool:
        """Whether a key of ours is kept from expiring."""


@final
class KeyTarget:
    """A key-value store.

    Args:
        name: for people.
        store: the store.
        prefix: what the keys begin with.
        key_of: the rest of a service's key; raises ``ValueError`` if it can have none.
        value_of: what a key says of a service.
        owner: whose keys these are.
        ledger: where it is noted which they are.

    Attributes:
        name: the same.
    """

    def __init__(
        self,
        name: str,
        store: KeyStore,
        prefix: str,
        key_of: Callable[[Service], str],
        value_of: Callable[[Service], str],
        owner: str,
        ledger: Ledger,
    ) -> None:
        self.name = name
        self._store = store
        self._prefix = prefix
        self._key_of = key_of
        self._value_of = value_of
        self._owner = owner
        self._ledger = ledger

    def entry_of(self, service: Service) -> Entry:
        """Return what the store is to have of a service. It knows no states: what does not serve is not there.

        Raises:
            ValueError: its key makes no sense, or it does not serve.
        """
        if service.state not in ("passing", "warning"):
            raise ValueError(f"it is {service.state}: {service.note}")
        key = "/".join(filter(None, (self._prefix, self._key_of(service))))
        return Entry(key, self._owner, self._value_of(service))

    async def run(self, woken: Callable[[], None]) -> None:
        """Keep what was written from expiring, until cancelled."""
        await self._store.run()

    async def entries(self) -> Mapping[str, Entry]:
        """Return what the store has below the prefix.

        Raises:
            TargetError: it is away.
        """
        try:
            found = await self._store.read(f"{self._prefix}/" if self._prefix else "")
        except HttpError as error:
            raise TargetError(str(error)) from error
        except RefusedError as error:
            raise TargetError(str(error)) from error
        return {key: self._entry(key, value) for key, value in found.items()}

    def _entry(self, key: str, value: str) -> Entry:
        if not self._ledger.has(key, value):
            return Entry(key, "", value)
        # One that will expire is not as it is to be.
        return Entry(key, self._owner, value, note="" if self._store.lasts(key) else "it expires")

    async def put(self, action: Put) -> None:
        """Write a key.

        Raises:
            TargetError: it is not known whether that was done, or somebody else was quicker.
            RefusedError: the store does not take it.
        """
        key, value = action.entry.key, action.entry.value
        try:
            await trio.to_thread.run_sync(self._ledger.will_write, key, value)
            is_written = await self._store.put(key, value, is_new=action.before is None)
        except (HttpError, OSError) as error:
            raise TargetError(str(error)) from error
        if not is_written:
            raise TargetError(f"somebody else has written {key} just now")

    async def drop(self, entry: Entry, why: str) -> None:
        """Delete a key.

        Raises:
            TargetError: it is not known whether that was done.
            RefusedError: the store does not take it.
        """
        try:
            await self._store.delete(entry.key)
            await trio.to_thread.run_sync(self._ledger.has_dropped, entry.key)
        except (HttpError, OSError) as error:
            raise TargetError(str(error)) from error
