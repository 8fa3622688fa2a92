"""A real engine: what runs is what is listed, over restarts of everybody."""

from __future__ import annotations

import itertools
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import trio

from duplex_services.registration._model import Host
from tests.machine import within
from tests.services.docker import DockerEngine
from tests.services.registration.running import Listing, listing, registering
from tests.services.shell import Shell

pytestmark = [pytest.mark.slow, pytest.mark.services]


async def in_thread(function: Any, *values: Any, **named: Any) -> Any:
    return await trio.to_thread.run_sync(lambda: function(*values, **named))


async def run_all(engine: DockerEngine, count: int, **given: Any) -> list[str]:
    return [
        await in_thread(engine.run, f"web.{number}", ports={"80/tcp": f"{8000 + number}"}, **given)
        for number in range(count)
    ]


def addresses(numbers: range | list[int]) -> set[str]:
    return {f"web 192.0.2.1:{8000 + number}" for number in numbers}


async def test_what_runs_is_listed_and_what_ends_is_not(engine: DockerEngine, tmp_path: Path) -> None:
    async with listing() as listed, registering(engine.url, listed, tmp_path) as running:
        first, second = await run_all(engine, 2)
        await listed.until(lambda: listed.serving() == addresses(range(2)))
        one = next(one for one in listed.all if one.port == 8000)
        assert one.id == f"{first[:12]}-80"
        assert one.metadata["container"] == first[:12]
        assert one.metadata["container_name"] == "web.0"
        await in_thread(engine.do, first, "stop", t=5)
        await listed.until(lambda: listed.serving() == addresses([1]))
        await in_thread(engine.do, first, "start")
        await listed.until(lambda: len(listed.serving()) == 2)
        await in_thread(engine.remove, second)
        await listed.until(lambda: listed.serving() == addresses([0]))
        assert running.keeper.trouble == ""
        assert running.source.trouble == ""


# -- registrars and hosts that die ------------------------------------------------------------------


async def test_killed_registrar_with_another_host_name_lists_what_runs(
    engine: DockerEngine, tmp_path: Path
) -> None:
    containers = await run_all(engine, 5)
    async with listing() as listed:
        with Shell(tmp_path, "registrator", discovery=listed.endpoint) as shell:
            words = ("run", "--docker", engine.url, "--advertise", "192.0.2.1", "--ttl", "30")
            first = await in_thread(shell.start, *words, "--state", str(tmp_path / "one"), "--hostname", "h1")
            other = await in_thread(
                shell.start, *words, "--state", str(tmp_path / "two"), "--internal", "--compat", "registrator"
            )
            await listed.until(lambda: len(listed.all) == 10, 20.0)
            other.kill()
            foreign = {one.id: one for one in listed.all if ":" in one.id}
            first.send_signal(signal.SIGKILL)
            first.wait()
            for id in containers[:2]:
                await in_thread(engine.remove, id)
            await in_thread(shell.start, *words, "--state", str(tmp_path / "one"), "--hostname", "renamed")
            # The TTL is far away: what is gone was taken away by who has the same owner.
            await listed.until(lambda: len([one for one in listed.all if ":" not in one.id]) == 3, 20.0)
            assert listed.serving() >= addresses([2, 3, 4])
            assert {one.id for one in listed.all if ":" in one.id} == foreign.keys()


async def test_killed_host_is_gone_within_its_ttl(tmp_path: Path) -> None:
    async with listing() as listed:
        with DockerEngine() as own, Shell(tmp_path, "registrator", discovery=listed.endpoint) as shell:
            await run_all(own, 2)
            registrar = await in_thread(
                shell.start, "run", "--docker", own.url, "--advertise", "192.0.2.1", "--ttl", "3"
            )
            await listed.until(lambda: len(listed.serving()) == 2, 20.0)
            registrar.kill()
        # The engine with its containers is gone too, and nobody runs there who could say so.
        took = await listed.until(lambda: not listed.all, 5.0)
        assert took < within(5.0)


async def test_registrar_that_leaves_has_its_entries_adopted_by_the_next(
    engine: DockerEngine, tmp_path: Path
) -> None:
    containers = await run_all(engine, 4)
    async with listing() as listed:
        async with registering(engine.url, listed, tmp_path):
            await listed.until(lambda: len(listed.serving()) == 4)
        indexes = {one.id: one.index for one in listed.all}
        assert len(indexes) == 4
        for id in containers[:2]:
            await in_thread(engine.remove, id)
        async with registering(engine.url, listed, tmp_path, host=Host("renamed", "192.0.2.1")):
            await listed.until(lambda: len(listed.all) == 2, 3.0)
            assert {one.id: one.index for one in listed.all}.items() <= indexes.items()


