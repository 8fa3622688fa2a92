"""Three nodes of each kind, whose leader stalls and whose next leader is killed: nobody who lives goes missing (D-2)."""

from __future__ import annotations

import contextlib
import secrets

import pytest
import trio

import duplex
from duplex_services.discovery import open_directory, open_server
from duplex_services.discovery.client import (
    Change,
    DiscoveryService,
    Filter,
    Registration,
    Report,
    follow,
    open_client,
)
from tests.machine import crowding, fail_after, within
from tests.services.servers import (
    ConsulServers,
    EtcdServers,
    Servers,
    ZooKeeperServers,
    loopback,
    paused,
)
from tests.sizes import LONG

pytestmark = [pytest.mark.slow, pytest.mark.services, pytest.mark.timeout(480)]

KINDS: dict[str, tuple[type[Servers], str]] = {
    "etcd": (EtcdServers, ""),
    "consul": (ConsulServers, ""),
    "zookeeper": (ZooKeeperServers, "?session=10"),
}
INSTANCES = 200
#: Seconds that an instance lives without a heartbeat, on a quiet machine.
TTL = 5.0
#: TTLs for which the leader is stopped.
STOPPED = 2.4 if LONG else 1.2


class Observers:
    """Callers who look up all the time, and a follower; and what they saw."""

    def __init__(self, remote: DiscoveryService) -> None:
        self._remote = remote
        self.lookups = 0
        self.stale = 0
        self.oldest = 0.0
        self.missing: list[set[str]] = []
        self.changes: list[Change] = []

    async def look_up(self, expected: set[str]) -> None:
        while True:
            listing = await self._remote.instances("web", Filter())
            self.lookups += 1
            self.stale += listing.status.stale
            self.oldest = max(self.oldest, listing.status.age or 0.0)
            if lost := expected - {one.id for one in listing.instances}:
                self.missing.append(lost)
            await trio.sleep(0.1)  # the case's pace

    async def beat(self, said: Registration, ttl: float) -> None:
        token = (await self._remote.heartbeat("web", said, ttl)).token
        while True:
            await trio.sleep(ttl / 3)  # a heartbeat's pace
            await self._remote.beat("web", said.id, token)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_store_s_leader_stalls_and_the_next_one_is_killed(kind: str, tmp_path: object) -> None:
    servers_class, options = KINDS[kind]
    ttl = TTL * min(crowding(), 3.0)
    with servers_class(loopback(3, peer_ports=servers_class.PEER_PORTS)) as servers:
        url = f"{kind}://{servers.hosts}/stall-{secrets.token_hex(4)}{options}"
        async with (
            open_directory(url, server="a") as directory,
            open_server(directory, [f"ipc://{tmp_path}/a.sock"]) as (_, (endpoint,)),
            open_client(endpoint) as peer,
            follow(peer, "web") as web,
            trio.open_nursery() as nursery,
        ):
            remote = peer.service(DiscoveryService, name="discovery")
            seen = Observers(remote)
            said = [Registration(f"i{number}", host="127.0.0.1", port=80) for number in range(INSTANCES)]
            for one in said:
                nursery.start_soon(seen.beat, one, ttl)
            with fail_after(30):
                while len(web.instances) < INSTANCES:
                    await web.receive()
            leader = directory.reading.leader("web")

            async def read() -> None:
                async for news in web:
                    seen.changes += news.changes

            nursery.start_soon(read)
            for _ in range(10):
                nursery.start_soon(seen.look_up, {one.id for one in said})
            stalled = await trio.to_thread.run_sync(servers.leader)
            with paused(stalled):
                await trio.sleep(STOPPED * ttl)  # longer than every TTL
            await until_written(remote)
            killed = await trio.to_thread.run_sync(servers.leader)
            killed.kill()
            await trio.sleep(3)  # an election takes real time
            await until_written(remote)
            await trio.sleep(2 * ttl)  # who was to be given up would be by now
            assert directory.reading.listing("web").orphans == ()
            assert directory.reading.leader("web") == leader
            nursery.cancel_scope.cancel()
        assert [
            (change.kind, change.id, change.why) for change in seen.changes if change.kind in ("up", "down")
        ] == []
        assert seen.missing == []
        assert seen.lookups > 100


async def until_written(remote: DiscoveryService) -> None:
    """Wait until the store takes changes again."""
    with trio.fail_after(within(30)):
        while True:
            with contextlib.suppress(duplex.Unavailable):
                await remote.report("web", "i0", Report("warning", secrets.token_hex(4)), "")
                await remote.report("web", "i0", Report("passing"), "")
                return
