"""A method runs once for an idempotency key, however often and over whichever link it is called."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest
import trio
import trio.testing

import duplex
from duplex.engine import _keyed
from tests.engine.helpers import GUARD, Pair, collect, linked, made, outcome, process, until
from tests.engine.raw import RawDealer


class Till:
    """A service that counts how often it was really used."""

    def __init__(self) -> None:
        self.runs = 0
        self.running = 0
        self.cancelled = 0
        self.seen: list[Any] = []
        #: A slow handler ends when this is set.
        self.go = trio.Event()
        self.thread_may_end = threading.Event()
        self.thread_began = threading.Event()
        self.array = np.zeros(100_000, dtype=np.uint8)
        self.service = service = duplex.Service("till")

        @service.rpc
        async def charge(amount: int) -> int:
            self.runs += 1
            self.seen.append(duplex.current_call().metadata)
            duplex.current_call().trailers["run"] = str(self.runs)
            return amount * 100 + self.runs

        @service.rpc
        async def slow(amount: int = 0) -> int:
            self.runs += 1
            self.running += 1
            assert self.running == 1, "two runs at once for one key"
            try:
                await self.go.wait()
            except trio.Cancelled:
                self.cancelled += 1
                raise
            finally:
                self.running -= 1
            return amount * 100 + self.runs

        @service.rpc
        async def slow_to_stop() -> int:
            self.runs += 1
            if self.runs > 1:
                return self.runs
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await self.go.wait()
            raise AssertionError("unreachable")

        @service.rpc(inline=True)
        def inline() -> int:
            self.runs += 1
            return self.runs

        @service.rpc
        def thread() -> int:
            self.runs += 1
            self.thread_began.set()
            assert self.thread_may_end.wait(10)
            return self.runs

        @service.rpc
        async def refuse() -> None:
            self.runs += 1
            duplex.current_call().trailers["run"] = str(self.runs)
            raise duplex.NotFound("no such account", details={"account": self.runs})

        @service.rpc
        async def crash() -> None:
            self.runs += 1
            raise ValueError("not for callers")

        @service.rpc
        async def blob(size: int) -> bytes:
            self.runs += 1
            return bytes(size)

        @service.rpc
        async def shared() -> Any:
            self.runs += 1
            return self.array

        @service.rpc
        async def count(upto: int) -> AsyncIterator[int]:
            for number in range(upto):
                yield number

        @service.rpc
        async def total(numbers: duplex.ReceiveChannel[int]) -> int:
            return sum([number async for number in numbers])

        @service.rpc
        async def call_back(function: duplex.Callback[[], int]) -> int:
            return await function()

        @service.rpc
        async def bad_trailers() -> int:
            duplex.current_call().trailers["Not A Key"] = "x"
            return 1

    def keyed(self, pair: Pair, key: str = "k", **options: Any) -> duplex.ServiceProxy:
        return pair.service("till").with_options(idempotency_key=key, **options)


async def given_up(condition: Callable[[], object], method: Any, *arguments: Any) -> None:
    """Begin a call, and cancel it once something is so."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(method, *arguments)
        await until(condition)
        nursery.cancel_scope.cancel()


@pytest.fixture
def till() -> Till:
    return Till()


# -- once ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opened", [False, True])
async def test_repeated_call_gets_the_first_outcome(till: Till, endpoint: str, opened: bool) -> None:
    async with linked(till.service, endpoint=endpoint) as pair:
        remote = till.keyed(pair)
        assert await made(remote.charge, 3, opened=opened) == 301
        assert await made(remote.charge, 3, opened=not opened) == 301
        async with remote.charge.open(3) as call:
            assert await call.result() == 301
            assert call.trailers == {"run": "1"}
        assert await till.keyed(pair, "other").charge(3) == 302
        assert await pair.service("till").charge(3) == 303
        assert till.runs == 3
        assert till.seen[0] == {"duplex-idempotency-key": "k"}


async def test_same_key_of_another_method_is_another_key(till: Till) -> None:
    async with linked(till.service) as pair:
        remote = till.keyed(pair)
        assert await remote.charge(0) == 1
        assert await remote.inline() == 2
        assert await remote.charge(0) == 1
        assert await remote.inline() == 2


async def test_metadata_of_the_application_is_kept(till: Till) -> None:
    async with linked(till.service) as pair:
        await till.keyed(pair, metadata={"user": "ann"}).charge(1)
        assert till.seen == [{"user": "ann", "duplex-idempotency-key": "k"}]