# -- engines that die -------------------------------------------------------------------------------


async def test_engine_that_is_killed_and_comes_back(tmp_path: Path) -> None:
    with DockerEngine("--live-restore") as own:
        containers = await run_all(own, 4)
        async with listing() as listed, registering(own.url, listed, tmp_path):
            await listed.until(lambda: len(listed.serving()) == 4)
            pids = [own.inspect(id)["State"]["Pid"] for id in containers]
            own.stop(signal.SIGKILL)
            for pid in pids[:2]:
                await in_thread(own.kill_inside, pid)
            # Whatever is to happen while nobody can look has had its time then.
            await trio.sleep(1.0)
            assert len(listed.serving()) == 4
            await in_thread(own.start)
            took = await listed.until(lambda: listed.serving() == addresses([2, 3]), 2.0)
            assert took < within(2.0)


async def test_engine_that_ends_in_order_has_its_containers_at_other_addresses(tmp_path: Path) -> None:
    with DockerEngine() as own:
        policy = {"RestartPolicy": {"Name": "always"}}
        for number in range(3):
            await in_thread(own.run, f"web.{number}", ports={"80/tcp": ""}, HostConfig=policy)
        async with listing() as listed, registering(own.url, listed, tmp_path):
            await listed.until(lambda: len(listed.serving()) == 3)
            await in_thread(own.stop, signal.SIGTERM)
            await in_thread(own.start)

            def are_as_docker_says() -> bool:
                ports = {
                    own.inspect(id)["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"] for id in own.ids()
                }
                return listed.serving() == {f"web 192.0.2.1:{port}" for port in ports}

            await listed.until(lambda: all(own.inspect(id)["State"]["Running"] for id in own.ids()), 20.0)
            await listed.until(are_as_docker_says, 2.0)


# -- addresses --------------------------------------------------------------------------------------


async def test_addresses_that_an_engine_tells(engine: DockerEngine, tmp_path: Path) -> None:
    both = Host("h1", "192.0.2.1", "2001:db8::1")
    for network, subnet in (("front", "10.231.41.0/24"), ("back", "10.231.42.0/24")):
        await in_thread(engine.make_network, network, subnet)
    await in_thread(engine.make_network, "six", "10.231.43.0/24", six="fd00:231::/64")
    name = {"SERVICE_NAME": "x"}
    pod = await in_thread(
        engine.run, "pod", exposed=("80/tcp",), network="front", labels={"SERVICE_IGNORE": "1"}
    )
    await in_thread(engine.run, "plain", ports={"80/tcp": "8000"}, labels=name)
    await in_thread(engine.run, "loopback", ports={"80/tcp": "127.0.0.1:8001"}, labels=name)
    await in_thread(
        engine.run, "loopback-meant", ports={"80/tcp": "127.0.0.1:8002"}, labels=name | {"SERVICE_ADDRESS": "published"}
    )  # fmt: skip
    await in_thread(engine.run, "host", exposed=("9000/tcp",), network="host", labels=name)
    await in_thread(engine.run, "none", exposed=("80/tcp",), network="none", labels=name)
    await in_thread(engine.run, "sidecar", network=f"container:{pod}", labels=name, shares=True)
    several: tuple[dict[str, str], ...] = ({}, {"SERVICE_NETWORK": "front"})
    for number, labels in enumerate(several):
        id = await in_thread(
            engine.run, f"two-{number}", exposed=("80/tcp",), network="back", labels=name | labels
        )
        await in_thread(engine.connect, "front", id)
    await in_thread(
        engine.run, "both", exposed=("80/tcp",), network="six", labels=name | {"SERVICE_NETWORK": "six"}
    )

    def at(name: str) -> list[str]:
        return sorted(one.address for one in listed.all if one.metadata["container_name"] == name)

    def inside(name: str, network: str, key: str = "IPAddress") -> str:
        return str(engine.inspect(name)["NetworkSettings"]["Networks"][network][key])

    async with listing() as listed:
        async with registering(engine.url, listed, tmp_path / "outside", host=both) as running:
            await listed.until(lambda: len(listed.all) == 8)
            # Docker publishes in both families at once.
            assert at("plain") == ["192.0.2.1:8000", "[2001:db8::1]:8000"]
            assert at("loopback") == []
            assert at("loopback-meant") == ["127.0.0.1:8002"]
            assert at("host") == ["192.0.2.1:9000"]
            assert at("sidecar") == [f"{inside('pod', 'front')}:81"]
            assert at("two-1") == [f"{inside('two-1', 'front')}:80"]
            assert at("both") == sorted(
                [f"{inside('both', 'six')}:80", f"[{inside('both', 'six', 'GlobalIPv6Address')}]:80"]
            )
            why = {finding.name: finding.why for finding in running.registrar.findings if not finding.service}
            assert why["none"] == "the container has no network"
            assert "published on loopback only" in why["loopback"]
        async with registering(engine.url, listed, tmp_path / "inside", host=both, internal=True) as running:
            await listed.until(lambda: at("two-1") != [] and running.keeper.trouble == "")
            await listed.until(
                lambda: any(
                    finding.name == "two-0" and finding.why.startswith("ambiguous networks back, front")
                    for finding in running.registrar.findings
                )
            )
            # No start tells of that; only the network's own event does.
            await in_thread(engine.disconnect, "front", "two-0")
            took = await listed.until(lambda: f"{inside('two-0', 'back')}:80" in at("two-0"), 1.0)
            assert took < within(1.0)


