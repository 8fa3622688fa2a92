"""Remote ends that say what is well-formed at the wrong time, or of what is not theirs: answers to nothing, answers twice,
credit for others, numbers again, goodbye in the middle."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import trio
import trio.testing

import duplex
from tests.engine.helpers import leftovers, outcome, until
from tests.engine.hostile import NONE, ONE
from tests.engine.raw import HELLO, RawDealer, RawRouter
from tests.machine import fail_after

pytestmark = pytest.mark.plain_wire("what breaks the rules depends on the message in which it comes")

#: Said by a server while its client has a unary call on channel 1 and a stream on channel 3: the link ends.
BREAKS_LINK: Final[dict[str, list[Any]]] = {
    "an answer before its call": [[10, 5, 0, ONE]],
    "an item before its call": [[8, 5, ONE]],
    "an end before its call": [[9, 5]],
    "credit before its call": [[6, 5, 100]],
    "a cancellation before its call": [[11, 5]],
    "an answer to a call of its own that was never made": [[10, 2, 0, ONE]],
    "credit for a call of its own that was never made": [[6, 2, 100]],
    "a call in the client's name": [[7, 5, "own.echo", 3, ONE]],
    "a channel in the client's name": [[7, 1, None, 0, None, 0, None, None, None, 1]],
    "a call twice": [[7, 2, "own.echo", 3, ONE], [7, 2, "own.echo", 3, ONE]],
    "a number that is over, again": [[7, 4, "nobody.home", 3, ONE], [7, 4, "own.echo", 3, ONE]],
    "a number below one that is over": [[7, 4, "nobody.home", 3, ONE], [7, 2, "own.echo", 3, ONE]],
    "a number of a notification, again": [[7, 2, "own.echo", 5, ONE], [7, 2, "own.echo", 3, ONE]],
    "credit that overflows a channel": [[6, 1, 2**53 - 1], [6, 1, 2**53 - 1]],
    "an answer, and then to a call that was not made": [[10, 1, 0, b"\x01"], [10, 5, 0, b"\x01"]],
}
#: The same: nothing comes of it, and the call of channel 1 has its answer, which is 1.
MEANS_NOTHING: Final[dict[str, list[Any]]] = {
    "two answers": [[10, 1, 0, b"\x01"], [10, 1, 0, b"\x02"]],
    "an answer and an error": [[10, 1, 0, b"\x01"], [10, 1, 13, None, 0, "no"]],
    "an item after the answer": [[10, 1, 0, b"\x01"], [8, 1, b"\x02"]],
    "an end after the answer": [[10, 1, 0, b"\x01"], [9, 1], [9, 1]],
    "credit after the answer": [[10, 1, 0, b"\x01"], [6, 1, 100], [6, 1, 2**53 - 1], [6, 1, 2**53 - 1]],
    "a cancellation after the answer": [[10, 1, 0, b"\x01"], [11, 1]],
    "a channel of a call that is over": [[10, 1, 0, b"\x01"], [7, 2, None, 0, None, 0, None, None, None, 1]],
    "a callback of a call that is over": [[10, 1, 0, b"\x01"], [7, 2, 1, 3, NONE, 0, None, None, None, 1]],
    "a callback of a call that passed none": [
        [7, 2, 1, 3, NONE, 0, None, None, None, 1],
        [10, 1, 0, b"\x01"],
    ],
    "a callback of another call": [[7, 2, 1, 3, NONE, 0, None, None, None, 3], [10, 1, 0, b"\x01"]],
    "a call of its own that it answers itself": [
        [7, 2, "own.hang", 2, ONE],
        [10, 2, 0, ONE],
        [10, 1, 0, b"\x01"],
    ],
    "a call of its own, cancelled twice": [[7, 2, "own.hang", 2, ONE], [11, 2], [11, 2], [10, 1, 0, b"\x01"]],
    "a call of its own with a parent that is the client's": [
        [7, 2, "own.echo", 3, ONE, 0, None, None, None, 1],
        [10, 1, 0, b"\x01"],
    ],
    "a call of its own with itself as its parent": [
        [7, 2, "own.echo", 3, ONE, 0, None, None, None, 2],
        [10, 1, 0, b"\x01"],
    ],
    "a channel nested in one of its own calls, and in itself": [
        [7, 2, "own.hang", 2, ONE],
        [7, 4, None, 0, None, 0, None, None, None, 2],
        [7, 6, None, 0, None, 0, None, None, None, 6],
        [7, 8, None, 0, None, 0, None, None, None, 4],
        [11, 2],
        [10, 1, 0, b"\x01"],
    ],
}


class Arena:
    """A client with a unary call and a stream under way at a hostile server."""

    def __init__(self, router: RawRouter, link: duplex.Link) -> None:
        self.router = router
        self.link = link
        self.results: dict[str, Any] = {}
        self.items: list[Any] = []


@contextlib.asynccontextmanager
async def arena() -> AsyncIterator[Arena]:
    own = duplex.Service("own")

    @own.rpc
    async def echo(number: int) -> int:
        return number

    @own.rpc
    async def hang(number: int) -> None:
        await trio.sleep_forever()

    with fail_after(5), RawRouter() as router:
        async with duplex.open_peer(services=[own], name="client") as client, trio.open_nursery() as nursery:
            nursery.start_soon(client.connect, router.endpoint)
            await router.shake_hands(services=["raw"])
            await until(lambda: client.links)
            place = Arena(router, client.links[0])
            remote = place.link.service("raw")

            async def unary() -> None:
                place.results["unary"] = await outcome(remote.method())

            async def stream() -> None:
                async with remote.method.open() as call:
                    try:
                        async for item in call:
                            place.items.append(item)
                        place.results["stream"] = "ended"
                    except duplex.RPCError as error:
                        place.results["stream"] = error

            nursery.start_soon(unary)
            await router.commands(7)
            nursery.start_soon(stream)
            await router.commands(7, 2)
            yield place
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("name", BREAKS_LINK)
async def test_what_a_server_says_of_what_was_never_there_ends_the_link(name: str) -> None:
    async with arena() as place:
        place.router.say(*BREAKS_LINK[name])
        await until(lambda: len(place.results) == 2)
        assert isinstance(place.results["stream"], duplex.PeerLost)
        assert place.results["unary"] == 1 or isinstance(place.results["unary"], duplex.PeerLost)
        assert not place.link.is_open
        assert not place.link._inside.channels.users
        await place.router.commands(5)
        assert place.router.received[-1][2] == "protocol"


@pytest.mark.parametrize("name", MEANS_NOTHING)
async def test_what_a_server_says_too_late_or_of_others_means_nothing(name: str) -> None:
    async with arena() as place:
        place.router.say(*MEANS_NOTHING[name])
        await until(lambda: "unary" in place.results)
        assert place.results["unary"] == 1
        assert place.link.is_open
        place.router.say([8, 3, b"\x07"], [10, 3, 0])
        await until(lambda: "stream" in place.results)
        assert (place.items, place.results["stream"]) == ([7], "ended")
        # Those that it is to end itself.
        for number in (2, 4, 6, 8):
            if place.link._inside.connection.channel_state(number).name not in ("OVER", "CANCELLED"):
                place.router.say([11, number])
        place.router.say([3, 1])
        await place.router.commands(4)
        await until(lambda: not [text for text in leftovers(place.link) if ": tasks" not in text])


@pytest.mark.parametrize("reason", ["draining", "closing", "protocol"])
@pytest.mark.parametrize("count", [1, 200])
async def test_goodbye_in_the_middle_of_a_message(reason: str, count: int) -> None:
    """What stands before it counts, and so does what follows, unless the link is over with it. More than is acted on in
    one turn, too; attachments are still those of their commands."""
    async with arena() as place:
        before = [[8, 3, b"\x01"] for _ in range(count)]
        after = [[8, 3, b"\x02"] for _ in range(count)]
        place.router.say(*before, [5, 3, reason, "so it is"], *after, [10, 1, 0, b"\x05"])
        if reason == "draining":
            await until(lambda: len(place.items) == 2 * count and place.results)
            assert place.results == {"unary": 5}
            place.router.say([10, 3, 0])
            await until(lambda: "stream" in place.results)
            assert place.results["stream"] == "ended"
        else:
            await until(lambda: len(place.results) == 2)
            assert isinstance(place.results["stream"], duplex.PeerLost)
            if reason == "closing":
                assert place.results["unary"] == 5
            else:
                assert isinstance(place.results["unary"], duplex.PeerLost)
        assert place.items == [1] * count + ([] if reason == "protocol" else [2] * count)


async def test_goodbye_says_that_a_stream_never_began_whose_items_follow() -> None:
    async with arena() as place:
        place.router.say(
            [8, 3, b"\x01"], [5, 1, "draining"], [8, 3, b"\x02"], [10, 3, 0], [10, 1, 0, b"\x05"]
        )
        await until(lambda: len(place.results) == 2)
        assert place.results["unary"] == 5
        assert place.items == [1]
        error = place.results["stream"]
        assert type(error) is duplex.Unavailable
        assert place.link.is_open


async def test_goodbye_between_the_attachments_of_a_message() -> None:
    async with arena() as place:
        buffer = b"\xd4\x01\x00"  # the first attachment
        place.router.say(
            [8, 3, buffer, 0, 1], [5, 3, "closing"], [8, 3, buffer, 0, 1], attachments=[b"one", b"two"]
        )
        await until(lambda: len(place.results) == 2)
        assert [bytes(item) for item in place.items] == [b"one", b"two"]
        assert not place.link.is_open


async def test_greetings_that_bring_answers_of_an_earlier_life() -> None:
    """A server that was restarted answers what its predecessor was asked: the new link has had no calls yet."""
    with fail_after(5), RawRouter() as router:
        async with duplex.open_peer() as client, trio.open_nursery() as nursery:
            results: list[Any] = []

            async def connect() -> None:
                results.append(await outcome(client.connect(router.endpoint, timeout=3)))

            nursery.start_soon(connect)
            await router.commands(0)
            router.say([*HELLO, ["msgpack"], [], {}, [{"name": "raw"}]], [10, 1, 0, ONE])
            await router.commands(5)
            assert router.received[-1][2] == "protocol"
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "again",
    [
        [7, 1, "svc.echo", 3, ONE],
        [7, 1, "svc.echo", 5, ONE],
        [7, 1, None],
        [7, 1, 1, 3, ONE],
    ],
)
@pytest.mark.parametrize(
    "first",
    [
        [7, 1, "svc.echo", 3, ONE],
        [7, 1, "svc.hang", 3, ONE],
        [7, 1, "svc.hang", 5, ONE],
        [7, 1, "nobody.home", 3, ONE],
        [7, 3, "svc.echo", 3, ONE],
    ],
)
async def test_a_client_that_uses_a_number_again(first: list[Any], again: list[Any]) -> None:
    """Whatever became of the channel: running, answered, refused or notified. No handler runs for it."""
    service = duplex.Service("svc")
    began: list[str] = []

    @service.rpc
    async def echo(number: int) -> int:
        began.append("echo")
        return number

    @service.rpc
    async def hang(number: int) -> None:
        began.append("hang")
        await trio.sleep_forever()

    with fail_after(5):
        async with duplex.open_peer(services=[service]) as server:
            with RawDealer(await server.bind("tcp://127.0.0.1:*")) as raw:
                await raw.shake_hands(first)
                raw.say([3, 9])
                await raw.commands(4)
                ran = list(began)
                raw.say(again)
                ended = await raw.hears_the_end()
                assert (ended[0], ended[2]) == (5, "protocol")
                await until(lambda: not server.links)
                await trio.testing.wait_all_tasks_blocked()
                assert began == ran
                assert server._inside.admission.running == len(server._inside.left_behind)


async def test_a_client_that_answers_what_it_was_not_asked() -> None:
    """Nor does it reach the calls of another link."""
    service = duplex.Service("svc")

    @service.rpc
    async def ask(question: duplex.Callback[[], int]) -> int:
        return await question()

    with fail_after(5):
        async with duplex.open_peer(services=[service]) as server, duplex.open_peer() as honest:
            endpoint = await server.bind("tcp://127.0.0.1:*")
            link = await honest.connect(endpoint)
            go = trio.Event()
            results: list[Any] = []

            async def answer() -> int:
                await go.wait()
                return 42

            async def call() -> None:
                results.append(await link.service("svc").ask(answer))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(call)
                await until(lambda: any(back._inside.connection.channels for back in server.links))
                with RawDealer(endpoint) as raw:
                    await raw.shake_hands()
                    await trio.testing.wait_all_tasks_blocked(0.01)
                    # The callback of the honest one has this number, on the other link.
                    raw.say([10, 2, 0, b"\x01"])
                    assert (await raw.hears_the_end())[2] == "protocol"
                assert results == []
                go.set()
            assert results == [42]


#: A call, or a channel within one, that is broken by what comes with it in the same message, before anybody could act.
BROKEN_AT_ONCE: Final[dict[str, list[Any]]] = {
    "a key that is known, and an end too much": [
        [7, 11, "svc.echo", 3, ONE, 0, None, {"duplex-idempotency-key": "k"}],
        [9, 11],
    ],
    "a key that is known, and a close": [
        [7, 11, "svc.echo", 3, ONE, 0, None, {"duplex-idempotency-key": "k"}],
        [10, 11],
    ],
    "a key that failed, and an end too much": [
        [7, 11, "svc.fail", 3, ONE, 0, None, {"duplex-idempotency-key": "k"}],
        [9, 11],
    ],
    "a key with other arguments, and an end too much": [
        [7, 11, "svc.echo", 3, b"\x91\x91\x02", 0, None, {"duplex-idempotency-key": "k"}],
        [9, 11],
    ],
    "a new key, and an end too much": [
        [7, 11, "svc.echo", 3, ONE, 0, None, {"duplex-idempotency-key": "new"}],
        [9, 11],
    ],
    "a channel that is cancelled, and closed": [
        [7, 11, "svc.listen", 0, NONE],
        [7, 13, None, 0, None, 0, None, None, None, 11],
        [11, 13],
        [10, 13],
    ],
    "a channel that is ended, and closed": [
        [7, 11, "svc.listen", 0, NONE],
        [7, 13, None, 0, None, 0, None, None, None, 11],
        [9, 13],
        [10, 13],
    ],
    "a call that is cancelled, and closed": [[7, 11, "svc.listen", 0, NONE], [11, 11], [10, 11]],
    "a function that answers at once, and an end too much": [[7, 11, "svc.quick", 3, ONE], [9, 11]],
    "a generator that ends at once, and an end too much": [[7, 11, "svc.numbers", 1, ONE], [9, 11]],
    "a method that is not there, and an end too much": [[7, 11, "svc.none", 3, ONE], [9, 11]],
}


@pytest.mark.parametrize("name", BROKEN_AT_ONCE)
async def test_what_is_broken_before_it_could_be_answered(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Costs the channel, and not the link."""
    service = duplex.Service("svc")

    @service.rpc
    async def echo(number: int) -> int:
        return number

    @service.rpc
    async def fail(number: int) -> int:
        raise duplex.NotFound("no")

    @service.rpc(inline=True)
    def quick(number: int) -> int:
        return number

    @service.rpc
    async def numbers(number: int) -> AsyncIterator[int]:
        yield number

    @service.rpc
    async def listen(items: duplex.ReceiveChannel[Any]) -> list[Any]:
        return [item async for item in items]

    with fail_after(5):
        async with duplex.open_peer(services=[service]) as server:
            with RawDealer(await server.bind("tcp://127.0.0.1:*")) as raw:
                key = {"duplex-idempotency-key": "k"}
                await raw.shake_hands(
                    [7, 1, "svc.echo", 3, ONE, 0, None, key], [7, 3, "svc.fail", 3, ONE, 0, None, key]
                )
                await raw.commands(10, 2)
                raw.say(*BROKEN_AT_ONCE[name])
                raw.say([7, 15, "svc.echo", 3, ONE])
                while [10, 15, 0, b"\x01"] not in [command[:4] for command in raw.received]:
                    await raw.more()
                if "svc.listen" in [part for command in BROKEN_AT_ONCE[name] for part in command[2:3]]:
                    raw.say([11, 11])
                await until(lambda: all(leftovers(link) == [] for link in server.links))
                assert len(server.links) == 1
    assert not [record for record in caplog.records if record.exc_info]


async def test_items_against_the_direction_of_a_channel_are_nobodys() -> None:
    """A client gets a channel to receive from, and sends on it, also when all has been sent and until it closes it."""
    service = duplex.Service("svc")

    @service.rpc
    async def numbers() -> duplex.ReceiveChannel[int]:
        sink, source = trio.open_memory_channel[int](1)
        sink.send_nowait(1)
        sink.close()
        return source  # type: ignore[return-value]

    with fail_after(5):
        async with duplex.open_peer(services=[service]) as server:
            with RawDealer(await server.bind("tcp://127.0.0.1:*")) as raw:
                await raw.shake_hands([7, 1, "svc.numbers", 3, NONE])
                opened = next(command for command in await raw.commands(7) if command[2] is None)
                await raw.commands(9)
                raw.say(*[[8, opened[1], b"\x01"]] * 5)
                raw.say([10, opened[1], 0])
                await raw.commands(10)
                await until(lambda: all(leftovers(link) == [] for link in server.links))
                assert len(server.links) == 1
