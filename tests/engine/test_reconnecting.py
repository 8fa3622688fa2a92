"""Links that come late, or come back: who waits for them, for how long, and what is told where none comes."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from duplex.transports._backoff import Backoff
from tests.engine.helpers import linked, made, outcome, until
from tests.engine.raw import RawRouter
from tests.machine import fail_after, within

service = duplex.Service("service")


@service.rpc
async def good() -> int:
    return 1


@service.rpc
async def hang() -> None:
    await trio.sleep_forever()


@service.rpc
async def listen(items: duplex.ReceiveChannel[int]) -> int:
    return sum([item async for item in items])


@pytest.mark.in_memory("says what is told of names in memory")
@pytest.mark.parametrize("opened", [False, True])
async def test_not_waiting_says_at_once_what_was_tried(opened: bool) -> None:
    async with duplex.open_peer() as peer:
        peer.connect_soon("tcp://127.0.0.1:9")
        peer.connect_soon("memory://nowhere")
        await until(lambda: "did not accept" in "".join(peer._inside.ports.situation()))
        began = trio.current_time()
        with pytest.raises(duplex.Unavailable) as caught:
            await made(peer.service("service").with_options(wait_for_ready=False).good, opened=opened)
        assert trio.current_time() - began < within(1)
    error = caught.value
    assert error.may_have_executed is False
    assert "wait_for_ready is False" in error.message
    assert "tcp://127.0.0.1:9 is not linked (tcp://127.0.0.1:9 did not accept the connection" in error.message
    assert (
        "memory://nowhere is not linked (nothing is bound at memory://nowhere in this event loop"
        in error.message
    )


async def test_waiting_is_bounded_by_the_connect_timeout(autojump_clock: object) -> None:
    async with duplex.open_peer(connect_timeout=7) as peer:
        peer.connect_soon("memory://nowhere")
        began = trio.current_time()
        with pytest.raises(duplex.Unavailable, match="within 7 s; memory://nowhere is not linked") as caught:
            await peer.service("service").good()
        assert trio.current_time() - began == pytest.approx(7)
        assert caught.value.may_have_executed is False


async def test_waiting_is_bounded_by_the_deadline(autojump_clock: object) -> None:
    async with duplex.open_peer() as peer:
        peer.connect_soon("memory://nowhere")
        began = trio.current_time()
        with trio.move_on_after(2) as scope:
            await peer.service("service").good()
        assert scope.cancelled_caught
        assert trio.current_time() - began == pytest.approx(2)


async def test_calls_wait_for_a_server_that_comes_later(autojump_clock: object) -> None:
    results: list[Any] = []
    async with duplex.open_peer() as client, trio.open_nursery() as nursery:
        client.connect_soon("memory://later")

        async def call() -> None:
            results.append(await outcome(client.service("service").good()))

        nursery.start_soon(call)
        await trio.sleep(5)
        (waiting,) = client.calls()
        assert (waiting.direction, waiting.method) == ("waiting", "service")
        assert waiting.age == pytest.approx(5)
        async with duplex.open_peer(services=[service]) as server:
            await server.bind("memory://later")
            await until(lambda: results)
    assert results == [1]


async def test_connect_soon_takes_only_endpoints() -> None:
    async with duplex.open_peer() as peer:
        with pytest.raises(duplex.ConfigurationError, match="does not begin with a known scheme"):
            peer.connect_soon("nowhere")
        assert not peer._inside.ports.receivers


async def test_a_handshake_under_way_is_waited_for() -> None:
    """A server that is linked and does not offer the service is not asked while another one is coming."""
    with fail_after(10), RawRouter() as router:
        async with linked(check=False) as pair, trio.open_nursery() as nursery:
            pair.client.connect_soon(router.endpoint)
            await router.commands(0)
            results: list[Any] = []

            async def call() -> None:
                results.append(await outcome(pair.client.service("raw").method()))

            nursery.start_soon(call)
            await trio.testing.wait_all_tasks_blocked(0.02)
            assert results == []
            await router.shake_hands(services=["raw"])
            (opened,) = await router.commands(7)
            router.say([10, opened[1], 0, b"\x2a"])
            await until(lambda: results)
            assert results == [42]


async def test_a_call_that_crosses_goodbye_is_made_again_elsewhere() -> None:
    """GOAWAY says that it never began, so it goes to the other peer, and its caller notices nothing."""
    with fail_after(10), RawRouter() as router:
        async with duplex.open_peer() as client, trio.open_nursery() as nursery:
            nursery.start_soon(client.connect, router.endpoint)
            await router.shake_hands(services=["service"])
            await until(lambda: client.links)
            results: list[Any] = []

            async def call() -> None:
                results.append(await outcome(client.service("service").good()))

            nursery.start_soon(call)
            await router.commands(7)
            async with duplex.open_peer(services=[service]) as server:
                await client.connect(await server.bind("memory://*"))
                router.say([5, 0, "draining"])
                await until(lambda: results)
    assert results == [1]


async def test_a_call_with_channels_is_not_made_again() -> None:
    """The channel was taken over by the attempt that failed."""
    with fail_after(10), RawRouter() as router:
        async with duplex.open_peer() as client, trio.open_nursery() as nursery:
            nursery.start_soon(client.connect, router.endpoint)
            await router.shake_hands(services=["service"])
            await until(lambda: client.links)
            sink, source = trio.open_memory_channel[int](0)
            results: list[Any] = []

            async def call() -> None:
                results.append(await outcome(client.service("service").listen(source)))

            nursery.start_soon(call)
            await router.commands(7, 2)
            router.say([5, 0, "closing"])
            await until(lambda: results)
            sink.close()
    assert isinstance(results[0], duplex.Unavailable)
    assert results[0].may_have_executed is False


async def test_lost_links_say_which_calls_were_sent() -> None:
    async with linked(service, check=False) as pair, trio.open_nursery() as nursery:
        remote = pair.link.service("service")
        results: dict[str, Any] = {}

        async def call(name: str) -> None:
            results[name] = await outcome(remote.hang())

        nursery.start_soon(call, "sent")
        await until(lambda: pair.back.statistics().incoming)
        nursery.start_soon(call, "queued")

        # Runs before the flusher does, in the same pass of the event loop as the call.
        async def lose() -> None:
            while pair.link.statistics().outgoing < 2:
                await trio.lowlevel.cancel_shielded_checkpoint()
            pair.link._inside.lose("a test says so")

        with_pending = pair.link._inside.outbound.transmit
        pair.link._inside.outbound.transmit = lambda: None  # type: ignore[method-assign] # the transport is busy
        nursery.start_soon(lose)
        await until(lambda: len(results) == 2)
        pair.link._inside.outbound.transmit = with_pending  # type: ignore[method-assign]
    assert type(results["sent"]) is type(results["queued"]) is duplex.PeerLost
    assert results["sent"].may_have_executed is True
    assert "the call may have executed" in results["sent"].message
    assert results["queued"].may_have_executed is False
    assert "the call was never sent, so it is safe to repeat" in results["queued"].message


@contextlib.asynccontextmanager
async def _server(endpoint: str) -> AsyncIterator[duplex.Peer]:
    async with duplex.open_peer(services=[service]) as server:
        await server.bind(endpoint)
        yield server


async def test_a_restarted_server_is_a_new_link(autojump_clock: object) -> None:
    async with duplex.open_peer(reconnect=duplex.Reconnect(initial=3, jitter=0)) as client:
        async with _server("memory://again") as first:
            link = await client.connect("memory://again")
            assert link.peer_id == first.id
            results: list[Any] = []

            async def call() -> None:
                results.append(await outcome(client.service("service").hang()))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(call)
                await until(lambda: first.calls())
                await first.aclose()
        assert type(results[0]) is duplex.PeerLost
        assert not link.is_open
        async with _server("memory://again") as second:
            assert await client.service("service").good() == 1
            assert client.links[0].peer_id == second.id
            assert client.links[0] is not link


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initial": 0}, "Reconnect.initial must be a number of seconds from 0.001"),
        ({"maximum": float("inf")}, "Reconnect.maximum must be a number of seconds from 0.001"),
        ({"initial": 2, "maximum": 1}, r"Reconnect.maximum \(1\) must not be shorter"),
        ({"multiplier": 0.5}, "Reconnect.multiplier must be a number from 1"),
        ({"multiplier": True}, "Reconnect.multiplier must be a number from 1"),
        ({"jitter": 1}, "Reconnect.jitter must be a number from 0 to 0.99"),
        ({"jitter": "0"}, "Reconnect.jitter must be a number from 0 to 0.99"),
    ],
)
def test_wrong_values(options: dict[str, Any], message: str) -> None:
    with pytest.raises(duplex.ConfigurationError, match=message):
        duplex.Reconnect(**options)


async def test_open_peer_takes_only_a_policy() -> None:
    with pytest.raises(duplex.ConfigurationError, match=r"reconnect must be a duplex\.Reconnect"):
        async with duplex.open_peer(reconnect=1.0):  # type: ignore[arg-type]
            pass


def test_who_waits_for_a_link_sees_an_attempt_to_make_it() -> None:
    patience = inspect.signature(duplex.open_peer).parameters["connect_timeout"].default
    backoff = Backoff(duplex.Reconnect())
    assert max(backoff.pause(lasted=0.4 * patience) for _ in range(100)) <= patience / 2
