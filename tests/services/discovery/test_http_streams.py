"""Discovery through HTTP, followed: streams of events as discoverd's, positions to go on from, and questions that wait."""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from duplex_services._shared._http_client import Stream
from duplex_services._shared._http_server import Later, Request, Response
from duplex_services.discovery import (
    Directory,
    HttpOptions,
    Position,
    Reading,
    Registration,
    ServiceConfig,
    open_directory,
)
from duplex_services.discovery._http import _handlers
from duplex_services.discovery._http._events import Teller, read_position
from duplex_services.discovery._http._handlers import Handlers
from duplex_services.discovery._reading import Freshness
from duplex_services.discovery._rules._selecting import Filter
from tests.machine import fail_after, require_program, within
from tests.services.discovery.entries import Told, gone, instance
from tests.services.discovery.test_http import Client, open_client

STREAM = ("Accept", "text/event-stream")


def one(id: str = "a", **fields: Any) -> Registration:
    return Registration(id, host="10.0.0.1", port=80, **fields)


async def register(directory: Directory, id: str, service: str = "abc", **fields: Any) -> None:
    await directory.instances.register(service, one(id, **fields), 10, is_held=True)


class Events:
    """What a stream tells."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.last_id = ""

    async def block(self) -> list[str]:
        """Return the lines of the next event."""
        lines: list[str] = []
        with fail_after(10):
            while True:
                line = await self.stream.line(1_000_000)
                assert line is not None, "the stream has ended"
                if not line and lines:
                    return lines
                if line:
                    lines.append(line.decode())

    async def next(self) -> dict[str, Any]:
        """Return the next event."""
        found: dict[str, Any] = {}
        for line in await self.block():
            name, _, value = line.partition(": ")
            if name == "id":
                self.last_id = value
            elif name == "data":
                found = json.loads(value)
        return found

    async def brief(self, count: int) -> list[str]:
        """Return the kinds of some events, each with its instance."""
        found = [await self.next() for _ in range(count)]
        return [f"{event['kind']} {event.get('instance', {}).get('id', '')}".strip() for event in found]


@asynccontextmanager
async def follow(client: Client, path: str, *headers: tuple[str, str]) -> AsyncIterator[Events]:
    async with client.http.stream("GET", path, headers=headers) as stream:
        assert stream.status == 200
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        yield Events(stream)


async def test_a_stream_begins_with_all_there_is_and_goes_on() -> None:
    async with open_client() as client:
        directory = client.directory
        await register(directory, "a")
        await register(directory, "b", metadata={"k": "v"})
        await directory.services.set_metadata("abc", {"x": 1}, 0)
        async with follow(client, "/services/abc") as events:
            assert await events.brief(5) == ["up a", "up b", "leader a", "service_meta", "current"]
            await register(directory, "b", metadata={"k": "w"})
            assert (await events.next())["instance"]["meta"] == {"k": "w"}
            await directory.instances.deregister("abc", "a")
            assert await events.brief(2) == ["down a", "leader b"]
            info = directory.reading.service("abc")
            assert info is not None
            assert info.metadata is not None
            index = await directory.services.set_metadata("abc", [2], info.metadata.index)
            assert (await events.next())["service_meta"] == {"data": [2], "index": index}
            await directory.instances.deregister("abc", "b")
            assert await events.brief(2) == ["down b", "leader"]


async def test_the_bytes_are_discoverds() -> None:
    async with open_client() as client:
        await client.directory.services.add("abc", ServiceConfig("manual"))
        async with follow(client, "/services/abc") as events:
            assert await events.block() == ['data: {"service":"abc","kind":"current"}']
            await register(client.directory, "a")
            [line] = await events.block()
            words = json.loads(line.removeprefix("data: "))
            assert words["instance"].pop("index") > 0
            assert words == {
                "service": "abc",
                "kind": "up",
                "instance": {"id": "a", "addr": "10.0.0.1:80", "proto": "tcp"},
            }
            await client.directory.services.set_leader("abc", "a")
            assert (await events.next())["instance"]["id"] == "a"
            await client.directory.services.set_leader("abc", "later")
            assert await events.block() == ['data: {"service":"abc","kind":"leader"}']


async def test_streams_of_instances_and_of_leaders() -> None:
    async with open_client() as client:
        async with (
            follow(client, "/services/abc/instances", STREAM) as instances,
            follow(client, "/services/abc/leader", STREAM) as leaders,
            follow(client, "/v1/services/abc/instances", STREAM) as marked,
        ):
            assert await marked.brief(1) == ["current"]
            await register(client.directory, "a")
            # discoverd says nothing of how far this is up to date.
            assert await instances.brief(1) == ["up a"]
            assert await leaders.brief(1) == ["leader a"]
            assert await marked.brief(1) == ["up a"]
            await client.directory.services.set_metadata("abc", 1, 0)
            await client.directory.instances.deregister("abc", "a")
            assert await instances.brief(1) == ["down a"]
            assert await leaders.brief(1) == ["leader"]


async def test_who_does_not_serve_is_down() -> None:
    async with open_client() as client:
        await register(client.directory, "a")
        async with (
            follow(client, "/services/abc/instances", STREAM) as serving,
            follow(client, "/services/abc/instances?state=all", STREAM) as everything,
        ):
            assert await serving.brief(1) == await everything.brief(1) == ["up a"]
            await client.directory.instances.report("abc", "a", "critical", "no disk")
            assert await serving.brief(1) == ["down a"]
            event = await everything.next()
            assert (event["kind"], event["instance"]["state"], event["instance"]["note"]) == (
                "update",
                "critical",
                "no disk",
            )
            await client.directory.instances.report("abc", "a", "passing")
            assert await serving.brief(1) == ["up a"]


async def test_a_stream_is_resumed() -> None:
    async with open_client() as client:
        await register(client.directory, "a")
        async with follow(client, "/v1/services/abc") as events:
            assert await events.brief(3) == ["up a", "leader a", "current"]
            position = events.last_id
        origin, _, index = position.rpartition(":")
        assert (origin, int(index)) == (
            client.directory.reading.view.origin,
            client.directory.reading.view.index,
        )
        await register(client.directory, "b")
        async with follow(client, "/v1/services/abc", ("Last-Event-ID", position)) as events:
            assert await events.brief(2) == ["up b", "current"]
        async with follow(client, f"/v1/services/abc?after={position}") as events:
            assert await events.brief(2) == ["up b", "current"]
        # Another server's position, or none at all: all begins anew, and is said to.
        for text in ("other:3", "nonsense", f"{origin}:999999"):
            async with follow(client, "/v1/services/abc", ("Last-Event-ID", text)) as events:
                assert await events.brief(5) == ["reset", "up a", "up b", "leader a", "current"]


async def test_what_goes_after_a_stream_was_resumed_is_told() -> None:
    async with open_client() as client:
        for id in ("a", "b", "c"):
            await register(client.directory, id)
        index = await client.directory.services.set_metadata("abc", 1, 0)
        async with follow(client, "/v1/services/abc") as events:
            assert await events.brief(6) == ["up a", "up b", "up c", "leader a", "service_meta", "current"]
            position = events.last_id
        await client.directory.instances.deregister("abc", "a")
        await client.directory.services.set_metadata("abc", 2, index)
        async with follow(client, "/v1/services/abc", ("Last-Event-ID", position)) as events:
            assert await events.brief(4) == ["down a", "leader b", "service_meta", "current"]
            # Of this one the resumed stream has never told anything.
            await client.directory.instances.deregister("abc", "c")
            assert await events.brief(1) == ["down c"]
            await client.directory.instances.report("abc", "b", "critical")
            assert sorted(await events.brief(2)) == ["down b", "leader"]


def test_a_resumed_stream_that_begins_anew_says_so() -> None:
    async def run() -> list[dict[str, Any]]:
        told = Told()
        reading = Reading(told.view, Freshness)
        told(instance("a", 3), instance("b", 4))
        index = told.view.index
        told(instance("c", 5))
        kinds = frozenset({"up", "update", "down"})
        teller = Teller("web", kinds, Filter(), is_v1=True, resumes=True)
        watching = reading.watch("web", Position("v", index))
        found = teller.tell(await watching.receive())
        told(deletes=gone("a"))
        # The history is shorter than what this reader has missed: nobody knows here that it was told of "a".
        watching._after = Position("other", 1)
        found += teller.tell(await watching.receive())
        told(deletes=gone("b"))
        watching._after = Position("other", 1)
        found += teller.tell(await watching.receive())
        return [json.loads(line[6:]) for line in found.decode().splitlines() if line.startswith("data")]

    events = [(event["kind"], event.get("instance", {}).get("id", "")) for event in trio.run(run)]
    assert events == [("up", "c"), ("current", ""), ("reset", ""), ("up", "b"), ("up", "c"), ("down", "b")]


async def test_silence_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_handlers, "SILENCE", 0.05)
    async with open_client() as client, follow(client, "/services/none/instances", STREAM) as events:
        for _ in range(3):
            with fail_after(5):
                assert await events.stream.line(10) == b":"


async def test_a_question_waits_for_a_change() -> None:
    async with open_client() as client:
        await register(client.directory, "a")
        first = await client("GET", "/services/abc/instances")
        index, origin = first.headers["discoverd-index"], first.headers["discoverd-origin"]
        answers: list[Any] = []

        async def ask(path: str) -> None:
            answers.append((path, await client("GET", f"/services/abc/{path}")))

        with fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, f"instances?index={index}&origin={origin}")
                nursery.start_soon(ask, f"meta?index={index}&wait=30s")
                await trio.testing.wait_all_tasks_blocked(0.05)
                assert answers == []
                # Of no interest to either.
                await register(client.directory, "x", service="other")
                await trio.testing.wait_all_tasks_blocked(0.05)
                assert answers == []
                await client.directory.services.set_metadata("abc", 7, 0)
                while not answers:
                    await trio.testing.wait_all_tasks_blocked(0.01)
                assert [path.partition("?")[0] for path, _ in answers] == ["meta"]
                assert json.loads(answers[0][1].body)["data"] == 7
                await register(client.directory, "b")
        found = answers[1][1]
        assert [words["id"] for words in json.loads(found.body)] == ["a", "b"]
        assert int(found.headers["discoverd-index"]) > int(index)
        # A position of another server's, or one from before, is answered at once.
        for query in ("index=0", f"index={index}", "index=3&origin=other", "index=99999"):
            with fail_after(10):
                assert (await client("GET", f"/services/abc/instances?{query}&wait=600")).status == 200
        now = (await client("GET", "/ping")).headers["discoverd-index"]
        for path, status in (("instances", 200), ("leader", 200)):
            assert (await client("GET", f"/services/abc/{path}?index={now}&wait=0.05")).status == status
        assert (await client("GET", f"/services/none/leader?index={now}&wait=0.05s")).status == 404
        for query in ("index=x", "index=-1", "index=1&wait=x", "index=1&wait=601", "index=1&wait=nan"):
            assert (await client("GET", f"/services/abc/instances?{query}")).status == 400


async def test_a_reader_that_stalls_ends_with_the_same_state() -> None:
    async with open_client() as client, follow(client, "/services/abc/instances", STREAM) as slow:
        for number in range(300):
            await register(client.directory, f"i{number % 7}", metadata={"n": str(number), "pad": "x" * 500})
        for number in range(3):
            await client.directory.instances.deregister("abc", f"i{number}")
        wanted = {entry.id: entry.metadata["n"] for entry in client.directory.reading.view.instances("abc")}
        state: dict[str, str] = {}
        with fail_after(20):
            while state != wanted:
                event = await slow.next()
                if event["kind"] == "down":
                    del state[event["instance"]["id"]]
                else:
                    state[event["instance"]["id"]] = event["instance"]["meta"]["n"]


async def test_pythons_own_client_and_curl() -> None:
    curl = require_program("curl", package="curl")
    async with open_client() as client:
        await register(client.directory, "a")
        host, _, port = client.address.rpartition(":")
        read = threading.Event()

        def use() -> bytes:
            connection = http.client.HTTPConnection(host, int(port), timeout=within(10))
            connection.request("GET", "/services/abc/instances", headers=dict([STREAM]))
            line = connection.getresponse().readline()
            read.set()
            connection.close()
            return line

        assert (await trio.to_thread.run_sync(use)).startswith(b'data: {"service":"abc","kind":"up"')
        command = [curl, "-sSN", "--noproxy", "*", "--max-time", "1", f"http://{client.address}/services/abc"]
        done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
        assert done.stdout.count(b"data: ") == 3


# ------------------------------------------------------------------------------------------ what is told


def test_a_state_that_begins_anew_is_told_as_a_difference() -> None:
    async def run() -> list[dict[str, Any]]:
        told = Told()
        reading = Reading(told.view, Freshness)
        told(instance("a", 3), instance("b", 4))
        teller = Teller("web", frozenset({"up", "update", "down"}), Filter(), is_v1=False)
        watching = reading.watch("web")
        found = teller.tell(await watching.receive())
        told(instance("c", 5), deletes=gone("a"))
        # Its position is none of this view's: all is told anew.
        watching._after = Position("other", 1)
        found += teller.tell(await watching.receive())
        return [json.loads(line[6:]) for line in found.decode().splitlines() if line]

    events = trio.run(run)
    assert [(event["kind"], event["instance"]["id"]) for event in events] == [
        ("up", "a"),
        ("up", "b"),
        ("down", "a"),
        ("up", "c"),
    ]


@pytest.mark.parametrize("text", ["", "x", ":1", "a:", "a:x", "a:-1", "a:1.5", f"a:{'9' * 30}"])
def test_what_is_no_position(text: str) -> None:
    assert read_position(text) is None


async def test_large_answers_are_made_in_turns() -> None:
    """Whether at once or after a change: of many that are due in the same instant, one in each pass of the event loop."""
    async with open_directory("memory:", checks=False) as directory:
        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(directory.instances.heartbeat, "web", one(f"i{number}"), 600.0)
        handlers = Handlers(directory, HttpOptions())
        index = directory.reading.view.index
        passes = 0
        ended: Counter[int] = Counter()

        async def count() -> None:
            nonlocal passes
            while True:
                await trio.lowlevel.checkpoint()
                passes += 1

        async def ask(query: dict[str, str]) -> None:
            path = ("v1", "services", "web", "instances")
            answer = await handlers.handle(Request("GET", path, query, {}, b"", "127.0.0.1"))
            if isinstance(answer, Later):
                answer = await answer.answer()
            assert isinstance(answer, Response)
            assert answer.status == 200
            ended[passes] += 1

        queries: list[dict[str, str]] = [{}, {"index": f"{index}", "wait": "60"}]
        for query in queries:
            ended.clear()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(count)
                for _ in range(20):
                    nursery.start_soon(ask, query)
                if query:
                    await directory.instances.report("web", "i0", "warning")
                while ended.total() < 20:
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            assert max(ended.values()) <= 2, ended
