"""What is special about etcd: who may, compaction, watches that end with a reason, several endpoints, odd answers."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

import duplex
from duplex_services.store import (
    Denied,
    LeaseLost,
    OpenError,
    Refused,
    Unavailable,
    Unknown,
    last_writer_wins,
    missing,
    open_store,
)
from duplex_services.store._backend import Backend, Changes, Listing
from duplex_services.store._backends._etcd import open_backend
from duplex_services.store._model import Commit
from duplex_services.store._url import parse_url
from duplex_services.store.testing import Faults
from tests.machine import fail_after
from tests.services.scripted import answering, read_request, said, served
from tests.services.servers import Certificates, EtcdServers
from tests.services.store.servers_checked import BY_FAULT, check, faults_of

pytestmark = [pytest.mark.services, pytest.mark.slow]


def text(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


@contextlib.asynccontextmanager
async def backend_at(url: str) -> AsyncIterator[Backend]:
    with fail_after(30):
        async with open_backend(parse_url(url)) as backend:
            yield backend


class Guarded:
    """An etcd that wants to know who asks: ``root`` may all, ``duplex`` what is below ``checked/``."""

    def __init__(self, servers: EtcdServers) -> None:
        self.servers = servers
        self.url = f"etcd://duplex:secret@{servers.hosts}/checked"
        self.permission = {"permType": "READWRITE", "key": text("checked/"), "range_end": text("checked0")}
        for user, password in (("root", "all"), ("duplex", "secret")):
            self.ask("/v3/auth/user/add", name=user, password=password)
            self.ask("/v3/auth/role/add", name=user)
            self.ask("/v3/auth/user/grant", user=user, role=user)
        self.allow()
        self.ask("/v3/auth/enable")

    def ask(self, path: str, token: str = "", **body: Any) -> Any:
        headers = {"Authorization": token} if token else {}
        return self.servers.ask(self.servers.nodes[0], path, body, **headers)

    def as_root(self, path: str, **body: Any) -> None:
        self.ask(path, self.ask("/v3/auth/authenticate", name="root", password="all")["token"], **body)

    def allow(self, token: str = "") -> None:
        self.ask("/v3/auth/role/grant", token, name="duplex", perm=self.permission)

    @contextlib.asynccontextmanager
    async def deny(self) -> AsyncIterator[None]:
        keys = {"key": self.permission["key"], "range_end": self.permission["range_end"]}
        self.as_root("/v3/auth/role/revoke", role="duplex", **keys)
        yield
        self.as_root("/v3/auth/role/grant", name="duplex", perm=self.permission)


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    with EtcdServers() as servers:
        yield Guarded(servers)


# ------------------------------------------------------------------------------------------- who may


@pytest.mark.parametrize("name", ["basic", "conflict", "watch", "lease", "history"])
async def test_check_with_a_password(name: str, guarded: Guarded) -> None:
    await check(name, guarded.url)


@pytest.mark.parametrize("name", BY_FAULT["deny"])
async def test_check_without_rights(name: str, guarded: Guarded) -> None:
    await check(name, guarded.url, faults=Faults(deny=guarded.deny))


async def test_restart_forgets_who_we_are_and_is_told_again(guarded: Guarded) -> None:
    await check("restart_keeps", guarded.url, faults=faults_of(guarded.servers))


async def test_token_of_nobody_is_renewed_under_a_watch_and_a_commit(guarded: Guarded) -> None:
    """Tokens live for some minutes; then every call fails, and streams that were opened before go on."""
    async with open_store(guarded.url) as store, store.watch("renewed/") as watch:
        await watch.receive()
        backend = store._backend
        backend._login._headers = [("Authorization", "expired")]  # type: ignore[attr-defined]
        modified = await store.commit({"renewed/a": b"1"}, when=[missing("renewed/a")])
        assert (await watch.receive()).revision == modified
        backend._login._headers = [("Authorization", "expired")]  # type: ignore[attr-defined]
        assert await store.get("renewed/a") is not None
        await store.commit(deletes=["renewed/a"], when=last_writer_wins)


async def test_watch_with_a_token_of_nobody_asks_for_another(guarded: Guarded) -> None:
    async with backend_at(guarded.url) as backend:
        since = await backend.list("")
        backend._login._headers = [("Authorization", "expired")]  # type: ignore[attr-defined]
        with pytest.raises(Unavailable, match="forgotten who we are"):
            await backend.follow(since, lambda news: None)
        async with trio.open_nursery() as nursery:
            heard: list[Changes | Listing] = []
            nursery.start_soon(backend.follow, since, heard.append)
            await backend.commit([Commit({"b": b""})])
            while not heard:
                await trio.sleep(0.01)  # etcd says when
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("who", "why"),
    [
        ("duplex:wrong@", "authentication failed"),
        ("nobody:x@", "authentication failed"),
        ("", "user name is empty"),
    ],
)
async def test_who_is_not_known_is_denied(who: str, why: str, guarded: Guarded) -> None:
    with pytest.raises(Denied, match=why):
        async with open_store(f"etcd://{who}{guarded.servers.hosts}/checked"):
            pass


async def test_other_prefix_is_denied(guarded: Guarded) -> None:
    url = f"etcd://duplex:secret@{guarded.servers.hosts}/other"
    with pytest.raises(Denied, match="permission denied") as denied:
        async with open_store(url):
            pass
    assert "secret" not in str(denied.value)
    async with backend_at(url) as backend:
        with pytest.raises(Denied):
            await backend.follow(Listing((), 0, None), lambda news: None)
        assert backend.group_limit == 1
        (outcome,) = await backend.commit([Commit({"a": b""})])
        assert isinstance(outcome, Denied)


async def test_password_in_a_file(guarded: Guarded, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    await check("basic", f"etcd://duplex@{guarded.servers.hosts}/checked?password-file={tmp_path}/password")


async def test_password_that_nobody_asks_for(etcd: EtcdServers) -> None:
    await check("basic", f"etcd://duplex:secret@{etcd.hosts}/checked")


# --------------------------------------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def secured(certificates: Certificates) -> Iterator[EtcdServers]:
    with EtcdServers(certificates=certificates) as servers:
        yield servers


@pytest.mark.parametrize("name", ["basic", "watch", "lease"])
async def test_check_over_tls(name: str, secured: EtcdServers, certificates: Certificates) -> None:
    await check(
        name, f"etcd://{secured.hosts}/checked?ca={certificates.authority}&cert={certificates.client}"
    )


@pytest.mark.parametrize("options", ["", "?tls=true", "?ca={authority}"])
async def test_server_or_client_that_proves_nothing(
    options: str, secured: EtcdServers, certificates: Certificates
) -> None:
    """Plain HTTP, an authority that nobody knows, no certificate of the client's."""
    url = f"etcd://{secured.hosts}/checked{options.format(authority=certificates.authority)}"
    with pytest.raises((Unavailable, OpenError)):
        async with open_store(url, patience=1):
            pass