# -- before it is ready, and after ------------------------------------------------------------------


HEALTH = {
    "Test": ["CMD", "test", "-e", "/tmp/well"],
    "Interval": 300_000_000,
    "Timeout": 5_000_000_000,
    "Retries": 1,
    "StartPeriod": 60_000_000_000,
}


async def test_states_follow_the_container(engine: DockerEngine, tmp_path: Path) -> None:
    slow_end = "trap 'sleep 1; exit 0' TERM; trap true HUP; while true; do sleep 0.1; done"
    async with listing() as listed, registering(engine.url, listed, tmp_path):
        id = await in_thread(
            engine.run, "web", ports={"80/tcp": "8000"}, Healthcheck=HEALTH, command=slow_end,
            HostConfig={"Init": False, "Tmpfs": {"/tmp": ""}},
        )  # fmt: skip
        other = await in_thread(engine.run, "other", ports={"80/tcp": "8001"})
        await listed.until(lambda: listed.states() == {"other": "passing"})
        assert engine.inspect(id)["State"]["Health"]["Status"] == "starting"
        await in_thread(engine.execute, id, "touch", "/tmp/well")
        await listed.until(lambda: listed.states().get("web") == "passing")
        await in_thread(engine.execute, id, "rm", "/tmp/well")
        await listed.until(lambda: listed.states().get("web") == "critical")
        await in_thread(engine.execute, id, "touch", "/tmp/well")
        await listed.until(lambda: listed.states().get("web") == "passing")

        await in_thread(engine.do, id, "pause")
        await listed.until(lambda: listed.states().get("web") == "maintenance")
        await in_thread(engine.do, id, "unpause")
        await listed.until(lambda: listed.states().get("web") == "passing")

        (before,) = (one.id for one in listed.all if one.port == 8000)
        await in_thread(engine.do, id, "rename", name="renamed")
        await listed.until(lambda: listed.states().get("renamed") == "passing")
        assert {one.id for one in listed.all if one.port == 8000} == {before}

        # Not every signal asks it to stop.
        await in_thread(engine.do, id, "kill", signal="HUP")
        await in_thread(engine.do, other, "pause")
        await listed.until(lambda: listed.states() == {"renamed": "passing", "other": "maintenance"})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: in_thread(engine.do, id, "stop", t=10))
            await listed.until(lambda: listed.states().get("renamed") == "draining")
            assert engine.inspect(id)["State"]["Running"]
        await listed.until(lambda: "renamed" not in listed.states())
        # It begins anew, and so does its health.
        await in_thread(engine.do, id, "start")
        await in_thread(engine.execute, id, "touch", "/tmp/well")
        await listed.until(lambda: listed.states().get("renamed") == "passing")


