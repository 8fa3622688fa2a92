"""Watching links: slow is not lost, idle links sleep, old ones are replaced."""

from __future__ import annotations

import collections
import contextlib
import itertools
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from duplex.engine.links._keepalive import LinkKeeper
from duplex.engine.links._pings import Pings
from tests.engine.helpers import collect, linked, outcome, process, until
from tests.machine import crowding, fail_after, within

service = duplex.Service("service")
#: Asks for no sign of life.
CALM = duplex.Keepalive(interval=1000, timeout=2000)


@service.rpc
async def good() -> int:
    return 1


@service.rpc
async def later(seconds: float) -> str:
    await trio.sleep(seconds)
    return "at last"


@service.rpc
async def ticks(count: int, pause: float) -> AsyncIterator[int]:
    for number in range(count):
        yield number
        await trio.sleep(pause)


@contextlib.contextmanager
def blocking_server() -> Iterator[str]:
    """A process with a handler that blocks its event loop; gives its endpoint."""
    with process("tests.engine.serve_blocking", "tcp://127.0.0.1:*") as (_, endpoint):
        yield endpoint


@pytest.mark.without_libzmq(
    "its heartbeats want an answer of the other side's loop, if that has no thread of libzmq's"
)
@pytest.mark.slow
async def test_a_peer_that_blocks_its_loop_is_slow_and_not_lost(caplog: pytest.LogCaptureFixture) -> None:
    """Blocked for several times the timeout: the connection stands, the call is answered, and all is reported."""
    caplog.set_level(logging.INFO, "duplex")
    keepalive = duplex.Keepalive(interval=0.2, timeout=0.6)
    with fail_after(20), blocking_server() as endpoint:
        async with duplex.open_peer(keepalive=keepalive) as client, trio.open_nursery() as nursery:
            link = await client.connect(endpoint)
            results: list[Any] = []

            async def call() -> None:
                results.append(await outcome(link.service("blocking").block(2.5)))

            nursery.start_soon(call)
            await until(lambda: link.statistics().is_slow)
            statistics = link.statistics()
            assert statistics.unanswered_for is not None
            assert statistics.unanswered_for >= 0.1
            with pytest.raises(duplex.DeadlineExceeded, match="its peer is slow: it has not answered"):
                await link.service("blocking").ping.with_options(timeout=0.05)()
            assert client.calls()[0].peer_is_slow
            await until(lambda: results)
            assert results == ["unblocked"]
            assert link.is_open
            assert client.links == [link]
            await until(lambda: not link.statistics().is_slow)
            # What the other side says of its own loop comes with its next ping.
            await until(lambda: (link.statistics().remote_delay or 0) > 1)
    messages = [record.getMessage() for record in caplog.records]
    assert any("is slow: it has not answered a ping" in message for message in messages)
    assert any("answers again" in message for message in messages)


@pytest.mark.slow
async def test_who_blocks_its_own_loop_does_not_call_others_slow() -> None:
    # The other process answers by then on a machine that is busy, too.
    timeout = 0.3 * crowding()
    keepalive = duplex.Keepalive(interval=timeout / 3, timeout=timeout)
    with fail_after(20), process("tests.engine.serve_loss", "tcp://127.0.0.1:*") as (_, endpoint):
        async with duplex.open_peer(keepalive=keepalive) as client:
            link = await client.connect(endpoint)
            for _ in range(3):
                time.sleep(timeout * 5 / 3)  # this loop, longer than the timeout
                await trio.sleep(0.01)
                assert not link.statistics().is_slow
            assert link.is_open
            assert await link.service("loss").good() == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_lost_peer_is_noticed_within_the_timeout(number: int) -> None:
    # Of a process that is stopped the host still answers, so it is given up by another time.
    keepalive = duplex.Keepalive(interval=0.3, timeout=0.9, max_silence=0.9)
    with fail_after(20), process("tests.engine.serve_loss", "tcp://127.0.0.1:*") as (running, endpoint):
        async with duplex.open_peer(keepalive=keepalive) as client:
            link = await client.connect(endpoint)
            remote = link.service("loss")
            results: list[Any] = []

            async def call() -> None:
                results.append(await outcome(remote.hang()))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(call)
                await until(lambda: link.statistics().outgoing)
                await link.ping()
                running.send_signal(number)
                began = trio.current_time()
                await until(lambda: results)
            took = trio.current_time() - began
            running.kill()
    (error,) = results
    assert type(error) is duplex.PeerLost
    assert error.cancelled_by == "link"
    assert error.may_have_executed is True
    assert "may have executed" in error.message
    assert took < 0.9 + 0.3 + within(0.3), "the time, until somebody looks, and what a busy machine adds"


