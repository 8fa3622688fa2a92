"""This server's own key in the store: under its lease, so that the others see when it is gone."""

from __future__ import annotations

import logging
from typing import Final

import trio

from duplex_services.discovery._errors import Superseded
from duplex_services.discovery._model import ServerInfo
from duplex_services.discovery._rules._keys import encode, read_server, server_key
from duplex_services.store import Conflict, Lease, Store, StoreError, missing, unchanged

_log: Final = logging.getLogger("duplex")

#: Seconds after which what failed is tried again.
_PAUSE: Final = 0.5


class Presence:
    """Keeps a server's key there while this runs.

    Args:
        store: where.
        info: what it says.
        ttl: a wish, in seconds, for the lease.
    """

    def __init__(self, store: Store, info: ServerInfo, ttl: float) -> None:
        self._store = store
        self._info = info
        self._ttl = ttl
        #: Set while the key is there, as far as is known.
        self.announced = trio.Event()
        self._has_more = trio.Event()

    def say(self, info: ServerInfo) -> None:
        """From now on say this: it is of the same server, and the same life of it."""
        self._info = info
        self._has_more.set()

    async def run(self) -> None:
        """Be there.

        Raises:
            Superseded: another server has taken the name.
        """
        is_first = True
        while True:
            try:
                async with self._store.lease(self._ttl) as lease:
                    while not lease.lost.is_set():
                        self._has_more = trio.Event()
                        await self._announce(lease, is_first=is_first)
                        is_first = False
                        self.announced.set()
                        await _either(lease.lost, self._has_more)
            except StoreError as error:
                _log.info("%s cannot say that it is there: %s", self._info.name, error)
                await trio.sleep(_PAUSE)

    async def _announce(self, lease: Lease, *, is_first: bool) -> None:
        key = server_key(self._info.name)
        while True:
            entry = await self._store.get(key)
            if entry is not None and not is_first and self._is_other(entry.value):
                raise superseded(self._info.name)
            when = missing(key) if entry is None else unchanged(key, entry.modified)
            try:
                await self._store.commit({key: encode(self._info)}, when=[when], lease=lease)
            except Conflict:
                continue
            return

    def _is_other(self, value: bytes) -> bool:
        try:
            return read_server(value).incarnation != self._info.incarnation
        except ValueError:
            return False


async def _either(first: trio.Event, second: trio.Event) -> None:
    async with trio.open_nursery() as nursery:

        async def wait(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(wait, first)
        nursery.start_soon(wait, second)


def superseded(name: str) -> Superseded:
    """Return the error that ends a server whose name another one has taken."""
    return Superseded(f"another server of discovery has begun as {name!r}: each needs a name of its own")
