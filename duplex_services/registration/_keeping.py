"""One registry, kept equal to what is to be listed; that another one is away is nothing to it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final, final

import msgspec
import trio

from duplex_services._shared._background import background
from duplex_services.registration._model import Entry, Service
from duplex_services.registration._rules._difference import Difference, Drop, Put, difference
from duplex_services.registration._target import RefusedError, Target, TargetError

_log: Final = logging.getLogger("duplex")

#: Seconds between two looks, if there is no reason for one.
INTERVAL: Final = 10.0

#: Seconds until a registry that is away is asked again.
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0

#: What is done at a time.
_AT_A_TIME: Final = 16


class Statistics(msgspec.Struct):
    """What was done.

    Attributes:
        looks: how often the registry was compared with what is to be listed.
        writes: what was put or dropped.
        failures: what did not succeed.
    """

    looks: int = 0
    writes: int = 0
    failures: int = 0


@final
class Keeper:
    """Keeps one registry.

    Args:
        target: the registry.
        owner: whose entries these are.
        interval: seconds between two looks.

    Attributes:
        target: the same.
        trouble: why it may not have what it is to have; empty if it has.
        refused: why services are not listed there, by name and id.
        statistics: what was done.
    """

    def __init__(self, target: Target, owner: str, *, interval: float = INTERVAL) -> None:
        self.target = target
        self.trouble = "it was not asked yet"
        self.refused: dict[tuple[str, str], str] = {}
        self.statistics = Statistics()
        self._owner = owner
        self._interval = interval
        self._services: Sequence[Service] | None = None
        self._may_drop = False
        self._reason = trio.Event()
        #: What the registry has refused; asked again only when it is different.
        self._refusals: dict[str, tuple[Entry, str]] = {}

    def want(self, services: Sequence[Service], *, may_drop: bool) -> None:
        """Say what is to be listed from now on.

        Args:
            services: all.
            may_drop: whether all is known: while a source was never seen, what is listed may be its.
        """
        self._services, self._may_drop = services, may_drop
        self.wake()

    def wake(self) -> None:
        """Look soon: there may be something to do."""
        self._reason.set()

    async def run(self) -> None:
        """Keep it until cancelled."""
        async with background() as nursery:
            nursery.start_soon(self.target.run, self.wake)
            pause = 0.0
            while True:
                with trio.move_on_after(pause or self._interval):
                    if pause:
                        await trio.sleep_forever()
                    await self._reason.wait()
                self._reason = trio.Event()
                if self._services is None:
                    continue
                try:
                    await self._keep(self._services)
                except TargetError as error:
                    if str(error) != self.trouble:
                        _log.warning("%s is not kept: %s", self.target.name, error)
                    self.trouble = str(error)
                    pause = min(_LONGEST_PAUSE, max(_FIRST_PAUSE, 2 * pause))
                else:
                    self.trouble = ""
                    pause = 0.0

    async def plan(self, services: Sequence[Service]) -> Difference:
        """Return what would be done.

        Raises:
            TargetError: the registry is away.
        """
        return difference(services, await self.target.entries(), self._owner, self.target.entry_of)

    async def _keep(self, services: Sequence[Service]) -> None:
        found = difference(services, await self.target.entries(), self._owner, self.target.entry_of)
        self.statistics.looks += 1
        self.refused = {(refusal.service.name, refusal.service.id): refusal.why for refusal in found.refusals}
        drops = [action for action in found.actions if isinstance(action, Drop) and self._may_drop]
        puts = [action for action in found.actions if isinstance(action, Put)]
        # What goes goes first: what comes may want its place.
        failures: list[TargetError] = []
        for actions in (drops, puts):
            failures += await self._do_all(actions)
        self._refusals = {key: said for key, said in self._refusals.items() if key in self._keys(puts)}
        if failures:
            raise failures[0]

    @staticmethod
    def _keys(puts: Sequence[Put]) -> Mapping[str, Put]:
        return {put.entry.key: put for put in puts}

    async def _do_all(self, actions: Sequence[Drop | Put]) -> list[TargetError]:
        failures: list[TargetError] = []
        limit = trio.CapacityLimiter(_AT_A_TIME)

        async def do(action: Drop | Put) -> None:
            async with limit:
                try:
                    await self._do(action)
                except TargetError as error:
                    self.statistics.failures += 1
                    failures.append(error)

        async with trio.open_nursery() as nursery:
            for action in actions:
                nursery.start_soon(do, action)
        return failures

    async def _do(self, action: Drop | Put) -> None:
        key = action.entry.key
        if isinstance(action, Put):
            refused, why = self._refusals.get(key, (None, ""))
            if refused == action.entry:
                self.refused[action.service.name, action.service.id] = why
                return
        try:
            if isinstance(action, Put):
                await self.target.put(action)
            else:
                await self.target.drop(action.entry, action.why)
        except RefusedError as error:
            _log.warning("%s does not take %s: %s", self.target.name, key, error)
            if isinstance(action, Put):
                self._refusals[key] = (action.entry, str(error))
                self.refused[action.service.name, action.service.id] = str(error)
            return
        self.statistics.writes += 1
