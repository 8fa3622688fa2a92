"""How many calls are served at once, and how often: what is more is refused, and told when to come back."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Final, TypeAlias, final

import trio

import duplex
from duplex._numbers import check_factor, check_whole

#: Runs around calls that are served.
Middleware: TypeAlias = Callable[[duplex.ServedCall, duplex.Next], Coroutine[Any, Any, Any]]
#: Says what a call counts for.
Key: TypeAlias = Callable[[duplex.ServedCall], Hashable]

#: Seconds after which a caller may try again who came while too many calls ran.
_PAUSE: Final = 0.1
#: Keys whose buckets are kept before full ones, which nobody has used lately, are looked for.
_MANY: Final = 1024


@final
class TokenBucket:
    """Says whether something may happen, so that it does so often on average, and so often at once. Knows no clock.

    Args:
        rate: how often in a second.
        burst: how often at once.
        now: the time, in seconds.
    """

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now

    def _fill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now

    def take(self, now: float) -> float:
        """Return 0 if it may happen now, and so does; else the seconds until it may."""
        self._fill(now)
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._rate

    def is_full(self, now: float) -> bool:
        """Whether it is as if nothing had ever happened."""
        self._fill(now)
        return self._tokens >= self._burst


def limit_rate(per_second: float, burst: int = 1, *, key: Key | None = None) -> Middleware:
    """Return middleware that refuses calls which come too often, with ``ResourceExhausted``; its ``retry_after`` says when there is
    room again. As middleware of a peer or a service it counts all calls together, as that of a method the method's.

    Args:
        per_second: how many calls there may be in a second, on average.
        burst: how many at once.
        key: says what each call counts for, ``lambda call: call.peer.id`` for the peer that makes it; ``None``: for all.

    Raises:
        ConfigurationError: an argument is wrong.
    """
    check_factor("per_second", per_second, low=1e-6, high=1e6)
    check_whole("burst", burst, low=1)
    buckets: dict[Hashable, TokenBucket] = {}
    sweep_at = _MANY

    async def limit(call: duplex.ServedCall, next: duplex.Next) -> Any:
        nonlocal sweep_at
        now = trio.current_time()
        who = None if key is None else key(call)
        bucket = buckets.get(who)
        if bucket is None:
            if len(buckets) >= sweep_at:
                for one in [one for one, its in buckets.items() if its.is_full(now)]:
                    del buckets[one]
                sweep_at = max(_MANY, 2 * len(buckets))
            bucket = buckets[who] = TokenBucket(per_second, burst, now)
        pause = bucket.take(now)
        if pause:
            raise _refusal(f"{call.method} is called more often than {per_second:g} times a second", pause)
        return await next(call)

    return limit


def limit_concurrency(most: int, *, key: Key | None = None) -> Middleware:
    """Return middleware that refuses calls while too many run, with ``ResourceExhausted``.

    Args:
        most: how many calls run at once.
        key: as for :func:`limit_rate`.

    Raises:
        ConfigurationError: an argument is wrong.
    """
    check_whole("most", most, low=1)
    running: dict[Hashable, int] = {}

    async def limit(call: duplex.ServedCall, next: duplex.Next) -> Any:
        who = None if key is None else key(call)
        present = running.get(who, 0)
        if present >= most:
            raise _refusal(f"{present} calls run already, the limit of {call.method}", _PAUSE)
        running[who] = present + 1
        try:
            return await next(call)
        finally:
            running[who] -= 1
            if not running[who]:
                del running[who]

    return limit


def _refusal(message: str, pause: float) -> duplex.ResourceExhausted:
    error = duplex.ResourceExhausted(message)
    error.retry_after = pause
    return error
