"""Discovery as others call it: registrations that are open calls, watches that are resumed, errors that are told."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from trio.testing import MockClock

import duplex
from duplex_services.discovery import Directory, open_directory, open_server
from duplex_services.discovery.client import (
    Batch,
    DiscoveryService,
    Filter,
    Granted,
    Position,
    Registration,
    Report,
    ServiceConfig,
    follow,
    keep_registered,
)
from duplex_services.store import open_store
from tests.services.store.weather import Server, open_weather

SAID = Registration("a", endpoint="tcp://10.0.0.7:7700", protocol="duplex")
SOON = 0.6


def states(directory: Directory, service: str = "web") -> dict[str, str]:
    return {one.id: one.state for one in directory.reading.view.all_instances(service)}


@asynccontextmanager
async def open_served(
    store: Any = "memory:", **options: Any
) -> AsyncIterator[tuple[Directory, duplex.Peer, str]]:
    """A server of discovery; gives its peer and where that is bound."""
    async with open_directory(store, **options) as directory:
        async with open_server(directory, ["memory://*"]) as (peer, ends):
            yield directory, peer, ends[0]


@asynccontextmanager
async def open_all() -> AsyncIterator[tuple[Directory, DiscoveryService, duplex.Link]]:
    """A server of discovery, and a client of it."""
    async with open_served() as (directory, _, endpoint), duplex.open_peer() as client:
        link = await client.connect(endpoint)
        yield directory, client.service(DiscoveryService, name="discovery"), link


# ------------------------------------------------------------------------- registrations that are calls


async def test_a_registration_lasts_as_long_as_its_call(autojump_clock: MockClock) -> None:
    async with open_all() as (directory, remote, _):
        async with remote.register.open("web", SAID, 2.0) as call:
            granted = await call.receive()
            assert isinstance(granted, Granted)
            assert granted.ttl == 2.0
            assert (granted.position.origin, granted.position.index) == (directory.reading.view.origin, 2)
            await trio.sleep(60)
            assert states(directory) == {"a": "passing"}
            # Its caller ends it, and knows when it is withdrawn.
            await call.send_eof()
            async for _ in call:
                pass
            assert states(directory) == {}


async def test_a_registration_that_is_cancelled_is_withdrawn_at_once(autojump_clock: MockClock) -> None:
    async with open_all() as (directory, remote, _):
        async with remote.register.open("web", SAID, 10.0) as call:
            await call.receive()
        await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(0.01)
        assert states(directory) == {}


async def test_a_registration_whose_link_is_lost_stays_for_its_ttl(autojump_clock: MockClock) -> None:
    async with open_served() as (directory, server, endpoint):
        async with duplex.open_peer() as client:
            await client.connect(endpoint)
            remote = client.service(DiscoveryService, name="discovery")

            async def hold() -> None:
                async with remote.register.open("web", SAID, 5.0) as call:
                    await call.receive()
                    for link in server.links:
                        await link.aclose()
                    async for _ in call:
                        pass

            with pytest.raises(duplex.PeerLost):
                await hold()
        await trio.sleep(4)
        assert states(directory) == {"a": "passing"}
        assert "1.0 s of 5 s are left" in directory.reading.explain("web", "a").reasons[0]
        await trio.sleep(1 + SOON)
        assert states(directory) == {}


async def test_reports_change_the_health(autojump_clock: MockClock) -> None:
    async with open_all() as (directory, remote, _):
        async with remote.register.open("web", SAID, 5.0) as call:
            await call.receive()
            for report, state in (
                (Report("critical", "no disk"), "critical"),
                (Report("warning"), "warning"),
                (Report("passing"), "passing"),
            ):
                await call.send(report)
                await trio.sleep(SOON)
                assert states(directory) == {"a": state}
            await call.send(Report("passing", "x" * 3000))
            with pytest.raises(duplex.InvalidArgument, match="a note is text"):
                async for _ in call:
                    pass


async def test_a_report_that_the_store_does_not_take_is_written_later(autojump_clock: MockClock) -> None:
    async with open_weather() as (store, weather), open_served(store) as (directory, _, endpoint):
        async with duplex.open_peer() as client:
            await client.connect(endpoint)
            async with client.service(DiscoveryService, name="discovery").register.open(
                "web", SAID, 5.0
            ) as call:
                await call.receive()
                weather.is_away = True
                for number in range(20):
                    await call.send(Report("critical", f"{number}"))
                await trio.sleep(5)
                assert states(directory) == {"a": "passing"}
                weather.is_away = False
                await trio.sleep(3)
                instance = directory.reading.view.instance("web", "a")
                assert instance is not None
                assert (instance.state, instance.note) == ("critical", "19")


async def test_who_is_deregistered_or_replaced_is_told(autojump_clock: MockClock) -> None:
    async with open_all() as (directory, remote, _):

        async def register() -> None:
            async with remote.register.open("web", SAID, 5.0) as call:
                async for _ in call:
                    pass

        async def hold(message: str) -> None:
            with pytest.raises(duplex.Aborted, match=message):
                await register()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold, "web/a: it was registered anew")
            await trio.sleep(SOON)
            nursery.start_soon(hold, "web/a: not needed")
            await trio.sleep(SOON)
            await remote.deregister("web", "a", "", "not needed")
        assert states(directory) == {}


async def test_a_registration_that_is_given_up_while_it_is_written_goes(autojump_clock: MockClock) -> None:
    async with open_weather() as (store, weather), open_served(store) as (directory, _, endpoint):
        async with duplex.open_peer() as client:
            await client.connect(endpoint)
            weather.delay = 1.0
            with trio.move_on_after(0.5):
                await client.service(DiscoveryService, name="discovery").heartbeat("web", SAID, 3.0)
            await trio.sleep(2)
            assert states(directory) == {"a": "passing"}
            await trio.sleep(8)
            assert states(directory) == {}


async def test_heartbeats(autojump_clock: MockClock) -> None:
    async with open_all() as (directory, remote, _):
        granted = await remote.heartbeat("web", SAID, 2.0)
        for _ in range(5):
            await trio.sleep(1.5)
            await remote.beat("web", "a", granted.token)
        for _ in range(5):
            await trio.sleep(1.5)
            assert await remote.heartbeat("web", SAID, 2.0) == msgspec.structs.replace(
                granted, position=directory_position(directory)
            )
        await trio.sleep(2 + SOON)
        assert states(directory) == {}
        with pytest.raises(duplex.FailedPrecondition, match="it is over"):
            await remote.beat("web", "a", granted.token)


def directory_position(directory: Directory) -> Position:
    status = directory.reading.status()
    return Position(status.origin, status.as_of)


# ------------------------------------------------------------------------------------------- the rest


async def test_lookups_and_changes(autojump_clock: MockClock) -> None:
    async with open_all() as (directory, remote, _):
        await remote.add_service("web", ServiceConfig("manual"))
        await remote.heartbeat("web", SAID, 60.0)
        await remote.heartbeat("web", Registration("b", host="h", port=1, zone="z"), 60.0)
        listing = await remote.instances("web", Filter())
        assert [(one.id, one.address) for one in listing.instances] == [("a", "10.0.0.7:7700"), ("b", "h:1")]
        assert (await remote.instances("web", Filter(zone="z"))).instances == listing.instances[1:]
        assert (await remote.instances("none", Filter())).known is False
        assert listing.status.as_of == (await remote.status()).as_of
        await remote.drain("web", "a", "new version", False)
        assert states(directory) == {"a": "draining", "b": "passing"}
        explained = await remote.explain("web", "a", Filter())
        assert (explained.listed, explained.reasons[0]) == (
            False,
            "it is draining: new version (its health is passing)",
        )
        await remote.maintain("web", "a", "", False)
        assert states(directory)["a"] == "maintenance"
        await remote.maintain("web", "a", "", True)
        await remote.report("web", "a", Report("warning", "slow"), "")
        assert states(directory)["a"] == "warning"
        await remote.set_leader("web", "b")
        leader = (await remote.leader("web")).leader
        assert leader is not None
        assert leader.id == "b"
        await remote.configure("web", ServiceConfig())
        index = await remote.set_metadata("web", {"x": None}, 0)
        info = await remote.service("web")
        assert info.metadata is not None
        assert (info.metadata.data, info.metadata.index, info.serving) == ({"x": None}, index, 2)
        overview = await remote.services()
        assert overview.services == (info,)
        assert [server.name for server in overview.servers] == [directory.info.name]
        changes = (await remote.diff(listing.status.as_of, None, "web", False)).changes
        assert {(change.kind, change.id) for change in changes} == {
            ("update", "a"),
            ("leader", "b"),
            ("config", ""),
            ("metadata", ""),
        }
        await remote.remove_service("web")
        assert (await remote.services()).services == ()


async def test_who_asks_for_much_again_and_again_holds_up_nobody_for_all_of_it() -> None:
    ended: list[str] = []
    async with open_served() as (directory, _, endpoint):
        async with trio.open_nursery() as nursery:
            for number in range(300):
                said = msgspec.structs.replace(SAID, id=f"i{number}")
                nursery.start_soon(directory.instances.heartbeat, "web", said, 600.0)
        async with duplex.open_peer() as greedy, duplex.open_peer() as modest:
            much = (await greedy.connect(endpoint)).service(DiscoveryService, name="discovery")
            little = (await modest.connect(endpoint)).service(DiscoveryService, name="discovery")

            async def ask(remote: DiscoveryService, service: str) -> None:
                found = await remote.instances(service, Filter())
                assert len(found.instances) == (300 if service == "web" else 0)
                ended.append(service)

            async with trio.open_nursery() as nursery:
                for _ in range(40):
                    nursery.start_soon(ask, much, "web")
                while not ended:
                    await trio.lowlevel.checkpoint()
                ended.clear()
                nursery.start_soon(ask, little, "other")
    assert ended.index("other") < 7


async def test_a_directory_takes_only_so_much(autojump_clock: MockClock) -> None:
    def said(id: str) -> Registration:
        return msgspec.structs.replace(SAID, id=id)

    async with open_served(max_entries=3) as (directory, _, endpoint), duplex.open_peer() as client:
        link = await client.connect(endpoint)
        remote = link.service(DiscoveryService, name="discovery")
        for id in "ab":
            await remote.heartbeat("web", said(id), 10.0)
        full = "there are 3 instances and services, and this directory takes no more: deregister what is not"
        with pytest.raises(duplex.ResourceExhausted, match=full):
            await remote.heartbeat("web", said("c"), 10.0)
        with pytest.raises(duplex.ResourceExhausted, match=full):
            async with remote.register.open("db", said("a"), 10.0) as call:
                await call.receive()
        for method, arguments in (
            ("add_service", ("db", ServiceConfig())),
            ("configure", ("db", ServiceConfig())),
        ):
            with pytest.raises(duplex.ResourceExhausted, match=full):
                await getattr(remote, method)(*arguments)
        # What is there may change, and who registers waits until there is room.
        assert await remote.set_metadata("web", {"a": 1}, 0)
        await remote.configure("web", ServiceConfig("manual"))
        await remote.heartbeat("web", msgspec.structs.replace(said("a"), weight=7), 10.0)
        async with keep_registered(client, "web", said("c")) as registered:
            await registered.answered()
            assert isinstance(registered.refusal, duplex.ResourceExhausted)
            await remote.deregister("web", "b", "", "")
            await registered.registered()
        assert states(directory).keys() == {"a"}


@pytest.mark.parametrize("most", [0, -1])
async def test_limits_that_make_no_sense(most: int) -> None:
    with pytest.raises(duplex.ConfigurationError, match="max_entries is a whole number from 1, not"):
        async with open_directory("memory:", max_entries=most):
            pass


async def test_differences_between_times(autojump_clock: MockClock) -> None:
    async with open_all() as (directory, remote, _):
        await remote.heartbeat("web", SAID, 60.0)
        at = directory.reading.view.last_changes("web", "a")[0].at
        diff = await remote.diff(at - 0.0001, at + 1e6, "", True)
        assert [change.kind for change in diff.changes] == ["up", "leader"]
        assert (diff.first, diff.last) == (0, 2)
        assert (await remote.diff(at + 1e6, None, "", True)).changes == ()
        with pytest.raises(duplex.OutOfRange, match="was before this server began"):
            await remote.diff(at - 600, None, "", True)
        for begin, end in ((3, None), (2, 1), (0, 99)):
            with pytest.raises(
                duplex.OutOfRange, match=r"is no time that has been: this server knows up to 2"
            ):
                await remote.diff(begin, end, "", False)
        for first, last in ((-1.0, None), (0.0, -5.0)):
            with pytest.raises(duplex.OutOfRange, match="is known since index 0"):
                await remote.diff(first, last, "", True)
        with pytest.raises(duplex.OutOfRange):
            await remote.diff(-1, None, "", False)
        for weight in [1, 2] * 510:
            await remote.heartbeat("web", msgspec.structs.replace(SAID, weight=weight), 60.0)
        # Of one service less is remembered than of all, and that is said.
        assert (await remote.diff(0, None, "", False)).changes
        with pytest.raises(duplex.OutOfRange, match=r"is known since index 2[0-9]$"):
            await remote.diff(0, None, "web", False)


@pytest.mark.parametrize(
    ("method", "arguments", "error", "message"),
    [
        ("heartbeat", ("Web", SAID, 5.0), duplex.InvalidArgument, "service 'Web' is no name"),
        ("heartbeat", ("web", Registration("/"), 5.0), duplex.InvalidArgument, "neither an endpoint"),
        ("heartbeat", ("web", SAID, float("nan")), duplex.InvalidArgument, "ttl is from"),
        ("heartbeat", ("web", {"id": "a", "unknown": 1}, 5.0), duplex.InvalidArgument, "unknown"),
        ("heartbeat", ("web", {"id": "a", "metadata": {"a": 1}}, 5.0), duplex.InvalidArgument, "metadata"),
        ("beat", ("web", "a", "x"), duplex.FailedPrecondition, "it is over"),
        ("deregister", ("web", "a", "", ""), duplex.NotFound, "web has no instance a"),
        ("deregister", ("web", "a", "token", ""), duplex.FailedPrecondition, "nothing was deregistered"),
        ("report", ("web", "a", {"health": "fine"}, ""), duplex.InvalidArgument, "fine"),
        ("report", ("web", "a", Report("passing"), ""), duplex.NotFound, "no instance"),
        ("drain", ("web", "a", "", False), duplex.NotFound, "no instance"),
        ("drain", ("web", "..", "", False), duplex.InvalidArgument, "is none"),
        ("instances", ("", Filter()), duplex.InvalidArgument, "is no name"),
        ("instances", ("web", {"metadata": {"a": 5}}), duplex.InvalidArgument, "metadata"),
        ("leader", ("a/b",), duplex.InvalidArgument, "is no name"),
        ("service", ("none",), duplex.NotFound, "service 'none' not found"),
        ("set_leader", ("web", "a"), duplex.FailedPrecondition, "not named by hand"),
        ("configure", ("web", {"leader_type": "youngest"}), duplex.InvalidArgument, "leader_type"),
        ("remove_service", ("none",), duplex.NotFound, "not found"),
        ("set_metadata", ("none", 1, 0), duplex.NotFound, "not found"),
        ("explain", ("web", "..", Filter()), duplex.InvalidArgument, "is none"),
        ("diff", (0, None, "Web", False), duplex.InvalidArgument, "is no name"),
        ("diff", (float("nan"), None, "web", False), duplex.InvalidArgument, "nan is neither an index"),
        ("diff", (0, float("inf"), "", True), duplex.InvalidArgument, "inf is neither an index nor a time"),
        ("diff", (-1e300, None, "", False), duplex.InvalidArgument, "is neither an index nor a time"),
    ],
)
async def test_what_is_wrong_is_told(
    method: str,
    arguments: tuple[Any, ...],
    error: type[duplex.RPCError],
    message: str,
    autojump_clock: MockClock,
) -> None:
    async with open_all() as (directory, remote, _):
        with pytest.raises(error, match=message):
            await getattr(remote, method)(*arguments)
        assert directory.reading.status().as_of == 0
        assert directory.commits == 0


async def test_a_service_that_is_there_already(autojump_clock: MockClock) -> None:
    async with open_all() as (_, remote, _):
        await remote.add_service("web", ServiceConfig())
        with pytest.raises(duplex.AlreadyExists, match="already exists"):
            await remote.add_service("web", ServiceConfig())
        await remote.set_metadata("web", 1, 0)
        with pytest.raises(duplex.FailedPrecondition, match="use index="):
            await remote.set_metadata("web", 1, 0)


@pytest.mark.parametrize("method", ["watch", "watch_leader", "register"])
async def test_streams_of_what_is_no_service(method: str, autojump_clock: MockClock) -> None:
    async with open_all() as (_, remote, _):
        arguments: dict[str, tuple[Any, ...]] = {
            "watch": ("Web", None),
            "watch_leader": ("",),
            "register": ("Web", SAID, 5.0),
        }

        async def open_it() -> None:
            async with getattr(remote, method).open(*arguments[method]) as call:
                await call.receive()

        with pytest.raises(duplex.InvalidArgument, match="is no name"):
            await open_it()


async def test_the_store_is_away(autojump_clock: MockClock) -> None:
    async with open_weather() as (store, weather), open_served(store) as (_, _, endpoint):
        async with duplex.open_peer() as client:
            await client.connect(endpoint)
            remote = client.service(DiscoveryService, name="discovery")
            await remote.heartbeat("web", SAID, 60.0)
            weather.is_away = True
            await trio.sleep(6)
            with pytest.raises(duplex.Unavailable, match="nothing changed"):
                await remote.add_service("other", ServiceConfig())
            listing = await remote.instances("web", Filter())
            assert [one.id for one in listing.instances] == ["a"]
            assert listing.status.stale
            assert listing.status.age is not None
            assert listing.status.age > 5
            assert listing.status.trouble == "nobody is there"


async def test_followers_are_told_that_what_they_know_gets_old(autojump_clock: MockClock) -> None:
    async with open_weather() as (store, weather), open_served(store) as (_, _, endpoint):
        async with duplex.open_peer() as client:
            client.connect_soon(endpoint)
            async with follow(client, "web") as web:
                news = await web.receive()
                assert news.status is not None
                assert not news.status.stale
                weather.is_away = True
                news = await web.receive()
                assert news.status is not None
                assert (news.changes, news.status.stale) == ((), True)
                weather.is_away = False
                news = await web.receive()
                assert news.status is not None
                assert (news.changes, news.status.stale) == ((), False)


async def test_watching_leaders(autojump_clock: MockClock) -> None:
    async with open_all() as (_, remote, _):
        seen: list[str | None] = []
        fences: list[int] = []

        async def watch() -> None:
            async with remote.watch_leader.open("web") as call:
                async for news in call:
                    seen.append(None if news.leader is None else news.leader.id)
                    if news.leader is not None:
                        fences.append(news.leader.fence)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await trio.sleep(SOON)
            for id in ("a", "b"):
                await remote.heartbeat("web", Registration(id, host="h", port=1), 60.0)
                await trio.sleep(SOON)
            await remote.deregister("web", "a", "", "")
            await trio.sleep(SOON)
            await remote.deregister("web", "b", "", "")
            await trio.sleep(SOON)
            nursery.cancel_scope.cancel()
        assert seen == [None, "a", "b", None]
        assert fences == sorted(set(fences))


async def test_a_watch_is_resumed_from_a_position(autojump_clock: MockClock) -> None:
    async with open_all() as (_, remote, _):
        granted = await remote.heartbeat("web", SAID, 60.0)
        await remote.heartbeat("web", Registration("b", host="h", port=1), 60.0)

        async def first(after: Position | None) -> Batch:
            async with remote.watch.open("web", after) as call:
                return await call.receive()

        batch = await first(granted.position)
        assert (batch.reset, [change.id for change in batch.changes], batch.current) == (False, ["b"], True)
        batch = await first(Position("other", 1))
        assert (batch.reset, [change.id for change in batch.changes]) == (True, ["a", "b", "a"])
        batch = await first(None)
        assert batch.reset


# ---------------------------------------------------------------------------- staying, and following


class Running:
    """A server of discovery that runs in a task, until it is ended."""

    def __init__(self, store: Any, name: str) -> None:
        self.directory: Directory
        self.endpoint = ""
        self._store = store
        self._name = name
        self._scope = trio.CancelScope()

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        with self._scope:
            async with open_served(self._store, server=self._name) as (self.directory, _, self.endpoint):
                task_status.started()
                await trio.sleep_forever()

    def end(self) -> None:
        self._scope.cancel()


async def test_staying_registered_over_servers_that_end(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    caplog.set_level(logging.INFO, "duplex")
    async with open_store("memory:") as store, duplex.open_peer() as client, trio.open_nursery() as nursery:
        first, second = Running(store, "a"), Running(store, "b")
        await nursery.start(first.run)
        client.connect_soon(first.endpoint)
        async with keep_registered(client, "web", SAID, ttl=5.0) as registered:
            await registered.registered()
            assert registered.is_registered
            assert repr(registered) == "<web/a: registered>"
            registered.report("warning", "warming up")
            await trio.sleep(SOON)
            assert states(first.directory) == {"a": "warning"}
            first.end()
            await trio.sleep(1)
            assert repr(registered) == "<web/a: not registered now>"
            await nursery.start(second.run)
            client.connect_soon(second.endpoint)
            assert states(second.directory) == {"a": "warning"}
            await trio.sleep(6)
            assert registered.grants == 2
            assert second.directory.reading.listing("web").orphans == ()
            assert states(second.directory) == {"a": "warning"}
            changes = second.directory.reading.view.last_changes("web", "a")
            assert "down" not in [change.kind for change in changes]
        assert states(second.directory) == {}
        assert registered.over.is_set()
        assert repr(registered) == "<web/a: over>"
        second.end()


async def test_who_is_deregistered_stays_so(autojump_clock: MockClock) -> None:
    async with open_served() as (directory, _, endpoint), duplex.open_peer() as client:
        client.connect_soon(endpoint)
        async with keep_registered(client, "web", SAID) as registered:
            await registered.registered()
            await directory.instances.deregister("web", "a")
            await registered.over.wait()
            assert registered.why == "web/a: deregistered"
            await trio.sleep(30)
            assert states(directory) == {}
            await registered.registered()


async def test_a_registration_that_makes_no_sense_is_an_error_of_the_block(autojump_clock: MockClock) -> None:
    async def run() -> None:
        async with open_served() as (_, _, endpoint), duplex.open_peer() as client:
            client.connect_soon(endpoint)
            async with keep_registered(client, "Web", Registration("/")):
                await trio.sleep_forever()

    with pytest.raises(duplex.InvalidArgument, match=r"service 'Web' is no name.*id '/' is none"):
        await run()


async def test_leaving_while_no_server_is_there(autojump_clock: MockClock) -> None:
    async with duplex.open_peer() as client:
        began = trio.current_time()
        async with keep_registered(client, "web", SAID) as registered:
            await trio.sleep(10)
            assert not registered.is_registered
        assert trio.current_time() - began <= 12.1


async def test_following_over_servers_that_end(autojump_clock: MockClock) -> None:
    async with open_store("memory:") as store, duplex.open_peer() as client:
        async with follow(client, "web") as web:
            told: list[tuple[str, str]] = []
            states_seen: list[bool] = []

            async def read() -> None:
                async for news in web:
                    told.extend((change.kind, change.id) for change in news.changes)
                    states_seen.append(news.status is not None)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                await trio.sleep(3)
                assert (web.is_known, web.status, web.instances) == (False, None, ())
                async with open_served(store, server="a") as (first, _, endpoint):
                    client.connect_soon(endpoint)
                    await trio.sleep(3)
                    assert web.is_known
                    await first.instances.register("web", SAID, 60.0)
                    await first.instances.register("web", Registration("b", host="h", port=1), 60.0)
                    await first.services.set_metadata("web", 1, 0)
                    await trio.sleep(SOON)
                    assert [one.id for one in web.instances] == ["a", "b"]
                    assert web.leader is not None
                    assert web.leader.id == "a"
                    assert told == [("up", "a"), ("leader", "a"), ("up", "b"), ("metadata", "")]
                    told.clear()
                await trio.sleep(1)
                # The server is gone, and nobody else is for that.
                assert web.status is None
                assert states_seen[-1] is False
                assert [one.id for one in web.instances] == ["a", "b"]
                async with open_served(store, server="b") as (second, _, endpoint):
                    await second.instances.deregister("web", "b")
                    await second.instances.set_mode("web", "a", "draining")
                    client.connect_soon(endpoint)
                    await trio.sleep(3)
                    assert web.connections == 2
                    assert sorted(told) == [("down", "b"), ("leader", ""), ("update", "a")]
                    assert [one.state for one in web.instances] == ["draining"]
                nursery.cancel_scope.cancel()


async def test_following_what_is_no_service(autojump_clock: MockClock) -> None:
    async with open_served() as (_, _, endpoint), duplex.open_peer() as client:
        client.connect_soon(endpoint)
        async with follow(client, "Web") as web:
            with pytest.raises(duplex.InvalidArgument, match="is no name"):
                await web.receive()


async def test_a_follower_that_takes_nothing_ends_with_the_state(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr("duplex_services.discovery._following._MOST_PENDING", 10)
    async with open_served() as (directory, _, endpoint), duplex.open_peer() as client:
        client.connect_soon(endpoint)
        async with follow(client) as everything:
            await trio.sleep(1)
            for number in range(40):
                await directory.instances.heartbeat("web", Registration("a", host="h", port=1, weight=number))
                await trio.sleep(0.01)
            news = await everything.receive()
            assert len(news.changes) <= 11
            assert news.current
            (instance,) = everything.instances
            assert instance.weight == 39


async def test_a_store_that_is_wiped_is_no_change_to_followers(autojump_clock: MockClock) -> None:
    server = Server()
    async with open_weather(server) as (store, _), open_served(store) as (_, _, endpoint):
        async with duplex.open_peer() as client:
            client.connect_soon(endpoint)
            async with (
                keep_registered(client, "web", SAID, ttl=5.0) as registered,
                follow(client, "web") as web,
            ):
                await registered.registered()
                await trio.sleep(1)
                await web.receive()
                server.wipe()
                await trio.sleep(15)
                news = await web.receive()
                kinds = {change.kind for change in news.changes if change.id == "a"}
                assert kinds <= {"update", "leader"}
                (instance,) = web.instances
                assert not instance.suspect
