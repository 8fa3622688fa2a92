"""What is counted of calls, for each method: how many, how they ended, how long they took, and how much they moved.

It is counted once for each call, when it ends. Durations fall into buckets, eight for each power of two, so that any
percentile is known to within 5 %, and 248 numbers are all that is kept of a method. A library's histogram (``hdrhistogram``)
was measured instead: it takes 140 bytecodes for each duration, and this takes 16.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, final

import msgspec

from duplex._numbers import check_factor
from duplex._status import StatusCode

#: Buckets of each power of two.
_STEPS: Final = 8
#: The longest duration of each bucket but the last, in seconds: from a microsecond to some 20 minutes.
BOUNDS: Final = tuple(1e-6 * 2.0 ** (step / _STEPS) for step in range(30 * _STEPS + 1))
#: Methods that are called here, and are told apart. A program may call others' methods by any names.
MOST_METHODS: Final = 1000
#: Under what the others are counted.
OTHERS: Final = "(others)"
#: Statuses that are told apart of one method. Peers may answer with any number.
MOST_STATUSES: Final = 64
_OTHER_STATUSES: Final = -1


@final
class MethodStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted of the calls of one method since the peer was opened, in one direction."""

    #: ``service.method``; ``callback`` for functions that travelled as values.
    method: str
    #: ``"served"`` by this peer, or ``"made"`` by it. Each attempt of a call that is tried again is one.
    direction: Literal["served", "made"]
    #: Those that have ended, and those that are under way.
    calls: int
    in_flight: int
    #: How many ended so, by the name of a :class:`StatusCode` other than ``OK``, or by a number; ``(others)`` are those of which there
    #: are too many.
    errors: dict[str, int]
    #: How long those that have ended took together, in seconds, to within 5 %. A served call begins when it has come.
    seconds: float
    #: How many took how long: the bound of each bucket that is not empty, in seconds, and the calls in it. The bound is the
    #: longest duration of the bucket, the shortest is 8 % less; ``inf`` is what took longer than all.
    latencies: list[tuple[float, int]]
    #: Bytes of arguments, results and items that came and went, attachments included. Of what did not end they are not
    #: counted yet.
    bytes_received: int
    bytes_sent: int
    #: How often a call had to wait before it could send, because the other side had not taken what was sent before.
    credit_waits: int

    def percentile(self, part: float) -> float:
        """Return the seconds that at least this part of the calls did not exceed, to within 5 %; 0 if there are none.

        Args:
            part: from 0 to 1.

        Raises:
            ConfigurationError: it is no number from 0 to 1.
        """
        return percentile(self.latencies, check_factor("part", part, low=0, high=1))


def percentile(latencies: Sequence[tuple[float, int]], part: float) -> float:
    """See :meth:`MethodStatistics.percentile`."""
    rank = part * sum(count for _, count in latencies)
    seen = 0
    for bound, count in latencies:
        seen += count
        if seen >= rank:
            return _middle(bound)
    return 0.0


def _middle(bound: float) -> float:
    """Return what stands for all in a bucket."""
    return BOUNDS[-1] if bound > BOUNDS[-1] else bound * 2 ** (-0.5 / _STEPS)


@final
class MethodCounts:
    """Counts the calls of one method in one direction."""

    __slots__ = ("buckets", "credit_waits", "errors", "received", "sent")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.errors: dict[int, int] = {}
        self.received = 0
        self.sent = 0
        self.credit_waits = 0

    def ended(self, status: int, seconds: float, received: int, sent: int) -> None:
        """A call has ended. What answers nearly all calls does the same in its own place (``ServedChannel._close``,
        ``UnaryCall.run``), because a function for it would cost half as much again.

        Args:
            status: how; 0 is well.
            seconds: how long it took.
            received: bytes that came.
            sent: bytes that went.
        """
        self.buckets[bisect_left(BOUNDS, seconds)] += 1
        self.received += received
        self.sent += sent
        if status:
            self.failed(status)

    def failed(self, status: int) -> None:
        """Note the status of a call that has ended otherwise than well."""
        errors = self.errors
        if status not in errors and len(errors) >= MOST_STATUSES:
            status = _OTHER_STATUSES
        errors[status] = errors.get(status, 0) + 1

    def statistics(
        self, method: str, direction: Literal["served", "made"], in_flight: int
    ) -> MethodStatistics:
        """Return a snapshot."""
        latencies = [pair for pair in zip((*BOUNDS, math.inf), self.buckets, strict=True) if pair[1]]
        return MethodStatistics(
            method=method,
            direction=direction,
            calls=sum(self.buckets),
            in_flight=in_flight,
            errors={_name(status): count for status, count in sorted(self.errors.items())},
            seconds=sum(_middle(bound) * count for bound, count in latencies),
            latencies=latencies,
            bytes_received=self.received,
            bytes_sent=self.sent,
            credit_waits=self.credit_waits,
        )


def _name(status: int) -> str:
    if status == _OTHER_STATUSES:
        return OTHERS
    try:
        return StatusCode(status).name
    except ValueError:
        return str(status)


@final
class Methods(dict[str, MethodCounts]):
    """Counts by method, made when a method is first asked for."""

    def __missing__(self, method: str) -> MethodCounts:
        if (name := self.told_apart(method)) != method:
            return self[name]
        counts = self[method] = MethodCounts()
        return counts

    def told_apart(self, method: str) -> str:
        """Return the name under which a method's calls are counted."""
        name = counted_name(method)
        return name if name in self or len(self) < MOST_METHODS else OTHERS


@final
class Counting:
    """What one peer counts of its calls."""

    def __init__(self) -> None:
        self.served = Methods()
        self.made = Methods()
        #: Calls of methods that this peer does not have.
        self.unknown = 0

    def waits(self, user: Any) -> None:
        """A call waits for credit.

        Args:
            user: what uses its channel: see :class:`duplex.engine.channels._user.ChannelUser`.
        """
        if not user.is_value:
            methods = self.made if user.opener else self.served
            methods[counted_name(user.method)].credit_waits += 1

    def statistics(self, under_way: Iterable[Any]) -> list[MethodStatistics]:
        """Return a snapshot, sorted by method.

        Args:
            under_way: those that use channels: see :class:`duplex.engine.channels._user.ChannelUser`.
        """
        in_flight: dict[bool, dict[str, int]] = {True: {}, False: {}}
        for user in under_way:
            if not user.is_value:
                counts = in_flight[user.opener]
                name = (self.made if user.opener else self.served).told_apart(user.method)
                counts[name] = counts.get(name, 0) + 1
        return sorted(
            [
                *_snapshots(self.served, "served", in_flight[False]),
                *_snapshots(self.made, "made", in_flight[True]),
            ],
            key=lambda one: (one.method, one.direction),
        )


def _snapshots(
    methods: Methods, direction: Literal["served", "made"], in_flight: Mapping[str, int]
) -> list[MethodStatistics]:
    return [
        methods[name].statistics(name, direction, in_flight.get(name, 0))
        for name in list(dict.fromkeys([*methods, *in_flight]))
    ]


def counted_name(method: str) -> str:
    """Return the name under which a call is counted: callbacks have numbers, and are one."""
    return "callback" if method.startswith("callback ") else method
