"""Commits in bad weather: what is told of each is what became of it, and no late copy comes after a newer one."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from functools import partial

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from duplex_services.store import (
    Conflict,
    Denied,
    LeaseLost,
    Refused,
    Store,
    StoreError,
    TooLarge,
    Unavailable,
    Unknown,
    last_writer_wins,
    missing,
    unchanged,
)
from duplex_services.store._queue import _written
from duplex_services.store.testing._tools import all_at_once
from tests.services.store.weather import Server, Weather, open_weather

ANY = last_writer_wins


async def outcome_of(store: Store, value: bytes, key: str = "a") -> int | StoreError:
    try:
        return await store.commit({key: value}, when=ANY)
    except StoreError as error:
        return error


@pytest.mark.parametrize(
    "fates", [["lost"], ["lost", "lost"], ["never"], ["never", "lost", "never"], ["late"]]
)
async def test_an_answer_that_did_not_come_is_found_out(
    fates: list[str], autojump_clock: trio.testing.MockClock
) -> None:
    async with open_weather() as (store, backend):
        backend.fates += fates
        revision = await store.commit({"a": b"1"}, when=[missing("a")])
        entry = await store.get("a")
        assert entry is not None
        assert (entry.value, entry.modified) == (b"1", revision)
        while backend.server.late:
            backend.server.late.pop()()
        assert backend.server.state.values_of("a") == [b"1"]


async def test_a_copy_that_comes_late_is_dead(autojump_clock: trio.testing.MockClock) -> None:
    async with open_weather() as (store, backend):
        backend.fates += ["late"]
        await store.commit({"a": b"1"}, when=ANY)
        await store.commit({"a": b"2"}, when=ANY)
        (late,) = backend.server.late
        late()
        assert backend.server.state.values_of("a") == [b"1", b"2"]


async def test_a_conflict_in_doubt_is_one_for_good(autojump_clock: trio.testing.MockClock) -> None:
    """``missing`` holds again when somebody deletes the key: the late copy must not see that."""
    async with open_weather() as (store, backend):
        modified = await store.commit({"a": b"theirs"}, when=ANY)
        backend.fates += ["late"]
        with pytest.raises(Conflict) as conflict:
            await store.commit({"a": b"mine"}, when=[missing("a")])
        assert conflict.value.condition == missing("a")
        await store.commit(deletes=["a"], when=[unchanged("a", modified)])
        (late,) = backend.server.late
        late()
        assert await store.get("a") is None


async def test_a_conflict_that_was_none_the_first_time(autojump_clock: trio.testing.MockClock) -> None:
    """The first copy succeeded, somebody changed the key, and the second copy finds that: the commit has happened."""
    server = Server()
    async with open_weather(server) as (store, backend), open_weather(server) as (other, _):
        revision = await store.commit({"a": b"0"}, when=ANY)
        backend.fates += ["lost"]

        async def overtake() -> None:
            await trio.testing.wait_all_tasks_blocked()
            await other.commit({"a": b"theirs"}, when=ANY)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(overtake)
            second = await store.commit({"a": b"mine"}, when=[unchanged("a", revision)])
        assert server.state.values_of("a") == [b"0", b"mine", b"theirs"]
        assert second == revision + 1


async def test_nobody_answers_for_too_long(autojump_clock: trio.testing.MockClock) -> None:
    async with open_weather(patience=3.0) as (store, backend):
        backend.fates += ["late"] + ["never"] * 100
        began = trio.current_time()
        with pytest.raises(Unknown, match="did not answer within 3 s; the commit may happen yet"):
            await store.commit({"a": b"1"}, when=ANY)
        assert trio.current_time() - began == pytest.approx(3)
        # What comes after it is not sent before it is known that nothing comes later than it.
        with pytest.raises(Unavailable, match="an earlier commit was not settled; this one was not sent"):
            await store.commit({"a": b"2"}, when=ANY)
        backend.fates.clear()
        await store.commit({"a": b"3"}, when=ANY)
        (late,) = backend.server.late
        late()
        assert backend.server.state.values_of("a") == [b"3"]


async def test_what_was_given_up_is_not_tried_any_more(autojump_clock: trio.testing.MockClock) -> None:
    async with open_weather(patience=3.0) as (store, backend):
        backend.fates += ["never"] * 6
        with trio.move_on_after(1):
            await store.commit({"a": b"1"}, when=ANY)
        await store.commit({"b": b""}, when=ANY)
        assert backend.server.state.values_of("a") == []


async def test_a_commit_that_is_cancelled_in_the_queue_never_happens(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_weather() as (store, backend):
        backend.delay = 2.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(store.commit, {"a": b"1"}, when=ANY))
            await trio.testing.wait_all_tasks_blocked()
            with trio.move_on_after(1):
                await store.commit({"a": b"2"}, when=ANY)
        backend.delay = 0.0
        await store.commit({"b": b""}, when=ANY)
        assert backend.server.state.values_of("a") == [b"1"]


async def test_what_was_surely_not_sent_is_told_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async with open_weather() as (store, backend):
        backend.fates += [Unavailable("no route")]
        began = trio.current_time()
        with pytest.raises(Unavailable, match="no route"):
            await store.commit({"a": b"1"}, when=ANY)
        assert trio.current_time() == began
        assert backend.server.state.values_of("a") == []


async def test_each_of_a_group_has_an_error_of_its_own(autojump_clock: trio.testing.MockClock) -> None:
    async with open_weather() as (store, backend):
        await store.commit({"x": b""}, when=ANY)
        backend.fates += [Denied("not you")]
        outcomes = await all_at_once([partial(outcome_of, store, b"", f"k{number}") for number in range(5)])
        errors = [outcome for outcome in outcomes if isinstance(outcome, Denied)]
        assert len(errors) == 5
        assert len({id(error) for error in errors}) == 5


async def test_a_group_of_which_some_conflict_and_no_answer_comes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_weather() as (store, backend):
        await store.commit({"k0": b"", "k2": b""}, when=ANY)
        backend.fates += ["lost"]
        outcomes: dict[int, int | Conflict] = {}

        async def create(number: int) -> None:
            try:
                outcomes[number] = await store.commit({f"k{number}": b"new"}, when=[missing(f"k{number}")])
            except Conflict as conflict:
                outcomes[number] = conflict

        await all_at_once([partial(create, number) for number in range(4)])
        assert [type(outcomes[number]) for number in range(4)] == [Conflict, int, Conflict, int]
        for number in (1, 3):
            entry = await store.get(f"k{number}")
            assert entry is not None
            assert entry.modified == outcomes[number]


async def test_groups(autojump_clock: trio.testing.MockClock) -> None:
    async with open_weather() as (store, backend):
        backend.delay = 1.0
        backend.groups.clear()
        await all_at_once([partial(outcome_of, store, b"", f"k{number % 12}") for number in range(20)])
        sizes = [len(group) for group in backend.groups]
        assert sum(sizes) == 20
        assert max(sizes) == 8
        for group in backend.groups:
            keys = [key for commit in group for key in commit.puts]
            assert len(keys) == len(set(keys)), "no two of a group touch the same key"


async def test_a_writers_key_that_was_swept_is_made_again(autojump_clock: trio.testing.MockClock) -> None:
    async with open_weather() as (store, backend):
        await store.commit({"a": b"1"}, when=ANY)
        state = backend.server.state
        for key in [key for key in state.entries if key.startswith("_w/")]:
            del state.entries[key]
        await store.commit({"a": b"2"}, when=ANY)
        assert trio.current_time() == 0, "and nobody waits for that"
        assert state.values_of("a") == [b"1", b"2"]


async def test_a_store_that_is_wiped_while_a_commit_is_in_doubt(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_weather() as (store, backend):
        await store.commit({"a": b"1"}, when=ANY)
        backend.fates += ["lost"]

        async def wipe() -> None:
            await trio.testing.wait_all_tasks_blocked()
            backend.server.wipe()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wipe)
            with pytest.raises(Unknown, match="emptied or put back"):
                await store.commit({"a": b"2"}, when=ANY)
        await store.commit({"a": b"3"}, when=ANY)
        assert backend.server.state.values_of("a") == [b"3"]


async def test_refused_while_in_doubt(autojump_clock: trio.testing.MockClock) -> None:
    async with open_weather() as (store, backend):
        await store.commit({"a": b"1"}, when=ANY)
        backend.fates += ["late", Refused("the disk is full"), "made"]
        with pytest.raises(Refused, match="disk is full"):
            await store.commit({"a": b"2"}, when=ANY)
        (late,) = backend.server.late
        late()
        assert backend.server.state.values_of("a") == [b"1"]


async def test_writers_keys_are_tidied_up(autojump_clock: trio.testing.MockClock) -> None:
    server = Server()
    async with open_weather(server) as (store, _):
        await store.commit({"a": b"1"}, when=ANY)
        assert any(key.startswith("_w/") for key in server.state.entries)
    assert sorted(server.state.entries) == ["_epoch", "a"]


async def test_writers_keys_are_tidied_up_by_who_is_cancelled(autojump_clock: trio.testing.MockClock) -> None:
    server = Server()
    with trio.move_on_after(1):
        async with open_weather(server) as (store, backend):
            await store.commit({"a": b"1"}, when=ANY)
            backend.delay = 0.5
            await trio.sleep_forever()
    assert sorted(server.state.entries) == ["_epoch", "a"]
    assert trio.current_time() == pytest.approx(1.5)


async def test_a_writers_key_stays_where_a_copy_may_be_on_its_way(
    autojump_clock: trio.testing.MockClock,
) -> None:
    server = Server()
    async with open_weather(server) as (store, backend):
        backend.fates += ["late"]
        await store.commit({"a": b"1"}, when=[missing("a")])
        modified = await store.commit({"a": b"2"}, when=ANY)
    async with open_weather(server) as (store, _):
        await store.commit(deletes=["a"], when=[unchanged("a", modified)])
        (late,) = server.late
        late()
        assert await store.get("a") is None


async def test_old_writers_keys_are_swept(autojump_clock: trio.testing.MockClock) -> None:
    server = Server()
    async with open_weather(server) as (store, backend):
        await store.commit({"a": b"1"}, when=ANY)
        await outcome_of(store, b"2")
        backend.is_away = True  # it cannot tidy up
    (mine,) = (entry for key, entry in server.state.entries.items() if key.startswith("_w/"))
    old = [f"_w/old/{number}" for number in range(2)]
    for key, mark in zip(old, (b"17 1000000", b"rubbish"), strict=True):
        server.state.entries[key] = type(mine)(key, mark, 1, 1)
    async with open_weather(server) as (store, _):
        await trio.sleep(1)
        assert [key for key in old if key in server.state.entries] == []
        assert mine.key in server.state.entries


@pytest.mark.parametrize(
    ("mark", "when"),
    [(b"1 17", 17.0), (b"1 17 burnt", 17.0), (b"", 0.0), (b"x", 0.0), (b"1 \xff", 0.0), (b"1 x", 0.0)],
)
def test_when_a_mark_was_made(mark: bytes, when: float) -> None:
    assert _written(mark) == when


async def use(opened: AbstractAsyncContextManager[object]) -> None:
    async with opened:
        pass


async def test_a_store_that_is_closed(autojump_clock: trio.testing.MockClock) -> None:
    outcomes: list[int | StoreError] = []

    async def commit(store: Store, value: bytes) -> None:
        outcomes.append(await outcome_of(store, value))

    async with trio.open_nursery() as users:
        async with open_weather() as (store, backend):
            backend.fates += ["never"] * 100
            for value in (b"sent", b"queued"):
                users.start_soon(commit, store, value)
                await trio.testing.wait_all_tasks_blocked()
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Unavailable", "Unknown"]
    for ask in (
        store.commit({"a": b""}, when=ANY),
        store.get("a"),
        store.list(),
        use(store.watch()),
        use(store.lease(5)),
    ):
        with pytest.raises(Unavailable, match="this store is closed"):
            await ask


async def test_what_makes_no_commit_is_not_sent(autojump_clock: trio.testing.MockClock) -> None:
    async with open_weather() as (store, backend):
        backend.groups.clear()
        with pytest.raises(ValueError, match="no condition protects"):
            await store.commit({"a": b""})
        with pytest.raises(ValueError, match="the store's own"):
            await store.commit({"_epoch": b""}, when=ANY)
        with pytest.raises(TooLarge):
            await store.commit({"a": bytes(300_000)}, when=ANY)
        with pytest.raises(TypeError, match="lease is what"):
            await store.commit({"a": b""}, when=ANY, lease="x")  # type: ignore[arg-type]
        async with store.lease(5) as lease:
            pass
        with pytest.raises(LeaseLost):
            await store.commit({"a": b""}, when=ANY, lease=lease)
        assert backend.groups == []


# ------------------------------------------------------------------------------------------ by lot

FATES = st.lists(
    st.sampled_from(["made", "made", "lost", "late", "never", "away", "release"]), min_size=1, max_size=40
)


async def _write(
    store: Store, backend: Weather, fates: list[str], told: dict[bytes, int | StoreError]
) -> None:
    for number, fate in enumerate(fates):
        if fate == "release":
            while backend.server.late:
                backend.server.late.pop(0)()
            continue
        backend.fates.append(Unavailable("away") if fate == "away" else fate)
        entry = await store.get("a")
        condition = missing("a") if entry is None else unchanged("a", entry.modified)
        value = b"%d" % number
        try:
            told[value] = await store.commit({"a": value}, when=[condition] if number % 2 else ANY)
        except StoreError as error:
            told[value] = error


@settings(deadline=None)
@given(FATES)
def test_whatever_the_weather(fates: list[str]) -> None:
    async def main() -> None:
        told: dict[bytes, int | StoreError] = {}
        async with open_weather(patience=2.0) as (store, backend):
            await _write(store, backend, fates, told)
            while backend.server.late:
                backend.server.late.pop(0)()
        values = backend.server.state.values_of("a")
        numbers = [int(value) for value in values if value is not None]
        assert numbers == sorted(set(numbers)), "a late copy came after a newer commit"
        by_revision = {step.revision: step.changes.get("a") for step in backend.server.state.steps}
        for value, outcome in told.items():
            if isinstance(outcome, int):
                entry = by_revision[outcome]
                assert entry is not None
                assert entry.value == value
            elif not isinstance(outcome, Unknown):
                assert value not in values, f"{value!r} was told as {outcome!r}, and happened"

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
