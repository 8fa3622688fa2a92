"""The judge of the oracle finds every kind of untruth, and nothing in journals that are true."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

import duplex
from tests.oracle.journal import Entry, Journal, leaf, read
from tests.oracle.verdict import Life, judge

ASK: Entry = ["ask", "a", "echo"]
RUN: Entry = ["run", "a"]
END: Entry = ["end", "a", "ok"]
CUT: Entry = ["end", "a", "Cancelled"]
OK: Entry = ["told", "a", "ok", None]
KEYED: Entry = ["ask", "a", "keyed"]


def refused(outcome: str = "PeerLost") -> Entry:
    return ["told", "a", outcome, False]


def lost(outcome: str = "PeerLost") -> Entry:
    return ["told", "a", outcome, True]


def violations(caller: list[Entry], *servers: list[Entry], killed: str = "") -> list[str]:
    lives = [Life("caller", killed == "caller", caller)]
    lives += [Life("server", killed == "server", entries) for entries in servers]
    return judge(lives).violations


@pytest.mark.parametrize(
    ("caller", "servers"),
    [
        ([ASK, OK], [[RUN, END]]),
        ([ASK, lost()], [[RUN, END]]),
        ([ASK, lost()], []),
        ([ASK, refused()], []),
        ([ASK, ["told", "a", "Aborted", True]], [[RUN, END]]),
        ([["ask", "a", "note"], OK], []),
        ([KEYED, lost(), KEYED, OK], [[RUN, END]]),
        ([KEYED, lost(), KEYED, OK], [[RUN, END], [RUN, END]]),
        ([KEYED, lost(), KEYED, refused()], [[RUN, END]]),
        ([KEYED, lost("DeadlineExceeded"), KEYED, OK], [[RUN, CUT, RUN, END]]),
        ([["ask", "a", "follow"], OK], [[RUN, END, RUN, END]]),
        ([["ask", "a", "follow"], OK], [[RUN, RUN, END, END]]),
    ],
)
def test_the_truth_is_no_violation(caller: list[Entry], servers: list[list[Entry]]) -> None:
    assert violations(caller, *servers) == []


@pytest.mark.parametrize(
    ("caller", "servers", "text"),
    [
        ([ASK, OK], [[RUN, END, RUN, END]], "was executed more than once"),
        ([ASK, lost()], [[RUN, END], [RUN, END]], "was executed more than once"),
        ([KEYED, lost(), KEYED, OK], [[RUN, END, RUN, END]], "was executed more than once"),
        ([ASK, OK], [], "was told of as executed, and was not"),
        ([ASK, ["told", "a", "Aborted", True]], [], "was told of as executed, and was not"),
        ([ASK, refused()], [[RUN, END]], "was told of as never begun, and was executed"),
        ([KEYED, lost(), KEYED, OK], [[RUN, RUN, CUT, END]], "began at server while it ran there"),
        ([ASK, lost()], [[RUN, CUT, RUN, CUT]], "was executed more than once"),
        ([KEYED, refused(), KEYED, refused()], [[RUN, END]], "was told of as never begun, and was executed"),
        ([ASK], [[RUN, END]], "ended for its caller with nothing"),
        ([ASK, OK], [[RUN]], "began at server and never ended"),
        ([], [[RUN, END]], "was executed, and nobody asked for it"),
        ([ASK, ["bad", "a", "1 came instead of 2"], OK], [[RUN, END]], "caller saw that 1 came instead of 2"),
    ],
)
def test_every_untruth_is_a_violation(caller: list[Entry], servers: list[list[Entry]], text: str) -> None:
    (found,) = violations(caller, *servers)
    assert found.startswith("a: ")
    assert text in found


def test_what_was_killed_need_not_have_ended() -> None:
    assert violations([ASK], [RUN, END], killed="caller") == []
    assert violations([ASK, lost()], [RUN], killed="server") == []


def test_a_journal_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    with journal.asking("a", "echo"), journal.running("a"):
        journal.expect("a", True, "fine")
        journal.expect("a", False, "wrong")
    error = duplex.Unavailable("gone")
    error.may_have_executed = False
    with pytest.raises(BaseExceptionGroup), journal.asking("b", "echo"), journal.running("b"):
        raise BaseExceptionGroup("", [KeyboardInterrupt(), error])
    with path.open("ab") as file:
        file.write(b'["ask", "c')  # killed while it wrote
    assert read(path) == [
        ["ask", "a", "echo"],
        ["run", "a"],
        ["bad", "a", "wrong"],
        ["end", "a", "ok"],
        ["told", "a", "ok", None],
        ["ask", "b", "echo"],
        ["run", "b"],
        ["end", "b", "Unavailable"],
        ["told", "b", "Unavailable", False],
    ]


async def test_what_a_group_is_about() -> None:
    found: list[BaseException] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as cancelled:
            found.append(cancelled)
            raise
    (cut,) = found
    value = ValueError()
    assert leaf(BaseExceptionGroup("", [cut])) is cut
    assert leaf(BaseExceptionGroup("", [cut, ExceptionGroup("", [value])])) is value
