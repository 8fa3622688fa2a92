"""Whether services take calls, as functions of the program find out: each is asked when somebody wants to know, and what it says
holds for a while."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from typing import final

import trio

from duplex._errors import as_text
from duplex.engine._failure import must_go_on

logger = logging.getLogger("duplex")


@final
class _Probe:
    """What is known of one service."""

    def __init__(self, function: Callable[[], Awaitable[object]], ttl: float, timeout: float) -> None:
        self.function = function
        self.ttl = ttl
        self.timeout = timeout
        self.is_well = False
        self.holds_until = -math.inf
        #: Set when the function that is being asked has answered; ``None`` if none is.
        self.answered: trio.Event | None = None


@final
class Probes:
    """Asks functions whether services take calls.

    Args:
        spawn: runs a task of the peer's.
        note_change: is called when a service is found to be otherwise than before.
    """

    def __init__(self, spawn: Callable[..., None], note_change: Callable[[], None]) -> None:
        self._spawn = spawn
        self._note_change = note_change
        self._probes: dict[str, _Probe] = {}

    def add(
        self, service: str, function: Callable[[], Awaitable[object]], ttl: float, timeout: float
    ) -> None:
        """Ask a function about a service from now on, instead of the one that was asked before."""
        self._probes[service] = _Probe(function, ttl, timeout)
        self._note_change()

    def is_well(self, service: str) -> bool:
        """Whether a service took calls when it was asked for last, or nobody is to be asked."""
        probe = self._probes.get(service)
        return probe is None or probe.is_well

    def ttl(self, service: str) -> float:
        """Return the seconds for which an answer holds; ``inf`` if nobody is to be asked."""
        probe = self._probes.get(service)
        return math.inf if probe is None else probe.ttl

    async def ask(self, service: str) -> None:
        """Return once it is known how a service is now. All who ask at the same time share one answer."""
        probe = self._probes.get(service)
        if probe is None or trio.current_time() < probe.holds_until:
            return
        if probe.answered is None:
            probe.answered = trio.Event()
            self._spawn(self._run, service, probe, name=f"duplex health of {service or 'the peer'}")
        await probe.answered.wait()

    async def _run(self, service: str, probe: _Probe) -> None:
        is_well = False
        why = "the function that was asked said so"
        answered = probe.answered
        assert answered is not None
        try:
            with trio.move_on_after(probe.timeout) as scope:
                answer = probe.function()
                if not isinstance(answer, Awaitable):
                    raise TypeError(f"it has returned {answer!r}, and a probe is an `async def`")
                is_well = bool(await answer)
            if scope.cancelled_caught:
                why = f"the function that was asked has not answered within {probe.timeout:g} s"
        except BaseException as error:
            if must_go_on(error):
                raise
            why = f"the function that was asked failed: {as_text(error)}"
        finally:
            probe.answered = None
            answered.set()
            self._note(service, probe, why, is_well=is_well)

    def _note(self, service: str, probe: _Probe, why: str, *, is_well: bool) -> None:
        was_known = probe.holds_until > -math.inf
        probe.holds_until = trio.current_time() + probe.ttl
        if is_well is probe.is_well and was_known:
            return
        probe.is_well = is_well
        what = f"service {service!r}" if service else "this peer"
        if not is_well:
            logger.warning("%s is not serving: %s", what, why)
        elif was_known:
            logger.info("%s is serving again", what)
        self._note_change()
