"""Frozen, validated policies of calls: when one is made again, and who gets none for a while. Every default is
documented beside its field."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Final

from duplex._errors import ConfigurationError
from duplex._numbers import LEAST_SECONDS, check_factor, check_seconds, check_whole
from duplex._status import StatusCode

#: Seconds for which another side may ask to be left alone. Beyond that a call without a deadline would rather seem to hang, and the program
#: has the error, which says how long.
LONGEST_PUSH_BACK: Final = 600.0
#: Attempts that a call may have, at most; each is one more call for servers that may be overloaded.
_MOST_ATTEMPTS: Final = 100


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When a call that failed is made again: ``remote.with_options(retry=duplex.RetryPolicy())``.

    A call is made again only if that is safe: it certainly was not executed, or its method may run twice
    (``@rpc(idempotent=True)``, or the option ``idempotent``), or it has an idempotency key. A stream is made again only as
    long as nothing of it has come, and nothing was sent on it. The call's deadline is for all attempts together.

    The names and numbers are gRPC's (gRFC A6).
    """

    #: How often the call is made, the first time included.
    max_attempts: int = 4
    #: Seconds before the second attempt. If the other side says when to come back, it is that instead
    #: (``RPCError.retry_after``), and pauses begin anew; a time over ten minutes is not waited for, and the call has failed.
    initial: float = 0.1
    #: Seconds that no pause exceeds.
    maximum: float = 1.0
    #: How many times longer each pause is than the one before.
    multiplier: float = 2.0
    #: Each pause is made longer or shorter by up to this part of it, at random.
    jitter: float = 0.2
    #: The outcomes after which another attempt makes sense. So it does after any for which the other side says when.
    codes: frozenset[StatusCode] = frozenset({StatusCode.UNAVAILABLE})
    #: Seconds that each attempt of a unary call may take, after which it counts as failed; ``None``: all the time there is.
    attempt_timeout: float | None = None
    #: Give each unary call an idempotency key of its own, so that whatever it does may be tried again: the other side does
    #: it once. For servers that keep keys, and one of which is called: each keeps its own. Calls that pass callbacks or
    #: channels have none, as those live as long as one call.
    keyed: bool = False
    #: While many calls fail, more of them help nobody. Each service has a budget of so many tokens: a failed attempt
    #: takes one, a call that succeeds gives a part of one back, and nothing is tried again while half of them are gone.
    max_tokens: float = 100.0
    token_ratio: float = 0.1

    def __post_init__(self) -> None:
        name = type(self).__name__
        check_whole(f"{name}.max_attempts", self.max_attempts, low=1, high=_MOST_ATTEMPTS)
        check_seconds(f"{name}.initial", self.initial, low=LEAST_SECONDS)
        check_seconds(f"{name}.maximum", self.maximum, low=LEAST_SECONDS)
        if self.maximum < self.initial:
            raise ConfigurationError(
                f"{name}.maximum ({self.maximum}) must not be shorter than {name}.initial ({self.initial})"
            )
        check_factor(f"{name}.multiplier", self.multiplier, low=1, high=1000)
        check_factor(f"{name}.jitter", self.jitter, low=0, high=0.99)
        object.__setattr__(self, "codes", _codes(f"{name}.codes", self.codes))
        if self.attempt_timeout is not None:
            check_seconds(f"{name}.attempt_timeout", self.attempt_timeout, low=LEAST_SECONDS)
        if not isinstance(self.keyed, bool):
            raise ConfigurationError(f"{name}.keyed must be True or False, not {self.keyed!r}")
        check_factor(f"{name}.max_tokens", self.max_tokens, low=1, high=1000)
        check_factor(f"{name}.token_ratio", self.token_ratio, low=0.001, high=1000)


