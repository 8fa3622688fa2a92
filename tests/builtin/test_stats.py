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
    async with linked(calc) as pair, pair.service("duplex.stats").watch.open(0.1) as snapshots:

        async def told(calls: int) -> None:
            """Receive snapshots until one tells so many calls; on a busy machine one may be taken between two of them."""
            seen = -1
            while seen < calls:
                snapshot = msgspec.convert(await snapshots.receive(), Snapshot)
                seen = sum(one.calls for one in snapshot.methods if one.method == "calc.add")
            assert seen == calls

        await told(0)
        await pair.service("calc").add(1, 2)
        await told(1)
        for _ in range(2):
            await pair.service("calc").add(1, 2)
        await told(3)


@pytest.mark.parametrize("interval", [0, -1, 0.01, 1e9])
async def test_intervals_are_bounded(interval: float) -> None:
    async with linked(calc) as pair:
        async with pair.service("duplex.stats").watch.open(interval) as snapshots:
            with pytest.raises(duplex.InvalidArgument, match="interval"):
                await snapshots.receive()
