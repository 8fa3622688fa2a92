"""What is special about Consul: rights that look like emptiness, no history, leases that somebody must sweep up."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

import duplex
from duplex_services.store import (
    Conflict,
    Denied,
    LeaseLost,
    Refused,
    Unavailable,
    Unknown,
    exists,
    last_writer_wins,
    missing,
    open_store,
    unchanged,
)
from duplex_services.store._backend import Changes, Listing
from duplex_services.store._backends import _consul_words as words
from duplex_services.store._backends._consul import ConsulBackend, open_backend
from duplex_services.store._backends._parts import in_parts
from duplex_services.store._model import Commit, Entry
from duplex_services.store._url import parse_url
from duplex_services.store.testing import Faults
from tests.machine import fail_after
from tests.services.scripted import answering, read_request, said, served
from tests.services.servers import Certificates, ConsulServers, fetch
from tests.services.store.servers_checked import BY_FAULT, check

pytestmark = [pytest.mark.services, pytest.mark.slow]

TTL = 10.0


@contextlib.asynccontextmanager
async def backend_at(url: str) -> AsyncIterator[ConsulBackend]:
    with fail_after(30):
        async with open_backend(parse_url(url)) as backend:
            yield backend


# ------------------------------------------------------------------------------------------- who may


class Guarded:
    """A Consul that allows nothing but to who has a token."""

    def __init__(self, servers: ConsulServers) -> None:
        self.servers = servers
        self.rules = (
            'key_prefix "checked/" { policy = "write" } session_prefix "" { policy = "write" } '
            'node "duplex" { policy = "write" }'
        )
        # A server says that it serves before it knows of tokens.
        servers.wait(lambda: bool(self.as_root("/v1/acl/policies")), "guarded")
        self.policy = self.as_root("/v1/acl/policy", Name="duplex", Rules=self.rules)["ID"]
        self.token = self.as_root("/v1/acl/token", Policies=[{"ID": self.policy}])["SecretID"]
        self.url = f"consul://:{self.token}@{servers.hosts}/checked"

    def as_root(self, path: str, **body: Any) -> Any:
        method = "PUT" if body else "GET"
        return fetch(
            self.servers.nodes[0], path, body or None, method=method, headers={"X-Consul-Token": "root"}
        )

    def set_rules(self, rules: str) -> None:
        self.as_root(f"/v1/acl/policy/{self.policy}", ID=self.policy, Name="duplex", Rules=rules)

    @contextlib.asynccontextmanager
    async def deny(self) -> AsyncIterator[None]:
        self.set_rules("")
        try:
            yield
        finally:
            self.set_rules(self.rules)


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    configuration = """
        acl { enabled = true default_policy = "deny" tokens { master = "root" agent = "root" } }
    """
    with ConsulServers(dev=True, configuration=configuration) as servers:
        yield Guarded(servers)


@pytest.mark.parametrize("name", ["basic", "conflict", "watch", "lease"])
async def test_check_with_a_token(name: str, guarded: Guarded) -> None:
    await check(name, guarded.url, ttl=TTL)


@pytest.mark.parametrize("name", BY_FAULT["deny"])
async def test_check_without_rights(name: str, guarded: Guarded) -> None:
    await check(name, guarded.url, ttl=TTL, faults=Faults(deny=guarded.deny))


@pytest.mark.parametrize("token", ["", ":00000000-0000-0000-0000-000000000000@", ":nonsense@"])
async def test_who_has_no_token_is_denied(token: str, guarded: Guarded) -> None:
    async with open_store(guarded.url):
        pass  # so that there is something to be seen
    with pytest.raises(Denied):
        async with open_store(f"consul://{token}{guarded.servers.hosts}/checked"):
            pass


async def test_other_prefix_is_denied(guarded: Guarded) -> None:
    with pytest.raises(Denied, match="Permission denied") as denied:
        async with open_store(guarded.url.replace("/checked", "/other")):
            pass
    assert guarded.token not in str(denied.value)


async def test_commits_of_a_group_that_are_denied(guarded: Guarded) -> None:
    """What is below one prefix may be less than what the token allows."""
    rules = f'{guarded.rules} key_prefix "checked/k/secret/" {{ policy = "deny" }}'
    async with backend_at(guarded.url) as backend:
        guarded.set_rules(rules)
        try:
            outcomes = await backend.commit(
                [Commit({"open": b""}), Commit({"secret/a": b""}), Commit({"open2": b""})]
            )
        finally:
            guarded.set_rules(guarded.rules)
        assert [type(outcome) for outcome in outcomes] == [int, Denied, int]
        assert outcomes[0] == outcomes[2]


async def test_revision_that_may_not_be_written(guarded: Guarded) -> None:
    async with backend_at(guarded.url) as backend:
        guarded.set_rules(f'{guarded.rules} key "checked/rev" {{ policy = "read" }}')
        try:
            (outcome,) = await backend.commit([Commit({"a": b""})])
        finally:
            guarded.set_rules(guarded.rules)
        assert isinstance(outcome, Denied)


async def test_token_in_a_file(guarded: Guarded, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{guarded.token}\n")
    await check("basic", f"consul://{guarded.servers.hosts}/checked?password-file={tmp_path}/token")


# --------------------------------------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def secured(certificates: Certificates) -> Iterator[str]:
    with ConsulServers(dev=True, certificates=certificates) as servers:
        yield f"127.0.0.1:{servers.secure_ports[0]}"


@pytest.mark.parametrize("name", ["basic", "watch"])
async def test_check_over_tls(name: str, secured: str, certificates: Certificates) -> None:
    await check(name, f"consul://{secured}/checked?ca={certificates.authority}&cert={certificates.client}")


async def test_client_that_proves_nothing(secured: str, certificates: Certificates) -> None:
    with pytest.raises(Unavailable):
        async with open_store(f"consul://{secured}/checked?ca={certificates.authority}", patience=1):
            pass


async def test_first_endpoint_is_dead(consul: ConsulServers) -> None:
    for name in ("basic", "watch"):
        await check(name, f"consul://127.0.0.1:1,{consul.hosts}/checked")


# -------------------------------------------------------------------------------------- how it is kept


async def test_others_read_keys_as_they_are(consul: ConsulServers) -> None:
    """Whoever looks with Consul's own means sees values, and what else there is has names of its own."""
    async with open_store(f"consul://{consul.hosts}/plain") as store:
        await store.commit({"a/ä b": b"value"}, when=[missing("a/ä b")])
        node = consul.nodes[0]
        names = fetch(node, "/v1/kv/plain/?keys")
        assert {"plain/k/a/ä b", "plain/k/_epoch", "plain/rev"} <= set(names)
        assert fetch(node, "/v1/kv/plain/k/a/%C3%A4%20b")[0]["Value"] == "dmFsdWU="


