"""Opening a directory: over a store that is open, or by a URL."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence

import duplex
from duplex_services._shared._background import background
from duplex_services.discovery._catalogue import Catalogue
from duplex_services.discovery._directory import Directory
from duplex_services.discovery._importing import Importing
from duplex_services.discovery._model import MOST_ENTRIES, ServerInfo
from duplex_services.discovery._presence import Presence
from duplex_services.discovery._rules._catalogue import root_of, split_url
from duplex_services.discovery._rules._checking import check_id
from duplex_services.store import Store, open_store


@contextlib.asynccontextmanager
async def open_directory(
    store: Store | str,
    *,
    server: str = "",
    endpoints: Sequence[str] = (),
    lease_ttl: float = 10.0,
    checks: bool = True,
    max_entries: int = MOST_ENTRIES,
    tls: duplex.TLS | None = None,
) -> AsyncIterator[Directory]:
    """Open the directory that is kept in a store: ``async with open_directory("sqlite:///…") as directory``.

    It begins when what is in the store is known. Any number of servers may have the same store.

    Args:
        store: an open one, or its URL; with ``consul-catalog://`` it is Consul's key-value store, what this server keeps is
            registered with the agent that the URL names first, too, and what others have registered with Consul is found here.
        server: a name that this server keeps over its restarts, so that it knows what its earlier life kept; drawn by lot if
            empty.
        endpoints: where it is reached, for those who list the servers.
        lease_ttl: seconds after which others notice that this server is gone.
        checks: whether this server makes its share of the health checks.
        max_entries: instances and services, together, beyond which no more are taken by this server.
        tls: which certificates are trusted where a check asks an instance at ``tls://``, and which one is shown there.

    Raises:
        ConfigurationError, StoreError: the store cannot be opened.
        Superseded: another server has begun under this name.
    """
    if isinstance(store, str):
        url, has_catalogue = split_url(store)
        async with contextlib.AsyncExitStack() as stack:
            opened = await stack.enter_async_context(open_store(url))
            directory = await stack.enter_async_context(
                open_directory(
                    opened,
                    server=server,
                    endpoints=endpoints,
                    lease_ttl=lease_ttl,
                    checks=checks,
                    max_entries=max_entries,
                    tls=tls,
                )
            )
            if has_catalogue:
                # Only here, as it needs a library that other stores do without; the store has just told who lacks it.
                from duplex_services.store.consul import open_consul_api

                api = await stack.enter_async_context(open_consul_api(url))
                nursery = await stack.enter_async_context(background())
                nursery.start_soon(Catalogue(directory, api, root_of(opened.address)).run)
                nursery.start_soon(Importing(directory, api).run)
            yield directory
        return
    if max_entries < 1:
        raise duplex.ConfigurationError(f"max_entries is a whole number from 1, not {max_entries!r}")
    try:
        name = check_id(server or f"server-{secrets.token_hex(4)}")
    except ValueError as error:
        raise duplex.ConfigurationError(f"server: {error}") from None
    info = ServerInfo(name, secrets.token_hex(8), tuple(endpoints))
    async with background() as nursery:
        directory = Directory(store, info, Presence(store, info, lease_ttl), max_entries)
        await directory.run(nursery, checks=checks, tls=tls)
        yield directory
