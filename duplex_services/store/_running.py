"""A store served by a process of its own, until a signal ends it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import trio

import duplex
from duplex_services._shared._places import made_folder
from duplex_services.store._open import open_store
from duplex_services.store._service import store_service

#: Each client has a link, a call that follows, and some that ask.
_LIMITS: Final = duplex.Limits(max_links=20_000, max_handlers=100_000)


async def serve_store(url: str, binds: Sequence[str], announce: Callable[[str], None]) -> None:
    """Serve a store until SIGTERM or SIGINT.

    Args:
        url: of the store.
        binds: where to listen.
        announce: told each URL by which it is opened, once all are bound.

    Raises:
        ConfigurationError, StoreError, BindError: it cannot begin.
    """
    for endpoint in binds:
        if endpoint.startswith("ipc://"):
            made_folder(Path(endpoint.removeprefix("ipc://")).parent)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with (
            open_store(url) as store,
            duplex.open_peer(services=[store_service(store)], name="store", limits=_LIMITS) as peer,
        ):
            for endpoint in [await peer.bind(endpoint) for endpoint in binds]:
                announce(f"duplex+{endpoint}")
            await signals.__anext__()
