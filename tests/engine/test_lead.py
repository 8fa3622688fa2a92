"""Callers that receive their own answers: when they do, and that nobody is forgotten when they stop."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from duplex.engine.tasks import Flusher
from duplex.engine.tasks._leader import Leadership
from tests.engine.helpers import ROOT, Pair, linked, outcome, until
from tests.machine import fail_after, within


class Work:
    """A service with a method that answers at once, and one that waits."""

    def __init__(self) -> None:
        self.go = trio.Event()
        self.service = service = duplex.Service("work")

        @service.rpc
        async def echo(number: int) -> int:
            return number

        @service.rpc
        async def wait_stubbornly() -> None:
            with trio.CancelScope(shield=True):
                await self.go.wait()

        @service.rpc
        async def wait() -> str:
            await self.go.wait()
            return "waited"


def lead_of(pair: Pair) -> Leadership:
    """Who receives for the client."""
    (lead,) = pair.client._inside.workers.leads.values()
    return lead


async def test_the_second_of_two_calls_receives_its_answer_itself(endpoint: str) -> None:
    work = Work()
    async with linked(work.service, endpoint=endpoint) as pair:
        remote = pair.service("work")
        lead = lead_of(pair)
        assert lead.task is not None
        assert await remote.echo(1) == 1
        assert lead.is_vacant
        assert await remote.echo(2) == 2
        assert lead.is_vacant
        assert lead._answers == 1


async def test_what_nobody_takes_a_worker_fills(endpoint: str) -> None:
    work = Work()
    async with linked(work.service, endpoint=endpoint, offers=[Work().service]) as pair:
        remote = pair.service("work")
        assert [await remote.echo(number) for number in range(20)] == list(range(20))
        assert lead_of(pair).is_vacant
        # Only a worker can hear this.
        assert await pair.back.service("work").echo(1) == 1
        assert not lead_of(pair).is_vacant


async def test_room_is_made_ever_more_rarely_if_it_is_not_worth_it() -> None:
    work = Work()
    async with linked(work.service) as pair:
        remote = pair.service("work")
        vacated = []
        for number in range(60):
            await remote.echo(number)
            vacated.append(lead_of(pair).is_vacant)
            await until(lambda: not lead_of(pair).is_vacant)
        assert [number for number, vacant in enumerate(vacated) if vacant] == [0, 2, 6, 14, 30]
        for number in range(300):
            await remote.echo(number)
        assert lead_of(pair)._answers >= 100
        await until(lambda: not lead_of(pair).is_vacant)
        await remote.echo(1)
        assert lead_of(pair).is_vacant, "once it was worth it, room is made at once again"


async def test_calls_that_go_round_many_links_make_room_rarely() -> None:
    """Each link sees too few of them to learn that nobody comes back before a worker has to fill the room."""
    work = Work()
    vacated = 0
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(duplex.open_peer(services=[work.service]))
        address = await server.bind("memory://*")
        clients = [await stack.enter_async_context(duplex.open_peer()) for _ in range(30)]
        leads: list[Leadership] = []
        for client in clients:
            await client.connect(address)
            leads += client._inside.workers.leads.values()
        for _ in range(5):
            for client in clients:
                assert await client.service("work").echo(1) == 1
                vacated += any(lead.is_vacant for lead in leads)
                await until(lambda: not any(lead.is_vacant for lead in leads))
    assert 1 <= vacated <= 8


async def test_others_are_served_while_a_caller_receives(endpoint: str) -> None:
    work = Work()
    async with linked(work.service, endpoint=endpoint) as pair, trio.open_nursery() as nursery:
        remote = pair.service("work")
        results: list[object] = []

        async def wait() -> None:
            results.append(await remote.wait())

        await remote.echo(0)
        nursery.start_soon(wait)
        await until(lambda: pair.back._inside.running)
        assert [await remote.echo(number) for number in range(5)] == list(range(5))
        work.go.set()
        await until(lambda: results)
        assert results == ["waited"]
        assert await remote.echo(6) == 6


async def test_a_caller_that_receives_is_cancelled(endpoint: str) -> None:
    work = Work()
    async with linked(work.service, endpoint=endpoint) as pair:
        remote = pair.service("work")
        await remote.echo(0)
        with trio.move_on_after(0.05) as scope:  # long enough for the call to begin
            await remote.wait()
        assert scope.cancelled_caught
        await until(lambda: not pair.back._inside.running)
        assert await remote.echo(1) == 1


async def test_the_time_of_a_caller_that_receives_runs_out(endpoint: str) -> None:
    work = Work()
    async with linked(work.service, endpoint=endpoint) as pair:
        remote = pair.service("work")
        await remote.echo(0)
        with pytest.raises(duplex.DeadlineExceeded):
            await remote.wait.with_options(timeout=0.05)()
        assert await remote.echo(1) == 1


async def test_the_time_runs_out_also_if_nothing_comes_from_the_other_side(endpoint: str) -> None:
    work = Work()
    async with linked(work.service, endpoint=endpoint) as pair:
        remote = pair.service("work")
        await remote.echo(0)
        with fail_after(5), pytest.raises(duplex.DeadlineExceeded):
            await remote.wait_stubbornly.with_options(timeout=0.05)()
        work.go.set()


async def test_the_link_of_a_caller_that_receives_is_lost(endpoint: str) -> None:
    work = Work()
    async with linked(work.service, endpoint=endpoint, check=False) as pair, trio.open_nursery() as nursery:
        remote = pair.service("work")
        results: list[object] = []

        async def call() -> None:
            results.append(await outcome(remote.wait()))

        await remote.echo(0)
        nursery.start_soon(call)
        await until(lambda: pair.back._inside.running)
        assert not lead_of(pair).is_vacant
        pair.link._inside.say_goodbye("closing")
        await until(lambda: results)
        assert isinstance(results[0], duplex.PeerLost)


async def test_a_peer_with_a_vacant_lead_closes(endpoint: str) -> None:
    async with linked(Work().service, endpoint=endpoint, check=False) as pair:
        await pair.service("work").echo(0)
        assert lead_of(pair).is_vacant
        pair.client._inside.close()
        await until(lambda: not pair.client._inside.workers.leads)


@pytest.mark.parametrize("passes", range(4))
async def test_the_connection_ends_while_nobody_receives(passes: int) -> None:
    """What is heard of it between two callers who receive is not lost on the second."""
    command = [sys.executable, "-m", "tests.engine.serve_echo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        async with duplex.open_peer(connect_timeout=0.2) as client:
            try:
                await client.connect(address, timeout=within(5))
            except duplex.ConnectError:
                process.kill()
                raise
            remote = client.service("work")
            for number in range(20):
                await remote.echo(number)
            (lead,) = client._inside.workers.leads.values()
            assert lead.is_vacant
            process.kill()
            process.wait()
            time.sleep(0.05)  # libzmq's thread hears of the end while the event loop is blocked
            for _ in range(passes):
                await trio.lowlevel.checkpoint()
            with fail_after(5):  # sooner than signs of life are missed
                assert isinstance(await outcome(remote.echo(1)), duplex.Unavailable)


async def test_a_caller_that_leaves_with_its_turn_due_leaves_it_to_the_next(endpoint: str) -> None:
    """Its time runs out in the pass in which something comes: the wait is over, and the turn not taken."""
    work = Work()
    async with linked(work.service, endpoint=endpoint) as pair:
        remote = pair.service("work")
        await remote.echo(0)
        lead = lead_of(pair)
        lead._is_turn_due = True
        taken: list[bool] = []
        take = lead.turns.take

        def note(*, lazily: bool = False) -> bool:
            taken.append(lead.task is None)
            return take(lazily=lazily)

        async def never() -> None:
            raise AssertionError("waited, though a turn was due")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lead.turns, "take", note)
            waits = lead.turns.wait
            patch.setattr(lead.turns, "wait", lambda: waits() if taken else never())
            assert await remote.echo(1) == 1
        assert taken[0]
        assert not lead._is_turn_due


async def test_ctrl_c_in_the_turn_of_a_caller_ends_the_peer(endpoint: str) -> None:
    """What came beside it is lost, so a caller who goes on after it must not have the peer go on too."""
    mine = duplex.Service("mine")
    work = duplex.Service("work")

    @mine.rpc(inline=True)
    def interrupt() -> int:
        raise KeyboardInterrupt

    @work.rpc
    async def call_back() -> object:
        return repr(await outcome(duplex.current_call().link.service("mine").interrupt()))

    @work.rpc
    async def echo(number: int) -> int:
        return number

    async def use() -> None:
        async with linked(work, endpoint=endpoint, offers=[mine], check=False) as pair:
            remote = pair.service("work")
            await remote.echo(0)
            assert lead_of(pair).is_vacant
            assert isinstance(await outcome(remote.call_back()), duplex.Unavailable)
            await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as caught:
        await use()
    assert caught.group_contains(KeyboardInterrupt, depth=None)


async def test_all_tasks_are_blocked_only_when_everything_in_memory_has_arrived() -> None:
    work, mine = Work(), duplex.Service("mine")
    noted: list[int] = []

    @mine.rpc
    async def note(number: int) -> None:
        noted.append(number)

    async with linked(work.service, offers=[mine]) as pair:
        back = pair.back.service("mine")
        for number in range(10):
            for _ in range(20):
                await pair.service("work").echo(number)
            await back.note.notify(number)
            await trio.testing.wait_all_tasks_blocked()
            assert noted == list(range(number + 1))


class Waiting:
    """A link for which there is always more to do."""

    def __init__(self, name: str, turns: list[str]) -> None:
        self.name = name
        self._turns = turns

    def go_on(self) -> bool:
        self._turns.append(self.name)
        return True

    def lose(self, reason: str) -> None:
        raise AssertionError(reason)


async def test_who_had_no_turn_yet_comes_first_but_keeps_no_other_from_its_turn() -> None:
    workers: Any = SimpleNamespace(clock=lambda: 0.0)
    nothing: Any = None
    lead = Leadership(workers, Flusher(), nothing, nothing)
    turns: list[str] = []
    for name in "abcd":
        lead.wait_for_turn(Waiting(name, turns))
    for _ in range(8):
        assert lead.go_on()
    assert turns == list("abcdabcd")
    for name in "xyz":
        lead.wait_for_turn(Waiting(name, turns))
    for _ in range(8):
        assert lead.go_on()
    assert turns[8:] == ["x", "a", "y", "b", "z", "c", "d", "x"]


class Slow(Waiting):
    """One for which a part takes long."""

    def __init__(self, clock: Callable[[float], None], turns: list[str]) -> None:
        super().__init__("slow", turns)
        self._pass_time = clock

    def go_on(self) -> bool:
        self._pass_time(0.006)
        return super().go_on()


@pytest.mark.parametrize("passes_take", [0.0, 0.0001])
async def test_others_have_the_event_loop_to_themselves_after_a_turn_that_was_much_too_long(
    passes_take: float,
) -> None:
    now = 100.0

    def pass_time(seconds: float) -> None:
        nonlocal now
        now += seconds

    workers: Any = SimpleNamespace(clock=lambda: now)
    nothing: Any = None
    flusher = Flusher()
    lead = Leadership(workers, flusher, nothing, nothing)
    turns: list[str] = []
    lead.wait_for_turn(Slow(pass_time, turns))
    pauses: list[int] = []
    for _ in range(3):
        lead.begin()
        pauses.append(0)
        while not lead.go_on():
            pauses[-1] += 1
            flusher.passes += 1
            pass_time(passes_take)
            lead.begin()
        assert not lead.go_on(), "one part is enough"
        flusher.passes += 1
    assert turns == ["slow"] * 3
    # As long as it took, but not for ever if no time passes.
    assert pauses == pytest.approx([0, 60, 60] if passes_take else [0, 99, 99], abs=1)
