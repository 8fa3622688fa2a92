"""What a peer counts of its calls: by method, in both directions, whatever kind they are and however they end."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from duplex.engine._counting import (
    BOUNDS,
    MOST_METHODS,
    MOST_STATUSES,
    OTHERS,
    Counting,
    MethodCounts,
)
from tests.engine.helpers import collect, linked, until

things = duplex.Service("things")


@things.rpc
async def echo(value: bytes) -> bytes:
    return value


@things.rpc
async def mirror(value):  # type: ignore[no-untyped-def]
    return value


@things.rpc(inline=True)
def quick(value: int) -> int:
    return value


@things.rpc
async def fail(code: str) -> None:
    raise duplex.RPCError("as asked", code=duplex.StatusCode[code])


@things.rpc
async def count(upto: int, size: int = 10) -> AsyncIterator[bytes]:
    for _ in range(upto):
        yield bytes(size)


@things.rpc
async def total(items: duplex.ReceiveChannel[bytes]) -> int:
    return sum([len(item) async for item in items])


@things.rpc
async def wait(seconds: float = math.inf) -> None:
    # The test's clock, or a cancelled caller, ends it.
    await trio.sleep(seconds)


@things.rpc
async def visit(times: int, function: duplex.Callback[[int], int]) -> None:
    for number in range(times):
        await function(number)


def of(peer: duplex.Peer, method: str, direction: str) -> duplex.MethodStatistics:
    """What a peer has counted of one method."""
    found = [one for one in peer.method_statistics() if (one.method, one.direction) == (method, direction)]
    assert len(found) == 1, peer.method_statistics()
    return found[0]


#: What flow control adds to each message.
OVERHEAD = 64


async def test_unary_calls() -> None:
    async with linked(things) as pair:
        for _ in range(5):
            await pair.service("things").echo(bytes(1000))
        made, served = of(pair.client, "things.echo", "made"), of(pair.server, "things.echo", "served")
        for one in made, served:
            assert (one.calls, one.in_flight, one.errors, one.credit_waits) == (5, 0, {}, 0)
            assert sum(number for _, number in one.latencies) == 5
            assert 0 < one.percentile(0.5) <= one.percentile(1) < 5
            assert one.percentile(1) * 0.9 < one.seconds < one.percentile(1) * 5.5
        assert made.bytes_sent == served.bytes_received
        assert made.bytes_received == served.bytes_sent
        assert 5 * 1000 <= made.bytes_sent - 5 * OVERHEAD < 5 * 1050
        assert 5 * 1000 <= made.bytes_received - 5 * OVERHEAD < 5 * 1050
        assert not [one for one in pair.client.method_statistics() if one.direction == "served"]


async def test_inline_calls_and_attachments() -> None:
    numpy = pytest.importorskip("numpy")
    async with linked(things) as pair:
        await pair.service("things").quick(3)
        assert of(pair.server, "things.quick", "served").calls == 1
        await pair.service("things").mirror(numpy.zeros(100_000, dtype="u1"))
        made, served = of(pair.client, "things.mirror", "made"), of(pair.server, "things.mirror", "served")
        assert made.bytes_sent == served.bytes_received > 100_000
        assert made.bytes_received == served.bytes_sent > 100_000


async def test_errors_are_counted_by_status() -> None:
    async with linked(things) as pair:
        remote = pair.service("things")
        for code in ("NOT_FOUND", "NOT_FOUND", "ABORTED"):
            with pytest.raises(duplex.RPCError):
                await remote.fail(code)
        with pytest.raises(duplex.InvalidArgument):
            await remote.fail(17)
        expected = {"NOT_FOUND": 2, "ABORTED": 1, "INVALID_ARGUMENT": 1}
        assert of(pair.client, "things.fail", "made").errors == expected
        assert of(pair.server, "things.fail", "served").errors == expected
        assert of(pair.server, "things.fail", "served").calls == 4


async def test_unknown_methods_are_not_told_apart_where_they_are_missing() -> None:
    async with linked(things) as pair:
        for number in range(3):
            with pytest.raises(duplex.Unimplemented):
                await pair.service("things")[f"no{number}"]()
        assert {one.method for one in pair.server.method_statistics()} == set()
        assert pair.server._inside.counting is not None
        assert pair.server._inside.counting.unknown == 3


async def test_streams() -> None:
    async with linked(things) as pair:
        remote = pair.service("things")
        async with remote.count.open(1000, 100) as call:
            assert len(await collect(call)) == 1000
        async with remote.total.open() as call:
            for _ in range(500):
                await call.send(bytes(100))
            assert await call.result() == 50_000
        await pair.settle()
        for method, items in ("count", 1000), ("total", 500):
            made = of(pair.client, f"things.{method}", "made")
            served = of(pair.server, f"things.{method}", "served")
            assert (made.calls, served.calls, made.errors, served.errors) == (1, 1, {}, {})
            assert made.bytes_sent == served.bytes_received
            assert made.bytes_received == served.bytes_sent
            most, least = max(made.bytes_sent, made.bytes_received), min(made.bytes_sent, made.bytes_received)
            assert items * (100 + OVERHEAD) < most < items * (110 + OVERHEAD)
            assert least < 200


@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest"])
async def test_streams_that_may_drop(overflow: Any) -> None:
    async with linked(things) as pair:
        remote = pair.service("things").with_options(overflow=overflow)
        async with remote.total.open() as call:
            for _ in range(200):
                await call.send(bytes(100))
            await call.result()
        await pair.settle()
        made, served = of(pair.client, "things.total", "made"), of(pair.server, "things.total", "served")
        assert made.bytes_sent == served.bytes_received > 200 * 100


async def test_waiting_for_credit() -> None:
    async with linked(things, server={"limits": duplex.Limits(channel_window=4096)}) as pair:
        async with pair.service("things").total.open() as call:
            for _ in range(100):
                await call.send(bytes(1000))
            await call.result()
        assert of(pair.client, "things.total", "made").credit_waits > 10
        assert of(pair.server, "things.total", "served").credit_waits == 0


async def test_in_flight_and_cancelled() -> None:
    async with linked(things) as pair:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(pair.service("things").wait)
            await until(lambda: len(pair.server.calls()) == 3)
            assert of(pair.client, "things.wait", "made").in_flight == 3
            assert of(pair.server, "things.wait", "served").in_flight == 3
            assert of(pair.server, "things.wait", "served").calls == 0
            nursery.cancel_scope.cancel()
        await until(lambda: not pair.server.calls())
        for peer, direction in ((pair.client, "made"), (pair.server, "served")):
            one = of(peer, "things.wait", direction)
            assert (one.calls, one.in_flight, one.errors) == (3, 0, {"CANCELLED": 3})


async def test_streams_that_are_left() -> None:
    async with linked(things) as pair:
        async with pair.service("things").count.open(10**6) as call:
            await call.receive()
        await until(lambda: not pair.server.calls())
        assert of(pair.client, "things.count", "made").errors == {"CANCELLED": 1}
        assert of(pair.server, "things.count", "served").errors == {"CANCELLED": 1}


async def test_deadlines() -> None:
    async with linked(things) as pair:
        with pytest.raises(duplex.DeadlineExceeded):
            await pair.service("things").with_options(timeout=0.02).wait()
        made = of(pair.client, "things.wait", "made")
        assert made.errors == {"DEADLINE_EXCEEDED": 1}
        assert made.percentile(0.5) > 0.015
        await until(lambda: not pair.server.calls())
        assert sum(of(pair.server, "things.wait", "served").errors.values()) == 1


async def test_calls_of_a_lost_link() -> None:
    async with linked(things, check=False) as pair:
        async with trio.open_nursery() as nursery:

            async def call() -> None:
                with pytest.raises(duplex.PeerLost):
                    await pair.link.service("things").wait()

            async def stream() -> None:
                async with pair.link.service("things").total.open() as opened:
                    with pytest.raises(duplex.PeerLost):
                        await opened.result(end=False)

            nursery.start_soon(call)
            nursery.start_soon(stream)
            await until(lambda: len(pair.server.calls()) == 2)
            await pair.back.aclose()
        for method in ("things.wait", "things.total"):
            assert of(pair.client, method, "made").errors == {"UNAVAILABLE": 1}
            assert of(pair.server, method, "served").errors == {"CANCELLED": 1}
            assert of(pair.server, method, "served").in_flight == 0


async def test_notifications() -> None:
    async with linked(things) as pair:
        await pair.service("things").echo.notify(bytes(1000))
        await pair.service("things").fail.notify("ABORTED")
        await pair.settle()
        await until(lambda: not pair.server.calls())
        assert of(pair.server, "things.fail", "served").errors == {"ABORTED": 1}
        made, served = of(pair.client, "things.echo", "made"), of(pair.server, "things.echo", "served")
        assert (made.calls, served.calls) == (1, 1)
        assert made.bytes_sent == served.bytes_received
        assert 1000 < made.bytes_sent < 1000 + OVERHEAD + 50


async def test_keys() -> None:
    async with linked(things) as pair:
        remote = pair.service("things").with_options(idempotency_key="k1")
        for _ in range(3):
            await remote.echo(bytes(1000))
        served, made = of(pair.server, "things.echo", "served"), of(pair.client, "things.echo", "made")
        assert (made.calls, served.calls) == (3, 3)
        assert made.bytes_sent == served.bytes_received
        assert made.bytes_received == served.bytes_sent > 3000


async def test_callbacks_are_one_method() -> None:
    async with linked(things) as pair:

        async def function(number: int) -> int:
            return number

        for _ in range(2):
            await pair.service("things").visit(3, function)
        assert of(pair.client, "callback", "served").calls == 6
        assert of(pair.server, "callback", "made").calls == 6


async def test_refused_calls() -> None:
    async with linked(things, server={"limits": duplex.Limits(max_handlers=1)}) as pair:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.service("things").wait)
            await until(lambda: pair.server.calls())
            with pytest.raises(duplex.ResourceExhausted):
                await pair.service("things").echo(b"")
            nursery.cancel_scope.cancel()
        assert of(pair.server, "things.echo", "served").errors == {"RESOURCE_EXHAUSTED": 1}


async def test_nothing_is_counted_if_so_asked() -> None:
    off = {"stats": False}
    async with linked(things, server=off, client=off) as pair:
        remote = pair.service("things")
        await remote.echo(b"")
        await remote.quick(1)
        await remote.echo.notify(b"")
        async with remote.count.open(3) as call:
            await collect(call)
        with pytest.raises(duplex.NotFound):
            await remote.fail("NOT_FOUND")
        with pytest.raises(duplex.Unimplemented):
            await remote.no()
        assert pair.client.method_statistics() == pair.server.method_statistics() == []
        assert "duplex.stats" not in pair.link.services


# -- numbers alone ---------------------------------------------------------------------------------------


def test_percentiles_are_within_five_percent() -> None:
    counts = MethodCounts()
    durations = [1.07**number * 2e-6 for number in range(200)]
    for duration in durations:
        counts.ended(0, duration, 0, 0)
    found = counts.statistics("m", "made", 0)
    for part in (0.01, 0.25, 0.5, 0.9, 0.99, 1.0):
        exact = durations[math.ceil(part * len(durations)) - 1]
        assert found.percentile(part) == pytest.approx(exact, rel=0.05)
    assert found.seconds == pytest.approx(sum(durations), rel=0.05)


def test_extremes_have_buckets() -> None:
    counts = MethodCounts()
    for duration in (-1.0, 0.0, 1e-9, 1e9):
        counts.ended(3, duration, 1, 2)
    found = counts.statistics("m", "made", 0)
    assert [count for _, count in found.latencies] == [3, 1]
    assert found.latencies[-1][0] == math.inf
    assert found.percentile(1) == BOUNDS[-1]
    assert (found.bytes_received, found.bytes_sent, found.errors) == (4, 8, {"INVALID_ARGUMENT": 4})
    assert MethodCounts().statistics("m", "made", 0).percentile(0.5) == 0


def test_a_status_of_another_version_has_its_number() -> None:
    counts = MethodCounts()
    counts.ended(99, 0.1, 0, 0)
    assert counts.statistics("m", "served", 0).errors == {"99": 1}


def test_statuses_are_bounded() -> None:
    counts = MethodCounts()
    for number in range(1000, 1000 + 2 * MOST_STATUSES):
        counts.ended(number, 0.1, 0, 0)
    counts.ended(1000, 0.1, 0, 0)
    errors = counts.statistics("m", "made", 0).errors
    assert (len(errors), errors["1000"], errors[OTHERS]) == (MOST_STATUSES + 1, 2, MOST_STATUSES)


def test_calls_under_way_of_many_methods_are_counted_once() -> None:
    counting = Counting()
    for number in range(2 * MOST_METHODS):
        counting.made[f"m{number}"].ended(0, 0.1, 0, 0)
    under_way = [
        SimpleNamespace(method=f"m{number}", opener=True, is_value=False)
        for number in (1, MOST_METHODS + 1, MOST_METHODS + 2, 5 * MOST_METHODS)
    ]
    found = {one.method: one for one in counting.statistics(under_way)}
    assert len(found) == MOST_METHODS + 1
    assert sum(one.calls for one in found.values()) == 2 * MOST_METHODS
    assert (found["m1"].in_flight, found[OTHERS].in_flight) == (1, 3)


def test_methods_are_bounded() -> None:
    counting = Counting()
    for number in range(2 * MOST_METHODS):
        counting.made[f"m{number}"].ended(0, 0.1, 0, 0)
        counting.made[f"callback {number}"].ended(0, 0.1, 0, 0)
    found = {one.method: one.calls for one in counting.statistics([])}
    assert len(found) <= MOST_METHODS + 1
    assert found["callback"] == 2 * MOST_METHODS
    assert sum(found.values()) == 4 * MOST_METHODS
    assert found[OTHERS] > MOST_METHODS - 2


@pytest.mark.parametrize("part", [99, -0.1, float("nan"), "0.5"])
def test_percentiles_are_parts_of_one(part: Any) -> None:
    with pytest.raises(duplex.ConfigurationError, match="part must be a number from 0 to 1, not"):
        MethodCounts().statistics("m", "made", 0).percentile(part)