# --------------------------------------------------------------------------------- several endpoints


async def test_first_endpoint_is_dead(etcd: EtcdServers) -> None:
    url = f"etcd://127.0.0.1:1,{etcd.hosts}/checked"
    for name in ("basic", "watch", "lease"):
        await check(name, url)


async def test_no_endpoint_answers() -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
        async with open_store("etcd://127.0.0.1:1,127.0.0.1:2/checked"):
            pass


# -------------------------------------------------------------------------------- watches and history


async def test_watch_from_before_a_compaction_ends(etcd: EtcdServers) -> None:
    async with backend_at(f"etcd://{etcd.hosts}/compacted") as backend:
        since = await backend.list("")
        await backend.commit([Commit({"a": b"1"})])
        (second,) = await backend.commit([Commit({"a": b"2"})])
        etcd.ask(etcd.nodes[0], "/v3/kv/compaction", {"revision": second})
        heard: list[Changes | Listing] = []
        await backend.follow(since, heard.append)
        assert heard == []
        # It is enough to have listed since.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(backend.follow, await backend.list(""), heard.append)
            await backend.commit([Commit({"a": b"3"})])
            while not heard:
                await trio.sleep(0.01)  # etcd says when
            nursery.cancel_scope.cancel()
        assert [entry.value for news in heard for entry in getattr(news, "puts", ())] == [b"3"]


async def test_watch_of_a_revision_that_is_not_yet_ends(etcd: EtcdServers) -> None:
    """A server that was wiped is younger than we: it would be silent until it is as old."""
    async with backend_at(f"etcd://{etcd.hosts}/younger") as backend:
        await backend.follow(Listing((), 10**9, None), lambda news: None)


