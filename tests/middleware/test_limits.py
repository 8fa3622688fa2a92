"""How many calls run at once, and how often."""

from __future__ import annotations

from typing import Any

import pytest
import trio

import duplex
from duplex.middleware import _limits, limit_concurrency, limit_rate
from tests.engine.helpers import linked, until


def service(middleware: Any) -> duplex.Service:
    things = duplex.Service("things", middleware=[middleware])

    @things.rpc
    async def echo(value: int) -> int:
        return value

    @things.rpc
    async def wait() -> None:
        await trio.sleep_forever()

    return things


async def test_calls_at_once() -> None:
    async with linked(service(limit_concurrency(2))) as pair:
        remote = pair.service("things")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(remote.wait)
            nursery.start_soon(remote.wait)
            await until(lambda: len(pair.server.calls()) == 2)
            with pytest.raises(
                duplex.ResourceExhausted, match=r"2 calls run already.*things\.echo"
            ) as caught:
                await remote.echo(1)
            assert caught.value.retry_after == pytest.approx(0.1)
            assert not caught.value.may_have_executed
            nursery.cancel_scope.cancel()
        await until(lambda: not pair.server.calls())
        assert await remote.echo(1) == 1


async def test_calls_at_once_by_key() -> None:
    async with linked(service(limit_concurrency(1, key=lambda call: call.metadata.get("user")))) as pair:
        remote = pair.service("things")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(remote.with_options(metadata={"user": "ann"}).wait)
            await until(pair.server.calls)
            with pytest.raises(duplex.ResourceExhausted):
                await remote.with_options(metadata={"user": "ann"}).echo(1)
            assert await remote.with_options(metadata={"user": "bob"}).echo(2) == 2
            nursery.cancel_scope.cancel()


async def test_calls_in_a_second() -> None:
    async with linked(service(limit_rate(0.001, burst=3))) as pair:
        remote = pair.service("things")
        for number in range(3):
            assert await remote.echo(number) == number
        with pytest.raises(duplex.ResourceExhausted, match=r"more often than 0\.001 times") as caught:
            await remote.echo(1)
        assert caught.value.retry_after == pytest.approx(1000, rel=0.1)


async def test_calls_in_a_second_by_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_limits, "_MANY", 4)
    async with linked(service(limit_rate(1000, key=lambda call: call.metadata.get("user")))) as pair:
        remote = pair.service("things")
        for number in range(40):
            assert await remote.with_options(metadata={"user": str(number)}).echo(number) == number


def test_a_bucket() -> None:
    bucket = _limits.TokenBucket(rate=10, burst=2, now=0.0)
    assert bucket.is_full(0.0)
    assert [bucket.take(0.0) for _ in range(3)] == [0, 0, pytest.approx(0.1)]
    assert bucket.take(0.05) == pytest.approx(0.05)
    assert bucket.take(0.1) == 0
    assert not bucket.is_full(0.2)
    assert bucket.is_full(100.0)
    assert [bucket.take(100.0) for _ in range(3)] == [0, 0, pytest.approx(0.1)]


@pytest.mark.parametrize(
    "make",
    [
        lambda: limit_rate(0),
        lambda: limit_rate(-1),
        lambda: limit_rate(True),
        lambda: limit_rate(float("nan")),
        lambda: limit_rate(1, burst=0),
        lambda: limit_rate(1, burst=True),
        lambda: limit_concurrency(0),
    ],
)
def test_bad_limits(make: Any) -> None:
    with pytest.raises(duplex.ConfigurationError):
        make()
