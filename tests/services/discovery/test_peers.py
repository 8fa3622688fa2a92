"""Peers that are registered, and that look others up, with discovery beside them in this process."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

import duplex
import duplex.resolvers
from duplex_services.discovery import Directory, Instance, _home, open_directory, open_server
from duplex_services.discovery._interfaces import interfaces
from duplex_services.discovery._rules._advertising import Interface
from tests.engine.helpers import until
from tests.engine.named_service import named
from tests.machine import fail_after
from tests.transports.certificates import tls

#: Seconds of virtual time in which whatever is to happen at once has happened.
SOON = 0.5


@contextlib.asynccontextmanager
async def discovery(
    *, endpoint: str = "memory://*", store: Any = "memory:"
) -> AsyncIterator[tuple[Directory, str]]:
    """A server of discovery, and where it is bound."""
    async with open_directory(store) as directory, open_server(directory, [endpoint]) as (_, ends):
        yield directory, ends[0]


@contextlib.asynccontextmanager
async def worker(name: str, server: str | list[str], **options: Any) -> AsyncIterator[duplex.Peer]:
    """A peer that offers the service ``who``, is bound, and registered."""
    async with duplex.open_peer(services=[named(name)], name=name, discovery=server, **options) as peer:
        await peer.bind("tcp://127.0.0.1:*")
        yield peer


def listed(directory: Directory, service: str = "who") -> list[Instance]:
    return sorted(
        directory.reading.view.all_instances(service), key=lambda one: one.metadata.get("duplex.peer", "")
    )


def states(directory: Directory, service: str = "who") -> dict[str, str]:
    return {one.metadata["duplex.peer"]: one.state for one in listed(directory, service)}


async def answers(client: duplex.Peer, count: int = 12) -> Counter[str]:
    return Counter([await client.service("who").name_() for _ in range(count)])


# ------------------------------------------------------------------------------------------ registering


async def test_a_peer_is_registered_where_it_is_bound_until_it_is_closed() -> None:
    with fail_after(10):
        async with discovery() as (directory, server):
            async with duplex.open_peer(services=[named("a")], name="a", discovery=server) as peer:
                await trio.testing.wait_all_tasks_blocked()
                assert listed(directory) == [], "it is not bound"
                endpoint = await peer.bind("tcp://127.0.0.1:*")
                await until(lambda: listed(directory))
                (found,) = listed(directory)
                assert found.endpoint == endpoint
                assert found.protocol == "duplex"
                assert found.id == peer.id
                assert found.state == "passing"
                assert found.metadata == {
                    "duplex.service": "who",
                    "duplex.version": peer.services["who"].version,
                    "duplex.peer": "a",
                }
                assert directory.reading.view.services() == ("who",), "what every peer has is not listed"
                await peer.unbind(endpoint)
                await until(lambda: not listed(directory))
                await peer.bind("tcp://127.0.0.1:*")
                await until(lambda: listed(directory))
            assert listed(directory) == [], "withdrawn, not left to its TTL"


async def test_a_peer_that_encrypts_is_registered_and_followed() -> None:
    with fail_after(10):
        async with discovery() as (directory, server):
            async with duplex.open_peer(services=[named("a")], discovery=server, tls=tls()) as peer:
                endpoint = await peer.bind("tls://127.0.0.1:*")
                await until(lambda: listed(directory))
                (found,) = listed(directory)
                assert found.endpoint == endpoint
                assert (found.host, found.port) == ("127.0.0.1", int(endpoint.rpartition(":")[2]))
                async with duplex.open_peer(discovery=server, tls=tls()) as client:
                    await client.connect("discovery://who")
                    assert await client.service("who").name_() == "a"
                    assert [link.endpoint for link in client.links] == [endpoint]


@pytest.mark.parametrize("end", ["drain", "aclose"])
async def test_it_is_withdrawn_first_of_all(end: str) -> None:
    with fail_after(10):
        async with discovery() as (directory, server), worker("a", server) as peer:
            await until(lambda: listed(directory))
            await getattr(peer, end)()
            assert listed(directory) == []
            await peer.aclose()


async def test_services_that_come_later_are_registered_too() -> None:
    with fail_after(10):
        async with discovery() as (directory, server), worker("a", server) as peer:
            peer.add_service(duplex.Service("user_store"))
            await until(lambda: listed(directory, "user-store"))
            (found,) = listed(directory, "user-store")
            assert found.metadata["duplex.service"] == "user_store"
            with pytest.raises(duplex.ConfigurationError, match="cannot be listed in discovery"):
                peer.add_service(duplex.Service("ü" * 5))


async def test_its_health_is_told() -> None:
    with fail_after(10):
        async with discovery() as (directory, server), worker("a", server) as peer:
            await until(lambda: listed(directory))
            peer.set_health("who", serving=False)
            await until(lambda: states(directory) == {"a": "critical"})
            (found,) = listed(directory)
            assert "takes no calls" in found.note
            peer.set_health("who", serving=True)
            await until(lambda: states(directory) == {"a": "passing"})
            healthy = True

            async def probe() -> bool:
                return healthy

            peer.probe_health("who", probe, ttl=0.05)
            await until(lambda: states(directory) == {"a": "passing"})
            healthy = False
            await until(lambda: states(directory) == {"a": "critical"})


async def test_what_others_are_told_can_be_said() -> None:
    with fail_after(10):
        async with discovery() as (directory, server):
            told = duplex.Advertise(
                addresses=("calc.example:7700",),
                id="w-1",
                zone="b",
                weight=3,
                metadata={"disk": "ssd"},
                ttl=4.0,
            )
            async with worker("a", server, advertise=told):
                await until(lambda: listed(directory))
                (found,) = listed(directory)
                assert (found.id, found.endpoint, found.zone) == ("w-1", "tcp://calc.example:7700", "b")
                assert (found.weight, found.ttl, found.metadata["disk"]) == (3, 4.0, "ssd")


async def test_it_is_registered_again_after_discovery_was_restarted(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/discovery.sock"
    leave = trio.Event()

    async def work() -> None:
        async with worker("a", endpoint):
            await leave.wait()

    with fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            async with discovery(endpoint=endpoint) as (directory, _):
                await until(lambda: listed(directory))
            async with discovery(endpoint=endpoint) as (directory, _):
                assert listed(directory) == [], "it knows nothing of the one before"
                await until(lambda: states(directory) == {"a": "passing"})
                leave.set()
                await until(lambda: not listed(directory))


async def test_a_directory_in_a_store_needs_no_server() -> None:
    with fail_after(10):
        url = "memory:in-a-store"
        async with open_directory(url) as directory, worker("a", url):
            await until(lambda: listed(directory))
            async with duplex.open_peer(discovery=url) as client:
                await client.connect("discovery://who")
                assert await answers(client, 1) == {"a": 1}
                # It has its own view, which learns of the end through the store.
            assert directory.reading.view.servers.keys() > {directory.info.name}


# ------------------------------------------------------------------------------------------- looking up


async def test_a_name_is_an_endpoint() -> None:
    with fail_after(10):
        async with (
            discovery() as (_, server),
            worker("a", server),
            duplex.open_peer(discovery=server, balancer="round_robin") as client,
        ):
            link = await client.connect("discovery://who", wait="who")
            assert link.peer_name == "a"
            assert await answers(client) == {"a": 12}
            async with worker("b", server) as second:
                await until(lambda: len(client.links) == 2)
                assert await answers(client) == {"a": 6, "b": 6}
                assert await client.connect("discovery://who") in client.links, "the same again"
                second.set_health("who", serving=False)
                await until(lambda: [one.peer_name for one in client.links] == ["a"])
            await client.disconnect("discovery://who")
            await until(lambda: not client.links)
            with pytest.raises(duplex.ConfigurationError, match="not connected"):
                await client.disconnect("discovery://who")


async def test_a_name_that_nobody_has() -> None:
    with fail_after(10):
        async with (
            discovery() as (_, server),
            worker("a", server),
            duplex.open_peer(discovery=server) as client,
        ):
            await client.connect("discovery://who")
            with pytest.raises(duplex.ConnectError, match=r"no instance of 'nope'; it has who"):
                await client.look_up("discovery://nope")
            with pytest.raises(
                duplex.ConnectError, match=r"no link to discovery://nope .* no instance of 'nope'"
            ):
                await client.connect("discovery://nope", timeout=0.5)
            with pytest.raises(duplex.ConfigurationError, match="not connected"):
                await client.disconnect("discovery://nope")


@pytest.mark.parametrize(
    ("endpoint", "why"),
    [
        ("discovery://", "names no service"),
        ("discovery://a/b", "'a' in .* is no server of discovery"),
        ("discovery://h:1/b/c", "has to be discovery://NAME"),
        ("discovery://host:1/", "names no service"),
        ("discovery://Ü", "cannot be listed"),
        ("discovery://a?zone", "has to be KEY=VALUE"),
    ],
)
async def test_what_is_no_name(endpoint: str, why: str) -> None:
    async with duplex.open_peer(discovery="memory://nowhere") as client:
        with pytest.raises(duplex.ConfigurationError, match=why):
            await client.connect(endpoint)
        with pytest.raises(duplex.ConfigurationError, match=why):
            client.connect_soon(endpoint)


async def test_a_name_has_no_weight() -> None:
    async with duplex.open_peer(discovery="memory://nowhere") as client:
        with pytest.raises(duplex.ConfigurationError, match="weights of their own"):
            await client.connect("discovery://who", weight=2.0)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"discovery": 5}, "discovery must be"),
        ({"discovery": [""]}, "discovery must be"),
        ({"discovery": "carrier://pigeon"}, "no kind of store 'carrier'"),
        ({"discovery": ["memory:", "tcp://a:1"]}, "is both"),
        ({"discovery": "nonsense"}, "is no server of discovery"),
        ({"discovery": "tcp://a:1", "advertise": 5}, "Advertise.addresses"),
        ({"discovery": "tcp://a:1", "advertise": "%%"}, "no interface %%"),
        ({"discovery": "tcp://a:1", "advertise": duplex.Advertise(id=" ")}, "id"),
    ],
)
async def test_options_that_make_no_sense(options: dict[str, Any], why: str) -> None:
    with pytest.raises(duplex.ConfigurationError, match=why):
        async with duplex.open_peer(services=[named("a")], **options) as peer:
            await peer.bind("tcp://0.0.0.0:*")


async def test_what_is_bound_in_this_process_only_is_not_registered(caplog: pytest.LogCaptureFixture) -> None:
    with fail_after(10):
        async with discovery() as (directory, server):
            async with duplex.open_peer(services=[named("a")], name="a", discovery=server) as peer:
                await peer.bind("memory://*")
                await until(lambda: "in this process alone" in caplog.text)
                endpoint = await peer.bind("127.0.0.1:*")
                await until(lambda: listed(directory))
                assert [one.endpoint for one in listed(directory)] == [endpoint]


async def test_an_address_that_nobody_could_be_told_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    there = [Interface("eth0", "10.0.0.7"), Interface("docker0", "172.17.0.1")]
    monkeypatch.setattr(_home, "interfaces", lambda: there)
    with fail_after(10):
        async with duplex.open_peer(services=[named("a")], discovery="memory://nowhere") as peer:
            for endpoint in ("tcp://0.0.0.0:*", "0.0.0.0:*"):
                with pytest.raises(
                    duplex.ConfigurationError, match=r"this machine has 10\.0\.0\.7 \(eth0\), 172"
                ):
                    await peer.bind(endpoint)
            assert peer.endpoints == []
        async with duplex.open_peer(discovery="memory://nowhere") as peer:
            await peer.bind("tcp://0.0.0.0:*")
            with pytest.raises(duplex.ConfigurationError, match="say with advertise="):
                peer.add_service(named("a"))
            assert "who" not in peer.services
        async with discovery() as (directory, server):
            async with duplex.open_peer(
                services=[named("a")], name="a", discovery=server, advertise="docker0"
            ) as peer:
                real = await peer.bind("tcp://0.0.0.0:*")
                await until(lambda: listed(directory))
                (found,) = listed(directory)
                assert found.endpoint == real.replace("0.0.0.0", "172.17.0.1")


async def test_discovery_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with fail_after(20):
        async with duplex.open_peer(discovery="memory://nowhere") as client:
            with pytest.raises(
                duplex.ConnectError, match="no server of discovery answers at memory://nowhere"
            ):
                await client.look_up("discovery://who")
            followed = client.connect_service("who", "discovery://")
            await until(lambda: followed.problem)
            assert followed.age is None
            with pytest.raises(duplex.Unavailable, match="duplex discovery run"):
                await client.service("who").with_options(timeout=30).name_()


async def test_what_was_learned_last_is_kept_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUPLEX_DISCOVERY_CACHE", str(tmp_path))
    with fail_after(10):
        async with discovery(endpoint="memory://d") as (directory, server), trio.open_nursery() as nursery:

            async def come_later() -> None:
                await trio.sleep(SOON)
                async with worker("a", server):
                    await trio.sleep_forever()

            nursery.start_soon(come_later)
            async with duplex.open_peer(discovery=server) as client:
                # That nobody is there is kept at first; who comes a moment later, when the client ends.
                await client.connect("discovery://who")
            (found,) = listed(directory)
            nursery.cancel_scope.cancel()
        async with duplex.open_peer(discovery="memory://d") as client:
            known = await client.look_up("discovery://who")
            assert [one.address for one in known.endpoints] == [found.endpoint]
            assert "from this machine's disk" in (known.problem or "")


# ---------------------------------------------------------------------------------------- when things fail


async def test_an_instance_that_somebody_deregisters_stays_away(caplog: pytest.LogCaptureFixture) -> None:
    with fail_after(10):
        async with discovery() as (directory, server), worker("a", server) as peer:
            await until(lambda: listed(directory))
            await directory.instances.deregister("who", peer.id, why="by hand")
            await until(lambda: "is not registered any more" in caplog.text)
            peer.set_health("who", serving=False)
            await trio.testing.wait_all_tasks_blocked()
            assert listed(directory) == []


async def test_what_discovery_refuses_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with fail_after(10):
        async with discovery() as (directory, server):
            # Longer than all metadata may be, together with what is said of every peer.
            told = duplex.Advertise(metadata={"k": "v" * (8 * 1024 - 1)})
            async with worker("a", server, advertise=told):
                await until(lambda: "discovery refuses it" in caplog.text)
                assert listed(directory) == []


async def test_a_peer_waits_for_discovery_and_says_so(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(_home, "_TELL_AFTER", 0.05)
    with fail_after(20):
        async with worker("a", "memory://late-discovery") as peer:
            await until(lambda: "is not registered yet: no server of discovery answers" in caplog.text)
            peer.set_health("who", serving=False)
            async with discovery(endpoint="memory://late-discovery") as (directory, _):
                await until(lambda: states(directory) == {"a": "critical"})
                await until(lambda: "is registered now" in caplog.text)
                await peer.aclose()
                assert listed(directory) == []


async def test_who_was_never_registered_leaves_at_once() -> None:
    async with worker("a", "memory://nowhere"):
        began = trio.current_time()
    assert trio.current_time() - began < 1.5


async def test_a_store_that_cannot_be_opened_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"sqlite:{tmp_path}/no/such/folder/db"
    with fail_after(20):
        async with duplex.open_peer(discovery=url, connect_timeout=5) as client:
            with pytest.raises(duplex.ConnectError, match="no server of discovery answers at sqlite:"):
                await client.look_up("discovery://who")
            (tmp_path / "no/such/folder").mkdir(parents=True)
            followed = client.connect_service("who", "discovery://")
            await until(lambda: followed.problem is not None and "no instance of 'who'" in followed.problem)
    assert "cannot be opened" in caplog.text


async def test_a_machine_that_cannot_tell_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    async with duplex.open_peer(services=[named("a")], discovery="memory://nowhere") as peer:
        with pytest.raises(duplex.ConfigurationError, match=r"pip install 'duplex-rpc\[discovery\]'"):
            await peer.bind("tcp://0.0.0.0:*")
        await peer.bind("tcp://127.0.0.1:*")


def test_the_machine_has_a_loopback_address() -> None:
    assert Interface("lo", "127.0.0.1") in interfaces()


async def test_an_address_that_is_gone_is_not_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    there = [Interface("eth0", "10.0.0.7")]
    monkeypatch.setattr(_home, "interfaces", lambda: there)
    with fail_after(10):
        async with discovery() as (directory, server):
            async with duplex.open_peer(services=[named("a")], name="a", discovery=server) as peer:
                await peer.bind("tcp://0.0.0.0:*")
                await until(lambda: listed(directory))
                there.clear()
                peer.set_health("who", serving=True)
                await until(lambda: not listed(directory))
    assert "none that others reach" in caplog.text


async def test_where_discovery_is_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/d.sock"
    monkeypatch.setenv("DUPLEX_DISCOVERY", f"{endpoint},ipc://{tmp_path}/another.sock")
    with fail_after(10):
        async with discovery(endpoint=endpoint), worker("a", endpoint), duplex.open_peer() as client:
            assert (await client.connect("discovery://who")).peer_name == "a"
            assert "another.sock" in str(client.connect_service("x", "discovery://"))
            client.connect_soon("discovery://who")
    monkeypatch.setenv("DUPLEX_DISCOVERY", "nonsense")
    async with duplex.open_peer() as client:
        with pytest.raises(duplex.ConfigurationError, match="is no server of discovery"):
            await client.connect("discovery://who")


async def test_a_peer_that_ends_connects_to_no_name() -> None:
    with fail_after(10):
        async with duplex.open_peer(discovery="memory://nowhere") as client, trio.open_nursery() as nursery:

            async def close() -> None:
                await trio.testing.wait_all_tasks_blocked()
                await client.aclose()

            nursery.start_soon(close)
            with pytest.raises(trio.ClosedResourceError):
                await client.connect("discovery://who", timeout=60)
            with pytest.raises(trio.ClosedResourceError):
                await client.connect("discovery://who")


async def test_nobody_offers_what_is_awaited() -> None:
    with fail_after(10):
        async with (
            discovery() as (_, server),
            worker("a", server),
            duplex.open_peer(discovery=server) as client,
        ):
            with pytest.raises(duplex.ConnectError, match="no link that offers what was asked for"):
                await client.connect("discovery://who", wait="more", timeout=1)
            with pytest.raises(duplex.ConfigurationError, match="not connected"):
                await client.disconnect("discovery://who")


async def test_no_directory_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: ())
    async with duplex.open_peer() as client:
        with pytest.raises(duplex.ConfigurationError, match="the group duplex"):
            await client.connect("discovery://who")


def test_a_name_is_looked_up_by_a_peer() -> None:
    with pytest.raises(duplex.ConfigurationError, match="is looked up by a peer"):
        duplex.resolvers.resolver_for("discovery://who")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"addresses": ("", "a")}, "Advertise.addresses are texts"),
        ({"zone": 5}, "Advertise.zone"),
        ({"weight": -1}, "Advertise.weight"),
        ({"ttl": 0}, "Advertise.ttl"),
        ({"metadata": {"a": 1}}, "Advertise.metadata"),
    ],
)
def test_what_cannot_be_advertised(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(duplex.ConfigurationError, match=why):
        duplex.Advertise(**fields)


async def test_a_resolver_is_asked_once() -> None:
    class Told:
        def __init__(self, *told: Any) -> None:
            self._told = told

        def __repr__(self) -> str:
            return "<told>"

        async def resolve(self, service: str) -> AsyncIterator[Any]:
            for told in self._told:
                if isinstance(told, Exception):
                    raise told
                yield told
            await trio.sleep_forever()

    async with duplex.open_peer() as client:
        known = await client.look_up(Told(["tcp://a:1", "nonsense"]))
        assert [one.address for one in known] == ["tcp://a:1"]
        assert "nonsense" in (known.problem or "")
        assert [one.address for one in await client.look_up("tcp://a:1")] == ["tcp://a:1"]
        for told, why in [
            ((), "did not say where it is within 0.1 s"),
            (([],), "<told> names no endpoints"),
            ((OSError("broken"),), "cannot say where it is: .*broken"),
        ]:
            with pytest.raises(duplex.ConnectError, match=why):
                await client.look_up(Told(*told), timeout=0.1)
        with pytest.raises(duplex.ConfigurationError, match="nonsense"):
            await client.look_up(Told(["nonsense"]))
