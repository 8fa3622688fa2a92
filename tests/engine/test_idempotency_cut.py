"""Runs of calls with idempotency keys whose links are lost, whose callers give up, or whose peer leaves."""

from __future__ import annotations

import contextvars
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from duplex.engine.serving.idempotency import _run
from duplex.engine.serving.idempotency._thread import KeptThread
from tests.engine.helpers import GUARD, linked, outcome, process, until
from tests.engine.till import Till, given_up
from tests.machine import fail_after


@pytest.fixture
def till() -> Till:
    return Till()


# -- links that are lost -------------------------------------------------------------------------------


@pytest.mark.slow
async def test_handler_outlives_the_link(till: Till, endpoint: str) -> None:
    async with linked(till.service, endpoint=endpoint, check=False) as pair:
        remote = till.keyed(pair)
        results: list[Any] = []

        async def call() -> None:
            while not results:
                try:
                    results.append(await remote.slow(7))
                except duplex.PeerLost:
                    await until(lambda: pair.client.links)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            for _ in range(3):
                await until(lambda: pair.server.links and pair.server.links[0].statistics().incoming == 1)
                await until(lambda: till.running == 1)
                await pair.server.links[0].aclose()
                await until(lambda: pair.server.links)
            till.go.set()
        assert results == [701]
        assert (till.runs, till.cancelled) == (1, 0)
        assert pair.server._inside.results.running == 0


async def test_outcome_that_came_while_nobody_was_linked(till: Till) -> None:
    async with linked(till.service, check=False) as pair:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outcome, till.keyed(pair).slow(7))
            await until(lambda: till.running)
            await pair.back.aclose()
        till.go.set()
        await until(lambda: not till.running)
        await until(lambda: pair.client.links)
        assert await till.keyed(pair).slow(7) == 701
        assert till.runs == 1


