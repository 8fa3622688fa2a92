"""What is special about ZooKeeper: sessions, kazoo's threads, rights to nodes, strangers."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio
from kazoo.client import KazooClient
from kazoo.security import make_acl, make_digest_acl

import duplex
from duplex_services.store import Denied, Unavailable, last_writer_wins, missing, open_store
from duplex_services.store._backend import Changes, Listing
from duplex_services.store._backends._zookeeper import ZooKeeperBackend, open_backend
from duplex_services.store._model import Commit
from duplex_services.store._url import parse_url
from duplex_services.store.testing import Faults
from tests.machine import fail_after, within
from tests.services.servers import Certificates, ZooKeeperServers, paused
from tests.services.store.servers_checked import BY_FAULT, check

pytestmark = [pytest.mark.services, pytest.mark.slow]

OPTIONS = "session=4"


@contextlib.asynccontextmanager
async def backend_at(url: str) -> AsyncIterator[ZooKeeperBackend]:
    with fail_after(30):
        async with open_backend(parse_url(url)) as backend:
            yield backend


@contextlib.contextmanager
def kazoo(servers: ZooKeeperServers, **words: object) -> Iterator[KazooClient]:
    """A client of kazoo's own, whose calls block."""
    client = KazooClient(servers.hosts, **words)
    client.start()
    try:
        yield client
    finally:
        client.stop()
        client.close()


# -------------------------------------------------------------------------------------------- who may


class Guarded:
    """A root that belongs to ``duplex``, and whose head somebody can take away."""

    def __init__(self, servers: ZooKeeperServers) -> None:
        self.servers = servers
        self.url = f"zookeeper://duplex:secret@{servers.hosts}/guarded?{OPTIONS}"

    @contextlib.asynccontextmanager
    async def deny(self) -> AsyncIterator[None]:
        admin = make_digest_acl("admin", "admin", all=True)
        mine = make_digest_acl("duplex", "secret", all=True)
        who = [("digest", "duplex:secret"), ("digest", "admin:admin")]
        with kazoo(self.servers, auth_data=who) as client:
            client.set_acls("/guarded/rev", [admin])
            try:
                yield
            finally:
                client.set_acls("/guarded/rev", [mine])


@pytest.fixture
def guarded(zookeeper: ZooKeeperServers) -> Guarded:
    return Guarded(zookeeper)


@pytest.mark.parametrize("name", ["basic", "conflict", "watch", "lease", "history"])
async def test_check_with_a_password(name: str, guarded: Guarded) -> None:
    await check(name, guarded.url)


@pytest.mark.parametrize("name", BY_FAULT["deny"])
async def test_check_without_rights(name: str, guarded: Guarded) -> None:
    await check(name, guarded.url, faults=Faults(deny=guarded.deny))


@pytest.mark.parametrize("who", ["", "duplex:wrong@", "other:secret@"])
async def test_who_is_not_known_is_denied(who: str, guarded: Guarded) -> None:
    async with open_store(guarded.url):
        pass  # so that it belongs to somebody
    with pytest.raises(Denied, match="NoAuthError") as denied:
        async with open_store(f"zookeeper://{who}{guarded.servers.hosts}/guarded?{OPTIONS}"):
            pass
    assert "secret" not in str(denied.value)


async def test_one_node_that_may_not_be_read(guarded: Guarded) -> None:
    async with open_store(guarded.url) as store:
        await store.commit({"hidden": b""}, when=last_writer_wins)
        with kazoo(guarded.servers, auth_data=[("digest", "duplex:secret")]) as client:
            client.set_acls("/guarded/k/hidden", [make_acl("world", "anyone", admin=True)])
            try:
                with pytest.raises(Denied):
                    async with open_store(guarded.url):
                        pass
            finally:
                client.set_acls("/guarded/k/hidden", [make_acl("world", "anyone", all=True)])
        await store.commit(deletes=["hidden"], when=last_writer_wins)


