"""A store that another process serves: the same contract, and what either side makes of the other's mistakes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

import duplex
from duplex_services.store import (
    Conflict,
    Denied,
    Entry,
    LeaseLost,
    Refused,
    Store,
    StoreError,
    Unavailable,
    Unknown,
    exists,
    last_writer_wins,
    missing,
    open_store,
    store_service,
)
from duplex_services.store._backends._remote import RemoteBackend
from duplex_services.store._backends._remote import open_backend as open_remote
from duplex_services.store._model import Commit, Unchanged
from duplex_services.store._service import _pages
from duplex_services.store._url import parse_url
from duplex_services.store.client import Answer, News, Page, StoreService
from duplex_services.store.testing import CHECKS, Faults, check_store
from tests.machine import within
from tests.services.store.served import Served
from tests.services.store.weather import Weather, open_weather

ANY = last_writer_wins


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A process that serves a store. A folder of its own, as a socket's path is short."""
    server = Served(tmp_path)
    server.start()
    yield server
    server.end()


NEED_FAULTS = [name for name in CHECKS if name.partition("_")[0] in Faults.__struct_fields__]
IN_ONE_PROCESS = [name for name in CHECKS if name not in NEED_FAULTS and name != "history"]


@asynccontextmanager
async def open_served(store: Store, **options: Any) -> AsyncIterator[str]:
    """Serve a store in this process; gives the URL."""
    async with duplex.open_peer(services=[store_service(store)]) as peer:
        yield f"duplex+{await peer.bind('tcp://127.0.0.1:*')}"


@pytest.mark.slow
@pytest.mark.parametrize("check", IN_ONE_PROCESS)
async def test_check(check: str) -> None:
    async with open_store("memory:") as store, open_served(store) as url:
        (result,) = await check_store(
            lambda **options: open_store(url, **options), only=[check], ttl=2.0, slack=within(10)
        )
        assert result.left_out == ""


async def until_up(served: Served) -> None:
    with trio.fail_after(within(30)):
        while True:
            try:
                async with open_store(served.url):
                    return
            except Unavailable:
                continue


@pytest.mark.slow
async def test_the_history_of_two_processes(served: Served) -> None:
    await until_up(served)
    await check_store(
        lambda **options: open_store(served.url, **options),
        only=["history"],
        url=served.url,
        slack=within(10),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "check", [name for name in NEED_FAULTS if name.partition("_")[0] in ("stall", "restart", "replace")]
)
async def test_check_with_a_fault(check: str, served: Served) -> None:
    await until_up(served)
    (result,) = await check_store(
        lambda **options: open_store(served.url, **options),
        only=[check],
        faults=served.faults,
        ttl=2.0,
        slack=within(15),
    )
    assert result.left_out == ""


@pytest.mark.slow
async def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    began = trio.current_time()
    with pytest.raises(Unavailable, match=r"duplex\+ipc:///"):
        async with open_store(f"duplex+ipc://{tmp_path}/none.sock"):
            pass
    assert trio.current_time() - began < within(3)


@pytest.mark.parametrize(
    "url",
    [
        "duplex+tcp:",
        "duplex+tcp://",
        "duplex+tcp://a,b",
        "duplex+tcp://a/path",
        "duplex+tcp://a:x",
        "duplex+tcp://u:p@a",
        "duplex+tcp://a?x=1",
        "duplex+ipc:relative",
        "duplex+ipc://host/x",
        "duplex+ipc:",
    ],
)
async def test_a_url_that_makes_no_sense(url: str) -> None:
    with pytest.raises(duplex.ConfigurationError):
        async with open_store(url):
            pass


async def test_the_port_has_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    from duplex_services.store._backends._remote import _endpoint_of

    assert _endpoint_of(parse_url("duplex+tcp://host")) == "tcp://host:7711"
    assert _endpoint_of(parse_url("duplex+tcp://[::1]/")) == "tcp://[::1]:7711"
    assert _endpoint_of(parse_url("duplex+ipc:///run/x")) == "ipc:///run/x"


# ------------------------------------------------------------------------------- what a served store says