async def test_same_value_again_is_a_change(consul: ConsulServers) -> None:
    """Consul itself takes it for none."""
    async with open_store(f"consul://{consul.hosts}/same") as store:
        first = await store.commit({"a": b"1"}, when=[missing("a")])
        second = await store.commit({"a": b"1"}, when=[unchanged("a", first)])
        assert second > first
        assert await store.get("a") == Entry("a", b"1", first, second)
        with pytest.raises(Conflict):
            await store.commit({"a": b"1"}, when=[unchanged("a", first)])


async def test_put_of_a_stranger_is_seen(consul: ConsulServers) -> None:
    async with backend_at(f"consul://{consul.hosts}/strange") as backend:
        (first,) = await backend.commit([Commit({"a": b"1"})])
        fetch(consul.nodes[0], "/v1/kv/strange/k/a", b"!", method="PUT")
        (outcome,) = await backend.commit([Commit({"a": b"2"}, when=(unchanged("a", int(str(first))),))])
        assert isinstance(outcome, Conflict)
        assert outcome.found is not None
        assert outcome.found.value == b"!"


async def test_newest_is_not_moved_by_others(consul: ConsulServers) -> None:
    async with backend_at(f"consul://{consul.hosts}/quiet") as backend:
        (revision,) = await backend.commit([Commit({"a": b"1"})])
        assert isinstance(revision, int)
        fetch(consul.nodes[0], "/v1/kv/other", b"!", method="PUT")
        assert await backend.newest(revision, 1) == revision
        (second,) = await backend.commit([Commit(deletes=("a",))])
        assert await backend.newest(revision, 1) == second
        assert (await backend.list("")).revision == second
    async with backend_at(f"consul://{consul.hosts}/never") as backend:
        assert await backend.newest(7, 0) == 0


async def test_lists_are_of_one_moment(consul: ConsulServers) -> None:
    async with open_store(f"consul://{consul.hosts}/moment") as store:
        revision = await store.commit({"a/1": b"", "a/2": b"", "b": b""}, when=last_writer_wins)
        listed = await store.list("a/")
        assert [entry.key for entry in listed.entries] == ["a/1", "a/2"]
        assert listed.revision == revision
        second = await store.commit(deletes=["b"], when=last_writer_wins)
        assert (await store.list("a/")).revision == second


