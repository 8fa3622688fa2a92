"""What Consul's catalogue has from others, seen through discovery; and the locks of leaders."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from duplex_services.discovery import Directory, Filter, Registration, ServiceConfig, open_directory
from duplex_services.discovery._importing import _OTHERS, Importing
from duplex_services.discovery._locks import Locks
from duplex_services.discovery._rules._catalogue import REFRESH, Lead
from duplex_services.discovery._rules._importing import foreign, imported_id, service_name
from duplex_services.store import Refused, Unavailable
from duplex_services.store.consul import ConsulApi, open_consul_api
from tests.machine import fail_after
from tests.services.servers import ConsulServers

# -- rules -----------------------------------------------------------------------------------------------


def entry(**service: Any) -> dict[str, Any]:
    fields = {"ID": "web-1", "Service": "web", "Address": "10.0.0.7", "Port": 80, "Tags": [], "Meta": {}}
    return {
        "Node": {"Node": "n0", "Address": "10.0.0.1"},
        "Service": fields | service,
        "Checks": service.pop("checks", []),
    }


def check(status: str, **more: Any) -> dict[str, Any]:
    return {"CheckID": "c", "Name": "alive", "Status": status, "Output": "", "Notes": ""} | more


def test_an_instance_of_others() -> None:
    said = entry(
        Tags=["primary", "version=2", ""],
        Meta={"zone": "z1", "version": "3"},
        Weights={"Passing": 7, "Warning": 1},
    )
    (one,), refused = foreign([said])
    assert refused == {}
    assert (one.service, one.note) == ("web", "")
    assert one.said == Registration(
        "consul:n0:web-1",
        host="10.0.0.7",
        port=80,
        metadata={"consul-node": "n0", "primary": "", "version": "3", "zone": "z1"},
        weight=7,
        zone="z1",
    )
    (one,), _ = foreign([entry(Address="")])
    assert one.said.host == "10.0.0.1"


@pytest.mark.parametrize(
    ("checks", "health", "note"),
    [
        ([], "passing", ""),
        ([check("passing"), check("warning", Output="slow\n")], "warning", "slow"),
        ([check("warning"), check("critical"), check("warning")], "critical", "alive"),
        ([check("something new")], "critical", "alive"),
        ([check("critical", CheckID="_node_maintenance", Notes="disk")], "critical", "maintenance: disk"),
        ([check("critical", CheckID="_service_maintenance:web-1")], "critical", "maintenance"),
    ],
)
def test_the_worst_check_counts(checks: list[Any], health: str, note: str) -> None:
    (one,), _ = foreign([entry(checks=checks)])
    assert (one.said.health, one.note) == (health, note)


def test_what_is_left_out() -> None:
    ours = entry(Meta={"duplex-directory": "consul://h/x"})
    unnamed = entry(ID="a", Service="web.v2")
    nowhere = entry(ID="b", Port=0)
    odd = entry(ID="c", Address="not an address")
    found, refused = foreign([ours, unnamed, nowhere, odd])
    assert found == []
    assert sorted(refused) == ["n0:a", "n0:b", "n0:c"]
    assert "no name that DNS has" in refused["n0:a"]
    assert "port is from 1" in refused["n0:b"]
    assert "neither an address nor a name" in refused["n0:c"]


def test_names_and_ids() -> None:
    assert service_name("My_Web") == "my-web"
    assert service_name("a.b") is None
    assert imported_id("n0:web") == "consul:n0:web"
    odd, other = imported_id("n0:web/1"), imported_id("n0:web 1")
    assert odd.startswith("consul:n0:web-1:")
    assert odd != other
    assert len(imported_id("x" * 500)) <= 100


# -- a Consul that may be away ---------------------------------------------------------------------------


class Api:
    """What a Consul says of its services."""

    def __init__(self) -> None:
        self.says: dict[str, Any] = {"consul": []}
        self.fails: Exception | None = None
        self.looks = 0
        self._moved = trio.Event()

    def change(self, **services: Any) -> None:
        self.says |= services
        self._moved.set()
        self._moved = trio.Event()

    async def ask_agent(self, method: str, path: str, body: Any = None, *, missing: bool = False) -> Any:
        await trio.lowlevel.checkpoint()
        if self.fails is not None:
            raise self.fails
        if path == "/v1/catalog/services":
            self.looks += 1
            return {name: [] for name in self.says}
        return self.says[path.rpartition("/")[2].partition("?")[0]]

    async def wait(self, path: str, index: int, seconds: float) -> int:
        if self.fails is not None:
            raise self.fails
        with trio.move_on_after(seconds):
            await self._moved.wait()
        return index + 1


@asynccontextmanager
async def importing(api: Api) -> AsyncIterator[Directory]:
    async with open_directory("memory:", server="here") as directory, trio.open_nursery() as nursery:
        nursery.start_soon(Importing(directory, api).run)  # type: ignore[arg-type]
        yield directory
        nursery.cancel_scope.cancel()


async def until(what: Callable[[], bool]) -> None:
    with fail_after(20):
        while not what():
            # Catalogues are compared in real time.
            await trio.sleep(0.02)


def ids(directory: Directory, service: str = "web") -> list[str]:
    return [one.id for one in directory.reading.view.instances(service)]


def kinds(directory: Directory) -> list[str]:
    """What was told of the first instance but who leads."""
    changes = directory.reading.view.last_changes("web", "consul:n0:web-1")
    return [change.kind for change in changes if change.kind != "leader"]


async def looked(api: Api, times: int = 2) -> None:
    """Wait until it was looked so often."""
    before = api.looks
    await until(lambda: api.looks >= before + times)


@pytest.mark.slow
async def test_what_comes_changes_and_goes(caplog: pytest.LogCaptureFixture) -> None:
    api = Api()
    async with importing(api) as directory:
        api.change(web=[entry(), entry(ID="web-2", Port=81), entry(ID="web-3", Port=0)])
        await until(lambda: ids(directory) == ["consul:n0:web-1", "consul:n0:web-2"])
        explained = directory.reading.explain("web", "consul:n0:web-1", Filter())
        assert any("others have registered it with Consul" in reason for reason in explained.reasons)
        assert caplog.text.count("n0:web-3 of Consul's catalogue is left out: port") == 1
        commits = directory.commits
        for _ in range(3):
            api.change()
            await looked(api, 1)
        assert directory.commits == commits
        assert caplog.text.count("is left out") == 1

        api.change(web=[entry(checks=[check("critical", Output="refused")]), entry(ID="web-2", Port=82)])
        await until(lambda: ids(directory) == ["consul:n0:web-2"])
        first = directory.reading.view.instance("web", "consul:n0:web-1")
        assert first is not None
        assert (first.state, first.note) == ("critical", "refused")
        await until(lambda: [one.port for one in directory.reading.view.instances("web")] == [82])
        api.change(web=[entry(ID="web-2", Port=82)])
        await until(lambda: len(directory.reading.view.all_instances("web")) == 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "trouble",
    [
        {"fails": Unavailable("it is away")},
        {"fails": Refused("Consul answers GET /v1/catalog/services with 403")},
        {"says": {}},
        {"says": {"consul": [], "web": [{"Node": None}]}},
        {"says": {"consul": [], "web": None}},
    ],
)
async def test_unknown_is_not_gone(trouble: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be read, is forbidden, or makes no sense, takes nothing away."""
    api = Api()
    async with importing(api) as directory:
        api.change(web=[entry()])
        await until(lambda: ids(directory) == ["consul:n0:web-1"])
        for name, value in trouble.items():
            setattr(api, name, value)
        await until(lambda: "catalogue has besides stays as it was" in caplog.text)
        assert ids(directory) == ["consul:n0:web-1"]
        assert kinds(directory) == ["up"]
        api.fails, api.says = None, {"consul": [], "web": [entry(Port=81)]}
        await until(lambda: "is known again" in caplog.text)
        await until(lambda: directory.reading.view.instances("web")[0].port == 81)


