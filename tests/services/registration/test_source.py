"""An engine's containers: lists, hints, versions, and an engine that is away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

import duplex
from duplex_services._shared._background import background
from duplex_services.registration._docker._engine import Engine, EngineError, read_endpoint
from duplex_services.registration._docker._source import DockerSource
from duplex_services.registration._open import docker_address, docker_tls
from duplex_services.registration._source import SourceError
from tests.machine import fail_after
from tests.services.registration.fake_engine import FakeEngine, inspected


class Follower:
    """A source that runs, and waits until it knows something."""

    def __init__(self, source: DockerSource) -> None:
        self.source = source
        self.changes = 0
        self._changed = trio.Event()

    def changed(self) -> None:
        self.changes += 1
        self._changed.set()
        self._changed = trio.Event()

    @property
    def names(self) -> list[str]:
        return sorted(one.name for one in self.source.containers or ())

    async def until(self, is_so: Any) -> None:
        with fail_after(10):
            while not is_so():
                await self._changed.wait()


def count(source: DockerSource) -> int:
    return len(source.containers or ())


async def test_a_list_then_only_what_changes(tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "s")
    fake.add(*(inspected(number) for number in range(3)))
    source = DockerSource(Engine(fake.url), interval=1000.0)
    follower = Follower(source)
    async with fake.serve(), background() as nursery:
        nursery.start_soon(source.run, follower.changed)
        await follower.until(lambda: len(follower.names) == 3)
        assert (source.statistics.lists, source.statistics.inspections) == (1, 3)
        # It listens before it lists: what begins between the two is told.
        assert fake.requests.index("/events") < fake.requests.index("/containers/json")
        fake.add(inspected(7))
        fake.tell("start", inspected(7)["Id"])
        await follower.until(lambda: "web.7" in follower.names)
        del fake.containers[inspected(1)["Id"]]
        fake.tell("destroy", inspected(1)["Id"])
        await follower.until(lambda: "web.1" not in follower.names)
        fake.tell("connect", "a-network", kind="network", container=inspected(2)["Id"])
        fake.tell("connect", "a-network", kind="network")
        moved = inspected(0)
        moved["NetworkSettings"]["Networks"] = {"front": {"IPAddress": "10.0.0.9"}}
        fake.add(moved)
        fake.tell("disconnect", "a-network", kind="network", container=moved["Id"])
        await follower.until(
            lambda: "front" in {net.name for one in source.containers or () for net in one.networks}
        )
        assert source.statistics.lists == 1
        assert source.statistics.inspections <= 7


async def test_a_list_makes_good_for_lost_hints_and_nothing_is_looked_at_twice(tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "s")
    fake.add(*(inspected(number) for number in range(3)))
    source = DockerSource(Engine(fake.url), interval=0.02)
    follower = Follower(source)
    async with fake.serve(), background() as nursery:
        nursery.start_soon(source.run, follower.changed)
        await follower.until(lambda: len(follower.names) == 3)
        fake.add(inspected(4))
        fake.add(inspected(0, State={"Status": "running", "Health": {"Status": "unhealthy"}}))
        del fake.containers[inspected(2)["Id"]]
        await follower.until(lambda: follower.names == ["web.0", "web.1", "web.4"])
        assert source.statistics.inspections == 5
        changes, lists = follower.changes, source.statistics.lists
        with fail_after(10):
            while source.statistics.lists < lists + 5:
                await trio.sleep(0.01)  # the engine counts in real time how long containers are up
        assert (follower.changes, source.statistics.inspections) == (changes, 5)


async def test_while_the_engine_is_away_nothing_is_gone(tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "s")
    fake.add(inspected(1), inspected(2))
    source = DockerSource(Engine(fake.url))
    follower = Follower(source)
    async with background() as nursery:
        nursery.start_soon(source.run, follower.changed)
        await follower.until(lambda: "No such file" in source.trouble)
        assert source.containers is None
        async with fake.serve():
            await follower.until(lambda: source.trouble == "")
            assert follower.names == ["web.1", "web.2"]
            fake.hang_up()
            await follower.until(lambda: "ended its events" in source.trouble)
            await follower.until(lambda: source.trouble == "")
        fake.path.unlink()
        await follower.until(lambda: source.trouble != "")
        assert follower.names == ["web.1", "web.2"]
        del fake.containers[inspected(1)["Id"]]
        # The path has another socket then.
        async with fake.serve():
            await follower.until(lambda: source.trouble == "")
            assert follower.names == ["web.2"]
    assert source.statistics.connections == 3


async def test_engine_that_was_replaced_at_the_same_path_is_asked_instead(tmp_path: Path) -> None:
    old = FakeEngine(tmp_path / "s", ("1.12", "1.41"))
    old.add(inspected(1))
    new = FakeEngine(tmp_path / "s", ("1.44", "1.52"))
    new.add(inspected(2))
    source = DockerSource(Engine(old.url), interval=0.05)
    follower = Follower(source)
    async with old.serve(), background() as nursery:
        nursery.start_soon(source.run, follower.changed)
        await follower.until(lambda: follower.names == ["web.1"])
        async with new.serve():
            await follower.until(lambda: follower.names == ["web.2"])


@pytest.mark.parametrize(
    ("versions", "spoken"),
    [(("1.12", "1.41"), "1.41"), (("1.24", "1.45"), "1.45"), (("1.44", "1.52"), "1.52")],
)
async def test_version_is_negotiated(tmp_path: Path, versions: tuple[str, str], spoken: str) -> None:
    fake = FakeEngine(tmp_path / "s", versions)
    fake.add(inspected(1))
    engine = Engine(fake.url)
    source = DockerSource(engine)
    async with fake.serve():
        await source.look()
    assert engine.version == spoken
    assert [one.name for one in source.containers or ()] == ["web.1"]


async def test_engine_that_is_too_new_is_an_error_that_is_tried_again(tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "s", ("1.53", "1.60"))
    fake.add(inspected(1))
    source = DockerSource(Engine(fake.url))
    follower = Follower(source)
    async with fake.serve(), background() as nursery:
        nursery.start_soon(source.run, follower.changed)
        await follower.until(
            lambda: "speaks API 1.53 to 1.60, and this registrator 1.24 to 1.52" in source.trouble
        )
        fake.versions = ("1.44", "1.60")
        await follower.until(lambda: follower.names == ["web.1"])


@pytest.mark.parametrize(
    ("path", "answer", "message"),
    [
        ("/version", (200, []), "does not answer as an engine does"),
        ("/version", (200, b"<html>"), "with no JSON"),
        ("/version", (500, {"message": "no"}), "answers 500: no"),
        ("/version", (500, []), "answers 500: "),
        ("/containers/json", (200, {}), "no list of containers"),
        ("/containers/json", (500, {"message": "broken"}), "answers 500: broken"),
        (f"/containers/{inspected(1)['Id']}/json", (500, {"message": "broken"}), "answers 500: broken"),
    ],
)
async def test_answers_that_make_no_sense(
    tmp_path: Path, path: str, answer: tuple[int, Any], message: str
) -> None:
    fake = FakeEngine(tmp_path / "s")
    fake.add(inspected(1), inspected(2))
    fake.instead[path] = answer
    source = DockerSource(Engine(fake.url))
    async with fake.serve():
        with pytest.raises(SourceError, match=message):
            await source.look()
        assert count(source) == 0
        fake.instead.clear()
        await source.look()
    assert count(source) == 2


async def test_container_that_makes_no_sense_costs_itself_alone(tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "s")
    fake.add(inspected(1), inspected(2))
    fake.instead[f"/containers/{inspected(1)['Id']}/json"] = (200, {"Id": 3})
    source = DockerSource(Engine(fake.url))
    async with fake.serve():
        await source.look()
    assert [one.name for one in source.containers or ()] == ["web.2"]


@pytest.mark.parametrize(
    ("answer", "message"), [((404, {}), "tells no events: it answers 404"), ((200, b"{\n"), "no JSON")]
)
async def test_events_that_make_no_sense(tmp_path: Path, answer: tuple[int, Any], message: str) -> None:
    fake = FakeEngine(tmp_path / "s")
    fake.instead["/events"] = answer
    source = DockerSource(Engine(fake.url))
    follower = Follower(source)
    async with fake.serve(), background() as nursery:
        nursery.start_soon(source.run, follower.changed)
        await follower.until(lambda: message in source.trouble)


async def test_engine_that_is_no_more_while_it_is_asked_for_events(tmp_path: Path) -> None:
    engine = Engine(f"unix://{tmp_path}/none")
    with pytest.raises(EngineError, match="No such file"):
        async with engine.events():
            pass


# -- stopping --------------------------------------------------------------------------------------------


async def test_stop_signal_of_this_life_makes_it_drain(tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "s")
    one = inspected(1, Config={"StopSignal": "SIGQUIT", "Image": "x", "ExposedPorts": {"80/tcp": {}}})
    fake.add(one)
    source = DockerSource(Engine(fake.url))
    follower = Follower(source)

    def is_stopping() -> bool:
        (found,) = source.containers or ()
        return found.is_stopping

    async with fake.serve(), background() as nursery:
        nursery.start_soon(source.run, follower.changed)
        await follower.until(lambda: follower.names == ["web.1"])
        events = source.statistics.events
        fake.tell("kill", one["Id"], signal="15")
        fake.tell("kill", one["Id"], signal="1")
        with fail_after(10):
            while source.statistics.events < events + 2:
                await trio.sleep(0.01)  # nothing tells that an event has no effect
        assert not is_stopping()
        fake.tell("kill", one["Id"], signal="3")
        await follower.until(is_stopping)
        fake.add(one | {"State": one["State"] | {"StartedAt": "2033-05-18T03:33:25Z"}})
        fake.tell("start", one["Id"])
        await follower.until(lambda: not is_stopping())
        # An event of before that is told again, as after a lost connection.
        fake.tell("kill", one["Id"], signal="3")
        fake.add(inspected(2))
        fake.tell("start", inspected(2)["Id"])
        await follower.until(lambda: len(follower.names) == 2)
        assert not any(found.is_stopping for found in source.containers or ())


# -- addresses of engines --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("unix:///run/docker.sock", "unix:/run/docker.sock"),
        ("tcp://10.0.0.2:2375", "http://10.0.0.2:2375"),
        ("tcp://[::1]:2375/", "http://[::1]:2375"),
    ],
)
def test_address_of_an_engine(text: str, shown: str) -> None:
    assert str(read_endpoint(text)) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "docker",
        "unix://docker.sock",
        "unix://",
        "tcp://h",
        "tcp://h:x",
        "tcp://h:1/x",
        "npipe:////./pipe/x",
    ],
)
def test_what_is_no_address_of_an_engine(text: str) -> None:
    with pytest.raises(duplex.ConfigurationError, match="no address of a container engine"):
        read_endpoint(text)


def test_where_the_engine_is_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert docker_address("tcp://a:1", {"DOCKER_HOST": "tcp://b:1"}) == "tcp://a:1"
    assert docker_address("", {"DOCKER_HOST": "tcp://b:1"}) == "tcp://b:1"
    there = tmp_path / "podman.sock"
    monkeypatch.setattr(
        "duplex_services.registration._open._SOCKETS", (f"{tmp_path}/docker.sock", f"{there}")
    )
    assert docker_address("", {}) == f"unix://{tmp_path}/docker.sock"
    there.touch()
    assert docker_address("", {}) == f"unix://{there}"


def test_certificates_for_an_engine(tmp_path: Path) -> None:
    assert docker_tls({}) is None
    with pytest.raises(duplex.ConfigurationError, match="DOCKER_CERT_PATH"):
        docker_tls({"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path)})