# ---------------------------------------------------------------------------------------------- commits


async def test_groups_are_as_large_as_consul_takes(consul: ConsulServers) -> None:
    async with backend_at(f"consul://{consul.hosts}/large") as backend:
        big = [Commit({f"k{number}": bytes(200_000)}) for number in range(6)]
        outcomes = await backend.commit(big)
        assert all(isinstance(outcome, int) for outcome in outcomes)
        assert len(set(outcomes)) > 1
        grant = await backend.grant(TTL)
        full = Commit(
            {f"p{number}": b"" for number in range(31)},
            when=tuple(missing(f"none{number}") for number in range(31)),
            lease=grant.id,
        )
        small = [Commit({f"s{number}": b""}, when=(missing(f"s{number}"),)) for number in range(29)]
        outcomes = await backend.commit([*small, full])
        assert all(isinstance(outcome, int) for outcome in outcomes), outcomes
        await backend.revoke(grant.id)


async def test_one_refusal_does_not_stop_the_others(consul: ConsulServers) -> None:
    async with backend_at(f"consul://{consul.hosts}/mixed") as backend:
        (revision,) = await backend.commit([Commit({"there": b"1"})])
        grant = await backend.grant(TTL)
        await backend.revoke(grant.id)
        outcomes = await backend.commit(
            [
                Commit({"a": b""}, when=(exists("there"), missing("there"))),
                Commit({"b": b""}, when=(missing("b"),)),
                Commit({"c": b""}, when=(exists("none"), missing("there"))),
                Commit({"d": b""}, lease=grant.id),
                Commit({"e": b""}, lease="no lease's name"),
                Commit({"f": b""}),
                Commit({"g": b""}, when=(unchanged("there", -1),)),
            ]
        )
        kinds = [type(outcome) for outcome in outcomes]
        assert kinds == [Conflict, int, Conflict, LeaseLost, LeaseLost, int, Conflict]
        there = Entry("there", b"1", int(str(revision)), int(str(revision)))
        assert [(one.condition, one.found) for one in outcomes if isinstance(one, Conflict)] == [
            (missing("there"), there),
            (exists("none"), None),
            (unchanged("there", -1), there),
        ]
        assert {entry.key for entry in (await backend.list("")).entries} == {"there", "b", "f"}


