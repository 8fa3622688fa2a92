"""A service is followed to where a resolver says that it is."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import math
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from typing import Any, NoReturn

import pytest
import trio

import duplex
from duplex.transports import default_transports
from tests.engine.helpers import outcome, until
from tests.engine.named_service import named
from tests.machine import fail_after


class Told:
    """A resolver that says what the test says."""

    def __init__(self, *endpoints: str | duplex.Endpoint) -> None:
        self._send, self._receive = trio.open_memory_channel[Any](math.inf)
        self.asked: list[tuple[str, float]] = []
        self.open = 0
        if endpoints:
            self.say(*endpoints)

    def say(self, *endpoints: Any) -> None:
        self.say_as_it_is(endpoints)

    def say_as_it_is(self, told: Any) -> None:
        self._send.send_nowait(told)

    def fail(self, error: Exception) -> None:
        self._send.send_nowait(error)

    async def resolve(self, service: str) -> AsyncIterator[Iterable[str | duplex.Endpoint]]:
        self.asked.append((service, trio.current_time()))
        self.open += 1
        try:
            while True:
                told = await self._receive.receive()
                if isinstance(told, Exception):
                    raise told
                yield told
        finally:
            self.open -= 1


@contextlib.asynccontextmanager
async def serving(*names: str, **options: Any) -> AsyncIterator[tuple[duplex.Peer, dict[str, duplex.Peer]]]:
    """A client, and servers that are bound at ``memory://NAME``."""
    with fail_after(10_000):
        async with contextlib.AsyncExitStack() as stack:
            servers = {}
            for name in names:
                peer = duplex.open_peer(services=[named(name)], name=name)
                servers[name] = await stack.enter_async_context(peer)
                await servers[name].bind(f"memory://{name}")
            async with duplex.open_peer(balancer="round_robin", **options) as client:
                yield client, servers


async def settled() -> None:
    """Let whatever is to be done be done."""
    await trio.sleep(1)  # of virtual time


def at(client: duplex.Peer) -> list[str]:
    """Return the names of the peers that are linked, once for each link."""
    return sorted(link.peer_name for link in client.links)


def problem_of(followed: duplex.FollowedService) -> str | None:
    # A type checker takes what it was once for what it will be.
    return followed.problem


async def answers(client: duplex.Peer, count: int = 12) -> Counter[str]:
    return Counter([await client.service("who").name_() for _ in range(count)])


async def test_links_are_made_and_left_as_the_resolver_says(autojump_clock: object) -> None:
    async with serving("a", "b", "c") as (client, _):
        told = Told("memory://a", "memory://b")
        followed = client.connect_service("who", told)
        assert await answers(client) == {"a": 6, "b": 6}, "right after it, calls wait"
        told.say("memory://b", duplex.Endpoint("memory://c"))
        await settled()
        assert at(client) == ["b", "c"]
        assert await answers(client) == {"b": 6, "c": 6}
        assert [endpoint.address for endpoint in followed.endpoints] == ["memory://b", "memory://c"]
        assert followed.service == "who"
        assert not problem_of(followed)
        assert "2 endpoints" in repr(followed)
        assert [service for service, _ in told.asked] == ["who"]


async def test_calls_that_run_where_a_link_is_left_end(autojump_clock: object) -> None:
    results: list[Any] = []
    async with serving("a", "b") as (client, _), trio.open_nursery() as nursery:
        slow = duplex.Service("slow")

        @slow.rpc
        async def work() -> str:
            await trio.sleep(200)  # of virtual time
            return "done"

        async with duplex.open_peer(services=[slow], name="slow") as server:
            await server.bind("memory://slow")
            told = Told("memory://slow")
            client.connect_service("slow", told)

            async def call() -> None:
                results.append(await outcome(client.service("slow").work()))

            nursery.start_soon(call)
            await settled()
            told.say("memory://a")
            await settled()
            assert at(client) == ["a", "slow"]
            await trio.sleep(150)  # of virtual time
            assert at(client) == ["a", "slow"]
            await until(lambda: results) if results else await trio.sleep(100)  # of virtual time
            assert results == ["done"]
            assert at(client) == ["a"]