async def test_errors_are_outcomes_too(till: Till) -> None:
    async with linked(till.service) as pair:
        remote = till.keyed(pair)
        first, second = await outcome(remote.refuse()), await outcome(remote.refuse())
        assert isinstance(second, duplex.NotFound)
        assert second.message == "no such account"
        assert second.details == first.details == {"account": 1}
        assert second.metadata == {"run": "1"}
        crashes = [await outcome(remote.crash()) for _ in range(2)]
        assert type(crashes[1]) is duplex.Internal
        assert crashes[0].details == crashes[1].details
        assert till.runs == 2


async def test_outcome_is_forgotten_after_its_time(till: Till, autojump_clock: object) -> None:
    options = {"idempotency": duplex.Idempotency(ttl=60.0)}
    async with linked(till.service, server=options, within=1000) as pair:
        remote = till.keyed(pair)
        assert await remote.charge(1) == 101
        await trio.sleep(59.9)
        assert await remote.charge(1) == 101
        await trio.sleep(0.2)
        assert await remote.charge(1) == 102
        assert pair.server.results.remembered[0] == 1


async def test_result_is_remembered_as_it_was(till: Till) -> None:
    async with linked(till.service) as pair:
        remote = till.keyed(pair)
        assert not (await remote.shared()).any()
        till.array[:] = 1
        assert not (await remote.shared()).any()
        assert (await pair.service("till").shared()).all()


@pytest.mark.parametrize("codec", ["msgpack", "json"])
async def test_other_arguments_are_refused(till: Till, codec: str) -> None:
    async with linked(till.service) as pair:
        remote = till.keyed(pair, codec=codec)
        assert await remote.charge(1) == 101
        for attempt in (
            remote.charge(2),
            remote.charge(amount=1),
            till.keyed(pair, codec="raw").charge(b"x"),
        ):
            with pytest.raises(duplex.FailedPrecondition, match="'k' before, and with other arguments"):
                await attempt
        assert till.runs == 1


async def test_other_attachments_are_other_arguments() -> None:
    service = duplex.Service("till")

    @service.rpc
    async def size(data: bytes) -> int:
        return len(data)

    async with linked(service) as pair:
        remote = pair.service("till").with_options(idempotency_key="k")
        assert await remote.size(bytes(100_000)) == 100_000
        assert await remote.size(bytes(100_000)) == 100_000
        with pytest.raises(duplex.FailedPrecondition):
            await remote.size(b"\1" * 100_000)


async def test_refused_arguments_use_no_key_up(till: Till) -> None:
    async with linked(till.service) as pair:
        remote = till.keyed(pair)
        with pytest.raises(duplex.InvalidArgument, match="argument 'amount'"):
            await remote.charge("three")
        assert await remote.charge(3) == 301


# -- at once -------------------------------------------------------------------------------------------


async def test_attempts_at_once_wait_for_one_run(till: Till, endpoint: str) -> None:
    results: list[Any] = []

    async def call(opened: bool) -> None:
        results.append(await made(till.keyed(pair).slow, 5, opened=opened))

    async with linked(till.service, endpoint=endpoint) as pair:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(call, number % 2 == 0)
            await until(lambda: pair.back.statistics().incoming == 20)
            till.go.set()
        assert results == [501] * 20
        assert till.runs == 1


async def test_attempts_of_several_callers(till: Till) -> None:
    results: list[Any] = []

    async def call(remote: duplex.ServiceProxy) -> None:
        results.append(await remote.slow(5))

    async with linked(till.service) as pair, duplex.open_peer() as other:
        await other.connect(pair.endpoint)
        async with trio.open_nursery() as nursery:
            for remote in (till.keyed(pair), other.service("till").with_options(idempotency_key="k")):
                nursery.start_soon(call, remote)
            await until(lambda: [link.statistics().incoming for link in pair.server.links] == [1, 1])
            till.go.set()
        assert results == [501, 501]


async def test_inline_functions_wait_for_nothing_and_run_once(till: Till) -> None:
    async with linked(till.service) as pair:
        results: list[int] = []

        async def call() -> None:
            results.append(await till.keyed(pair).inline())

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(call)
        assert results == [1] * 5