async def test_catching_up_is_told_in_order(etcd: EtcdServers) -> None:
    async with backend_at(f"etcd://{etcd.hosts}/caught") as backend:
        since = await backend.list("")
        for number in range(120):
            await backend.commit([Commit({f"k{number % 7}": b"%d" % number})])
        (last,) = await backend.commit([Commit(deletes=("k0",))])
        heard: list[Changes] = []

        def report(news: Changes | Listing) -> None:
            assert isinstance(news, Changes)
            heard.append(news)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(backend.follow, since, report)
            while not heard or heard[-1].revision != last:
                await trio.sleep(0.01)  # etcd says when
            nursery.cancel_scope.cancel()
        revisions = [news.revision for news in heard]
        assert revisions == sorted(set(revisions))
        state: dict[str, bytes] = {}
        for news in heard:
            state.update((entry.key, entry.value) for entry in news.puts)
            for key in news.deletes:
                state.pop(key, None)
        assert state == {f"k{number % 7}": b"%d" % number for number in range(113, 120) if number % 7}


async def test_newest_is_not_moved_by_others(etcd: EtcdServers) -> None:
    node = etcd.nodes[0]
    async with backend_at(f"etcd://{etcd.hosts}/quiet") as backend:
        await backend.commit([Commit({"a": b"1", "_w/me/0": b"x"})])
        revision = (await backend.list("")).revision
        assert await backend.newest(revision, 1) == revision
        etcd.ask(node, "/v3/kv/put", {"key": text("quieter"), "value": ""})
        assert await backend.newest(revision, 1) == revision
        assert await backend.newest(revision, 1) == revision
        # A put, then a delete, which no entry tells of.
        (second,) = await backend.commit([Commit({"b": b""})])
        assert isinstance(second, int)
        assert await backend.newest(revision, 1) >= second
        assert await backend.newest(second, 2) == second
        (third,) = await backend.commit([Commit(deletes=("a",))])
        assert isinstance(third, int)
        assert await backend.newest(second, 2) >= third
        assert await backend.newest(third, 1) == third


async def test_writers_are_listed_only_by_name(etcd: EtcdServers) -> None:
    async with backend_at(f"etcd://{etcd.hosts}/writers") as backend:
        await backend.commit([Commit({"_v": b"", "_w/me/0": b"", "_w0": b"", "a": b""})])
        names = {
            prefix: [entry.key for entry in (await backend.list(prefix)).entries]
            for prefix in ("", "_", "_w", "_w/", "_w/me/", "a", "b")
        }
    assert names == {
        "": ["_v", "_w0", "a"],
        "_": ["_v", "_w0"],
        "_w": ["_w0"],
        "_w/": ["_w/me/0"],
        "_w/me/": ["_w/me/0"],
        "a": ["a"],
        "b": [],
    }


# -------------------------------------------------------------------------------------------- commits


async def test_commits_of_a_group_that_cannot_all_be(etcd: EtcdServers) -> None:
    async with backend_at(f"etcd://{etcd.hosts}/mixed") as backend:
        grant = await backend.grant(5)
        await backend.revoke(grant.id)
        outcomes = await backend.commit(
            [
                Commit({"a": b""}),
                Commit({"b": b""}, lease=grant.id),
                Commit({"c": b""}, when=(missing("c"),)),
                Commit({"d": b""}, when=(missing("none"), missing("a0")), lease=grant.id),
            ]
        )
        assert [type(outcome) for outcome in outcomes] == [int, LeaseLost, int, LeaseLost]
        assert isinstance(outcomes[1], LeaseLost)
        assert outcomes[1].lease == grant.id
        assert [
            entry.key for entry in sorted((await backend.list("")).entries, key=lambda entry: entry.key)
        ] == ["a", "c"]


async def test_groups_are_as_large_as_etcd_takes(etcd: EtcdServers) -> None:
    commits = [Commit({f"k{number}": bytes(200_000)}) for number in range(20)]
    async with backend_at(f"etcd://{etcd.hosts}/large") as backend:
        outcomes = await backend.commit(commits)
        assert all(isinstance(outcome, int) for outcome in outcomes)
        full = [
            Commit(
                {f"{number}/{key}": b"" for key in range(31)},
                when=tuple(missing(f"{number}/none/{key}") for key in range(31)),
            )
            for number in range(backend.group_limit)
        ]
        outcomes = await backend.commit(full)
        assert all(isinstance(outcome, int) for outcome in outcomes)
        assert len((await backend.list("")).entries) == 20 + 31 * backend.group_limit


