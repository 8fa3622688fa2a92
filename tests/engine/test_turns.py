"""Fairness between the links of a port: who sends much at once waits for those who send little."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from duplex.engine.links._inbound import MOST_EVENTS, PART
from duplex.engine.tasks._leader import PARTS, Leadership
from duplex.engine.tasks._workers import MOST_HANDED_OVER
from duplex.engine.threads._generator import GeneratorThread
from duplex.protocol import END, UNARY
from tests.engine.helpers import Pair, linked, quiet, until
from tests.engine.hostile import NONE
from tests.engine.raw import batch

#: What may be acted on for one link in one turn, in parts, between which others have theirs.
TURN = PARTS * PART

pytestmark = pytest.mark.plain_wire("counts turns, and what is in one message")


class Order:
    """A service that notes who is served, in order."""

    def __init__(self) -> None:
        self.served: list[str] = []
        self.service = service = duplex.Service("order")
        self.go = trio.Event()

        @service.rpc
        async def note(who: str) -> str:
            self.served.append(who)
            return who

        @service.rpc
        async def late() -> None:
            await self.go.wait()


def _calls(link: duplex.Link, who: str, count: int) -> None:
    """Open calls, which go out in as few messages as can be."""
    for _ in range(count):
        payload = batch([who])
        link._inside.connection.open("order.note", payload=payload, flags=3)


@contextlib.asynccontextmanager
async def two_links(order: Order) -> AsyncIterator[tuple[Pair, duplex.Link]]:
    """A server with two clients."""
    async with linked(order.service) as pair, duplex.open_peer(name="other") as other:
        link = await other.connect(pair.endpoint)
        yield pair, link
        await until(lambda: len(pair.server.links) == 2)
        await quiet(link, *[back for back in pair.server.links if back.peer_name == "other"])


async def test_one_call_does_not_wait_for_a_thousand(autojump_clock: object) -> None:
    order = Order()
    async with two_links(order) as (pair, link):
        _calls(pair.link, "many", 800)
        pair.link._inside.outbound.transmit()
        _calls(link, "one", 1)
        link._inside.outbound.transmit()
        await until(lambda: len(order.served) == 801)
        assert order.served.index("one") <= MOST_EVENTS
        # And one that comes later waits for a turn of the others, not for all that they have sent.
        del order.served[:]
        for _ in range(5):
            _calls(pair.link, "many", 600)
            pair.link._inside.outbound.transmit()
        await until(lambda: len(order.served) > 3 * TURN)
        began = len(order.served)
        _calls(link, "one", 1)
        link._inside.outbound.transmit()
        await until(lambda: len(order.served) == 3001)
        assert order.served.index("one") <= began + 2 * TURN


async def test_links_with_much_to_do_take_turns(autojump_clock: object) -> None:
    order = Order()
    async with two_links(order) as (pair, link):
        for _ in range(3):
            _calls(pair.link, "a", 700)
            _calls(link, "b", 700)
            pair.link._inside.outbound.transmit()
            link._inside.outbound.transmit()
        await until(lambda: len(order.served) == 4200)
        for end in range(4 * MOST_EVENTS, 4000, MOST_EVENTS):
            share = order.served[:end].count("a")
            assert abs(2 * share - end) <= 2 * MOST_EVENTS


async def test_what_a_link_sends_is_acted_on_in_order(autojump_clock: object) -> None:
    """Whether it comes in one message or in several, in one turn or in many."""
    order = Order()
    async with linked(order.service) as pair:
        expected = []
        for start in range(0, 2000, 200):
            for number in range(start, start + 200):
                expected.append(str(number))
                _calls(pair.link, str(number), 1)
            pair.link._inside.outbound.transmit()
        await until(lambda: len(order.served) == 2000)
        assert order.served == expected
        await until(lambda: pair.back._inside.inbound.backlog is None)


async def test_small_messages_behind_a_large_one_go_on_as_fast(autojump_clock: object) -> None:
    order = Order()
    async with two_links(order) as (pair, _):
        _calls(pair.link, "many", 500)
        pair.link._inside.outbound.transmit()
        for _ in range(500):
            _calls(pair.link, "many", 1)
            pair.link._inside.outbound.transmit()
        await until(lambda: order.served)
        passes = 0
        while len(order.served) < 1000:
            await trio.lowlevel.checkpoint()
            passes += 1
        assert passes < 4 * 1000 / TURN


async def test_a_caller_that_receives_itself_sees_all_of_a_message() -> None:
    """The answer is behind more than is looked at in a turn, and nothing follows that would wake anybody."""
    service = duplex.Service("svc")

    @service.rpc
    async def talk(count: int) -> int:
        for _ in range(count):
            link: Any = duplex.current_call().link
            link._inside.connection.ping(0.0)
        return count

    async with linked(service, endpoint="tcp://127.0.0.1:*") as pair:
        for count in [0] * 20 + [MOST_EVENTS, 3 * TURN, MOST_EVENTS - 1, MOST_EVENTS + 1] * 5:
            assert await pair.service("svc").talk(count) == count


@pytest.mark.parametrize("endpoint", ["memory://*", "tcp://127.0.0.1:*"])
async def test_what_came_before_the_end_of_a_connection_counts(endpoint: str) -> None:
    """A client's answers are more than one turn takes, and the connection ends right behind them."""
    order = Order()
    results: list[str] = []
    async with linked(order.service, endpoint=endpoint, check=False) as pair:
        async with trio.open_nursery() as nursery:

            async def call() -> None:
                await pair.link.service("order").late()
                results.append("answered")

            for _ in range(10 * MOST_EVENTS):
                nursery.start_soon(call)
            await until(lambda: pair.back._inside.running == 10 * MOST_EVENTS)
            for channel in list(pair.back._inside.channels.users):
                pair.back._inside.connection.close(channel, 0, b"\xc0")
            pair.back._inside.outbound.transmit()
            pair.server._inside.close()
    assert len(results) == 10 * MOST_EVENTS