async def test_password_in_a_file(guarded: Guarded, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    url = f"zookeeper://duplex@{guarded.servers.hosts}/guarded?{OPTIONS}&password-file={tmp_path}/password"
    await check("basic", url)


# ------------------------------------------------------------------------------------------------ TLS


@pytest.fixture(scope="module")
def secured(certificates: Certificates) -> Iterator[str]:
    with ZooKeeperServers(certificates=certificates) as servers:
        yield f"127.0.0.1:{servers.secure_ports[0]}"


@pytest.mark.parametrize("name", ["basic", "group", "watch", "lease"])
async def test_check_over_tls(name: str, secured: str, certificates: Certificates) -> None:
    options = f"ca={certificates.authority}&cert={certificates.client}&{OPTIONS}"
    await check(name, f"zookeeper://{secured}/checked?{options}")


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
async def test_client_that_proves_nothing(secured: str, certificates: Certificates) -> None:
    with pytest.raises(Unavailable, match="no connection"):
        async with open_store(f"zookeeper://{secured}/checked?ca={certificates.authority}", patience=1):
            pass
    # kazoo leaves the sockets of handshakes that failed to the garbage collector.
    gc.collect()


async def test_first_endpoint_is_dead(zookeeper: ZooKeeperServers) -> None:
    for name in ("basic", "watch", "lease"):
        await check(name, f"zookeeper://127.0.0.1:1,{zookeeper.hosts}/checked?{OPTIONS}")


async def test_no_endpoint_answers() -> None:
    with pytest.raises(Unavailable, match="there is no connection"):
        async with open_store("zookeeper://127.0.0.1:1/checked"):
            pass


# --------------------------------------------------------------------------------------- how it is kept


async def test_many_keys_are_read_as_of_one_moment(zookeeper: ZooKeeperServers) -> None:
    url = f"zookeeper://{zookeeper.hosts}/many"
    async with backend_at(url) as backend:
        for start in range(0, 1200, 300):
            keys = range(start, start + 300)
            outcomes = await backend.commit([Commit({f"k/{number}": b"v"}) for number in keys])
            assert all(isinstance(outcome, int) for outcome in outcomes)
        async with backend_at(url) as other, trio.open_nursery() as nursery:

            async def change() -> None:
                for number in range(30):
                    await backend.commit([Commit({f"k/{number}": b"w"}, deletes=(f"k/{1199 - number}",))])

            nursery.start_soon(change)
            listing = await other.list("k/")
            values = {entry.key: entry.value for entry in listing.entries}
            changed = sum(value == b"w" for value in values.values())
            assert len(values) == 1200 - changed, "each commit changed one and deleted another"
            assert all(entry.modified <= listing.revision for entry in listing.entries)


async def test_groups_are_as_large_as_zookeeper_takes(zookeeper: ZooKeeperServers) -> None:
    async with backend_at(f"zookeeper://{zookeeper.hosts}/large") as backend:
        commits = [Commit({f"k{number}": bytes(250_000)}) for number in range(backend.group_limit)]
        outcomes = await backend.commit(commits)
        assert all(isinstance(outcome, int) for outcome in outcomes)
        full = [
            Commit({f"{number}/{'x' * 190}{key:03}": b"" for key in range(30)})
            for number in range(backend.group_limit)
        ]
        outcomes = await backend.commit(full)
        assert all(isinstance(outcome, int) for outcome in outcomes)
        assert len((await backend.list("")).entries) == 31 * backend.group_limit


async def test_follower_that_is_far_behind_reads_everything(zookeeper: ZooKeeperServers) -> None:
    url = f"zookeeper://{zookeeper.hosts}/behind"
    async with backend_at(url) as backend, backend_at(url) as other:
        await backend.commit([Commit({"a": b""})])
        since = await other.list("")
        for number in range(200):
            await backend.commit([Commit({f"b{number % 20}": b"%d" % number})])
        heard: list[Changes | Listing] = []
        await other.follow(since, heard.append)
        assert heard == []
        assert {*(await other.list("")).entries} == {*(await backend.list("")).entries}


async def test_strangers_are_told_apart(zookeeper: ZooKeeperServers) -> None:
    with kazoo(zookeeper) as client:
        client.create("/strange/rev", b"hello", makepath=True)
        async with backend_at(f"zookeeper://{zookeeper.hosts}/strange") as backend:
            with pytest.raises(Unavailable, match="/strange/rev is not a store's"):
                await backend.get("a")


async def test_keys_are_nodes(zookeeper: ZooKeeperServers) -> None:
    async with open_store(f"zookeeper://{zookeeper.hosts}/nodes/of/mine") as store:
        revision = await store.commit({"a/b": b"value"}, when=[missing("a/b")])
        with kazoo(zookeeper) as client:
            data, _ = client.get("/nodes/of/mine/k/a%2Fb")
            assert data == b"[null,%d,%d]\nvalue" % (revision, revision)
            assert set(client.get_children("/nodes/of/mine")) == {"k", "l", "rev"}


# --------------------------------------------------------------------------------------------- sessions


async def test_leases_have_the_time_of_the_session(zookeeper: ZooKeeperServers) -> None:
    """The server gives what it has; ours is shorter, as it counts from when a beat was sent."""
    for wish, agreed in (("0.2", 1.0), ("3", 3.0), ("60", 10.0)):
        async with backend_at(f"zookeeper://{zookeeper.hosts}/sessions?session={wish}") as backend:
            grant = await backend.grant(5)
            assert grant.ttl == pytest.approx(0.75 * agreed)
            assert grant.gone_within == pytest.approx(2 * agreed + 5)


async def test_keys_of_a_session_that_is_lost_are_deleted_by_another_store(
    zookeeper: ZooKeeperServers,
) -> None:
    url = f"zookeeper://{zookeeper.hosts}/swept?{OPTIONS}"
    async with open_store(url) as other, other.watch("") as watch:
        async with backend_at(url) as backend:
            grant = await backend.grant(2)
            keys = {f"k{number}": b"" for number in range(40)}
            await backend.commit([Commit(keys, lease=grant.id), Commit({"kept": b""}), Commit({"k0": b"!"})])
        there: set[str] = set()
        with fail_after(10):
            while there != {"kept", "k0"}:
                update = await watch.receive()
                there |= {entry.key for entry in update.puts}
                there -= {*update.deletes}


async def test_lease_that_nobody_beats_for_ends_though_the_session_lives(zookeeper: ZooKeeperServers) -> None:
    async with backend_at(f"zookeeper://{zookeeper.hosts}/unbeaten?session=1") as backend:
        first, second = await backend.grant(1), await backend.grant(1)
        await backend.commit([Commit({"a": b""}, lease=first.id), Commit({"b": b""}, lease=second.id)])
        for _ in range(10):
            await trio.sleep(0.2)  # the server counts in its own time
            await backend.beat(first.id)
        while len((await backend.list("")).entries) == 2:
            await trio.sleep(0.05)  # nobody tells
            await backend.beat(first.id)
        assert [entry.key for entry in (await backend.list("")).entries] == ["a"]


async def test_process_that_does_nothing_any_more_loses_its_leases(zookeeper: ZooKeeperServers) -> None:
    """kazoo's threads live on, and would keep the session for ever."""
    with kazoo(zookeeper) as client:
        async with backend_at(f"zookeeper://{zookeeper.hosts}/hung?session=1") as backend:
            grant = await backend.grant(1)
            path = f"/hung/l/{grant.id}"
            assert client.exists(path)
            until = time.monotonic() + within(grant.gone_within)
            while client.exists(path):
                assert time.monotonic() < until
                time.sleep(0.1)  # this is the fault: trio's loop stands still
        # It comes back, in another session.
        async with backend_at(f"zookeeper://{zookeeper.hosts}/hung?session=1") as backend:
            assert await backend.get("a") is None


async def test_session_that_cannot_come_back_is_replaced() -> None:
    """A server that was wiped refuses who has seen what it has not."""
    with ZooKeeperServers() as servers:
        async with backend_at(f"zookeeper://{servers.hosts}/wiped?session=1") as backend:
            for number in range(20):
                await backend.commit([Commit({"a": b"%d" % number})])
            first = backend._session._client
            revision = (await backend.list("")).revision
            servers.restart(wipe=True)
            await trio.to_thread.run_sync(servers.wait_ready)
            while True:
                try:
                    listing = await backend.list("")
                    break
                except Unavailable:
                    continue
            assert listing.entries == ()
            assert listing.sentinel is None
            assert listing.revision > revision, "revisions of the old store mean nothing here"
            assert backend._session._client is not first
            assert isinstance((await backend.commit([Commit({"a": b""})]))[0], int)


async def test_store_is_closed_while_nobody_answers() -> None:
    with ZooKeeperServers() as servers:
        async with backend_at(f"zookeeper://{servers.hosts}/stopped?session=1") as backend:
            await backend.get("a")
            with paused(servers.nodes[0]):
                began = trio.current_time()
                with pytest.raises(Unavailable):
                    await backend.get("a")
                with pytest.raises(Unavailable):
                    await backend.beat("none")
                with pytest.raises(Unavailable):
                    await backend.revoke("none")
                with pytest.raises(Unavailable):
                    await backend.grant(1)
                assert trio.current_time() - began < within(20)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("zookeeper://h/x?ttl=5", "no option 'ttl'"),
        ("zookeeper:///x", "has no host"),
        ("zookeeper://h/x?session=long", "session=long"),
        ("zookeeper://h/x?session=-1", "session=-1"),
        ("zookeeper://h/x?session=nan", "session=nan"),
        ("zookeeper://user@h/x", "a user or a password, and not both"),
        ("zookeeper://:secret@h/x", "a user or a password, and not both"),
        ("zookeeper://h/x?ca=/none/ca.pem", "ca=/none/ca.pem"),
    ],
)
async def test_url_that_makes_no_sense(url: str, why: str) -> None:
    with pytest.raises(duplex.ConfigurationError, match=why):
        async with open_store(url):
            pass
