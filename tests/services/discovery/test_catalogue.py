"""Consul's catalogue beside the directory: what is told there, whatever else changes it."""

from __future__ import annotations

import contextlib
import json
import secrets
import urllib.parse
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from duplex_services._shared._http_client import Endpoint, HttpClient
from duplex_services.discovery import Directory, Registration, open_directory
from duplex_services.discovery._errors import StoreAway
from duplex_services.discovery._model import Instance
from duplex_services.discovery._rules._catalogue import (
    Said,
    by_id,
    difference,
    listed,
    read_agent,
    registration,
    root_of,
    said_of,
    split_url,
)
from duplex_services.store import Refused, Unavailable
from duplex_services.store.consul import open_consul_api
from tests.machine import fail_after, within
from tests.services.servers import ConsulServers, loopback
from tests.sizes import LONG

# -- rules -----------------------------------------------------------------------------------------------


def an_instance(**changes: Any) -> Instance:
    values: dict[str, Any] = {
        "service": "web",
        "id": "a",
        "endpoint": "",
        "host": "10.0.0.1",
        "port": 80,
        "protocol": "http",
        "metadata": {"version": "2", "duplex.peer": "p", "long": "x" * 600},
        "weight": 0,
        "zone": "z",
        "state": "passing",
        "note": "",
        "index": 3,
        "ttl": 10.0,
    }
    return Instance(**(values | changes))


def test_what_consul_is_told() -> None:
    one = listed(an_instance(), "consul://h/x", "here", leads=True)
    assert one is not None
    assert (one.id, one.name, one.address, one.port) == ("duplex:2067b082:web:a", "web", "10.0.0.1", 80)
    assert one.tags == ("http", "leader")
    # Consul takes neither dots in names nor long values, and no weight of nothing.
    assert one.meta == {
        "version": "2",
        "duplex-peer": "p",
        "zone": "z",
        "duplex-directory": "consul://h/x",
        "duplex-server": "here",
        "duplex-state": "passing",
    }
    assert one.weight == 1
    assert listed(an_instance(host="", port=0, endpoint="ipc:///x"), "r", "here", leads=False) is None
    body = registration(one, Said("warning", "slow"))
    assert (body["Check"]["CheckID"], body["Check"]["Status"]) == (one.id, "warning")


@pytest.mark.parametrize(
    ("state", "note", "said"),
    [
        ("passing", "", Said("passing", "")),
        ("warning", "slow", Said("warning", "slow")),
        ("critical", "refused", Said("critical", "refused")),
        ("draining", "", Said("critical", "draining")),
        ("maintenance", "disk", Said("critical", "maintenance: disk")),
    ],
)
def test_states(state: str, note: str, said: Said) -> None:
    assert said_of(an_instance(state=state, note=note)) == said


def test_what_is_different() -> None:
    one, other = (listed(an_instance(id=id), "r", "here", leads=False) for id in "ab")
    assert one is not None
    assert other is not None
    entry = {
        "ID": one.id,
        "Service": "web",
        "Address": "10.0.0.1",
        "Port": 80,
        "Tags": ["http"],
        "Meta": one.meta,
        "Weights": {"Passing": 1, "Warning": 1},
    }
    foreign = {**entry, "ID": "x", "Meta": {**one.meta, "duplex-server": "there"}}
    there = read_agent({"1": entry, "2": foreign, "3": {"ID": "web", "Service": "web"}}, "r", "here")
    assert there == {one.id: one}
    wanted, _ = by_id([(one, Said("passing", "")), (other, Said("passing", ""))])
    assert difference(wanted, there) == ([other], [])
    assert difference({}, there) == ([], [one.id])
    changed = {one.id: {**entry, "Port": 81}}
    assert difference({one.id: one}, read_agent(changed, "r", "here")) == ([one], [])
    assert read_agent(None, "r", "here") == {}


def test_a_directory_has_one_name_at_all_hosts_of_a_consul() -> None:
    assert root_of("consul://10.0.0.1:8500,10.0.0.2/a/b/") == root_of("consul://localhost/a/b") == "a/b"
    assert root_of("consul://localhost/") == root_of("consul://localhost") == "duplex"


def test_urls() -> None:
    assert split_url("consul-catalog://:t@h/p?tls=true") == ("consul://:t@h/p?tls=true", True)
    assert split_url("consul://h/p") == ("consul://h/p", False)


# -- a real Consul ---------------------------------------------------------------------------------------


