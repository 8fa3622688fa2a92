"""Calls that are made once more while they take long: ``with_options(hedging=duplex.HedgingPolicy())``."""

from __future__ import annotations

import math
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, final

import msgspec
import outcome
import trio

from duplex._errors import RPCError
from duplex._metadata import PREVIOUS_ATTEMPTS
from duplex._policies import LONGEST_PUSH_BACK, HedgingPolicy
from duplex.client._budget import Budget
from duplex.client._live import CHANNELS, holds
from duplex.engine._failure import must_go_on
from duplex.engine.calling import CallCounts, Caller, Opening, Request, begun


@final
class Race:
    """The attempts of one hedged call: when the next one is due, and which outcome counts.

    Args:
        policy: when there is another one.
        budget: that of the service.
        deadline: when the call has to end; what would come later is not made.
    """

    def __init__(self, policy: HedgingPolicy, budget: Budget, deadline: float = math.inf) -> None:
        self._policy = policy
        self._budget = budget
        self._deadline = deadline
        self.made = 0
        self._running = 0
        self._due = -math.inf
        self._may_have_executed = False
        #: The last failure after which another attempt would have made sense.
        self._failure: RPCError | None = None
        #: How the call has ended, once it has.
        self.outcome: outcome.Outcome[Any] | None = None

    def begin(self, now: float) -> None:
        """Another attempt is made now."""
        self.made += 1
        self._running += 1
        self._due = now + self._policy.delay

    def next_at(self) -> float:
        """Return when the next attempt is due; ``inf`` if there is none."""
        if self.made >= self._policy.max_attempts or (
            self.made and (not self._budget.allows_more or self._due >= self._deadline)
        ):
            return math.inf
        return self._due

    def succeeded(self, value: Any) -> None:
        """An attempt has succeeded: that is the outcome of the call."""
        if self.outcome is None:
            self._budget.succeeded()
            self.outcome = outcome.Value(value)

    def failed(self, error: BaseException, now: float) -> None:
        """An attempt has failed, and with it the call, unless there is another one."""
        self._running -= 1
        if self.outcome is not None:
            return
        if isinstance(error, RPCError):
            # The others are cancelled, or have failed: of the call as a whole that is not known any more.
            self._may_have_executed = self._may_have_executed or error.may_have_executed
            error.may_have_executed = self._may_have_executed or self._running > 0
            is_passing = error.peer is not None and (
                error.code in self._policy.codes or error.retry_after is not None
            )
            if is_passing:
                self._budget.failed()
                pause = error.retry_after or 0.0
                self._due = now + pause if pause <= LONGEST_PUSH_BACK else math.inf
                self._failure = error
                self.decide()
                return
        self.outcome = outcome.Error(error)

    def decide(self) -> bool:
        """Tell whether it is known how the call has ended. It is the last failure if no attempt is under way, and none is
        due any more.

        To be asked again before each wait: the budget belongs to all calls of the service, and whatever was left for
        another attempt may have gone to others meanwhile.
        """
        if (
            self.outcome is None
            and self._failure is not None
            and not self._running
            and self.next_at() == math.inf
        ):
            self.outcome = outcome.Error(self._failure)
        return self.outcome is not None


@final
class Hedging:
    """Makes calls once more while they take long; see :class:`duplex.HedgingPolicy`.

    Args:
        caller: makes each attempt.
        policy: when there is another one.
        budget: that of the service.
        counts: where attempts are counted.
    """

    def __init__(self, caller: Caller, policy: HedgingPolicy, budget: Budget, counts: CallCounts) -> None:
        self._caller = caller
        self._policy = policy
        self._budget = budget
        self._counts = counts

    async def unary(self, request: Request, positional: Sequence[Any], keyword: Mapping[str, Any], /) -> Any:
        """See :meth:`Caller.unary`."""
        if not request.idempotent or holds(CHANNELS, (*positional, *keyword.values())):
            return await self._caller.unary(request, positional, keyword)
        request = begun(request)
        deadline = math.inf if request.deadline is None else request.deadline
        race = Race(self._policy, self._budget, min(deadline, trio.current_effective_deadline()))
        decided = trio.Event()

        async def attempt(request: Request) -> None:
            nonlocal decided
            try:
                race.succeeded(await self._caller.unary(request, positional, keyword))
            except BaseException as error:
                if must_go_on(error):
                    raise
                race.failed(error, trio.current_time())
            decided.set()

        async with trio.open_nursery() as nursery:
            while not race.decide():
                now = trio.current_time()
                if race.next_at() <= now:
                    self._counts.hedges += race.made > 0
                    nursery.start_soon(attempt, _request_of(request, race.made))
                    race.begin(now)
                decided = trio.Event()
                with trio.move_on_at(race.next_at()):
                    await decided.wait()
            nursery.cancel_scope.cancel()
        assert race.outcome is not None
        return race.outcome.unwrap()

    def notify(
        self, request: Request, positional: Sequence[Any], keyword: Mapping[str, Any], /
    ) -> Coroutine[Any, Any, None]:
        """See :meth:`Caller.notify`. It has no answer that could take long."""
        return self._caller.notify(request, positional, keyword)

    def open(self, request: Request, positional: Sequence[Any], keyword: Mapping[str, Any], /) -> Opening:
        """See :meth:`Caller.open`. Streams are opened once."""
        return self._caller.open(request, positional, keyword)


def _request_of(request: Request, before: int) -> Request:
    if not before:
        return request
    metadata = {**(request.metadata or {}), PREVIOUS_ATTEMPTS: str(before)}
    return msgspec.structs.replace(request, metadata=metadata)
