"""Watches in bad weather: they never go back, miss no last state, say when they are stale, and never tell unreadable as
empty."""

from __future__ import annotations

from functools import partial

import pytest
import trio
import trio.testing

from duplex_services.store import (
    Denied,
    Entry,
    Store,
    Unavailable,
    Update,
    Watch,
    last_writer_wins,
    missing,
    unchanged,
)
from duplex_services.store._backend import SENTINEL, Changes, Listing
from duplex_services.store._view import Reader, View
from duplex_services.store.testing._tools import Folded, all_at_once, fold
from tests.services.store.weather import Server, open_weather

ANY = last_writer_wins
Clock = trio.testing.MockClock


def values(update: Update) -> dict[str, bytes]:
    return {entry.key: entry.value for entry in update.puts}


async def quiet(watch: Watch, seconds: float) -> bool:
    with trio.move_on_after(seconds):
        await watch.receive()
        return False
    return True


async def test_the_first_update_has_everything(autojump_clock: Clock) -> None:
    async with open_weather() as (store, backend):
        revision = await store.commit({"a/1": b"1", "b": b""}, when=ANY)
        async with store.watch("a/") as watch:
            first = await watch.receive()
            assert first == Update(
                (Entry("a/1", b"1", revision, revision),), (), revision, first.epoch, True, None
            )
            assert await quiet(watch, 60)
        assert backend.asked["list"] == 2, "the writers' keys to be swept, and everything once"


async def test_the_stores_own_keys_are_not_watched_unless_asked_for(autojump_clock: Clock) -> None:
    async with open_weather() as (store, _), store.watch() as watch, store.watch("_lead/") as leaders:
        assert (await watch.receive()).puts == ()
        assert (await leaders.receive()).puts == ()
        async with store.lead("x", value=b"me"):
            assert values(await leaders.receive()) == {"_lead/x": b"me"}
            assert await quiet(watch, 1)
        assert (await leaders.receive()).deletes == ("_lead/x",)


async def test_what_changed_and_changed_back_is_not_told(autojump_clock: Clock) -> None:
    async with open_weather() as (store, _), store.watch("a") as watch:
        await watch.receive()
        await store.commit({"a": b"1"}, when=ANY)
        await trio.testing.wait_all_tasks_blocked()
        await store.commit(deletes=["a"], when=ANY)
        assert await quiet(watch, 60)


async def test_a_watch_is_verified(autojump_clock: Clock) -> None:
    async with open_weather(verify_every=5.0) as (store, backend), store.watch() as watch:
        await watch.receive()
        asked = backend.asked.get("newest", 0)
        await trio.sleep(31)
        assert 8 <= backend.asked["newest"] - asked <= 12
        assert watch.stale_since is None


async def test_who_is_away_is_told_as_stale_and_comes_back(autojump_clock: Clock) -> None:
    server = Server()
    async with open_weather(server, verify_every=5.0) as (store, backend), open_weather(server) as (other, _):
        await store.commit({"a": b"1", "b": b"2"}, when=ANY)
        async with store.watch() as watch:
            await watch.receive()
            backend.is_away = True
            before = trio.current_time()
            await other.commit({"a": b"!"}, deletes=["b"], when=ANY)
            stale = await watch.receive()
            assert (stale.puts, stale.deletes, stale.full) == ((), (), False)
            assert stale.stale_since is not None
            assert before - 5 <= stale.stale_since <= before
            assert trio.current_time() <= before + 5 + 0.1
            assert watch.stale_since == stale.stale_since
            assert isinstance(watch.trouble, Unavailable)
            backend.is_away = False
            state = Folded()
            state.entries = {entry.key: entry for entry in (await store.list()).entries}
            update = await watch.receive()
            while not update.puts:
                update = await watch.receive()
            assert (values(update), update.deletes, update.stale_since) == ({"a": b"!"}, ("b",), None)
            assert watch.trouble is None


async def test_a_store_that_never_answers_is_told_as_stale(autojump_clock: Clock) -> None:
    async with open_weather(verify_every=5.0) as (store, backend):
        await store.commit({"a": b"1"}, when=ANY)
        backend.is_away = True
        began = trio.current_time()
        async with store.watch() as watch:
            first = await watch.receive()
            assert first == Update((), (), 0, "", False, first.stale_since)
            assert first.stale_since == pytest.approx(began)
            assert trio.current_time() - began == pytest.approx(5)
            assert await quiet(watch, 60)
            backend.is_away = False
            second = await watch.receive()
            assert (values(second), second.full, second.stale_since) == ({"a": b"1"}, True, None)