@pytest.mark.slow
async def test_one_server_keeps_it_and_the_next_one_takes_it_over() -> None:
    api = Api()
    api.change(web=[entry()])

    async def serve(name: str, *, task_status: trio.TaskStatus[tuple[Directory, trio.CancelScope]]) -> None:
        with trio.CancelScope() as scope:
            async with open_directory("memory:imports", server=name) as directory:
                task_status.started((directory, scope))
                await Importing(directory, api).run()  # type: ignore[arg-type]

    def keeper(directory: Directory) -> str:
        held = directory.reading.view.held("web", "consul:n0:web-1")
        return "" if held is None else held.record.server

    async with trio.open_nursery() as nursery:
        first, scope = await nursery.start(serve, "a")
        await until(lambda: keeper(first) == "a")
        second, _ = await nursery.start(serve, "b")
        await until(lambda: keeper(second) == "a")
        commits = first.commits, second.commits
        await looked(api, 4)
        assert (first.commits, second.commits) == commits
        scope.cancel()
        await until(lambda: keeper(second) == "b")
        # To who looks it is no change.
        assert kinds(second) == []
        nursery.cancel_scope.cancel()


# -- a real Consul ---------------------------------------------------------------------------------------


@asynccontextmanager
async def consul_of(servers: ConsulServers) -> AsyncIterator[tuple[str, ConsulApi]]:
    """A directory's URL, and Consul as anybody speaks with it."""
    url = f"//{servers.hosts}/imports-{secrets.token_hex(4)}"
    async with open_consul_api(f"consul:{url}") as api:
        yield f"consul-catalog:{url}", api