async def test_notification_and_call_share_a_run(till: Till) -> None:
    async with linked(till.service) as pair:
        remote = till.keyed(pair)
        await remote.slow.notify(5)
        await remote.slow.notify(5)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(remote.slow, 5)
            await pair.settle()
            till.go.set()
        await remote.slow.notify(5)
        assert await remote.slow(5) == 501
        assert till.runs == 1


async def test_notification_is_wanted_though_nobody_waits(till: Till) -> None:
    async with linked(till.service) as pair:
        remote = till.keyed(pair)
        await remote.slow.notify(5)
        await given_up(lambda: pair.back.statistics().incoming == 1, remote.slow, 5)
        await pair.settle()
        assert till.running == 1
        till.go.set()
        assert await remote.slow(5) == 501


async def test_failed_notification_is_logged(till: Till, caplog: pytest.LogCaptureFixture) -> None:
    async with linked(till.service) as pair:
        await till.keyed(pair).refuse.notify()
        await pair.settle()
        assert "notification to till.refuse failed: no such account" in caplog.text


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
        assert pair.server.results.running == 0


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
        submit = pair.server.workers.submit

        def submit_and_lose(call: Any) -> None:
            submit(call)
            pair.back.say_goodbye("closing")

        monkeypatch.setattr(pair.server.workers, "submit", submit_and_lose)
        assert type(await outcome(till.keyed(pair).charge(1))) is duplex.PeerLost
        await until(lambda: pair.server.results.remembered[0])
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
        with process("tests.engine.call_keyed", address) as (caller, _), trio.fail_after(GUARD):
            await until(lambda: till.running)
            caller.kill()
            await until(lambda: not server.links)
        till.go.set()
        with trio.fail_after(GUARD):
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
            await until(lambda: pair.back.statistics().incoming == 2)
            await pair.server.aclose()
    assert [type(result) for result in results] == [duplex.PeerLost] * 2
    assert till.cancelled == 1


# -- peers that leave ----------------------------------------------------------------------------------


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
            await until(lambda: pair.server.is_draining)
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
            await until(lambda: pair.back.statistics().incoming == 2)
            (entry,) = pair.server.results._running.values()
            assert entry.run is not None
            entry.run.cancel("enough")
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
        assert pair.server.results.running == 0
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
            await until(lambda: pair.back.statistics().incoming == 1)
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
        assert pair.server.results.running == 0


async def test_function_in_a_thread_goes_on_and_its_outcome_counts(till: Till) -> None:
    """It cannot be stopped. So the caller that cancels is answered at once, and the next one waits for it."""
    async with linked(till.service) as pair:
        await given_up(till.thread_began.is_set, till.keyed(pair).thread)
        await until(lambda: pair.back.statistics().incoming == 0)
        assert pair.server.results.running == 1
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
            await given_up(lambda: pair.server.results.running, till.keyed(pair).thread)
            await until(lambda: pair.server.results.running == 0)
            till.thread_may_end.set()
        assert till.runs == 1