class Catalogue:
    """A directory, and what Consul says of it."""

    def __init__(self, directory: Directory, client: HttpClient) -> None:
        self.directory = directory
        self._client = client

    async def ask(self, method: str, path: str, body: object = None) -> Any:
        data = b"" if body is None else json.dumps(body).encode()
        answer = await self._client.request(method, path, data)
        assert answer.status == 200, answer
        return json.loads(answer.body) if answer.body.strip() else None

    async def statuses(self, service: str) -> dict[str, str]:
        """The instances of a service by the last part of their ids, and the worst of their checks of discovery's."""
        entries = await self.ask("GET", f"/v1/health/service/{service}")
        return {
            entry["Service"]["ID"].rpartition(":")[2]: next(
                (check["Status"] for check in entry["Checks"] if check["ServiceID"]), ""
            )
            for entry in entries
        }

    async def agent_s(self, service: str) -> list[str]:
        """The same of those that the agent itself has, whatever the catalogue says."""
        found = await self.ask("GET", "/v1/agent/services")
        return [id.rpartition(":")[2] for id, one in found.items() if one["Service"] == service]

    async def until(self, service: str, expected: dict[str, str]) -> None:
        found: dict[str, str] = {}
        try:
            with fail_after(20):
                while (found := await self.statuses(service)) != expected:
                    # Consul is told in real time.
                    await trio.sleep(0.05)
        except trio.TooSlowError:
            raise AssertionError(f"Consul has {found}, not {expected}") from None


@asynccontextmanager
async def open_catalogue(
    servers: ConsulServers, prefix: str = "", hosts: str = ""
) -> AsyncIterator[Catalogue]:
    host, port = servers.nodes[0].endpoint
    client = HttpClient([Endpoint(host, port)], connect_within=within(10), answer_within=within(10))
    name = prefix or f"catalogue-{secrets.token_hex(4)}"
    try:
        async with open_directory(
            f"consul-catalog://{hosts or servers.hosts}/{name}", server="here"
        ) as directory:
            yield Catalogue(directory, client)
    finally:
        await client.aclose()


def a_service() -> str:
    return f"web-{secrets.token_hex(3)}"


def said(id: str, **more: Any) -> Registration:
    return Registration(id, host="10.0.0.1", port=80, protocol="http", **more)


@pytest.mark.services
@pytest.mark.slow
async def test_what_is_registered_is_in_the_catalogue(consul: ConsulServers) -> None:
    service = a_service()
    async with open_catalogue(consul) as catalogue:
        instances = catalogue.directory.instances
        one = await instances.register(service, said("a", metadata={"version": "2"}), is_held=True)
        await instances.register(service, said("b", health="warning"), is_held=True)
        await catalogue.until(service, {"a": "passing", "b": "warning"})
        await instances.report(service, "b", "critical", "refused")
        await catalogue.until(service, {"a": "passing", "b": "critical"})
        await instances.set_mode(service, "b", "draining")
        passing = await catalogue.ask("GET", f"/v1/health/service/{service}?passing")
        assert [entry["Service"]["Meta"]["version"] for entry in passing] == ["2"]
        with fail_after(20):
            while (
                "leader"
                not in (await catalogue.ask("GET", f"/v1/catalog/service/{service}"))[0]["ServiceTags"]
            ):
                # Who leads is told a moment later.
                await trio.sleep(0.05)
        await instances.withdraw(one)
        await catalogue.until(service, {"b": "critical"})


@pytest.mark.services
@pytest.mark.slow
async def test_what_others_do_to_the_catalogue_is_undone(consul: ConsulServers) -> None:
    """Deregistered around us it comes back, and what is not ours is left alone."""
    service, foreign = a_service(), a_service()
    async with open_catalogue(consul) as catalogue:
        await catalogue.ask("PUT", "/v1/agent/service/register", {"Name": foreign, "ID": f"x:{foreign}"})
        await catalogue.directory.instances.register(service, said("a"), is_held=True)
        await catalogue.until(service, {"a": "passing"})
        (entry,) = await catalogue.ask("GET", f"/v1/catalog/service/{service}")
        quoted = urllib.parse.quote(entry["ServiceID"], safe="")
        await catalogue.ask("PUT", f"/v1/agent/service/deregister/{quoted}")
        await catalogue.until(service, {"a": "passing"})
        await catalogue.directory.instances.deregister(service, "a")
        await catalogue.until(service, {})
        assert await catalogue.statuses(foreign) == {foreign: ""}
        await catalogue.ask("PUT", f"/v1/agent/service/deregister/x:{foreign}")