async def test_who_opens_a_watch_of_a_stale_store_gets_what_is_known(autojump_clock: Clock) -> None:
    async with open_weather(verify_every=5.0) as (store, backend):
        await store.commit({"a": b"1"}, when=ANY)
        async with store.watch() as early:
            await early.receive()
            backend.is_away = True
            since = (await early.receive()).stale_since
            async with store.watch() as late:
                first = await late.receive()
                assert (values(first), first.full, first.stale_since) == ({"a": b"1"}, True, since)


async def test_a_deaf_watch_is_found_out(autojump_clock: Clock) -> None:
    async with open_weather(verify_every=5.0) as (store, backend), store.watch() as watch:
        await watch.receive()
        backend.is_deaf = True
        await store.commit({"a": b"1"}, when=ANY)
        began = trio.current_time()
        follows = backend.asked["follow"]
        update = await watch.receive()
        assert (values(update), update.full, update.stale_since) == ({"a": b"1"}, True, None)
        assert trio.current_time() - began <= 5
        await trio.sleep(1)
        assert backend.asked["follow"] == follows + 1


async def test_a_store_that_changes_all_the_time_is_not_listed_all_the_time(autojump_clock: Clock) -> None:
    server = Server()
    async with open_weather(server) as (store, backend), open_weather(server) as (other, _):
        async with store.watch() as watch, trio.open_nursery() as nursery:
            await watch.receive()
            # Its answers take a moment: whenever it is asked, there is something newer.
            backend.delay = 0.05
            listings = backend.asked["list"]

            async def change() -> None:
                for number in range(1000):
                    await other.commit({"a": b"%d" % number}, when=ANY)
                    await trio.sleep(0.03)
                nursery.cancel_scope.cancel()

            nursery.start_soon(change)
            async for update in watch:
                assert update.stale_since is None
        assert backend.asked["list"] == listings


async def test_a_gap_is_filled_by_what_is_different(autojump_clock: Clock) -> None:
    async with open_weather() as (store, backend), store.watch("a") as watch:
        await store.commit({"a1": b"1", "a2": b"2"}, when=ANY)
        await fold(watch, Folded(), lambda state: len(state.values) == 2, 1)
        state = backend.server.state
        # More happens at once than is remembered for those who follow.
        state._log.clear()
        state._forgotten = 10_000
        state.revision = 9_999
        await store.commit({"a1": b"!"}, deletes=["a2"], when=ANY)
        update = await watch.receive()
        assert (values(update), update.deletes, update.full) == ({"a1": b"!"}, ("a2",), True)


async def test_rights_that_are_taken_away(autojump_clock: Clock) -> None:
    async with open_weather(verify_every=5.0) as (store, backend):
        revision = await store.commit({"a": b"1"}, when=ANY)
        async with store.watch() as watch:
            state = Folded()
            state.take(await watch.receive())
            backend.is_denied = True
            with pytest.raises(Denied, match="does not let us read"):
                await store.list()
            with pytest.raises(Denied, match="does not let us read"):
                await store.get("a")
            with pytest.raises(Denied, match="you may not write"):
                await store.commit({"a": b"2"}, when=[unchanged("a", revision)])
            backend.is_deaf = True
            await trio.sleep(60)
            async with store.watch() as late:
                first = await late.receive()
                assert values(first) == {"a": b"1"}
                assert first.stale_since is not None
                assert isinstance(watch.trouble, Denied)
            backend.is_denied = backend.is_deaf = False
            assert await store.get("b") is None
            await store.commit({"b": b"2"}, when=ANY)
            await fold(watch, state, lambda state: "b" in state.values and state.stale_since is None, 60)
            assert state.deleted == []


async def test_a_new_reader_of_what_is_denied_is_told_that_nothing_is_known(autojump_clock: Clock) -> None:
    async with open_weather(verify_every=5.0) as (store, backend):
        await store.commit({"a": b"1"}, when=ANY)
        backend.is_denied = True
        async with store.watch() as watch:
            first = await watch.receive()
            assert (first.puts, first.epoch, first.full) == ((), "", False)
            assert first.stale_since is not None
            assert isinstance(watch.trouble, Denied)
            backend.is_denied = False
            assert values(await watch.receive()) == {"a": b"1"}


