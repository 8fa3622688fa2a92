"""A service that says which peer it is at, and peers that offer it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import trio
import trio.testing

import duplex
from tests.engine.helpers import endpoint_of


def named(name: str, service_name: str = "who") -> duplex.Service:
    """A service that says which peer it is at."""
    service = duplex.Service(service_name)

    @service.rpc
    async def name_() -> str:
        return name

    @service.rpc
    async def wait() -> None:
        await trio.sleep_forever()

    return service


@contextlib.asynccontextmanager
async def serving(*names: str, scheme: str = "memory", path: Path | None = None) -> AsyncIterator[list[str]]:
    """Peers of these names; gives their endpoints."""
    async with contextlib.AsyncExitStack() as stack:
        endpoints = []
        for number, name in enumerate(names):
            peer = await stack.enter_async_context(duplex.open_peer(services=[named(name)], name=name))
            directory = (path or Path()) / str(number)
            if scheme == "ipc":
                directory.mkdir()
            endpoints.append(await peer.bind(endpoint_of(scheme, directory)))
        yield endpoints