def _codes(name: str, value: Any) -> frozenset[StatusCode]:
    """Return status codes, however they were given."""
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        codes = frozenset(value)
        if all(isinstance(code, StatusCode) and code is not StatusCode.OK for code in codes):
            return codes
    raise ConfigurationError(f"{name} must be some of duplex.StatusCode other than OK, not {value!r}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HedgingPolicy:
    """When a call that takes long is made once more, beside the first: ``with_options(hedging=duplex.HedgingPolicy())``.

    The first answer counts, and all other attempts are cancelled. For what may run twice at once: unary methods with
    ``@rpc(idempotent=True)``, or calls with the option ``idempotent``; others are made once. A hedged call passes no channels.

    The names and numbers are gRPC's (gRFC A6).
    """

    #: How often the call is made, at most, the first time included.
    max_attempts: int = 2
    #: Seconds from one attempt to the next, unless an answer has come: what most calls take less than. If the other side
    #: says when to come back, it is that instead, up to ten minutes.
    delay: float = 0.5
    #: Outcomes of an attempt that do not end the call while there is another one; the next is made at once.
    codes: frozenset[StatusCode] = frozenset({StatusCode.UNAVAILABLE})
    #: As in :class:`RetryPolicy`: while many calls fail, none is made twice.
    max_tokens: float = 100.0
    token_ratio: float = 0.1

    def __post_init__(self) -> None:
        name = type(self).__name__
        check_whole(f"{name}.max_attempts", self.max_attempts, low=1, high=_MOST_ATTEMPTS)
        check_seconds(f"{name}.delay", self.delay)
        object.__setattr__(self, "codes", _codes(f"{name}.codes", self.codes))
        check_factor(f"{name}.max_tokens", self.max_tokens, low=1, high=1000)
        check_factor(f"{name}.token_ratio", self.token_ratio, low=0.001, high=1000)


#: Outcomes that speak against the peer that was called, and not against the call.
FAULTS: Final = frozenset(
    {
        StatusCode.UNKNOWN,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.INTERNAL,
        StatusCode.UNAVAILABLE,
        StatusCode.DATA_LOSS,
    }
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CircuitBreaker:
    """When a peer that fails gets no calls for a while: ``open_peer(circuit_breaker=duplex.CircuitBreaker())``.

    There is a circuit for each service and each peer that offers it. After so many calls in a row that failed it opens: calls
    go to the other peers, or, if there are none, fail at once with ``Unavailable``. After a while one call is let through;
    if that succeeds, the circuit is closed again.
    """

    #: Calls that have to fail, one after the other.
    failures: int = 5
    #: Seconds until the next one is let through.
    open_time: float = 30.0
    #: The outcomes that count as failures. All others are answers, and count as success.
    codes: frozenset[StatusCode] = FAULTS

    def __post_init__(self) -> None:
        name = type(self).__name__
        check_whole(f"{name}.failures", self.failures, low=1)
        check_seconds(f"{name}.open_time", self.open_time, low=LEAST_SECONDS)
        object.__setattr__(self, "codes", _codes(f"{name}.codes", self.codes))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OutlierDetection:
    """When a peer that fails more often than the others gets no calls for a while:
    ``open_peer(outlier_detection=duplex.OutlierDetection())``.

    In intervals the peers that offer a service are compared by how many of their calls succeeded. Who is worse than the others
    is ejected: calls go to the others, for a time that is longer each time it happens.

    The names and numbers are gRPC's (gRFC A50).
    """

    #: Seconds from one comparison to the next.
    interval: float = 10.0
    #: Seconds for which a peer is ejected, times how often it was lately; and the longest that may be.
    base_ejection_time: float = 30.0
    max_ejection_time: float = 300.0
    #: No more are ejected when so much of a hundred are; one may always be.
    max_ejection_percent: int = 10
    #: Who has a rate of success that is lower than the mean by so many thousandths of the standard deviation, among at
    #: least so many peers that had at least so many calls, is ejected in so many of a hundred cases; 0: never.
    success_rate_stdev_factor: int = 1900
    success_rate_minimum_hosts: int = 5
    success_rate_request_volume: int = 100
    success_rate_enforcement: int = 100
    #: Who fails more than so many of a hundred calls; all else likewise.
    failure_percentage_threshold: int = 85
    failure_percentage_minimum_hosts: int = 5
    failure_percentage_request_volume: int = 50
    failure_percentage_enforcement: int = 100
    #: The outcomes that count as failures.
    codes: frozenset[StatusCode] = FAULTS

    def __post_init__(self) -> None:
        name = type(self).__name__
        for field in ("interval", "base_ejection_time", "max_ejection_time"):
            check_seconds(f"{name}.{field}", getattr(self, field), low=LEAST_SECONDS)
        for field in (
            "max_ejection_percent",
            "success_rate_enforcement",
            "failure_percentage_threshold",
            "failure_percentage_enforcement",
        ):
            check_whole(f"{name}.{field}", getattr(self, field), low=0, high=100)
        check_whole(f"{name}.success_rate_stdev_factor", self.success_rate_stdev_factor, low=0)
        for field in (
            "success_rate_minimum_hosts",
            "success_rate_request_volume",
            "failure_percentage_minimum_hosts",
            "failure_percentage_request_volume",
        ):
            check_whole(f"{name}.{field}", getattr(self, field), low=1)
        object.__setattr__(self, "codes", _codes(f"{name}.codes", self.codes))
