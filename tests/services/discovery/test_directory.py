"""The directory over a store in memory, in virtual time: registrations, silence, servers that go, stores that are away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

import duplex
from duplex_services.discovery import (
    AlreadyThere,
    BadRequest,
    Check,
    Directory,
    Filter,
    NotAllowed,
    NotThere,
    Registration,
    ServiceConfig,
    StoreAway,
    Superseded,
    open_directory,
)
from duplex_services.discovery._keeping import LOOK_EVERY
from duplex_services.discovery._writing import Writer
from duplex_services.store import Store, last_writer_wins, open_store
from tests.services.store.weather import Server, Weather, open_weather

SOON = 2 * LOOK_EVERY


def said(id: str, **fields: Any) -> Registration:
    return Registration(id, **{"host": "127.0.0.1", "port": 80, **fields})


def shown(directory: Directory, service: str = "web") -> dict[str, str]:
    return {one.id: one.state for one in directory.reading.view.all_instances(service)}


def leads(directory: Directory, service: str = "web") -> str | None:
    leader = directory.reading.leader(service)
    return None if leader is None else leader.id


def kinds_of(directory: Directory) -> list[str]:
    """What was told of web/a."""
    changes = directory.reading.view.last_changes("web", "a")
    return [change.kind for change in changes if change.kind != "leader"]


@asynccontextmanager
async def open_both(store: Store | None = None) -> AsyncIterator[tuple[Store, Directory, Directory]]:
    """Two servers over one store."""
    async with open_store("memory:") as own:
        async with open_directory(store or own, server="a") as first:
            async with open_directory(store or own, server="b") as second:
                yield store or own, first, second


async def seen(*directories: Directory) -> None:
    """Let all servers hear what the store says."""
    for _ in range(20):
        await trio.testing.wait_all_tasks_blocked()
    revision = max(directory.reading.view.revision for directory in directories)
    assert all(directory.reading.view.revision == revision for directory in directories)


# ------------------------------------------------------------------------------------ registrations


async def test_heartbeats_keep_an_instance_and_write_nothing(autojump_clock: MockClock) -> None:
    async with open_both() as (store, first, second):
        session = await first.instances.register("web", said("a", metadata={"v": "1"}), 2.0)
        await seen(first, second)
        assert shown(first) == shown(second) == {"a": "passing"}
        commits = store.statistics().commits
        for _ in range(20):
            await trio.sleep(1)
            first.instances.beat("web", "a", session.token)
        # The same registration again is a heartbeat too.
        assert await first.instances.heartbeat("web", said("a", metadata={"v": "1"}), 2.0) is session
        assert store.statistics().commits == commits
        assert shown(second) == {"a": "passing"}
        await trio.sleep(2 + SOON)
        assert shown(first) == shown(second) == {}
        assert session.why == "silent for 2 s"
        assert first.reading.explain("web", "a").reasons[0].endswith("silent for 2 s")
        with pytest.raises(NotAllowed, match="it is over"):
            first.instances.beat("web", "a", session.token)


async def test_a_heartbeat_registers_and_changes(autojump_clock: MockClock) -> None:
    async with open_directory("memory:") as directory:
        put = directory.instances.heartbeat
        session = await put("web", said("a"))
        assert await put("web", said("a", weight=7)) is session
        instance = directory.reading.view.instance("web", "a")
        assert instance is not None
        assert instance.weight == 7
        # Another TTL is another registration.
        other = await put("web", said("a", weight=7), 3.0)
        assert other is not session
        assert session.why == "it was registered anew"
        await trio.sleep(3 + SOON)
        assert shown(directory) == {}
        third = await put("web", said("a"), 3.0)
        assert not third.ended.is_set()


async def test_an_instance_that_is_held_stays_until_it_is_let_go(autojump_clock: MockClock) -> None:
    async with open_directory("memory:") as directory:
        session = await directory.instances.register("web", said("a"), 2.0, is_held=True)
        await trio.sleep(60)
        assert shown(directory) == {"a": "passing"}
        assert directory.reading.explain("web", "a").reasons == (
            "this server keeps it: its registrant's call is open",
        )
        directory.instances.let_go(session)
        await trio.sleep(1)
        assert directory.reading.explain("web", "a").reasons == (
            "this server keeps it: 1.0 s of 2 s are left until the next sign of life",
        )
        await trio.sleep(1 + SOON)
        assert shown(directory) == {}


async def test_who_is_lost_while_it_registers_goes_after_its_ttl(autojump_clock: MockClock) -> None:
    async with open_directory("memory:") as directory:
        keeper = directory.instances.keeper
        keeper.settle_now = lambda service: trio.sleep_forever()  # type: ignore[method-assign]
        with trio.move_on_after(1):
            await directory.instances.register("web", said("a"), 2.0, is_held=True)
        # It is written, and nobody has the session that could let it go.
        assert shown(directory) == {"a": "passing"}
        del keeper.settle_now
        await trio.sleep(2 + SOON)
        assert shown(directory) == {}


async def test_withdrawing_is_at_once(autojump_clock: MockClock) -> None:
    async with open_both() as (_, first, second):
        session = await first.instances.register("web", said("a"), is_held=True)
        await first.instances.withdraw(session, "done")
        assert shown(first) == {}
        assert session.why == "done"
        await seen(first, second)
        assert shown(second) == {}
        await first.instances.withdraw(session)


async def test_a_registration_takes_over_from_the_one_before(autojump_clock: MockClock) -> None:
    async with open_both() as (_, first, second):
        old = await first.instances.register("web", said("a"), 2.0, is_held=True)
        new = await first.instances.register("web", said("a"), 2.0, is_held=True)
        assert old.why == "it was registered anew"
        # What the old one says is too late.
        await first.instances.withdraw(old)
        first.instances.let_go(old)
        with pytest.raises(NotAllowed):
            await first.instances.deregister("web", "a", token=old.token)
        await trio.sleep(5)
        assert shown(first) == {"a": "passing"}
        elsewhere = await second.instances.register("web", said("a"), 2.0, is_held=True)
        await seen(first, second)
        assert new.why == "it has registered at b"
        await first.instances.withdraw(new)
        first.instances.let_go(new)
        await trio.sleep(5)
        assert shown(first) == shown(second) == {"a": "passing"}
        assert not elsewhere.ended.is_set()
        # Takeovers are no news to those who look it up.
        assert kinds_of(second) == ["up"]


@pytest.mark.parametrize("service", ["Web", ""])
async def test_bad_registrations_change_nothing_and_are_told_all_at_once(
    service: str, autojump_clock: MockClock
) -> None:
    async with open_directory("memory:") as directory:
        index = directory.reading.status().as_of
        for action in (directory.instances.register, directory.instances.heartbeat):
            with pytest.raises(BadRequest) as caught:
                await action(service, said("/", port=-1), 0.0)
            assert [problem.split()[0] for problem in str(caught.value).split("; ")] == [
                "service",
                "id",
                "port",
                "ttl",
            ]
        assert directory.reading.status().as_of == index


# ------------------------------------------------------------------------------- what operators say


async def test_deregistering_at_another_server(autojump_clock: MockClock) -> None:
    async with open_both() as (_, first, second):
        session = await first.instances.register("web", said("a"), is_held=True)
        await seen(first, second)
        await second.instances.deregister("web", "a", why="not needed")
        assert shown(second) == {}
        await trio.sleep(SOON)
        assert session.why == "it was deregistered: not needed"
        # It does not come back (D-7), and nothing is left of it.
        await trio.sleep(60)
        assert shown(first) == shown(second) == {}
        assert first.reading.view.withdrawn == second.reading.view.withdrawn == {}
        with pytest.raises(NotThere):
            await second.instances.deregister("web", "a")
        with pytest.raises(BadRequest):
            await second.instances.deregister("web", "/")


async def test_health_draining_and_maintenance(autojump_clock: MockClock) -> None:
    async with open_both() as (store, first, second):
        session = await first.instances.register("web", said("a"), 5.0, is_held=True)
        await seen(first, second)
        await second.instances.report("web", "a", "critical", "connection refused")
        assert shown(second) == {"a": "critical"}
        assert second.reading.view.instances("web") == ()
        commits = store.statistics().commits
        await second.instances.report("web", "a", "critical", "connection refused")
        assert store.statistics().commits == commits
        await second.instances.set_mode("web", "a", "draining", "new version")
        await seen(first, second)
        assert shown(first) == {"a": "draining"}
        await first.instances.set_mode("web", "a", "")
        await first.instances.report("web", "a", "warning", "slow", token=session.token)
        assert shown(first) == {"a": "warning"}
        with pytest.raises(NotAllowed):
            await first.instances.report("web", "a", "passing", token="old")
        with pytest.raises(BadRequest, match="a note is text"):
            await first.instances.report("web", "a", "passing", "x" * 3000)
        with pytest.raises(NotThere):
            await first.instances.report("web", "b", "passing")
        assert kinds_of(first) == ["up", *["update"] * 4]


async def test_who_is_checked_waits_for_the_first_success(autojump_clock: MockClock) -> None:
    async with open_directory("memory:") as directory:
        await directory.instances.register("web", said("a", check=Check("tcp")), is_held=True)
        assert shown(directory) == {"a": "critical"}
        await directory.instances.report("web", "a", "passing")
        await directory.instances.register("web", said("a", check=Check("tcp")), is_held=True)
        assert shown(directory) == {"a": "passing"}


# ------------------------------------------------------------------------------------------ services


async def test_services_and_their_metadata(autojump_clock: MockClock) -> None:
    async with open_both() as (_, first, second):
        await first.services.add("web")
        await seen(first, second)
        with pytest.raises(AlreadyThere, match="service 'web' already exists"):
            await second.services.add("web")
        with pytest.raises(BadRequest):
            await first.services.add("Web")
        listing = second.reading.listing("web")
        assert (listing.known, listing.instances) == (True, ())
        index = await first.services.set_metadata("web", {"n": [1]}, 0)
        await seen(first, second)
        info = second.reading.service("web")
        assert info is not None
        assert info.metadata is not None
        assert (info.metadata.data, info.metadata.index) == ({"n": [1]}, index)
        newer = await second.services.set_metadata("web", 5, index)
        await seen(first, second)
        for wrong, message in (
            (0, f"already exists, use index={newer} to set"),
            (index, "wrong index provided"),
        ):
            with pytest.raises(NotAllowed, match=message):
                await first.services.set_metadata("web", 6, wrong)
        with pytest.raises(NotThere):
            await first.services.set_metadata("none", 6, 0)
        await first.services.add("other")
        with pytest.raises(NotAllowed, match="does not exist, use index=0 to set"):
            await first.services.set_metadata("other", 6, 3)
        deep: Any = 1
        for _ in range(50):
            deep = {"in": [deep]}
        newer = await first.services.set_metadata("web", deep, newer)
        itself: list[object] = []
        itself.append(itself)
        for bad in (
            object(),
            2**70,
            "x" * 70_000,
            [deep],
            itself,
            float("nan"),
            {"in": float("inf")},
            b"bytes",
            {1: "number"},
        ):
            with pytest.raises(BadRequest, match="data"):
                await first.services.set_metadata("web", bad, newer)
        await second.instances.register("web", said("a"), is_held=True)
        await seen(first, second)
        await first.services.remove("web")
        await trio.sleep(SOON)
        await seen(first, second)
        assert "web" not in first.reading.view
        assert "web" not in second.reading.view
        with pytest.raises(NotThere, match="service 'web' not found"):
            await first.services.remove("web")


async def test_of_those_who_write_at_once_one_wins(autojump_clock: MockClock) -> None:
    async with open_both() as (_, first, second):
        await first.services.add("web")
        await seen(first, second)
        outcomes: list[str] = []

        async def write(directory: Directory, value: int) -> None:
            try:
                await directory.services.set_metadata("web", value, 0)
                outcomes.append("won")
            except NotAllowed:
                outcomes.append("lost")

        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(write, (first, second)[number % 2], number)
        assert sorted(outcomes) == ["lost"] * 5 + ["won"]


async def test_the_oldest_leads(autojump_clock: MockClock) -> None:
    async with open_both() as (_, first, second):
        sessions = [
            await directory.instances.register("web", said(id), is_held=True)
            for id, directory in (("a", second), ("b", first), ("c", second))
        ]
        assert leads(second) == "a"
        await seen(first, second)
        fences = [leader.fence for leader in [first.reading.leader("web")] if leader]
        # A leader that is sick is none; when it is well again it does not take over.
        await first.instances.report("web", "a", "critical")
        assert leads(first) == "b"
        await first.instances.report("web", "a", "passing")
        assert leads(first) == "b"
        await first.instances.withdraw(sessions[1])
        assert leads(first) == "a"
        await seen(first, second)
        assert leads(second) == "a"
        leader = second.reading.leader("web")
        assert leader is not None
        assert leader.fence > fences[0]
        await second.instances.withdraw(sessions[0])
        assert leads(second) == "c"
        await second.instances.withdraw(sessions[2])
        assert leads(second) is None
        await trio.sleep(5)
        assert "web" not in first.reading.view


async def test_a_leader_that_is_named(autojump_clock: MockClock) -> None:
    async with open_both() as (_, first, _second):
        with pytest.raises(NotAllowed, match="not named by hand"):
            await first.services.set_leader("web", "b")
        await first.services.configure("web", ServiceConfig("manual"))
        await first.services.configure("web", ServiceConfig("manual"))
        await first.instances.register("web", said("a"), is_held=True)
        assert leads(first) is None
        await first.services.set_leader("web", "b")
        assert leads(first) is None
        session = await first.instances.register("web", said("b"), is_held=True)
        assert leads(first) == "b"
        await first.services.set_leader("web", "a")
        assert leads(first) == "a"
        await first.services.set_leader("web", "b")
        await first.instances.withdraw(session)
        assert leads(first) is None
        await first.services.configure("web", ServiceConfig())
        assert leads(first) == "a"
        with pytest.raises(BadRequest):
            await first.services.configure("web", ServiceConfig("manual", "/"))


async def test_another_server_sees_to_the_leader_when_the_first_does_not(autojump_clock: MockClock) -> None:
    async with open_store("memory:") as store, open_directory(store, server="z") as directory:
        await directory.instances.register("web", said("a"), is_held=True)
        # It lives, as its key says, and does nothing.
        await store.commit({"discovery/n/a": b'{"name":"a","incarnation":"x"}'}, when=last_writer_wins)
        await store.commit(deletes=["discovery/l/web"], when=last_writer_wins)
        await trio.sleep(0.5)
        assert leads(directory) is None
        await trio.sleep(1)
        assert leads(directory) == "a"


# ------------------------------------------------------------------------- servers that go and come


async def test_instances_of_a_server_that_is_gone_are_swept_after_two_ttls(autojump_clock: MockClock) -> None:
    async with open_store("memory:") as store, open_directory(store, server="b") as second:
        async with open_directory(store, server="a") as first:
            for id in ("x", "y", "z"):
                await first.instances.register("web", said(id), 5.0, is_held=True)
            await seen(first, second)
            assert second.reading.listing("web").orphans == ()
        await trio.sleep(SOON)
        listing = second.reading.listing("web")
        assert [one.id for one in listing.instances] == ["x", "y", "z"]
        assert listing.orphans == ("x", "y", "z")
        # One comes to the server that is left.
        await trio.sleep(4)
        await second.instances.register("web", said("y"), 5.0, is_held=True)
        assert second.reading.listing("web").orphans == ("x", "z")
        await trio.sleep(5)
        assert set(shown(second)) == {"x", "y", "z"}
        await trio.sleep(1 + SOON)
        assert set(shown(second)) == {"y"}
        assert leads(second) == "y"
        for id in ("x", "z"):
            last = second.reading.view.last_changes("web", id)[-1]
            assert (last.kind, last.why) == ("down", "its server is gone, and it did not come to another")


async def test_a_server_that_comes_back_knows_what_its_earlier_life_kept(autojump_clock: MockClock) -> None:
    # D-1, in small: the one that was killed leaves its key, and its instances.
    async with open_store("memory:") as store:
        async with open_directory(store, server="a") as first:
            for id in ("dead", "live"):
                await first.instances.register("web", said(id), 2.0, is_held=True)
            left = (await store.list("discovery/")).entries
        for entry in left:
            await store.commit({entry.key: entry.value}, when=last_writer_wins)
        async with open_directory(store, server="a") as again:
            await seen(again)
            assert set(shown(again)) == {"dead", "live"}
            assert again.reading.listing("web").orphans == ("dead", "live")
            session = await again.instances.register("web", said("live"), 2.0, is_held=True)
            await trio.sleep(3.5)
            assert set(shown(again)) == {"dead", "live"}
            await trio.sleep(1.5)
            assert set(shown(again)) == {"live"}
            assert not session.ended.is_set()


async def test_a_second_server_of_the_same_name_ends_the_first(autojump_clock: MockClock) -> None:
    async with open_store("memory:") as store:

        async def run_both() -> None:
            async with open_directory(store, server="a"):
                async with open_directory(store, server="a"):
                    await trio.sleep_forever()

        with pytest.raises(Superseded, match="has begun as 'a'"):
            await run_both()


async def test_a_server_that_was_away_comes_back_or_finds_another_in_its_place(
    autojump_clock: MockClock,
) -> None:
    async def run(*, is_taken: bool) -> None:
        async with open_weathered() as (directory, weather, _, server):
            weather.is_away = True
            # Its lease is over.
            await trio.sleep(30)
            if is_taken:
                async with open_store(server.client().opened()) as store:
                    other = {"discovery/n/a": b'{"name":"a","incarnation":"other"}'}
                    await store.commit(other, when=last_writer_wins)
            weather.is_away = False
            await trio.sleep(20)
            assert directory.reading.view.servers["a"].incarnation == directory.info.incarnation

    await run(is_taken=False)
    with pytest.raises(Superseded, match="has begun as 'a'"):
        await run(is_taken=True)


@pytest.mark.parametrize("name", ["/", "x" * 200])
async def test_a_server_whose_name_is_none(name: str, autojump_clock: MockClock) -> None:
    with pytest.raises(duplex.ConfigurationError, match="server: id"):
        async with open_directory("memory:", server=name):
            pass


# ------------------------------------------------------------------------- stores that are away or other


@asynccontextmanager
async def open_weathered(**options: Any) -> AsyncIterator[tuple[Directory, Weather, Store, Server]]:
    server = Server()
    async with open_weather(server, **options) as (store, weather):
        async with open_directory(store, server="a") as directory:
            yield directory, weather, store, server


async def test_a_store_that_is_away_kills_nobody(autojump_clock: MockClock) -> None:
    # D-2, in small.
    async with open_weathered() as (directory, weather, _, _):
        held = await directory.instances.register("web", said("held"), 5.0, is_held=True)
        beating = await directory.instances.register("web", said("beating"), 5.0)
        weather.is_away = True
        await trio.sleep(0.5)
        for _ in range(40):
            await trio.sleep(1)
            directory.instances.beat("web", "beating", beating.token)
            listing = directory.reading.listing("web")
            assert [one.id for one in listing.instances] == ["held", "beating"]
            assert listing.status.age is not None
            assert listing.status.stale == (listing.status.age >= 5)
            if listing.status.stale:
                assert listing.status.trouble == "nobody is there"
        with pytest.raises(StoreAway, match="nothing changed"):
            await directory.instances.register("web", said("new"))
        weather.is_away = False
        for _ in range(10):
            await trio.sleep(1)
            directory.instances.beat("web", "beating", beating.token)
        status = directory.reading.status()
        assert (status.stale, status.trouble) == (False, "")
        assert directory.reading.listing("web").orphans == ()
        for id in ("held", "beating"):
            changes = directory.reading.view.last_changes("web", id)
            assert [change.kind for change in changes if change.kind != "leader"] == ["up"]
        assert not held.ended.is_set()


async def test_who_falls_silent_meanwhile_goes_when_the_store_is_back(autojump_clock: MockClock) -> None:
    async with open_weathered() as (directory, weather, _, _):
        await directory.instances.register("web", said("a"), 2.0)
        revived = await directory.instances.register("web", said("b"), 2.0)
        weather.is_away = True
        await trio.sleep(20)
        assert set(shown(directory)) == {"a", "b"}
        assert "deleted as soon as the store takes that" in directory.reading.explain("web", "a").reasons[-1]
        directory.instances.beat("web", "b", revived.token)
        weather.is_away = False
        for _ in range(10):
            await trio.sleep(1)
            directory.instances.beat("web", "b", revived.token)
        assert set(shown(directory)) == {"b"}


async def test_a_store_that_was_wiped_is_filled_again_by_those_who_live(autojump_clock: MockClock) -> None:
    # D-5, in small: the epoch is another, and nothing is there.
    async with open_weathered() as (directory, _, _, server):
        await directory.services.add("web")
        await directory.instances.register("web", said("a"), 5.0, is_held=True)
        dead = await directory.instances.register("web", said("dead"), 5.0)
        start = directory.reading.status().as_of
        server.wipe()
        directory.instances.let_go(dead)
        await trio.sleep(8)
        assert set(shown(directory)) == {"a"}
        changes = directory.reading.view.diff("web", start, 10_000) or ()
        assert not [change for change in changes if change.kind in ("up", "down") and change.id == "a"]
        assert leads(directory) == "a"
        instance = directory.reading.view.instance("web", "a")
        assert instance is not None
        assert not instance.suspect
        assert directory.reading.listing("web").orphans == ()


async def test_what_cannot_be_read_is_not_gone(autojump_clock: MockClock) -> None:
    async with open_weathered() as (directory, weather, _, _):
        await directory.instances.register("web", said("a"), 2.0, is_held=True)
        weather.is_denied = True
        await trio.sleep(60)
        listing = directory.reading.listing("web")
        assert [one.id for one in listing.instances] == ["a"]
        assert listing.status.stale
        assert "let us" in listing.status.trouble
        with pytest.raises(StoreAway, match="refuses it"):
            await directory.services.add("other")


async def test_what_is_being_deleted_is_no_loss(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def slow(self: Writer, revision: int) -> None:
        await trio.sleep(2)

    async with open_directory("memory:") as directory:
        session = await directory.instances.register("web", said("a"), is_held=True)
        await directory.instances.register("web", said("b"), 2.0)
        monkeypatch.setattr(Writer, "_reach", slow)
        # The view knows that they are gone before who deletes them does.
        await directory.instances.withdraw(session)
        await trio.sleep(10)
        for id in ("a", "b"):
            changes = directory.reading.view.last_changes("web", id)
            assert [change.kind for change in changes if change.kind != "leader"] == ["up", "down"]


async def test_a_change_whose_outcome_is_unknown_is_told_so(autojump_clock: MockClock) -> None:
    async with open_weathered(patience=1.0) as (directory, weather, _, _):
        weather.is_stalled = True
        with pytest.raises(StoreAway, match="may have been done, or may yet be"):
            await directory.services.add("other")


async def test_what_others_delete_by_hand_is_put_back_if_it_lives(autojump_clock: MockClock) -> None:
    async with open_both() as (store, first, second):
        await first.instances.register("web", said("a"), is_held=True)
        await store.commit(deletes=["discovery/i/web/a"], when=last_writer_wins)
        await trio.sleep(SOON)
        await seen(first, second)
        assert shown(first) == shown(second) == {"a": "passing"}


async def test_what_makes_no_sense_in_the_store_is_overwritten_by_its_registrant(
    autojump_clock: MockClock,
) -> None:
    async with open_both() as (store, first, second):
        await first.instances.register("web", said("b"), is_held=True)
        await store.commit({"discovery/i/web/b": b"?"}, when=last_writer_wins)
        await trio.sleep(SOON)
        assert first.reading.view.unreadable == {}
        await store.commit({"discovery/i/web/a": b"?"}, when=last_writer_wins)
        await seen(first, second)
        await first.instances.register("web", said("a"), is_held=True)
        assert shown(first) == {"b": "passing", "a": "passing"}
        assert first.reading.view.unreadable == {}


async def test_a_server_that_hears_nothing_says_so(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr("duplex_services.discovery._writing._PATIENCE", 2.0)
    async with open_weathered() as (directory, weather, _, server):
        weather.is_deaf = True
        other = server.client()
        async with open_store(other.opened()) as store:
            await store.commit({"discovery/s/web": b"{}"}, when=last_writer_wins)
            with pytest.raises(StoreAway, match="this server has not heard how"):
                await directory.services.add("web")
            # Until it has asked.
            await trio.sleep(10)
            with pytest.raises(AlreadyThere):
                await directory.services.add("web")


async def test_suspects_can_be_deregistered(autojump_clock: MockClock) -> None:
    async with open_weathered() as (directory, _, store, server):
        record = b'{"server":"gone","incarnation":"x","ttl":60.0,"host":"h","port":1}'
        await store.commit({"discovery/i/web/a": record}, when=last_writer_wins)
        await trio.sleep(SOON)
        server.wipe()
        await trio.sleep(6)
        (instance,) = directory.reading.listing("web", Filter(everything=True)).instances
        assert instance.suspect
        await directory.instances.deregister("web", "a")
        await trio.sleep(SOON)
        assert shown(directory) == {}


async def test_an_orphan_is_deregistered_at_once(autojump_clock: MockClock) -> None:
    async with open_store("memory:") as store, open_directory(store) as directory:
        record = b'{"server":"gone","incarnation":"x","host":"h","port":1}'
        await store.commit({"discovery/i/web/a": record}, when=last_writer_wins)
        await trio.sleep(SOON)
        await directory.instances.deregister("web", "a")
        assert shown(directory) == {}
        assert (await store.list("discovery/i/")).entries == ()


async def test_what_is_withdrawn_and_has_no_server_is_deleted(autojump_clock: MockClock) -> None:
    async with open_store("memory:") as store, open_directory(store) as directory:
        record = b'{"server":"gone","incarnation":"x","withdrawn":true}'
        await store.commit({"discovery/i/web/a": record}, when=last_writer_wins)
        await trio.sleep(SOON)
        assert directory.reading.view.withdrawn == {}
        assert await store.get("discovery/i/web/a") is None