async def test_a_link_that_ends_with_a_backlog_is_lost_after_it(autojump_clock: object) -> None:
    order = Order()
    async with linked(order.service, check=False) as pair:
        _calls(pair.link, "one", 900)
        pair.link._inside.outbound.transmit()
        _calls(pair.link, "two", 900)
        pair.link._inside.outbound.transmit()
        pair.link._inside.carrier.close()
        await pair.back.wait_closed()
        assert order.served.count("two") > 0
        await trio.testing.wait_all_tasks_blocked()
        # Those that have not begun when the link is lost never do: nobody waits for them.
        assert order.served == (["one"] * 900 + ["two"] * 900)[: len(order.served)]
        assert len(order.served) >= 1800 - MOST_EVENTS
        assert pair.back._inside.inbound.backlog is None


async def test_metadata_costs_no_credit(autojump_clock: object) -> None:
    """Who makes no more calls than there may be keeps the rules, however much comes with them."""
    order = Order()
    limits = duplex.Limits(link_window=64_000, max_message=16_000, max_channels=400)
    async with linked(order.service, server={"limits": limits}, check=False) as pair:
        for _ in range(4):
            for _ in range(100):
                pair.link._inside.connection.open(
                    "order.note",
                    payload=b"\x91\x91\xa1x",
                    flags=UNARY | END,
                    metadata={"token": "x" * 5000},
                )
            pair.link._inside.outbound.transmit()
        while len(order.served) < 400:
            await pair.link.ping()
        assert pair.link.is_open


