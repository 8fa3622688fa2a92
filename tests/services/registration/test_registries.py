"""Consul and etcd, real ones: in Registrator's layouts what runs, and of others nothing is touched."""

from __future__ import annotations

import base64
import contextlib
import functools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from duplex_services._shared._background import background
from duplex_services._shared._http_client import Endpoint, HttpClient, HttpError
from duplex_services.registration._keeping import Keeper
from duplex_services.registration._registries import open_registry
from duplex_services.registration._rules._layouts import zookeeper_value
from duplex_services.registration._target import RefusedError, TargetError
from duplex_services.registration._targets._consul import ConsulKeys, ConsulTarget
from duplex_services.registration._targets._etcd import EtcdKeys
from duplex_services.registration._targets._keys import KeyStore
from duplex_services.registration._targets._zookeeper import ZooKeeperKeys
from duplex_services.store.consul import ConsulApi
from tests.machine import within
from tests.services.registration.made import container, services
from tests.services.servers import ConsulServers, EtcdServers, ZooKeeperServers, fetch

pytestmark = [pytest.mark.slow, pytest.mark.services]


async def until(is_so: Callable[[], bool]) -> None:
    with trio.fail_after(within(15)):
        while not await trio.to_thread.run_sync(is_so):
            await trio.sleep(0.02)  # nobody tells when a registry has changed


@contextlib.asynccontextmanager
async def keeping(url: str, state: Path, *, owner: str = "me", ttl: float = 0.0) -> AsyncIterator[Keeper]:
    keeper = Keeper(open_registry(url, owner, state, ttl), owner, interval=0.1)
    async with background() as nursery:
        nursery.start_soon(keeper.run)
        yield keeper


# -- Consul's agent --------------------------------------------------------------------------------------


def agent_services(consul: ConsulServers) -> dict[str, Any]:
    found: dict[str, Any] = fetch(consul.nodes[0], "/v1/agent/services")
    return found


async def test_services_of_an_agent(consul: ConsulServers, tmp_path: Path) -> None:
    url = f"consul://{consul.hosts}"
    node = consul.nodes[0]
    others = agent_services(consul).keys()

    def ours() -> set[str]:
        return agent_services(consul).keys() - others

    foreign = {"ID": "foreign", "Name": "web", "Port": 1}
    fetch(node, "/v1/agent/service/register", foreign, method="PUT")
    labels = {"SERVICE_TAGS": "a,b", "SERVICE_REGION": "eu", "SERVICE_CHECK_TCP": "1", "SERVICE_CHECK_INITIAL_STATUS": "passing"}  # fmt: skip
    first, second = container(1, labels=labels), container(2, labels={"SERVICE_ID": "foreign"})
    try:
        async with keeping(url, tmp_path) as keeper:
            keeper.want(services(first, second, compat=True), may_drop=True)
            await until(lambda: ours() == {"foreign", "h1:web.1:80"})
            told = agent_services(consul)["h1:web.1:80"]
            assert (told["Service"], told["Port"], told["Address"]) == ("web", 8000, "192.0.2.1")
            assert told["Tags"] == ["b", "a"]
            assert told["Meta"].items() >= {"region": "eu", "registrar": "me", "check_tcp": "1"}.items()
            checks = fetch(node, "/v1/agent/checks")
            assert checks["service:h1:web.1:80"]["Type"] == "tcp"
            await until(lambda: keeper.statistics.looks > 5)
            assert keeper.statistics.writes == 1
            assert keeper.refused == {
                ("web", "foreign"): "foreign is there already, and somebody else has written it"
            }
            # What does not serve is in maintenance, with the reason, and comes out of it.
            keeper.want(services(container(1, labels=labels, status="paused")), may_drop=True)
            id = services(first)[0].id
            await until(lambda: f"_service_maintenance:{id}" in fetch(node, "/v1/agent/checks"))
            assert (
                fetch(node, "/v1/agent/checks")[f"_service_maintenance:{id}"]["Notes"]
                == "the container is paused"
            )
            assert ours() == {"foreign", id}
            keeper.want(services(first), may_drop=True)
            await until(lambda: f"_service_maintenance:{id}" not in fetch(node, "/v1/agent/checks"))
        # What an earlier run has left behind is the next one's.
        async with keeping(url, tmp_path) as keeper:
            keeper.want([], may_drop=True)
            await until(lambda: ours() == {"foreign"})
    finally:
        for id in ours():
            fetch(node, f"/v1/agent/service/deregister/{id}", method="PUT")


