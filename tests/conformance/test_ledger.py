"""The accounts of the tool: what an implementation must not send fails whatever scenario it comes in."""

from __future__ import annotations

from typing import Any, Final

import pytest

from duplex.conformance._commands import read
from duplex.conformance._ledger import BrokenRuleError, Ledger

HELLO: Final[list[Any]] = [0, "DMTP", 1, 1, "peer"]
#: What the tool says first: limits so small that a few bytes exceed them.
OURS: Final[list[Any]] = [
    *HELLO,
    "tool",
    ["msgpack"],
    [],
    {"channel_window": 100, "link_window": 300, "max_message": 1024, "max_metadata": 50, "max_channels": 1},
]
CALL: Final[list[Any]] = [7, 1, "s.m", 3, b"\x91\x90"]
STREAM: Final[list[Any]] = [7, 1, "s.m", 0, b"\x91\x90"]


def came(ledger: Ledger, *commands: list[Any]) -> None:
    """Let a batch come."""
    for command in map(read, commands):
        ledger.came(command, ())


def begun(*sent: list[Any]) -> Ledger:
    """A link on which the tool has sent something; it is the connecting side."""
    ledger = Ledger(1)
    ledger.sent([OURS])
    came(ledger, HELLO)
    for command in sent:
        ledger.sent([command])
    return ledger


#: What the tool sent, what came, and how the last of it is told.
BROKEN: Final[list[tuple[list[list[Any]], list[list[Any]], str]]] = [
    ([], [HELLO], "V8: a second HELLO"),
    ([], [[1, "limit"]], "V8: REFUSE"),
    ([], [[4, 5]], "PONG(5) without a PING"),
    ([[3, 5]], [[4, 5], [4, 5]], "PONG(5) without a PING"),
    ([], [[5, 1, "draining"]], "GOAWAY(1, 'draining'), and the highest channel is 0"),
    ([CALL], [[5, 1, "draining"], [5, 0, "draining"]], "GOAWAY(0, 'draining') after one with 1"),
    ([CALL], [[6, 0, 67]], "CREDIT(0, 67) gives back more than was sent"),
    ([CALL], [[6, 1, 67]], "CREDIT(1, 67) gives back more than was sent"),
    ([], [[6, 0, 2**53 - 1]], "V14: CREDIT"),
    ([], [[6, 1, 5]], "V13: CREDIT(1, 5), and that channel never began"),
    ([], [[8, 2, b""]], "V13: DATA"),
    ([], [[7, 1, "s.m"]], "V10: OPEN(1, 's.m') has a number of the other side's"),
    ([], [[7, 4, 1, 5, b""], [7, 4, 1]], "V11: OPEN(4, 1) after channel 4"),
    ([], [[7, 2, 1, 8]], "V12: OPEN(2, 1, 8) has unknown flags"),
    ([], [[7, 2, 1, 4, b""]], "V12: OPEN(2, 1, 4, b'') is NOTIFY without END"),
    ([], [[7, 2, 1, 5]], "V12: OPEN(2, 1, 5) is NOTIFY without END or a message"),
    ([CALL], [[8, 1, b"", 4]], "V12: DATA(1, b'', 4) has unknown flags"),
    ([], [[7, 2, 1], [7, 4, 1]], "V24: OPEN(4, 1), and 1 channels of at most 1 are open"),
    ([], [[7, 2, 1, 0, None, 0, 0]], "leaves no time for the call"),
    ([], [[7, 2, 1, 0, None, 0, None, None, None, None, "json"]], "has a codec that is not in HELLO"),
    ([], [[7, 2, 1, 0, None, 0, None, {"A": ""}]], "V23: OPEN"),
    ([], [[7, 2, 1, 0, None, 0, None, {"a": 1}]], "has 1 as the value of 'a'"),
    ([], [[7, 2, 1, 0, None, 0, None, {"a": "x" * 18}]], "V22: OPEN"),
    ([CALL], [[10, 1, 0, None, 0, "", None, {"a": "x" * 18}]], "V22: CLOSE"),
    ([CALL], [[8, 1, b"x" * 1025]], "V20: DATA"),
    ([CALL], [[10, 1, 3, None, 0, "", b"x" * 1025]], "V20: CLOSE"),
    ([CALL], [[8, 1, b"x" * 36], [8, 1, b""]], "V19: DATA(1, b'') while the channel's balance is 0"),
    ([CALL], [[8, 1, b"x" * 36], [10, 1, 0, b""]], "V19: CLOSE(1, 0, b'') while the channel's balance is 0"),
    (
        [CALL, [7, 3, "s.m", 3, b"", 0, None, None, 999]],
        [[8, 1, b""], [8, 3, b"x" * 172], [8, 3, b""]],
        "V15: DATA(3, b'') while the link's balance is 0",
    ),
    ([], [[7, 2, 1, 5, b""], [8, 2, b""]], "that channel was over from the beginning"),
    ([CALL], [[9, 1], [9, 1]], "V18: END(1) after END"),
    ([CALL], [[8, 1, b"", 1], [8, 1, b""]], "V18: DATA(1, b'') after END"),
    ([CALL], [[10, 1], [10, 1]], "V18: CLOSE(1), and CLOSE came before"),
    ([CALL], [[10, 1], [9, 1]], "V18: END(1) after CLOSE"),
    ([CALL], [[11, 1]], "V18: CANCEL(1) from the responder"),
    ([], [[7, 2, 1], [10, 2]], "V18: CLOSE(2) from the opener"),
    ([], [[7, 2, 1, 1], [8, 2, b""]], "V18: DATA(2, b'') after END"),
    ([], [[7, 2, 1], [11, 2], [11, 2]], "V18: CANCEL(2), and CANCEL came before"),
    ([], [[7, 2, 1], [11, 2], [9, 2]], "V18: END(2) after CANCEL"),
    ([[5, 0, "draining"], [3, 7]], [[4, 7], [7, 2, 1]], "V25: OPEN(2, 1) after GOAWAY"),
]


