"""Streams that go on after a lost link, without loss or duplicate."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pytest
import trio
import trio.testing

import duplex
from duplex.engine.serving import ServedChannel
from tests.engine.helpers import SCHEMES, endpoint_of, linked, until


class Log:
    """A service that streams numbers, as far as they exist yet, and can be made to misbehave."""

    def __init__(self, length: int = 0) -> None:
        self.length = length
        self.grown = trio.Event()
        self.opened: list[int | None] = []
        self.fail_with: list[Exception] = []
        self.service = service = duplex.Service("log")

        @service.rpc(resumable=True)
        async def follow(
            prefix: str = "", *, upto: int | None = None, cursor: int | None = None
        ) -> AsyncIterator[duplex.Tracked[int, str]]:
            self.opened.append(cursor)
            if self.fail_with:
                raise self.fail_with.pop(0)
            number = 0 if cursor is None else cursor + 1
            while number != upto:
                if number == self.length:
                    await self.grown.wait()
                yield duplex.Tracked(number, f"{prefix}{number}")
                number += 1
            duplex.current_call().trailers["reached"] = str(number)

        @service.rpc(resumable=True)
        def plain(cursor: int = -1) -> Any:
            yield from (duplex.Tracked(number, number) for number in range(cursor + 1, 5))

        @service.rpc(resumable=True)
        async def untracked(*, cursor: int | None = None) -> Any:
            yield 1

        @service.rpc
        async def pairs() -> AsyncIterator[tuple[int, int]]:
            yield 1, 2

        @service.rpc
        async def one() -> int:
            return 1

    def grow(self, length: int) -> None:
        self.length = length
        self.grown.set()
        self.grown = trio.Event()


async def take(stream: Any, count: float = math.inf) -> list[Any]:
    values: list[Any] = []
    while len(values) < count:
        try:
            values.append(await stream.receive())
        except trio.EndOfChannel:
            break
    return values


@pytest.fixture
def log() -> Log:
    return Log(5)


def resumed(remote: Any) -> Any:
    return remote.with_options(resume=True)


# -- as long as nothing happens ------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["msgpack", "json"])
async def test_values_come_without_cursors(log: Log, codec: str) -> None:
    async with linked(log.service) as pair:
        remote = pair.service("log").with_options(codec=codec)
        async with resumed(remote.follow).open("n", upto=5) as stream:
            cursors = [stream.cursor]
            assert [value async for value in stream] == ["n0", "n1", "n2", "n3", "n4"]
            cursors.append(stream.cursor)
            assert cursors == [None, 4]
            assert stream.resumptions == 0
            assert (stream.method, stream.peer) == ("log.follow", "server")
            assert stream.trailers == {"reached": "5"}
            with pytest.raises(trio.EndOfChannel):
                await stream.receive()
        async with remote.follow.open("n", upto=2) as call:
            assert await take(call) == [[0, "n0"], [1, "n1"]]


async def test_option_may_be_set_on_the_service(log: Log) -> None:
    async with linked(log.service) as pair:
        remote = resumed(pair.service("log"))
        async with remote.plain.open() as stream:
            assert await take(stream) == [0, 1, 2, 3, 4]
        assert await remote.one() == 1


async def test_application_says_where_to_begin(log: Log) -> None:
    async with linked(log.service) as pair:
        async with resumed(pair.service("log").follow).open(cursor=2, upto=5) as stream:
            assert stream.cursor == 2
            assert await take(stream) == ["3", "4"]
        assert log.opened == [2]


async def test_metadata_and_codec_go_along(log: Log) -> None:
    async with linked(log.service) as pair:
        remote = pair.service("log").follow.with_options(metadata={"user": "ann"}, resume=True)
        async with remote.open() as stream:
            assert await stream.receive() == "0"
            (call,) = [c for c in pair.back._inside.channels.users.values() if isinstance(c, ServedChannel)]
            assert call._event.metadata == {"user": "ann", "duplex-resume": ""}


class Event(msgspec.Struct):
    name: str


class TypedLog(Protocol):
    tracked: duplex.Streaming[[], Any, duplex.Tracked[int, Event]]
    events: duplex.Streaming[[], Any, Event]


async def test_typed_proxies_give_the_type_of_the_value() -> None:
    service = duplex.Service("typed_log")

    for name in ("tracked", "events"):

        @service.rpc(resumable=True, name=name)
        async def events(*, cursor: int | None = None) -> AsyncIterator[duplex.Tracked[int, Event]]:
            yield duplex.Tracked(1, Event("start"))

    async with linked(service) as pair:
        remote = pair.client.service(TypedLog)
        async with remote.events.with_options(resume=True).open() as stream:
            event = await stream.receive()
            assert event.name == "start"
            assert stream.cursor == 1
        async with remote.tracked.with_options(resume=True).open() as tracked:
            assert await tracked.receive() == Event("start")  # type: ignore[comparison-overlap]
        async with remote.tracked.open() as call:
            assert await call.receive() == duplex.Tracked(1, Event("start"))


# -- lost links ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["server", "client"])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.slow
async def test_stream_goes_on_behind_the_last_item(log: Log, tmp_path: Path, scheme: str, side: str) -> None:
    endpoint = endpoint_of(scheme, tmp_path)
    async with linked(log.service, endpoint=endpoint, check=False) as pair:
        async with resumed(pair.service("log").follow).open("n") as stream:
            assert await take(stream, 5) == [f"n{number}" for number in range(5)]
            for turn in range(1, 4):
                await getattr(pair, side).links[0].aclose()
                log.grow(5 + turn)
                assert await stream.receive() == f"n{4 + turn}"
                assert stream.resumptions == turn
        assert log.opened == [None, 4, 5, 6]


async def test_items_that_had_come_are_taken_first(log: Log) -> None:
    async with linked(log.service, check=False) as pair:
        async with resumed(pair.service("log").follow).open() as stream:
            assert await stream.receive() == "0"
            await pair.settle()
            await pair.back.aclose()
            await until(lambda: pair.client.links)
            assert await take(stream, 4) == ["1", "2", "3", "4"]
            assert stream.resumptions == 0
            log.grow(6)
            assert await stream.receive() == "5"
        assert log.opened == [None, 4]


async def test_link_lost_before_the_first_item() -> None:
    log = Log(0)
    async with linked(log.service, check=False) as pair:
        async with resumed(pair.service("log").follow).open() as stream, trio.open_nursery() as nursery:
            values: list[Any] = []

            async def receive() -> None:
                values.append(await stream.receive())

            nursery.start_soon(receive)
            await until(lambda: log.opened)
            await pair.back.aclose()
            log.grow(1)
            await until(lambda: values)
        assert values == ["0"]
        assert log.opened == [None, None]


async def test_stream_goes_on_at_another_peer() -> None:
    first, second = Log(3), Log(6)
    async with (
        duplex.open_peer(services=[first.service], name="first") as one,
        duplex.open_peer(services=[second.service], name="second") as two,
        duplex.open_peer() as client,
    ):
        await client.connect(await one.bind("memory://*"))
        async with resumed(client.service("log").follow).open(upto=6) as stream:
            assert await take(stream, 3) == ["0", "1", "2"]
            await client.connect(await two.bind("memory://*"))
            await one.aclose()
            assert await take(stream) == ["3", "4", "5"]
            assert stream.peer == "second"
    assert second.opened == [2]


async def test_unavailable_of_the_method_is_tried_again(log: Log, autojump_clock: object) -> None:
    """As a server gives it that is about to stop, or not quite up."""
    log.fail_with = [duplex.Unavailable("not yet")] * 3
    async with linked(log.service, within=100) as pair:
        async with resumed(pair.service("log").follow).open(upto=5) as stream:
            assert len(await take(stream)) == 5
            assert stream.resumptions == 3


async def test_pauses_grow(log: Log, autojump_clock: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first attempt, which is immediate, as far as chance has it."""
    monkeypatch.setattr(random, "random", lambda: 1.0)
    log.fail_with = [duplex.Unavailable("not yet")] * 4
    async with linked(log.service, within=100) as pair:
        began = trio.current_time()
        async with resumed(pair.service("log").follow).open(upto=1) as stream:
            assert len(await take(stream)) == 1
        assert trio.current_time() - began == pytest.approx(0.12 + 0.24 + 0.48)