async def test_agent_that_refuses_and_one_that_is_away(consul: ConsulServers, tmp_path: Path) -> None:
    api = ConsulApi(HttpClient([Endpoint(*consul.endpoints[0])], connect_within=within(10)), token="nobody's")
    target = ConsulTarget("consul://", api, "me")
    with pytest.raises(RefusedError, match="Consul answers PUT /v1/agent/service/register with 400"):
        await target._write("/v1/agent/service/register", b"{")
    with pytest.raises(TargetError, match="Consul answers GET /v1/nothing with 404"):
        await target._read("/v1/nothing")
    with pytest.raises(RefusedError, match="Consul answers GET /v1/kv/ with 40"):
        await ConsulKeys(api)._ask("GET", "/v1/kv/")
    await api.aclose()
    away = ConsulTarget("consul://", ConsulApi(HttpClient([Endpoint("127.0.0.1", 1)])), "me")
    with pytest.raises(TargetError):
        await away.entries()
    with pytest.raises(TargetError):
        await away._write("/v1/agent/service/deregister/x")


# -- keys ------------------------------------------------------------------------------------------------


def consul_keys(consul: ConsulServers, prefix: str) -> dict[str, str]:
    node = consul.nodes[0]
    pairs = [pair for pair in fetch(node, "/v1/kv/?recurse") if pair["Key"].startswith(prefix)]
    return {pair["Key"]: base64.b64decode(pair["Value"]).decode() for pair in pairs}


def etcd_keys(etcd: EtcdServers, prefix: str) -> dict[str, str]:
    ends = {"key": base64.b64encode(b"/").decode(), "range_end": base64.b64encode(b"0").decode()}
    pairs = etcd.ask(etcd.nodes[0], "/v3/kv/range", ends).get("kvs", [])
    found = {
        base64.b64decode(pair["key"]).decode().removeprefix("/"): base64.b64decode(pair["value"]).decode()
        for pair in pairs
    }
    return {key: value for key, value in found.items() if key.startswith(prefix)}


