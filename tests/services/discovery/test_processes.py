"""Real processes over real stores, killed and stopped: what users of such systems have suffered (D-1, D-5, D-7 … D-9)."""

from __future__ import annotations

import secrets
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trio

import duplex
from duplex_services.discovery._serving import open_client
from duplex_services.discovery.client import (
    Change,
    DiscoveryService,
    Filter,
    Following,
    Listing,
    Registration,
    follow,
    keep_registered,
)
from tests.machine import fail_after, within
from tests.services.discovery.served import Process, Registrants
from tests.services.servers import ConsulServers, Servers

pytestmark = pytest.mark.slow

REAL = [pytest.param(kind, marks=pytest.mark.services) for kind in ("etcd", "consul", "zookeeper")]


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    kind = request.param
    if kind == "sqlite":
        return f"sqlite:{tmp_path}/store.db"
    servers = request.getfixturevalue(kind)
    return url_of(kind, servers)


def url_of(kind: str, servers: Servers) -> str:
    options = "?session=4" if kind == "zookeeper" else ""
    return f"{kind}://{servers.hosts}/processes-{secrets.token_hex(4)}{options}"


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    """Where the server is, also after it was started again."""
    return f"ipc://{tmp_path}/discovery.sock"


@contextmanager
def serving(store: str, endpoint: str, name: str = "here") -> Iterator[Process]:
    with Process("serve", store, endpoint, name) as server:
        yield server


class Log:
    """What a follower was told."""

    def __init__(self, following: Following) -> None:
        self.following = following
        self.changes: list[Change] = []

    async def read(self) -> None:
        async for news in self.following:
            self.changes += news.changes

    def ids(self, kind: str) -> list[str]:
        return sorted(change.id for change in self.changes if change.kind == kind)

    async def tells(self, kind: str, ids: list[str]) -> None:
        """Wait for exactly these: a follower and who asks are told one after the other."""
        with fail_after(10):
            while self.ids(kind) != ids:
                await trio.sleep(0.02)  # what other processes do has no clock of ours


@asynccontextmanager
async def following(endpoint: str, service: str) -> AsyncIterator[tuple[DiscoveryService, Log]]:
    async with open_client(endpoint) as peer, follow(peer, service) as web, trio.open_nursery() as nursery:
        log = Log(web)
        nursery.start_soon(log.read)
        yield peer.service(DiscoveryService, name="discovery"), log
        nursery.cancel_scope.cancel()


async def look_up(remote: DiscoveryService, service: str) -> Listing:
    """Ask until somebody answers."""
    with fail_after(30):
        while True:
            try:
                return await remote.instances.with_options(timeout=5)(service, Filter())
            except duplex.RPCError:
                await trio.sleep(0.02)  # a server that starts tells nobody when it is there


async def until_there(remote: DiscoveryService, service: str, ids: set[str], seconds: float) -> None:
    """Ask until exactly these are there."""
    with fail_after(seconds):
        while {one.id for one in (await look_up(remote, service)).instances} != ids:
            await trio.sleep(0.05)  # what other processes do has no clock of ours


@pytest.mark.parametrize("store", ["sqlite", *REAL], indirect=True)
async def test_the_dead_go_and_the_living_stay_over_a_crash_of_all(store: str, endpoint: str) -> None:
    # D-1: 43 of 50 registrants and discovery are killed in the same instant; discovery starts again five seconds later.
    ttl = 2.0
    with serving(store, endpoint) as first, Registrants(endpoint, "pg", ttl, 50) as registrants:
        first.line()
        every = set(registrants.pids)
        async with following(endpoint, "pg") as (remote, log):
            await until_there(remote, "pg", every, 60)
            with fail_after(30):
                while log.ids("up") != sorted(every):
                    await trio.sleep(0.05)  # the follower is told over a socket
            dead = [f"i{number}" for number in range(43)]
            registrants.kill(*dead)
            first.kill()
            await trio.sleep(5)  # the case says so
            with serving(store, endpoint) as second:
                second.line()
                began = trio.current_time()
                living = set(registrants.pids)
                found = {one.id for one in (await look_up(remote, "pg")).instances}
                assert living <= found
                while found != living:
                    found = {one.id for one in (await look_up(remote, "pg")).instances}
                    assert living <= found
                    assert trio.current_time() - began < within(2 * ttl + 1)
                    await trio.sleep(0.05)  # what other processes do has no clock of ours
                with fail_after(10):
                    while len(log.ids("down")) < len(dead):
                        await trio.sleep(0.05)  # the follower is told over a socket
                await trio.sleep(1)  # nothing more is to come
                assert log.ids("down") == sorted(dead)
                assert (await look_up(remote, "pg")).orphans == ()


