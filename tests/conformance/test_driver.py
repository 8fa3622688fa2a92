"""What the tool says of implementations that send something malformed, over a connection that is a list."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest
import trio
import trio.testing

from duplex.conformance import Scenario, ScenarioError, Timing
from duplex.conformance._drive import Driver, FailedError
from duplex.conformance._values import CannotDriveError, pack
from duplex.conformance._wire import Wire

#: A call that the tool makes, for what the implementation then answers.
CALL: dict[str, Any] = {"send": [["OPEN", "@1", "conformance.echo", 3, {"msgpack": [[1]]}]]}
HELLO: list[Any] = [0, "DMTP", 1, 1, "listed"]


class ListedWire(Wire):
    """A connection on which everything that will ever come is known."""

    def __init__(self, messages: Sequence[list[bytes]]) -> None:
        self._messages = list(messages)
        self.sent: list[Any] = []

    def send(self, frames: Sequence[bytes]) -> bool:
        self.sent.append(frames)
        return True

    async def receive(self) -> list[bytes]:
        if not self._messages:
            await trio.sleep_forever()
        return self._messages.pop(0)

    def close(self) -> None:
        pass


async def drive(steps: list[dict[str, Any]], *messages: list[bytes] | list[Any], **fields: Any) -> None:
    """Run steps against what comes: batches, or messages of frames."""
    wire = ListedWire([item if isinstance(item[0], bytes) else [pack(item)] for item in messages])

    async def open_wire() -> Wire:
        return wire

    scenario = Scenario(id="dmtp/7/x", title="", rule="", level="MUST", section="", steps=steps, **fields)
    await Driver(open_wire, "binding", Timing(step=0.05, quiet=0.02)).run(scenario)


@pytest.mark.parametrize(
    ("message", "came"),
    [
        ([b"\xc1"], "something malformed: not msgpack"),
        ([b"\x80"], "something malformed: frame 0 is no array but {}"),
        ([[99]], "something malformed: there is no command 99"),
        ([[3, "one"]], "something malformed: PING with 'one' where uint belongs: [3, 'one']"),
        ([[3, True]], "something malformed: PING with True where uint belongs"),
        ([[6, 1, -1]], "something malformed: CREDIT with -1 where amount belongs"),
        ([[7, 1, 1.5]], "something malformed: OPEN with 1.5 where name, uint or nil belongs"),
        ([[2, ["name"]]], "something malformed: ANNOUNCE with ['name'] where services belongs"),
        ([[10, 1, None]], "something malformed: CLOSE with None where uint belongs"),
        ([[3]], "something malformed: PING lacks fields: [3]"),
        ([pack([[3, 1]]), b"more"], "something malformed: 1 attachments that no command takes"),
        ([[8, 1, b"", 0, 1]], "something malformed: DATA(1, b'', 0, 1) with only 0 attachments left"),
    ],
)
async def test_what_is_malformed_fails_every_scenario(message: list[Any], came: str) -> None:
    with pytest.raises(FailedError) as caught:
        await drive([{"nothing": True}], [HELLO], message)
    assert caught.value.came.startswith(came)
    assert caught.value.step == 1


async def test_limits_that_are_no_numbers() -> None:
    with pytest.raises(FailedError) as caught:
        await drive([{"alive": True}], [[*HELLO, "", ["msgpack"], [], {"max_message": None}]])
    assert caught.value.step == 0
    assert caught.value.came.startswith(
        "something malformed: HELLO with {'max_message': None} where limits belongs"
    )


async def test_something_else_than_hello() -> None:
    with pytest.raises(FailedError) as caught:
        await drive([{"alive": True}], [[1, "limit"]])
    assert (caught.value.step, caught.value.came) == (0, "REFUSE('limit')")


async def test_what_was_ignored_is_told() -> None:
    with pytest.raises(FailedError) as caught:
        await drive([{"expect": [["PONG", 1]]}], [HELLO], [[3, number] for number in range(8)])
    assert caught.value.came == (
        "nothing within 0.05 s but PING(0), PING(1), PING(2), PING(3), PING(4), PING(5) and 2 more"
    )


async def test_another_command_fails_at_once() -> None:
    with pytest.raises(FailedError) as caught:
        await drive([CALL, {"expect": [["CLOSE", "@1", 0]]}], [HELLO], [[10, 1, 5, None, 0, "no"]])
    assert caught.value.expected == 'CLOSE("@1", 0)'
    assert caught.value.came == "CLOSE(1, 5, None, 0, 'no')"


async def test_a_link_that_breaks_is_not_alive() -> None:
    with pytest.raises(FailedError, match="the link goes on"):
        await drive([{"alive": True}], [HELLO], [[5, 0, "protocol", ""]])


@pytest.mark.parametrize("step", ["alive", "broken"])
async def test_pings_are_no_more_time(step: str, autojump_clock: object) -> None:
    class Pinging(ListedWire):
        async def receive(self) -> list[bytes]:
            if self._messages:
                return self._messages.pop(0)
            await trio.sleep(0.02)
            return [pack([[3, 1]])]

    wire = Pinging([[pack([HELLO])]])

    async def open_wire() -> Wire:
        return wire

    scenario = Scenario(id="dmtp/7/x", title="", rule="", level="MUST", section="", steps=[{step: True}])
    with trio.fail_after(5), pytest.raises(FailedError, match=r"nothing within 0\.05 s but PING"):
        await Driver(open_wire, "binding", Timing(step=0.05, quiet=0.02)).run(scenario)


async def test_a_refusal_for_another_reason() -> None:
    with pytest.raises(FailedError) as caught:
        await drive([{"refused": "version"}], [[1, "codec"]], handshake=False)
    assert (caught.value.expected, caught.value.came) == ("REFUSE('version')", "REFUSE('codec')")


async def test_numbers_that_do_not_hold() -> None:
    with pytest.raises(FailedError) as caught:
        await drive([{"holds": [["=max_commands", 5]]}], [HELLO])
    assert (caught.value.expected, caught.value.came) == ("max_commands is at most 5", "1024 and 5")


async def test_limits_that_make_a_scenario_impossible() -> None:
    with pytest.raises(CannotDriveError, match="do not allow it: max_commands is more than 5"):
        await drive([{"alive": True}], [HELLO], at_most=[["=max_commands", 5]])


async def test_a_pattern_that_is_none() -> None:
    with pytest.raises(ScenarioError, match="is no pattern of a command"):
        await drive([{"expect": ["PONG"]}], [HELLO])


async def drive_over(wire: ListedWire, *steps: dict[str, Any]) -> None:
    async def open_wire() -> Wire:
        return wire

    scenario = Scenario(id="dmtp/7/x", title="", rule="", level="MUST", section="", steps=steps)
    await Driver(open_wire, "binding", Timing(step=0.05, quiet=0.02)).run(scenario)


async def test_what_has_come_while_the_tool_did_something_else_has_come_in_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Late(ListedWire):
        async def receive(self) -> list[bytes]:
            frames = await super().receive()
            if b"late" in frames[0] and trio.current_time() - began < 1:
                self._messages.insert(0, frames)
                autojump_clock.jump(1)
                await trio.lowlevel.checkpoint()
            return frames

    began = trio.current_time()
    wire = Late([[pack([HELLO])], [pack([[10, 1, 0, pack("late")]])]])
    await drive_over(wire, CALL, {"expect": [["CLOSE", "@1", 0, {"msgpack": "late"}]]})
    assert trio.current_time() - began >= 1


#: As many channels as there may be, each in a message of its own.
MANY: dict[str, Any] = {
    "send": [["OPEN", {"channel": "=i + 1"}, "conformance.hold", 3]],
    "batches": "=max_channels",
}


async def test_scenarios_take_turns_while_one_of_them_sends_much() -> None:
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_turns)
        await drive_over(ListedWire([[pack([HELLO])]]), MANY)
        nursery.cancel_scope.cancel()
    assert turns > 4096 / 20


async def test_a_message_costs_the_same_however_many_channels_there_are() -> None:
    async def seconds(channels: int) -> float:
        hello = [*HELLO, "", ["msgpack"], [], {"max_channels": channels}]
        began = time.thread_time()
        await drive_over(ListedWire([[pack([hello])]]), MANY)
        return time.thread_time() - began

    few, many = [min([await seconds(channels) for _ in range(3)]) for channels in (512, 4096)]
    assert many < 3 * 8 * few