@pytest.mark.parametrize("kind", ["consulkv", "etcd", "skydns2"])
async def test_keys(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    servers = request.getfixturevalue("consul" if kind == "consulkv" else "etcd")
    domain = kind == "skydns2"
    where = "one.example" if domain else f"{kind}-test/a"
    prefix = "skydns/example/one" if domain else where
    value = '{"host":"192.0.2.1","port":8000}' if domain else "192.0.2.1:8000"
    moved = value.replace("8000", "9000")
    url = f"{kind}://{servers.hosts}/{where}"

    def keys() -> dict[str, str]:
        return (consul_keys if kind == "consulkv" else etcd_keys)(servers, prefix)

    def write(key: str, text: str) -> None:
        if kind == "consulkv":
            fetch(servers.nodes[0], f"/v1/kv/{key}", text.encode(), method="PUT")
        else:
            body = {"key": base64.b64encode(f"/{key}".encode()).decode(), "value": base64.b64encode(text.encode()).decode()}  # fmt: skip
            servers.ask(servers.nodes[0], "/v3/kv/put", body)

    write(f"{prefix}/web/foreign", "x")
    foreign = {f"{prefix}/web/foreign": "x"}
    key = f"{prefix}/web/h1:web.1:80"
    async with keeping(url, tmp_path) as keeper:
        taken = container(2, labels={"SERVICE_ID": "foreign"})
        keeper.want(services(container(1), taken, compat=True), may_drop=True)
        await until(lambda: keys() == foreign | {key: value})
        await until(lambda: keeper.statistics.looks > 5)
        assert keeper.statistics.writes == 1
        assert list(keeper.refused) == [("web", "foreign")]
        keeper.want(services(container(1, ports=["9000:80"]), compat=True), may_drop=True)
        await until(lambda: keys() == foreign | {key: moved})
        # Keys have no states: what does not serve is not there.
        paused = services(container(1, status="paused", labels={"SERVICE_ID": "h1:web.1:80"}))
        keeper.want(paused, may_drop=True)
        await until(lambda: keys() == foreign)
        assert keeper.refused == {("web", "h1:web.1:80"): "it is maintenance: the container is paused"}
        keeper.want(services(container(1), compat=True), may_drop=True)
        await until(lambda: keys() == foreign | {key: value})
    # Another owner, or one who has lost its ledger, leaves them; the next run takes them away.
    async with keeping(url, tmp_path / "none", owner="other") as keeper:
        (tmp_path / "none").mkdir()
        keeper.want([], may_drop=True)
        await until(lambda: keeper.statistics.looks > 2)
        assert keys() == foreign | {key: value}
    async with keeping(url, tmp_path) as keeper:
        keeper.want([], may_drop=True)
        await until(lambda: keys() == foreign)


async def test_keys_of_etcd_expire_with_their_registrar_and_not_before(
    etcd: EtcdServers, tmp_path: Path
) -> None:
    url = f"etcd://{etcd.hosts}/expiring"
    async with keeping(url, tmp_path, ttl=2.0) as keeper:
        keeper.want(services(container(1), compat=True), may_drop=True)
        await until(lambda: len(etcd_keys(etcd, "expiring")) == 1)
        # Longer than the TTL: the lease is kept.
        await trio.sleep(4.5)
        assert len(etcd_keys(etcd, "expiring")) == 1
        assert keeper.statistics.writes == 1
        # A lease that somebody revokes takes its keys along, which are written anew.
        lease = etcd.ask(etcd.nodes[0], "/v3/lease/leases", {})["leases"][0]["ID"]
        etcd.ask(etcd.nodes[0], "/v3/lease/revoke", {"ID": lease})
        await until(lambda: len(etcd_keys(etcd, "expiring")) == 1 and keeper.statistics.writes >= 2)
    await until(lambda: etcd_keys(etcd, "expiring") == {})


async def test_somebody_who_is_quicker_keeps_the_key(
    consul: ConsulServers, etcd: EtcdServers, zookeeper: ZooKeeperServers
) -> None:
    etcd_store = EtcdKeys(Endpoint(*etcd.endpoints[0]))
    stores: list[KeyStore] = [
        ConsulKeys(ConsulApi(HttpClient([Endpoint(*consul.endpoints[0])], connect_within=within(10)))),
        etcd_store,
    ]
    stores.append(ZooKeeperKeys(zookeeper.hosts))
    for keys in stores:
        async with background() as nursery:
            nursery.start_soon(keys.run)
            with trio.fail_after(within(15)):
                while True:
                    try:
                        assert await keys.put("quick/web/a", "1", is_new=True)
                        break
                    except TargetError:
                        await trio.sleep(0.05)  # until there is a session
            assert not await keys.put("quick/web/a", "2", is_new=True)
            assert await keys.read("quick/") == {"quick/web/a": "1"}
            assert await keys.put("quick/web/a", "2", is_new=False)
            assert keys.lasts("quick/web/a")
            await keys.delete("quick/web/a")
            await keys.delete("quick/web/a")
            assert await keys.read("quick/") == {}
            if keys is etcd_store:
                with pytest.raises(RefusedError, match="etcd answers 400"):
                    await etcd_store._ask("kv/put", {"key": 3})


async def test_lease_that_is_lost_is_noticed(etcd: EtcdServers) -> None:
    keys = EtcdKeys(Endpoint(*etcd.endpoints[0]), 1.0)
    async with background() as nursery:
        nursery.start_soon(keys.run)
        assert await keys.put("lost/web/a", "1", is_new=True)
        assert keys.lasts("lost/web/a")
        etcd.ask(etcd.nodes[0], "/v3/lease/revoke", {"ID": keys._lease})
        await until(lambda: not keys.lasts("lost/web/a"))
        assert await keys.put("lost/web/a", "1", is_new=True)
        assert keys.lasts("lost/web/a")
        # One that is lost between two looks is found out by the write.
        etcd.ask(etcd.nodes[0], "/v3/lease/revoke", {"ID": keys._lease})
        with pytest.raises(HttpError, match="lease"):
            await keys.put("lost/web/a", "1", is_new=True)
        assert await keys.put("lost/web/a", "1", is_new=True)
        await keys.delete("lost/web/a")


# -- ZooKeeper -------------------------------------------------------------------------------------------


async def test_nodes_of_zookeeper(zookeeper: ZooKeeperServers, tmp_path: Path) -> None:
    looking = KazooClient(zookeeper.hosts)
    await trio.to_thread.run_sync(looking.start)

    def nodes() -> dict[str, tuple[str, bool]]:
        found = {}
        for name in looking.get_children("/regs"):
            with contextlib.suppress(NoNodeError):  # it has gone since
                for last in looking.get_children(f"/regs/{name}"):
                    value, stat = looking.get(f"/regs/{name}/{last}")
                    found[f"{name}/{last}"] = (value.decode(), stat.ephemeralOwner != 0)
        return found

    url = f"zookeeper://{zookeeper.hosts}/regs"
    try:
        looking.create("/regs/web/10.0.0.1:1", b"x", makepath=True)
        foreign = {"web/10.0.0.1:1": ("x", False)}
        wanted = services(container(1), container(2, ports=["9000:80"], image="example/db"), compat=True)
        said = {f"{one.name}/{one.address}": (zookeeper_value(one), True) for one in wanted}
        async with keeping(url, tmp_path) as keeper:
            keeper.want(wanted, may_drop=True)
            await until(lambda: nodes() == foreign | said)
            await until(lambda: keeper.statistics.looks > 5)
            assert keeper.statistics.writes == 2
            keeper.want(wanted[:1], may_drop=True)
            await until(lambda: nodes() == foreign | dict(list(said.items())[:1]))
            # The parent of the last one goes with it.
            await until(lambda: looking.get_children("/regs") == ["web"])
        await until(lambda: nodes() == foreign)
        # A node of an earlier session that is still there is made anew, as otherwise it would go with that.
        looking.create("/regs/web/192.0.2.1:8000", zookeeper_value(wanted[0]).encode(), ephemeral=True)
        async with keeping(url, tmp_path) as keeper:
            keeper.want(wanted[:1], may_drop=True)
            await until(lambda: keeper.statistics.writes == 1)
            _, stat = looking.get("/regs/web/192.0.2.1:8000")
            assert stat.ephemeralOwner not in (0, looking.client_id[0])
    finally:
        await trio.to_thread.run_sync(looking.stop)
        looking.close()


async def test_stores_that_are_away(tmp_path: Path) -> None:
    for url in ("consulkv://127.0.0.1:1/a", "etcd://127.0.0.1:1/a", "zookeeper://127.0.0.1:1/a"):
        keeper = Keeper(open_registry(url, "me", tmp_path, 1.0), "me")
        with pytest.raises(TargetError):
            await keeper.plan([])


async def test_answers_that_make_no_sense() -> None:
    async def answer(stream: trio.SocketStream) -> None:
        head = bytes(await stream.receive_some(65536))
        status, body = (500, b"no leader") if b"/broken" in head else (200, b"<html>")
        text = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (
            status,
            len(body),
            body,
        )
        await stream.send_all(text)

    async with background() as nursery:
        listeners = await nursery.start(functools.partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
        endpoint = Endpoint("127.0.0.1", listeners[0].socket.getsockname()[1])
        api = ConsulApi(HttpClient([endpoint], connect_within=within(10)))
        with pytest.raises(HttpError, match="Consul answers GET /broken with 500: no leader"):
            await ConsulKeys(api)._ask("GET", "/broken")
        with pytest.raises(HttpError, match=r"answers GET /v1/kv/a/\?recurse=true with no JSON"):
            await ConsulKeys(api).read("a/")
        with pytest.raises(TargetError):
            await ConsulTarget("consul://", api, "me").entries()
        etcd = EtcdKeys(endpoint)
        with pytest.raises(HttpError, match="etcd answers 200 with no JSON"):
            await etcd.read("a/")
        nursery.cancel_scope.cancel()