@asynccontextmanager
async def open_both() -> AsyncIterator[tuple[Store, Weather, RemoteBackend]]:
    """A store in this process, and a client of it without a store of its own."""
    async with (
        open_weather() as (store, backend),
        open_served(store) as url,
        open_remote(parse_url(url)) as remote,
    ):
        yield store, backend, remote


async def test_large_listings_come_in_pages() -> None:
    async with open_both() as (store, _, remote):
        for number in range(50):
            await store.commit({f"a/{number}/{part}": bytes(3000) for part in range(50)}, when=ANY)
        listing = await remote.list("a/")
        assert len(listing.entries) == 2500
        assert listing.sentinel is not None
        reports: list[Any] = []
        with trio.move_on_after(within(1)) as scope:
            old = type(listing)((), 1, listing.sentinel)

            def report(news: Any) -> None:
                reports.append(news)
                scope.cancel()

            await remote.follow(old, report)
        assert len(reports[0].entries) > 2500
        assert reports[0].sentinel == listing.sentinel


def test_pages() -> None:
    assert list(_pages(())) == [((), False)]
    small = [Entry(f"{number}", b"", 1, 1) for number in range(2500)]
    assert [(len(page), more) for page, more in _pages(small)] == [(1000, True), (1000, True), (500, False)]
    large = [Entry(f"{number}", bytes(200_000), 1, 1) for number in range(3)]
    assert [(len(page), more) for page, more in _pages(large)] == [(1, True), (1, True), (1, False)]
    assert [entry for page, _ in _pages(small) for entry in page] == small


async def test_many_changes_come_in_pages() -> None:
    async with open_weather() as (store, backend), open_served(store) as url:
        async with open_store(url) as client, client.watch() as watch:
            await watch.receive()
            for number in range(50):
                await store.commit({f"{number}/{part}": b"" for part in range(50)}, when=ANY)
            count = 0
            with trio.fail_after(within(10)):
                while count < 2500:
                    count += len((await watch.receive()).puts)
            # All gone at once.
            state = backend.server.state
            from duplex_services.store._backends._state import Step

            keys = [key for key in state.entries if not key.startswith("_")]
            state.apply([Step(state.revision + 1, dict.fromkeys(keys))])
            with trio.fail_after(within(10)):
                assert len((await watch.receive()).deletes) == 2500


async def test_errors_are_the_same_as_there() -> None:
    async with open_both() as (store, backend, remote):
        backend.is_denied = True
        with pytest.raises(Denied, match="does not let us read"):
            await remote.get("a")
        with pytest.raises(Denied):
            await remote.list("")
        backend.is_denied = False
        backend.is_away = True
        with pytest.raises(Unavailable, match="nobody is there"):
            await remote.get("a")
        with pytest.raises(Unavailable, match="nobody is there"):
            await remote.newest(1, 1)
        with pytest.raises(Unavailable, match="nobody is there"):
            await remote.grant(5)
        backend.is_away = False
        with pytest.raises(LeaseLost):
            await remote.beat("none")
        await remote.revoke("none")
        with pytest.raises(Refused, match="number of seconds"):
            await remote.grant(-1)
        with pytest.raises(Refused, match="a part of it is empty"):
            await remote.get("a//b")
        with pytest.raises(Refused, match="control characters"):
            await remote.list("\0")
        modified = await store.commit({"a": b""}, when=ANY)
        backend.fates += [Refused("full"), Denied("not you"), Unavailable("gone"), LeaseLost("x")]
        for kind in (Refused, Denied, Unavailable):
            (outcome,) = await remote.commit([Commit({"a": b""})])
            assert type(outcome) is kind
        (outcome,) = await remote.commit([Commit({"a": b""}, lease="x")])
        assert isinstance(outcome, LeaseLost)
        (outcome,) = await remote.commit([Commit({"b": b""}, when=(Unchanged("a", modified), exists("c")))])
        assert isinstance(outcome, Conflict)
        assert (outcome.condition, outcome.found) == (exists("c"), None)
        (outcome,) = await remote.commit([Commit({"b": b""}, when=(missing("a"),))])
        assert isinstance(outcome, Conflict)
        assert (outcome.condition, outcome.found) == (missing("a"), Entry("a", b"", modified, modified))