@pytest.mark.services
@pytest.mark.slow
async def test_a_server_that_begins_again_takes_out_what_is_gone(consul: ConsulServers) -> None:
    service, prefix = a_service(), f"catalogue-{secrets.token_hex(4)}"
    async with open_catalogue(consul, prefix) as catalogue:
        await catalogue.directory.instances.register(service, said("a"), 1.0, is_held=True)
        await catalogue.until(service, {"a": "passing"})
    async with open_catalogue(consul, prefix) as catalogue:
        # Nobody comes back to keep it.
        await catalogue.until(service, {})


@pytest.mark.services
@pytest.mark.slow
async def test_an_agent_that_restarts_without_what_it_knew() -> None:
    """A dev agent forgets its services, and all keys: both are put back, and nothing that was deregistered is."""
    service = a_service()
    with ConsulServers(dev=True) as servers:
        async with open_catalogue(servers) as catalogue:
            instances = catalogue.directory.instances
            await instances.register(service, said("a"), is_held=True)
            gone = await instances.register(service, said("b"), is_held=True)
            await catalogue.until(service, {"a": "passing", "b": "passing"})
            await instances.withdraw(gone)
            await catalogue.until(service, {"a": "passing"})
            await trio.to_thread.run_sync(servers.restart)
            await trio.to_thread.run_sync(servers.wait_ready)
            await catalogue.until(service, {"a": "passing"})


@pytest.mark.services
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_what_was_deregistered_stays_so(consul: ConsulServers) -> None:
    """An agent compares itself with the catalogue about once a minute: the long tests see a whole pass of that."""
    service = a_service()
    async with open_catalogue(consul) as catalogue:
        instances = catalogue.directory.instances
        await instances.register(service, said("a"), is_held=True)
        gone = await instances.register(service, said("b"), is_held=True)
        await catalogue.until(service, {"a": "passing", "b": "passing"})
        await instances.withdraw(gone)
        await catalogue.until(service, {"a": "passing"})
        for _ in range(75 if LONG else 3):
            # Consul's time is real.
            await trio.sleep(1.0)
            assert await catalogue.statuses(service) == {"a": "passing"}


@pytest.mark.services
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_pass_of_anti_entropy_brings_nothing_back() -> None:
    """An agent that restarts compares all it has with the catalogue. What the catalogue lost is back, what it has besides is gone, which
    shows that the pass was; and what was deregistered stays so (D-7)."""
    service, phantom = a_service(), a_service()
    with ConsulServers() as servers:
        async with open_catalogue(servers) as catalogue:
            instances = catalogue.directory.instances
            await instances.register(service, said("a"), is_held=True)
            gone = await instances.register(service, said("b"), is_held=True)
            await catalogue.until(service, {"a": "passing", "b": "passing"})
            (there, _) = sorted(
                await catalogue.ask("GET", f"/v1/catalog/service/{service}"), key=lambda one: one["ServiceID"]
            )
            await instances.withdraw(gone)
            await catalogue.until(service, {"a": "passing"})
            # Around the agent: it knows of neither.
            lost = {"Node": there["Node"], "ServiceID": there["ServiceID"]}
            await catalogue.ask("PUT", "/v1/catalog/deregister", lost)
            body = {"Node": there["Node"], "Address": "127.0.0.1", "Service": {"ID": "x", "Service": phantom}}
            await catalogue.ask("PUT", "/v1/catalog/register", body)
            assert await catalogue.statuses(service) == {}
            assert await catalogue.statuses(phantom) == {"x": ""}
            await trio.to_thread.run_sync(servers.restart)
            await trio.to_thread.run_sync(servers.wait_ready)
            seen: set[str] = set()
            with fail_after(60):
                while await catalogue.statuses(phantom):
                    seen |= set(await catalogue.statuses(service))
                    # Consul's time is real.
                    await trio.sleep(0.1)
            await catalogue.until(service, {"a": "passing"})
            assert seen <= {"a"}