async def test_an_idle_link_sleeps_until_it_is_needed(autojump_clock: object) -> None:
    keepalive = duplex.Keepalive(max_idle=60)
    async with linked(service, within=10_000, check=False, client={"keepalive": keepalive}) as pair:
        await trio.sleep(50)
        assert pair.link.is_open
        assert await pair.service("service").later(100) == "at last", "a link with a call on it is not idle"
        await trio.sleep(50)
        assert pair.link.is_open
        await trio.sleep(30)
        await pair.link.wait_closed()
        await pair.back.wait_closed()
        assert pair.client.links == []
        await trio.sleep(100)
        assert pair.client.links == [], "it does not come back by itself"
        assert await pair.service("service").good() == 1
        (again,) = pair.client.links
        assert again is not pair.link


async def test_the_bound_side_may_put_a_link_to_sleep(autojump_clock: object) -> None:
    keepalive = duplex.Keepalive(max_idle=60)
    async with linked(service, within=10_000, check=False, server={"keepalive": keepalive}) as pair:
        await trio.sleep(90)
        assert not pair.link.is_open
        await trio.sleep(100)
        assert pair.server.links == []
        async with pair.service("service").ticks.open(3, 0.1) as numbers:
            assert await collect(numbers) == [0, 1, 2]


async def test_a_sleeping_endpoint_can_be_disconnected(autojump_clock: object) -> None:
    keepalive = duplex.Keepalive(max_idle=60)
    async with linked(service, within=10_000, check=False, client={"keepalive": keepalive}) as pair:
        await trio.sleep(90)
        assert await pair.client.service("service").with_options(wait_for_ready=False).good() == 1
        await trio.sleep(90)
        await pair.client.disconnect(pair.endpoint)
        with pytest.raises(duplex.ConfigurationError, match="is not connected; nothing is"):
            await pair.client.disconnect(pair.endpoint)


@pytest.mark.parametrize("side", ["server", "client"])
async def test_an_old_link_is_replaced_without_a_failed_call(autojump_clock: object, side: str) -> None:
    options = {side: {"keepalive": duplex.Keepalive(max_age=100)}}
    results: list[Any] = []
    async with linked(service, within=10_000, check=False, **options) as pair:  # type: ignore[arg-type]
        seen = {pair.link}

        async def call(number: int) -> None:
            results.append(await outcome(pair.service("service").later(number % 7)))
            seen.update(pair.client.links)

        async with trio.open_nursery() as nursery:
            for number in range(500):
                nursery.start_soon(call, number)
                await trio.sleep(1)
    assert results == ["at last"] * 500
    assert 4 <= len(seen) <= 7, "each lasts for 100 s, give or take 10"


async def test_what_does_not_end_on_an_old_link_is_cut(autojump_clock: object) -> None:
    keepalive = duplex.Keepalive(max_age=100, max_age_grace=20)
    async with linked(service, within=10_000, check=False, server={"keepalive": keepalive}) as pair:
        began = trio.current_time()
        with pytest.raises(duplex.Unavailable, match="too old"):
            await pair.link.service("service").later(1000)
        assert 110 <= trio.current_time() - began <= 140
        assert await pair.service("service").good() == 1


async def test_ages_differ(autojump_clock: object) -> None:
    keepalive = duplex.Keepalive(max_age=1000)
    async with duplex.open_peer(services=[service], keepalive=keepalive) as server:
        endpoint = await server.bind("memory://*")
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(20):
                client = await stack.enter_async_context(duplex.open_peer())
                await client.connect(endpoint)
            ages = [link._inside.keeper._age for link in server.links]
    assert all(age is not None and 900 <= age <= 1100 for age in ages)
    assert len(set(ages)) == 20


