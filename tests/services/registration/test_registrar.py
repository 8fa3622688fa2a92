"""The loop, with a made-up engine and a directory in this process."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytest
import trio

from duplex_services.discovery.client import DiscoveryService, Registration, keep_registered, open_client
from duplex_services.registration._fetching import fetch
from duplex_services.registration._model import Entry
from duplex_services.registration._rules._discovery import check_of, listed_name, mode_calls, registration_of
from duplex_services.registration._rules._discovery import entry_of as discovery_entry
from duplex_services.registration._target import TargetError
from duplex_services.registration._targets._discovery import DiscoveryTarget
from tests.machine import fail_after
from tests.services.registration.fake_engine import FakeEngine, inspected
from tests.services.registration.made import container, one
from tests.services.registration.running import Listing, listing, registering


def labelled(number: int, **labels: str) -> dict[str, Any]:
    return inspected(
        number, Config={"Labels": labels, "Image": "example/web:1", "ExposedPorts": {"80/tcp": {}}}
    )


async def test_one_link_and_only_what_changes_is_written(tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "s")
    fake.add(*(inspected(number) for number in range(30)))
    async with fake.serve(), listing() as listed:
        async with registering(fake.url, listed, tmp_path / "state", interval=0.05) as running:
            await listed.until(lambda: running.keeper.statistics.writes == 30)
            assert len(listed.serving()) == 30
            index, lists = listed.index(), running.source.statistics.lists
            await listed.until(lambda: running.source.statistics.lists > lists + 5)
            assert listed.index() == index
            assert running.keeper.statistics.writes == 30
            assert running.source.statistics.inspections == 30
            moved = inspected(3)
            moved["NetworkSettings"]["Ports"] = {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "9999"}]}
            fake.add(moved)
            fake.tell("start", moved["Id"])
            await listed.until(lambda: "web 192.0.2.1:9999" in listed.serving())
            # It was taken over in place: at no moment was it gone.
            assert listed.index() == index + 1
            assert len(listed.all) == 30


async def test_an_engine_is_only_asked_what_a_proxy_of_get_lets_through(tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "s")
    fake.add(inspected(1, Config={"StopSignal": "SIGTERM", "Image": "web", "ExposedPorts": {"80/tcp": {}}}))
    id = inspected(1)["Id"]
    async with fake.serve(), listing() as listed:
        async with registering(fake.url, listed, tmp_path / "state", interval=0.05) as running:
            await listed.until(lambda: len(listed.serving()) == 1)
            fake.tell("kill", id, signal="15")
            await listed.until(lambda: listed.all[0].state == "draining")
            fake.containers.clear()
            fake.tell("destroy", id)
            await listed.until(lambda: listed.all == [])
            fake.hang_up()
            await listed.until(lambda: running.source.statistics.connections > 1)
    assert fake.methods == {"GET"}
    assert set(fake.requests) == {"/version", "/events", "/containers/json", f"/containers/{id}/json"}


async def test_registry_that_is_away_gets_what_runs_when_it_is_back(tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "s")
    fake.add(inspected(1))
    async with fake.serve():
        async with listing() as listed:
            endpoint = listed.endpoint
        with fail_after(60):
            async with registering(
                fake.url, Listing(listed.directory, endpoint), tmp_path / "state"
            ) as running:
                while "no server of discovery answers" not in running.keeper.trouble:
                    await trio.sleep(0.05)  # nothing tells of it
                assert running.registrar.services != ()


async def test_what_is_of_others_stays_and_is_told(tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "s")
    fake.add(labelled(1, SERVICE_ID="mine"), labelled(2, SERVICE_NAME="no/name"), labelled(3))
    async with fake.serve(), listing() as listed, open_client(listed.endpoint) as peer:
        async with keep_registered(peer, "web", Registration("mine", host="10.0.0.1", port=1)) as foreign:
            await foreign.registered()
            async with registering(fake.url, listed, tmp_path / "state") as running:
                await listed.until(lambda: len(listed.all) == 2)
                await listed.until(lambda: len(running.keeper.refused) == 2)
                why = {name: reason for (name, _), reason in running.keeper.refused.items()}
                assert why["web"] == "web/mine is there already, and somebody else has written it"
                assert why["no/name"].startswith("discovery cannot have a service 'no/name'")
                assert "web 10.0.0.1:1" in listed.serving()


async def test_what_somebody_deregisters_comes_back_while_it_runs(tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "s")
    fake.add(inspected(1))
    async with fake.serve(), listing() as listed, open_client(listed.endpoint) as peer:
        async with registering(fake.url, listed, tmp_path / "state"):
            await listed.until(lambda: len(listed.all) == 1)
            remote = peer.service(DiscoveryService, name="discovery")
            began = time.monotonic()
            await remote.deregister("web", listed.all[0].id, "", "by hand")
            await listed.until(lambda: listed.all == [])
            await listed.until(lambda: len(listed.all) == 1)
            # Two who both want it do not wear discovery out.
            assert time.monotonic() - began > 0.9


async def test_modes_of_operators_stay(tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "s")
    fake.add(inspected(1))
    async with fake.serve(), listing() as listed, open_client(listed.endpoint) as peer:
        remote = peer.service(DiscoveryService, name="discovery")
        async with registering(fake.url, listed, tmp_path / "state", interval=0.05) as running:
            await listed.until(lambda: len(listed.all) == 1)
            await remote.maintain("web", listed.all[0].id, "by hand", False)
            lists = running.source.statistics.lists
            await listed.until(lambda: running.source.statistics.lists > lists + 5)
            assert [(one.state, one.note) for one in listed.all] == [("maintenance", "by hand")]
            await remote.maintain("web", listed.all[0].id, "", True)
            fake.add(inspected(1, State={"Status": "paused"}))
            await listed.until(lambda: listed.all[0].state == "maintenance")
        # A mode of the registrar's is taken back by its next run too.
        fake.add(inspected(1))
        async with registering(fake.url, listed, tmp_path / "state"):
            await listed.until(lambda: listed.all[0].state == "passing")


async def test_engine_that_is_away_at_the_start_takes_nothing_away(tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "s")
    fake.add(inspected(1), inspected(2))
    async with listing() as listed:
        async with fake.serve(), registering(fake.url, listed, tmp_path / "state", ttl=1.0):
            await listed.until(lambda: len(listed.serving()) == 2)
        fake.path.unlink()
        async with registering(fake.url, listed, tmp_path / "state", ttl=1.0) as running:
            # Longer than their TTL: they are kept by this run, from what the last one knew.
            await trio.sleep(2.5)
            assert len(listed.serving()) == 2
            assert "No such file" in running.source.trouble
            del fake.containers[inspected(1)["Id"]]
            async with fake.serve():
                await listed.until(lambda: len(listed.serving()) == 1)


async def test_state_that_cannot_be_written_is_told_once_it_matters(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fake = FakeEngine(tmp_path / "s")
    fake.add(inspected(1))
    async with fake.serve(), listing() as listed:
        (tmp_path / "state").mkdir()
        (tmp_path / "state" / "services.new").mkdir()
        with caplog.at_level(logging.WARNING, "duplex"):
            async with registering(fake.url, listed, tmp_path / "state"):
                await listed.until(lambda: len(listed.serving()) == 1)
    assert "cannot be kept for the next start" in caplog.text


async def test_tags_that_ask_an_address(tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "s")
    fake.add(inspected(1))
    async with fake.serve(), listing() as listed, trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, _answer_blue, 0)
        port = listeners[0].socket.getsockname()[1]
        tags = f'{{{{httpGet "http://localhost:{port}/?a=b"}}}},x'
        async with registering(fake.url, listed, tmp_path / "state", tags=tags):
            await listed.until(lambda: [one.metadata["tags"] for one in listed.all] == ["blue,x"])
        nursery.cancel_scope.cancel()


async def _answer_blue(stream: trio.SocketStream) -> None:
    head = await stream.receive_some(65536)
    assert head.startswith(b"GET /?a=b HTTP/1.1\r\n")
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nblue")


async def test_address_that_cannot_be_fetched_is_empty() -> None:
    into: dict[str, bytes] = {}
    await fetch(["ftp://x/", "http://127.0.0.1:1/", "https://127.0.0.1:1/"], into)
    assert set(into.values()) == {b""}
    assert len(into) == 3


# -- what discovery is told ------------------------------------------------------------------------------


def test_registration() -> None:
    service = one(container(labels={"SERVICE_TAGS": r"a,b\,c", "SERVICE_REGION": "eu"}))
    said = registration_of(service, "me")
    assert (said.id, said.host, said.port, said.protocol) == (service.id, "192.0.2.1", 8000, "tcp")
    assert said.metadata == {
        "region": "eu",
        "tags": r"a,b\,c",
        "registrar": "me",
        "container": service.container[:12],
        "container_name": "web.1",
    }


@pytest.mark.parametrize(("name", "listed"), [("web", "web"), ("user_store", "user-store"), ("A.b", "a-b")])
def test_name_in_discovery(name: str, listed: str) -> None:
    assert listed_name(name) == listed


@pytest.mark.parametrize("name", ["", "a/b", "ü", "x" * 64, "_"])
def test_name_that_discovery_cannot_have(name: str) -> None:
    with pytest.raises(ValueError, match="discovery cannot have a service"):
        listed_name(name)


def test_id_that_discovery_cannot_have() -> None:
    with pytest.raises(ValueError, match="discovery cannot have the id"):
        discovery_entry(one(container(labels={"SERVICE_ID": "a b"})), "me")


@pytest.mark.parametrize(
    ("labels", "kind", "target", "interval", "timeout"),
    [
        ({"SERVICE_CHECK_HTTP": "/x"}, "http", "http://192.0.2.1:8000/x", 10.0, 2.0),
        (
            {"SERVICE_CHECK_HTTPS": "/x", "SERVICE_CHECK_INTERVAL": "1s"},
            "http",
            "https://192.0.2.1:8000/x",
            1.0,
            1.0,
        ),
        ({"SERVICE_CHECK_TCP": "1", "SERVICE_CHECK_TIMEOUT": "500ms"}, "tcp", "192.0.2.1:8000", 10.0, 0.5),
        ({"SERVICE_CHECK_GRPC": "1"}, "grpc", "192.0.2.1:8000", 10.0, 2.0),
        ({"SERVICE_80_CHECK_DUPLEX": "1"}, "duplex", "tcp://192.0.2.1:8000", 10.0, 2.0),
    ],
)
def test_check(labels: dict[str, str], kind: str, target: str, interval: float, timeout: float) -> None:
    check = check_of(one(container(labels=labels)))
    assert check is not None
    assert (check.kind, check.target, check.interval, check.timeout) == (kind, target, interval, timeout)


def test_no_check() -> None:
    assert check_of(one(container())) is None
    assert check_of(one(container(labels={"SERVICE_CHECK_SCRIPT": "x"}))) is None
    with pytest.raises(ValueError, match="no duration"):
        check_of(one(container(labels={"SERVICE_CHECK_TCP": "1", "SERVICE_CHECK_INTERVAL": "soon"})))


def entry(given: dict[str, Any]) -> Entry:
    return discovery_entry(one(container(**given)), "me")


@pytest.mark.parametrize(
    ("before", "after", "calls"),
    [
        (None, {}, []),
        ({}, {}, []),
        ({}, {"health": "unhealthy"}, []),
        (None, {"status": "paused"}, [("maintain", False)]),
        ({}, {"status": "paused"}, [("maintain", False)]),
        ({"status": "paused"}, {}, [("maintain", True)]),
        ({"status": "paused"}, {"is_stopping": True}, [("maintain", True), ("drain", False)]),
        ({"is_stopping": True}, {}, [("drain", True)]),
        ({"is_stopping": True}, {"is_stopping": True}, []),
    ],
)
def test_modes(before: dict[str, Any] | None, after: dict[str, Any], calls: list[tuple[str, bool]]) -> None:
    found = mode_calls(None if before is None else entry(before), entry(after))
    assert [(method, undo) for method, _, undo in found] == calls


def test_modes_of_others_are_not_taken_back() -> None:
    assert mode_calls(Entry("k", "me", "", "draining", "by hand"), entry({})) == []


async def test_target_that_was_not_opened() -> None:
    target = DiscoveryTarget(("tcp://127.0.0.1:1",), "me")
    with pytest.raises(TargetError, match="no server of discovery answers at tcp://127"):
        target._remote()
