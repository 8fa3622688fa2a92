"""Callers that receive their own answers: when they do, and that nobody is forgotten when they stop."""

from __future__ import annotations

import pytest
import trio
import trio.testing

import duplex
from duplex.engine._lead import Lead
from tests.engine.helpers import Pair, linked, outcome, until


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


def lead_of(pair: Pair) -> Lead:
    """Who receives for the client."""
    (lead,) = pair.client.workers.leads.values()
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


async def test_others_are_served_while_a_caller_receives(endpoint: str) -> None:
    work = Work()
    async with linked(work.service, endpoint=endpoint) as pair, trio.open_nursery() as nursery:
        remote = pair.service("work")
        results: list[object] = []

        async def wait() -> None:
            results.append(await remote.wait())

        await remote.echo(0)
        nursery.start_soon(wait)
        await until(lambda: pair.back.running)
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
        await until(lambda: not pair.back.running)
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
        with trio.fail_after(5), pytest.raises(duplex.DeadlineExceeded):
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
        await until(lambda: pair.back.running)
        assert not lead_of(pair).is_vacant
        pair.link.say_goodbye("closing")
        await until(lambda: results)
        assert isinstance(results[0], duplex.PeerLost)


async def test_a_peer_with_a_vacant_lead_closes(endpoint: str) -> None:
    async with linked(Work().service, endpoint=endpoint, check=False) as pair:
        await pair.service("work").echo(0)
        assert lead_of(pair).is_vacant
        pair.client.close()
        await until(lambda: not pair.client.workers.leads)