async def test_method_that_is_never_available(log: Log, autojump_clock: object) -> None:
    log.fail_with = [duplex.Unavailable("never")] * 1000
    async with linked(log.service, client={"connect_timeout": 30.0}, within=1000) as pair:
        start = trio.current_time()
        async with resumed(pair.service("log").follow).open(cursor=3) as stream:
            with pytest.raises(duplex.Unavailable):
                await stream.receive()
            assert 30 <= trio.current_time() - start < 31
            assert 5 < len(log.opened) < 20
            assert stream.cursor == 3
            with pytest.raises(duplex.Unavailable):
                await stream.receive()


async def test_stream_that_stood_long_has_all_the_time_again(log: Log, autojump_clock: object) -> None:
    """Between two losses without an item in between, hours may have passed."""
    async with linked(log.service, client={"connect_timeout": 5.0}, within=10_000, check=False) as pair:
        async with resumed(pair.service("log").follow).open() as stream:
            await take(stream, 5)
            values: list[Any] = []

            async def receive() -> None:
                values.append(await stream.receive())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive)
                for _ in range(4):
                    await pair.server.links[0].aclose()
                    await trio.sleep(1000)
                log.grow(6)
            assert values == ["5"]
            assert stream.resumptions == 4


async def test_nobody_comes_back(log: Log, autojump_clock: object) -> None:
    async with linked(log.service, client={"connect_timeout": 7.0}, within=100, check=False) as pair:
        async with resumed(pair.service("log").follow).open("n") as stream:
            await take(stream, 5)
            await pair.server.aclose()
            start = trio.current_time()
            with pytest.raises(duplex.Unavailable) as caught:
                await stream.receive()
            assert trio.current_time() - start == pytest.approx(7, abs=0.5)
            assert caught.value.method == "log.follow"
            assert stream.cursor == 4
        # Later, the application goes on by itself.
        async with duplex.open_peer(services=[log.service]) as again:
            await again.bind(pair.endpoint)
            await pair.client.connect(pair.endpoint)
            log.grow(6)
            async with resumed(pair.service("log").follow).open("n", cursor=stream.cursor) as stream:
                assert await stream.receive() == "n5"


