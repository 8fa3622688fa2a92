"""``duplex.health``: whether a peer and its services take calls."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

import duplex
from duplex.builtin import HealthStatus
from tests.engine.helpers import Pair, collect, linked, until

calc = duplex.Service("calc")


@calc.rpc
async def add(a: int, b: int) -> int:
    return a + b


SERVING, NOT_SERVING = HealthStatus.SERVING.value, HealthStatus.NOT_SERVING.value


async def test_check(endpoint: str) -> None:
    async with linked(calc, endpoint=endpoint) as pair:
        health = pair.service("duplex.health")
        assert await health.check() == SERVING
        assert await health.check("calc") == SERVING
        assert await health.check(service="duplex.health") == SERVING
        with pytest.raises(duplex.NotFound, match=r"'other'.*calc"):
            await health.check("other")


async def test_set_health() -> None:
    async with linked(calc) as pair:
        health = pair.service("duplex.health")
        pair.server.set_health("calc", serving=False)
        assert await health.check("calc") == NOT_SERVING
        assert await health.check() == SERVING
        assert await pair.service("calc").add(1, 2) == 3, "it tells, it does not refuse"
        pair.server.set_health("calc", serving=True)
        pair.server.set_health("", serving=False)
        assert await health.check("calc") == NOT_SERVING
        assert await health.check() == NOT_SERVING
        pair.server.set_health("", serving=True)
        assert await health.check("calc") == SERVING
        with pytest.raises(duplex.ConfigurationError, match="'other'"):
            pair.server.set_health("other", serving=False)


async def test_list() -> None:
    async with linked(calc) as pair:
        pair.server.set_health("calc", serving=False)
        assert await pair.service("duplex.health")["list"]() == {
            "": SERVING,
            "calc": NOT_SERVING,
            "duplex.health": SERVING,
            "duplex.reflection": SERVING,
            "duplex.stats": SERVING,
        }


async def test_watch() -> None:
    async with linked(calc) as pair:
        async with pair.service("duplex.health").watch.open("calc") as call:
            assert await call.receive() == SERVING
            for serving in (False, True, False):
                await trio.testing.wait_all_tasks_blocked()
                pair.server.set_health("calc", serving=serving)
                assert await call.receive() == (SERVING if serving else NOT_SERVING)


async def test_watch_tells_changes_only() -> None:
    async with linked(calc) as pair:
        async with pair.service("duplex.health").watch.open("calc") as call:
            seen: list[Any] = [await call.receive()]
            for serving in (True, False, False, False, True, True):
                await trio.testing.wait_all_tasks_blocked()
                pair.server.set_health("calc", serving=serving)
            await pair.settle()
            seen += await collect(call, 2)
            assert seen == [SERVING, NOT_SERVING, SERVING]


async def test_watch_of_something_else() -> None:
    async with linked(calc) as pair:
        async with pair.service("duplex.health").watch.open("other") as call:
            with pytest.raises(duplex.NotFound):
                await call.receive()


async def test_slow_watcher_ends_with_the_present_status() -> None:
    """It may miss changes while its window is full, but not what they came to."""
    limits = duplex.Limits(channel_window=1024)
    async with linked(calc, client={"limits": limits}) as pair:
        async with pair.service("duplex.health").watch.open("calc") as call:
            for number in range(51):
                await trio.testing.wait_all_tasks_blocked()
                pair.server.set_health("calc", serving=bool(number % 2))
            await trio.testing.wait_all_tasks_blocked()
            assert await _last(pair, call) == NOT_SERVING


async def _last(pair: Pair, call: Any) -> Any:
    """Receive whatever there is."""
    status: Any = None
    with trio.CancelScope() as scope:

        async def stop() -> None:
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop)
            while True:
                status = await call.receive()
    return status


async def test_health_of_a_peer_that_leaves() -> None:
    async with linked(calc, check=False) as pair:
        async with pair.link.service("duplex.health").watch.open() as call:
            assert await call.receive() == SERVING
            await pair.server.aclose()
            with pytest.raises(duplex.PeerLost):
                await call.receive()


async def test_late_service_is_known_to_health() -> None:
    async with linked() as pair:
        with pytest.raises(duplex.NotFound):
            await pair.service("duplex.health").check("calc")
        pair.server.add_service(calc)
        assert await pair.service("duplex.health").check("calc") == SERVING
        await until(lambda: "calc" in pair.link.services)
