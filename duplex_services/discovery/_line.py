"""The link of a peer to its servers of discovery, or to a directory of its own over a store; and what is done over it."""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeAlias, final

import trio

import duplex
from duplex.resolvers import Linking
from duplex_services._shared._background import background
from duplex_services.discovery._rules._naming import is_store
from duplex_services.discovery._rules._retrying import next_pause
from duplex_services.discovery._serving import open_client

_log: Final = logging.getLogger("duplex")

#: What is needed of peers in this process.
PLAIN: Final = Linking()

#: What is done over a link, with the peer that has it, and again over the next one.
Job: TypeAlias = Callable[[duplex.Peer], Awaitable[None]]


@final
class Line:
    """A peer of its own that is linked to servers of discovery, and what is done over its links.

    Args:
        servers: their endpoints, or the URL of a store.
        linking: how to link to servers.

    Attributes:
        servers: the same.
        trouble: why there is no peer.
    """

    def __init__(self, servers: tuple[str, ...], linking: Linking = PLAIN) -> None:
        self.servers = servers
        self._linking = linking
        self.trouble = ""
        self._jobs: dict[Job, None] = {}
        self._start: Callable[[Job], None] | None = None

    @property
    def place(self) -> str:
        """Where that is, for a human; without what must stay secret."""
        return ", ".join(_shown(server) for server in self.servers)

    @property
    def advice(self) -> str:
        """What is to be done if nobody answers."""
        trouble = f" ({self.trouble})" if self.trouble else ""
        return (
            f"no server of discovery answers at {self.place}{trouble}: start one with `duplex discovery run`, or say where it is "
            f"with --discovery, DUPLEX_DISCOVERY or open_peer(discovery=...)"
        )

    def add(self, job: Job) -> None:
        """Do something, now and over whatever peer takes the place of this one, until it returns or is dropped."""
        self._jobs[job] = None
        if self._start is not None:
            self._start(job)

    def drop(self, job: Job) -> None:
        """Do something not again; what runs goes on."""
        self._jobs.pop(job, None)

    async def run(self) -> None:
        """Be linked until cancelled."""
        pause = 0.0
        while True:
            try:
                async with _reached(self.servers, self._linking) as peer:
                    self.trouble = ""
                    pause = 0.0
                    await self._work(peer)
            except duplex.DuplexError as error:
                self.trouble = str(error)
                _log.warning("the directory at %s cannot be opened: %s", self.place, error)
            pause = next_pause(pause)
            await trio.sleep(pause)

    async def _work(self, peer: duplex.Peer) -> None:
        async with background() as nursery:

            async def do(job: Job) -> None:
                await job(peer)
                self.drop(job)

            def start(job: Job) -> None:
                nursery.start_soon(do, job)

            self._start = start
            try:
                for job in list(self._jobs):
                    start(job)
                await trio.sleep_forever()
            finally:
                self._start = None


@contextlib.asynccontextmanager
async def _reached(servers: tuple[str, ...], linking: Linking) -> AsyncIterator[duplex.Peer]:
    async with contextlib.AsyncExitStack() as stack:
        endpoints = servers
        if is_store(servers[0]):
            # Only who keeps a directory itself needs all of that.
            from duplex_services.discovery._opening import open_directory
            from duplex_services.discovery._serving import open_server

            name = f"peer-{secrets.token_hex(4)}"
            directory = await stack.enter_async_context(open_directory(servers[0], server=name))
            _, ends = await stack.enter_async_context(open_server(directory, ["memory://*"]))
            endpoints, linking = tuple(ends), PLAIN
        yield await stack.enter_async_context(
            open_client(*endpoints, credentials=linking.credentials, tls=linking.tls)
        )


def _shown(server: str) -> str:
    """Return a server or a store without what may be a password."""
    scheme, separator, rest = server.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path.partition('?')[0]}"