@pytest.mark.parametrize(
    ("commits", "reason"),
    [
        ((), "1 to 64 commits, not 0"),
        (tuple(Commit({f"{number}": b""}) for number in range(65)), "not 65"),
        ((Commit({"_secret": b""}),), "the store's own"),
        ((Commit(deletes=("_lost",)),), "the store's own"),
        ((Commit({"a//b": b""}),), "no key"),
        ((Commit(),), "changes nothing"),
        ((Commit({"a": b""}), Commit({"b": bytes(300_000)})), "bytes of keys and values"),
        ((Commit({f"{number}": b"" for number in range(63)}),), "63, more than 62"),
    ],
)
async def test_bad_commits_are_refused_by_who_serves(commits: tuple[Commit, ...], reason: str) -> None:
    async with open_both() as (store, _, remote):
        outcomes = await remote.commit(commits)
        assert all(isinstance(outcome, Refused) and reason in outcome.message for outcome in outcomes)
        if not commits:
            with pytest.raises(duplex.InvalidArgument, match=reason):
                await remote._commit(())
        assert (await store.list()).entries == ()


#: What a caller may send that is no commit, a key or a number.
HOSTILE: list[tuple[str, list[Any]]] = [
    ("get", [5]),
    ("get", [None]),
    ("get", [b"a"]),
    ("get", [["a"]]),
    ("get", ["a", "b"]),
    ("get", []),
    ("get", ["a" * 100_000]),
    ("get", ["\ud800".encode("utf-8", "surrogatepass")]),
    ("list", [{}]),
    ("list", ["a" * 300]),
    ("commit", ["a"]),
    ("commit", [[{"puts": {"a": "text"}}]]),
    ("commit", [[{"puts": {1: b""}}]]),
    ("commit", [[{"puts": {"a": b""}, "when": [["missing"]]}]]),
    ("commit", [[{"puts": {"a": b""}, "when": [["other", "a"]]}]]),
    ("commit", [[{"puts": {"a": b""}, "when": [["unchanged", "a", "b"]]}]]),
    ("commit", [[{"puts": {"a": b""}, "when": [["unchanged", "a", 1.5]]}]]),
    ("commit", [[{"puts": {"a": b""}, "lease": 5}]]),
    ("commit", [[{"deletes": "abc"}]]),
    ("commit", [[[], [], []]]),
    ("follow", ["x"]),
    ("newest", ["x", 1]),
    ("newest", [1]),
    ("grant", ["x"]),
    ("grant", [float("nan")]),
    ("grant", [float("inf")]),
    ("grant", [-5]),
    ("beat", [5]),
    ("revoke", [None]),
]


async def ask(remote: duplex.ServiceProxy, name: str, arguments: list[Any]) -> None:
    method = remote[name]
    if name in ("list", "follow"):
        async with method.open(*arguments) as stream:
            await stream.receive()
    else:
        await method(*arguments)


@pytest.mark.parametrize(("method", "arguments"), HOSTILE)
async def test_what_makes_no_sense_is_an_invalid_argument(method: str, arguments: list[Any]) -> None:
    async with open_weather() as (store, _), open_served(store) as url, duplex.open_peer() as peer:
        await peer.connect(url.removeprefix("duplex+"))
        remote = peer.service("store")
        before = await store.list("_")
        with pytest.raises(duplex.InvalidArgument):
            await ask(remote, method, arguments)
        assert await store.list("_") == before
        assert await remote.get("a") is None


# ----------------------------------------------------------------------- a server that makes no sense