async def register(api: ConsulApi, name: str, id: str, **more: Any) -> None:
    body = {"Name": name, "ID": id, "Address": "10.0.0.9", "Port": 80, **more}
    await api.ask_agent("PUT", "/v1/agent/service/register", body)


@pytest.mark.services
@pytest.mark.slow
async def test_a_service_that_only_consul_knows(consul: ConsulServers) -> None:
    name = f"only-{secrets.token_hex(3)}"
    async with consul_of(consul) as (url, api), open_directory(url, server="here") as directory:
        await register(api, name, f"{name}-1", Check={"TTL": "60s", "CheckID": name, "Status": "passing"})
        await until(lambda: ids(directory, name) == [f"consul:n0:{name}-1"])
        await api.ask_agent("PUT", f"/v1/agent/check/fail/{name}?note=broken")
        await until(lambda: ids(directory, name) == [])
        (one,) = directory.reading.view.all_instances(name)
        assert (one.state, one.note) == ("critical", "broken")
        await api.ask_agent("PUT", f"/v1/agent/check/pass/{name}")
        await until(lambda: ids(directory, name) == [f"consul:n0:{name}-1"])
        # Of a service that both have, others' are asked for alone.
        await directory.instances.register(name, led("ours", 80), is_held=True)
        with fail_after(20):
            while len(await api.ask_agent("GET", f"/v1/catalog/service/{name}")) < 2:
                # Consul is told in real time.
                await trio.sleep(0.05)
        entries = await api.ask_agent("GET", f"/v1/health/service/{name}?filter={_OTHERS}")
        assert [entry["Service"]["ID"] for entry in entries] == [f"{name}-1"]
        await directory.instances.deregister(name, "ours")
        with fail_after(20):
            while len(await api.ask_agent("GET", f"/v1/catalog/service/{name}")) > 1:
                # Consul is told in real time.
                await trio.sleep(0.05)
        # And it is not registered once more by us.
        entries = await api.ask_agent("GET", f"/v1/catalog/service/{name}")
        assert [entry["ServiceID"] for entry in entries] == [f"{name}-1"]
        await api.ask_agent("PUT", f"/v1/agent/service/deregister/{name}-1")
        await until(lambda: directory.reading.view.all_instances(name) == ())


@pytest.mark.services
@pytest.mark.slow
async def test_waiting_for_consul(consul: ConsulServers) -> None:
    name = f"wait-{secrets.token_hex(3)}"
    async with consul_of(consul) as (_, api):
        index = await api.wait("/v1/catalog/services", 0, 10)
        assert index > 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(register, api, name, name)
            with fail_after(20):
                while index == (index := await api.wait("/v1/catalog/services", index, 10)):
                    pass
        await api.ask_agent("PUT", f"/v1/agent/service/deregister/{name}")
        with pytest.raises(Unavailable, match="without an index"):
            await api.wait("/v1/status/leader", 0, 1)


# -- locks -----------------------------------------------------------------------------------------------


