"""Frozen, validated policies of calls: when one is made again. Every default is documented beside its field."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Final

from duplex._errors import ConfigurationError
from duplex._numbers import LEAST_SECONDS, check_factor, check_seconds, check_whole
from duplex._status import StatusCode

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
    #: (``RPCError.retry_after``), and pauses begin anew.
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
    #: it once. For servers that keep keys, and one of which is called: each keeps its own.
    keyed: bool = False
    #: While many calls fail, more of them help nobody. Each service has a budget of so many tokens: a failed attempt
    #: takes one, a call that succeeds gives a part of one back, and nothing is tried again while half of them are gone.
    max_tokens: float = 10.0
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
