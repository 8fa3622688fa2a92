"""Tables that are drawn again and again, or written one below the other."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

import pytest
import trio

from duplex.cli.live import Part, columns, line, show_live

ROWS = [("calc.add", "12", "1 ms"), ("calc.divide\n", "3", "\x1b[2J")]


class Terminal(io.StringIO):
    """What is written to it, as to a terminal."""

    def isatty(self) -> bool:
        return True


def look() -> Sequence[Part]:
    table = Part("calc\x07", False, ("method", "calls", "p50"), ROWS, 1)
    return [table, Part("gone", True, ("method",)), Part("idle", empty="no calls")]


def test_columns_stand_below_each_other() -> None:
    assert columns([("a", "b", "c"), ("long", "1", "22")], 1) == ["a     b   c", "long  1  22"]
    assert columns([("a", "b"), ("long", "1")]) == ["a     b", "long  1"]


def test_nothing_is_obeyed() -> None:
    assert line("a\nb\x1b[2J\u2028é") == r"a\nb\x1b[2J\u2028é"


async def test_without_a_terminal_all_is_written(
    capsys: pytest.CaptureFixture[str], autojump_clock: None
) -> None:
    began = trio.current_time()
    await show_live(look, interval=2.0, count=2)
    assert trio.current_time() - began == pytest.approx(4.0)
    once = r"""calc\x07
  method         calls      p50
  calc.add          12     1 ms
  calc.divide\n      3  \x1b[2J
gone
idle
  no calls
"""
    assert capsys.readouterr().out == once * 2


@pytest.mark.parametrize("width", [80, 24, 8])
async def test_a_terminal_of_any_width(
    width: int, monkeypatch: pytest.MonkeyPatch, autojump_clock: None
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", f"{width}")
    monkeypatch.setenv("LINES", "10")
    monkeypatch.setenv("TERM", "dumb" if width == 8 else "xterm")
    await show_live(look, interval=1.0, count=1)
    drawn = terminal.getvalue()
    assert "cal" in drawn
    assert "\x07" not in drawn
    assert ("no calls" in drawn) is False, "that is for where no picture is drawn"
    plain = [part for text in drawn.split("\n") for part in text.split("\r")]
    assert max(len(_visible(text)) for text in plain) <= width


def _visible(text: str) -> str:
    shown, codes = "", iter(text)
    for one in codes:
        if one == "\x1b":
            next(codes)
            while next(codes, "m") not in "mhlKAJHG":
                pass
        else:
            shown += one
    return shown


async def test_what_is_too_high_is_left_out(monkeypatch: pytest.MonkeyPatch, autojump_clock: None) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("LINES", "5")
    monkeypatch.setenv("TERM", "xterm")
    rows = [(f"row {number}",) for number in range(100)]
    with trio.move_on_after(3.5):
        await show_live(lambda: [Part("many", False, ("name",), rows, 1)], interval=1.0)
    drawn = terminal.getvalue()
    assert "row 1" in drawn
    assert "row 5" not in drawn
