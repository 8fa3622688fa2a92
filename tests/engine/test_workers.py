"""Workers that lead: who runs what, and that receiving goes on whatever becomes of the one who does it."""

from __future__ import annotations

import contextvars
import gc
import logging
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from duplex.engine.serving import Invocation, ServedChannel
from duplex.engine.tasks import Job
from duplex.engine.tasks._leader import Leadership
from duplex.engine.tasks._workers import MOST_HANDED_OVER
from duplex.protocol import END, UNARY
from tests.engine.helpers import Pair, linked, outcome, until
from tests.engine.hostile import NONE
from tests.engine.raw import batch
from tests.machine import fail_after

_variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


class Tasks:
    """A service that notes which tasks run its handlers."""

    def __init__(self) -> None:
        self.seen: list[trio.lowlevel.Task] = []
        self.go = trio.Event()
        self.service = service = duplex.Service("tasks")

        @service.rpc
        async def at_once(number: int) -> int:
            self.seen.append(trio.lowlevel.current_task())
            return number

        @service.rpc
        async def later(number: int) -> int:
            before = trio.lowlevel.current_task()
            await self.go.wait()
            assert trio.lowlevel.current_task() is before
            self.seen.append(before)
            return number

        @service.rpc
        async def set_variable(value: str, pause: bool) -> str:
            _variable.set(value)
            if pause:
                await trio.lowlevel.checkpoint()
            return _variable.get()

        @service.rpc
        async def get_variable(pause: bool) -> str:
            if pause:
                await trio.lowlevel.checkpoint()
            return _variable.get()

        @service.rpc
        async def end_itself() -> None:
            duplex.current_call().cancel("enough")

        @service.rpc
        async def fail() -> None:
            raise duplex.FailedPrecondition("no")

        @service.rpc
        async def open_nursery() -> int:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.lowlevel.checkpoint)
            return len(trio.lowlevel.current_task().child_nurseries)


def leaders(pair: Pair) -> list[trio.lowlevel.Task | None]:
    """The tasks that receive for the server."""
    return [lead.task for lead in pair.server._inside.workers.leads.values()]


async def test_handlers_that_do_not_wait_run_in_the_task_that_receives(endpoint: str) -> None:
    tasks = Tasks()
    async with linked(tasks.service, endpoint=endpoint) as pair:
        remote = pair.service("tasks")
        before = leaders(pair)
        assert [await remote.at_once(number) for number in range(5)] == list(range(5))
        assert [tasks.seen[0]] == before == leaders(pair)
        assert set(tasks.seen) == {tasks.seen[0]}


async def test_a_handler_that_waits_holds_nobody_up(endpoint: str) -> None:
    tasks = Tasks()
    async with linked(tasks.service, endpoint=endpoint) as pair, trio.open_nursery() as nursery:
        remote = pair.service("tasks")
        results: list[Any] = []

        async def call(number: int) -> None:
            results.append(await remote.later(number))

        for number in range(5):
            nursery.start_soon(call, number)
        for number in range(5):
            assert await remote.at_once(number) == number
        assert results == []
        tasks.go.set()
        await until(lambda: len(results) == 5)
        assert sorted(results) == list(range(5))
        assert len(set(tasks.seen[-5:])) == 5


async def test_a_method_that_waited_gets_workers_of_its_own_for_a_while() -> None:
    tasks = Tasks()
    async with linked(tasks.service) as pair:
        remote = pair.service("tasks")
        tasks.go.set()
        await remote.later(0)  # waits although it is set: a checkpoint
        leading = leaders(pair)
        seen = [tasks.seen[0]]
        for number in range(1, 140):
            assert await remote.later(number) == number
            if leaders(pair) != leading:
                leading = leaders(pair)
                seen.append(tasks.seen[-1])
        # The leader tried it at the first call, and again after 64 others of the method had gone by.
        assert len(seen) == 3


async def test_each_call_has_context_variables_of_its_own() -> None:
    async with linked(Tasks().service) as pair:
        remote = pair.service("tasks")
        for pause in (False, True, False, True):
            assert await remote.set_variable("one", pause) == "one"
            assert await remote.get_variable(pause) == "unset"
            assert await remote.get_variable(not pause) == "unset"
        for lead in pair.server._inside.workers.leads.values():
            assert lead.task is not None
            assert _variable not in lead.task.context


async def test_a_nursery_in_a_handler_that_was_begun_by_the_leader() -> None:
    async with linked(Tasks().service) as pair:
        assert [await pair.service("tasks").open_nursery() for _ in range(3)] == [0, 0, 0]


async def test_a_leader_whose_scope_was_cancelled_leaves_the_port_to_another() -> None:
    async with linked(Tasks().service) as pair:
        remote = pair.service("tasks")
        for _ in range(3):
            before = leaders(pair)
            await remote.end_itself()  # it returns before its cancellation can reach it
            assert leaders(pair) != before
            assert await remote.at_once(1) == 1


