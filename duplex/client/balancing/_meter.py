"""How the calls of one service to one peer go: how many are under way, and how long they take."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Final, Protocol, final

from duplex._status import StatusCode
from duplex.engine.calling import Caller

#: Seconds in which what is known of a peer loses most of its weight: so much later, a peer that was slow is asked again.
DECAY: Final = 2.0
#: Of a call that took longer than those before, this part counts at once: one hiccup is not yet a slow peer, and
#: three slow calls are.
_RISE: Final = 0.5
#: A call that a peer turned away counts as if it had taken so many times as long as its calls take, and so many seconds at
#: most. Who refuses everything in no time would otherwise seem to be the quickest.
_TURNED_AWAY: Final = 10.0
_MOST_PENALTY: Final = 10.0
#: Outcomes by which a peer says that it cannot take the call.
_REFUSALS: Final = frozenset({StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED})
#: Outcomes that say nothing good of how quick a peer is.
_FAULTS: Final = frozenset(
    {StatusCode.DEADLINE_EXCEEDED, StatusCode.INTERNAL, StatusCode.UNKNOWN, StatusCode.DATA_LOSS}
    | {StatusCode.CANCELLED, StatusCode.ABORTED}
)
#: Latencies below this many seconds do not differ, so that nobody is left out for a fraction of a millisecond.
FLOOR: Final = 0.005


class Noting(Caller, Protocol):
    """A caller whose calls are noted in a meter."""

    @property
    def caller(self) -> Caller:
        """What makes them."""


@final
class Meter:
    """What is known of the calls of one service to one peer."""

    __slots__ = ("_noted_at", "in_flight", "latency", "metered", "since", "streams", "turn")

    def __init__(self) -> None:
        #: Calls under way.
        self.in_flight = 0
        #: Those of them that were opened, of which no answer is to be expected in any time.
        self.streams = 0
        #: When the last unary call ended, or began if no other was under way: one has waited since then, if any waits.
        self.since = -math.inf
        #: Seconds that unary calls take, the floor included: a moving average that rises quickly. 0: not known yet.
        self.latency = 0.0
        #: When that was noted.
        self._noted_at = -math.inf
        #: When the peer was chosen last, as a number that grows with each choice.
        self.turn = 0
        #: Makes the calls that are measured, kept for the next ones.
        self.metered: Noting | None = None

    @property
    def waiting(self) -> int:
        """Unary calls under way."""
        return self.in_flight - self.streams

    def begin(self, now: float) -> None:
        """A unary call begins."""
        if self.in_flight == self.streams:
            self.since = now
        self.in_flight += 1

    def end(self, now: float, began: float) -> None:
        """A unary call was answered, with a result or with an error that says nothing about the peer."""
        self.in_flight -= 1
        self.since = now
        change = now - began + FLOOR - self.latency
        if change > 0.0:
            self.latency += change * _RISE if self.latency else change
        else:
            part = (now - self._noted_at) / DECAY
            self.latency += change * part if part < 1.0 else change
        self._noted_at = now

    def end_badly(self, now: float, began: float, code: StatusCode | None) -> None:
        """A unary call has failed, or was given up.

        Args:
            now: the time.
            began: when it began.
            code: how it failed; ``None`` if it was given up, of which is known only that it would have taken longer.
        """
        if code is not None and code not in _FAULTS and code not in _REFUSALS:
            self.end(now, began)
            return
        took = now - began
        if code in _REFUSALS:
            took = max(took, min(_TURNED_AWAY * (self.latency or FLOOR), _MOST_PENALTY))
        if took + FLOOR > self.latency:
            self.end(now, now - took)
            return
        self.in_flight -= 1
        self.since = now

    def estimate(self, now: float) -> float:
        """Return how many seconds a call would take that begins now, the floor included; 0 if that is not known.

        Calls that wait longer than was expected count as if they ended now. What was known of a peer that has no calls fades
        away, so it is asked again in time.
        """
        if self.waiting:
            return max(self.latency, now - self.since)
        if self.in_flight:
            return self.latency
        return self.latency * math.exp((self._noted_at - now) / DECAY)


@final
class Meters:
    """The meters of one service, by the id of the peer."""

    __slots__ = ("_by_id",)

    def __init__(self) -> None:
        self._by_id: dict[str, Meter] = {}

    def __getitem__(self, peer: str) -> Meter:
        meter = self._by_id.get(peer)
        if meter is None:
            meter = self._by_id[peer] = Meter()
        return meter

    def __len__(self) -> int:
        return len(self._by_id)

    def keep(self, peers: Collection[str]) -> None:
        """Forget other peers, once they are many: those that get no calls at present may come back."""
        if len(self._by_id) > 2 * len(peers) + 16:
            present = set(peers)
            self._by_id = {
                peer: meter for peer, meter in self._by_id.items() if peer in present or meter.in_flight
            }
