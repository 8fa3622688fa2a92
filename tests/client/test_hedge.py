"""Calls that are made once more while they take long."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

import duplex
from duplex._policies import HedgingPolicy
from duplex.client._budget import Budget
from duplex.client._hedge import Race
from duplex.client._live import CHANNELS, LIVE, holds
from tests.engine.helpers import linked, outcome, until
from tests.machine import fail_after


def race(**policy: Any) -> Race:
    made = HedgingPolicy(**policy)
    return Race(made, Budget(made))


def failed(
    kind: type[duplex.RPCError] = duplex.Unavailable,
    *,
    retry_after: float | None = None,
    executed: bool = True,
) -> duplex.RPCError:
    error = kind("no")
    error.peer = "server"
    error.retry_after = retry_after
    error.may_have_executed = executed
    return error


# -- the decision --------------------------------------------------------------------------------------


def test_attempts_follow_each_other_after_the_delay() -> None:
    run = race(max_attempts=3, delay=2)
    assert run.next_at() == -math.inf
    run.begin(10.0)
    assert run.next_at() == 12.0
    run.begin(12.0)
    assert run.next_at() == 14.0
    run.begin(14.0)
    assert run.next_at() == math.inf


def test_the_first_success_counts() -> None:
    run = race(max_attempts=3)
    for _ in range(3):
        run.begin(0.0)
    run.failed(failed(), 1.0)
    run.succeeded("first")
    run.succeeded("second")
    run.failed(failed(duplex.NotFound), 1.0)
    assert run.outcome is not None
    assert run.outcome.unwrap() == "first"


def test_an_attempt_that_fails_is_followed_at_once() -> None:
    run = race(max_attempts=3, delay=2)
    run.begin(0.0)
    run.failed(failed(), 0.5)
    assert run.next_at() == 0.5
    run.begin(0.5)
    run.failed(failed(retry_after=7.0), 1.0)
    assert run.next_at() == 8.0, "the other side says when"
    run.begin(8.0)
    run.failed(last := failed(), 9.0)
    assert run.outcome is not None
    with pytest.raises(duplex.Unavailable) as caught:
        run.outcome.unwrap()
    assert caught.value is last


def test_other_errors_are_the_outcome() -> None:
    for error in (failed(duplex.NotFound), ValueError("odd")):
        run = race(max_attempts=3)
        run.begin(0.0)
        run.begin(0.5)
        run.failed(error, 1.0)
        assert run.outcome is not None
        with pytest.raises(type(error)):
            run.outcome.unwrap()


def test_it_may_have_executed_if_any_attempt_may() -> None:
    run = race(max_attempts=2)
    run.begin(0.0)
    run.begin(0.5)
    run.failed(failed(executed=True), 1.0)
    run.failed(last := failed(executed=False), 2.0)
    assert last.may_have_executed
    run = race(max_attempts=2)
    run.begin(0.0)
    run.begin(0.5)
    run.failed(fatal := failed(duplex.NotFound, executed=False), 1.0)
    assert fatal.may_have_executed, "another one was under way"
    run = race(max_attempts=1)
    run.begin(0.0)
    run.failed(only := failed(executed=False), 1.0)
    assert not only.may_have_executed


def test_without_a_budget_there_is_one_attempt() -> None:
    policy = HedgingPolicy(max_tokens=2)
    budget = Budget(policy)
    budget.failed()
    run = Race(policy, budget)
    assert run.next_at() == -math.inf
    run.begin(0.0)
    assert run.next_at() == math.inf


def test_what_others_take_of_the_budget_ends_a_call_that_waits_for_its_next_attempt() -> None:
    policy = HedgingPolicy(max_tokens=4)
    budget = Budget(policy)
    run = Race(policy, budget)
    run.begin(0.0)
    run.failed(last := failed(retry_after=5.0), 1.0)
    assert not run.decide()
    assert run.next_at() == 6.0
    budget.failed()  # by another call
    assert run.next_at() == math.inf
    assert run.decide()
    assert run.outcome is not None
    with pytest.raises(duplex.Unavailable) as caught:
        run.outcome.unwrap()
    assert caught.value is last


def test_who_is_to_come_back_in_years_does_not() -> None:
    """But what is under way may still succeed."""
    policy = HedgingPolicy(max_attempts=3)
    run = Race(policy, Budget(policy))
    run.begin(0.0)
    run.begin(0.5)
    run.failed(failed(retry_after=1e11), 1.0)
    assert run.next_at() == math.inf
    assert not run.decide()
    run.failed(last := failed(retry_after=601.0), 2.0)
    assert run.decide()
    assert run.outcome is not None
    with pytest.raises(duplex.Unavailable) as caught:
        run.outcome.unwrap()
    assert caught.value is last


def test_what_would_come_after_the_deadline_is_not_made() -> None:
    policy = HedgingPolicy(delay=2)
    run = Race(policy, Budget(policy), 10.0)
    run.begin(7.9)
    assert run.next_at() == 9.9
    run.begin(9.9)
    assert run.next_at() == math.inf
    run = Race(policy, Budget(policy), 10.0)
    run.begin(0.0)
    run.failed(last := failed(retry_after=9.5), 0.5)
    assert run.decide()
    assert run.outcome is not None
    with pytest.raises(duplex.Unavailable) as caught:
        run.outcome.unwrap()
    assert caught.value is last


def test_channels_are_found_wherever_they_are() -> None:
    send, receive = trio.open_memory_channel[int](1)
    for found in (send, [1, [receive]], {"a": (send,)}):
        assert holds(CHANNELS, [1, "x", found])
    assert not holds(CHANNELS, [1, "x", {"a": [b"", None]}, {1, 2}, print])
    assert holds(LIVE, [[{"callback": print}]])
    itself: list[Any] = []
    itself.append(itself)
    assert not holds(LIVE, itself), "it cannot travel"


# -- calls ---------------------------------------------------------------------------------------------


class Slow:
    """A service whose handlers take as long as they are told."""

    def __init__(self, name: str = "") -> None:
        self.takes: list[float] = []
        self.attempts: list[int] = []
        self.cancelled = 0
        self.service = service = duplex.Service("slow")

        async def work() -> None:
            self.attempts.append(duplex.current_call().attempt)
            try:
                await trio.sleep(self.takes.pop(0) if self.takes else 0)
            except trio.Cancelled:
                self.cancelled += 1
                raise

        @service.rpc
        async def get(fail: bool = False) -> str:
            await work()
            if fail:
                raise duplex.NotFound("nothing here")
            return name

        @service.rpc
        async def count(upto: int) -> AsyncIterator[int]:
            await work()
            for number in range(upto):
                yield number

        @service.rpc
        async def total(numbers: duplex.ReceiveChannel[int]) -> int:
            await work()
            return sum([number async for number in numbers])


def hedged(remote: Any, *, idempotent: bool = True, **policy: Any) -> Any:
    return remote.with_options(hedging=HedgingPolicy(**policy), idempotent=idempotent)


@contextlib.asynccontextmanager
async def two(first: Slow, second: Slow) -> AsyncIterator[duplex.Peer]:
    with fail_after(1000):
        async with (
            duplex.open_peer(services=[first.service]) as one,
            duplex.open_peer(services=[second.service]) as other,
            duplex.open_peer() as client,
        ):
            for server in (one, other):
                await client.connect(await server.bind("memory://*"))
            yield client


async def test_a_slow_server_is_overtaken(autojump_clock: object) -> None:
    slow, fast = Slow("slow"), Slow("fast")
    slow.takes = [100]
    async with two(slow, fast) as client:
        began = trio.current_time()
        assert await hedged(client.service("slow"), delay=2).get() == "fast"
        assert trio.current_time() - began == pytest.approx(2)
        await until(lambda: slow.cancelled)
        assert (slow.attempts, fast.attempts) == ([1], [2])
        assert client.statistics().hedges == 1


async def test_a_server_that_is_fast_enough_is_the_only_one(autojump_clock: object) -> None:
    slow = Slow("one")
    slow.takes = [1.9]
    async with linked(slow.service) as pair:
        assert await hedged(pair.service("slow"), delay=2).get() == "one"
        assert slow.attempts == [1]
        assert pair.client.statistics().hedges == 0


async def test_an_answer_that_comes_late_still_counts(autojump_clock: object) -> None:
    slow = Slow("one")
    slow.takes = [3, 50]
    async with linked(slow.service, within=100) as pair:
        began = trio.current_time()
        assert await hedged(pair.service("slow"), delay=2).get() == "one"
        assert trio.current_time() - began == pytest.approx(3)
        assert slow.attempts == [1, 2]


async def test_an_error_of_the_method_is_the_outcome(autojump_clock: object) -> None:
    slow = Slow("one")
    slow.takes = [3, 50]
    async with linked(slow.service, within=100) as pair:
        with pytest.raises(duplex.NotFound, match="nothing here") as caught:
            await hedged(pair.service("slow"), delay=2).get(True)
        assert caught.value.method == "slow.get"
        with pytest.raises(duplex.EncodeError):
            await hedged(pair.service("slow"), delay=2).get(object())


async def test_what_must_not_run_twice_is_made_once(autojump_clock: object) -> None:
    slow = Slow("one")
    slow.takes = [5]
    async with linked(slow.service, within=100) as pair:
        assert await hedged(pair.service("slow"), idempotent=False, delay=2).get() == "one"
        assert slow.attempts == [1]


async def test_a_call_that_passes_a_channel_is_made_once(autojump_clock: object) -> None:
    slow = Slow("one")
    slow.takes = [5]
    send, receive = trio.open_memory_channel[int](3)
    async with linked(slow.service, within=100) as pair:
        for number in range(3):
            await send.send(number)
        await send.aclose()
        assert await hedged(pair.service("slow"), delay=2).total(receive) == 3
        assert slow.attempts == [1]


async def test_streams_and_notifications_are_made_once(autojump_clock: object) -> None:
    slow = Slow("one")
    slow.takes = [5, 5]
    async with linked(slow.service, within=100) as pair:
        remote = hedged(pair.service("slow"), delay=2)
        async with remote.count.open(2) as call:
            assert [number async for number in call] == [0, 1]
        await remote.get.notify()
        await trio.sleep(20)
        assert slow.attempts == [1, 1]


async def test_the_deadline_is_for_all_attempts(autojump_clock: object) -> None:
    slow = Slow("one")
    slow.takes = [100, 100, 100]
    async with linked(slow.service, within=1000) as pair:
        remote = hedged(pair.service("slow"), delay=2, max_attempts=3)
        began = trio.current_time()
        with pytest.raises(duplex.DeadlineExceeded, match="within 3 s"):
            await remote.with_options(timeout=3).get()
        assert trio.current_time() - began == pytest.approx(3)
        slow.takes = [100, 100, 100]
        with trio.move_on_after(3) as scope:
            await remote.get()
        assert scope.cancelled_caught
        await until(lambda: slow.cancelled == 4)


async def test_wrong_options() -> None:
    async with linked() as pair:
        remote: Any = pair.service("slow")
        with pytest.raises(duplex.ConfigurationError, match=r"hedging must be a duplex\.HedgingPolicy"):
            remote.with_options(hedging=duplex.RetryPolicy())
        with pytest.raises(duplex.ConfigurationError, match="either retry= or hedging="):
            remote.with_options(hedging=HedgingPolicy(), retry=duplex.RetryPolicy())
        with pytest.raises(duplex.ConfigurationError, match="either retry= or hedging="):
            remote.with_options(retry=duplex.RetryPolicy()).with_options(hedging=HedgingPolicy())
        remote.with_options(retry=duplex.RetryPolicy()).with_options(hedging=HedgingPolicy(), retry=None)
    for wrong in ({"max_attempts": 0}, {"delay": -1}, {"codes": [S]}, {"max_tokens": 0}, {"token_ratio": 0}):
        with pytest.raises(duplex.ConfigurationError, match=f"HedgingPolicy.{next(iter(wrong))}"):
            HedgingPolicy(**wrong)


S = duplex.StatusCode.OK


async def test_nobody_to_call(autojump_clock: object) -> None:
    async with duplex.open_peer() as client:
        error = await outcome(hedged(client.service("slow"), delay=2).get())
        assert type(error) is duplex.Unavailable
        assert client.statistics().hedges == 0


@pytest.mark.parametrize("retry_after", [None, 0.5])
async def test_calls_that_fail_together_all_end(autojump_clock: object, retry_after: float | None) -> None:
    """Their budget is one: what each of them had left for another attempt is gone when it comes to make it."""
    service = duplex.Service("service")

    @service.rpc(idempotent=True)
    async def fail() -> None:
        await trio.sleep(0.1)  # so that all of them are under way when the first one fails
        error = duplex.Unavailable("not now")
        error.retry_after = retry_after
        raise error

    async with linked(service) as pair:
        method = pair.service("service").fail.with_options(hedging=duplex.HedgingPolicy(), idempotent=True)
        ended: list[Any] = []

        async def call() -> None:
            ended.append(await outcome(method()))

        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(call)
        assert [type(error) for error in ended] == [duplex.Unavailable] * 30


@pytest.mark.parametrize("how", ["timeout", "scope"])
async def test_a_call_does_not_outlive_its_deadline_for_a_pause(autojump_clock: object, how: str) -> None:
    """What the other side asks for is longer than the time that there is: as with a retry, the call fails at once."""
    service = duplex.Service("service")

    @service.rpc(idempotent=True)
    async def fail() -> None:
        error = duplex.Unavailable("in a minute")
        error.retry_after = 60.0
        raise error

    async with linked(service, within=1000) as pair:
        hedged_call = pair.service("service").fail.with_options(hedging=HedgingPolicy(), idempotent=True)
        began = trio.current_time()
        with (
            trio.fail_after(5 if how == "scope" else 500),
            pytest.raises(duplex.Unavailable, match="in a minute"),
        ):
            await (hedged_call.with_options(timeout=5) if how == "timeout" else hedged_call)()
        assert trio.current_time() - began < 5