async def test_function_that_ends_just_when_it_is_cancelled(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the end of the function and the news of it, the call is cancelled."""
    threads: list[Any] = []
    made_thread = _keyed._Thread

    def make(*arguments: Any) -> Any:
        threads.append(made_thread(*arguments))
        return threads[-1]

    monkeypatch.setattr(_keyed, "_Thread", make)
    async with linked(till.service) as pair:
        async with trio.open_nursery() as nursery:
            results: list[Any] = []

            async def call() -> None:
                results.append(await till.keyed(pair).thread())

            nursery.start_soon(call)
            await until(till.thread_began.is_set)
            (entry,) = pair.server.results._running.values()
            assert entry.run is not None
            # The event loop stands still until the function has ended, and so hears of the cancellation first.
            till.thread_may_end.set()
            while threads[0].ended is None:
                pass
            entry.run.give_up()
        assert results == [1]
        assert await till.keyed(pair).thread() == 1


async def test_function_that_is_given_up_before_its_thread_has_begun_never_runs() -> None:
    thread = _keyed._Thread(lambda: 1 / 0, print)
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


# -- what cannot have a key ----------------------------------------------------------------------------


async def test_methods_that_stream_cannot_have_a_key(till: Till) -> None:
    async with linked(till.service) as pair:
        remote = till.keyed(pair)
        for method, arguments in ((remote.count, (3,)), (remote.total, ())):
            async with method.open(*arguments) as call:
                with pytest.raises(duplex.InvalidArgument, match="keys are for methods with one result"):
                    await collect(call)


async def test_callbacks_and_channels_cannot_be_passed_with_a_key(till: Till) -> None:
    async with linked(till.service) as pair:
        with pytest.raises(duplex.InvalidArgument, match="no callbacks and channels among them"):
            await till.keyed(pair).call_back(lambda: 1)


async def test_callbacks_and_channels_cannot_be_returned(till: Till) -> None:
    service = duplex.Service("till")
    kept: list[Any] = []

    @service.rpc
    async def function() -> Any:
        return {"function": lambda: 1}

    @service.rpc
    async def channel() -> Any:
        sending, receiving = trio.open_memory_channel[int](1)
        kept.append(sending)
        return [receiving]

    async with linked(service) as pair:
        remote = pair.service("till").with_options(idempotency_key="k")
        for method in (remote.function, remote.channel):
            with pytest.raises(duplex.InvalidArgument, match="call it without an idempotency key"):
                await method()
        await until(lambda: kept[0].statistics().open_receive_channels == 0)


async def test_channels_opened_for_a_keyed_call_are_harmless(till: Till) -> None:
    """A peer that names the call as parent of a channel, though no value can have come with it."""
    async with linked(till.service) as pair:
        async with till.keyed(pair).slow.open(1) as call:
            root = call._call
            nested = pair.link.open_nested(root, sends_to_peer=True)
            await pair.settle()
            till.go.set()
            assert await call.result() == 101
            nested.revoke()


@pytest.mark.parametrize("key", ["", "k" * 256, b"bytes"])
async def test_malformed_keys(till: Till, key: Any) -> None:
    async with linked(till.service) as pair:
        method = pair.service("till").charge
        method._request = method._request.__class__(
            "till.charge", "till.charge", method._request.codec, metadata={"duplex-idempotency-key": key}
        )
        with pytest.raises(duplex.InvalidArgument, match="a text of 1 to 255 bytes"):
            await method(1)
        await method.notify(1)
        await pair.settle()
        assert till.runs == 0


async def test_result_that_cannot_travel() -> None:
    service = duplex.Service("till")

    @service.rpc
    async def thing() -> Any:
        return object()

    async with linked(service) as pair:
        with pytest.raises(duplex.Internal):
            await pair.service("till").with_options(idempotency_key="k").thing()


async def test_caller_that_breaks_the_rules_of_its_channel(till: Till) -> None:
    """Its channel is over at once, and so is the handler, as nobody else waits."""
    metadata = {"duplex-idempotency-key": "k"}
    async with duplex.open_peer(services=[till.service]) as server:
        address = await server.bind("tcp://127.0.0.1:*")
        with RawDealer(address) as raw, trio.fail_after(GUARD):
            await raw.shake_hands(
                [7, 1, "till.slow", 1, b"\x91\x91\x01", 0, None, metadata],
                [7, 3, "till.slow", 1, b"\x91\x91\x01", 0, None, metadata],
            )
            await until(lambda: till.running and server.links[0].statistics().incoming == 2)
            raw.say([8, 1, b"after its end"])
            await raw.commands(10)
            assert till.running == 1
            raw.say([8, 3, b"after its end"])
            await raw.commands(10, 2)
            await until(lambda: till.cancelled)
            await until(lambda: server.results.running == 0)
            assert not server.links[0].conversations


async def test_malformed_trailers_are_told_as_of_any_call(till: Till) -> None:
    async with linked(till.service) as pair:
        plain = await outcome(pair.service("till").bad_trailers())
        keyed = await outcome(till.keyed(pair).bad_trailers())
        assert type(plain) is type(keyed) is duplex.Internal


# -- bounds --------------------------------------------------------------------------------------------


async def test_oldest_outcomes_make_room(till: Till) -> None:
    async with linked(till.service, server={"idempotency": duplex.Idempotency(max_entries=3)}) as pair:
        for number in range(5):
            assert await till.keyed(pair, str(number)).charge(0) == number + 1
        assert pair.server.results.remembered[0] == 3
        assert [await till.keyed(pair, key).charge(0) for key in "234"] == [3, 4, 5]
        assert await till.keyed(pair, "0").charge(0) == 6
        assert await till.keyed(pair, "2").charge(0) == 7


async def test_bytes_are_bounded(till: Till) -> None:
    async with linked(till.service, server={"idempotency": duplex.Idempotency(max_bytes=100_000)}) as pair:
        for number in range(20):
            assert len(await till.keyed(pair, str(number)).blob(30_000)) == 30_000
            assert pair.server.results.remembered[1] <= 100_000
        assert pair.server.results.remembered[0] == 3


async def test_result_that_is_too_large_to_be_remembered(till: Till) -> None:
    async with linked(till.service, server={"idempotency": duplex.Idempotency(max_bytes=1024)}) as pair:
        assert len(await till.keyed(pair).blob(2000)) == 2000
        with pytest.raises(duplex.ResourceExhausted, match=r"was executed.*Idempotency\.max_bytes is 1024"):
            await till.keyed(pair).blob(2000)
        assert till.runs == 1


async def test_running_calls_are_bounded(till: Till) -> None:
    async with linked(till.service, server={"idempotency": duplex.Idempotency(max_entries=2)}) as pair:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(till.keyed(pair, "a").inline)
            nursery.start_soon(till.keyed(pair, "b").slow)
            await pair.settle()
            await till.keyed(pair, "c").inline()  # in place of "a"
            async with trio.open_nursery() as inner:
                inner.start_soon(till.keyed(pair, "d").thread)
                await until(till.thread_began.is_set)
                with pytest.raises(duplex.ResourceExhausted, match=r"Idempotency\.max_entries"):
                    await till.keyed(pair, "e").inline()
                till.thread_may_end.set()
            till.go.set()


async def test_answer_waits_for_credit(till: Till) -> None:
    """Answers need no task, so it is the arrival of credit that sends them."""
    limits = duplex.Limits(link_window=1024, channel_window=1024, link_buffer=0)
    async with linked(till.service, client={"limits": limits}) as pair:
        remote = pair.service("till")
        async with remote.count.open(1000) as hog:
            await until(lambda: pair.back.connection.link_credit <= 0)
            results: list[Any] = []

            async def call() -> None:
                results.append(await till.keyed(pair).charge(1))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(call)
                await until(lambda: till.runs == 1)
                nursery.start_soon(call)
                await given_up(lambda: pair.back.statistics().incoming == 4, call)
                await until(lambda: pair.back.statistics().incoming == 3)
                assert results == []
                assert len(pair.back.credit_waiters) == 3
                await collect(hog)
        assert results == [101, 101]


async def test_link_lost_while_an_answer_waits_for_credit(till: Till) -> None:
    limits = duplex.Limits(link_window=1024, channel_window=1024, link_buffer=0)
    async with linked(till.service, client={"limits": limits}, check=False) as pair:
        async with pair.service("till").count.open(1000):
            await until(lambda: pair.back.connection.link_credit <= 0)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(outcome, till.keyed(pair).charge(1))
                await until(lambda: pair.server.results.remembered[0])
                await pair.back.aclose()
        assert not pair.back.credit_waiters
        assert not pair.back.conversations


async def test_result_that_one_caller_cannot_take(till: Till) -> None:
    async with (
        linked(till.service, client={"limits": duplex.Limits(max_message=1024)}) as pair,
        duplex.open_peer() as other,
    ):
        with pytest.raises(duplex.ResourceExhausted, match="over the receiver's limit"):
            await till.keyed(pair).blob(2000)
        await other.connect(pair.endpoint)
        remote = other.service("till").with_options(idempotency_key="k")
        assert len(await remote.blob(2000)) == 2000
        assert till.runs == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ttl": 0}, "ttl must be a number of seconds above 0"),
        ({"ttl": float("inf")}, "ttl"),
        ({"ttl": "long"}, "ttl"),
        ({"max_entries": 0}, "max_entries must be a whole number from 1"),
        ({"max_entries": True}, "max_entries"),
        ({"max_bytes": 10}, "max_bytes must be a whole number from 1024"),
    ],
)
def test_configuration_is_checked(options: dict[str, Any], words: str) -> None:
    with pytest.raises(duplex.ConfigurationError, match=words):
        duplex.Idempotency(**options)


async def test_wrong_configuration_of_a_peer() -> None:
    with pytest.raises(duplex.ConfigurationError, match=r"idempotency must be a duplex\.Idempotency"):
        async with duplex.open_peer(idempotency=60):  # type: ignore[arg-type]
            pass