async def test_a_registrant_that_is_killed_goes_after_its_ttl(endpoint: str, tmp_path: Path) -> None:
    with serving(f"sqlite:{tmp_path}/db", endpoint), Registrants(endpoint, "web", 1.0, 3) as registrants:
        async with following(endpoint, "web") as (remote, log):
            await until_there(remote, "web", {"i0", "i1", "i2"}, 30)
            registrants.kill("i1")
            killed = trio.current_time()
            await until_there(remote, "web", {"i0", "i2"}, 10)
            assert trio.current_time() - killed >= 0.9
            await log.tells("down", ["i1"])


async def test_a_server_that_is_stopped_for_a_while_blames_nobody(endpoint: str, tmp_path: Path) -> None:
    with (
        serving(f"sqlite:{tmp_path}/db", endpoint) as server,
        Registrants(endpoint, "web", 1.0, 5) as registrants,
    ):
        async with following(endpoint, "web") as (remote, log):
            await until_there(remote, "web", set(registrants.pids), 30)
            server.signal(signal.SIGSTOP)
            await trio.sleep(6)  # longer than every TTL and keepalive
            server.signal(signal.SIGCONT)
            await until_there(remote, "web", set(registrants.pids), 10)
            await trio.sleep(3)  # who was to be forgotten would be by now
            assert {one.id for one in (await look_up(remote, "web")).instances} == set(registrants.pids)
            assert log.ids("down") == []


@pytest.mark.services
async def test_an_index_that_goes_backwards(endpoint: str) -> None:
    # D-5: a Consul agent is replaced by a fresh one, which has one of three instances.
    with ConsulServers(dev=True) as servers:
        url = url_of("consul", servers)
        with serving(url, endpoint) as server, Registrants(endpoint, "other", 2.0, 2) as living:
            server.line()
            async with following(endpoint, "") as (remote, log):
                said = {id: Registration(id, host="127.0.0.1", port=80) for id in "abc"}
                await until_there(remote, "other", set(living.pids), 30)
                # As long as a busy machine may take until the agent is gone.
                ttl = within(2)
                for id in "abc":
                    await remote.heartbeat("web", said[id], ttl)
                await until_there(remote, "web", set("abc"), 10)
                servers.restart(wipe=True)
                await trio.to_thread.run_sync(servers.wait_ready)
                began = trio.current_time()
                # One is there again; the two others are silent.
                while True:
                    try:
                        await remote.heartbeat("web", said["b"], 600.0)
                        break
                    except duplex.Unavailable:
                        await trio.sleep(0.1)  # discovery has not found it yet
                with trio.fail_after(within(30) + 2 * ttl):
                    await until_there(remote, "web", {"b"}, 600)
                with fail_after(5):
                    while log.ids("down") != ["a", "c"]:
                        await trio.sleep(0.05)  # the follower is told over a socket
                # Those who live were there all the time, and one that came back was not new.
                assert log.ids("down") == ["a", "c"]
                assert log.ids("up") == sorted(["a", "b", "c", *living.pids])
                await until_there(remote, "other", set(living.pids), 10)
                assert trio.current_time() - began < within(30) + 2 * ttl


@pytest.mark.services
async def test_what_was_deregistered_does_not_come_back(endpoint: str) -> None:
    # D-7, of Consul's key-value store: its restart brings nothing back.
    with ConsulServers() as servers:
        with serving(url_of("consul", servers), endpoint) as server:
            server.line()
            async with following(endpoint, "web") as (remote, log):
                for id in ("a", "b"):
                    await remote.heartbeat("web", Registration(id, host="127.0.0.1", port=80), 600.0)
                await remote.deregister("web", "a", "", "")
                servers.restart()
                await trio.to_thread.run_sync(servers.wait_ready)
                with fail_after(60):
                    while True:
                        with trio.move_on_after(10):
                            try:
                                await remote.heartbeat(
                                    "web", Registration("c", host="127.0.0.1", port=80), 600.0
                                )
                                break
                            except duplex.Unavailable:
                                await trio.sleep(0.1)  # discovery has not found it yet
                await until_there(remote, "web", {"b", "c"}, 10)
                await log.tells("down", ["a"])


