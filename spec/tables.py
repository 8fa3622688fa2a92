"""Writes the state tables of ``dmtp.md`` from those that the implementation runs on.

``python -m spec.tables`` puts them into the document, between their markers; a test compares the two.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from duplex.protocol._states import (
    BINDING_LINK,
    CONNECTING_LINK,
    DROP,
    OPENER,
    RESPONDER,
    ChannelInput,
    LinkInput,
)

DOCUMENT: Final = Path(__file__).with_name("dmtp.md")

TABLES: Final[Mapping[str, tuple[Mapping[Any, Mapping[Any, int]], type[enum.IntEnum]]]] = {
    "connecting link": (CONNECTING_LINK, LinkInput),
    "binding link": (BINDING_LINK, LinkInput),
    "opener": (OPENER, ChannelInput),
    "responder": (RESPONDER, ChannelInput),
}


def render(name: str) -> str:
    """Return one table in Markdown; states that cannot occur have no row."""
    table, inputs = TABLES[name]
    states = next(iter(table)).__class__
    titles = ["state", *(_title(step_input.name) for step_input in inputs)]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for state, row in table.items():
        if row:
            cells = [f"**{state.name}**", *(_cell(row.get(step_input), states) for step_input in inputs)]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def insert(document: str) -> str:
    """Return a document with every table between its markers replaced."""
    for name in TABLES:
        begin, end = f"<!-- table: {name} -->\n", "<!-- end of table -->"
        table = f"{begin}{render(name)}\n{end}"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        document, count = pattern.subn(table, document)
        if count != 1:
            raise ValueError(f"the document has {count} places for the table {name!r}, not one")
    return document


def _title(name: str) -> str:
    direction, _, command = name.partition("_")
    return f"{'send' if direction == 'SEND' else 'receive'} {command if command != 'COMMAND' else 'other'}"


def _cell(step: int | None, states: type[enum.IntEnum]) -> str:
    if step is None:
        return "—"
    return "drop" if step == DROP else states(step).name


if __name__ == "__main__":
    DOCUMENT.write_text(insert(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