@pytest.mark.services
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_what_goes_while_a_real_agent_is_dead(caplog: pytest.LogCaptureFixture) -> None:
    service = a_service()
    with ConsulServers(loopback(3, peer_ports=ConsulServers.PEER_PORTS)) as servers:
        host, port = servers.nodes[1].endpoint
        async with open_catalogue(servers) as catalogue, open_consul_api(f"consul://{host}:{port}/") as other:

            async def until(expected: list[str]) -> None:
                found: list[str] = []
                with fail_after(60):
                    while found != expected:
                        with contextlib.suppress(Unavailable):
                            told = await other.ask_agent("GET", f"/v1/catalog/service/{service}")
                            found = sorted(one["ServiceID"].rpartition(":")[2] for one in told)
                        # Consul is told in real time.
                        await trio.sleep(0.05)

            instances = catalogue.directory.instances
            await instances.register(service, said("a"), is_held=True)
            gone = await instances.register(service, said("b"), is_held=True)
            await until(["a", "b"])
            await trio.to_thread.run_sync(servers.nodes[0].kill)
            with fail_after(60):
                while catalogue.directory.reading.view.instance(service, "b") is not None:
                    # It may have led Consul; then nothing is written until another does.
                    with contextlib.suppress(StoreAway):
                        await instances.withdraw(gone)
            await until(["a"])
            assert f":{service}:b was taken out of Consul's catalogue by another host" in caplog.text
            servers.nodes[0].start()
            await trio.to_thread.run_sync(servers.wait_ready)
            # It comes back with both, and is told.
            with fail_after(60):
                while set(await catalogue.agent_s(service)) != {"a"}:
                    # Consul is told in real time.
                    await trio.sleep(0.05)
            await until(["a"])


class Api:
    """A Consul of which the agent can be away."""

    def __init__(self) -> None:
        self.is_away = False
        self.services: dict[str, Any] = {}
        self.elsewhere: list[Any] = []

    async def ask_agent(self, method: str, path: str, body: Any = None, *, missing: bool = False) -> Any:
        await trio.lowlevel.checkpoint()
        if self.is_away:
            raise Unavailable("it is away")
        if path == "/v1/agent/self":
            return {"Config": {"NodeName": "n0"}}
        if path == "/v1/agent/services":
            return dict(self.services)
        if path.endswith("/register"):
            self.services[body["ID"]] = {**body, "Service": body["Name"]}
        if path == "/v1/session/create":
            return {"ID": "s"}
        if "/deregister/" in path:
            del self.services[urllib.parse.unquote(path.rpartition("/")[2])]
        return None

    async def ask_others(self, method: str, path: str, body: Any = None) -> Any:
        await trio.lowlevel.checkpoint()
        self.elsewhere.append((path, body))


async def test_what_goes_while_its_agent_is_dead(caplog: pytest.LogCaptureFixture) -> None:
    """It is taken out by another host, which is told; when the agent is back with it, by the agent."""
    from duplex_services.discovery._catalogue import Catalogue as Mirrored

    api = Api()

    async def until(what: Callable[[], bool]) -> None:
        with fail_after(20):
            while not what():
                # The catalogue is compared in real time.
                await trio.sleep(0.02)

    async with open_directory("memory:", server="here") as directory, trio.open_nursery() as nursery:
        nursery.start_soon(Mirrored(directory, api, "root").run)  # type: ignore[arg-type]
        session = await directory.instances.register("web", said("a"), is_held=True)
        await until(lambda: list(api.services) == ["duplex:4813494d:web:a"])
        api.is_away = True
        await directory.instances.withdraw(session)
        body = {"Node": "n0", "ServiceID": "duplex:4813494d:web:a"}
        await until(lambda: api.elsewhere == [("/v1/catalog/deregister", body)])
        assert "taken out of Consul's catalogue by another host" in caplog.text
        assert "not as it should be: it is away" in caplog.text
        api.is_away = False
        await until(lambda: not api.services)
        assert len(api.elsewhere) == 1
        nursery.cancel_scope.cancel()


@pytest.mark.services
@pytest.mark.slow
async def test_what_consul_refuses_is_told(consul: ConsulServers) -> None:
    async with open_consul_api(f"consul://{consul.hosts}/") as api:
        with pytest.raises(Refused, match="PUT /v1/agent/service/register with 400"):
            await api.ask_agent("PUT", "/v1/agent/service/register", {"Name": ""})
        with pytest.raises(Unavailable, match="no other host"):
            await api.ask_others("GET", "/v1/agent/self")
    async with open_consul_api("consul://127.0.0.1:1,127.0.0.1:2/") as api:
        with pytest.raises(Unavailable):
            await api.ask_others("GET", "/v1/agent/self")
