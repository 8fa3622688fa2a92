"""A registrar, and the directory that it lists things in, in this process."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import trio

from duplex_services._shared._background import background
from duplex_services.discovery import Directory, Instance, open_directory, open_server
from duplex_services.registration._docker._engine import Engine
from duplex_services.registration._docker._source import DockerSource
from duplex_services.registration._keeping import Keeper
from duplex_services.registration._loop import Registrar
from duplex_services.registration._model import Host, Options
from duplex_services.registration._state import open_state
from duplex_services.registration._targets._discovery import DiscoveryTarget
from tests.machine import within

HOST: Final = Host("h1", "192.0.2.1")


@dataclasses.dataclass
class Listing:
    """What is listed, as those who ask discovery see it."""

    directory: Directory
    endpoint: str

    @property
    def all(self) -> list[Instance]:
        """All instances, in whatever state."""
        view = self.directory.reading.view
        return [one for info in self.directory.reading.services() for one in view.all_instances(info.name)]

    def serving(self) -> set[str]:
        """``name address`` of those that serve."""
        return {f"{one.service} {one.address}" for one in self.all if one.serves}

    def states(self) -> dict[str, str]:
        """The state of each, by the name of its container."""
        return {one.metadata.get("container_name", one.id): one.state for one in self.all}

    def index(self) -> int:
        """How many changes there were."""
        return self.directory.reading.status().as_of

    async def until(self, is_so: Callable[[], bool], seconds: float = 10.0) -> float:
        """Wait until something is so, and return how many seconds that took."""
        began = time.monotonic()
        until = began + within(seconds)
        while not is_so():
            assert time.monotonic() < until, [
                self.directory.reading.explain(one.service, one.id) for one in self.all
            ]
            # Nobody tells when an engine has done what it was asked to.
            await trio.sleep(0.005)
        return time.monotonic() - began


@dataclasses.dataclass
class Running:
    """A registrar that runs."""

    registrar: Registrar
    source: DockerSource
    keeper: Keeper
    scope: trio.CancelScope


@contextlib.asynccontextmanager
async def listing(server: str = "test") -> AsyncIterator[Listing]:
    """Serve a directory in this process."""
    async with (
        open_directory("memory:", server=server) as directory,
        open_server(directory, ["tcp://127.0.0.1:*"]) as (_, ends),
    ):
        yield Listing(directory, ends[0])


@contextlib.asynccontextmanager
async def registering(
    url: str,
    into: Listing,
    state: Path,
    *,
    host: Host = HOST,
    interval: float = 10.0,
    clock: Callable[[], float] = time.time,
    **options: Any,
) -> AsyncIterator[Running]:
    """Run a registrar of an engine."""
    with open_state(state) as held:
        source = DockerSource(Engine(url), interval=interval)
        keeper = Keeper(DiscoveryTarget((into.endpoint,), held.owner), held.owner, interval=interval)
        registrar = Registrar([source], [keeper], Options(**options), lambda: host, held, clock=clock)
        async with background() as nursery:
            nursery.start_soon(registrar.run)
            yield Running(registrar, source, keeper, nursery.cancel_scope)
