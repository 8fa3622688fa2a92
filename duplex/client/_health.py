"""Which of the peers that offer a service get calls at present, judged by how their calls have ended."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, TypeVar, final

import trio

from duplex._errors import RPCError
from duplex._policies import CircuitBreaker, OutlierDetection
from duplex.client._breaker import Circuit
from duplex.client._outliers import Outliers
from duplex.engine.calling import CallCounts, Caller, Opening, OutgoingCall, Request, ending_of

logger = logging.getLogger("duplex")


class Judged(Protocol):
    """A peer that offers the service."""

    @property
    def id(self) -> str:
        """Which peer it is."""

    @property
    def name(self) -> str:
        """What it calls itself, for the log."""


JudgedT = TypeVar("JudgedT", bound=Judged)


@final
class Health:
    """Who gets calls of one service.

    Args:
        service: its name, for the log.
        breaker: when circuits open; ``None`` for never.
        detection: how peers are compared; ``None`` for not at all.
        chance: for what is left to chance.
        counts: where ejections are counted.
        now: the time, as :func:`trio.current_time` counts.
    """

    def __init__(
        self,
        service: str,
        breaker: CircuitBreaker | None,
        detection: OutlierDetection | None,
        chance: random.Random,
        counts: CallCounts,
        now: float,
    ) -> None:
        self._service = service
        self._breaker = breaker
        self._detection = detection
        self._counts = counts
        self._circuits: dict[str, Circuit] = {}
        #: The streams that probe them, by peer.
        self._probing: dict[str, WatchedOpening] = {}
        self._outliers = None if detection is None else Outliers(detection, chance, now)
        #: Those of whom :meth:`admitted` has judged last, whom it has admitted, and until when that holds.
        self._candidates: Sequence[Judged] = ()
        self._names: dict[str, str] = {}
        self._admitted: tuple[Any, ...] = ()
        self._holds_until = -math.inf

    def admitted(self, candidates: tuple[JudgedT, ...], now: float) -> tuple[JudgedT, ...]:
        """Return those who get calls now: the same object as before if nothing has changed."""
        if candidates is self._candidates and now < self._holds_until:
            return self._admitted
        if candidates is not self._candidates:
            self._forget_others(candidates)
        outliers = self._outliers
        if outliers is not None:
            for peer in outliers.compare([one.id for one in candidates], now):
                self._note(peer, "fails more often than the others that offer it")
        admitted = tuple(one for one in candidates if self._admits(one.id, now))
        if len(admitted) == len(candidates):
            admitted = candidates
        if admitted != self._admitted or not admitted:
            self._admitted = admitted
        self._candidates = candidates
        changes = [circuit.next_change(now) for circuit in self._circuits.values()]
        until = min([math.inf if outliers is None else outliers.due, *changes])
        self._holds_until = -math.inf if self._probing else until
        return self._admitted

    def _admits(self, peer: str, now: float) -> bool:
        circuit = self._circuits.get(peer)
        if circuit is not None and not circuit.admits(now) and not self._is_answered(peer, now):
            return False
        return self._outliers is None or not self._outliers.is_ejected(peer)

    def _is_answered(self, peer: str, now: float) -> bool:
        """Whether the stream that probes a peer has brought something. It need not end for that: some last for days."""
        probing = self._probing.get(peer)
        if probing is None or not probing.is_answered:
            return False
        self.end_probing(peer, probing)
        self._end_in_circuit(peer, has_failed=False, now=now, was_probe=True)
        return True

    def begin_probing(self, peer: str, probing: WatchedOpening) -> None:
        """A stream that probes a peer has been opened."""
        self._probing[peer] = probing

    def end_probing(self, peer: str, probing: WatchedOpening) -> None:
        """It is over, or has done its part."""
        probing.is_probe = False
        if self._probing.get(peer) is probing:
            del self._probing[peer]

    def _forget_others(self, candidates: Sequence[Judged]) -> None:
        """Forget peers that do not offer the service any more; not that a circuit is open, if they come back."""
        self._names = present = {one.id: one.name for one in candidates}
        self._circuits = {
            peer: circuit for peer, circuit in self._circuits.items() if peer in present or circuit.is_open
        }

    def watching(self, caller: Caller, peer: str) -> Watched:
        """Return what makes calls to a peer and notes how they end."""
        return Watched(caller, self, peer)

    def begin(self, peer: str) -> bool:
        """A call to a peer begins; tell whether it is a probe of its circuit."""
        circuit = self._circuits.get(peer)
        if circuit is None:
            return False
        is_probe = circuit.begin(trio.current_time())
        if is_probe:
            self._holds_until = -math.inf
        return is_probe

    def end(self, peer: str, error: RPCError | None, *, is_known: bool, was_probe: bool) -> None:
        """A call to a peer has ended.

        Args:
            peer: which one.
            error: how; ``None`` if it has succeeded.
            is_known: whether that is known. It is not of calls that were given up here.
            was_probe: what :meth:`begin` returned.
        """
        now = trio.current_time()
        if self._outliers is not None and self._detection is not None and is_known:
            has_failed = error is not None and error.code in self._detection.codes
            self._outliers.note(peer, has_failed=has_failed)
        if self._breaker is not None:
            has_failed = error is not None and error.code in self._breaker.codes
            self._end_in_circuit(peer, has_failed if is_known else None, now, was_probe=was_probe)

    def _end_in_circuit(self, peer: str, has_failed: bool | None, now: float, *, was_probe: bool) -> None:
        circuit = self._circuits.get(peer)
        if circuit is None:
            if not has_failed or self._breaker is None:
                return
            circuit = self._circuits[peer] = Circuit(self._breaker)
        has_changed = circuit.end(has_failed, now, was_probe=was_probe)
        if has_changed or was_probe:
            self._holds_until = -math.inf
        if has_changed and circuit.is_open:
            self._note(peer, f"has failed {self._breaker and self._breaker.failures} times in a row")
        elif has_changed:
            logger.info("%s gets calls of %s again", self._names.get(peer, peer), self._service)
        if circuit.is_untouched:
            del self._circuits[peer]

    def _note(self, peer: str, why: str) -> None:
        self._counts.ejections += 1
        name = self._names.get(peer, peer)
        logger.warning("%s gets no calls of %s for a while: it %s", name, self._service, why)


@final
class Watched:
    """Makes calls to one peer, and notes how they end.

    Args:
        caller: makes them.
        health: what is told.
        peer: which peer it is.
    """

    __slots__ = ("_caller", "_health", "_peer")

    def __init__(self, caller: Caller, health: Health, peer: str) -> None:
        self._caller = caller
        self._health = health
        self._peer = peer

    async def unary(self, request: Request, positional: Sequence[Any], keyword: Mapping[str, Any], /) -> Any:
        """See :meth:`Caller.unary`."""
        was_probe = self._health.begin(self._peer)
        error: RPCError | None = None
        is_known = False
        try:
            result = await self._caller.unary(request, positional, keyword)
            is_known = True
            return result
        except RPCError as failure:
            error = failure
            is_known = True
            raise
        finally:
            self._health.end(self._peer, error, is_known=is_known, was_probe=was_probe)

    def open(
        self, request: Request, positional: Sequence[Any], keyword: Mapping[str, Any], /
    ) -> WatchedOpening:
        """See :meth:`Caller.open`."""
        return WatchedOpening(self._caller.open(request, positional, keyword), self._health, self._peer)

    def notify(
        self, request: Request, positional: Sequence[Any], keyword: Mapping[str, Any], /
    ) -> Coroutine[Any, Any, None]:
        """See :meth:`Caller.notify`. How it ends nobody learns."""
        return self._caller.notify(request, positional, keyword)


@final
class WatchedOpening:
    """Opens a call, and notes how it ends."""

    __slots__ = ("_call", "_health", "_opening", "_peer", "is_probe")

    def __init__(self, opening: Opening, health: Health, peer: str) -> None:
        self._opening = opening
        self._health = health
        self._peer = peer
        self._call: OutgoingCall[Any, Any]
        #: Whether how it ends says whether the peer is well again.
        self.is_probe = False

    async def __aenter__(self) -> OutgoingCall[Any, Any]:
        self.is_probe = self._health.begin(self._peer)
        error: RPCError | None = None
        is_open = False
        try:
            self._call = await self._opening.__aenter__()
            is_open = True
        except RPCError as failure:
            error = failure
            raise
        finally:
            if not is_open:
                self._end(error, is_known=error is not None)
        if self.is_probe:
            self._health.begin_probing(self._peer, self)
        return self._call

    @property
    def is_answered(self) -> bool:
        """Whether anything has come."""
        statistics = self._call.statistics()
        return statistics.received + statistics.buffered_items > 0

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        has_ended, error = ending_of(self._call)
        self._end(error, is_known=has_ended)
        return await self._opening.__aexit__(exc_type, exc, traceback)

    def _end(self, error: RPCError | None, *, is_known: bool) -> None:
        was_probe = self.is_probe
        self._health.end_probing(self._peer, self)
        self._health.end(self._peer, error, is_known=is_known, was_probe=was_probe)
