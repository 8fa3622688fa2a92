"""The wires keep what a transport has to keep, and do what they are there for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

import duplex
from duplex.testing import check_transport
from duplex.transports import Frames, MemoryTransport, TransportOptions, Turns
from tests.engine.helpers import linked
from tests.transports.helpers import Recorder
from tests.wires.elsewhere import Elsewhere, LookedElsewhereError, is_about_elsewhere, served
from tests.wires.orders import ORDERS
from tests.wires.place import PROCESS, in_place
from tests.wires.plugin import PLAIN, sampled
from tests.wires.rearranged import merge, most_commands, split
from tests.wires.shared import shared_with
from tests.wires.transport import WireTransport

_pack = msgspec.msgpack.encode

HELLO = [0, "DMTP", 1, 1, "id", "", ["msgpack"], [], {"max_commands": 3}, [], None]
OPEN = [7, 1, "a.b", 0, b"x", 2]
DATA = [8, 1, b"y", 0, 1]
CLOSE = [10, 2]


def unpack(messages: list[Any]) -> list[tuple[Any, list[bytes]]]:
    return [(msgspec.msgpack.decode(frames[0]), frames[1:]) for frames in messages]


def test_every_command_gets_a_message_with_its_attachments() -> None:
    frames = [_pack([OPEN, CLOSE, DATA]), b"1", b"2", b"3"]
    assert unpack(split(frames)) == [([OPEN], [b"1", b"2"]), ([CLOSE], []), ([DATA], [b"3"])]


def test_messages_are_put_together_up_to_what_the_receiver_takes() -> None:
    messages = [[_pack([OPEN]), b"1", b"2"], [_pack([CLOSE, DATA]), b"3"], [_pack([CLOSE])]]
    assert unpack(merge(messages, 3)) == [([OPEN, CLOSE, DATA], [b"1", b"2", b"3"]), ([CLOSE], [])]


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"\xc1"],
        [_pack("no array")],
        [_pack([1])],
        [_pack([[]])],
        [_pack([["x"]])],
        [_pack([[8, 1, b"", 0, "x"]])],
        [_pack([])],
        [_pack([DATA])],
        [_pack([CLOSE]), b"too much"],
    ],
)
def test_what_is_no_batch_stays_as_it_is(frames: list[bytes]) -> None:
    assert split(frames) == [frames]
    before, after = [_pack([CLOSE])], [_pack([DATA]), b"1"]
    assert merge([before, frames, after], 100) == [before, frames, after]
    assert most_commands(frames) is None


def test_what_a_receiver_takes_is_read_from_its_hello() -> None:
    assert most_commands([_pack([HELLO])]) == 3
    assert most_commands([_pack([HELLO[:5]])]) == 1024


@pytest.mark.slow
@pytest.mark.parametrize("name", ORDERS)
async def test_wires_conform(name: str, autojump_clock: trio.testing.MockClock) -> None:
    await check_transport(WireTransport(MemoryTransport(), ORDERS[name], "1"), "memory://*")


class Passes(Recorder):
    """Notes in which turn a message came."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.turns: list[int] = []
        self.commands: list[list[Any]] = []

    def carrier_message(self, carrier: Any, frames: Frames) -> None:
        self.turns.append(self.now)
        self.commands += msgspec.msgpack.decode(frames[0])
        super().carrier_message(carrier, frames)

    async def take(self, turns: Turns) -> None:
        while turns.take():
            self.now += 1
            await turns.wait()


async def sent(name: str) -> Passes:
    """Greet, and send three messages of two commands each within two passes of the event loop; return what has come of it."""
    transport = WireTransport(MemoryTransport(), ORDERS[name], "1")
    server, client = Passes(), Passes()
    server.port = transport.bind("memory://*", server, TransportOptions())
    client.port = transport.connect(server.port.endpoint, client, TransportOptions())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.port.run, server.take)
        nursery.start_soon(client.port.run)
        near = await client.up()
        near.send([_pack([[*HELLO[:8], {}]])])
        far = await server.up()
        far.send([_pack([[*HELLO[:8], {}]])])
        await client.received()
        server.messages.clear()
        server.turns.clear()
        server.commands.clear()
        for number in range(3):
            near.send([_pack([[9, 10 + number], [9, 20 + number]])])
            if number:
                await trio.lowlevel.checkpoint()
        await server.until(lambda: len(server.commands) == 6)
        nursery.cancel_scope.cancel()
    assert [command[1] for command in server.commands] == [10, 20, 11, 21, 12, 22], "the order is kept"
    return server


