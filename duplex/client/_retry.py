"""Calls that are made again if they fail: ``with_options(retry=duplex.RetryPolicy())``."""

from __future__ import annotations

import math
import random
import secrets
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, final

import msgspec
import trio

from duplex._backoff import pause_after
from duplex._errors import RPCError
from duplex._metadata import IDEMPOTENCY_KEY, PREVIOUS_ATTEMPTS
from duplex._policies import LONGEST_PUSH_BACK, RetryPolicy
from duplex._status import StatusCode
from duplex.client._budget import Budget
from duplex.client._live import LIVE, holds
from duplex.engine.calling import (
    CallCounts,
    Caller,
    LimitedOpening,
    Opening,
    OutgoingCall,
    Request,
    begun,
    bounded,
    with_retry,
)


@final
class Attempts:
    """The attempts of one call: what each one asks for, and whether there is another one after it has failed.

    Args:
        policy: when there is.
        request: what is called.
        budget: that of the service, with all who call it.
    """

    def __init__(self, policy: RetryPolicy, request: Request, budget: Budget) -> None:
        self._policy = policy
        self._first = request
        self._budget = budget
        self._may_run_twice = request.idempotent or request.idempotency_key is not None
        self._may_have_executed = False
        #: Attempts that were made.
        self.made = 1
        #: Those that have failed since the other side said last when to come back.
        self._failures = 0
        #: Whether there would be another attempt if the budget allowed it.
        self.is_throttled = False

    def request(self, now: float, *, attempt_timeout: float | None = None) -> Request:
        """Return what is asked for now.

        Args:
            now: the time, as :func:`trio.current_time` counts.
            attempt_timeout: seconds for this attempt; ``None`` for all the time that the call has.
        """
        first = self._first
        if self.made == 1 and attempt_timeout is None:
            return first
        changes: dict[str, Any] = {}
        if self.made > 1:
            changes["metadata"] = {**(first.metadata or {}), PREVIOUS_ATTEMPTS: str(self.made - 1)}
        if attempt_timeout is not None and (first.deadline is None or now + attempt_timeout < first.deadline):
            changes |= {"timeout": attempt_timeout, "deadline": now + attempt_timeout}
        return msgspec.structs.replace(first, **changes)

    @property
    def deadline(self) -> float:
        """When the call has to have ended; ``inf`` without a limit of its own."""
        return math.inf if self._first.deadline is None else self._first.deadline

    def succeeded(self) -> None:
        """The call has succeeded, or has begun to."""
        self._budget.succeeded()

    def pause_after(self, error: RPCError, now: float, deadline: float, chance: float) -> float | None:
        """Return the seconds until the next attempt, which is to be made then; ``None`` if there is none, and the error is
        how the call has ended.

        Args:
            error: how the latest attempt has ended.
            now: the time, as :func:`trio.current_time` counts.
            deadline: when the call has to have ended; ``inf`` without a limit.
            chance: a number drawn from 0 to 1.
        """
        pause = self._pause(error, chance)
        if pause is not None and now + pause < deadline:
            if self._budget.allows_more:
                self.made += 1
                return pause
            self.is_throttled = True
        if self.made > 1:
            error.add_note(f"It was tried {self.made} times.")
        return None

    def _pause(self, error: RPCError, chance: float) -> float | None:
        """Return the seconds until another attempt would make sense and be safe; ``None`` if none would."""
        is_safe = not error._took_channels and (self._may_run_twice or not error.may_have_executed)
        # Of all attempts, as the caller wants to know of the call.
        error.may_have_executed = self._may_have_executed = error.may_have_executed or self._may_have_executed
        if (
            error.peer is None
            or not self._is_worth_it(error)
            or (error.retry_after or 0.0) > LONGEST_PUSH_BACK
        ):
            return None  # with no peer there was nobody to ask, for as long as a call waits
        self._budget.failed()
        if not is_safe or self.made >= self._policy.max_attempts:
            return None
        if error.retry_after is not None:
            self._failures = 0
            return error.retry_after
        self._failures += 1
        return pause_after(self._failures, self._policy, chance)

    def _is_worth_it(self, error: RPCError) -> bool:
        codes = self._policy.codes
        is_slow = self._policy.attempt_timeout is not None and error.code is StatusCode.DEADLINE_EXCEEDED
        return error.code in codes or error.retry_after is not None or is_slow


@final
class Retrying:
    """Makes calls again that fail; see :class:`duplex.RetryPolicy`.

    Args:
        caller: makes each attempt.
        policy: when there is another one.
        budget: that of the service.
        counts: where attempts are counted.
    """

    def __init__(self, caller: Caller, policy: RetryPolicy, budget: Budget, counts: CallCounts) -> None:
        self._caller = caller
        self._policy = policy
        self._budget = budget
        self._counts = counts

    async def unary(self, request: Request, positional: Sequence[Any], keyword: Mapping[str, Any], /) -> Any:
        """See :meth:`Caller.unary`."""
        if (
            self._policy.keyed
            and request.idempotency_key is None
            and not holds(LIVE, (*positional, *keyword.values()))
        ):
            key = {IDEMPOTENCY_KEY: secrets.token_hex(16)}
            request = msgspec.structs.replace(request, metadata={**(request.metadata or {}), **key})
        attempts = Attempts(self._policy, begun(request), self._budget)
        timeout = self._policy.attempt_timeout
        while True:
            attempt = attempts.request(trio.current_time(), attempt_timeout=timeout)
            try:
                result = await self._caller.unary(attempt, positional, keyword)
            except RPCError as error:
                await self._wait(attempts, error)
            else:
                attempts.succeeded()
                return result

    def notify(
        self, request: Request, positional: Sequence[Any], keyword: Mapping[str, Any], /
    ) -> Coroutine[Any, Any, None]:
        """See :meth:`Caller.notify`. What becomes of it nobody learns, so it is made once."""
        return self._caller.notify(request, positional, keyword)

    def open(
        self, request: Request, positional: Sequence[Any], keyword: Mapping[str, Any], /
    ) -> LimitedOpening[OutgoingCall[Any, Any]]:
        """See :meth:`Caller.open`."""
        opening: Opening | None = None

        async def begin(request: Request) -> OutgoingCall[Any, Any]:
            attempts = Attempts(self._policy, bounded(request), self._budget)

            async def make() -> OutgoingCall[Any, Any]:
                nonlocal opening
                while True:
                    made = self._caller.open(attempts.request(trio.current_time()), positional, keyword)
                    try:
                        call: OutgoingCall[Any, Any] = await made.__aenter__()
                    except RPCError as error:
                        await self._wait(attempts, error)
                    else:
                        opening = made
                        return call

            async def make_again(error: RPCError) -> OutgoingCall[Any, Any]:
                nonlocal opening
                await self._wait(attempts, error)
                await end(call)
                return await make()

            call = with_retry(await make(), make_again, attempts.succeeded)
            return call

        async def end(_call: OutgoingCall[Any, Any]) -> None:
            nonlocal opening
            entered, opening = opening, None
            if entered is not None:
                await entered.__aexit__(None, None, None)

        return LimitedOpening(request, begin, end)

    async def _wait(self, attempts: Attempts, error: RPCError) -> None:
        """Wait until the next attempt is due, or raise the error of the last one."""
        deadline = min(attempts.deadline, trio.current_effective_deadline())
        pause = attempts.pause_after(error, trio.current_time(), deadline, random.random())
        if pause is None:
            self._counts.throttled += attempts.is_throttled
            raise error
        self._counts.retries += 1
        await trio.sleep(pause)