async def test_link_lost_before_the_handler_has_begun(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    async with linked(till.service, check=False) as pair:
        submit = pair.server._inside.workers.submit

        def submit_and_lose(call: Any, link: Any) -> None:
            submit(call, link)
            pair.back._inside.say_goodbye("closing")

        monkeypatch.setattr(pair.server._inside.workers, "submit", submit_and_lose)
        assert type(await outcome(till.keyed(pair).charge(1))) is duplex.PeerLost
        await until(lambda: pair.server._inside.results.remembered[0])
        monkeypatch.undo()
        await until(lambda: pair.client.links)
        assert await till.keyed(pair).charge(1) == 101


@pytest.mark.slow
async def test_caller_that_is_killed_and_started_again(till: Till) -> None:
    async with (
        duplex.open_peer(services=[till.service]) as server,
        duplex.open_peer() as client,
    ):
        address = await server.bind("tcp://127.0.0.1:*")
        with process("tests.engine.call_keyed", address) as (caller, _), fail_after(GUARD):
            await until(lambda: till.running)
            caller.kill()
            await until(lambda: not server.links)
        till.go.set()
        with fail_after(GUARD):
            await client.connect(address)
            assert await client.service("till").with_options(idempotency_key="k").slow(7) == 701
        assert (till.runs, till.cancelled) == (1, 0)


async def test_peer_that_closes_takes_its_runs_along(till: Till) -> None:
    async with linked(till.service, check=False) as pair:
        results: list[Any] = []

        async def call() -> None:
            results.append(await outcome(till.keyed(pair).slow()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            nursery.start_soon(call)
            await until(lambda: pair.back.statistics().incoming == 2 and till.running)
            await pair.server.aclose()
    assert [type(result) for result in results] == [duplex.PeerLost] * 2
    assert till.cancelled == 1


# -- peers that leave ----------------------------------------------------------------------------------


@pytest.mark.parametrize("linked_still", [True, False])
async def test_draining_counts_a_run_once(
    till: Till, linked_still: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """As a call of a link or as a run that nobody is linked to wait for, not as both."""
    async with linked(till.service, check=False) as pair, trio.open_nursery() as nursery:
        nursery.start_soon(outcome, till.keyed(pair).slow())
        await until(lambda: till.running)
        if not linked_still:
            await pair.back.aclose()
        await pair.server.drain(timeout=0)
        nursery.cancel_scope.cancel()
    assert [record.getMessage() for record in caplog.records if "draining" in record.getMessage()] == [
        "draining: 1 calls did not end within 0 s and are cancelled"
    ]


@pytest.mark.parametrize("linked_still", [True, False])
async def test_draining_waits_for_the_run(till: Till, linked_still: bool) -> None:
    """Also for one that nobody is linked to wait for: its caller has been told that it can come back."""
    async with linked(till.service, check=False) as pair:
        results: list[Any] = []

        async def call() -> None:
            results.append(await outcome(till.keyed(pair).slow(7)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await until(lambda: till.running)
            if not linked_still:
                await pair.back.aclose()
            drained = False

            async def drain() -> None:
                nonlocal drained
                await pair.server.drain(timeout=60)
                drained = True

            nursery.start_soon(drain)
            await until(lambda: pair.server._inside.is_draining)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert not drained
            till.go.set()
        assert till.cancelled == 0
        if linked_still:
            assert results == [701]
        else:
            assert type(results[0]) is duplex.PeerLost


@pytest.mark.parametrize("plain", [False, True])
async def test_draining_cancels_what_takes_too_long(till: Till, plain: bool) -> None:
    async with linked(till.service, check=False) as pair:
        results: list[Any] = []

        async def call() -> None:
            method = till.keyed(pair)["thread" if plain else "slow"]
            results.append(await outcome(method()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            nursery.start_soon(call)
            await until(lambda: pair.back.statistics().incoming == 2 and till.runs)
            await pair.server.drain(timeout=0)
        till.thread_may_end.set()
        assert [(type(error), error.message) for error in results] == [
            (duplex.Unavailable, "the peer is draining and the call did not end in time")
        ] * 2


async def test_draining_while_a_function_that_was_given_up_runs_on(till: Till) -> None:
    """Nobody waits for it but an attempt that came later, and it cannot be cancelled."""
    async with linked(till.service, check=False) as pair:
        await given_up(till.thread_began.is_set, till.keyed(pair).thread)
        results: list[Any] = []

        async def call() -> None:
            results.append(await outcome(till.keyed(pair).thread()))

        async with trio.open_nursery() as nursery:
            await until(lambda: pair.back.statistics().incoming == 0)
            nursery.start_soon(call)
            await until(lambda: pair.back.statistics().incoming == 1)
            await pair.server.drain(timeout=0)
        till.thread_may_end.set()
        assert type(results[0]) is duplex.Unavailable


async def test_handler_cancels_its_own_call(till: Till) -> None:
    async with linked(till.service) as pair:
        results: list[Any] = []

        async def call() -> None:
            results.append(await outcome(till.keyed(pair).slow()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            nursery.start_soon(call)
            await until(lambda: pair.back.statistics().incoming == 2 and till.running)
            (entry,) = pair.server._inside.results._running.values()
            assert entry.run is not None
            entry.run.invocation.cancel("enough")
        assert [error.message for error in results] == ["the handler's side cancelled the call: enough"] * 2
        till.go.set()
        assert await till.keyed(pair).slow() == 2


async def test_calls_are_listed_and_limited(till: Till) -> None:
    limits = duplex.Limits(max_handlers=1)
    async with linked(till.service, server={"limits": limits}) as pair:
        async with trio.open_nursery() as nursery:
            for _ in range(3):  # of which one is a handler
                nursery.start_soon(till.keyed(pair).slow)
            await until(lambda: pair.back.statistics().incoming == 3)
            found = [call for call in pair.server.calls() if call.direction == "incoming"]
            assert [call.method for call in found] == ["till.slow"] * 3
            with pytest.raises(duplex.ResourceExhausted, match=r"Limits\.max_handlers") as caught:
                await till.keyed(pair, "other").slow()
            assert caught.value.retry_after is not None
            till.go.set()
        assert await till.keyed(pair, "other").slow() == 2


# -- cut short -----------------------------------------------------------------------------------------


async def test_cancelling_the_only_attempt_cancels_the_handler(till: Till) -> None:
    async with linked(till.service) as pair:
        await given_up(lambda: till.running, till.keyed(pair).slow, 1)
        await pair.settle()
        assert till.cancelled == 1
        assert pair.server._inside.results.running == 0
        till.go.set()
        assert await till.keyed(pair).slow(1) == 102


async def test_cancelling_one_of_several_attempts_cancels_that_one(till: Till) -> None:
    async with linked(till.service) as pair:
        results: list[Any] = []

        async def call() -> None:
            results.append(await till.keyed(pair).slow(1))

        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as first:
                async with trio.open_nursery() as impatient:
                    impatient.start_soon(call)
                    await pair.settle()
                    nursery.start_soon(call)
                    await until(lambda: pair.back.statistics().incoming == 2)
                    first.cancel()
            await until(lambda: pair.back.statistics().incoming == 1 and till.running)
            assert till.running == 1
            till.go.set()
        assert results == [101]
        assert till.cancelled == 0


async def test_new_attempt_runs_after_one_that_is_still_stopping(till: Till) -> None:
    """Who times out and calls again at once must not be told that the call was cancelled."""
    async with linked(till.service) as pair:
        await given_up(lambda: till.runs, till.keyed(pair).slow_to_stop)
        results: list[Any] = []

        async def call() -> None:
            results.append(await till.keyed(pair).slow_to_stop())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            nursery.start_soon(call)
            await until(lambda: pair.back.statistics().incoming == 3)
            assert till.runs == 1
            till.go.set()
        assert results == [2, 2]


async def test_deadline_ends_the_run_and_it_is_forgotten(till: Till, autojump_clock: object) -> None:
    async with linked(till.service, within=100) as pair:
        remote = till.keyed(pair)
        with pytest.raises(duplex.DeadlineExceeded):
            await remote.slow.with_options(timeout=5)(1)
        await pair.settle()
        assert till.cancelled == 1
        till.go.set()
        assert await remote.slow(1) == 102


async def test_run_has_the_latest_deadline_of_its_attempts(till: Till, autojump_clock: object) -> None:
    async with linked(till.service, within=100) as pair:
        remote = till.keyed(pair)
        results: dict[float | None, Any] = {}

        async def call(timeout: float | None) -> None:
            results[timeout] = await outcome(remote.slow.with_options(timeout=timeout)(1))

        async with trio.open_nursery() as nursery:
            for timeout in (5, 20, 10):
                nursery.start_soon(call, timeout)
                await trio.sleep(1)
            await trio.sleep(11)
            assert till.running == 1
            till.go.set()
        assert type(results[5]) is type(results[10]) is duplex.DeadlineExceeded
        assert results[20] == 101


@pytest.mark.parametrize("later", [20, None])
@pytest.mark.parametrize("_round", range(6))
async def test_deadline_moved_before_the_run_has_begun(
    _round: int, later: float | None, till: Till, autojump_clock: object
) -> None:
    async with linked(till.service, within=100) as pair:
        remote = till.keyed(pair)
        results: list[Any] = []
        await pair.service("till").charge(
            1
        )  # so that a worker is there, which has its deadline before it begins

        async def call(timeout: float | None) -> None:
            results.append(await outcome(remote.slow.with_options(timeout=timeout)(1)))

        async with trio.open_nursery() as nursery:
            # Both travel in one batch, so the second is there before the handler has a chance to begin; which of
            # them is the first is trio's choice, and either order must do: hence the rounds.
            nursery.start_soon(call, 5)
            nursery.start_soon(call, later)
            await trio.sleep(10)
            assert till.running == 1
            till.go.set()
        assert [type(result) for result in results] == [duplex.DeadlineExceeded, int]


async def test_attempt_without_deadline_lifts_that_of_the_run(till: Till, autojump_clock: object) -> None:
    async with linked(till.service, within=10_000) as pair:
        remote = till.keyed(pair)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outcome, remote.slow.with_options(timeout=5)(1))
            await trio.sleep(1)
            nursery.start_soon(remote.slow, 1)
            await trio.sleep(1000)
            assert till.running == 1
            till.go.set()


async def test_deadline_holds_for_a_run_whose_link_is_lost(till: Till, autojump_clock: object) -> None:
    async with linked(till.service, within=100, check=False) as pair:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outcome, till.keyed(pair, timeout=5).slow(1))
            await until(lambda: till.running)
            await pair.back.aclose()
        await trio.sleep(6)
        assert till.cancelled == 1
        assert pair.server._inside.results.running == 0


async def test_function_in_a_thread_goes_on_and_its_outcome_counts(till: Till) -> None:
    """It cannot be stopped. So the caller that cancels is answered at once, and the next one waits for it."""
    async with linked(till.service) as pair:
        await given_up(till.thread_began.is_set, till.keyed(pair).thread)
        await until(lambda: pair.back.statistics().incoming == 0)
        assert pair.server._inside.results.running == 1
        # So is another one who comes and cancels, though the function is still at work.
        await given_up(lambda: pair.back.statistics().incoming == 1, till.keyed(pair).thread)
        await until(lambda: pair.back.statistics().incoming == 0)
        assert pair.server._inside.results.running == 1
        results: list[Any] = []

        async def call() -> None:
            results.append(await till.keyed(pair).thread())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await until(lambda: pair.back.statistics().incoming == 1)
            # Nor can another one make it stop by cancelling.
            await given_up(lambda: pair.back.statistics().incoming == 2, till.keyed(pair).thread)
            await until(lambda: pair.back.statistics().incoming == 1)
            till.thread_may_end.set()
        assert results == [1]
        assert await till.keyed(pair).thread() == 1


async def test_function_that_still_waits_for_a_thread_never_runs(till: Till) -> None:
    async with linked(till.service, server={"max_threads": 1}) as pair:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.service("till").thread)
            await until(till.thread_began.is_set)
            await given_up(lambda: pair.server._inside.results.running, till.keyed(pair).thread)
            await until(lambda: pair.server._inside.results.running == 0)
            till.thread_may_end.set()
        assert till.runs == 1


async def test_function_that_ends_just_when_it_is_cancelled(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the end of the function and the news of it, the call is cancelled."""
    threads: list[Any] = []
    made_thread = KeptThread

    def make(*arguments: Any) -> Any:
        threads.append(made_thread(*arguments))
        return threads[-1]

    monkeypatch.setattr(_run, "KeptThread", make)
    async with linked(till.service) as pair:
        async with trio.open_nursery() as nursery:
            results: list[Any] = []

            async def call() -> None:
                results.append(await till.keyed(pair).thread())

            nursery.start_soon(call)
            await until(till.thread_began.is_set)
            (entry,) = pair.server._inside.results._running.values()
            assert entry.run is not None
            # The event loop stands still until the function has ended, and so hears of the cancellation first.
            till.thread_may_end.set()
            while threads[0].ended is None:
                pass
            entry.run.give_up()
        assert results == [1]
        assert await till.keyed(pair).thread() == 1


async def test_function_that_is_given_up_before_its_thread_has_begun_never_runs() -> None:
    thread = KeptThread(lambda: 1 / 0, print)
    assert not thread.abandon()
    assert thread.run() is None


async def test_error_of_a_function_that_was_given_up(till: Till) -> None:
    service = duplex.Service("till")

    @service.rpc
    def refuse() -> None:
        till.runs += 1
        till.thread_began.set()
        assert till.thread_may_end.wait(10)
        raise duplex.NotFound("no such account")

    async with linked(service) as pair:
        await given_up(till.thread_began.is_set, till.keyed(pair).refuse)
        await until(lambda: pair.back.statistics().incoming == 0)
        till.thread_may_end.set()
        with pytest.raises(duplex.NotFound):
            await till.keyed(pair).refuse()
        assert till.runs == 1


async def test_function_that_asks_whether_it_is_cancelled(till: Till) -> None:
    """So it can be cut short after all, and is forgotten."""
    service = duplex.Service("till")

    @service.rpc
    def work() -> int:
        till.runs += 1
        till.thread_began.set()
        while till.runs == 1:
            trio.from_thread.check_cancelled()
            till.thread_may_end.wait(0.001)  # lets other threads run
        return till.runs

    async with linked(service) as pair:
        await given_up(till.thread_began.is_set, till.keyed(pair).work)
        assert await till.keyed(pair).work() == 2


async def test_thread_that_outlives_its_peer_is_nobodys_business(till: Till) -> None:
    async with linked(till.service, check=False) as pair:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outcome, till.keyed(pair).thread())
            await until(till.thread_began.is_set)
            await pair.server.aclose()
    till.thread_may_end.set()


async def test_an_attempt_that_comes_while_a_late_run_cleans_up_runs_itself(autojump_clock: object) -> None:
    """The deadline that cancelled the run is not moved any more, or nobody would know why it was cancelled."""
    service = duplex.Service("late")
    runs = 0

    @service.rpc
    async def work() -> str:
        nonlocal runs
        runs += 1
        if runs > 1:
            return "done"
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(2)
        raise AssertionError("not reached")

    async with linked(service, within=1000, check=False) as pair, trio.open_nursery() as nursery:
        keyed = pair.service("late").with_options(idempotency_key="k")

        async def first() -> None:
            with pytest.raises(duplex.PeerLost):
                await keyed.with_options(timeout=0.5).work()

        nursery.start_soon(first)
        await trio.sleep(0.3)
        await pair.link.aclose()
        await trio.sleep(0.7)
        assert await keyed.with_options(timeout=6).work() == "done"
        assert runs == 2


async def test_a_function_that_got_no_thread_has_not_run(
    till: Till, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """So its key is not used up, and its caller is told that it may call again."""

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("can't start new thread")

    till.thread_may_end.set()
    async with linked(till.service) as pair:
        with monkeypatch.context() as patch:
            patch.setattr("trio._threads.start_thread_soon", refuse)
            error = await outcome(till.keyed(pair).thread())
        assert "can't start new thread" in caplog.text
        assert type(error) is duplex.Internal
        assert error.may_have_executed is False
        assert pair.server._inside.results.remembered[0] == 0
        assert await till.keyed(pair).thread() == 1


@pytest.mark.parametrize("keyed", [False, True])
async def test_what_a_function_leaves_behind_makes_no_calls_once_its_call_is_over(
    till: Till, keyed: bool
) -> None:
    service = duplex.Service("leaving")
    contexts: list[contextvars.Context] = []

    @service.rpc
    def work() -> None:
        contexts.append(contextvars.copy_context())

    async with linked(service, till.service) as pair, trio.open_nursery() as nursery:
        remote = pair.service("leaving")
        await (remote.with_options(idempotency_key="k") if keyed else remote).work()
        outcomes: list[Any] = []

        async def call() -> None:
            outcomes.append(await outcome(pair.service("till").charge(1)))

        contexts[0].run(nursery.start_soon, call)
        await until(lambda: outcomes)
        assert type(outcomes[0]) is duplex.CallCancelled
        assert "leaving.work, on whose behalf the call is made, is over" in str(outcomes[0])
        assert outcomes[0].may_have_executed is False
        assert till.runs == 0


async def test_a_notification_that_was_late_does_not_want_the_run_of_another(
    till: Till, autojump_clock: object
) -> None:
    """Who joined its run has one of its own then, which ends with its caller."""
    service = duplex.Service("late")

    @service.rpc
    async def work() -> None:
        till.runs += 1
        try:
            await trio.sleep_forever()
        finally:
            till.cancelled += 1
            with trio.CancelScope(shield=True):
                await trio.sleep(5)  # it cleans up

    async with linked(service, within=1000) as pair:
        remote = pair.service("late").with_options(idempotency_key="k")
        await remote.work.with_options(timeout=10).notify()
        await trio.sleep(12)  # its time is over, and it cleans up
        assert (till.runs, till.cancelled) == (1, 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(remote.work)
            await trio.sleep(10)
            assert till.runs == 2
            nursery.cancel_scope.cancel()
        await trio.sleep(10)  # so does the second one
        assert till.cancelled == 2
        assert pair.server._inside.results.running == 0


async def test_a_run_that_begins_again_has_the_latest_deadline_of_those_who_wait(
    autojump_clock: object,
) -> None:
    service = duplex.Service("late")
    runs = 0

    @service.rpc
    async def work() -> int:
        nonlocal runs
        runs += 1
        run = runs
        try:
            await trio.sleep(20)
        finally:
            if run == 1:
                with trio.CancelScope(shield=True):
                    await trio.sleep(5)  # it cleans up
        return run

    async with linked(service, within=1000) as pair:
        remote = pair.service("late").with_options(idempotency_key="k")
        await remote.work.with_options(timeout=10).notify()
        await trio.sleep(12)  # its time is over, and it cleans up
        results: list[Any] = []

        async def call(timeout: float) -> None:
            results.append(await outcome(remote.work.with_options(timeout=timeout)()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, 10)
            await pair.settle()
            nursery.start_soon(call, 100)
        assert type(results[0]) is duplex.DeadlineExceeded
        assert results[1:] == [2]
        assert runs == 2
