"""Rules that show on the raw wire only: what a call says of itself, and what it is refused for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import msgpack
import pytest
import trio

import duplex
from tests.engine.helpers import first_link, outcome
from tests.engine.raw import HELLO, RawDealer, RawRouter
from tests.machine import fail_after

#: Numbers of commands, and ``END`` with ``UNARY``.
GREETING, CREDIT, OPEN, DATA, CLOSE = 0, 6, 7, 8, 10
CALL: Final = 3
NONE: Final = b"\x91\x90"


def make_service() -> duplex.Service:
    """A service with a callback in a result."""
    service = duplex.Service("s")
    service.rpc(inline=True, name="inline")(lambda: "inline")

    @service.rpc
    async def plain() -> str:
        return "ran"

    @service.rpc
    async def doubler() -> duplex.Callback[[int], int]:
        async def double(number: int) -> int:
            return 2 * number

        return double

    return service


@pytest.mark.parametrize("method", ["plain", "inline"])
@pytest.mark.parametrize("metadata", [None, {"duplex-idempotency-key": "k"}])
async def test_a_call_without_any_time_left_does_not_run(method: str, metadata: Any) -> None:
    with fail_after(10):
        async with duplex.open_peer(services=[make_service()]) as peer:
            with RawDealer(await peer.bind("tcp://127.0.0.1:*")) as raw:
                raw.say(HELLO)
                await raw.commands(GREETING)
                raw.say([OPEN, 1, f"s.{method}", CALL, NONE, 0, 0, metadata])
                [answer] = await raw.commands(CLOSE)
                assert answer[1:3] == [1, 4]
                assert "duplex-refused" in answer[7]
                raw.say([OPEN, 3, f"s.{method}", CALL, NONE, 0, 1000, metadata])
                assert (await raw.commands(CLOSE, 2))[1][1:3] == [3, 0]


async def test_a_balance_of_one_is_enough() -> None:
    service = duplex.Service("s")

    @service.rpc
    async def count() -> AsyncIterator[int]:
        for number in range(3):
            yield number

    with fail_after(10):
        async with duplex.open_peer(services=[service]) as peer:
            with RawDealer(await peer.bind("tcp://127.0.0.1:*")) as raw:
                raw.say([*HELLO, ["msgpack"], [], {"channel_window": 1}])
                await raw.commands(GREETING)
                raw.say([OPEN, 1, "s.count", 1, NONE])
                for number in range(3):
                    assert [data[2] for data in await raw.commands(DATA, number + 1)] == [
                        bytes([each]) for each in range(number + 1)
                    ]
                    raw.say([CREDIT, 1, 65])  # what an item costs: the balance is one again
                await raw.commands(CLOSE)


async def test_a_call_needs_a_balance_of_one() -> None:
    with fail_after(10), RawRouter() as raw:
        async with duplex.open_peer() as peer, trio.open_nursery() as nursery:
            nursery.start_soon(peer.connect, raw.endpoint)
            await raw.shake_hands(services=["s"], limits={"link_window": 1})
            nursery.start_soon(outcome, (await first_link(peer)).service("s").pay(5))
            [[_, _, target, *_]] = await raw.commands(OPEN)
            assert target == "s.pay"
            nursery.cancel_scope.cancel()


async def test_a_callback_answers_only_to_its_own_call() -> None:
    with fail_after(10):
        async with duplex.open_peer(services=[make_service()]) as peer:
            with RawDealer(await peer.bind("tcp://127.0.0.1:*")) as raw:
                raw.say(HELLO)
                raw.say([OPEN, 1, "s.doubler", CALL, NONE], [OPEN, 3, "s.doubler", CALL, NONE])
                numbers = {channel: payload.data[0] for _, channel, payload in await _callbacks(raw)}
                for channel, parent in ((5, 1), (7, 3), (9, None), (11, 4711)):
                    raw.say([OPEN, channel, numbers[1], CALL, b"\x91\x91\x15", 0, None, None, None, parent])
                answers = {answer[1]: answer[2:4] for answer in await raw.commands(CLOSE, 4)}
                assert answers == {5: [0, b"\x2a"], 7: [9, None], 9: [9, None], 11: [9, None]}


async def test_a_channel_that_came_with_its_end_has_no_items() -> None:
    service = duplex.Service("s")

    @service.rpc
    async def drain(channel: duplex.ReceiveChannel[int]) -> list[int]:
        return [item async for item in channel]

    with fail_after(10):
        async with duplex.open_peer(services=[service]) as peer:
            with RawDealer(await peer.bind("tcp://127.0.0.1:*")) as raw:
                raw.say(HELLO)
                nested = [OPEN, 3, None, 1, None, 0, None, None, None, 1]
                raw.say([OPEN, 1, "s.drain", 2], nested, [DATA, 1, b"\x91\x91\xd4\x05\x03", 1])
                answers = {answer[1]: answer[2:4] for answer in await raw.commands(CLOSE, 2)}
                assert answers == {1: [0, b"\x90"], 3: [0, None]}


async def _callbacks(raw: RawDealer) -> list[tuple[int, int, Any]]:
    return [
        (op, channel, msgpack.unpackb(payload)) for op, channel, payload, *_ in await raw.commands(DATA, 2)
    ]


async def test_a_key_is_not_sent_to_a_peer_that_keeps_none() -> None:
    with fail_after(10), RawRouter() as raw:
        async with duplex.open_peer() as peer, trio.open_nursery() as nursery:
            nursery.start_soon(peer.connect, raw.endpoint)
            await raw.shake_hands(services=["s"])
            remote = (await first_link(peer)).service("s").with_options(idempotency_key="order-17")
            error = await outcome(remote.pay(5))
            assert isinstance(error, duplex.Unimplemented)
            assert "keeps no idempotency keys" in str(error)
            assert error.may_have_executed is False
            error = await outcome(remote.pay.notify(5))
            assert isinstance(error, duplex.Unimplemented)
            # What comes first on the wire is the call without a key.
            nursery.start_soon(outcome, remote.with_options(idempotency_key=None).pay(5))
            [[_, channel, target, *_]] = await raw.commands(OPEN)
            assert (channel, target) == (1, "s.pay")
            nursery.cancel_scope.cancel()


async def test_a_peer_says_that_it_keeps_keys() -> None:
    with fail_after(10):
        async with duplex.open_peer() as peer:
            with RawDealer(await peer.bind("tcp://127.0.0.1:*")) as raw:
                raw.say(HELLO)
                [greeting] = await raw.commands(GREETING)
                assert "idempotency-keys" in greeting[7]