async def test_callers_see_no_refused_connection_over_stops_and_starts(
    engine: DockerEngine, tmp_path: Path
) -> None:
    """A server that goes on for a moment after it was told to stop, and callers who look up first."""
    server = "touch /tmp/index.html; httpd -p 80 -h /tmp; trap 'sleep 1; exit 0' TERM; while true; do sleep 0.1; done"
    refused: list[str] = []
    connected = 0
    async with listing() as listed, registering(engine.url, listed, tmp_path, internal=True):
        ids = [
            await in_thread(
                engine.run, f"web.{number}", exposed=("80/tcp",), HostConfig={"Init": False, "Tmpfs": {"/tmp": ""}},
                command=server,
                Healthcheck={"Test": ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1/"], "Interval": 200_000_000, "Retries": 1, "StartPeriod": 60_000_000_000},
            )
            for number in range(2)
        ]  # fmt: skip
        await listed.until(lambda: len(listed.serving()) == 2, 20.0)

        async def call() -> None:
            nonlocal connected
            for turn in itertools.count():
                serving = sorted(listed.serving())
                if serving:
                    address = serving[turn % len(serving)].partition(" ")[2].partition(":")[0]
                    found = await in_thread(engine.can_connect, address, 80)
                    connected += found
                    if not found:
                        refused.append(address)
                await trio.sleep(0.05)  # twenty times a second

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            for turn in range(4):
                await in_thread(engine.do, ids[turn % 2], "stop", t=10)
                await in_thread(engine.do, ids[turn % 2], "start")
                await listed.until(lambda: len(listed.serving()) == 2, 20.0)
            nursery.cancel_scope.cancel()
    assert refused == []
    assert connected > 20


# -- looking often, and being born meanwhile ---------------------------------------------------


async def test_looking_again_writes_nothing_and_brings_nothing_back(
    engine: DockerEngine, tmp_path: Path
) -> None:
    ids = await run_all(engine, 8)
    async with listing() as listed, registering(engine.url, listed, tmp_path, interval=0.1) as running:
        await listed.until(lambda: len(listed.serving()) == 8)
        await listed.until(lambda: running.keeper.statistics.writes == 8)
        index, writes = listed.index(), running.keeper.statistics.writes
        lists, inspections = running.source.statistics.lists, running.source.statistics.inspections
        await listed.until(lambda: running.source.statistics.lists >= lists + 10, 20.0)
        assert listed.index() == index
        assert running.keeper.statistics.writes == writes == 8
        assert running.source.statistics.inspections == inspections
        for number, id in enumerate(ids[:4]):
            await in_thread(engine.remove, id)
            await listed.until(lambda number=number: len(listed.all) == 7 - number)  # type: ignore[misc]
        lists = running.source.statistics.lists
        while running.source.statistics.lists < lists + 10:
            assert len(listed.all) == 4
            await trio.sleep(0.01)  # it must not come back at any moment
        await listed.until(lambda: running.keeper.statistics.writes == 12)


async def test_container_that_is_born_while_the_registrar_starts(
    engine: DockerEngine, tmp_path: Path
) -> None:
    is_over = False

    async def churn() -> None:
        for number in itertools.count():
            id = await in_thread(engine.run, f"c{number}", ports={"80/tcp": ""})
            if number % 2:
                await in_thread(engine.remove, id)
            if is_over:
                return

    for turn in range(3):
        is_over = False
        async with listing() as listed, registering(engine.url, listed, tmp_path / f"{turn}"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(churn)
                await listed.until(lambda: listed.all != [])
                is_over = True
            there = {one["Id"][:12] for one in engine.ask("GET", "/containers/json")}
            assert await listed.until(lambda: _containers(listed) == there, 1.0) < within(1.0)  # noqa: B023
        await in_thread(engine.clear)


def _containers(listed: Listing) -> set[str]:
    return {one.metadata["container"] for one in listed.all}


# -- R-10 --------------------------------------------------------------------------------------


async def test_explain_says_of_each_port_why(engine: DockerEngine, tmp_path: Path) -> None:
    await in_thread(
        engine.run, "web", network="host", exposed=("80/tcp", "443/tcp", "9000/tcp"), labels={"SERVICE_443_NAME": "tls"}
    )  # fmt: skip
    with Shell(tmp_path, "registrator") as shell:
        given = ("--docker", engine.url, "--advertise", "192.0.2.1")
        code, out, _ = await in_thread(shell.run, "explain", "web", *given)
        assert code == 0
        lines = out.splitlines()
        assert lines[0].startswith("web (")
        assert lines[1].startswith(
            "- 80/tcp is not listed: the container is in the host's network, and no SERVICE_80_"
        )
        assert lines[2].startswith("- 9000/tcp is not listed: ")
        assert lines[3].startswith("- 443/tcp is listed as tls ")
        code, out, _ = await in_thread(shell.run, "ls", *given, "--host-ports=exposed")
        assert [line.split()[0] for line in out.splitlines()[1:]] == ["web-80", "tls", "web-9000"]


async def test_exited_container_stays_for_those_who_ask(engine: DockerEngine, tmp_path: Path) -> None:
    now = time.time()
    first, second = await run_all(engine, 2)
    async with (
        listing() as listed,
        registering(engine.url, listed, tmp_path, keep_exited=600.0, clock=lambda: now),
    ):
        await listed.until(lambda: len(listed.serving()) == 2)
        for id in (first, second):
            await in_thread(engine.do, id, "stop", t=5)
        await listed.until(lambda: listed.states() == {"web.0": "critical", "web.1": "critical"})
        assert listed.serving() == set()
        assert all(one.note.startswith("exited ") for one in listed.all)
        await in_thread(engine.remove, first)
        await listed.until(lambda: listed.states() == {"web.1": "critical"})
        now = time.time() + 601.0
        await listed.until(lambda: listed.all == [])