async def test_disk_that_is_full() -> None:
    with EtcdServers(options=["--quota-backend-bytes=1000000"]) as servers:
        async with backend_at(f"etcd://{servers.hosts}/full") as backend:
            for number in range(300):
                (outcome,) = await backend.commit([Commit({f"k{number}": bytes(200_000)})])
                if not isinstance(outcome, int):
                    break
            assert type(outcome) is Refused
            assert "space exceeded" in outcome.message
            assert await backend.get("k0") is not None


async def test_lease_of_a_wish(etcd: EtcdServers) -> None:
    async with backend_at(f"etcd://{etcd.hosts}/leases") as backend:
        grant = await backend.grant(0.3)
        assert grant.ttl >= 1
        assert grant.gone_within > 2 * grant.ttl
        await backend.beat(grant.id)
        await backend.revoke(grant.id)
        await backend.revoke(grant.id)
        with pytest.raises(LeaseLost):
            await backend.beat(grant.id)


# ----------------------------------------------------------------------------------------- odd answers


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (said("<html>", 404), "status 404: <html>"),
        (said("<html>"), "makes no sense"),
        (said('{"kvs": [{"key": 7}]}'), "makes no sense"),
        (said('{"code": 14, "message": "etcdserver: no leader"}', 503), "no leader"),
        (said('{"error": "words"}', 500), "words"),
        (said('{"code": "x"}', 500), "an error that makes no sense"),
    ],
)
async def test_answer_that_makes_no_sense(answer: bytes, why: str) -> None:
    async with served(answering(answer)) as (_, port), backend_at(f"etcd://127.0.0.1:{port}/x") as backend:
        with pytest.raises(Unavailable, match=why):
            await backend.get("a")
        try:
            (outcome,) = await backend.commit([Commit({"a": b""})])
        except Unknown as error:
            outcome = error
        assert type(outcome) is Unknown
        with pytest.raises(Unavailable):
            await backend.grant(5)
        with pytest.raises(Unavailable):
            await backend.list("")


@pytest.mark.parametrize(
    ("line", "raised", "why"),
    [
        (
            '{"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: no leader"}}',
            Unavailable,
            "no leader",
        ),
        ('{"result":{"canceled":true,"cancel_reason":"words"}}', Unavailable, "words"),
        (
            '{"result":{"canceled":true,"cancel_reason":"rpc error: code = PermissionDenied desc = no"}}',
            Denied,
            "PermissionDenied",
        ),
        ("nonsense", Unavailable, "makes no sense"),
        ("", Unavailable, "ended the watch"),
        ('{"error": 7}', Unavailable, "makes no sense"),
    ],
)
async def test_watch_that_ends_with_a_reason(line: str, raised: type[Exception], why: str) -> None:
    async with (
        served(answering(said(line and line + "\n"))) as (_, port),
        backend_at(f"etcd://127.0.0.1:{port}/x") as backend,
    ):
        with pytest.raises(raised, match=why):
            await backend.follow(Listing((), 0, None), lambda news: None)


async def test_watch_that_is_refused() -> None:
    refused = said('{"code": 7, "message": "no"}', 403)
    async with (
        served(answering(refused)) as (_, port),
        backend_at(f"etcd://127.0.0.1:{port}/x") as backend,
    ):
        with pytest.raises(Denied, match="no"):
            await backend.follow(Listing((), 0, None), lambda news: None)


