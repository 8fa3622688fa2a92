"""What a store tells of itself."""

from __future__ import annotations

from functools import partial

import trio
import trio.testing

from duplex_services.store import Unavailable, last_writer_wins
from duplex_services.store.testing._tools import all_at_once
from tests.services.store.weather import open_weather

ANY = last_writer_wins


async def test_statistics(autojump_clock: trio.testing.MockClock) -> None:
    async with open_weather() as (store, backend):
        before = store.statistics()
        assert (before.watches, before.entries, before.epoch, before.confirmed) == (0, 0, "", None)
        backend.delay = 0.1
        await all_at_once([partial(store.commit, {f"k{number}": b""}, when=ANY) for number in range(9)])
        backend.delay = 0.0
        backend.fates += ["lost"]
        revision = await store.commit({"a": b""}, when=ANY)
        after = store.statistics()
        assert after.commits == before.commits + 10
        assert before.groups + 2 <= after.groups <= before.groups + 4
        assert (after.doubts, after.waiting, after.trouble) == (1, 0, "")
        async with store.watch() as watch:
            await watch.receive()
            now = store.statistics()
            assert (now.watches, now.listings, now.revision, now.entries) == (1, 1, revision, 11)
            assert now.confirmed is not None
            backend.is_away = True
            stale = (await watch.receive()).stale_since
            assert isinstance(watch.trouble, Unavailable)
            away = store.statistics()
            assert (away.stale_since, away.trouble) == (stale, "nobody is there")
            backend.is_away = False