@pytest.mark.parametrize(("sent", "commands", "told"), BROKEN, ids=[told for _, _, told in BROKEN])
def test_what_breaks_a_rule(sent: list[list[Any]], commands: list[list[Any]], told: str) -> None:
    ledger = begun(*sent)
    came(ledger, *commands[:-1])
    with pytest.raises(BrokenRuleError) as caught:
        came(ledger, commands[-1])
    assert told in str(caught.value)


#: What the tool sent, and what may come: each is next to something in the list above.
KEPT: Final[list[tuple[list[list[Any]], list[list[Any]]]]] = [
    ([[3, 5], [3, 5]], [[4, 5], [4, 5]]),
    ([CALL], [[5, 0, "draining"], [5, 1, "closing"]]),
    ([CALL], [[6, 0, 66], [6, 1, 66]]),
    ([CALL, [8, 1, b"x" * 34], [10, 2, 0, b""]], [[6, 0, 66 + 98 + 64], [6, 1, 66 + 98]]),
    ([], [[7, 4, 1, 5, b""], [7, 6, 1]]),
    ([], [[7, 2, 1, 0, None, 0, None, {"a": "x" * 17}]]),
    ([CALL], [[8, 1, b"x" * 1000], [10, 1, 5]]),
    ([CALL, [6, 1, 1]], [[8, 1, b"x" * 36], [10, 1, 0, b""]]),
    ([CALL, [6, 0, 65]], [[10, 1, 0, b"x" * 300], [7, 2, 1, 5, b""]]),
    ([[7, 1, "s.m", 0, None, 0, None, None, 1]], [[8, 1, b"x" * 200], [10, 1]]),
    ([], [[7, 2, 1], [11, 2]]),
    # GOAWAY may not have arrived yet, and what belongs to a call goes on.
    ([[5, 0, "draining"]], [[7, 2, 1]]),
    ([[5, 0, "draining"], [3, 7]], [[4, 7], [7, 2, 1, 0, None, 0, None, None, None, 1]]),
    ([[5, 0, "closing"]], [[1, "protocol"]]),
]


@pytest.mark.parametrize(("sent", "commands"), KEPT)
def test_what_keeps_the_rules(sent: list[list[Any]], commands: list[list[Any]]) -> None:
    came(begun(*sent), *commands)


def test_a_channel_that_the_tool_closed_makes_room() -> None:
    ledger = begun()
    came(ledger, [7, 2, 1])
    ledger.sent([[10, 2, 0]])
    came(ledger, [7, 4, 1])


def test_attachments_cost_and_count() -> None:
    ledger = begun(CALL)
    ledger.came(read([8, 1, b"", 0, 1]), [b"x" * 36])
    with pytest.raises(BrokenRuleError, match="V19"):
        came(ledger, [8, 1, b""])
    ledger = Ledger(1)
    ledger.sent([[*OURS[:8], {"max_attachments": 1}]])
    came(ledger, HELLO)
    with pytest.raises(BrokenRuleError, match="V21: OPEN"):
        ledger.came(read([7, 2, 1, 5, b"", 2]), [b"", b""])
    with pytest.raises(BrokenRuleError, match="V7: OPEN"):
        ledger.came(read([7, 4, 1, 0, None, 1]), [b""])


def test_attachments_of_the_tool_are_paid() -> None:
    ledger = begun()
    ledger.sent(
        [[7, 1, "s.m", 0, b"", 1], [8, 1, b"", 0, 1], [10, 2, 0, b"", 1]], [b"x" * 10, b"y" * 20, b"z" * 30]
    )
    assert ledger.balance(0) == 16777216 - 3 * 64 - 60
    assert ledger.balance(1) == 1048576 - 2 * 64 - 30
    assert ledger.balance(2) is None, "that is the implementation's"
    assert ledger.balance(3) is None


def test_whole_batches() -> None:
    ledger = Ledger(2)
    ledger.sent([[*OURS[:8], {"max_commands": 2, "max_message": 1024, "max_metadata": 0}]])
    ledger.check_batch(b"", [HELLO, HELLO])
    with pytest.raises(BrokenRuleError, match="V4: a batch of 3 commands"):
        ledger.check_batch(b"", [HELLO, HELLO, HELLO])
    ledger.check_batch(bytes(1024 + 1048576), [])
    with pytest.raises(BrokenRuleError, match="V2: frame 0 has 1049601 bytes"):
        ledger.check_batch(bytes(1024 + 1048576 + 1), [])


def test_before_the_handshake() -> None:
    ledger = Ledger(1)
    assert ledger.balance(0) is None
    came(ledger, [1, "limit"])
    with pytest.raises(BrokenRuleError, match=r"V8: PONG\(1\) before HELLO"):
        came(Ledger(1), [4, 1])


def test_nonsense_of_the_tool_changes_nothing() -> None:
    ledger = begun()
    before = ledger.balance(0), ledger.balance(1)
    ledger.sent([None, [], [99], [7, 2, "s.m"], [8], [6, 5, 5], [7, "x"], [0, "DMTP", 1]])
    assert (ledger.balance(0), ledger.balance(1)) == before
