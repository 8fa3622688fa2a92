"""Circuits: a peer whose calls fail one after the other gets none for a while."""

from __future__ import annotations

import contextlib
import logging
import math
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

import duplex
from duplex._policies import CircuitBreaker, OutlierDetection
from duplex.client._breaker import Circuit
from tests.engine.helpers import outcome, until
from tests.machine import fail_after

POLICY = CircuitBreaker(failures=3, open_time=30)


def _call(circuit: Circuit, now: float, *, fails: bool | None) -> bool:
    return circuit.end(fails, now, was_probe=circuit.begin(now))


# -- the decision --------------------------------------------------------------------------------------


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    circuit = Circuit(POLICY)
    for _ in range(5):
        assert not _call(circuit, 0.0, fails=True)
        assert not _call(circuit, 0.0, fails=True)
        assert not _call(circuit, 0.0, fails=None), "what was given up says nothing"
        assert not circuit.is_untouched
        assert not _call(circuit, 0.0, fails=False)
        assert circuit.is_untouched
    assert [_call(circuit, 0.0, fails=True) for _ in range(3)] == [False, False, True]
    assert not circuit.admits(29.9)
    assert circuit.next_change(10.0) == 30.0
    assert circuit.next_change(30.0) == math.inf


def _opened() -> Circuit:
    circuit = Circuit(POLICY)
    for _ in range(3):
        _call(circuit, 0.0, fails=True)
    return circuit


def test_one_call_is_let_through_after_a_while() -> None:
    circuit = _opened()
    assert circuit.admits(30.0)
    assert circuit.begin(30.0)
    assert not circuit.admits(31.0), "one at a time"
    assert circuit.end(False, 32.0, was_probe=True)
    assert circuit.admits(32.0)
    assert not circuit.is_open


def test_a_probe_that_fails_opens_it_again() -> None:
    circuit = _opened()
    assert circuit.begin(40.0)
    assert not circuit.end(True, 41.0, was_probe=True)
    assert not circuit.admits(70.9)
    assert circuit.admits(71.0)


def test_a_probe_that_is_given_up_makes_room_for_another() -> None:
    circuit = _opened()
    assert circuit.begin(40.0)
    assert not circuit.end(None, 41.0, was_probe=True)
    assert circuit.admits(41.0)


def test_a_probe_that_does_not_end_is_followed_by_another() -> None:
    circuit = _opened()
    assert circuit.begin(40.0)
    assert not circuit.admits(69.9)
    assert circuit.next_change(50.0) == 70.0
    assert circuit.admits(70.0)
    assert circuit.begin(70.0)
    assert not circuit.admits(71.0)
    assert circuit.end(False, 72.0, was_probe=True)
    assert circuit.admits(72.0)
    assert not circuit.end(True, 73.0, was_probe=True), "the first one: the circuit has closed since"
    assert circuit.admits(73.0)


def test_calls_that_began_before_it_opened_change_nothing() -> None:
    circuit = Circuit(POLICY)
    early = [circuit.begin(0.0) for _ in range(6)]
    for was_probe in early[:3]:
        circuit.end(True, 1.0, was_probe=was_probe)
    assert not circuit.end(True, 20.0, was_probe=early[3])
    assert circuit.admits(31.0), "not put off by what was known"
    assert not circuit.end(False, 20.0, was_probe=early[4])
    assert not circuit.admits(20.0)


# -- calls ---------------------------------------------------------------------------------------------