async def test_watch_that_is_given_up_begins_elsewhere_next_time() -> None:
    async def quiet(stream: trio.abc.Stream) -> None:
        await read_request(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")
        await trio.sleep_forever()

    async with (
        served(quiet) as (_, one),
        served(answering(said('{"result":{"canceled":true,"compact_revision":"5"}}\n'))) as (_, two),
        backend_at(f"etcd://127.0.0.1:{one},127.0.0.1:{two}/x") as backend,
    ):
        with trio.move_on_after(0.2) as scope:
            await backend.follow(Listing((), 0, None), lambda news: None)
        assert scope.cancelled_caught
        await backend.follow(Listing((), 0, None), lambda news: None)


async def test_commit_that_is_answered_in_part() -> None:
    a_part = '{"responses": [{"response_txn": {"responses": [{"response_range": {}}]}}]}'
    for answer in ("{}", '{"responses": []}', '{"responses": [{"response_range": {}}]}', a_part):
        async with (
            served(answering(said(answer))) as (_, port),
            backend_at(f"etcd://127.0.0.1:{port}/x") as backend,
        ):
            commit = Commit({"a": b""}, when=(missing("a"),))
            assert isinstance((await backend.commit([commit]))[0], Unknown)
            outcomes = await backend.commit([commit, Commit({"b": b""})])
            assert [type(outcome) for outcome in outcomes] == [Unknown, Unknown]
            with pytest.raises(Unavailable, match="questions"):
                await backend.list("")


async def test_part_of_a_group_without_an_answer() -> None:
    parts = '{"responses": [{"response_txn": {"succeeded": true}}, {"response_put": {}}], "header": {"revision": "7"}}'
    async with (
        served(answering(said(parts))) as (_, port),
        backend_at(f"etcd://127.0.0.1:{port}/x") as backend,
    ):
        outcomes = await backend.commit([Commit({"a": b""}), Commit({"b": b""})])
        assert outcomes[0] == 7
        assert isinstance(outcomes[1], Unknown)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (said('{"code": 8, "message": "etcdserver: too many requests"}', 429), Unavailable),
        (said('{"code": 3, "message": "etcdserver: request is too large"}', 400), Refused),
        (said('{"code": 14, "message": "etcdserver: request timed out"}', 503), Unknown),
    ],
)
async def test_commit_that_is_refused(answer: bytes, kind: type[Exception]) -> None:
    async with served(answering(answer)) as (_, port), backend_at(f"etcd://127.0.0.1:{port}/x") as backend:
        (outcome,) = await backend.commit([Commit({"a": b""})])
        assert type(outcome) is kind


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ('{"error": {"grpc_code": 5, "message": "etcdserver: requested lease not found"}}', LeaseLost),
        ('{"error": {"grpc_code": 14, "message": "etcdserver: no leader"}}', Unavailable),
        ('{"result": {"ID": "7"}}', LeaseLost),
    ],
)
async def test_beat_that_is_answered_with_an_error(answer: str, kind: type[Exception]) -> None:
    async with (
        served(answering(said(answer))) as (_, port),
        backend_at(f"etcd://127.0.0.1:{port}/x") as backend,
    ):
        with pytest.raises(kind):
            await backend.beat("7")


async def test_nobody_is_there_to_be_told_who_we_are() -> None:
    async with backend_at("etcd://user:secret@127.0.0.1:1/x") as backend:
        with pytest.raises(Unavailable):
            await backend.get("a")
        (outcome,) = await backend.commit([Commit({"a": b""})])
        assert isinstance(outcome, Unavailable), "nothing was sent"


async def test_token_that_makes_no_sense() -> None:
    async with (
        served(answering(said("{}x"))) as (_, port),
        backend_at(f"etcd://user:secret@127.0.0.1:{port}/x") as backend,
    ):
        with pytest.raises(Unavailable, match="a token that makes no sense"):
            await backend.get("a")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("etcd://h/x?ttl=5", "no option 'ttl'"),
        ("etcd:///x", "has no host"),
        ("etcd://h/x?tls=yes", "neither true nor false"),
        ("etcd://h/x?tls=false&ca=/ca", "but tls=false"),
        ("etcd://h/x?key=/k", "no cert="),
        ("etcd://h/x?ca=/none/ca.pem", "ca=/none/ca.pem"),
        ("etcd://u:p@h/x?password-file=/none", "a password and password-file="),
        ("etcd://u@h/x?password-file=/none", "/none"),
        ("etcd://u@h/x?password-file=/dev/null", "is empty"),
        ("etcd://h/a//b", "single slashes"),
        (f"etcd://h/{'a' * 101}", "100 bytes"),
        (f"etcd://h/{'a' * 201}", "the path of"),
    ],
)
async def test_url_that_makes_no_sense(url: str, why: str) -> None:
    with pytest.raises(duplex.ConfigurationError, match=why):
        async with open_store(url):
            pass