async def test_a_store_that_nobody_may_write_and_has_no_epoch(autojump_clock: Clock) -> None:
    server = Server()
    backend = server.client()
    backend.fates = [Denied("read only")] * 3
    from duplex_services.store import open_store

    with pytest.raises(Denied, match="nobody has opened this store yet who may write"):
        async with open_store(backend.opened()):
            pass


async def test_a_wiped_store_is_a_new_epoch(autojump_clock: Clock) -> None:
    async with open_weather(verify_every=5.0) as (store, backend):
        await store.commit({"a": b"1", "b": b"2"}, when=ANY)
        async with store.watch() as watch:
            first = await watch.receive()
            backend.server.wipe()
            gone = await watch.receive()
            assert (gone.puts, gone.deletes, gone.full) == ((), ("a", "b"), True)
            assert gone.epoch != first.epoch
            assert gone.revision < first.revision
            # The same value and the same revision as in the epoch before, and news all the same.
            await store.commit({"a": b"1"}, when=[missing("a")])
            assert values(await watch.receive()) == {"a": b"1"}
            assert (await store.list()).epoch == gone.epoch


async def test_a_new_epoch_with_the_same_keys_tells_them_all_again(autojump_clock: Clock) -> None:
    server = Server()
    async with open_weather(server) as (store, _):
        await store.commit({"a": b"1"}, when=ANY)
        async with store.watch() as watch:
            first = await watch.receive()
            server.wipe()
            async with open_weather(server) as (other, _):
                await other.commit({"a": b"2"}, when=ANY)
                (entry,) = (await other.list()).entries
            while entry.modified != first.puts[0].modified:
                # As it may be by chance.
                server.state.entries["a"] = entry = Entry("a", b"2", 1, first.puts[0].modified)
            second = await watch.receive()
            assert (values(second), second.deletes, second.full) == ({"a": b"2"}, (), True)
            assert second.epoch != first.epoch


async def test_a_store_that_is_put_back_to_an_older_state_gets_a_new_epoch(autojump_clock: Clock) -> None:
    server = Server()
    async with open_weather(server) as (store, _), open_weather(server) as (other, _):
        await store.commit({"a": b"1"}, when=ANY)
        older = server.copy()
        await store.commit({"a": b"2"}, when=ANY)
        async with store.watch() as watch, other.watch() as others:
            first = await watch.receive()
            await others.receive()
            server.state = older
            second = await watch.receive()
            assert (values(second), second.full) == ({"a": b"1"}, True)
            assert second.epoch != first.epoch
            third = await others.receive()
            assert values(third) == {"a": b"1"}
            assert third.epoch != first.epoch
            assert await quiet(watch, 20)
            assert (await store.list()).epoch == (await other.list()).epoch


async def test_another_client_renews_the_epoch(autojump_clock: Clock) -> None:
    async with open_weather() as (store, backend), store.watch() as watch:
        await store.commit({"a": b"1"}, when=ANY)
        state = await fold(watch, Folded(), lambda state: bool(state.values), 1)
        old = backend.server.state.entries[SENTINEL]
        await store._epochs.renew(old)
        await store._epochs.renew(old)
        await fold(watch, state, lambda state: len(state.epochs) == 2, 5)
        assert state.values == {"a": b"1"}


async def test_a_slow_reader_keeps_each_key_once(autojump_clock: Clock) -> None:
    """Case D-9: ten seconds asleep during five thousand changes."""
    async with open_weather() as (store, _), store.watch() as slow, store.watch() as fast:
        behind, ahead = Folded(), Folded()
        behind.take(await slow.receive())
        for number in range(500):
            await store.commit({f"k{number % 50}": b"%d" % number}, when=ANY)
        last = {f"k{number % 50}": b"%d" % number for number in range(450, 500)}
        await fold(fast, ahead, lambda state: state.values == last, 5)
        assert len(slow._reader._heard) == 50
        await fold(slow, behind, lambda state: state.values == last, 5)
        assert behind.updates == 2
        assert behind.entries == ahead.entries


