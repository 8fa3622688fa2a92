"""Limits of handlers, and load that is shed before memory grows."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import trio

import duplex
from duplex.engine._shares import may_hold_more
from duplex.engine.serving._admission import CALLS_PER_LOOK, Admission
from tests.engine.helpers import Pair, linked, outcome, until


class Busy:
    """A service whose handlers run until they are let go."""

    def __init__(self) -> None:
        self.go = trio.Event()
        self.running = 0
        self.most = 0
        self.service = service = duplex.Service("busy")

        @service.rpc
        async def work() -> str:
            self.running += 1
            self.most = max(self.most, self.running)
            try:
                await self.go.wait()
            finally:
                self.running -= 1
            return "done"

        @service.rpc
        async def ask(question: duplex.Callback[[], str]) -> str:
            self.running += 1
            try:
                await self.go.wait()
                return await question()
            finally:
                self.running -= 1

        @service.rpc
        async def hoard(items: duplex.ReceiveChannel[bytes]) -> None:
            """Take nothing."""
            await self.go.wait()

        @service.rpc(inline=True)
        def quick() -> str:
            return "quick"

        @service.rpc
        async def no() -> None:
            error = duplex.ResourceExhausted("not now")
            error.retry_after = 2.5
            raise error


async def _many(pair: Pair, count: int, nursery: trio.Nursery, method: str = "work") -> list[Any]:
    results: list[Any] = []

    async def call() -> None:
        results.append(await outcome(pair.service("busy")[method]()))

    for _ in range(count):
        nursery.start_soon(call)
    return results


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        (duplex.Limits(max_handlers=5), "max_handlers"),
        (duplex.Limits(max_handlers_per_link=5), "max_handlers_per_link"),
    ],
)
async def test_handlers_beyond_the_limit_are_refused(limits: duplex.Limits, name: str) -> None:
    busy = Busy()
    async with linked(busy.service, server={"limits": limits}) as pair:
        async with trio.open_nursery() as nursery:
            results = await _many(pair, 12, nursery)
            await until(lambda: len(results) == 7)
            for error in results:
                assert type(error) is duplex.ResourceExhausted
                assert f"Limits.{name}" in error.message
                assert error.retry_after == pytest.approx(0.1)
                assert error.metadata == {"duplex-refused": "1", "duplex-retry-after": "100"}
                assert error.may_have_executed is False
            assert busy.running == 5
            assert pair.back.statistics().running == 5
            assert await pair.service("busy").quick() == "quick", "inline functions are over at once"
            assert await pair.service("duplex.health").check() == "SERVING", "Duplex's own are not refused"
            busy.go.set()
        assert results[7:] == ["done"] * 5
        assert busy.most == 5
        assert pair.server._inside.admission.refused == 7
        assert await pair.service("busy").work() == "done", "and there is room again"
        assert pair.server._inside.admission.running == pair.back._inside.running == 0


async def test_own_methods_are_shared_too() -> None:
    """A few of them are called on a link however full the peer is, and the others count like any call."""
    busy = Busy()
    limits = duplex.Limits(max_handlers=27)
    async with (
        linked(busy.service, server={"limits": limits}) as pair,
        duplex.open_peer() as other,
        contextlib.AsyncExitStack() as watched,
        trio.open_nursery() as nursery,
    ):
        await other.connect(pair.endpoint)
        health = pair.service("duplex.health")
        for _ in range(24):
            call = await watched.enter_async_context(health.watch.open())
            assert await call.receive() == "SERVING"
        async with health.watch.open() as call:
            assert type(await outcome(call.receive())) is duplex.ResourceExhausted
        for _ in range(3):
            nursery.start_soon(other.service("busy").work)
        await until(lambda: busy.running == 3)
        async with other.service("duplex.health").watch.open() as call:
            assert await call.receive() == "SERVING"
        busy.go.set()


async def test_a_caller_that_takes_no_metadata_is_refused_all_the_same() -> None:
    busy = Busy()
    options = {"limits": duplex.Limits(max_handlers=1)}
    async with (
        linked(busy.service, server=options, client={"limits": duplex.Limits(max_metadata=0)}) as pair,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(pair.service("busy").work)
        await until(lambda: busy.running)
        error = await outcome(pair.service("busy").work())
        assert type(error) is duplex.ResourceExhausted
        assert error.metadata == {}
        assert pair.link.is_open
        busy.go.set()


async def test_what_was_refused_never_ran() -> None:
    async with linked(Busy().service) as pair:
        error = await outcome(pair.service("busy").missing())
        assert type(error) is duplex.Unimplemented
        assert error.may_have_executed is False


async def test_the_limit_of_a_link_is_not_that_of_the_others() -> None:
    busy = Busy()
    limits = duplex.Limits(max_handlers_per_link=2)
    async with (
        linked(busy.service, server={"limits": limits}) as pair,
        duplex.open_peer() as other,
        trio.open_nursery() as nursery,
    ):
        await other.connect(pair.endpoint)
        results = await _many(pair, 3, nursery)
        await until(lambda: results)
        nursery.start_soon(other.service("busy").work)
        await until(lambda: busy.running == 3)
        busy.go.set()


async def test_callbacks_of_calls_that_run_are_not_refused() -> None:
    busy = Busy()
    limits = duplex.Limits(max_handlers=1)
    async with linked(busy.service, client={"limits": limits}, server={"limits": limits}) as pair:
        async with trio.open_nursery() as nursery:
            answers: list[str] = []

            async def answer() -> str:
                return "yes"

            async def call() -> None:
                answers.append(await pair.service("busy").ask(answer))

            nursery.start_soon(call)
            await until(lambda: busy.running)
            busy.go.set()
        assert answers == ["yes"]


async def test_notifications_beyond_the_limit_are_dropped(caplog: pytest.LogCaptureFixture) -> None:
    busy = Busy()
    limits = duplex.Limits(max_handlers=2)
    async with linked(busy.service, server={"limits": limits}) as pair:
        for _ in range(4):
            await pair.service("busy").work.notify()
        await pair.settle()
        assert busy.running == 2
        busy.go.set()
    texts = [record.getMessage() for record in caplog.records]
    assert sum("was not handled" in text for text in texts) == 1, "they are counted, not repeated"
    assert any("1 more from client were not logged" in text for text in texts)


async def test_calls_are_refused_while_too_much_is_held() -> None:
    """Streams that nobody reads fill their windows; new work is refused until something was taken."""
    busy = Busy()
    limits = duplex.Limits(channel_window=100_000, link_window=1_000_000, max_buffered=150_000)
    async with linked(busy.service, server={"limits": limits}) as pair, trio.open_nursery() as nursery:

        async def fill() -> None:
            async with pair.service("busy").hoard.open() as call:
                for _ in range(10):
                    await call.send(bytes(10_000))
                await call.result()

        nursery.start_soon(fill)
        nursery.start_soon(fill)
        await until(lambda: sum(link.statistics().unconsumed for link in pair.server.links) >= 180_000)
        outcomes: list[Any] = []

        async def call(done: Callable[[], bool]) -> None:
            while not done():
                with trio.move_on_after(0.001):
                    outcomes.append(await outcome(pair.service("busy").work()))

        await call(lambda: any(isinstance(found, duplex.ResourceExhausted) for found in outcomes))
        error = outcomes[-1]
        assert "Limits.max_buffered" in error.message
        assert error.retry_after is not None
        busy.go.set()
        await until(lambda: not any(link.statistics().unconsumed for link in pair.server.links))
        await call(lambda: outcomes[-1] == "done")


async def test_a_handler_may_say_when_to_try_again() -> None:
    async with linked(Busy().service) as pair:
        error = await outcome(pair.service("busy").no())
        assert error.retry_after == 2.5


@pytest.mark.parametrize("text", ["", "-1", "1.5", "soon", "9" * 16, "²", b"100"])
def test_nonsense_for_a_pause_is_ignored(text: Any) -> None:
    from duplex._metadata import read_retry_after

    assert read_retry_after({"duplex-retry-after": text}) is None
    assert read_retry_after({}) is None


@pytest.mark.parametrize("name", ["max_handlers", "max_handlers_per_link", "max_buffered"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, None, 2**60])
def test_wrong_values(name: str, value: Any) -> None:
    with pytest.raises(duplex.ConfigurationError, match=f"Limits.{name} must be a whole number"):
        duplex.Limits(**{name: value})


class FakeLink:
    """What ``Admission`` needs to know of a link."""

    def __init__(self) -> None:
        self.running = 0
        self.seen_buffered = 0
        self.asked = 0
        self.held = 0

    @property
    def connection(self) -> FakeLink:
        return self

    @property
    def unconsumed_total(self) -> int:
        self.asked += 1
        return self.held


def many_links(number: int, limit: int) -> tuple[Admission, list[Any]]:
    links: list[Any] = [FakeLink() for _ in range(number)]
    peer: Any = SimpleNamespace(limits=duplex.Limits(max_buffered=limit), links=links, is_behind=False)
    return Admission(peer), links


def calls_taken(admission: Admission, links: list[Any], *, calling: int, holding: int) -> int:
    """Have all links seen, then have one hold too much; return how many more calls are taken from another."""
    for _ in range(CALLS_PER_LOOK):
        assert admission.refusal(links[calling]) is None
    links[holding].held = 100_000
    return next(number for number in itertools.count() if admission.refusal(links[calling]) is not None)


def test_what_calls_bring_is_noticed_soon_with_many_links() -> None:
    admission, links = many_links(1000, 100_000)
    assert calls_taken(admission, links, calling=0, holding=0) <= CALLS_PER_LOOK


def test_who_holds_too_much_is_refused_and_nobody_else() -> None:
    admission, links = many_links(10, 100_000)
    links[1].held = 60_000
    links[2].held = 60_000
    for _ in range(CALLS_PER_LOOK):
        admission.refusal(links[0])
    for modest in (links[0], *links[3:]):
        modest.held = 1000
        assert admission.refusal(modest) is None
    for greedy in links[1:3]:
        why = admission.refusal(greedy)
        assert why is not None
        assert "Limits.max_buffered" in why
        assert admission.room() == 5000, "half of an equal share"
    links[1].held = 0
    assert admission.refusal(links[1]) is None
    assert admission.refusal(links[2]) is None
    assert admission.room() == duplex.Limits().link_buffer


def test_what_may_wait_shrinks_with_what_is_free() -> None:
    admission, links = many_links(4, 100_000)
    rooms = []
    for held in (80_000, 90_000, 95_000, 98_000, 99_000):
        links[0].held = held
        for _ in range(CALLS_PER_LOOK):
            admission.refusal(links[1])
        rooms.append(min(100_000, admission.room()))
    assert rooms == [100_000, 80_000, 40_000, 16_000, 12_500]


@pytest.mark.parametrize(("number", "room"), [(1, 50_000), (2, 25_000), (10, 5000)])
def test_half_of_an_equal_share_may_wait_however_little_is_free(number: int, room: int) -> None:
    admission, links = many_links(number, 100_000)
    links[0].held = 100_000
    assert admission.room() == room


@pytest.mark.parametrize("most", [1, 2, 5, 8])
def test_few_are_all_for_whoever_comes(most: int) -> None:
    assert _filled([1], most) == [most]


def test_one_link_alone_gets_nearly_all() -> None:
    assert _filled([1], 1000) == [889]


@pytest.mark.parametrize("greedy", [2, 3, 10, 100])
def test_all_who_want_more_get_about_as_much_and_something_is_left(greedy: int) -> None:
    held = _filled([1] * greedy, 10_000)
    assert max(held) - min(held) <= 1
    assert sum(held) < 10_000
    assert may_hold_more(0, sum(held), 10_000)


def test_who_comes_first_does_not_get_it_all() -> None:
    held = _filled([1, 0, 0, 0], 10_000)
    held = _filled([0, 1, 0, 0], 10_000, held)
    assert may_hold_more(0, sum(held), 10_000)
    # As those who came first give back, the others catch up.
    while held[0] > held[1]:
        held[0] -= 1
        held = _filled([0, 1, 0, 0], 10_000, held)
    assert held[0] > 4000


def _filled(greedy: list[int], most: int, held: list[int] | None = None) -> list[int]:
    """Let those who are greedy take one after the other until nobody gets more; return what each has."""
    held = [0] * len(greedy) if held is None else list(held)
    moved = True
    while moved:
        moved = False
        for who, wants in enumerate(greedy):
            if wants and may_hold_more(held[who], sum(held), most):
                held[who] += 1
                moved = True
    return held


async def test_a_link_with_few_handlers_gets_some_while_others_have_all_they_can() -> None:
    busy = Busy()
    limits = duplex.Limits(max_handlers=100)
    async with (
        linked(busy.service, server={"limits": limits}, check=False) as pair,
        duplex.open_peer() as other,
        trio.open_nursery() as nursery,
    ):
        await other.connect(pair.endpoint)
        refused = await _many(pair, 200, nursery)
        await until(lambda: len(refused) == 200 - 89)
        assert all("the rest is for links that have fewer" in error.message for error in refused)
        assert all("Limits.max_handlers" in error.message for error in refused)
        done: list[str] = []

        async def call() -> None:
            done.append(await other.service("busy").work())

        nursery.start_soon(call)
        await until(lambda: busy.running == 90)
        busy.go.set()
        await until(lambda: done)
        assert done == ["done"]


async def test_links_of_one_address_leave_some_to_others() -> None:
    limits = duplex.Limits(max_links=20)
    async with duplex.open_peer(limits=limits) as server, contextlib.AsyncExitStack() as stack:
        endpoint = await server.bind("tcp://0.0.0.0:*")
        port = endpoint.rpartition(":")[2]
        clients = [await stack.enter_async_context(duplex.open_peer()) for _ in range(19)]
        for client in clients[:18]:
            await client.connect(f"tcp://127.0.0.1:{port}")
        with pytest.raises(
            duplex.HandshakeError, match=r"18 of them with (zmq\+)?tcp://127.0.0.1.*Limits.max_links: 20"
        ):
            await clients[18].connect(f"tcp://127.0.0.1:{port}")
        assert server._inside.registry.judge("tcp://10.0.0.1") is None


def test_nothing_is_refused_for_what_was_taken_meanwhile() -> None:
    admission, links = many_links(100, 100_000)
    for link in links * 20:
        link.held = 85_000
        assert admission.refusal(link) is None
        link.held = 0


def test_a_look_costs_a_call_the_same_with_many_links() -> None:
    admission, links = many_links(1000, 100_000)
    for _ in range(10_000):
        admission.refusal(links[0])
    assert sum(link.asked for link in links) <= 3 * 10_000


@pytest.mark.parametrize("keyed", [False, True])
async def test_links_that_come_and_go_leave_handlers_to_other_calls(keyed: bool) -> None:
    """Handlers of notifications and of keys go on without their links, so those of one link after another add up."""
    busy = Busy()
    async with linked(busy.service, server={"limits": duplex.Limits(max_handlers=40)}, check=False) as pair:
        for number in range(4):
            async with duplex.open_peer() as comer, trio.open_nursery() as nursery:
                await comer.connect(pair.endpoint)
                remote = comer.service("busy")
                for call in range(40):
                    if keyed:
                        method = remote.with_options(idempotency_key=f"{number}-{call}").work
                        nursery.start_soon(outcome, method())
                    else:
                        await remote.work.notify()
                await comer.links[0].ping()
                comer.links[0]._inside.carrier.close()
                await until(lambda: len(pair.server.links) == 1)
                nursery.cancel_scope.cancel()
        assert busy.running <= 36
        async with trio.open_nursery() as nursery:
            results = await _many(pair, 3, nursery)
            await until(lambda: busy.running > 36 or results)
            busy.go.set()
    assert results == ["done"] * 3