async def test_calls_wait_until_it_is_known_where_the_service_is(autojump_clock: object) -> None:
    results: list[Any] = []
    async with serving("a", "b", connect_timeout=20) as (client, _), trio.open_nursery() as nursery:
        await client.connect("memory://b")  # such as a registry
        told = Told()
        client.connect_service("late", told)

        async def call(**options: Any) -> None:
            results.append(await outcome(client.service("late").with_options(**options).name_()))

        nursery.start_soon(call)
        await trio.sleep(10)  # of virtual time
        assert results == []
        async with duplex.open_peer(services=[named("found", "late")], name="late") as late:
            await late.bind("memory://late")
            told.say("memory://late")
            await settled()
            assert results == ["found"]
        await settled()
        await call(wait_for_ready=False)
        assert type(results[-1]) is duplex.Unavailable


async def test_it_is_told_why_a_service_is_not_found(autojump_clock: object) -> None:
    async with serving(connect_timeout=5) as (client, _):
        told = Told()
        told.fail(OSError("the registry is away"))
        followed = client.connect_service("who", told)
        began = trio.current_time()
        error = await outcome(client.service("who").name_())
        assert type(error) is duplex.Unavailable
        assert trio.current_time() - began == pytest.approx(5)
        assert "where who is, its resolver cannot say: OSError: the registry is away" in error.message
        assert followed.problem == "OSError: the registry is away"
        told.say()
        await trio.sleep(40)  # of virtual time
        assert not problem_of(followed)
        error = await outcome(client.service("who").name_())
        assert "it names no endpoints" in error.message
        now = trio.current_time()
        assert type(await outcome(client.service("who").with_options(wait_for_ready=False).name_())) is (
            duplex.Unavailable
        )
        assert trio.current_time() == now, "nobody is to be expected"