class Server:
    """A server that fails as it is told."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls = 0
        self.fails: type[duplex.RPCError] | None = None
        self.service = service = duplex.Service("s")

        @service.rpc
        async def get() -> str:
            self.calls += 1
            await trio.lowlevel.checkpoint()
            if self.fails is not None:
                raise self.fails("ill")
            return name

        @service.rpc
        async def count() -> AsyncIterator[int]:
            self.calls += 1
            yield 1
            if self.fails is not None:
                raise self.fails("ill")

        @service.rpc
        async def follow() -> AsyncIterator[int]:
            self.calls += 1
            yield 1
            await trio.sleep_forever()

        @service.rpc
        async def wait() -> None:
            self.calls += 1
            await trio.sleep_forever()


@contextlib.asynccontextmanager
async def served(*servers: Server, **options: Any) -> AsyncIterator[duplex.Peer]:
    options = options or {"circuit_breaker": POLICY}
    with fail_after(10_000):
        async with contextlib.AsyncExitStack() as stack:
            client = await stack.enter_async_context(duplex.open_peer(balancer="round_robin", **options))
            for server in servers:
                peer = await stack.enter_async_context(
                    duplex.open_peer(services=[server.service], name=server.name)
                )
                await client.connect(await peer.bind("memory://*"))
            yield client


async def _many(client: duplex.Peer, count: int) -> Counter[str]:
    found: Counter[str] = Counter()
    for _ in range(count):
        answer = await outcome(client.service("s").get())
        found[answer if isinstance(answer, str) else type(answer).__name__] += 1
    return found


async def test_who_fails_gets_no_calls_until_it_is_well(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "duplex")
    ill, well = Server("ill"), Server("well")
    ill.fails = duplex.Internal
    async with served(ill, well) as client:
        assert await _many(client, 20) == {"Internal": 3, "well": 17}
        assert client.statistics().ejections == 1
        assert "ill gets no calls of s for a while: it has failed 3 times in a row" in caplog.text
        await trio.sleep(30)
        assert await _many(client, 20) == {"Internal": 1, "well": 19}
        assert client.statistics().ejections == 1, "it is the same illness"
        await trio.sleep(30)
        ill.fails = None
        assert await _many(client, 20) == {"ill": 10, "well": 10}
        assert "ill gets calls of s again" in caplog.text


async def test_without_anybody_else_calls_fail_at_once(autojump_clock: object) -> None:
    ill = Server("ill")
    ill.fails = duplex.Unavailable
    async with served(ill) as client:
        await _many(client, 3)
        began = trio.current_time()
        for call in (
            client.service("s").get(),
            client.service("s").get.notify(),
            client.service("s").count.open().__aenter__(),
        ):
            with pytest.raises(duplex.Unavailable, match="have failed lately") as caught:
                await call
            assert caught.value.may_have_executed is False
        assert trio.current_time() == began
        assert ill.calls == 3
        assert await _many(client, 1) == {"Unavailable": 1}
        # Who is called over one link is not judged.
        with pytest.raises(duplex.Unavailable, match="ill"):
            await client.links[0].service("s").get()


async def test_answers_are_no_failures(autojump_clock: object) -> None:
    server = Server("one")
    server.fails = duplex.NotFound
    async with served(server) as client:
        assert await _many(client, 10) == {"NotFound": 10}


async def test_one_probe_at_a_time(autojump_clock: object) -> None:
    server = Server("one")
    server.fails = duplex.Internal
    async with served(server) as client:
        await _many(client, 3)
        await trio.sleep(30)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.service("s").wait)
            await trio.testing.wait_all_tasks_blocked()
            assert await _many(client, 3) == {"Unavailable": 3}
            nursery.cancel_scope.cancel()
        server.fails = None
        assert await _many(client, 3) == {"one": 3}


async def test_streams_count_too(autojump_clock: object) -> None:
    server = Server("one")
    server.fails = duplex.Internal
    async with served(server) as client:
        for _ in range(3):
            async with client.service("s").wait.open():
                pass  # left before its end, which says nothing
        for _ in range(3):
            async with client.service("s").count.open() as call:
                with pytest.raises(duplex.Internal):
                    assert [number async for number in call]
        with pytest.raises(duplex.Unavailable, match="have failed lately"):
            async with client.service("s").count.open():
                pass
        await trio.sleep(30)
        server.fails = None
        async with client.service("s").count.open() as call:
            assert [number async for number in call] == [1]
        assert await _many(client, 1) == {"one": 1}


@pytest.mark.parametrize("is_taken", [True, False])
async def test_a_stream_that_goes_on_shows_that_its_peer_is_well(
    autojump_clock: object, is_taken: bool
) -> None:
    """Once something of it has come: who follows something for days does not keep all others out."""
    server = Server("one")
    server.fails = duplex.Internal
    async with served(server) as client:
        await _many(client, 3)
        await trio.sleep(30)
        server.fails = None
        async with client.service("s").follow.open() as call:
            if is_taken:
                assert await call.receive() == 1
            else:
                await until(lambda: call.statistics().buffered_items)
            assert await _many(client, 3) == {"one": 3}
        assert await _many(client, 3) == {"one": 3}


async def test_a_probe_that_waits_for_long_keeps_others_out_for_a_while_only(autojump_clock: object) -> None:
    server = Server("one")
    server.fails = duplex.Internal
    async with served(server) as client:
        await _many(client, 3)
        await trio.sleep(30)
        server.fails = None
        async with client.service("s").wait.open():
            await trio.sleep(29)
            assert await _many(client, 1) == {"Unavailable": 1}
            await trio.sleep(1)
            assert await _many(client, 3) == {"one": 3}


async def test_what_cannot_be_opened_counts(autojump_clock: object) -> None:
    server = Server("one")
    async with served(server, circuit_breaker=CircuitBreaker(failures=1)) as client:
        with pytest.raises(duplex.EncodeError):
            async with client.service("s").count.open(object()):
                pass
        assert await _many(client, 1) == {"one": 1}, "a mistake of the caller is none of the server's"
        link: Any = client.links[0]._inside
        unavailable = duplex.Unavailable("not now")

        class Failing:
            def open(self, *_: Any) -> Any:
                @contextlib.asynccontextmanager
                async def opening() -> AsyncIterator[None]:
                    for error in (unavailable,):
                        raise error
                    yield

                return opening()

        caller, link.caller = link.caller, Failing()
        with pytest.raises(duplex.Unavailable, match="not now"):
            async with client.service("s").count.open():
                pass
        link.caller = caller
        with pytest.raises(duplex.Unavailable, match="have failed lately"):
            await client.service("s").get()


async def test_retries_go_to_others(autojump_clock: object) -> None:
    ill, well = Server("ill"), Server("well")
    ill.fails = duplex.Unavailable
    async with served(ill, well) as client:
        remote: Any = client.service("s").with_options(retry=duplex.RetryPolicy(), idempotent=True)
        for _ in range(20):
            assert await remote.get() == "well"
        assert ill.calls == 3


async def test_peers_that_are_gone_are_forgotten(autojump_clock: object) -> None:
    first, second = Server("first"), Server("second")
    first.fails = second.fails = duplex.Internal
    async with served(first, second) as client:
        await _many(client, 2)
        health: Any = client._callers._balanced.of("s")._health
        assert len(health._circuits) == 2
        await client.links[0].aclose()
        await trio.sleep(1)
        assert len(client.links) == 2
        await _many(client, 1)
        assert len(health._circuits) == 2


async def test_wrong_options() -> None:
    for option, wrong in (
        ({"circuit_breaker": 3}, r"circuit_breaker must be a duplex\.CircuitBreaker"),
        ({"outlier_detection": 3}, r"outlier_detection must be a duplex\.OutlierDetection"),
    ):
        with pytest.raises(duplex.ConfigurationError, match=wrong):
            async with duplex.open_peer(**option):  # type: ignore[arg-type]
                pass
    wrong_value: Any
    for field, wrong_value in (("failures", 0), ("open_time", 0), ("codes", "x")):
        with pytest.raises(duplex.ConfigurationError, match=rf"CircuitBreaker\.{field}"):
            CircuitBreaker(**{field: wrong_value})
    for field, wrong_value in (
        ("interval", 0),
        ("base_ejection_time", "x"),
        ("max_ejection_time", -1),
        ("max_ejection_percent", 101),
        ("success_rate_stdev_factor", -1),
        ("success_rate_minimum_hosts", 0),
        ("success_rate_request_volume", 0),
        ("success_rate_enforcement", 101),
        ("failure_percentage_threshold", 101),
        ("failure_percentage_minimum_hosts", 0),
        ("failure_percentage_request_volume", 0),
        ("failure_percentage_enforcement", -1),
        ("codes", [0]),
    ):
        with pytest.raises(duplex.ConfigurationError, match=rf"OutlierDetection\.{field}"):
            OutlierDetection(**{field: wrong_value})