async def test_the_calls_after_one_that_was_cancelled_are_not() -> None:
    tasks = Tasks()
    async with linked(tasks.service) as pair, trio.open_nursery() as nursery:
        remote = pair.service("tasks")
        for _ in range(8):  # the order in which trio runs the two is left to chance
            nursery.start_soon(remote.end_itself)
            nursery.start_soon(remote.later, 1)
        await until(lambda: pair.server._inside.admission.running == 8)
        tasks.go.set()


async def test_handlers_that_fail_leave_the_leader_what_it_is() -> None:
    async with linked(Tasks().service) as pair:
        before = leaders(pair)
        for _ in range(3):
            with pytest.raises(duplex.FailedPrecondition, match="no"):
                await pair.service("tasks").fail()
        assert leaders(pair) == before


async def test_the_deadline_of_a_call_that_is_over_passes_while_its_worker_receives(
    autojump_clock: object,
) -> None:
    async with linked(Tasks().service, within=1000) as pair:
        remote = pair.service("tasks")
        assert await remote.at_once.with_options(timeout=1.0)(1) == 1
        before = leaders(pair)
        await trio.sleep(2)
        assert leaders(pair) != before
        assert await remote.at_once(2) == 2


@pytest.mark.parametrize("passes", range(8))
async def test_the_deadline_of_a_call_that_is_over_passes_as_the_next_call_comes(
    passes: int, mock_clock: trio.testing.MockClock
) -> None:
    """In one of these cases both are noticed in the same pass of the event loop."""
    tasks = Tasks()
    tasks.go.set()
    async with linked(tasks.service, within=1000) as pair, trio.open_nursery() as nursery:
        remote = pair.service("tasks")
        assert await remote.at_once.with_options(timeout=1.0)(1) == 1
        results: list[Any] = []

        async def call(method: str) -> None:
            results.append(await outcome(remote[method](2)))

        nursery.start_soon(call, "at_once")
        nursery.start_soon(call, "later")
        for _ in range(passes):
            await trio.lowlevel.checkpoint()
        mock_clock.jump(2)
        await until(lambda: len(results) == 2)
        assert results == [2, 2]


async def test_what_ends_the_receiving_ends_the_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake of a transport is not hidden: whoever opened the peer gets it."""

    def broken(**_: bool) -> bool:
        raise ZeroDivisionError

    async def use() -> None:
        async with linked(Tasks().service, check=False) as pair:
            (lead,) = pair.server._inside.workers.leads.values()
            monkeypatch.setattr(lead.turns, "take", broken)
            await pair.service("tasks").at_once(1)

    with pytest.raises(ExceptionGroup) as caught:
        await use()
    assert caught.group_contains(ZeroDivisionError, depth=None)


async def test_a_transport_that_fails_while_it_is_waited_for_ends_the_peer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or nobody would receive any more, without a word."""

    async def broken() -> None:
        raise ZeroDivisionError

    async def use() -> None:
        async with linked(Tasks().service, check=False) as pair:
            (lead,) = pair.server._inside.workers.leads.values()
            monkeypatch.setattr(lead.turns, "wait", broken)
            await outcome(pair.service("tasks").at_once(1))
            await trio.sleep_forever()

    with fail_after(5), pytest.raises(ExceptionGroup) as caught:
        await use()
    assert caught.group_contains(ZeroDivisionError, depth=None)