async def test_a_resolver_that_fails_leaves_what_is_known_and_is_asked_again_ever_more_rarely(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving("a", "b") as (client, _):
        told = Told("memory://a")
        followed = client.connect_service("who", told)
        await settled()
        for _ in range(20):
            told.fail(OSError("the registry is away"))
        with caplog.at_level(logging.INFO):
            await trio.sleep(400)  # of virtual time
            assert at(client) == ["a"]
            assert problem_of(followed)
            told.say("memory://b")
            await trio.sleep(400)  # of virtual time
        assert at(client) == ["b"]
        assert not problem_of(followed)
        times = [time for _, time in told.asked]
        pauses = [after - before for before, after in itertools.pairwise(times)]
        assert len(pauses) == 20
        assert pauses[0] < 2
        assert pauses[0] < pauses[2] < pauses[4]
        assert max(pauses) <= 30.1
        problems = [record.message for record in caplog.records if "cannot say" in record.message]
        assert len(problems) == 1, "told once, not with each attempt"
        assert any("is known again" in record.message for record in caplog.records)
        assert told.open == 1


@pytest.mark.parametrize(("empty_after", "gone"), [(30.0, 31), (0, 1), (math.inf, None)])
async def test_that_there_are_no_endpoints_is_believed_in_time(
    empty_after: float, gone: float | None, autojump_clock: object
) -> None:
    async with serving("a") as (client, _):
        told = Told("memory://a")
        followed = client.connect_service("who", told, empty_after=empty_after)
        await settled()
        told.say()
        if gone != 1:
            await trio.sleep(25)  # of virtual time
            assert at(client) == ["a"]
            assert "not believed yet" in str(followed.problem)
        await trio.sleep(gone or 5_000)  # of virtual time
        assert at(client) == ([] if gone is not None else ["a"])
        told.say("memory://a")
        await settled()
        assert at(client) == ["a"]


async def test_one_link_to_a_peer_however_often_it_is_named(autojump_clock: object) -> None:
    async with serving("a", "b") as (client, servers):
        await servers["a"].bind("memory://also-a")
        one = Told("memory://a", "memory://also-a", "memory://b")
        other = Told("memory://also-a")
        client.connect_service("who", one)
        second = client.connect_service("else", other)
        await settled()
        assert at(client) == ["a", "b"]
        assert await answers(client) == {"a": 6, "b": 6}
        one.say("memory://b")
        await settled()
        assert at(client) == ["a", "b"], "the other service has need of it"
        second.leave()
        second.leave()
        await settled()
        assert at(client) == ["b"]


async def test_another_name_of_a_peer_is_used_when_the_first_one_fails(autojump_clock: object) -> None:
    async with serving("a") as (client, servers):
        await servers["a"].bind("memory://also-a")
        client.connect_service("who", Told("memory://a", "memory://also-a"))
        await settled()
        (link,) = client.links
        first = link.endpoint
        await servers["a"].unbind(first)
        await settled()
        (link,) = client.links
        assert link.endpoint != first
        assert await answers(client, 1) == {"a": 1}


async def test_what_the_program_has_connected_is_used_and_kept(autojump_clock: object) -> None:
    async with serving("a", "b") as (client, servers):
        mine = await client.connect("memory://a")
        await servers["a"].bind("memory://also-a")
        told = Told("memory://a", "memory://also-a")
        followed = client.connect_service("who", told)
        await settled()
        assert client.links == [mine]
        told.say("memory://b")
        await settled()
        assert at(client) == ["a", "b"]
        followed.leave()
        await settled()
        assert client.links == [mine]


async def test_what_the_program_has_connected_and_is_lost_is_connected_under_another_name(
    autojump_clock: object,
) -> None:
    async with serving("a") as (client, servers):
        mine = await client.connect("memory://a")
        await servers["a"].bind("memory://also-a")
        client.connect_service("who", Told("memory://also-a"))
        await settled()
        assert client.links == [mine]
        await client.disconnect("memory://a")
        await settled()
        assert [link.endpoint for link in client.links] == ["memory://also-a"]


async def test_servers_that_come_and_go_while_they_are_named(autojump_clock: object) -> None:
    async with serving("a") as (client, _):
        client.connect_service("who", Told("memory://a", "memory://later"))
        await settled()
        assert at(client) == ["a"]
        for _ in range(2):
            async with duplex.open_peer(services=[named("later")], name="later") as later:
                await later.bind("memory://later")
                await trio.sleep(20)  # of virtual time
                assert at(client) == ["a", "later"]
            await settled()
            assert at(client) == ["a"]


async def test_weights_are_followed(autojump_clock: object) -> None:
    async with serving("a", "b") as (client, _):
        told = Told(duplex.Endpoint("memory://a", weight=3), "memory://b")
        client.connect_service("who", told)
        await settled()
        assert await answers(client) == {"a": 9, "b": 3}
        told.say("memory://a", duplex.Endpoint("memory://b", weight=2))
        await settled()
        counts = await answers(client, 30)
        assert counts["b"] == pytest.approx(20, abs=1)


async def test_the_own_zone_is_preferred(autojump_clock: object) -> None:
    async with serving("a", "b") as (client, _):
        everywhere = [duplex.Endpoint("memory://a", zone="x"), duplex.Endpoint("memory://b", zone="y")]
        told = Told(*everywhere)
        client.connect_service("who", told, zone="y")
        await settled()
        assert at(client) == ["b"]
        told.say(everywhere[0])
        await settled()
        assert at(client) == ["a"]


async def test_endpoints_that_are_wrong_do_not_harm_others(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving("a", "b") as (client, _):
        told = Told("memory://a", "nowhere", "tcp://no-port")
        followed = client.connect_service("who", told)
        await settled()
        assert at(client) == ["a"]
        assert "nowhere" in str(followed.problem)
        assert len([record for record in caplog.records if "cannot be connected" in record.message]) == 1
        told.say("nowhere")
        await settled()
        assert at(client) == ["a"], "none of them is right, so it is a mistake"
        told.say("memory://b")
        await trio.sleep(10)  # of virtual time
        assert at(client) == ["b"]


class Rude:
    """A transport that raises what it likes."""

    schemes = frozenset({"rude"})

    def bind(self, endpoint: str, receiver: Any, options: Any) -> NoReturn:
        raise NotImplementedError

    def connect(self, endpoint: str, receiver: Any, options: Any) -> NoReturn:
        raise OSError("not today")


@pytest.mark.parametrize(
    ("wrong", "why"),
    [("rude://x", "not today"), ("tcp://no-port", "the port is missing"), ("ipc://\ud800", "no character")],
)
async def test_who_calls_learns_that_nothing_can_be_connected(
    wrong: str, why: str, autojump_clock: object
) -> None:
    """And others that are followed, and the peer, go on."""
    transports = [*default_transports(), Rude()]
    async with (
        duplex.open_peer(services=[named("a")]) as server,
        duplex.open_peer(transports=transports, connect_timeout=2) as client,
    ):
        other = client.connect_service("other", Told(await server.bind("memory://*")))
        followed = client.connect_service("who", Told(wrong))
        await settled()
        assert why in str(followed.problem)
        assert other.problem is None
        assert await client.service("who").name_() == "a", "whoever offers it will do"
        client.connect_service("nobody", Told(wrong))
        with pytest.raises(duplex.Unavailable, match=why):
            await client.service("nobody").name_()
        assert await client.bind("memory://*")


async def test_endpoints_that_do_not_change(autojump_clock: object) -> None:
    async with serving("a", "b") as (client, _):
        client.connect_service("who", ["memory://a", duplex.Endpoint("memory://b")])
        assert await answers(client) == {"a": 6, "b": 6}
    async with serving("a") as (client, _):
        client.connect_service("who", "memory://a")
        assert await answers(client, 1) == {"a": 1}


async def test_nothing_is_left_when_nobody_follows_any_more(autojump_clock: object) -> None:
    async with serving("a") as (client, _):
        told = Told("memory://a")
        for _ in range(3):
            followed = client.connect_service("who", told)
            told.say("memory://a")
            await settled()
            assert at(client) == ["a"]
            followed.leave()
            await settled()
            assert client.links == []
            assert told.open == 0
        engine: Any = client._inside
        assert not engine.ports.receivers
        assert not engine.table._followers
        assert not engine.table._resolving
        connections: Any = client._connections
        assert not connections._wanted
        assert not connections._ours
        assert type(await outcome(client.service("who").name_())) is duplex.Unavailable


@pytest.mark.parametrize("is_known", [False, True])
async def test_a_call_that_waits_is_told_when_nobody_follows_any_more(
    is_known: bool, autojump_clock: object
) -> None:
    results: list[Any] = []
    async with serving() as (client, _), trio.open_nursery() as nursery:
        told = Told()
        followed = client.connect_service("who", told)
        if is_known:
            told.say()
            await trio.sleep(1000)  # of virtual time: that there are no endpoints is believed by then

        async def call() -> None:
            results.append(await outcome(client.service("who").with_options(wait_for_ready=True).name_()))

        nursery.start_soon(call)
        await settled()
        assert results == []
        followed.leave()
        await settled()
        assert [type(result) for result in results] == [duplex.Unavailable]


async def test_a_peer_that_drains_or_is_closed_follows_nothing(autojump_clock: object) -> None:
    async with serving("a", "b") as (client, _):
        told = Told("memory://a")
        client.connect_service("who", told)
        await settled()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.drain, 10)
            told.say("memory://a", "memory://b")
            await settled()
            with pytest.raises(trio.ClosedResourceError, match="is closed, or drains"):
                client.connect_service("who", told)
        assert client.links == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", []), "name of a service must be a str that is not empty"),
        ((3, []), "name of a service must be a str"),
        (("who", 3), "has a method resolve"),
        (("who", ["nowhere"]), "begin with a scheme"),
        (("who", ["other://x"]), "begin with a known scheme"),
        (("who", "nowhere"), "looked up at"),
    ],
)
async def test_wrong_arguments(arguments: Any, message: str) -> None:
    async with duplex.open_peer() as client:
        with pytest.raises(duplex.ConfigurationError, match=message):
            client.connect_service(*arguments)
        for option, wrong in (("zone", 3), ("empty_after", -1), ("empty_after", "1")):
            options: Any = {option: wrong}
            with pytest.raises(duplex.ConfigurationError, match=option):
                client.connect_service("who", [], **options)
        assert not client._inside.table._resolving
    with pytest.raises(TypeError, match="connect_service"):
        duplex.FollowedService()  # type: ignore[call-arg]


def _is_told(followed: duplex.FollowedService, text: str) -> bool:
    return text in str(problem_of(followed))


async def test_a_set_is_a_list_of_endpoints() -> None:
    told = Told()
    async with duplex.open_peer() as client:
        followed = client.connect_service("worker", told)
        for wrong in ("tcp://127.0.0.1:1", 5, duplex.Endpoint("tcp://127.0.0.1:1")):
            told.say_as_it_is(wrong)
            await until(functools.partial(_is_told, followed, repr(wrong)))
            assert "a resolver yields lists of endpoints, one list after the other, not" in str(
                problem_of(followed)
            )


async def test_a_resolver_that_yields_nothing_is_refused_at_once() -> None:
    class Returns:
        async def resolve(self, service: str) -> list[str]:
            return ["tcp://127.0.0.1:1"]

    async with duplex.open_peer() as client:
        with pytest.raises(
            duplex.ConfigurationError, match=r"must be an `async def` that yields lists .* has no `yield`"
        ):
            client.connect_service("worker", Returns())  # type: ignore[arg-type]