async def test_conflict_that_is_over_when_it_is_looked_at(
    consul: ConsulServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Consul tells of a conflict is less than we do, so it is asked again, and the answer may be another."""
    async with backend_at(f"consul://{consul.hosts}/over") as backend:
        await backend.commit([Commit({"a": b"1"})])
        get = backend.get

        async def get_late(key: str) -> Entry | None:
            await backend.commit([Commit(deletes=(key,))])
            return await get(key)

        monkeypatch.setattr(backend, "get", get_late)
        (outcome,) = await backend.commit([Commit({"a": b"2"}, when=(missing("a"),))])
        assert isinstance(outcome, int)

        async def get_other(key: str) -> Entry | None:
            return None

        monkeypatch.setattr(backend, "get", get_other)
        (outcome,) = await backend.commit([Commit({"a": b"3"}, when=(missing("a"),))])
        assert isinstance(outcome, Unavailable)
        assert "too often" in outcome.message


# ----------------------------------------------------------------------------------------------- leases


async def test_leases_have_the_time_that_consul_gives(consul: ConsulServers) -> None:
    async with backend_at(f"consul://{consul.hosts}/leases") as backend:
        for wish, ttl in ((0.5, 10), (10.5, 11), (10**9, 24 * 3600)):
            grant = await backend.grant(wish)
            assert (grant.ttl, grant.gone_within) == (ttl, 4 * ttl + 10)
            await backend.beat(grant.id)
            await backend.revoke(grant.id)
            with pytest.raises(LeaseLost):
                await backend.beat(grant.id)
        await backend.revoke("never granted")


async def test_session_that_is_destroyed_takes_its_keys_along(consul: ConsulServers) -> None:
    """Any store that is open deletes them, and only them."""
    node = consul.nodes[0]
    url = f"consul://{consul.hosts}/swept"
    async with open_store(url) as other, backend_at(url) as backend, other.watch("") as watch:
        first, second = await backend.grant(TTL), await backend.grant(TTL)
        await backend.commit(
            [
                Commit({f"{number}": b"" for number in range(40)}, lease=first.id),
                Commit({"kept": b"", "moved": b""}, lease=second.id),
            ]
        )
        await backend.commit([Commit({"moved": b"!"}), Commit({"0": b"!"}, lease=second.id)])
        fetch(node, f"/v1/session/destroy/{backend._sessions[first.id]}", b"", method="PUT")
        entries: dict[str, Entry] = {}
        while set(entries) != {"kept", "moved", "0"}:
            update = await watch.receive()
            entries.update((entry.key, entry) for entry in update.puts)
            for key in update.deletes:
                del entries[key]
        assert {key: entry.lease for key, entry in entries.items()} == {
            "kept": second.id,
            "moved": None,
            "0": second.id,
        }
        with pytest.raises(LeaseLost):
            await backend.beat(first.id)
        await backend.revoke(second.id)
        assert [entry.key for entry in (await other.list("")).entries] == ["moved"]


async def test_sweeping_that_fails_is_tried_again(
    consul: ConsulServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with backend_at(f"consul://{consul.hosts}/again") as backend:
        grant = await backend.grant(TTL)
        await backend.commit([Commit({"a": b""}, lease=grant.id)])
        commit, tries = backend.commit, 0

        async def fail(commits: list[Commit]) -> Any:
            nonlocal tries
            tries += 1
            return await commit(commits) if tries > 1 else [Unknown("no answer")]

        monkeypatch.setattr(backend, "commit", fail)
        monkeypatch.setattr("duplex_services.store._backends._consul._PAUSE", 0.05)
        session = backend._sessions[grant.id]
        fetch(consul.nodes[0], f"/v1/session/destroy/{session}", b"", method="PUT")
        while (await backend.list("")).entries:
            await trio.sleep(0.05)  # Consul is not told that somebody waits
        assert tries == 2


# ----------------------------------------------------------------------------------------- connections


async def test_many_watchers_keep_to_consuls_limit() -> None:
    """Consul takes 200 connections of one address."""
    with ConsulServers(dev=True, configuration="limits { http_max_conns_per_client = 20 }") as servers:
        url = f"consul://{servers.hosts}/many"
        async with open_store(url) as store, trio.open_nursery() as nursery:

            async def hear(begun: trio.Event) -> None:
                async with store.watch("a") as watch:
                    await watch.receive()
                    begun.set()
                    await watch.receive()

            begun = [trio.Event() for _ in range(201)]
            for event in begun:
                nursery.start_soon(hear, event)
            for event in begun:
                await event.wait()
            async with trio.open_nursery() as writers:
                for number in range(50):
                    writers.start_soon(
                        partial(store.commit, {f"a{number}": b""}, when=[missing(f"a{number}")])
                    )
        with socket.create_connection(servers.endpoints[0]):
            pass


# ----------------------------------------------------------------------------------------- odd answers


def consul_said(body: object, status: int = 200, headers: dict[str, object] | None = None) -> bytes:
    given = {"Index": 7, "Knownleader": "true", "Lastcontact": 0, **(headers or {})}
    lines = [f"X-Consul-{name}: {value}" for name, value in given.items() if value is not None]
    return said(body if isinstance(body, str) else json.dumps(body), status, *lines)


@contextlib.asynccontextmanager
async def odd(*answers: bytes) -> AsyncIterator[ConsulBackend]:
    async with (
        served(answering(*answers)) as (_, port),
        backend_at(f"consul://127.0.0.1:{port}/x") as backend,
    ):
        yield backend


@pytest.mark.parametrize(
    ("answer", "kind", "outcome"),
    [
        (consul_said("<html>"), Unavailable, Unknown),
        (consul_said("rpc error", 500), Unavailable, Unknown),
        (consul_said("No cluster leader", 500), Unavailable, Unavailable),
        (consul_said("slow down", 429), Unavailable, Unavailable),
        (consul_said("ACL not found", 403), Denied, Denied),
        (consul_said("bad", 400), Unavailable, Refused),
        (consul_said("", 413), Unavailable, Refused),
        (consul_said({"Results": []}), Unavailable, Unknown),
        (consul_said({"Errors": [{"OpIndex": 9, "What": "no"}]}, 409), Unavailable, Refused),
        (consul_said({"Errors": []}, 409), Unavailable, Refused),
        (consul_said({"Errors": [{"OpIndex": 0, "What": "no"}]}, 409), Unavailable, Refused),
    ],
)
async def test_answer_that_is_an_error(
    answer: bytes, kind: type[Exception], outcome: type[Exception]
) -> None:
    async with odd(answer) as backend:
        (found,) = await backend.commit([Commit({"a": b""})])
        assert type(found) is outcome
        with pytest.raises(kind):
            await backend.get("a")
        with pytest.raises(kind):
            await backend.list("")
        with pytest.raises(kind):
            await backend.grant(10)


async def test_listing_without_an_index() -> None:
    async with odd(consul_said("[]", headers={"Index": None})) as backend:
        with pytest.raises(Unavailable, match="without an index"):
            await backend.list("")


FOUND = [
    {"Key": "x/rev", "ModifyIndex": 9},
    {"Key": "x/k/_epoch", "ModifyIndex": 3, "CreateIndex": 3, "Value": "ZQ=="},
    {"Key": "x/k/a", "ModifyIndex": 9, "CreateIndex": 4, "Value": "MQ=="},
    {"Key": "x/k/_w/me/0", "ModifyIndex": 9, "CreateIndex": 4, "Value": "MQ=="},
    {"Key": "x/of a stranger", "ModifyIndex": 9},
]
SINCE = Listing((), 7, Entry("_epoch", b"e", 3, 3))


async def heard_of(*answers: bytes) -> list[Changes | Listing]:
    heard: list[Changes | Listing] = []
    async with odd(*answers) as backend:
        await backend.follow(SINCE, heard.append)
    return heard


async def test_following_ends_where_the_store_is_another_one() -> None:
    older = [{**FOUND[0], "ModifyIndex": 8}, *FOUND[1:]]
    for last in (consul_said("", 404), consul_said(older)):
        (heard,) = await heard_of(consul_said(FOUND), consul_said(FOUND), last)
        assert isinstance(heard, Listing)
        assert heard.revision == 9
        assert [entry.key for entry in heard.entries] == ["_epoch", "a"]
        assert heard.sentinel is not None


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"Knownleader": "false"}, "knows of no leader"),
        ({"Lastcontact": None}, "knows of no leader"),
        ({"Lastcontact": 2001}, "for 2001 ms"),
    ],
)
async def test_server_that_has_lost_the_leader_is_left(headers: dict[str, object], why: str) -> None:
    """The question that waits says how it was when it was asked, so another one looks."""

    async def handle(stream: trio.abc.Stream) -> None:
        while (head := (await read_request(stream))[0]) and b"index=" not in head:
            await stream.send_all(consul_said("[]", headers=headers))
        await trio.sleep_forever()

    async with served(handle) as (_, port), backend_at(f"consul://127.0.0.1:{port},127.0.0.1:1/x") as backend:
        with pytest.raises(Unavailable, match=why):
            await backend.follow(SINCE, lambda news: None)
        assert backend._http.endpoints[0].port == 1


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("consul://h/x?dc=1", "no option 'dc'"),
        ("consul://token@h/x", "consul://:TOKEN@HOST"),
        ("consul:///x", "has no host"),
    ],
)
async def test_url_that_makes_no_sense(url: str, why: str) -> None:
    with pytest.raises(duplex.ConfigurationError, match=why):
        async with open_store(url):
            pass


# -------------------------------------------------------------------------------------------- no server


def test_who_is_to_blame() -> None:
    errors = [words.OpError(7, "c"), words.OpError(4, "b"), words.OpError(2, "a"), words.OpError(9, "rev")]
    blamed = words.blame(errors, [2, 3, 0, 3])
    assert {part: (error.OpIndex, error.What) for part, error in blamed.items()} == {
        1: (0, "a"),
        3: (2, "c"),
        4: (1, "rev"),
    }


def test_parts_of_a_group() -> None:
    def of(puts: int, size: int = 0) -> Commit:
        return Commit({f"{number}": bytes(size) for number in range(puts)})

    def lengths(*commits: Commit) -> list[int]:
        return [len(part) for part in in_parts(commits, words.cost_of, words.LIMITS)]

    assert lengths() == []
    assert lengths(of(63)) == [1]
    assert lengths(of(40), of(23), of(1)) == [2, 1]
    assert lengths(of(1, 200_000), of(1, 200_000), of(1)) == [1, 2]
    assert lengths(of(70), of(1)) == [1, 1]


def test_names_of_leases() -> None:
    assert words.lease_number(words.lease_name(0xABC)) == 0xABC
    assert words.lease_number("nonsense") == 0
    assert words.new_lease_name() != words.lease_name(0)
