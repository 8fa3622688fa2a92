"""The directory over each kind of store there is, real servers among them: two servers of discovery, with a store each."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from duplex_services.discovery import Directory, NotAllowed, Registration, ServiceConfig, open_directory
from duplex_services.store import open_store
from tests.machine import fail_after, within
from tests.services.store.served import Served

KINDS = [
    pytest.param("memory", marks=pytest.mark.slow),
    pytest.param("sqlite", marks=pytest.mark.slow),
    pytest.param("served", marks=pytest.mark.slow),
    *(
        pytest.param(kind, marks=[pytest.mark.services, pytest.mark.slow])
        for kind in ("etcd", "consul", "consul-catalog", "zookeeper")
    ),
]


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A store that is empty."""
    kind = request.param
    if kind == "served":
        server = Served(tmp_path)
        server.start()
        yield server.url
        server.end()
    else:
        yield _url(kind, request, tmp_path)


def _url(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if kind == "memory":
        return "memory:"
    if kind == "sqlite":
        return f"sqlite:{tmp_path}/store.db"
    servers = request.getfixturevalue(kind.partition("-")[0])
    options = "?session=4" if kind == "zookeeper" else ""
    return f"{kind}://{servers.hosts}/discovery-{secrets.token_hex(4)}{options}"


@asynccontextmanager
async def open_two(url: str) -> AsyncIterator[tuple[Directory, Directory]]:
    if url.startswith("consul-catalog"):
        async with open_directory(url, server="a") as first, open_directory(url, server="b") as second:
            yield first, second
        return
    async with open_store(url) as store, open_directory(store, server="a") as first:
        if url.startswith(("memory", "sqlite")):
            # One process has these, so both servers have the same.
            async with open_directory(store, server="b") as second:
                yield first, second
        else:
            async with open_directory(url, server="b") as second:
                yield first, second


async def until(directory: Directory, service: str, ids: set[str], leader: str | None) -> None:
    """Wait until a server knows of these instances and this leader."""
    with fail_after(20):
        async for _ in directory.reading.watch(service):
            found = directory.reading.leader(service)
            there = {one.id for one in directory.reading.view.all_instances(service)}
            if there == ids and (None if found is None else found.id) == leader:
                return


def said(id: str) -> Registration:
    return Registration(id, endpoint="tcp://127.0.0.1:7700", protocol="duplex", metadata={"version": "1"})


async def test_registrations_are_seen_by_all_servers(url: str) -> None:
    async with open_two(url) as (first, second):
        one = await first.instances.register("web", said("one"), is_held=True)
        two = await second.instances.register("web", said("two"), 1.0)
        for directory in (first, second):
            await until(directory, "web", {"one", "two"}, "one")
        fences = {first.reading.leader("web").fence, second.reading.leader("web").fence}  # type: ignore[union-attr]
        assert len(fences) == 1
        assert [one.id for one in first.reading.view.instances("web")] == ["one", "two"]
        # Heartbeats write nothing.
        commits = second.commits
        for _ in range(5):
            await trio.sleep(0.3)  # a heartbeat's pace is real time's
            second.instances.beat("web", "two", two.token)
        assert second.commits == commits
        await second.instances.report("web", "one", "critical", "refused")
        for directory in (first, second):
            await until(directory, "web", {"one", "two"}, "two")
        assert first.reading.leader("web").fence > fences.pop()  # type: ignore[union-attr]
        # One is withdrawn, the other one falls silent.
        await first.instances.withdraw(one)
        for directory in (first, second):
            await until(directory, "web", set(), None)
        assert two.ended.is_set()


async def test_taking_over_and_deregistering_elsewhere(url: str) -> None:
    async with open_two(url) as (first, second):
        session = await first.instances.register("web", said("one"), is_held=True)
        await until(second, "web", {"one"}, "one")
        other = await second.instances.register("web", said("one"), is_held=True)
        with trio.fail_after(within(10)):
            await session.ended.wait()
        assert session.why == "it has registered at b"
        await until(first, "web", {"one"}, "one")
        await first.instances.deregister("web", "one", why="by hand")
        with trio.fail_after(within(10)):
            await other.ended.wait()
        for directory in (first, second):
            await until(directory, "web", set(), None)


async def test_metadata_and_named_leaders(url: str) -> None:
    async with open_two(url) as (first, second):
        await first.services.configure("web", ServiceConfig("manual"))
        index = await first.services.set_metadata("web", {"a": 1}, 0)
        await first.instances.register("web", said("one"), is_held=True)
        await until(second, "web", {"one"}, None)
        with pytest.raises(NotAllowed):
            await second.services.set_metadata("web", 2, index - 1)
        assert await second.services.set_metadata("web", 2, index) > index
        await second.services.set_leader("web", "one")
        for directory in (first, second):
            await until(directory, "web", {"one"}, "one")
        await first.services.remove("web")
        for directory in (first, second):
            await until(directory, "web", set(), None)
            with fail_after(10):
                async for _ in directory.reading.watch("web"):
                    if "web" not in directory.reading.view:
                        break


async def test_many_at_once(url: str) -> None:
    async with open_two(url) as (first, second):
        ids = {f"i{number}" for number in range(100)}
        async with trio.open_nursery() as nursery:
            for number, id in enumerate(sorted(ids)):
                directory = (first, second)[number % 2]
                nursery.start_soon(directory.instances.register, "web", said(id))
        leader = first.reading.leader("web")
        assert leader is not None
        for directory in (first, second):
            await until(directory, "web", ids, leader.id)