async def lock_of(api: ConsulApi, service: str) -> tuple[str, Any]:
    """The session that holds the lock of a service's leader, and what the lock says."""
    found = await api.ask_agent("GET", f"/v1/kv/service/{service}/leader", missing=True)
    if not found:
        return "", None
    return found[0].get("Session", ""), json.loads(base64.b64decode(found[0]["Value"]))


async def until_led(api: ConsulApi, service: str, id: str, besides: str = "") -> str:
    """Wait until an instance has the lock, by another session than one; return its session."""
    found: tuple[str, Any] = "", None
    with fail_after(30):
        while True:
            found = await lock_of(api, service)
            if found[0] not in ("", besides) and found[1]["id"] == id:
                return found[0]
            # Consul is told in real time.
            await trio.sleep(0.05)


def led(id: str, port: int) -> Registration:
    return Registration(id, host="10.0.0.1", port=port)


class Keys:
    """Consul's locks and sessions."""

    def __init__(self) -> None:
        self.sessions: list[str] = []
        self.locks: dict[str, tuple[str, bytes]] = {}
        self.is_away = False
        self.is_slow = False
        self._count = 0

    def hold(self, service: str, value: bytes) -> str:
        """Have somebody hold a lock."""
        self._count += 1
        session = f"s{self._count}"
        self.sessions.append(session)
        self.locks[service] = session, value
        return session

    def end(self, session: str) -> None:
        self.sessions.remove(session)
        self.locks = {key: lock for key, lock in self.locks.items() if lock[0] != session}

    async def ask_agent(self, method: str, path: str, body: Any = None, *, missing: bool = False) -> Any:
        await trio.lowlevel.checkpoint()
        if self.is_away:
            raise Unavailable("it is away")
        if path == "/v1/session/create":
            self._count += 1
            self.sessions.append(f"s{self._count}")
            return {"ID": f"s{self._count}"}
        if path.startswith("/v1/session/destroy/"):
            session = path.rpartition("/")[2]
            if session in self.sessions:
                self.end(session)
            return True
        service = path.split("/")[4]
        if method == "GET":
            if service not in self.locks:
                return None
            session, value = self.locks[service]
            return [{"Session": session, "Value": base64.b64encode(value).decode()}]
        session = path.partition("=")[2]
        if self.is_slow or self.locks.get(service, (session,))[0] != session:
            return False
        self.locks[service] = session, body
        return True


def lead(id: str, fence: int = 1, directory: str = "d") -> Lead:
    return Lead(directory, id, "10.0.0.1", 80, fence, f"check-{id}")


def leads_of(keys: Keys) -> dict[str, str]:
    """Whom the locks are for, of those whose session lives."""
    assert {session for session, _ in keys.locks.values()} <= set(keys.sessions)
    return {service: json.loads(value)["id"] for service, (_, value) in keys.locks.items()}


async def test_locks_follow_leaders(autojump_clock: trio.testing.MockClock) -> None:
    keys = Keys()
    locks = Locks(keys)  # type: ignore[arg-type]
    await locks.compare({"web": lead("a"), "api": lead("x")})
    assert leads_of(keys) == {"web": "a", "api": "x"}
    # Another fence of the same leader: the same session.
    before = list(keys.sessions)
    await locks.compare({"web": lead("a", 2), "api": lead("x")})
    assert keys.sessions == before
    assert json.loads(keys.locks["web"][1])["fence"] == 2
    await locks.compare({"web": lead("b", 3)})
    assert leads_of(keys) == {"web": "b"}
    assert len(keys.sessions) == 1
    # Consul takes it away, as when the check has failed for a moment: it is held again at the next look.
    keys.end(keys.sessions[0])
    await locks.compare({"web": lead("b", 3)})
    assert leads_of(keys) == {}
    await trio.sleep(REFRESH)
    await locks.compare({"web": lead("b", 3)})
    assert leads_of(keys) == {"web": "b"}
    assert len(keys.sessions) == 1
    await locks.compare({})
    assert (keys.locks, keys.sessions) == ({}, [])


