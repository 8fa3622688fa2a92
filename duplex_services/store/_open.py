"""From a URL to a store."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Final

import duplex
from duplex_services.store._backend import Backend
from duplex_services.store._rules._numbers import check_seconds
from duplex_services.store._store import Store, run_store
from duplex_services.store._url import StoreURL, parse_url

#: Which module has which kind of store, and in which extra its libraries come.
_KINDS: Final[dict[str, tuple[str, str | None]]] = {
    "memory": ("_memory", None),
    "sqlite": ("_sqlite", None),
    "consul": ("_consul", "consul"),
    "etcd": ("_etcd", "etcd"),
    "zookeeper": ("_zookeeper", "zookeeper"),
    "duplex+tcp": ("_remote", None),
    "duplex+ipc": ("_remote", None),
}


@contextlib.asynccontextmanager
async def open_store(
    where: str | AbstractAsyncContextManager[Backend], *, patience: float = 10.0, verify_every: float = 5.0
) -> AsyncIterator[Store]:
    """Open a store: ``async with open_store("sqlite:///var/lib/duplex/store.db") as store``.

    ========================================  ==========================================================
    ``memory:``                               of this process, for this block
    ``memory:NAME``                           of this process, shared by all who name it while one does
    ``sqlite:///PATH``                        a file, which one process has open
    ``duplex+tcp://HOST:PORT``                a store that another process serves (``store_service``)
    ``duplex+ipc:///PATH``                    the same, over a Unix socket
    ``consul://HOST,HOST/PREFIX``             Consul's key-value store
    ``etcd://HOST,HOST/PREFIX``               etcd
    ``zookeeper://HOST,HOST/ROOT``            ZooKeeper
    ========================================  ==========================================================

    Leaving the block closes it: what waits to be committed ends as :class:`Unavailable`.

    Args:
        where: the URL, or what opens a backend of your own.
        patience: seconds that a commit may take until its outcome is settled; then it is :class:`Unknown`.
        verify_every: seconds after which a watch that could not verify that it missed nothing says that it is stale.

    Raises:
        ConfigurationError: the URL or an option is wrong, or a library is missing; the message says what to do.
        OpenError: this store cannot be opened as it is.
        Unavailable, Unknown: it does not answer.
        Denied: it cannot be read.
    """
    try:
        patience = check_seconds("patience", patience)
        verify_every = check_seconds("verify_every", verify_every)
    except ValueError as error:
        raise duplex.ConfigurationError(str(error)) from None
    opening = _backend_of(parse_url(where)) if isinstance(where, str) else where
    async with opening as backend, run_store(backend, patience=patience, verify_every=verify_every) as store:
        yield store


def check_url(url: str) -> None:
    """Look whether a store could be opened by a URL, as far as that can be told without doing it.

    Raises:
        ConfigurationError: the URL is wrong, or a library is missing.
    """
    _backend_of(parse_url(url))


def _backend_of(url: StoreURL) -> AbstractAsyncContextManager[Backend]:
    if url.scheme not in _KINDS:
        known = ", ".join(sorted(_KINDS))
        raise duplex.ConfigurationError(f"there is no kind of store {url.scheme!r}; there are {known}")
    module, extra = _KINDS[url.scheme]
    try:
        opener = importlib.import_module(f"duplex_services.store._backends.{module}").open_backend
    except ModuleNotFoundError as error:
        if extra is None or (error.name or "").startswith("duplex"):
            raise
        raise duplex.ConfigurationError(
            f"{url.scheme}: needs the library {error.name}, which is not installed: "
            f"pip install 'duplex-rpc[{extra}]'"
        ) from error
    opened: AbstractAsyncContextManager[Backend] = opener(url)
    return opened
