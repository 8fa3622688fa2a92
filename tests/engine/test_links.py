"""Several peers and several links: who is called, who may be called, and what happens without any."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from tests.engine.helpers import endpoint_of, first_link, linked, outcome, quiet, until


def named(name: str, service_name: str = "who") -> duplex.Service:
    """A service that says which peer it is at."""
    service = duplex.Service(service_name)

    @service.rpc
    async def name_() -> str:
        return name

    @service.rpc
    async def wait() -> None:
        await trio.sleep_forever()

    return service


@contextlib.asynccontextmanager
async def serving(*names: str, scheme: str = "memory", path: Path | None = None) -> AsyncIterator[list[str]]:
    """Peers of these names; gives their endpoints."""
    async with contextlib.AsyncExitStack() as stack:
        endpoints = []
        for number, name in enumerate(names):
            peer = await stack.enter_async_context(duplex.open_peer(services=[named(name)], name=name))
            directory = (path or Path()) / str(number)
            if scheme == "ipc":
                directory.mkdir()
            endpoints.append(await peer.bind(endpoint_of(scheme, directory)))
        yield endpoints


# -- both directions -----------------------------------------------------------------------------------


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
    with trio.fail_after(10):
        async with serving("a", "b", scheme=scheme, path=tmp_path) as endpoints, duplex.open_peer() as client:
            for endpoint in endpoints:
                await client.connect(endpoint)
            remote = client.service("who")
            names = [await remote.name_() for _ in range(10)]
            assert Counter(names) == {"a": 5, "b": 5}
            assert all(one != two for one, two in itertools.pairwise(names))
            assert {link.peer_name for link in client.links} == {"a", "b"}
            for link in client.links:
                assert {await link.service("who").name_() for _ in range(3)} == {link.peer_name}
            await quiet(*client.links)


async def test_only_links_that_offer_the_service_are_asked() -> None:
    with trio.fail_after(10):
        async with serving("a", "b") as endpoints, duplex.open_peer(services=[named("c", "else")]) as other:
            async with duplex.open_peer() as client:
                for endpoint in [*endpoints, await other.bind("memory://*")]:
                    await client.connect(endpoint)
                names = {await client.service("who").name_() for _ in range(6)}
                assert names == {"a", "b"}
                assert {await client.service("else").name_() for _ in range(3)} == {"c"}


async def test_a_peer_that_binds_twice_and_connects_twice(tmp_path: Path) -> None:
    """Neither a client nor a server: it takes links at two endpoints and makes two of its own."""
    with trio.fail_after(10):
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
            names = {await middle.service("who").name_() for _ in range(8)}
            assert names == {"up-tcp", "up-memory", "down-1", "down-2"}
            assert await down_1.service("who").name_() == "middle"
            assert await down_2.service("who").name_() == "middle"
            assert sorted(middle.services) == ["duplex.health", "duplex.reflection", "who"]
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
        with pytest.raises(duplex.ConfigurationError):
            pair.client.service(42)  # type: ignore[call-overload]
        with pytest.raises(duplex.ConfigurationError, match="name="):
            pair.client.service("who", name="other")  # type: ignore[call-overload]
        assert await pair.client.service(named("z")).name_() == "x"


# -- nobody there --------------------------------------------------------------------------------------

NOWHERE = ["tcp://127.0.0.1:9", "ipc://{path}/nobody", "memory://nobody", "inproc://nobody-{path}"]


@pytest.mark.parametrize("nowhere", NOWHERE[:2] + NOWHERE[3:])
async def test_connect_to_nothing(nowhere: str, tmp_path: Path) -> None:
    endpoint = nowhere.format(path=tmp_path)
    with trio.fail_after(5):
        async with duplex.open_peer() as peer:
            started = trio.current_time()
            with pytest.raises(duplex.ConnectError) as caught:
                await peer.connect(endpoint, timeout=0.05)
            assert trio.current_time() - started < 1
            assert endpoint in str(caught.value)
            assert "0.05 s" in str(caught.value)
            assert peer.links == []
            with pytest.raises(duplex.ConfigurationError, match="not connected"):
                await peer.disconnect(endpoint)


async def test_connect_to_nothing_in_memory(autojump_clock: object) -> None:
    async with duplex.open_peer(connect_timeout=30) as peer:
        started = trio.current_time()
        with pytest.raises(duplex.ConnectError, match="memory://nobody within 30 s: nothing is bound"):
            await peer.connect("memory://nobody")
        assert trio.current_time() - started == pytest.approx(30)


async def test_connect_waits_for_somebody_to_bind(endpoint: str, tmp_path: Path) -> None:
    """Connecting before binding is fine, over everything."""
    if endpoint == "tcp://127.0.0.1:*":
        async with duplex.open_peer() as peer:
            endpoint = await peer.bind(endpoint)
    elif endpoint.endswith("*"):
        endpoint = endpoint.replace("*", f"early-{tmp_path.name}")
    with trio.fail_after(10):
        async with duplex.open_peer(services=[named("late")]) as server, duplex.open_peer() as client:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.connect, endpoint)
                await trio.testing.wait_all_tasks_blocked(0.001)
                await server.bind(endpoint)
            assert await client.service("who").name_() == "late"


async def test_cancelled_connect_leaves_nothing(autojump_clock: object) -> None:
    async with duplex.open_peer() as peer:
        with trio.move_on_after(1):
            await peer.connect("memory://nobody")
        async with duplex.open_peer() as server:
            await server.bind("memory://nobody")
            await trio.sleep(60)
            assert peer.links == []
            assert server.links == []


async def test_call_without_any_endpoint_fails_at_once() -> None:
    with trio.fail_after(5):
        async with duplex.open_peer() as peer:
            remote = peer.service("who")
            for call in (remote.name_(), remote.name_.notify(), remote.name_.open().__aenter__()):
                with pytest.raises(duplex.Unavailable, match=r"await peer\.connect") as caught:
                    await call
                assert caught.value.may_have_executed is False


async def test_call_without_a_link_fails_within_the_connect_timeout(autojump_clock: object) -> None:
    async with duplex.open_peer(connect_timeout=3) as peer:
        await peer.bind("memory://*")
        started = trio.current_time()
        with pytest.raises(duplex.Unavailable, match="nobody is linked") as caught:
            await peer.service("who").name_()
        assert caught.value.may_have_executed is False
        assert trio.current_time() - started == pytest.approx(3)
        with pytest.raises(duplex.DeadlineExceeded):
            await peer.service("who").with_options(timeout=1).name_()
        assert trio.current_time() - started == pytest.approx(4)
        with pytest.raises(duplex.DeadlineExceeded):
            async with peer.service("who").with_options(timeout=1).name_.open():
                pass  # pragma: no cover


async def test_call_waits_until_a_peer_connects(endpoint: str) -> None:
    with trio.fail_after(10):
        async with duplex.open_peer() as waiting, duplex.open_peer(services=[named("guest")]) as guest:
            address = await waiting.bind(endpoint)
            results: list[Any] = []

            async def call() -> None:
                results.append(await waiting.service("who").name_())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(call)
                nursery.start_soon(call)
                await trio.testing.wait_all_tasks_blocked(0.001)
                assert results == []
                await guest.connect(address)
            assert results == ["guest", "guest"]


async def test_waiting_call_hears_when_its_own_peer_is_closed(autojump_clock: object) -> None:
    async with duplex.open_peer(connect_timeout=1000) as peer:
        await peer.bind("memory://*")
        results: list[Any] = []

        async def call() -> None:
            results.append(await outcome(peer.service("who").name_()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await trio.testing.wait_all_tasks_blocked()
            started = trio.current_time()
            await peer.aclose()
        assert isinstance(results[0], duplex.Unavailable)
        assert trio.current_time() - started < 1


async def test_full_link_is_told_as_such() -> None:
    """Not as "no such service", just because another peer is linked first that has none."""
    limits = duplex.Limits(max_channels=1)
    with trio.fail_after(10):
        async with (
            duplex.open_peer(name="other") as other,
            duplex.open_peer(services=[named("a")], limits=limits) as server,
            duplex.open_peer() as client,
        ):
            await client.connect(await other.bind("memory://*"))
            await client.connect(await server.bind("memory://*"))
            async with client.service("who").wait.open():
                with pytest.raises(duplex.ResourceExhausted, match="max_channels") as caught:
                    await client.service("who").name_()
                assert caught.value.may_have_executed is False
            # The cancelled call counts until the other side has acknowledged that it is over.
            await until(lambda: all(link.statistics().outgoing == 0 for link in client.links))
            assert await client.service("who").name_() == "a"


# -- taking endpoints back -----------------------------------------------------------------------------


async def test_unbind_closes_its_links_only(endpoint: str) -> None:
    with trio.fail_after(10):
        async with duplex.open_peer(services=[named("server")]) as server:
            one, two = await server.bind(endpoint), await server.bind("memory://*")
            async with duplex.open_peer() as first, duplex.open_peer() as second:
                lost, kept = await first.connect(one), await second.connect(two)
                await until(lambda: len(server.links) == 2)
                await server.unbind(one)
                await lost.wait_closed()
                assert not lost.is_open
                assert kept.is_open
                assert await second.service("who").name_() == "server"
                assert server.endpoints == [two]
                assert len(server.links) == 1
                with pytest.raises(duplex.ConfigurationError, match=f"not bound; {two} is"):
                    await server.unbind(one)
                again = await server.bind(one)
                assert again == one


async def test_disconnect_closes_its_link_only(endpoint: str) -> None:
    with trio.fail_after(10):
        async with (
            duplex.open_peer(services=[named("one")]) as one,
            duplex.open_peer(services=[named("two")]) as two,
            duplex.open_peer() as client,
        ):
            first, second = await one.bind(endpoint), await two.bind("memory://*")
            link = await client.connect(first)
            await client.connect(second)
            far = await first_link(one)
            await client.disconnect(first)
            assert not link.is_open
            await far.wait_closed()
            assert one.links == []
            assert {await client.service("who").name_() for _ in range(3)} == {"two"}
            with pytest.raises(duplex.ConfigurationError, match="not connected"):
                await client.disconnect(first)


async def test_unbind_and_disconnect_take_the_requested_endpoint_too() -> None:
    with trio.fail_after(10):
        async with duplex.open_peer() as server, duplex.open_peer() as client:
            real = await server.bind("tcp://127.0.0.1:*")
            await client.connect(real)
            await client.disconnect(real)
            await server.unbind("tcp://127.0.0.1:*")
            assert server.endpoints == []


@pytest.mark.parametrize("steps", range(6))
async def test_closing_a_port_right_after_it_was_made(steps: int, endpoint: str) -> None:
    """However far its tasks have come by then."""
    with trio.fail_after(10):
        for _ in range(3):
            async with duplex.open_peer() as server, duplex.open_peer() as client:
                address = await server.bind(endpoint)
                with trio.move_on_after(0):
                    await client.connect(address)
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                await client.aclose()
                await server.aclose()


async def test_wrong_endpoints() -> None:
    with trio.fail_after(10):
        async with duplex.open_peer() as peer:
            for wrong in ("127.0.0.1:1", "carrier-pigeon://x", "tcp://x", "", 42):
                for method in (peer.bind, peer.connect):
                    with pytest.raises(duplex.ConfigurationError):
                        await method(wrong)  # type: ignore[arg-type]
            taken = await peer.bind("tcp://127.0.0.1:*")
            with pytest.raises(duplex.BindError, match=taken):
                await peer.bind(taken)
            assert peer.endpoints == [taken]


async def test_wrong_options_of_a_peer() -> None:
    with pytest.raises(duplex.ConfigurationError, match="connect_timeout"):
        async with duplex.open_peer(connect_timeout=-1):
            pass  # pragma: no cover


async def test_too_many_links_are_refused() -> None:
    with trio.fail_after(10):
        async with duplex.open_peer(limits=duplex.Limits(max_links=1)) as server:
            endpoint = await server.bind("tcp://127.0.0.1:*")
            async with duplex.open_peer() as first, duplex.open_peer() as second:
                link = await first.connect(endpoint)
                with pytest.raises(duplex.HandshakeError, match="max_links") as caught:
                    await second.connect(endpoint)
                assert caught.value.reason == "limit"
                await first.disconnect(endpoint)
                await link.wait_closed()
                await until(lambda: not server.links)
                await second.connect(endpoint)


# -- leaving -------------------------------------------------------------------------------------------


async def test_closed_peer_takes_nothing_more() -> None:
    with trio.fail_after(10):
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
    with trio.fail_after(10):
        async with duplex.open_peer(services=[named("a")]) as server:
            endpoint = await server.bind("memory://*")
            async with duplex.open_peer() as outer:
                await outer.connect(endpoint)
                for _ in range(3):
                    async with duplex.open_peer() as inner:
                        await inner.connect(endpoint)
                        assert await inner.service("who").name_() == "a"
                    assert await outer.service("who").name_() == "a"


@pytest.mark.parametrize("name", ["x" * 256, "ü" * 128, "\ud800"], ids=["long", "long in bytes", "surrogate"])
async def test_name_that_cannot_travel(name: str) -> None:
    """It is refused where it is given, rather than when somebody connects."""
    with pytest.raises(duplex.ConfigurationError, match="name"):
        async with duplex.open_peer(name=name) as peer:
            await peer.connect(await peer.bind("memory://*"))


async def test_longest_name() -> None:
    async with linked(client={"name": "ü" * 127}) as pair:
        assert pair.back.peer_name == "ü" * 127


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


async def test_peer_that_is_closed_while_it_connects(autojump_clock: object) -> None:
    async with duplex.open_peer() as peer:
        results: list[Any] = []

        async def connect() -> None:
            try:
                results.append(await peer.connect("memory://nobody", timeout=1000))
            except (trio.ClosedResourceError, duplex.ConnectError) as error:
                results.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(connect)
            await trio.testing.wait_all_tasks_blocked()
            started = trio.current_time()
            await peer.aclose()
        assert isinstance(results[0], (trio.ClosedResourceError, duplex.ConnectError))
        assert trio.current_time() - started < 1


async def test_call_waits_for_the_right_peer(autojump_clock: object) -> None:
    """One that has something else to offer comes first."""
    with trio.fail_after(100):
        async with (
            duplex.open_peer() as waiting,
            duplex.open_peer(services=[named("wrong", "else")]) as wrong,
            duplex.open_peer(services=[named("right")]) as right,
        ):
            address = await waiting.bind("memory://*")
            results: list[Any] = []

            async def call(timeout: float | None) -> None:
                remote = waiting.service("who").with_options(timeout=timeout)
                results.append(await remote.name_())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(call, None)
                nursery.start_soon(call, 50)
                await trio.testing.wait_all_tasks_blocked()
                await wrong.connect(address)
                await trio.testing.wait_all_tasks_blocked()
                assert results == []
                await right.connect(address)
            assert results == ["right", "right"]