async def test_who_sends_more_than_credit_allows_is_cut(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    order = Order()
    limits = duplex.Limits(link_window=10_000, max_message=10_000, max_channels=10, max_metadata=1000)
    async with linked(order.service, server={"limits": limits}, check=False) as pair:
        pair.link._inside.carrier.send([batch(*[[3, token] for token in range(1000)])])
        for _ in range(100):
            pair.link._inside.carrier.send([batch([2, [{"name": "y" * 200}] * 2])])
        with trio.move_on_after(5):
            await pair.back.wait_closed()
        assert pair.back._inside.error is not None
        assert "more than credit can have let it send" in pair.back._inside.error.message
    assert any(
        "is cut" in record.getMessage() and record.levelno == logging.WARNING for record in caplog.records
    )


async def test_a_goodbye_behind_much_is_said_after_it(autojump_clock: object) -> None:
    order = Order()
    async with linked(order.service, check=False) as pair:
        _calls(pair.link, "x", 5 * MOST_EVENTS)
        pair.link._inside.say_goodbye("closing", "enough")
        await pair.back.wait_closed()
        assert len(order.served) == 5 * MOST_EVENTS
        assert pair.back._inside.error is not None
        assert "enough" in pair.back._inside.error.message


async def test_a_violation_in_a_later_part_of_a_message_ends_the_link(autojump_clock: object) -> None:
    order = Order()
    async with linked(order.service, check=False) as pair:
        calls = [[7, 1 + 2 * n, "order.note", 3, batch(["x"])] for n in range(3 * MOST_EVENTS)]
        pair.link._inside.carrier.send([batch(*calls, [9, 77777])])
        await pair.back.wait_closed()
        assert pair.back._inside.error is not None
        assert "END for channel 77777" in pair.back._inside.error.message
        assert len(order.served) >= 2 * MOST_EVENTS, "what came before it is not undone"
        assert pair.back._inside.inbound.backlog is None


async def test_closing_a_peer_drops_what_it_has_not_looked_at() -> None:
    order = Order()
    async with linked(order.service, check=False) as pair:
        pair.link._inside.carrier.send([batch(*[[7, 1 + 2 * n, "order.note", 3, NONE] for n in range(1000)])])
        await until(lambda: pair.back._inside.inbound.backlog)
        pair.server._inside.close()
        await until(lambda: pair.back._inside.inbound.backlog is None)
        assert not pair.back.is_open


async def test_closing_a_peer_does_not_wait_for_a_backlog_whose_sender_has_gone(
    autojump_clock: object,
) -> None:
    order = Order()
    async with linked(order.service, check=False) as pair:
        for _ in range(4):
            _calls(pair.link, "x", 900)
            pair.link._inside.outbound.transmit()
        pair.link._inside.carrier.close()
        await until(
            lambda: pair.back._inside.carrier not in next(iter(pair.server._inside.ports.receivers)).links
        )
        assert not pair.back._inside.error
        pair.server._inside.close()
        assert pair.back._inside.error
        served = len(order.served)
        assert served < 3000
        await trio.testing.wait_all_tasks_blocked()
        assert len(order.served) == served
        assert pair.back._inside.inbound.backlog is None


async def test_a_client_acts_on_a_backlog_without_holding_up_others() -> None:
    """Its connection has ended; what came before is acted on in turns as ever."""
    order = Order()
    passes = 0
    async with linked(order.service, endpoint="tcp://127.0.0.1:*", check=False) as pair:
        async with trio.open_nursery() as nursery:

            async def call() -> None:
                await pair.link.service("order").late()

            for _ in range(20 * TURN):
                nursery.start_soon(call)
            await until(lambda: pair.back._inside.running == 20 * TURN)
            for channel in list(pair.back._inside.channels.users):
                pair.back._inside.connection.close(channel, 0, b"\xc0")
            pair.back._inside.outbound.transmit()
            pair.server._inside.close()
            while not pair.link._inside.error:
                passes += 1
                await trio.lowlevel.checkpoint()
    assert passes >= 20


async def test_commands_that_mean_nothing_take_turns_too(autojump_clock: object) -> None:
    """Those for channels that are over, and calls that are refused at once: they are looked at all the same."""
    order = Order()
    async with two_links(order) as (pair, link):
        await pair.service("order").note("first")
        del order.served[:]
        for _ in range(800):
            pair.link._inside.connection._push([9, 1], 8)
        pair.link._inside.outbound.transmit()
        _calls(link, "one", 1)
        link._inside.outbound.transmit()
        await until(lambda: order.served == ["one"])
        assert pair.back.statistics().dropped_commands <= 4 * TURN
        await until(lambda: pair.back.statistics().dropped_commands == 800)
        for _ in range(100):  # and if they come in many messages
            for _ in range(50):
                pair.link._inside.connection._push([9, 1], 8)
            pair.link._inside.outbound.transmit()
        _calls(pair.link, "last", 1)
        pair.link._inside.outbound.transmit()
        await until(lambda: order.served == ["one", "last"])
        assert pair.back.statistics().dropped_commands == 800 + 5000


async def test_calls_that_come_together_are_begun_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """What handlers do counts: how many of them run in a turn is a matter of time."""
    now = 0.0
    in_turn: list[int] = []
    take = Leadership.take

    def count(lead: Leadership, entirely: bool = True) -> bool:
        in_turn.append(0)
        return take(lead, entirely)

    service = duplex.Service("order")

    @service.rpc
    async def note(who: str) -> None:
        nonlocal now
        now += 0.0002
        in_turn[-1] += 1

    async with linked(service, check=False) as pair:
        monkeypatch.setattr(Leadership, "take", count)
        monkeypatch.setattr(pair.server._inside.workers, "clock", lambda: now)
        _calls(pair.link, "many", 500)
        pair.link._inside.outbound.transmit()
        await until(lambda: sum(in_turn) == 500)
        # Those of a new message, and one part of the backlog, which has taken too long then.
        assert max(in_turn) <= 2 * MOST_EVENTS


async def test_what_comes_for_others_counts_to_the_turn_of_those_who_are_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    in_turn: list[int] = []
    were_slow: set[int] = set()
    take = Leadership.take

    def count(lead: Leadership, entirely: bool = True) -> bool:
        in_turn.append(0)
        return take(lead, entirely)

    service = duplex.Service("order")

    @service.rpc
    async def note(who: str) -> None:
        in_turn[-1] += 1

    @service.rpc(inline=True)
    def compute() -> None:
        nonlocal now
        now += 0.002
        were_slow.add(len(in_turn) - 1)

    async with linked(service, check=False) as pair, duplex.open_peer(name="other") as other:
        two = (await other.connect(pair.endpoint))._inside
        monkeypatch.setattr(Leadership, "take", count)
        monkeypatch.setattr(pair.server._inside.workers, "clock", lambda: now)
        _calls(pair.link, "many", 800)
        pair.link._inside.outbound.transmit()
        while sum(in_turn) < 800:
            two.connection.open("order.compute", payload=NONE, flags=UNARY | END)
            two.outbound.send_now()
            await trio.lowlevel.checkpoint()
    parts = [in_turn[turn] for turn in sorted(were_slow) if in_turn[turn]]
    assert len(parts) > 3
    # The first turn is that of the new message as well.
    assert max(parts[1:]) <= PART, "there was time for one part"


async def test_no_more_calls_are_taken_than_can_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks are to begin with what was handed to them before more is."""
    most = done = 0
    service = duplex.Service("order")

    @service.rpc
    async def note(who: str) -> None:
        nonlocal done
        await trio.lowlevel.checkpoint()
        done += 1

    async with linked(service, check=False) as pair:
        workers = pair.server._inside.workers
        hand_over = type(workers)._hand_over

        def watch(self: Any, call: Any) -> None:
            nonlocal most
            hand_over(self, call)
            most = max(most, self._handed_over)

        monkeypatch.setattr(type(workers), "_hand_over", watch)
        _calls(pair.link, "many", 1000)
        pair.link._inside.outbound.transmit()
        await until(lambda: done == 1000)
        assert PART <= most <= 2 * MOST_EVENTS


class Costly:
    """A service whose handlers take two milliseconds each, by the clock of their peer."""

    def __init__(self) -> None:
        self.now = 0.0
        self.served: list[str] = []
        self.service = service = duplex.Service("costly")

        @service.rpc
        async def work(who: str) -> None:
            self.now += 0.002
            self.served.append(who)

        @service.rpc
        async def arrive() -> None:
            """Make the one who receives take the clock that counts."""
            await trio.lowlevel.checkpoint()

    def call(self, link: duplex.Link, *who: str) -> None:
        """Call, each time in a message of its own."""
        for name in who:
            link._inside.connection.open("costly.work", payload=batch([name]), flags=3)
            link._inside.outbound.transmit()


@contextlib.asynccontextmanager
async def costly_links(
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[tuple[Costly, Pair, duplex.Link]]:
    costly = Costly()
    async with linked(costly.service, check=False) as pair, duplex.open_peer(name="other") as other:
        link = await other.connect(pair.endpoint)
        monkeypatch.setattr(pair.server._inside.workers, "clock", lambda: costly.now)
        await pair.service("costly").arrive()
        yield costly, pair, link


async def test_calls_that_are_dear_take_turns_however_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    async with costly_links(monkeypatch) as (costly, pair, link):
        costly.call(pair.link, *["many"] * 30)
        costly.call(link, "one")
        await until(lambda: len(costly.served) == 31)
        assert costly.served.index("one") <= 4
        await until(lambda: pair.back._inside.inbound.backlog is None and not pair.back._inside.running)


async def test_others_are_answered_before_more_is_done_for_the_link_that_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with costly_links(monkeypatch) as (costly, pair, link):
        answered_after: list[str] = []
        (back,) = (other._inside for other in pair.server.links if other is not pair.back)
        transmit = back.outbound.transmit

        def note() -> None:
            answered_after.extend(costly.served[-1:])
            transmit()

        monkeypatch.setattr(back.outbound, "transmit", note)
        costly.call(pair.link, *["many"] * 30)
        await until(lambda: costly.served)
        costly.call(link, "one")
        await until(lambda: len(costly.served) == 31)
        assert answered_after == ["one"]


async def test_calls_that_were_left_to_a_later_turn_come_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    async with costly_links(monkeypatch) as (costly, pair, link):
        numbers = [f"{number:02}" for number in range(60)]
        costly.call(pair.link, *numbers[:30])
        costly.call(link, *numbers)
        await until(lambda: len(costly.served) > 3)
        costly.call(pair.link, *numbers[30:])
        await until(lambda: len(costly.served) == 120)
        first = [costly.served.index(number) for number in numbers]
        assert first == sorted(first)
        last = [119 - costly.served[::-1].index(number) for number in numbers]
        assert last == sorted(last)


@pytest.mark.parametrize("closes", [False, True])
async def test_calls_that_were_left_to_a_later_turn_end_with_their_link(
    monkeypatch: pytest.MonkeyPatch, closes: bool
) -> None:
    async with costly_links(monkeypatch) as (costly, pair, _):
        costly.call(pair.link, *["many"] * 30)
        await until(lambda: costly.served)
        assert pair.back._inside.inbound.backlog is not None
        assert pair.back._inside.inbound.backlog.jobs
        if closes:
            pair.server._inside.close()
        else:
            pair.back._inside.lose("a test")
        await until(lambda: not pair.back._inside.running)
        assert not pair.server._inside.admission.running
        assert len(costly.served) < 30


async def test_who_waits_for_a_task_holds_up_no_other_link(autojump_clock: object) -> None:
    """A call that was handed to a task is a reason for what comes behind it to wait, but not for other links."""
    begun: list[str] = []
    service = duplex.Service("svc")

    @service.rpc
    async def wait(who: str) -> None:
        await trio.lowlevel.checkpoint()
        begun.append(who)

    @service.rpc
    async def at_once(who: str) -> None:
        begun.append(who)

    async with linked(service, check=False) as pair, duplex.open_peer(name="other") as other:
        link = await other.connect(pair.endpoint)
        await pair.service("svc").wait("first")  # from now on it is known to wait
        for name in ("wait", "at_once"):
            pair.link._inside.connection.open(f"svc.{name}", payload=batch([name]), flags=3)
        pair.link._inside.outbound.transmit()
        link._inside.connection.open("svc.at_once", payload=batch(["other"]), flags=3)
        link._inside.outbound.transmit()
        await until(lambda: len(begun) == 4)
        assert begun.index("other") < begun.index("wait")
        assert begun.index("other") < begun.index("at_once")


async def test_no_call_overtakes_one_that_others_keep_from_its_task(autojump_clock: object) -> None:
    """It waits because tasks are busy with the calls of another link; what comes behind it needs no task."""
    begun: list[str] = []
    service = duplex.Service("svc")

    @service.rpc
    async def wait(who: str) -> None:
        begun.append(who)
        await trio.lowlevel.checkpoint()

    @service.rpc
    async def at_once(who: str) -> None:
        begun.append(who)

    async with linked(service, check=False) as pair, duplex.open_peer(name="other") as other:
        link = await other.connect(pair.endpoint)
        await pair.service("svc").wait("known to wait")
        for _ in range(MOST_HANDED_OVER):
            pair.link._inside.connection.open("svc.wait", payload=batch(["many"]), flags=3)
        pair.link._inside.outbound.transmit()
        for method, who in (("wait", "first"), ("at_once", "second"), ("at_once", "third")):
            link._inside.connection.open(f"svc.{method}", payload=batch([who]), flags=3)
        link._inside.outbound.transmit()
        await until(lambda: len(begun) == MOST_HANDED_OVER + 4)
        # Which of those begins first that are handed to tasks in one pass is trio's business.
        assert begun[1:-3] == ["many"] * MOST_HANDED_OVER


async def test_calls_beyond_those_that_can_begin_keep_their_order(autojump_clock: object) -> None:
    served: list[int] = []
    service = duplex.Service("svc")

    @service.rpc
    async def wait(number: int) -> None:
        served.append(number)
        await trio.lowlevel.checkpoint()

    @service.rpc
    async def at_once(number: int) -> None:
        served.append(number)

    async with linked(service, check=False) as pair:
        for start in range(0, 400, 40):
            for number in range(start, start + 40):
                method = "svc.at_once" if number % 7 == 0 else "svc.wait"
                pair.link._inside.connection.open(method, payload=batch([number]), flags=3)
            pair.link._inside.outbound.transmit()
        await until(lambda: len(served) == 400)
        # Which of those begins first that are handed to tasks in one pass is trio's business.
        assert max(abs(place - number) for place, number in enumerate(served)) <= 2 * MOST_HANDED_OVER
        await until(
            lambda: (
                pair.back._inside.inbound.backlog is None
                and not pair.server._inside.workers.must_wait(pair.back._inside)
            )
        )


async def test_plain_generators_begin_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them starts a thread."""
    service = duplex.Service("svc")

    @service.rpc
    def numbers() -> Iterator[int]:
        yield 1

    begun: Counter[int] = Counter()
    start = GeneratorThread._start
    async with linked(service, check=False) as pair:
        flusher = pair.server._inside.flusher

        def note(thread: GeneratorThread) -> None:
            begun[flusher.passes] += 1
            start(thread)

        monkeypatch.setattr(GeneratorThread, "_start", note)
        for _ in range(15):
            pair.link._inside.connection.open("svc.numbers", payload=batch([]), flags=END)
        pair.link._inside.outbound.transmit()
        await until(lambda: begun.total() == 15 and not pair.back._inside.running)
    assert max(begun.values()) <= 2


@pytest.mark.parametrize(("size", "most"), [(0, MOST_HANDED_OVER), (40_000, 3), (400_000, 1)])
async def test_calls_with_large_arguments_begin_few_at_a_time(
    autojump_clock: object, size: int, most: int
) -> None:
    """To decode them takes long."""
    service = duplex.Service("svc")
    begun: Counter[int] = Counter()

    @service.rpc
    async def wait(text: str) -> None:
        begun[flusher.passes] += 1
        await trio.lowlevel.checkpoint()

    async with linked(service, check=False) as pair:
        flusher = pair.server._inside.flusher
        await pair.service("svc").wait("")  # from now on it is known to wait
        begun.clear()
        for _ in range(16):
            pair.link._inside.connection.open("svc.wait", payload=batch(["x" * size]), flags=3)
        pair.link._inside.outbound.transmit()
        await until(lambda: begun.total() == 16)
    assert max(begun.values()) == most