async def test_many_readers_are_verified_together(autojump_clock: Clock) -> None:
    async with open_weather() as (store, backend):
        async with store.watch() as watch:
            await watch.receive()

        async def read(number: int) -> None:
            async with store.watch(f"k{number}") as watch:
                await watch.receive()

        asked = backend.asked.get("newest", 0)
        await all_at_once([partial(read, number) for number in range(100)])
        assert backend.asked["newest"] - asked <= 2
        assert store._upstream.view.reader_count == 0


async def test_a_cancelled_receive_loses_nothing(autojump_clock: Clock) -> None:
    async with open_weather() as (store, _), store.watch() as watch:
        await watch.receive()
        with trio.CancelScope() as scope:
            scope.cancel()
            await watch.receive()
        with trio.move_on_after(1):
            await watch.receive()
        await store.commit({"a": b"1"}, when=ANY)
        await trio.sleep(1)
        with trio.CancelScope() as scope:
            scope.cancel()
            await watch.receive()
        assert values(await watch.receive()) == {"a": b"1"}


# -------------------------------------------------------------------- reports that a backend should not give


async def test_a_report_of_what_is_known_is_no_news(autojump_clock: Clock) -> None:
    async with open_weather() as (store, _), store.watch() as watch:
        await store.commit({"a": b"1"}, when=ANY)
        await fold(watch, Folded(), lambda state: bool(state.values), 1)
        view = store._upstream.view
        store._upstream._report(Changes((), ("a",), view.revision))
        assert "a" in view.entries
        assert await quiet(watch, 1)


async def test_a_listing_may_be_reported(autojump_clock: Clock) -> None:
    async with open_weather() as (store, backend), store.watch() as watch:
        await store.commit({"a": b"1", "b": b""}, when=ANY)
        await fold(watch, Folded(), lambda state: bool(state.values), 1)
        state = backend.server.state
        sentinel = state.entries[SENTINEL]
        backend.is_deaf = True
        await store.commit({"a": b"2"}, deletes=["b"], when=ANY)
        store._upstream._report(state.listing(""))
        update = await watch.receive()
        assert (values(update), update.deletes, update.full) == ({"a": b"2"}, ("b",), False)
        # Without its sentinel it says nothing.
        listings = store._upstream.listings
        store._upstream._report(Listing((sentinel,), state.revision + 5, None))
        assert await quiet(watch, 1)
        assert store._upstream.listings == listings + 1
        # Nor does one of another epoch, but that is looked into.
        store._upstream._report(Listing((), state.revision + 5, Entry(SENTINEL, b"other", 1, 1)))
        assert await quiet(watch, 1)
        assert store._upstream.listings == listings + 2


def test_a_view_without_readers() -> None:
    view = View()
    reader = Reader(view, "a", 0)
    view.add(reader)
    view.add(Reader(view, "a", 0))
    assert view.reader_count == 2
    view.remove(reader)
    assert view.reader_count == 1


async def test_what_was_heard_of_another_epoch_is_told_again(autojump_clock: Clock) -> None:
    """By chance the same revision in two epochs, for a key that changed in both while the reader did not look."""
    view = View()
    view.move({"a": Entry("a", b"old", 5, 5), "b": Entry("b", b"", 5, 5)}, 5, "one")
    reader = Reader(view, "", 0)
    view.add(reader)
    view.confirm(1, 0.0, is_stale=False)
    await reader.receive()
    view.move({"a": Entry("a", b"other", 6, 6)}, 6, "one")
    view.move({"a": Entry("a", b"new", 5, 5), "b": None}, 5, "two", is_full=True)
    update = await reader.receive()
    assert (values(update), update.deletes, update.full) == ({"a": b"new"}, ("b",), True)


async def test_no_key_to_read(autojump_clock: Clock) -> None:
    async with open_weather() as (store, backend):
        asked = dict(backend.asked)
        with pytest.raises(ValueError, match="no key"):
            await store.get("a//b")
        with pytest.raises(ValueError, match="control characters"):
            await store.list("\0")
        with pytest.raises(TypeError, match="a key is a str"):
            await open_watch(store, 5)
        assert backend.asked == asked


async def open_watch(store: Store, prefix: object) -> None:
    async with store.watch(prefix):  # type: ignore[arg-type]
        pass
