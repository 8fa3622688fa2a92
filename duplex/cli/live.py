"""Tables that are drawn again and again on a terminal, and elsewhere written one below the other.

For ``duplex top`` and for commands that other packages add. Not imported by what needs no picture, as it needs trio.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import click
import trio

if TYPE_CHECKING:
    from rich.console import Group

__all__ = ("Part", "columns", "line", "show_live")


class Part(NamedTuple):
    """A line about something, and a table below it.

    Attributes:
        title: the line.
        is_bad: something is wrong with it.
        headings: of the columns.
        rows: of the table, a text for each column. Whatever a terminal would obey is escaped.
        left: how many columns, from the first, are texts; the others are numbers, which stand at the right.
        empty: what is written instead of a table without rows, where no terminal is.
    """

    title: str
    is_bad: bool = False
    headings: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    left: int = 0
    empty: str = ""


async def show_live(look: Callable[[], Sequence[Part]], *, interval: float, count: int | None = None) -> None:
    """Show what there is, again and again.

    On a terminal one picture takes the place of the one before. What is too wide for it ends with an ellipsis, and
    rows that do not fit are left out. Elsewhere each is written to stdout below the one before, in full. It may be cancelled at any time.

    Args:
        look: returns what there is now.
        interval: seconds between two looks.
        count: how many looks; ``None`` for no end, and then the picture takes the whole screen.
    """
    if sys.stdout.isatty():
        await _draw(look, interval, count)
    else:
        await _write(look, interval, count)


async def _write(look: Callable[[], Sequence[Part]], interval: float, count: int | None) -> None:
    looks = 0
    while count is None or looks < count:
        await trio.sleep(interval)
        looks += 1
        for part in look():
            click.echo(line(part.title))
            table = columns([part.headings, *part.rows], part.left) if part.rows else [part.empty]
            for text in filter(None, table):
                click.echo(f"  {text}")
        sys.stdout.flush()


async def _draw(look: Callable[[], Sequence[Part]], interval: float, count: int | None) -> None:
    from rich.console import Console
    from rich.live import Live

    looks = 0
    # By trio's timers rather than by a thread of rich's it is drawn again.
    with Live(
        console=Console(), auto_refresh=False, screen=count is None, vertical_overflow="ellipsis"
    ) as live:
        while count is None or looks < count:
            live.update(_picture(look()), refresh=True)
            await trio.sleep(interval)
            looks += 1
        live.update(_picture(look()), refresh=True)


def _picture(parts: Sequence[Part]) -> Group:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    drawn: list[Text | Table] = []
    for part in parts:
        drawn.append(
            Text(
                line(part.title),
                style="red" if part.is_bad else "bold",
                no_wrap=True,
                overflow="ellipsis",
            )
        )
        if part.rows:
            table = Table(box=None, pad_edge=False)
            for column, name in enumerate(part.headings):
                table.add_column(name, justify="left" if column < part.left else "right", no_wrap=True)
            for row in part.rows:
                table.add_row(*(Text(line(cell)) for cell in row))
            drawn.append(table)
    return Group(*drawn)


def line(text: str) -> str:
    """Return what others say with nothing in it that makes another line of it, or that a terminal would obey."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def columns(rows: Sequence[Sequence[str]], left: int | None = None) -> list[str]:
    """Return rows as lines, with their columns below each other, and nothing in them that a terminal would obey.

    Args:
        rows: a text for each column.
        left: how many columns stand at the left, and the others at the right; ``None`` for all.
    """
    rows = [[line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if left is None or column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