async def test_a_busy_service_wakes_nobody_else(endpoint: str, tmp_path: Path) -> None:
    # D-8: watchers of something quiet, and of nothing, while something else changes all the time.
    with serving(f"sqlite:{tmp_path}/db", endpoint) as server:
        server.line()
        async with open_client(endpoint) as peer, trio.open_nursery() as nursery:
            remote = peer.service(DiscoveryService, name="discovery")
            await remote.heartbeat("quiet", Registration("q", host="127.0.0.1", port=80), 600.0)
            messages: list[str] = []
            first: list[float] = []
            opened = 0

            async def watch(service: str) -> None:
                nonlocal opened
                async with remote.watch.open(service, None) as call:
                    await call.receive()
                    opened += 1
                    async for _ in call:
                        messages.append(service)
                        first.append(trio.current_time())

            for number in range(600):
                nursery.start_soon(watch, "no-such-service" if number % 6 == 0 else "quiet")
            with fail_after(30):
                while opened < 600:
                    await trio.sleep(0.05)  # they open over a socket
            changes = 0
            with trio.move_on_after(5):
                while True:
                    said = Registration("b", host="127.0.0.1", port=80, weight=changes % 60_000)
                    await remote.heartbeat("busy", said, 600.0)
                    changes += 1
            assert changes > 100
            assert messages == []
            came = trio.current_time()
            await remote.heartbeat("no-such-service", Registration("n", host="127.0.0.1", port=80), 600.0)
            with fail_after(10):
                while messages.count("no-such-service") < 100:
                    await trio.sleep(0.02)  # they are told over a socket
            assert max(first[:100]) - came < within(0.5)
            nursery.cancel_scope.cancel()


async def test_slow_watchers(endpoint: str, tmp_path: Path) -> None:
    # D-9: those who read nothing during 5 000 changes end with the same state as a fast one, and cost little.
    stalled = 10
    with serving(f"sqlite:{tmp_path}/db", endpoint) as server:
        server.line()
        async with following(endpoint, "web") as (remote, log), AsyncExitStack() as stack:

            async def change(number: int, mark: str) -> None:
                for step in range(250):
                    said = Registration(
                        f"i{number}", host="127.0.0.1", port=80, metadata={"step": f"{mark}{step}" * 50}
                    )
                    await remote.heartbeat("web", said, 600.0)

            async def change_all(mark: str) -> None:
                async with trio.open_nursery() as nursery:
                    for number in range(20):
                        nursery.start_soon(change, number, mark)

            # So much is remembered anyway.
            await change_all("a")
            before = memory_of(server.pid)
            calls = []
            for _ in range(stalled):
                peer = await stack.enter_async_context(open_client(endpoint))
                slow = peer.service(DiscoveryService, name="discovery")
                calls.append(await stack.enter_async_context(slow.watch.open("web", None)))
                await calls[-1].receive()
            await change_all("b")
            await trio.sleep(1)  # until what was written was told
            grown = memory_of(server.pid) - before
            last = "b249" * 50
            for call in calls:
                state: dict[str, str] = {}
                with fail_after(30):
                    while set(state.values()) != {last} or len(state) < 20:
                        batch = await call.receive()
                        if batch.reset:
                            state.clear()
                        for item in batch.changes:
                            if item.instance is not None:
                                state[item.id] = item.instance.metadata["step"]
                assert {one.id: one.metadata["step"] for one in log.following.instances} == state
            assert grown / stalled < 1_048_576


def memory_of(pid: int) -> int:
    """Resident bytes of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096


async def test_two_servers_and_a_registrant_that_goes_to_the_other(tmp_path: Path) -> None:
    ends = [f"ipc://{tmp_path}/{name}.sock" for name in "ab"]
    socket = f"ipc://{tmp_path}/store.sock"
    command = Process("store", f"sqlite:{tmp_path}/db", socket)
    with (
        command,
        serving(f"duplex+{socket}", ends[0], "a") as first,
        serving(f"duplex+{socket}", ends[1], "b") as second,
    ):
        first.line()
        second.line()
        async with open_client(*ends) as peer, following(ends[1], "web") as (remote, log):
            said = Registration("x", host="127.0.0.1", port=80)
            async with keep_registered(peer, "web", said, ttl=3.0) as registered:
                with fail_after(20):
                    await registered.registered()
                await until_there(remote, "web", {"x"}, 10)
                explained = await remote.explain("web", "x", Filter())
                (first if explained.server == "a" else second).kill()
                with fail_after(20):
                    while registered.grants < 2:
                        await trio.sleep(0.05)  # it comes to the other over a socket
                if explained.server == "a":
                    await trio.sleep(8)  # what is swept is swept by then
                    assert {one.id for one in (await look_up(remote, "web")).instances} == {"x"}
                    assert log.ids("down") == []