async def test_locks_of_an_earlier_life_and_of_other_servers() -> None:
    keys = Keys()
    same = keys.hold("web", msgspec.json.encode(lead("a")))
    gone = keys.hold("api", msgspec.json.encode(lead("dead")))
    locks = Locks(keys)  # type: ignore[arg-type]
    await locks.compare({"web": lead("a"), "api": lead("x")})
    assert leads_of(keys) == {"web": "a", "api": "x"}
    assert keys.locks["web"][0] == same
    assert gone not in keys.sessions


async def test_locks_that_others_hold_or_are_faster_with(caplog: pytest.LogCaptureFixture) -> None:
    keys = Keys()
    theirs = {
        "web": keys.hold("web", b"mine"),
        "api": keys.hold("api", msgspec.json.encode(lead("a", 1, "other"))),
    }
    locks = Locks(keys)  # type: ignore[arg-type]
    for _ in range(3):
        await locks.compare({"web": lead("a"), "api": lead("x")})
    assert {service: session for service, (session, _) in keys.locks.items()} == theirs
    assert caplog.text.count("held by somebody else") == 2
    await locks.compare({})
    keys.end(theirs["web"])
    keys.is_slow = True
    await locks.compare({"web": lead("a")})
    assert "web" not in keys.locks
    keys.is_slow = False
    await locks.compare({"web": lead("a")})
    assert json.loads(keys.locks["web"][1])["id"] == "a"


async def test_locks_while_consul_is_away() -> None:
    keys = Keys()
    locks = Locks(keys)  # type: ignore[arg-type]
    await locks.compare({"web": lead("a")})
    keys.is_away = True
    with pytest.raises(Unavailable):
        await locks.compare({"web": lead("b", 2)})
    keys.is_away = False
    await locks.compare({"web": lead("b", 2)})
    assert leads_of(keys) == {"web": "b"}
    assert len(keys.sessions) == 1


@pytest.mark.services
@pytest.mark.slow
async def test_leaders_hold_consul_s_locks(consul: ConsulServers) -> None:
    name = f"led-{secrets.token_hex(3)}"
    async with consul_of(consul) as (url, api):
        async with open_directory(url, server="here") as directory:
            instances = directory.instances
            first = await instances.register(name, led("a", 80), is_held=True)
            session = await until_led(api, name, "a")
            leader = directory.reading.leader(name)
            assert leader is not None
            (_, lock) = await lock_of(api, name)
            assert (lock["address"], lock["port"], lock["fence"]) == ("10.0.0.1", 80, leader.fence)
            (info,) = await api.ask_agent("GET", f"/v1/session/info/{session}")
            assert [one["ID"] for one in info["ServiceChecks"]] == [lock["check"]]
            assert not info["NodeChecks"]

            await instances.register(name, led("b", 81), is_held=True)
            await instances.withdraw(first)
            await until_led(api, name, "b", session)
            assert not await api.ask_agent("GET", f"/v1/session/info/{session}")

            # One that does not serve leads no more, and Consul lets nobody have a lock whose check fails.
            await instances.register(name, led("c", 82), is_held=True)
            await instances.report(name, "b", "critical", "refused")
            await until_led(api, name, "c")
        # Of another life: what that left is taken over.
        async with open_directory(url, server="here") as directory:
            await directory.services.configure(name, ServiceConfig("manual", "d"))
            await directory.instances.register(name, led("d", 83), is_held=True)
            await until_led(api, name, "d")


@pytest.mark.services
@pytest.mark.slow
async def test_a_lock_of_others_is_theirs(consul: ConsulServers, caplog: pytest.LogCaptureFixture) -> None:
    name = f"theirs-{secrets.token_hex(3)}"
    async with consul_of(consul) as (url, api), open_directory(url, server="here") as directory:
        body = {"Name": "somebody", "LockDelay": "0s"}
        session = (await api.ask_agent("PUT", "/v1/session/create", body))["ID"]
        path = f"/v1/kv/service/{name}/leader"
        assert await api.ask_agent("PUT", f"{path}?acquire={session}", b'"mine"')
        await directory.instances.register(name, led("a", 80), is_held=True)
        await until(lambda: f"service/{name}/leader in Consul is held by somebody else" in caplog.text)
        assert await lock_of(api, name) == (session, "mine")
        await api.ask_agent("PUT", f"/v1/session/destroy/{session}")
