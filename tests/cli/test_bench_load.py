"""How calls are made and counted, on a clock that costs no time."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio

import duplex
from duplex.cli._figures import Attempt, Figures
from duplex.cli._histogram import RELATIVE_ERROR
from duplex.cli._load import GRACE, Plan, fire
from duplex.cli._shots import Shot
from duplex.cli._timer import Timer


def about(seconds: float) -> Any:
    """What the histogram may make of a duration."""
    return pytest.approx(seconds, rel=RELATIVE_ERROR, abs=1e-6)


class Service:
    """Answers in ``seconds``, but not at all between two times since it was made."""

    def __init__(self, seconds: float = 0.01, *, stall: tuple[float, float] = (0, 0)) -> None:
        self._seconds = seconds
        self._start = trio.current_time()
        self._stall = stall
        self.in_flight = 0
        self.most = 0
        self.made: list[float] = []

    async def __call__(self, attempt: Attempt) -> None:
        now = trio.current_time() - self._start
        self.made.append(now)
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        begins, ends = self._stall
        if begins <= now < ends:
            await trio.sleep(ends - now)
        await trio.sleep(self._seconds)
        self.in_flight -= 1


async def measured(plan: Plan, *shots: Shot) -> Figures:
    """The figures of a whole run."""
    figures = Figures()
    await fire(plan, shots, figures)
    return figures


# -- the open loop ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1000, 5])
async def test_a_stall_shows_in_the_percentiles_of_an_open_loop(
    concurrency: int, autojump_clock: object
) -> None:
    service = Service(stall=(2, 3))
    figures = await measured(Plan(rate=50, duration=10, concurrency=concurrency), service)
    assert (figures.latency.count, figures.failed, figures.unsent, figures.unfinished) == (500, 0, 0, 0)
    # Whoever came in that second, a tenth of all, had to wait for the rest of it, or longer where they queue.
    assert figures.latency.percentile(0.5) == about(0.01)
    assert figures.latency.percentile(0.99) > 0.9
    assert figures.latency.maximum == about(1.01)
    assert (figures.held_up > 0) == (concurrency == 5)
    assert (figures.start_delay.maximum > 0.5) == (concurrency == 5)


async def test_the_same_stall_hides_in_a_closed_loop(autojump_clock: object) -> None:
    figures = await measured(Plan(duration=10), Service(stall=(2, 3)))
    assert figures.latency.percentile(0.99) == about(0.01)
    assert figures.latency.maximum == pytest.approx(1.01, abs=0.02)
    assert figures.start_delay.count == 0


async def test_calls_are_made_when_they_are_due_whatever_the_answers_do(autojump_clock: object) -> None:
    service = Service(seconds=3)
    figures = await measured(Plan(rate=4, duration=2, concurrency=100), service)
    assert service.made == [about(number / 4) for number in range(8)]
    assert figures.seconds == about(2)
    assert figures.rate(figures.answered) == 0
    assert figures.latency.mean == about(3)


async def test_what_cannot_be_made_in_time_is_counted_and_nothing_else_piles_up(
    autojump_clock: object,
) -> None:
    service = Service(seconds=1)
    figures = await measured(Plan(rate=100, duration=10, concurrency=2), service)
    assert service.most == 2
    assert figures.started == figures.latency.count
    assert figures.started + figures.unsent == 1000
    # Two a second are answered; the first that was not made was due when that many had been.
    assert figures.started in range(20, 23)
    assert figures.unsent_for == pytest.approx(10 - figures.started / 100)
    assert figures.rate(figures.answered) == pytest.approx(2, rel=0.1)
    assert figures.latency.maximum == pytest.approx(10, rel=0.1)


async def test_a_backlog_of_the_warmup_does_not_count(autojump_clock: object) -> None:
    service = Service(seconds=1)
    figures = await measured(Plan(rate=10, warmup=5, duration=2, concurrency=2), service)
    assert figures.started + figures.unsent == 20
    # None of them can have waited since before the warm-up was over.
    assert figures.latency.count > 0
    assert figures.latency.maximum <= 3.1


async def test_calls_in_an_open_loop_take_turns_on_the_links(autojump_clock: object) -> None:
    services = [Service(), Service(), Service()]
    await measured(Plan(rate=10, duration=3), *services)
    assert [len(service.made) for service in services] == [10, 10, 10]


# -- both loops ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [None, 50.0])
@pytest.mark.parametrize("warmup", [0.0, 1.005])
async def test_count_ends_it_and_the_warmup_does_not_count(
    rate: float | None, warmup: float, autojump_clock: object
) -> None:
    service = Service()
    figures = await measured(Plan(rate=rate, count=30, warmup=warmup, concurrency=3), service)
    assert figures.latency.count == figures.started == 30
    assert figures.unsent == 0
    after = [made for made in service.made if made > warmup - 1e-9]
    assert len(after) == 30
    assert (len(service.made) > 30) == (warmup > 0)


async def test_rates_are_of_the_window_alone(autojump_clock: object) -> None:
    figures = await measured(Plan(concurrency=4, warmup=2, duration=5), Service(seconds=0.1))
    assert figures.seconds == about(5)
    assert figures.rate(figures.answered) == pytest.approx(40, rel=0.05)


async def test_failures_are_counted_by_status_and_apart(autojump_clock: object) -> None:
    outcomes: list[duplex.RPCError | None] = [None, duplex.NotFound("no b"), duplex.NotFound("no c"), None]
    outcomes.append(duplex.Unavailable("gone"))

    async def fail(attempt: Attempt) -> None:
        await trio.sleep(0.5)
        outcome = outcomes.pop(0)
        if outcome is not None:
            await trio.sleep(1.5)
            raise outcome

    figures = await measured(Plan(count=5), fail)
    assert (figures.latency.count, figures.failed, figures.answered) == (2, 3, 2)
    assert figures.latency.maximum == about(0.5)
    assert figures.failed_latency.minimum == about(2)
    assert {name: (f.count, f.code) for name, f in figures.failures.items()} == {
        "NOT_FOUND": (2, 5),
        "UNAVAILABLE": (1, 14),
    }
    assert figures.failures["NOT_FOUND"].example.endswith("no b")


async def test_failures_that_take_no_time_leave_others_their_turn(autojump_clock: object) -> None:
    async def fail(attempt: Attempt) -> None:
        raise duplex.Unavailable("gone")

    figures = Figures()
    with trio.move_on_after(1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fire, Plan(duration=math.inf), [fail], figures)
            for _ in range(100):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert figures.failed > 10


async def test_calls_that_never_end_are_waited_for_only_so_long(autojump_clock: object) -> None:
    async def hang(attempt: Attempt) -> None:
        await trio.sleep_forever()

    started = trio.current_time()
    figures = await measured(Plan(concurrency=3, duration=1), hang)
    assert trio.current_time() - started == about(1 + GRACE)
    assert (figures.started, figures.unfinished) == (3, 3)
    assert figures.seconds == about(1)


async def test_cancelling_leaves_what_was_measured(autojump_clock: object) -> None:
    figures = Figures()
    with trio.move_on_after(2.005) as scope:
        await fire(Plan(rate=10, duration=100, concurrency=1), [Service(seconds=0.5)], figures)
    assert scope.cancelled_caught
    assert figures.seconds == about(2.005)
    assert (figures.latency.count, figures.unfinished) == (4, 1)
    # 21 were due by then.
    assert figures.started + figures.unsent == 21


@pytest.mark.parametrize("rate", [None, 10.0])
async def test_a_call_that_cannot_be_made_at_all_ends_everything(
    rate: float | None, autojump_clock: object
) -> None:
    async def refuse(attempt: Attempt) -> None:
        raise duplex.EncodeError("too large a number")

    with pytest.raises(duplex.EncodeError, match="too large a number"):
        await measured(Plan(rate=rate, duration=10, concurrency=2), refuse)


async def test_streams_are_timed_to_their_first_item_and_counted(autojump_clock: object) -> None:
    async def stream(attempt: Attempt) -> None:
        attempt.sent(100)
        await trio.sleep(1)
        for _ in range(4):
            attempt.received(b"12345")
            await trio.sleep(0.25)
        attempt.sent_item(10)

    figures = await measured(Plan(count=2), stream)
    assert figures.first_item.maximum == about(1)
    assert figures.latency.minimum == about(2)
    assert (figures.items_received, figures.bytes_received) == (8, 40)
    assert (figures.items_sent, figures.bytes_sent) == (2, 220)
    assert figures.rate(figures.items_received) == about(2)


async def test_a_timer_follows_a_clock_that_is_not_the_systems(autojump_clock: object) -> None:
    with Timer() as timer:
        deadline = trio.current_time() + 1000
        await timer.sleep_until(deadline)
        assert trio.current_time() == about(deadline)
