"""Containers of an engine: a list is the truth, events are hints to look, and while it is away nothing changes."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Final, final

import msgspec
import trio

from duplex_services._shared._background import background
from duplex_services.registration._docker._engine import Engine, EngineError
from duplex_services.registration._model import Container
from duplex_services.registration._rules._inspecting import outline, read_container
from duplex_services.registration._rules._stopping import Stop, is_over, read_stop
from duplex_services.registration._source import SourceError

_log: Final = logging.getLogger("duplex")

#: Seconds between two lists, if nothing hints at a change.
INTERVAL: Final = 10.0

#: Seconds between two attempts to reach an engine that is away.
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 0.5

#: Containers that are inspected at a time.
_AT_A_TIME: Final = 4


class Statistics(msgspec.Struct):
    """What was asked of the engine.

    Attributes:
        connections: how often it was greeted.
        lists: how often all containers were listed.
        inspections: how often one was looked at.
        events: how many came.
    """

    connections: int = 0
    lists: int = 0
    inspections: int = 0
    events: int = 0


@final
class DockerSource:
    """Containers of one engine.

    Args:
        engine: which.
        interval: seconds between two lists.

    Attributes:
        name: ``docker``.
        containers: all, as they were known last; ``None`` if they never were.
        trouble: why that may be old.
        statistics: what was asked.
    """

    def __init__(self, engine: Engine, *, interval: float = INTERVAL) -> None:
        self.name = "docker"
        self.containers: tuple[Container, ...] | None = None
        self.trouble = "it was not asked yet"
        self.statistics = Statistics()
        self._engine = engine
        self._interval = interval
        self._known: dict[str, Container] = {}
        self._outlines: dict[str, str] = {}
        self._stops: dict[str, Stop] = {}
        self._dirty: set[str] = set()
        self._hint = trio.Event()

    async def run(self, changed: Callable[[], None]) -> None:
        """Keep ``containers`` true until cancelled.

        Args:
            changed: called when they have become different, or it is not known any more whether they have.
        """
        pause = 0.0
        while True:
            connections = self.statistics.connections
            try:
                await self._follow(changed)
            except EngineError as error:
                if str(error) != self.trouble:
                    _log.warning("containers are not seen: %s", error)
                self.trouble = str(error)
                changed()
            finally:
                await self._engine.aclose()
            pause = min(_LONGEST_PAUSE, max(_FIRST_PAUSE, 2 * pause))
            if self.statistics.connections > connections:
                pause = _FIRST_PAUSE
            await trio.sleep(pause)

    async def look(self) -> None:
        """Look once.

        Raises:
            SourceError: the engine is away.
        """
        try:
            await self._engine.greet()
            await self._list()
        except EngineError as error:
            self.trouble = str(error)
            raise SourceError(str(error)) from error
        finally:
            await self._engine.aclose()

    async def _follow(self, changed: Callable[[], None]) -> None:
        await self._engine.greet()
        inode = self._inode()
        self.statistics.connections += 1
        async with self._engine.events() as events, background() as nursery:
            nursery.start_soon(self._listen, events)
            await self._list()
            changed()
            listed = trio.current_time()
            while True:
                with trio.move_on_at(listed + self._interval):
                    await self._hint.wait()
                self._hint = trio.Event()
                if self._inode() != inode:
                    raise EngineError(f"{self._engine.where} is another socket now")
                before, trouble = self.containers, self.trouble
                if trio.current_time() >= listed + self._interval:
                    await self._list()
                    listed = trio.current_time()
                else:
                    await self._look_at(self._dirty)
                    self._publish()
                if self.containers is not before or self.trouble != trouble:
                    changed()

    def _inode(self) -> tuple[int, int] | None:
        path = self._engine.socket
        if path is None:
            return None
        try:
            found = path.stat()
        except OSError as error:
            raise EngineError(f"{path}: {error.strerror}") from error
        return found.st_dev, found.st_ino

    async def _listen(self, events: AsyncIterator[dict[str, Any]]) -> None:
        async for event in events:
            self.statistics.events += 1
            actor = event.get("Actor") or {}
            attributes = actor.get("Attributes") or {}
            is_network = event.get("Type") == "network"
            id = attributes.get("container", "") if is_network else actor.get("ID", "")
            if not id:
                continue
            known = self._known.get(id)
            if known is not None and (stop := read_stop(event, known)) is not None:
                self._stops[id] = stop
            self._dirty.add(id)
            self._hint.set()
        raise EngineError(f"{self._engine.where} has ended its events")

    async def _list(self) -> None:
        lines = {line["Id"]: line for line in await self._engine.containers() if line.get("Id")}
        self.statistics.lists += 1
        for id in self._known.keys() - lines.keys():
            self._forget(id)
        different = {id for id, line in lines.items() if self._outlines.get(id) != outline(line)}
        await self._look_at(different | (self._dirty & lines.keys()))
        # What was looked at just now is no older than its line.
        self._outlines = {id: outline(line) for id, line in lines.items() if id in self._known}
        self._publish()

    async def _look_at(self, ids: Iterable[str]) -> None:
        limit = trio.CapacityLimiter(_AT_A_TIME)
        failures: list[EngineError] = []

        async def look(id: str) -> None:
            async with limit:
                if failures:
                    return
                # What happens from now on makes it dirty again.
                self._dirty.discard(id)
                try:
                    found = await self._engine.inspect(id)
                    self.statistics.inspections += 1
                except EngineError as error:
                    self._dirty.add(id)
                    failures.append(error)
                    return
                self._take(id, found)

        async with trio.open_nursery() as nursery:
            for id in list(ids):
                nursery.start_soon(look, id)
        if failures:
            raise failures[0]

    def _take(self, id: str, found: dict[str, Any] | None) -> None:
        if found is None:
            self._forget(id)
            return
        try:
            self._known[id] = read_container(found)
        except ValueError as error:
            # It stays as it was known, if it was.
            _log.warning("container %s: %s", id[:12], error)

    def _forget(self, id: str) -> None:
        for table in (self._known, self._outlines, self._stops):
            table.pop(id, None)
        self._dirty.discard(id)

    def _publish(self) -> None:
        for id, stop in list(self._stops.items()):
            known = self._known.get(id)
            if known is None or is_over(stop, known):
                del self._stops[id]
        for id, container in self._known.items():
            if container.is_stopping != (id in self._stops):
                self._known[id] = msgspec.structs.replace(container, is_stopping=id in self._stops)
        found = tuple(container for _, container in sorted(self._known.items()))
        # What is as it was stays the same object, which is quick to compare.
        self.containers = self.containers if found == self.containers else found
        self.trouble = ""