@pytest.mark.parametrize("method", ["at_once", "later"])
async def test_a_fault_of_ours_in_a_call_does_not_end_the_receiving(
    endpoint: str, method: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever receives begins calls, too."""
    tasks = Tasks()
    tasks.go.set()
    async with linked(tasks.service, endpoint=endpoint) as pair:
        remote = pair.service("tasks")
        ended = ServedChannel.run_ended

        def fail(channel: ServedChannel) -> None:
            ended(channel)
            raise ZeroDivisionError

        for number in range(3):
            with monkeypatch.context() as patch:
                patch.setattr(ServedChannel, "run_ended", fail)
                assert await remote[method](number) == number
                await until(lambda: caplog.records)
            assert caplog.records[0].levelno == logging.ERROR
            caplog.clear()
            with fail_after(5):
                assert await remote.at_once(number) == number


async def test_calls_that_came_in_the_last_turn_are_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn may bring both calls and the end."""
    tasks = Tasks()
    async with linked(tasks.service, check=False) as pair:
        (lead,) = pair.server._inside.workers.leads.values()
        take = lead.turns.take

        def last(*, lazily: bool = False) -> bool:
            take(lazily=lazily)
            pair.server._inside.close()
            return False

        monkeypatch.setattr(lead.turns, "take", last)
        await pair.service("tasks").at_once.notify(1)
        await until(lambda: pair.server._inside.is_closed)
        await until(lambda: not pair.server._inside.admission.running)
        assert not pair.server._inside.workers._arrived


async def test_no_call_begins_before_one_of_an_earlier_turn(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = 0
    came: dict[Job, int] = {}
    begun: list[int] = []
    take = Leadership.take

    def count(lead: Leadership, entirely: bool = True) -> bool:
        nonlocal turns
        turns += 1
        return take(lead, entirely)

    service = duplex.Service("service")

    @service.rpc
    async def wait(number: int) -> None:
        begun.append(number)
        await trio.lowlevel.checkpoint()

    @service.rpc
    async def at_once(number: int) -> None:
        begun.append(number)

    async with linked(service, endpoint=endpoint) as pair:
        monkeypatch.setattr(Leadership, "take", count)
        submit = pair.server._inside.workers.submit

        def note(call: Job, link: Any) -> None:
            came[call] = turns  # what is left to a later turn is submitted again then
            submit(call, link)

        monkeypatch.setattr(pair.server._inside.workers, "submit", note)
        remote = pair.service("service")
        for number in range(600):
            await (remote.at_once if number % 2 else remote.wait).notify(number)
            pair.link._inside.outbound.transmit()  # in a message of its own
            pair.link._inside.turns.sends_done()
            if number % 5 == 0:
                await trio.lowlevel.checkpoint()
        await until(lambda: len(begun) == 600)
        turn_of = list(came.values())
        in_turns = [turn_of[number] for number in begun]
        assert in_turns == sorted(in_turns)


@pytest.mark.plain_wire("counts messages and passes")
@pytest.mark.parametrize("messages", [1, 2])
@pytest.mark.parametrize("method", ["at_once", "wait", "thread"])
async def test_no_call_begins_before_a_handler_is_told_of_a_cancellation_that_came_earlier(
    endpoint: str, method: str, messages: int
) -> None:
    happened: list[str] = []
    service = duplex.Service("service")

    @service.rpc
    async def hold() -> None:
        happened.append("held")
        try:
            await trio.sleep_forever()
        finally:
            happened.append("told")

    @service.rpc
    async def at_once() -> None:
        happened.append("began")

    @service.rpc
    async def wait() -> None:
        happened.append("began")
        await trio.lowlevel.checkpoint()

    @service.rpc
    def thread() -> None:
        happened.append("began")

    async with linked(service, endpoint=endpoint, check=False) as pair:
        link = pair.link._inside
        for _ in range(12):  # the order in which trio runs tasks of one pass is left to chance
            del happened[:]
            channel = link.connection.open("service.hold", payload=NONE, flags=UNARY | END)
            link.outbound.transmit()
            await until(lambda: happened == ["held"])
            link.connection.cancel(channel)
            if messages == 2:
                link.outbound.transmit()
            link.connection.open(f"service.{method}", payload=NONE, flags=UNARY | END)
            link.outbound.send_now()
            await until(lambda: len(happened) == 3)
            assert happened == ["held", "told", "began"]


@pytest.mark.plain_wire("counts messages and passes")
async def test_the_calls_after_a_cancellation_keep_their_order_and_hold_up_no_other_link() -> None:
    begun: list[tuple[str, int]] = []
    service = duplex.Service("service")

    @service.rpc
    async def hold() -> None:
        begun.append(("held", 0))
        await trio.sleep_forever()

    @service.rpc
    async def note(who: str, number: int) -> None:
        begun.append((who, number))

    async with linked(service, check=False) as pair, duplex.open_peer(name="other") as other:
        one, two = pair.link._inside, (await other.connect(pair.endpoint))._inside
        for _ in range(5):
            del begun[:]
            channel = one.connection.open("service.hold", payload=NONE, flags=UNARY | END)
            one.outbound.transmit()
            await until(lambda: begun)
            one.connection.cancel(channel)
            for who, link in (("one", one), ("two", two)):
                for number in range(40):
                    link.connection.open("service.note", payload=batch([who, number]), flags=UNARY | END)
                link.outbound.send_now()
            await until(lambda: len(begun) == 81)
            assert [number for who, number in begun if who == "two"] == list(range(40))
            # Those of one pass begin in any order, and a few are handed over in each.
            ones = [number for who, number in begun if who == "one"]
            assert max(abs(place - number) for place, number in enumerate(ones)) < MOST_HANDED_OVER
            assert begun.index(("two", 0)) < begun.index(("one", ones[0]))


async def test_a_leader_that_waits_keeps_no_call() -> None:
    tasks = Tasks()
    async with linked(tasks.service) as pair:
        await pair.service("tasks").at_once(1)
        await trio.testing.wait_all_tasks_blocked()
        gc.collect()
        served = [thing for thing in gc.get_objects() if isinstance(thing, (Invocation, ServedChannel))]
        # The logs of other tests may keep calls of theirs.
        assert not [call for call in served if call.link is pair.back._inside]


@pytest.mark.parametrize("calls_before", [0, 1])
async def test_the_log_names_the_method_that_failed_in_its_clean_up(
    calls_before: int, caplog: pytest.LogCaptureFixture
) -> None:
    service = duplex.Service("service")

    @service.rpc
    async def fail() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clean_up)
            await trio.sleep_forever()

    async def clean_up() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ZeroDivisionError

    @service.rpc
    async def other() -> None: ...

    async with linked(service) as pair:
        for _ in range(calls_before):
            await pair.service("service").other()
        with trio.move_on_after(0.05):  # long enough for the call to begin
            await pair.service("service").fail()
        with caplog.at_level(logging.ERROR):
            await until(lambda: not pair.back._inside.running)
    assert ["service.fail" in record.getMessage() for record in caplog.records] == [True]