async def test_server_that_starts_without_the_service_yet(log: Log, autojump_clock: object) -> None:
    async with linked(log.service, within=100, check=False) as pair:
        async with resumed(pair.service("log").follow).open("n") as stream:
            await take(stream, 5)
            await pair.server.aclose()
            async with duplex.open_peer() as again, trio.open_nursery() as nursery:
                await again.bind(pair.endpoint)
                values: list[Any] = []

                async def receive() -> None:
                    values.append(await stream.receive())

                nursery.start_soon(receive)
                await trio.sleep(3)
                log.grow(6)
                again.add_service(log.service)
                while not values:
                    await trio.sleep(0.1)
                nursery.cancel_scope.cancel()
            assert values == ["n5"]


async def test_draining_server_hands_its_streams_over() -> None:
    first, second = Log(3), Log(6)
    async with (
        duplex.open_peer(services=[first.service], name="first") as one,
        duplex.open_peer(services=[second.service], name="second") as two,
        duplex.open_peer() as client,
    ):
        await client.connect(await one.bind("memory://*"))
        async with resumed(client.service("log").follow).open(upto=6) as stream:
            assert await take(stream, 3) == ["0", "1", "2"]
            await client.connect(await two.bind("memory://*"))
            await one.drain(timeout=60)  # which does not wait for the stream
            assert await take(stream) == ["3", "4", "5"]
            assert (stream.peer, stream.resumptions) == ("second", 1)
            assert stream.statistics().received == 3


async def test_stream_opened_by_a_handler_in_a_thread(log: Log, mock_clock: trio.testing.MockClock) -> None:
    """It ends at the deadline of the call that the thread serves."""
    relay = duplex.Service("relay")
    opened, ended = trio.Event(), trio.Event()

    @relay.rpc
    def follow() -> str:
        async def receive() -> None:
            try:
                async with resumed(client.service("log").follow).open() as stream:
                    opened.set()
                    await take(stream)
            finally:
                ended.set()

        trio.from_thread.run(receive)
        return "ended"

    async with linked(log.service, relay, within=1000) as pair, trio.open_nursery() as nursery:
        client = pair.client

        @nursery.start_soon
        async def call() -> None:
            with pytest.raises(duplex.DeadlineExceeded):
                await pair.service("relay").with_options(timeout=5.0).follow()

        # The clock stands still until then: it would not wait for the thread.
        await opened.wait()
        assert not ended.is_set()
        mock_clock.jump(5)
        await ended.wait()


# -- what is not resumed -------------------------------------------------------------------------------


async def test_other_errors_pass(log: Log) -> None:
    log.fail_with = [duplex.NotFound("no such topic", details=[1])]
    async with linked(log.service) as pair:
        async with resumed(pair.service("log").follow).open() as stream:
            for _ in range(2):
                with pytest.raises(duplex.NotFound) as caught:
                    await stream.receive()
                assert caught.value.details == [1]
            assert stream.resumptions == 0


