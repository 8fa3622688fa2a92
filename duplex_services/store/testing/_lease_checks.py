"""What every store must do with leases and elections."""

from __future__ import annotations

from functools import partial

import trio

from duplex_services.store._model import Commit, Conflict, LeaseLost, unchanged
from duplex_services.store._store import Store, Term
from duplex_services.store.testing._tools import ANY, Bench, Folded, all_at_once, error_of, fold, name


async def check_lease(bench: Bench) -> None:
    """Keys go with their lease; who has lost it cannot write under it."""
    p = bench.prefix
    async with bench.two.watch(p) as watch:
        state = Folded()
        async with bench.one.lease(bench.ttl) as lease:
            assert lease.ttl > 0
            assert lease.gone_within >= lease.ttl, lease.gone_within
            await bench.one.commit({f"{p}1": b"1", f"{p}2": b"2", f"{p}kept": b""}, lease=lease, when=ANY)
            await bench.one.commit({f"{p}free": b""}, when=ANY)
            # Without a lease it outlives it.
            await bench.one.commit({f"{p}kept": b"!"}, when=ANY)
            entry = await bench.two.get(f"{p}1")
            assert entry is not None
            assert entry.lease == lease.id, entry
            free = await bench.two.get(f"{p}kept")
            assert free is not None
            assert free.lease is None, free
            await fold(watch, state, lambda state: state.values.get(f"{p}kept") == b"!", bench.slack)
            assert len(state.values) == 4
            assert not lease.is_lost
        assert [entry.key for entry in (await bench.two.list(p)).entries] == [f"{p}free", f"{p}kept"]
        await fold(watch, state, lambda state: len(state.values) == 2, bench.slack)
    assert lease.lost.is_set()
    grant = await bench.one._backend.grant(bench.ttl)
    await bench.one._backend.revoke(grant.id)
    await bench.one._backend.revoke(grant.id)
    await error_of(LeaseLost, bench.one._backend.beat(grant.id))
    await error_of(LeaseLost, bench.one.commit({f"{p}3": b""}, when=ANY, lease=lease))


async def check_lease_is_kept(bench: Bench) -> None:
    """A lease is kept for longer than its time; one whose holder is dead is gone when it was said."""
    p = bench.prefix
    async with bench.one.lease(bench.ttl) as lease:
        await bench.one.commit({f"{p}alive": b""}, lease=lease, when=ANY)
        dead = await bench.two._backend.grant(bench.ttl)
        await bench.two._queue.submit(Commit({f"{p}dead": b""}, lease=dead.id))
        async with bench.one.watch(p) as watch:
            state = await fold(watch, Folded(), lambda state: len(state.values) == 2, bench.slack)
            await fold(
                watch,
                state,
                lambda state: list(state.values) == [f"{p}alive"],
                dead.gone_within + bench.slack,
            )
            await trio.sleep(max(0, 1.5 * lease.ttl - dead.gone_within))
        assert not lease.is_lost
        assert await bench.two.get(f"{p}alive") is not None
        await error_of(LeaseLost, bench.two._queue.submit(Commit({f"{p}late": b""}, lease=dead.id)))


async def check_lead(bench: Bench) -> None:
    """One leads at a time, its number grows, and an old term writes nothing."""
    election = name()
    p = bench.prefix
    fences: list[int] = []
    leading = most = 0

    async def stand(store: Store, number: int) -> None:
        nonlocal leading, most
        async with store.lead(election, ttl=bench.ttl, value=b"%d" % number) as term:
            leading += 1
            most = max(most, leading)
            fences.append(term.fence)
            leader = await bench.one.leader(election)
            assert leader is not None
            assert (leader.value, leader.modified) == (b"%d" % number, term.fence)
            await store.commit({f"{p}led": b"%d" % number}, when=[term.guard])
            assert not term.is_lost
            leading -= 1

    await all_at_once(
        [partial(stand, store, number) for number, store in enumerate([bench.one, bench.two] * 2)]
    )
    assert most == 1, most
    assert fences == sorted(set(fences)), fences
    assert await bench.two.leader(election) is None
    guard = unchanged(f"_lead/{election}", fences[-1])
    await error_of(Conflict, bench.one.commit({f"{p}led": b"old"}, when=[guard]))


async def check_term_is_lost(bench: Bench) -> None:
    """Who is deposed is told, and its block is ended."""
    election = name()
    terms: list[Term] = []

    async def lead() -> None:
        async with bench.one.lead(election, ttl=bench.ttl) as term:
            terms.append(term)
            await bench.two._queue.submit(Commit(deletes=(f"_lead/{election}",)))
            await trio.sleep(bench.slack)

    await error_of(LeaseLost, lead())
    assert terms[0].is_lost