async def test_many_links_are_not_pinged_all_at_once(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    pings: dict[int, list[float]] = {}
    ping = LinkKeeper.ping

    def note(self: LinkKeeper, delay: float) -> None:
        pings.setdefault(id(self), []).append(trio.current_time())
        ping(self, delay)

    async with duplex.open_peer(services=[service]) as server:
        endpoint = await server.bind("memory://*")
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(100):
                client = await stack.enter_async_context(duplex.open_peer(keepalive=CALM))
                await client.connect(endpoint)
            monkeypatch.setattr(LinkKeeper, "ping", note)
            await trio.sleep(50)
    assert len(pings) == 100
    for times in pings.values():
        assert 9 <= len(times) <= 11
        assert all(
            later - sooner == pytest.approx(5, abs=0.01) for sooner, later in itertools.pairwise(times)
        )
    at_once = collections.Counter(moment for times in pings.values() for moment in times)
    assert max(at_once.values()) == 32


@pytest.fixture
def pings(monkeypatch: pytest.MonkeyPatch) -> Callable[[duplex.Link], int]:
    """Tells how many pings were sent on a link."""
    sent: collections.Counter[Pings] = collections.Counter()
    send = Pings.send

    def count(self: Pings, delay: float) -> None:
        sent[self] += 1
        send(self, delay)

    monkeypatch.setattr(Pings, "send", count)
    return lambda link: sent[link._inside.pings]


async def test_one_sides_pings_are_enough_for_a_link_at_rest(
    autojump_clock: object, pings: Callable[[duplex.Link], int]
) -> None:
    """The side that has connected pings; the other one has once, and knows by that how long a ping takes."""
    async with linked(service, within=10_000, check=False) as pair:
        await trio.sleep(1000)
        assert pings(pair.link) == pytest.approx(200, abs=2)
        assert 1 <= pings(pair.back) <= 3
        assert pair.back.statistics().round_trip is not None
        assert not pair.back.statistics().is_slow


async def test_a_side_that_sends_no_pings_says_how_late_it_is_all_the_same(
    autojump_clock: object, pings: Callable[[duplex.Link], int]
) -> None:
    """Or who was late once would be taken for late for ever, and get no calls."""
    async with linked(service, within=10_000, check=False) as pair:
        await trio.sleep(1002)  # and no look at the links falls together with it
        sent = pings(pair.back)
        for delay in (3.0, 0.0):
            pair.back._inside.keeper.ping(delay)
            await pair.link.ping()
            assert pair.link.statistics().remote_delay == delay
        assert pings(pair.back) == sent


async def test_both_sides_ping_while_something_is_going_on(
    autojump_clock: object, pings: Callable[[duplex.Link], int]
) -> None:
    """Who waits is to know soon that the other side is slow."""
    async with linked(service, within=10_000, check=False) as pair:
        assert await pair.service("service").later(1000) == "at last"
        assert pings(pair.link) == pytest.approx(200, abs=2)
        assert pings(pair.back) == pytest.approx(200, abs=2)


async def test_a_side_that_hears_no_pings_sends_its_own(
    autojump_clock: object, pings: Callable[[duplex.Link], int]
) -> None:
    async with linked(service, within=10_000, check=False, client={"keepalive": CALM}) as pair:
        await trio.sleep(990)
        assert pings(pair.link) == 0
        assert pings(pair.back) == pytest.approx(198, abs=2)
        assert pair.link.is_open


async def test_looking_after_links_leaves_time_for_something_else(
    mock_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long one look at all links takes, there is half a period before the next one begins."""
    looks: list[float] = []

    def look(watch: LinkKeeper, now: float) -> None:
        looks.append(now)
        mock_clock.jump(12)  # more than two periods

    async with linked(duplex.Service("service"), within=10_000, client={"keepalive": CALM}) as pair:
        monkeypatch.setattr(LinkKeeper, "look", look)
        for _ in range(100):
            mock_clock.jump(1)
            await pair.settle()
        monkeypatch.undo()
    assert len(looks) > 20
    assert all(later - sooner >= 12 + 2.5 for sooner, later in itertools.pairwise(looks)), looks


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interval": 0}, "Keepalive.interval"),
        ({"interval": float("nan")}, "Keepalive.interval"),
        ({"timeout": 3.0}, r"Keepalive.timeout \(3.0\) must be longer than Keepalive.interval \(5.0\)"),
        ({"max_idle": 0}, "Keepalive.max_idle"),
        ({"max_age": "1"}, "Keepalive.max_age"),
        ({"max_age_grace": None}, "Keepalive.max_age_grace"),
    ],
)
def test_wrong_values(options: dict[str, Any], message: str) -> None:
    with pytest.raises(duplex.ConfigurationError, match=message):
        duplex.Keepalive(**options)