@pytest.mark.parametrize(("method", "words"), [("pairs", "not resumable"), ("one", "not resumable")])
async def test_method_that_is_not_resumable(log: Log, method: str, words: str) -> None:
    async with linked(log.service) as pair:
        async with resumed(pair.service("log")[method]).open() as stream:
            with pytest.raises(duplex.InvalidArgument, match=words):
                await stream.receive()


async def test_unknown_method(log: Log) -> None:
    async with linked(log.service) as pair:
        async with resumed(pair.service("log").nothing).open() as stream:
            with pytest.raises(duplex.Unimplemented):
                await stream.receive()


async def test_items_without_cursors(log: Log) -> None:
    async with linked(log.service) as pair:
        async with resumed(pair.service("log").untracked).open() as stream:
            for _ in range(2):
                with pytest.raises(duplex.Internal, match="not of the expected type"):
                    await stream.receive()


async def test_single_link_cannot_resume(log: Log) -> None:
    async with linked(log.service) as pair:
        remote = pair.link.service("log")
        typed: Any = pair.link.service(TypedLog)
        for refused in (remote.with_options, remote.follow.with_options, typed.with_options):
            with pytest.raises(duplex.ConfigurationError, match=r"not for link\.service"):
                refused(resume=True)


async def test_nobody_there_at_the_beginning(log: Log) -> None:
    async with duplex.open_peer() as client:
        with pytest.raises(duplex.Unavailable, match="has not connected or bound anywhere"):
            async with resumed(client.service("log").follow).open():
                pass


# -- ends and deadlines --------------------------------------------------------------------------------


async def test_timeout_is_that_of_the_stream(log: Log, autojump_clock: object) -> None:
    async with linked(log.service, within=100, check=False) as pair:
        method = pair.service("log").follow.with_options(resume=True, timeout=5.0)

        async def use() -> None:
            async with method.open() as stream:
                await take(stream, 5)
                await pair.server.aclose()
                await stream.receive()

        with pytest.raises(duplex.DeadlineExceeded, match="within 5 s"):
            await use()


async def test_timeout_that_has_run_out(log: Log, autojump_clock: object) -> None:
    async with duplex.open_peer() as client:
        await client.bind("memory://*")
        with pytest.raises(duplex.DeadlineExceeded):
            async with client.service("log").follow.with_options(resume=True, timeout=1.0).open():
                pass


async def test_cancelled_receive_loses_nothing(log: Log, autojump_clock: object) -> None:
    async with linked(log.service, within=1000, check=False) as pair:
        async with resumed(pair.service("log").follow).open() as stream:
            await take(stream, 5)
            with trio.move_on_after(1):
                await stream.receive()
            log.fail_with = [duplex.Unavailable("not yet")] * 2
            await pair.server.links[0].aclose()
            for _ in range(10):
                with trio.move_on_after(0.05):
                    await stream.receive()
            log.grow(6)
            assert await stream.receive() == "5"


@pytest.mark.parametrize("lost", [False, True])
async def test_closing_ends_a_receive(log: Log, autojump_clock: object, lost: bool) -> None:
    async with linked(log.service, within=100, check=False) as pair:
        async with resumed(pair.service("log").follow).open() as stream:
            await take(stream, 5)
            if lost:
                await pair.server.aclose()
            async with trio.open_nursery() as nursery:

                async def receive() -> None:
                    with pytest.raises(trio.ClosedResourceError):
                        await stream.receive()

                nursery.start_soon(receive)
                await trio.sleep(0.01)
                with pytest.raises(trio.BusyResourceError):
                    await stream.receive()
                await stream.aclose()
            with pytest.raises(trio.ClosedResourceError):
                await stream.receive()
            await stream.aclose()


async def test_leaving_the_block_cancels_the_handler(log: Log) -> None:
    async with linked(log.service) as pair:
        async with resumed(pair.service("log").follow).open() as stream:
            await take(stream, 2)
        await pair.settle()
        assert pair.back.statistics().incoming == 0


async def test_open_gives_a_manager_for_one_use(log: Log) -> None:
    async with linked(log.service) as pair:
        opening = resumed(pair.service("log").follow).open()
        async with opening:
            with pytest.raises(RuntimeError, match="for one use"):
                await opening.__aenter__()
