"""Many callers, one key each for several of them, cancelling and losing their links at random."""

from __future__ import annotations

import collections
import random

import pytest
import trio

import duplex
from tests.engine.helpers import linked, quiet, stray_tasks

KEYS = 6
CALLERS = 24


@pytest.mark.parametrize("seed", range(5))
async def test_one_run_at_a_time_and_one_outcome(seed: int, autojump_clock: object) -> None:
    """Whoever gets a result gets the same one as all others with the key, whatever happens to the rest."""
    chance = random.Random(seed)
    running: collections.Counter[str] = collections.Counter()
    finished: collections.Counter[str] = collections.Counter()
    results: dict[str, set[int]] = collections.defaultdict(set)
    service = duplex.Service("storm")

    @service.rpc
    async def work(key: str) -> int:
        assert running[key] == 0
        running[key] += 1
        try:
            await trio.sleep(chance.uniform(0, 3))
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await trio.sleep(chance.choice([0, 0, 1]))
            raise
        finally:
            running[key] -= 1
        finished[key] += 1
        return chance.getrandbits(60)

    async with linked(service, within=100_000, check=False) as pair, duplex.open_peer(name="other") as other:
        await other.connect(pair.endpoint)

        async def call(number: int) -> None:
            key = str(number % KEYS)
            peer = chance.choice([pair.client, other])
            method = peer.service("storm").with_options(idempotency_key=key).work
            while True:
                with trio.move_on_after(chance.choice([0.2, 1, 2, 10])):
                    try:
                        results[key].add(await method(key))
                    except (duplex.Unavailable, duplex.DeadlineExceeded):
                        pass
                    else:
                        return
                await trio.sleep(chance.choice([0, 0, 0.5]))

        async def cut() -> None:
            while True:
                await trio.sleep(chance.uniform(0, 2))
                if pair.server.links:
                    await chance.choice(pair.server.links).aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cut)
            async with trio.open_nursery() as callers:
                for number in range(CALLERS):
                    callers.start_soon(call, number)
            nursery.cancel_scope.cancel()

        assert {key: len(found) for key, found in results.items()} == {str(n): 1 for n in range(KEYS)}
        assert finished == {str(n): 1 for n in range(KEYS)}
        while len(pair.server.links) < 2:
            await trio.sleep(1)  # on the test's own clock
        assert pair.server._inside.results.running == 0
        assert stray_tasks(pair.server) == []
        for back in pair.server.links:
            (link,) = next(peer for peer in (pair.client, other) if peer.id == back.peer_id).links
            await quiet(link, back)