async def test_coalesced_messages_come_in_one_turn() -> None:
    came = await sent("coalesced")
    assert len(came.messages) == 3
    assert len(set(came.turns)) == 1


async def test_merged_messages_come_as_one() -> None:
    assert len((await sent("merged")).messages) == 1


async def test_split_messages_come_command_by_command() -> None:
    came = await sent("split")
    assert len(came.messages) == len(set(came.turns)) == 6


async def test_delayed_messages_come_at_different_times() -> None:
    came = await sent("delayed")
    assert len(came.messages) == 3
    assert len(set(came.turns)) > 1


def test_the_sample_has_all_wires_and_is_from_the_engine() -> None:
    chosen = [sampled(Path("tests/engine/test_calls.py"), f"test_{number}") for number in range(1000)]
    assert {*chosen} == {PLAIN, *ORDERS}
    assert chosen.count(PLAIN) > 600
    assert sampled(Path("tests/engine/test_channels.py"), "test_x") in ORDERS
    assert sampled(Path("tests/codec/test_channels.py"), "test_x") == PLAIN


counted: list[int] = []
elsewhere = duplex.Service("elsewhere")


@elsewhere.rpc
async def add(a: int, b: int) -> int:
    return a + b


@elsewhere.rpc
async def count() -> None:
    counted.append(1)


def test_what_a_handler_shares_is_found() -> None:
    def shares_nothing() -> None: ...

    def shares_a_list() -> None:
        assert not counted

    def waits() -> Any:
        return trio.testing.wait_all_tasks_blocked

    assert shared_with(shares_nothing, [elsewhere]) is None
    assert shared_with(shares_a_list, [elsewhere]) == "'counted' (list) with elsewhere.count"
    assert shared_with(waits, [elsewhere]) == "the time at which all tasks are blocked"


def test_what_a_handler_has_from_the_test_around_it_is_found() -> None:
    service = duplex.Service("service")
    went, number = trio.Event(), 0

    def set_it() -> None:
        went.set()

    @service.rpc(inline=True)
    def go() -> None:
        set_it()

    this = test_what_a_handler_has_from_the_test_around_it_is_found
    assert shared_with(this, [service]) == "'went' (Event) with service.go"
    other = duplex.Service("other")

    @other.rpc(inline=True)
    def increase() -> None:
        nonlocal number
        number += 1

    assert shared_with(this, [other]) == "'number' (int) with other.increase"


def test_a_look_elsewhere_is_told_however_deep_it_is() -> None:
    with pytest.raises(LookedElsewhereError) as caught:
        Elsewhere("the server").links
    deep = BaseExceptionGroup("", [KeyboardInterrupt(), BaseExceptionGroup("", [caught.value])])
    assert is_about_elsewhere(deep) == "looks at the server, which is in another process"
    assert is_about_elsewhere(ValueError()) is None
    with pytest.raises(LookedElsewhereError, match="changes the server"):
        Elsewhere("the server").name = "x"


@pytest.mark.slow
async def test_a_server_in_another_process() -> None:
    with in_place(PROCESS, "1", add):
        async with linked(elsewhere) as pair:
            assert await pair.service("elsewhere").add(1, 2) == 3
            await pair.service("elsewhere").count()
            with pytest.raises(LookedElsewhereError):
                pair.server.links
    assert counted == []


@pytest.mark.slow
async def test_what_is_left_over_in_another_process_is_told() -> None:
    async with duplex.open_peer() as client:
        with pytest.raises(AssertionError, match="a crumb"):  # noqa: PT012 - it is the end of the block that raises
            async with served([elsewhere], "memory://*", {}, lambda _: ["a crumb"]) as endpoint:
                await client.connect(endpoint)
                assert await client.service("elsewhere").add(1, 2) == 3
