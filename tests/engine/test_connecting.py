"""Binding and connecting: waiting for each other, for nobody, and taking it back."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from duplex.transports._memory import MemoryTransport
from tests.engine.helpers import first_link, linked, outcome, until
from tests.engine.named_service import named
from tests.machine import fail_after, within

NOWHERE = ["tcp://127.0.0.1:9", "ipc://{path}/nobody", "memory://nobody", "inproc://nobody-{path}"]


@pytest.mark.parametrize("nowhere", NOWHERE[:2] + NOWHERE[3:])
async def test_connect_to_nothing(nowhere: str, tmp_path: Path) -> None:
    endpoint = nowhere.format(path=tmp_path)
    with fail_after(5):
        async with duplex.open_peer() as peer:
            started = trio.current_time()
            with pytest.raises(duplex.ConnectError) as caught:
                await peer.connect(endpoint, timeout=0.05)
            assert trio.current_time() - started < within(1)
            assert endpoint in str(caught.value)
            assert "0.05 s" in str(caught.value)
            assert peer.links == []
            with pytest.raises(duplex.ConfigurationError, match="not connected"):
                await peer.disconnect(endpoint)


async def test_one_that_is_silent_is_told_before_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server has ten seconds for its handshake, and who connects has perhaps one; and another address of the name was tried before."""
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))
        ports = [wire.getsockname()[1] for wire in (refusing, silent)]

        async def found(*words: Any, **more: Any) -> list[Any]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]

        monkeypatch.setattr(trio.socket, "getaddrinfo", found)
        async with duplex.open_peer() as peer:
            with pytest.raises(duplex.ConnectError) as caught:
                await peer.connect("tcp://name:5555", timeout=0.5)
        assert str(caught.value).endswith(
            f"tcp://127.0.0.1:{ports[0]} did not accept the connection: it was refused (nothing listens there); "
            f"tcp://127.0.0.1:{ports[1]} accepted the connection, but is silent"
        )


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
    with fail_after(10):
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
    with fail_after(5):
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
    with fail_after(10):
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
    with fail_after(10):
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
    with fail_after(10):
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
    with fail_after(10):
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
    with fail_after(10):
        async with duplex.open_peer() as server, duplex.open_peer() as client:
            real = await server.bind("tcp://127.0.0.1:*")
            await client.connect(real)
            await client.disconnect(real)
            await server.unbind("tcp://127.0.0.1:*")
            assert server.endpoints == []


@pytest.mark.parametrize("steps", range(6))
async def test_closing_a_port_right_after_it_was_made(steps: int, endpoint: str) -> None:
    """However far its tasks have come by then."""
    with fail_after(10):
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
    with fail_after(10):
        async with duplex.open_peer() as peer:
            for wrong in ("127.0.0.1:65536", "nonsense", "carrier-pigeon://x", "tcp://x", "", 42):
                for method in (peer.bind, peer.connect):
                    with pytest.raises(duplex.ConfigurationError):
                        await method(wrong)  # type: ignore[arg-type]
            taken = await peer.bind("tcp://127.0.0.1:*")
            with pytest.raises(duplex.BindError, match=taken):
                await peer.bind(taken)
            assert peer.endpoints == [taken]


async def test_wrong_options_of_a_peer() -> None:
    name: Any = 42
    with pytest.raises(duplex.ConfigurationError, match="name"):
        async with duplex.open_peer(name=name):
            pass  # pragma: no cover
    with pytest.raises(duplex.ConfigurationError, match="connect_timeout"):
        async with duplex.open_peer(connect_timeout=-1):
            pass  # pragma: no cover


async def test_too_many_links_are_refused() -> None:
    with fail_after(10):
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


# -- names that cannot travel --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x" * 256, "ü" * 128, "\ud800"], ids=["long", "long in bytes", "surrogate"])
async def test_name_that_cannot_travel(name: str) -> None:
    """It is refused where it is given, rather than when somebody connects."""
    with pytest.raises(duplex.ConfigurationError, match="name"):
        async with duplex.open_peer(name=name) as peer:
            await peer.connect(await peer.bind("memory://*"))


async def test_longest_name() -> None:
    async with linked(client={"name": "ü" * 127}) as pair:
        assert pair.back.peer_name == "ü" * 127


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
    with fail_after(100):
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


@pytest.mark.parametrize("where", ["dns:///calc.test:7700", "host://calc.test:7700", "file:///etc/calc.json"])
async def test_where_a_service_is_looked_up_is_no_endpoint(where: str) -> None:
    async with duplex.open_peer() as peer:
        for connect in (peer.connect, peer.connect_soon):
            with pytest.raises(duplex.ConfigurationError) as caught:
                await connect(where)  # type: ignore[misc]
            assert f"{where} says where to look for a service, and is no endpoint" in str(caught.value)
            assert f"peer.connect_service(service, {where!r})" in str(caught.value)


async def test_a_transport_may_have_a_scheme_that_is_looked_up_elsewhere() -> None:
    """What it is asked to connect to is its own affair."""

    class Files:
        schemes = frozenset({"file"})

        def bind(self, endpoint: str, *rest: Any) -> Any:
            return MemoryTransport().bind(endpoint.replace("file", "memory"), *rest)

        def connect(self, endpoint: str, *rest: Any) -> Any:
            return MemoryTransport().connect(endpoint.replace("file", "memory"), *rest)

    async with duplex.open_peer(transports=[Files()]) as peer:
        with pytest.raises(duplex.ConnectError):
            await peer.connect("file://nobody", timeout=0.01)


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:*", "memory://*"])
async def test_who_offers_more_than_a_greeting_holds_announces_it(endpoint: str) -> None:
    many = [duplex.Service(f"{'s' * 240}-{number}") for number in range(400)]
    async with linked(endpoint=endpoint, offers=many) as pair:
        await until(lambda: len(pair.back.services) >= 400)


@pytest.mark.without_libzmq("strangers have no bounds there")
async def test_who_is_refused_for_a_greeting_that_is_too_long_learns_so() -> None:
    limits = duplex.Limits(max_hello=1024)
    async with duplex.open_peer(limits=limits) as server, duplex.open_peer(services=[named("a")]) as client:
        endpoint = await server.bind("tcp://127.0.0.1:*")
        await (await client.connect(endpoint)).aclose()
        for number in range(100):
            client.add_service(duplex.Service(f"service-{number}"))
        with pytest.raises(duplex.HandshakeError, match="one frame of up to 1024 bytes") as caught:
            await client.connect(endpoint)
        assert caught.value.reason == "protocol"
