"""Numbers that are none, out of bounds or in another unit are refused wherever one is taken, with what is right."""

from __future__ import annotations

import datetime as dt
import decimal
import math
from collections.abc import Callable
from typing import Any

import pytest

import duplex
from duplex._numbers import check_factor, check_seconds, check_whole
from duplex.testing import check_transport
from duplex.transports import MemoryTransport
from tests.engine.helpers import linked
from tests.machine import fail_after

#: No duration, whatever it is for.
NONSENSE: list[Any] = [
    math.nan,
    -0.001,
    -1,
    -math.inf,
    1e10,
    1e300,
    10**12,
    10**400,
    10**5000,
    True,
    False,
    "1",
    b"1",
    "5s",
    [],
    1j,
    decimal.Decimal(1),
    dt.timedelta(seconds=1),
]

OPTIONS: dict[str, Callable[[Any], object]] = {
    "Keepalive.interval": lambda value: duplex.Keepalive(interval=value, timeout=600_000),
    "Keepalive.timeout": lambda value: duplex.Keepalive(interval=0.001, timeout=value),
    "Keepalive.max_idle": lambda value: duplex.Keepalive(max_idle=value),
    "Keepalive.max_age": lambda value: duplex.Keepalive(max_age=value),
    "Keepalive.max_age_grace": lambda value: duplex.Keepalive(max_age_grace=value),
    "Reconnect.initial": lambda value: duplex.Reconnect(initial=value, maximum=1e9),
    "Reconnect.maximum": lambda value: duplex.Reconnect(initial=0.001, maximum=value),
    "Idempotency.ttl": lambda value: duplex.Idempotency(ttl=value),
}


def _shown(value: object) -> str:
    try:
        return repr(value)[:60]
    except ValueError:
        return "10**5000"


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("value", [*NONSENSE, 0, 0.0001, 0.0009, math.inf, float("1e400")], ids=_shown)
def test_options_that_are_no_durations(option: str, value: Any) -> None:
    with pytest.raises(
        duplex.ConfigurationError, match=rf"^{option} must be a number of seconds from 0.001 to "
    ):
        OPTIONS[option](value)


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("value", [0.002, 1, 1.5, 60, 600_000 - 1])
def test_options_that_are(option: str, value: float) -> None:
    OPTIONS[option](value)


@pytest.mark.parametrize("value", [*NONSENSE, math.inf], ids=_shown)
async def test_timeouts_of_calls(value: Any) -> None:
    async with duplex.open_peer() as peer:
        for make in (peer.service("s").with_options, peer.service("s").method.with_options):
            with pytest.raises(
                duplex.ConfigurationError, match=r"^timeout must be a number of seconds from 0 to "
            ):
                make(timeout=value)


async def test_no_limit_of_calls_is_none() -> None:
    async with duplex.open_peer() as peer:
        with pytest.raises(duplex.ConfigurationError, match=r"not inf, and None is for no limit$"):
            peer.service("s").with_options(timeout=math.inf)
        peer.service("s").with_options(timeout=None)


@pytest.mark.parametrize("value", NONSENSE, ids=_shown)
async def test_times_to_wait(value: Any) -> None:
    with pytest.raises(duplex.ConfigurationError, match=r"^connect_timeout must be .*, or math.inf, not "):
        async with duplex.open_peer(connect_timeout=value):
            pass  # pragma: no cover
    async with duplex.open_peer() as peer:
        with pytest.raises(duplex.ConfigurationError, match=r"^timeout must be .*, or math.inf, not "):
            await peer.connect("memory://nobody", timeout=value)
        assert not peer._inside.ports.receivers
        with pytest.raises(
            duplex.ConfigurationError, match=r"^the timeout of drain\(\) must be .*, or math.inf, "
        ):
            await peer.drain(value)
        with pytest.raises(duplex.ConfigurationError, match=r"^linger must be "):
            peer._inside.close(value)
        assert not peer._inside.is_draining
        assert not peer._inside.is_closed


@pytest.mark.parametrize("value", NONSENSE, ids=_shown)
async def test_the_patience_of_checks(value: Any) -> None:
    with pytest.raises(duplex.ConfigurationError, match=r"^timeout must be "):
        await check_transport(MemoryTransport(), "memory://*", timeout=value)


async def test_waiting_for_ever() -> None:
    service = duplex.Service("s")
    with fail_after(10):
        async with linked(service, client={"connect_timeout": math.inf}) as pair:
            async with duplex.open_peer() as other:
                await other.connect(pair.endpoint, timeout=math.inf)
                await other.drain(math.inf)
                assert other._inside.is_closed


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e400, 1.0, -1, True, "1", None, 10**5000], ids=_shown)
def test_whole_numbers(value: Any) -> None:
    makers: dict[str, Callable[[], object]] = {
        "Limits.max_message": lambda: duplex.Limits(max_message=value),
        "Limits.max_links": lambda: duplex.Limits(max_links=value),
        "Idempotency.max_bytes": lambda: duplex.Idempotency(max_bytes=value),
    }
    for option, make in makers.items():
        with pytest.raises(
            duplex.ConfigurationError, match=rf"^{option} must be a whole number from \d+ to "
        ):
            make()


@pytest.mark.parametrize("value", [math.nan, math.inf, 0, -1, 1.5, True, "40", 10**5000], ids=_shown)
async def test_threads(value: Any) -> None:
    with pytest.raises(duplex.ConfigurationError, match=r"^max_threads must be a whole number from 1 to "):
        async with duplex.open_peer(max_threads=value):
            pass  # pragma: no cover


@pytest.mark.parametrize("value", [math.nan, math.inf, "2", None, True, 10**5000], ids=_shown)
def test_factors(value: Any) -> None:
    makers: dict[str, Callable[[], object]] = {
        "Reconnect.multiplier": lambda: duplex.Reconnect(multiplier=value),
        "Reconnect.jitter": lambda: duplex.Reconnect(jitter=value),
    }
    for option, make in makers.items():
        with pytest.raises(duplex.ConfigurationError, match=rf"^{option} must be a number from "):
            make()


class Odd:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


def test_what_is_said() -> None:
    def said(check: Callable[..., Any], value: Any, **bounds: Any) -> str:
        with pytest.raises(duplex.ConfigurationError) as caught:
            check("x", value, **bounds)
        return str(caught.value)

    seconds = "x must be a number of seconds from 0 to 1000000000, not "
    assert said(check_seconds, "1") == f"{seconds}'1'"
    assert said(check_seconds, dt.timedelta(seconds=1)) == (
        f"{seconds}datetime.timedelta(seconds=1); write .total_seconds() behind it"
    )
    assert said(check_seconds, 10**5000) == f"{seconds}a very large int"
    assert said(check_seconds, Odd()) == f"{seconds}a Odd"
    assert said(check_seconds, "y" * 1000) == f"{seconds}'{'y' * 96}..."
    assert (
        said(check_seconds, math.inf, low=0.5, high=1.5)
        == "x must be a number of seconds from 0.5 to 1.5, not inf"
    )
    assert said(check_whole, 1.0, low=1, high=2) == "x must be a whole number from 1 to 2, not 1.0"
    assert said(check_factor, 3, low=0.5, high=2) == "x must be a number from 0.5 to 2, not 3"


def test_what_is_right_comes_back() -> None:
    assert check_seconds("x", 0) == 0
    assert check_seconds("x", 10**9) == 10**9
    assert check_seconds("x", math.inf, forever=True) == math.inf
    assert check_whole("x", 2, low=2, high=2) == 2
    assert check_factor("x", 0.5, low=0.5, high=2) == 0.5