class Nonsense:
    """Answers whatever it is told to."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    @duplex.rpc
    async def get(self, key: str) -> Any:
        return self.answer

    @duplex.rpc(name="list")
    async def list_(self, prefix: str) -> AsyncIterator[Any]:
        yield self.answer

    @duplex.rpc
    async def commit(self, commits: Any) -> Any:
        return self.answer

    @duplex.rpc
    async def follow(self, revision: int) -> AsyncIterator[Any]:
        yield self.answer

    @duplex.rpc
    async def newest(self, revision: int, count: int) -> Any:
        return self.answer

    @duplex.rpc
    async def grant(self, ttl: float) -> Any:
        return self.answer

    @duplex.rpc
    async def beat(self, lease: str) -> Any:
        return self.answer


@asynccontextmanager
async def open_nonsense(answer: Any) -> AsyncIterator[RemoteBackend]:
    async with duplex.open_peer() as peer:
        peer.expose(Nonsense(answer), name="store")
        url = f"duplex+{await peer.bind('tcp://127.0.0.1:*')}"
        async with open_remote(parse_url(url)) as remote:
            yield remote


NONSENSE: list[Any] = [
    5,
    "text",
    [],
    {},
    [{"kind": "made"}, {"kind": "made"}],
    {"key": 1},
    [None],
    -1.5,
    b"x" * 100_000,
]


@pytest.mark.parametrize("answer", NONSENSE, ids=range(len(NONSENSE)))
async def test_answers_that_make_no_sense(answer: Any) -> None:
    async with open_nonsense(answer) as remote:
        with pytest.raises(StoreError):
            await remote.get("a")
        with pytest.raises(Unavailable):
            await remote.list("")
        with pytest.raises(Unknown):
            await remote.commit([Commit({"a": b""})])
        with pytest.raises(Unavailable):
            await remote.follow((await _listing()), lambda news: None)
        with pytest.raises(Unavailable):
            await remote.grant(5)
        if answer != 5:
            with pytest.raises(Unavailable):
                await remote.newest(1, 1)


async def _listing() -> Any:
    from duplex_services.store._backend import Listing

    return Listing((), 1, None)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer("conflict", condition=7), Unknown),
        (Answer("conflict", condition=-1), Unknown),
        (Answer("lease_lost"), Unknown),
        (Answer("unknown", message="who knows"), Unknown),
        (Answer("unavailable", message="away"), Unavailable),
    ],
)
async def test_outcomes_that_make_no_sense(answer: Answer, kind: type[StoreError]) -> None:
    async with open_nonsense([answer]) as remote:
        (outcome,) = await remote.commit([Commit({"a": b""})])
        assert type(outcome) is kind
        assert outcome.message


async def test_a_server_that_lists_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duplex_services.store._backends._remote._MOST_ENTRIES", 3)

    class Endless:
        @duplex.rpc(name="list")
        async def list_(self, prefix: str) -> AsyncIterator[Page]:
            while True:
                yield Page((Entry("a", b"", 1, 1),), True, 1, None)

        @duplex.rpc
        async def follow(self, revision: int) -> AsyncIterator[News]:
            while True:
                yield News((Entry("a", b"", 1, 1),), (), True, 1)

    async with duplex.open_peer() as peer:
        peer.expose(Endless(), name="store")
        url = f"duplex+{await peer.bind('tcp://127.0.0.1:*')}"
        async with open_remote(parse_url(url)) as remote:
            with pytest.raises(Unavailable, match="more than 3 entries at once"):
                await remote.list("")
            with pytest.raises(Unavailable, match="more than 3 entries at once"):
                await remote.follow(await _listing(), lambda news: None)


async def test_a_peer_that_serves_no_store() -> None:
    async with duplex.open_peer() as peer:
        url = f"duplex+{await peer.bind('tcp://127.0.0.1:*')}"
        with pytest.raises(Unavailable, match=r"no store is served there|there is no service 'store'"):
            async with open_store(url):
                pass


async def test_a_list_that_stops_in_the_middle() -> None:
    class Short:
        @duplex.rpc(name="list")
        async def list_(self, prefix: str) -> AsyncIterator[Page]:
            yield Page((), True, 1, None)

    async with duplex.open_peer() as peer:
        peer.expose(Short(), name="store")
        url = f"duplex+{await peer.bind('tcp://127.0.0.1:*')}"
        async with open_remote(parse_url(url)) as remote:
            with pytest.raises(Unavailable, match="did not go on"):
                await remote.list("")


async def test_a_client_of_the_bare_methods() -> None:
    async with open_weather() as (store, _), open_served(store) as url, duplex.open_peer() as peer:
        await peer.connect(url.removeprefix("duplex+"))
        remote = peer.service(StoreService, name="store")
        (answer,) = await remote.commit((Commit({"a": b"1"}),))
        assert answer.kind == "made"
        assert await remote.get("a") == Entry("a", b"1", answer.revision, answer.revision)
