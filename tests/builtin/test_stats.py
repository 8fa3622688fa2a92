"""``duplex.stats``: what a peer has counted, told to whoever asks."""

from __future__ import annotations

import msgspec
import pytest

import duplex
from duplex.builtin import Snapshot
from tests.engine.helpers import linked

calc = duplex.Service("calc")


@calc.rpc
async def add(a: int, b: int) -> int:
    return a + b


async def test_snapshot(endpoint: str) -> None:
    async with linked(calc, endpoint=endpoint) as pair:
        for _ in range(3):
            await pair.service("calc").add(1, 2)
        with pytest.raises(duplex.Unimplemented):
            await pair.service("calc").sub(1, 2)
        found = msgspec.convert(await pair.service("duplex.stats").snapshot(), Snapshot)
        assert (found.peer_id, found.peer_name) == (pair.server.id, "server")
        assert found.uptime > 0
        assert found.unknown_methods == 1
        by_method = {one.method: one for one in found.methods}
        assert by_method["calc.add"].calls == 3
        assert by_method["duplex.stats.snapshot"].in_flight == 1
        (link,) = found.links
        assert link.peer_name == "client"


async def test_watch_tells_again_and_again() -> None:
    async with linked(calc) as pair:
        async with pair.service("duplex.stats").watch.open(0.1) as snapshots:
            calls = []
            for number in range(3):
                snapshot = msgspec.convert(await snapshots.receive(), Snapshot)
                calls.append(sum(one.calls for one in snapshot.methods if one.method == "calc.add"))
                for _ in range(number + 1):
                    await pair.service("calc").add(1, 2)
        assert calls == [0, 1, 3]


@pytest.mark.parametrize("interval", [0, -1, 0.01, 1e9])
async def test_intervals_are_bounded(interval: float) -> None:
    async with linked(calc) as pair:
        async with pair.service("duplex.stats").watch.open(interval) as snapshots:
            with pytest.raises(duplex.InvalidArgument, match="interval"):
                await snapshots.receive()
