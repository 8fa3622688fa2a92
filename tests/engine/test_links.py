"""Several peers and several links: who is called, who may be called, and when."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from tests.engine.helpers import linked, outcome, quiet, until
from tests.engine.named_service import named, serving
from tests.machine import fail_after


async def test_server_calls_the_client(endpoint: str) -> None:
    async with linked(named("server"), offers=[named("client")], endpoint=endpoint) as pair:
        assert await pair.server.service("who").name_() == "client"
        assert await pair.client.service("who").name_() == "server"
        assert await pair.back.service("who").name_() == "client"
        assert await pair.link.service("who").name_() == "server"


async def test_handler_calls_its_caller_back() -> None:
    service = duplex.Service("service")

    @service.rpc
    async def ask() -> str:
        link: Any = duplex.current_call().link
        answer: str = await link.service("who").name_()
        return f"I was called by {answer}"

    async with linked(service, offers=[named("client")]) as pair:
        assert await pair.service("service").ask() == "I was called by client"


async def test_calls_nested_five_deep_in_both_directions_at_once(endpoint: str) -> None:
    """A calls B calls A ...; B calls A calls B ... at the same time, over the same link."""
    service = duplex.Service("nest")

    @service.rpc
    async def descend(depth: int) -> list[str]:
        call = duplex.current_call()
        if depth == 0:
            return [call.link.peer.name]
        link: Any = call.link
        below: list[str] = await link.service("nest").descend(depth - 1)
        return [call.link.peer.name, *below]

    results: dict[str, Any] = {}

    async def start(name: str, link: duplex.Link) -> None:
        results[name] = await link.service("nest").descend(4)

    async with linked(service, offers=[service], endpoint=endpoint) as pair:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(start, "client", pair.link)
            nursery.start_soon(start, "server", pair.back)
    assert results["client"] == ["server", "client", "server", "client", "server"]
    assert results["server"] == ["client", "server", "client", "server", "client"]


# -- several links -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["tcp", "memory"])
async def test_calls_go_round_robin(scheme: str, tmp_path: Path) -> None:
    with fail_after(10):
        async with serving("a", "b", scheme=scheme, path=tmp_path) as endpoints, duplex.open_peer() as client:
            for endpoint in endpoints:
                await client.connect(endpoint)
            remote = client.service("who").with_options(balancer="round_robin")
            names = [await remote.name_() for _ in range(10)]
            assert Counter(names) == {"a": 5, "b": 5}
            assert all(one != two for one, two in itertools.pairwise(names))
            assert {link.peer_name for link in client.links} == {"a", "b"}
            for link in client.links:
                assert {await link.service("who").name_() for _ in range(3)} == {link.peer_name}
            await quiet(*client.links)


async def test_only_links_that_offer_the_service_are_asked() -> None:
    with fail_after(10):
        async with serving("a", "b") as endpoints, duplex.open_peer(services=[named("c", "else")]) as other:
            async with duplex.open_peer() as client:
                for endpoint in [*endpoints, await other.bind("memory://*")]:
                    await client.connect(endpoint)
                remote = client.service("who").with_options(balancer="round_robin")
                assert {await remote.name_() for _ in range(6)} == {"a", "b"}
                assert {await client.service("else").name_() for _ in range(3)} == {"c"}


async def test_a_peer_that_binds_twice_and_connects_twice(tmp_path: Path) -> None:
    """Neither a client nor a server: it takes links at two endpoints and makes two of its own."""
    with fail_after(10):
        async with (
            serving("up-tcp", scheme="tcp") as (up_tcp,),
            serving("up-memory") as (up_memory,),
            duplex.open_peer(services=[named("middle")], name="middle") as middle,
            duplex.open_peer(services=[named("down-1")], name="down-1") as down_1,
            duplex.open_peer(services=[named("down-2")], name="down-2") as down_2,
        ):
            bound = [await middle.bind("tcp://127.0.0.1:*"), await middle.bind(f"ipc://{tmp_path}/s")]
            assert middle.endpoints == bound
            await middle.connect(up_tcp)
            await middle.connect(up_memory)
            await down_1.connect(bound[0])
            await down_2.connect(bound[1])
            await until(lambda: len(middle.links) == 4)
            remote = middle.service("who").with_options(balancer="round_robin")
            assert {await remote.name_() for _ in range(8)} == {"up-tcp", "up-memory", "down-1", "down-2"}
            assert await down_1.service("who").name_() == "middle"
            assert await down_2.service("who").name_() == "middle"
            assert sorted(middle.services) == ["duplex.health", "duplex.reflection", "duplex.stats", "who"]
            await quiet(*middle.links)


async def test_link_tells_who_is_there() -> None:
    async with linked(named("x"), duplex.Service("empty", version="3.2.1")) as pair:
        assert pair.link.peer_id == pair.server.id
        assert pair.link.peer_name == "server"
        assert pair.link.endpoint == pair.endpoint
        assert pair.link.services["empty"] == "3.2.1"
        assert pair.link.is_open
        assert "server" in repr(pair.link)
        assert pair.endpoint in repr(pair.link)
        assert repr(pair.server) == "<Peer server with 1 links>"
        assert 0 <= await pair.link.ping() < 5
        statistics = pair.link.statistics()
        assert statistics.round_trip is not None
        assert (statistics.peer_name, statistics.peer_id) == ("server", pair.server.id)


async def test_peer_without_a_name_goes_by_its_id() -> None:
    async with linked(server={"name": ""}) as pair:
        assert pair.link.peer_name == pair.server.id
        assert pair.server.id in repr(pair.server)
        assert pair.server.id != pair.client.id


# -- services that come later --------------------------------------------------------------------------


async def test_service_added_after_the_link(endpoint: str) -> None:
    async with linked(endpoint=endpoint) as pair:
        with pytest.raises(duplex.Unimplemented):
            await pair.service("who").name_()
        pair.server.add_service(named("late"))
        await until(lambda: "who" in pair.link.services)
        assert await pair.service("who").name_() == "late"


async def test_call_that_waits_for_a_service_to_be_announced(autojump_clock: object) -> None:
    """While another connection is being made, an unknown service may still come with it."""
    async with linked(within=100) as pair:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outcome, _connect(pair.client, "memory://later", 50))
            await trio.testing.wait_all_tasks_blocked()
            results: list[Any] = []

            async def call() -> None:
                results.append(await outcome(pair.service("who").name_()))

            nursery.start_soon(call)
            await trio.testing.wait_all_tasks_blocked()
            assert results == []
            pair.server.add_service(named("announced"))
            await until(lambda: results)
            assert results == ["announced"]
            nursery.cancel_scope.cancel()


async def _connect(peer: duplex.Peer, endpoint: str, timeout: float) -> duplex.Link:
    return await peer.connect(endpoint, timeout=timeout)


async def test_service_is_offered_once_only() -> None:
    async with linked(named("x")) as pair:
        with pytest.raises(duplex.ConfigurationError, match="'who' already"):
            pair.server.add_service(named("y"))
        with pytest.raises(duplex.ConfigurationError, match=r"peer\.expose"):
            pair.server.add_service(object())  # type: ignore[arg-type]
        with pytest.raises(duplex.ConfigurationError, match="empty"):
            pair.client.service("")
        with pytest.raises(duplex.ConfigurationError):
            pair.client.service(42)  # type: ignore[call-overload]
        with pytest.raises(duplex.ConfigurationError, match="name="):
            pair.client.service("who", name="other")  # type: ignore[call-overload]
        assert await pair.client.service(named("z")).name_() == "x"


# -- leaving -------------------------------------------------------------------------------------------


async def test_closed_peer_takes_nothing_more() -> None:
    with fail_after(10):
        async with duplex.open_peer() as peer:
            await peer.bind("memory://*")
            await peer.aclose()
            await peer.aclose()
            assert peer.endpoints == []
            with pytest.raises(trio.ClosedResourceError):
                await peer.bind("memory://*")
            with pytest.raises(trio.ClosedResourceError):
                await peer.connect("memory://x")
            with pytest.raises(duplex.Unavailable):
                await peer.service("x").y()


async def test_closed_link_takes_no_calls() -> None:
    async with linked(named("x"), check=False) as pair:
        await pair.link.aclose()
        await pair.link.aclose()
        with pytest.raises(duplex.PeerLost) as caught:
            await pair.link.service("who").name_()
        assert caught.value.may_have_executed is False
        with pytest.raises(duplex.Unavailable):
            await pair.link.ping()
        await pair.link.wait_closed()


async def test_ping_on_a_link_that_is_lost_meanwhile() -> None:
    async with linked(check=False) as pair, trio.open_nursery() as nursery:
        results: list[Any] = []

        async def ping() -> None:
            results.append(await outcome(pair.link.ping()))

        nursery.start_soon(ping)
        nursery.start_soon(pair.back.aclose)
        await until(lambda: results)
        assert isinstance(results[0], (float, duplex.Unavailable))


async def _fail_within() -> None:
    async with duplex.open_peer() as peer:
        await peer.bind("memory://*")
        raise ZeroDivisionError


async def test_error_in_the_block_comes_out_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        await _fail_within()
    with pytest.raises(ExceptionGroup, match="mine"):
        async with duplex.open_peer():
            raise ExceptionGroup("mine", [ValueError()])
    with trio.move_on_after(0) as scope:
        async with duplex.open_peer() as peer:
            await peer.bind("memory://*")
    assert scope.cancelled_caught


async def test_peers_in_one_run_do_not_disturb_each_other_when_they_close() -> None:
    with fail_after(10):
        async with duplex.open_peer(services=[named("a")]) as server:
            endpoint = await server.bind("memory://*")
            async with duplex.open_peer() as outer:
                await outer.connect(endpoint)
                for _ in range(3):
                    async with duplex.open_peer() as inner:
                        await inner.connect(endpoint)
                        assert await inner.service("who").name_() == "a"
                    assert await outer.service("who").name_() == "a"


async def test_version_that_cannot_travel() -> None:
    with pytest.raises(duplex.ConfigurationError, match="version"):
        async with duplex.open_peer(services=[duplex.Service("x", version="1" * 256)]) as peer:
            await peer.connect(await peer.bind("memory://*"))


def _add_services(peer: duplex.Peer, count: int) -> None:
    for number in range(count):
        peer.add_service(duplex.Service(f"service-{number}"))


async def test_too_many_services() -> None:
    async with linked() as pair:
        with pytest.raises(duplex.ConfigurationError, match="1024"):
            _add_services(pair.server, 1025)
        await pair.settle()
        assert pair.link.is_open
        assert len(pair.link.services) == 1024


async def test_who_connected_connects_anew_when_the_other_side_leaves_and_nobody_else() -> None:
    go = trio.Event()
    running = 0

    def waiting(name: str) -> duplex.Service:
        service = duplex.Service(name)

        @service.rpc
        async def wait() -> None:
            nonlocal running
            running += 1
            await go.wait()

        return service

    async with linked(waiting("there"), offers=[waiting("here")], check=False) as pair:
        client, server = pair.client._inside.table, pair.server._inside.table
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.link.service("there").wait)
            nursery.start_soon(pair.back.service("here").wait)
            await until(lambda: running == 2)
            assert not client.is_replaced("there")
            assert not server.is_replaced("here")
            nursery.start_soon(pair.server.drain)
            await until(lambda: pair.link._inside.connection.remote_leaving)
            assert client.is_replaced("there")
            nursery.start_soon(pair.client.drain)
            await until(lambda: pair.back._inside.connection.remote_leaving)
            assert not server.is_replaced("here"), "it was connected to"
            go.set()
