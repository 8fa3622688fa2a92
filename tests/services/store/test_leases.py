"""Leases and elections in bad weather: who has lost it knows first, and no two lead at one revision."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from duplex_services.store import (
    Conflict,
    Denied,
    LeaseLost,
    Store,
    Unavailable,
    last_writer_wins,
    missing,
)
from duplex_services.store._model import Commit
from tests.services.store.weather import Server, open_weather

ANY = last_writer_wins
Clock = trio.testing.MockClock


@contextlib.asynccontextmanager
async def is_lost() -> AsyncIterator[None]:
    """The block is a term that is lost."""
    try:
        yield
    except LeaseLost:
        return
    raise AssertionError("it was not lost")


async def test_a_lease_is_kept_by_beats(autojump_clock: Clock) -> None:
    async with open_weather() as (store, backend), store.lease(6) as lease:
        assert (lease.ttl, lease.trouble) == (6.0, None)
        await store.commit({"a": b""}, when=[missing("a")], lease=lease)
        await trio.sleep(61)
        assert not lease.is_lost
        assert await store.get("a") is not None
        assert 28 <= backend.asked["beat"] <= 32
        assert repr(lease) == f"<Lease {lease.id!r}>"


async def test_it_is_lost_by_our_own_clock_before_its_keys_are_gone(autojump_clock: Clock) -> None:
    server = Server()
    async with open_weather(server) as (store, backend), open_weather(server) as (other, _):
        async with store.lease(6) as lease, other.watch() as watch:
            await store.commit({"a": b""}, when=[missing("a")], lease=lease)
            await trio.sleep(5)
            assert lease.lost_at > trio.current_time()
            backend.is_away = True
            while "a" not in (await watch.receive()).deletes:
                pass
            assert lease.is_lost
            assert isinstance(lease.trouble, Unavailable)
            assert repr(lease).endswith(", lost>")
            with pytest.raises(LeaseLost):
                await store.commit({"b": b""}, when=ANY, lease=lease)


async def test_short_troubles_do_not_cost_it(autojump_clock: Clock) -> None:
    async with open_weather() as (store, backend), store.lease(6) as lease:
        for _ in range(10):
            backend.is_away = True
            await trio.sleep(3.5)
            assert lease.trouble is not None
            backend.is_away = False
            await trio.sleep(2.5)
            assert lease.trouble is None
        assert not lease.is_lost


async def test_a_beat_that_hangs_is_given_up(autojump_clock: Clock) -> None:
    async with open_weather() as (store, backend), store.lease(6) as lease:
        backend.delay = 1000
        with trio.fail_after(6.1):
            await lease.lost.wait()
        assert trio.current_time() <= lease.lost_at + 0.1
        backend.delay = 0.0


async def test_the_store_says_that_it_is_over(autojump_clock: Clock) -> None:
    async with open_weather() as (store, backend), store.lease(6) as lease:
        backend.server.state.forget(lease.id)
        with trio.fail_after(3):
            await lease.lost.wait()
        assert isinstance(lease.trouble, LeaseLost)
        with pytest.raises(LeaseLost, match="is gone, and the keys under it"):
            await store.commit({"a": b""}, when=ANY, lease=lease)


async def test_a_process_that_slept_knows_by_the_clock(mock_clock: Clock) -> None:
    async with open_weather() as (store, _), store.lease(6) as lease:
        mock_clock.jump(7)
        assert lease.is_lost, "before any task has run"
        assert not lease.lost.is_set()
        with pytest.raises(LeaseLost):
            await store.commit({"a": b""}, when=ANY, lease=lease)


async def test_leaving_deletes_its_keys(autojump_clock: Clock) -> None:
    async with open_weather() as (store, _):
        async with store.lease(6) as lease:
            await store.commit({"a": b""}, when=[missing("a")], lease=lease)
        assert await store.get("a") is None
        assert lease.lost.is_set()


async def test_leaving_while_nobody_answers(autojump_clock: Clock) -> None:
    async with open_weather() as (store, backend):
        began = trio.current_time()
        async with store.lease(6) as lease:
            await store.commit({"a": b""}, when=[missing("a")], lease=lease)
            backend.delay = 1000
        assert trio.current_time() - began == pytest.approx(2)
        backend.delay = 0.0
        await trio.sleep(10)
        assert await store.get("a") is None


async def test_what_the_block_raises_comes_out_as_it_is(autojump_clock: Clock) -> None:
    async with open_weather() as (store, backend):
        with pytest.raises(ZeroDivisionError):
            async with store.lease(6):
                raise ZeroDivisionError
        with pytest.raises(ZeroDivisionError):
            async with store.lead("x"):
                raise ZeroDivisionError
        backend.is_away = True
        with pytest.raises(Unavailable):
            async with store.lease(6):
                pass


@pytest.mark.parametrize("ttl", [0, -1, True, "5", 86401])
async def test_no_ttl(ttl: float, autojump_clock: Clock) -> None:
    async with open_weather() as (store, _):
        with pytest.raises(ValueError, match="the ttl of a lease is a number of seconds"):
            async with store.lease(ttl):
                pass


# ----------------------------------------------------------------------------------------------- elections


async def test_one_leads_and_another_follows_when_it_leaves(autojump_clock: Clock) -> None:
    server = Server()
    order: list[str] = []

    async def stand(store: Store, who: str) -> None:
        async with store.lead("x", value=who.encode()) as term:
            order.append(f"{who} {term.fence}")
            await trio.sleep(10)
            assert not term.is_lost
        assert term.is_lost

    async with (
        open_weather(server) as (one, _),
        open_weather(server) as (two, _),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(stand, one, "one")
        await trio.sleep(1)
        nursery.start_soon(stand, two, "two")
        await trio.sleep(1)
        leader = await two.leader("x")
        assert leader is not None
        assert leader.value == b"one"
    assert [entry.partition(" ")[0] for entry in order] == ["one", "two"]
    fences = [int(entry.partition(" ")[2]) for entry in order]
    assert fences[0] < fences[1]


async def test_a_leader_that_dies_is_followed_by_another(autojump_clock: Clock) -> None:
    server = Server()
    async with open_weather(server) as (one, away), open_weather(server) as (two, _):
        with contextlib.suppress(LeaseLost):
            async with one.lead("x", ttl=6) as old:
                away.is_away = True
                began = trio.current_time()
                async with two.lead("x", ttl=6) as new:
                    assert trio.current_time() - began < 8
                    assert old.is_lost
                    assert new.fence > old.fence
                    away.is_away = False
                    with pytest.raises(Conflict):
                        await one.commit({"a": b"old"}, when=[old.guard])
                    await two.commit({"a": b"new"}, when=[new.guard])


async def test_the_block_of_who_lost_it_is_ended(autojump_clock: Clock) -> None:
    async with open_weather() as (store, backend):
        async with is_lost():
            async with store.lead("x", ttl=6) as term:
                assert repr(term) == f"<Term {term.fence} of 'x'>"
                backend.is_away = True
                await trio.sleep(1000)
        assert trio.current_time() < 100
        assert repr(term).endswith(", lost>")


async def test_who_was_deposed_by_hand_is_told(autojump_clock: Clock) -> None:
    async with open_weather() as (store, _):
        async with is_lost():
            async with store.lead("x") as term:
                await store._queue.submit(Commit(deletes=("_lead/x",)))
                with trio.fail_after(1):
                    await trio.sleep(1000)
        with pytest.raises(Conflict):
            await store.commit({"a": b""}, when=[term.guard])


async def test_a_leader_in_a_store_that_was_wiped_leads_no_more(autojump_clock: Clock) -> None:
    async with open_weather() as (store, backend):
        async with is_lost():
            async with store.lead("x", ttl=60):
                backend.server.wipe()
                with trio.fail_after(10):
                    await trio.sleep(1000)


async def test_a_candidate_whose_answer_is_lost_leads_all_the_same(autojump_clock: Clock) -> None:
    async with open_weather() as (store, backend):
        await store.commit({"a": b""}, when=ANY)
        backend.fates += ["lost"]
        async with store.lead("x") as term:
            leader = await store.leader("x")
            assert leader is not None
            assert leader.modified == term.fence


async def test_a_candidate_goes_on_while_the_store_is_away(autojump_clock: Clock) -> None:
    async with open_weather(patience=2.0) as (store, backend):
        backend.fates += [Unavailable("away")] * 3 + ["never"] * 4
        async with store.lead("x", ttl=60) as term:
            assert not term.is_lost
        assert trio.current_time() > 1


async def test_a_candidate_whose_lease_is_lost_takes_another(autojump_clock: Clock) -> None:
    async with open_weather() as (store, backend):
        backend.fates += [LeaseLost("x")]
        async with store.lead("x") as term:
            assert not term.is_lost


async def test_who_may_not_take_part_is_told(autojump_clock: Clock) -> None:
    async with open_weather(verify_every=5.0) as (store, backend):
        backend.is_denied = True
        with pytest.raises(Denied):
            async with store.lead("x"):
                pass
        backend.is_denied = False
        backend.fates += [Denied("not you")]
        with pytest.raises(Denied, match="not you"):
            async with store.lead("x"):
                pass


async def test_a_term_goes_on_while_the_watch_is_stale(autojump_clock: Clock) -> None:
    """That its key cannot be watched deposes nobody; the lease decides."""
    async with open_weather(verify_every=5.0) as (store, backend), store.lead("x", ttl=60) as term:
        backend.is_denied = True
        await trio.sleep(40)
        assert not term.is_lost
        backend.is_denied = False
