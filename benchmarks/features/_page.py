"""Reads the tables of ``docs/comparison.md``."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar, cast

from benchmarks.features._checks import Answer

_T = TypeVar("_T")

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "comparison.md"
#: Stands after what was taken from documentation.
TOLD: Final = "°"

_CELL: Final = re.compile(
    rf"(?:\*\*)?(?P<answer>yes|part|no)(?:\*\*)?(?:: (?P<words>.+?))?(?P<told> ?{TOLD})?"
)


class PageError(ValueError):
    """The page cannot be read as it should be."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """What the table says of one library and one feature.

    Attributes:
        answer: yes, part or no.
        words: what else it says.
        told: whether that is from documentation.
    """

    answer: Answer
    words: str
    told: bool


@dataclasses.dataclass(frozen=True)
class Page:
    """What the page says.

    Attributes:
        cells: what it says, by feature and title of the library.
        sources: where that is from, by the same, for the cells that are from documentation.
    """

    cells: dict[tuple[str, str], Cell]
    sources: dict[tuple[str, str], str]


def read(text: str) -> Page:
    """Read the page.

    Raises ``PageError`` if a table has a cell that says neither yes, part nor no, or a feature or a source twice.
    """
    cells: dict[tuple[str, str], Cell] = {}
    sources: dict[tuple[str, str], str] = {}
    for head, *rows in _tables(text):
        if head[:2] == ["source", "of"]:
            for source, of in rows:
                for library, _, features in (part.partition(": ") for part in of.split("; ")):
                    for feature in features.split(", "):
                        _enter(sources, (feature, library), source)
        elif head[0] == "":
            for feature, *row in rows:
                if len(row) != len(head) - 1:
                    raise PageError(f"{feature!r} has {len(row)} cells, and not {len(head) - 1}")
                for library, content in zip(head[1:], row, strict=True):
                    _enter(cells, (feature, library), _cell(feature, library, content))
    return Page(cells, sources)


def _enter(to: dict[tuple[str, str], _T], key: tuple[str, str], value: _T) -> None:
    if key in to:
        raise PageError(f"{key[0]!r} of {key[1]} stands there twice")
    to[key] = value


def _cell(feature: str, library: str, content: str) -> Cell:
    match = _CELL.fullmatch(content)
    if match is None:
        raise PageError(f"{feature!r} of {library} says {content!r}, which is none of yes, part and no")
    return Cell(cast("Answer", match["answer"]), match["words"] or "", match["told"] is not None)


def _tables(text: str) -> Iterator[Sequence[list[str]]]:
    """Give each table as rows of cells, without the line below its head."""
    rows: list[list[str]] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip().strip("|").split("|")])
        elif rows:
            yield [rows[0], *rows[2:]]
            rows = []
