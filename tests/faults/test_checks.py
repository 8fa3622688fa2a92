"""The suite's own checks: what they are there to find, they find."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import trio

import duplex
from tests.faults.__main__ import GROUPS, name_of
from tests.faults.ledger import Ledger, Outcomes, executions
from tests.faults.report import Report, table, write
from tests.faults.wire import Wire


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    with contextlib.closing(Ledger(str(tmp_path / "executions"))) as ledger:
        yield ledger


class FakeStage:
    def __init__(self, path: Path) -> None:
        self.path = path

    def executions(self) -> Any:
        return executions(self.path)


@pytest.mark.parametrize("items", [[0, 0], [0, 2], [1, 0]], ids=["twice", "gap", "order"])
def test_items_that_are_not_in_order(ledger: Ledger, items: list[int]) -> None:
    sequence = ledger.sequence("stream", 7)
    for index in items:
        sequence.check([7, index])
    assert ledger.problems


def test_item_of_another_call(ledger: Ledger) -> None:
    ledger.sequence("stream", 7).check([8, 0])
    assert ledger.problems == ["stream 7: [8, 0] came where item 0 was due"]


def test_items_in_order(ledger: Ledger) -> None:
    sequence = ledger.sequence("stream", 7)
    for index in range(3):
        sequence.check([7, index])
    assert (ledger.problems, sequence.count) == ([], 3)


def test_only_some_problems_are_kept(ledger: Ledger) -> None:
    for number in range(100):
        ledger.problem(str(number))
    assert len(ledger.problems) + ledger.dropped_problems == 100


def test_call_that_is_executed_twice(ledger: Ledger, tmp_path: Path) -> None:
    for number in (1, 2, 2):
        with ledger.handling("unary", number):
            pass
    report = Report("fault")
    report.check_executions(FakeStage(tmp_path / "executions"))  # type: ignore[arg-type]
    assert report.problems == ["1 calls were executed twice, such as [2]"]


def test_call_that_was_executed_and_says_it_was_not(ledger: Ledger, tmp_path: Path) -> None:
    with ledger.handling("unary", 1):
        pass
    report = Report("fault")
    failed = [{"number": 1, "may_have_executed": False}, {"number": 2, "may_have_executed": False}]
    report.check_executions(FakeStage(tmp_path / "executions"), failed)  # type: ignore[arg-type]
    assert len(report.problems) == 1
    assert "'number': 1" in report.problems[0]


def test_half_a_number_of_a_process_that_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "executions"
    path.write_bytes((5).to_bytes(8, "little") + b"abc")
    assert executions(path, tmp_path / "missing") == {5: 1}


def test_handlers_note_how_they_end(ledger: Ledger) -> None:
    with ledger.handling("unary", 1):
        assert ledger.under_way["unary"] == 1
    with pytest.raises(ValueError, match="oh"), ledger.handling("unary", 1):
        raise ValueError("oh")
    assert not +ledger.under_way
    assert ledger.ended == {("unary", "ok"): 1, ("unary", "ValueError"): 1}
    assert ledger.last_end is not None


async def test_outcomes_of_calls(autojump_clock: object) -> None:
    outcomes = Outcomes()

    def fail(number: int, error: Exception) -> None:
        with outcomes.call("unary", number):
            raise error

    fail(1, duplex.PeerLost("gone"))
    fail(2, AssertionError("no outcome that a call may have, but it must be seen"))
    with outcomes.call("unary", 3):
        pass
    with trio.move_on_after(1):
        with outcomes.call("unary", 4):
            await trio.sleep(2)
    counts = {outcome: count for (_, outcome), count in outcomes.counts.items()}
    assert counts == {"PeerLost": 1, "AssertionError": 1, "ok": 1, "Cancelled": 1}
    assert [failed["number"] for failed in outcomes.failed] == [1, 2]
    assert outcomes.under_way == 0


def test_wrong_errors() -> None:
    report = Report("fault")
    report.check_errors([{"outcome": "Unavailable", "cancelled_by": None}], ("PeerLost",))
    report.check_errors([{"outcome": "PeerLost", "cancelled_by": None}], ("PeerLost",), cancelled_by="link")
    report.check_errors([{"outcome": "PeerLost", "cancelled_by": "link"}], ("PeerLost",), cancelled_by="link")
    assert len(report.problems) == 2


def test_ends_that_are_late_or_never_come() -> None:
    report = Report("fault")
    report.ended("a call", 1.0, 2.0)
    assert report.problems == []
    report.ended("another", 3.0, 2.0)
    report.ended("the last", None, 2.0)
    assert len(report.problems) == 2
    assert report.slowest == 3.0
    with pytest.raises(AssertionError, match="another ended 3"):
        report.assert_good()


def test_table(tmp_path: Path) -> None:
    good = Report("a|b", calls=1200, slowest=0.5, bound=1.0, memory={"server": (40.0, 41.0)})
    good.outcomes["ok"] = 1200
    bad = Report("bad", problems=[f"problem {number}" for number in range(20)])
    text = table([good, bad])
    assert "| a/b | 1,200 | 1,200 ok | 0.50 s (at most 1.00) | 40.0 → 41.0 MiB | – | yes |" in text
    assert "**no: 20 problems**" in text
    assert "- and 12 more" in text
    write([good, bad], tmp_path / "table.md")
    assert (tmp_path / "table.md").read_text() == text
    write([good, bad], tmp_path / "table.json")
    assert json.loads((tmp_path / "table.json").read_text())[1]["problems"][0] == "problem 0"


def test_all_faults_have_names_of_their_own() -> None:
    names = [name_of(fault) for group in GROUPS.values() for fault in group()]
    assert len(names) == len(set(names))


@pytest.fixture
def ends() -> Any:
    """Two pairs of connected descriptors: what a wire reads from is written to at the other end."""
    import socket

    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
    for pair in pairs:
        for end in pair:
            end.setblocking(False)
    yield pairs
    for pair in pairs:
        for end in pair:
            end.close()


def carry(wire: Wire, ends: Any, packets: list[bytes]) -> list[bytes]:
    """Send packets from a to b and return what arrives."""
    (far_a, a), (far_b, _) = ends
    for packet in packets:
        far_a.send(packet)
        wire.take(a.fileno())
    wire.deliver()
    arrived = []
    with contextlib.suppress(BlockingIOError):
        while True:
            arrived.append(os.read(far_b.fileno(), 100))
    return arrived


def test_wire(ends: Any) -> None:
    packets = [b"%d" % number for number in range(50)]
    wire = Wire(ends[0][1].fileno(), ends[1][1].fileno(), seed=1)
    assert carry(wire, ends, packets) == packets
    assert (wire.carried, wire.lost) == (50, 0)
    wire.set(cut=("ba",))
    assert carry(wire, ends, packets) == packets
    wire.set(cut=("ab",))
    assert carry(wire, ends, packets) == []
    assert (wire.carried, wire.lost) == (0, 50)
    wire.set(loss=0.5)
    arrived = carry(wire, ends, packets)
    assert 0 < len(arrived) < 50
    assert arrived == [packet for packet in packets if packet in arrived]
    wire.set(delay=1000.0)
    assert carry(wire, ends, packets) == []
    wait = wire.wait()
    assert wait is not None
    assert 999 < wait <= 1000
