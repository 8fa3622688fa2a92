"""What every store must do while something happens to it. Each check needs a fault of :class:`Faults`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

import trio

from duplex_services.store._backend import ANSWER_WITHIN
from duplex_services.store._model import (
    Conflict,
    Denied,
    StoreError,
    Unavailable,
    Unknown,
    missing,
    unchanged,
)
from duplex_services.store._store import Store
from duplex_services.store.testing._tools import ANY, Bench, Folded, error_of, fold, name

T = TypeVar("T")

#: Seconds after which a client of these checks says that a watch is stale, and gives up a commit.
_SOON: Final = 2.0


async def stall_late_commit(bench: Bench) -> None:
    """A commit whose answer did not come never overwrites what was written after it."""
    assert bench.faults.stall is not None
    key, other = f"{bench.prefix}guarded", f"{bench.prefix}careless"
    async with bench.open(patience=1.0) as hasty:
        modified = await hasty.commit({key: b"0", other: b"0"}, when=ANY)
        async with bench.faults.stall():
            for puts, when in (({key: b"late"}, [unchanged(key, modified)]), ({other: b"late"}, ANY)):
                try:
                    await hasty.commit(puts, when=when)
                except (Unknown, Unavailable):
                    continue
        await _put_over(bench.two, key, b"newer")
        await _patiently(partial(hasty.commit, {other: b"newer"}, when=ANY), bench.slack)
        # Whatever was on its way has time to arrive.
        await trio.sleep(_SOON)
        for name in (key, other):
            entry = await bench.two.get(name)
            assert entry is not None, name
            assert entry.value == b"newer", f"a late commit overwrote a newer one: {entry}"


async def stall_settles(bench: Bench) -> None:
    """A commit made while nobody answers is made once, and told so, if there is patience for it."""
    assert bench.faults.stall is not None
    key = f"{bench.prefix}n"
    await bench.one.commit({key: b"0"}, when=[missing(key)])
    made: list[int] = []
    over = trio.Event()

    async def count(store: Store, least: int) -> None:
        mine = 0
        while mine < least or not over.is_set():
            try:
                entry = await store.get(key)
                assert entry is not None
                value = b"%d" % (int(entry.value) + 1)
                made.append(await store.commit({key: value}, when=[unchanged(key, entry.modified)]))
                mine += 1
            except (Conflict, Unavailable):
                pass
            await trio.sleep(0.01)

    async with bench.open(patience=60) as one, bench.open(patience=60) as two, trio.open_nursery() as nursery:
        for store in (one, two):
            nursery.start_soon(count, store, 5)
        await trio.sleep(0.2)
        async with bench.faults.stall():
            await trio.sleep(_SOON)
        over.set()
    entry = await _patiently(partial(bench.one.get, key), bench.slack)
    assert entry is not None
    assert int(entry.value) == len(made) == len(set(made)), (entry, len(made))


async def stall_lease(bench: Bench) -> None:
    """No key of a lease is gone before its holder knows that the lease is lost."""
    assert bench.faults.stall is not None
    key = f"{bench.prefix}mine"
    for part in (0.6, 1.0):
        async with bench.open() as holder, holder.lease(bench.ttl) as lease:
            await holder.commit({key: b""}, lease=lease, when=ANY)
            async with bench.faults.stall():
                await trio.sleep(part * lease.ttl)
            is_gone = await _patiently(partial(bench.two.get, key), bench.slack) is None
            assert lease.is_lost or not is_gone, (
                f"after {part * lease.ttl:g} s the key is gone, its holder unaware"
            )


async def stall_watch(bench: Bench) -> None:
    """While nobody answers a watch says that it is stale; afterwards it tells what it missed."""
    assert bench.faults.stall is not None
    key = f"{bench.prefix}x"
    async with bench.open(verify_every=_SOON) as store, store.watch(bench.prefix) as watch:
        state = Folded()
        state.take(await watch.receive())
        async with bench.faults.stall():
            with trio.move_on_after(2 * _SOON + ANSWER_WITHIN):
                while state.stale_since is None:
                    state.take(await watch.receive())
        assert not state.deleted
        await _put_over(bench.two, key, b"after")
        await fold(watch, state, lambda state: state.values == {key: b"after"}, bench.slack)
        await fold(watch, state, lambda state: state.stale_since is None, bench.slack)


async def restart_keeps(bench: Bench) -> None:
    """A restart loses nothing, begins no new epoch, and watches go on."""
    assert bench.faults.restart is not None
    p = bench.prefix
    first = await bench.one.commit({f"{p}1": b"1", f"{p}2": b"2"}, when=ANY)
    async with bench.two.watch(p) as watch:
        state = Folded()
        state.take(await watch.receive())
        async with bench.faults.restart():
            await _put_over(bench.one, f"{p}3", b"3")
        second = await _patiently(
            partial(bench.one.commit, {f"{p}1": b"!"}, when=[unchanged(f"{p}1", first)]), bench.slack
        )
        assert second > first, "revisions go on"
        await fold(watch, state, lambda state: state.values.get(f"{p}1") == b"!", bench.slack)
        assert state.values == {f"{p}1": b"!", f"{p}2": b"2", f"{p}3": b"3"}
        assert not state.deleted, f"told as deleted, and was not: {state.deleted}"
        assert len(state.epochs) == 1, state.epochs


async def replace_is_told(bench: Bench) -> None:
    """An empty store in the place of the old one is a new epoch; old conditions do not hold in it."""
    assert bench.faults.replace is not None
    p = bench.prefix
    modified = await bench.one.commit({f"{p}1": b"1", f"{p}2": b"2"}, when=ANY)
    async with bench.open(verify_every=_SOON) as store, store.watch(p) as watch:
        state = Folded()
        state.take(await watch.receive())
        async with bench.faults.replace():
            await fold(watch, state, lambda state: len(state.epochs) == 2, bench.slack + _SOON)
            await _put_over(bench.two, f"{p}1", b"1")
            await fold(watch, state, lambda state: state.values == {f"{p}1": b"1"}, bench.slack + _SOON)
            assert (await store.list(p)).epoch == state.epochs[-1]
            entry = await store.get(f"{p}1")
            assert entry is not None
            if entry.modified != modified:
                await error_of(
                    Conflict, bench.one.commit({f"{p}1": b"old"}, when=[unchanged(f"{p}1", modified)])
                )
            async with store.lead(name(), ttl=bench.ttl) as term:
                await store.commit({f"{p}led": b""}, when=[term.guard])


async def deny_is_not_empty(bench: Bench) -> None:
    """Who may not read any more is told so, by lists and watches alike, and never that nothing is there."""
    assert bench.faults.deny is not None
    p = bench.prefix
    await bench.one.commit({f"{p}1": b"1", f"{p}2": b"2"}, when=ANY)
    async with bench.open(verify_every=_SOON) as store, store.watch(p) as watch:
        state = Folded()
        state.take(await watch.receive())
        async with bench.faults.deny():
            await fold(
                watch,
                state,
                lambda state: state.stale_since is not None,
                2 * _SOON + ANSWER_WITHIN + bench.slack,
            )
            assert len(state.values) == 2, state.values
            assert isinstance(watch.trouble, StoreError), watch.trouble
            await error_of(Denied, store.list(p))
            await error_of(Denied, store.get(f"{p}1"))
            await error_of(Denied, store.get(f"{p}none"))
        await _put_over(bench.two, f"{p}3", b"3")
        await fold(watch, state, lambda state: len(state.values) == 3, bench.slack)
        await fold(watch, state, lambda state: state.stale_since is None, bench.slack + _SOON)
        assert not state.deleted, f"told as deleted, and was not readable: {state.deleted}"
        assert len(state.epochs) == 1, state.epochs


async def deafen_is_noticed(bench: Bench) -> None:
    """A watch that hears nothing any more finds that out, and says so or hears again."""
    assert bench.faults.deafen is not None
    key = f"{bench.prefix}x"
    async with bench.open(verify_every=_SOON) as store, store.watch(bench.prefix) as watch:
        state = Folded()
        state.take(await watch.receive())
        async with bench.faults.deafen():
            await _put_over(bench.two, key, b"unheard")
            await fold(
                watch,
                state,
                lambda state: state.stale_since is not None or state.values == {key: b"unheard"},
                2 * _SOON + ANSWER_WITHIN + bench.slack,
            )
        await fold(watch, state, lambda state: state.values == {key: b"unheard"}, bench.slack + 2 * _SOON)
        await fold(watch, state, lambda state: state.stale_since is None, bench.slack + _SOON)


async def _put_over(store: Store, key: str, value: bytes) -> None:
    """Put a value over whatever is there, on condition, as often as it takes."""

    async def put() -> None:
        while True:
            entry = await store.get(key)
            condition = missing(key) if entry is None else unchanged(key, entry.modified)
            try:
                await store.commit({key: value}, when=[condition])
            except Conflict:
                continue
            return

    await _patiently(put, 60)


async def _patiently(call: Callable[[], Awaitable[T]], within: float) -> T:
    """Call until the store is there."""
    with trio.move_on_after(within):
        while True:
            try:
                return await call()
            except (Unavailable, Unknown):
                await trio.sleep(0.1)
    raise AssertionError(f"the store is not back after {within:g} s")
