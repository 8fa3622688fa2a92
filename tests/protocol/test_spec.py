"""The documents in ``spec`` name the same commands, fields, limits, states and numbers as the code."""

from __future__ import annotations

import re
import types
import typing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from duplex._status import StatusCode
from duplex.codec import LiveKind
from duplex.protocol import (
    END,
    FRAME_SLACK,
    MAX_ENTRIES,
    MAX_INTEGER,
    MAX_NAME,
    MAX_SERVICES,
    MAX_TEXT,
    MESSAGE_OVERHEAD,
    NOTIFY,
    NOTIFY_OVERHEAD,
    PROTOCOL_NAME,
    RESULT,
    UNARY,
    LimitsInfo,
)
from duplex.protocol import _commands as c
from duplex.protocol._outbox import BATCH_BYTES
from spec import tables

SPEC = tables.DOCUMENT.parent
DMTP = tables.DOCUMENT.read_text(encoding="utf-8")
DRPC = (SPEC / "drpc.md").read_text(encoding="utf-8")
ERRORS = (SPEC / "errors.md").read_text(encoding="utf-8")

COMMANDS: list[Any] = [
    c.Hello,
    c.Refuse,
    c.Announce,
    c.Ping,
    c.Pong,
    c.Goaway,
    c.Credit,
    c.Open,
    c.Data,
    c.End,
    c.Close,
    c.Cancel,
]


def section(document: str, title: str) -> str:
    """The text from a heading to the next one of the same or a higher level."""
    match = re.search(rf"^(#+) {re.escape(title)}.*?(?=^#{{1,6}} |\Z)", document, re.MULTILINE | re.DOTALL)
    assert match is not None, title
    return match.group()


def rows(text: str) -> list[list[str]]:
    """The rows of the first Markdown table, without its head."""
    lines = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert lines is not None
    table = [re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in lines.group().splitlines()]
    return [[cell.strip() for cell in row] for row in table[2:]]


def test_the_state_tables_are_those_of_the_code() -> None:
    assert tables.insert(DMTP) == DMTP, "run `python -m spec.tables`"


def test_a_document_without_a_place_for_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="0 places for the table 'connecting link'"):
        tables.insert("nothing")


def fields_of(name: str) -> list[list[str]]:
    start = DMTP.index(f"**`{name}`** = ")
    return rows(DMTP[start:])


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_every_field_has_its_name_type_and_default(command: Any) -> None:
    name = command.__name__.upper()
    number = command.__struct_config__.tag
    assert f"**`{name}`** = {number}" in DMTP
    documented = fields_of("PING" if name == "PONG" else name)
    fields = msgspec.structs.fields(command)
    assert [row[0] for row in documented] == [field.name for field in fields]
    hints = {
        name: in_its_turn(hint) for name, hint in typing.get_type_hints(command, include_extras=True).items()
    }
    for row, field in zip(documented, fields, strict=True):
        assert row[2] == default_text(field), row
        optional = type(None) in typing.get_args(hints[field.name])
        assert (row[1].endswith("?") or "nil" in row[1]) == optional, row


def in_its_turn(hint: Any) -> Any:
    """The type that a field has once it is its command's turn."""
    return hint.__metadata__[0] if typing.get_args(hint)[:1] == (msgspec.Raw,) else hint


def default_text(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return ""
    value = field.default
    if value is None or value is c.NO_ENTRIES:
        return "nil"
    if isinstance(value, tuple):
        return "`[" + ", ".join(f'"{item}"' for item in value) + "]`"
    if isinstance(value, LimitsInfo):
        return "`{}`"
    return f'`"{value}"`' if isinstance(value, str) else str(value)


def test_the_grammar_has_as_many_fields_as_the_commands() -> None:
    grammar = section(DMTP, "3.5 Grammar")
    for command in COMMANDS:
        name = command.__name__.lower()
        match = re.search(rf"^{name} += \[ (\d+) (.*?) \]", grammar, re.MULTILINE | re.DOTALL)
        assert match is not None
        assert int(match.group(1)) == command.__struct_config__.tag
        terms = re.sub(r"\([^)]*\)", "group", match.group(2)).split()
        fields = msgspec.structs.fields(command)
        assert [not term.startswith("*") for term in terms] == [field.required for field in fields]


def test_flags() -> None:
    assert f"the sum of `END` = {END}, `UNARY` = {UNARY}, `NOTIFY` = {NOTIFY}" in DMTP
    assert f"the sum of `END` = {END} and `RESULT` = {RESULT}" in DMTP


def test_limits_and_their_defaults() -> None:
    documented = {row[0].strip("`"): row for row in rows(section(DMTP, "9 Limits"))}
    fields = msgspec.structs.fields(LimitsInfo)
    assert list(documented) == [field.name for field in fields]
    for field in fields:
        assert documented[field.name][2] == str(field.default)
        (meta,) = [m for m in typing.get_args(field.type) if isinstance(m, msgspec.Meta)]
        assert documented[field.name][1] == f"{meta.ge} – 2^53 − 1"
        assert meta.le == MAX_INTEGER


def test_fixed_limits() -> None:
    text = section(DMTP, "9 Limits")
    fixed = {row[0]: row[1] for row in rows(text[text.index("Limits that are the same") :])}
    assert fixed["frame 0"] == f"`max_message` + `max_metadata` + {FRAME_SLACK}"
    assert fixed[f"elements of a frame 0 of more than {BATCH_BYTES} bytes"].startswith(
        f"at least {c.MAX_ELEMENTS} "
    )
    assert fixed["entries of metadata"] == str(MAX_ENTRIES)
    assert fixed["characters of a name or label"] == str(MAX_NAME)
    assert fixed["characters of a text"] == str(MAX_TEXT)
    assert fixed["services"] == str(MAX_SERVICES)
    hints = typing.get_type_hints(c.Hello, include_extras=True)
    for name in ("codecs", "features", "credentials"):
        assert fixed[name if name != "credentials" else "bytes of credentials"] == str(longest(hints[name]))


def longest(hint: Any) -> int:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        hint = typing.get_args(hint)[0]
    (meta,) = hint.__metadata__
    return int(meta.max_length)


def test_numbers_in_the_prose() -> None:
    assert f"always `{PROTOCOL_NAME}`" in DMTP
    assert f"an overhead of **{MESSAGE_OVERHEAD}**, or of **{NOTIFY_OVERHEAD}**" in " ".join(DMTP.split())
    assert MAX_INTEGER == 2**53 - 1


def test_status_codes() -> None:
    documented = [(row[0], row[1].strip("`")) for row in rows(section(ERRORS, "Status codes"))]
    assert documented == [(str(int(code)), code.name) for code in StatusCode]


def test_extension_types() -> None:
    text = section(DRPC, "5.1 `msgpack`")
    documented = {row[1]: row[0] for row in rows(text[text.index("**Extension types.**") :])}
    for kind in LiveKind:
        assert documented[kind.name.lower().replace("_", "-")] == str(int(kind))
    assert documented["timestamp"] == "−1"
    assert (documented["buffer"], documented["ndarray"], documented["local-time"]) == ("1", "2", "6")


@pytest.mark.parametrize("path", sorted(SPEC.rglob("*.md")), ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        document = path if not file else path.parent / file
        assert document.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert anchor in anchors, target


def test_sections_that_are_named_exist() -> None:
    for document, text in (("dmtp.md", DMTP), ("drpc.md", DRPC)):
        headings = re.findall(r"^#+ ([\d.]+) ", text, re.MULTILINE)
        for other in (DMTP, DRPC, ERRORS):
            for sections in re.findall(
                rf"{re.escape(document)}, sections? ((?:[\d.]*\d(?:, | and )?)+)", other
            ):
                for number in re.findall(r"[\d.]*\d", sections):
                    assert number in headings, f"{document} has no section {number}"
        for number in re.findall(r"(?<!md, )\bsection (\d[\d.]*\d|\d)\b", text):
            rfc = re.search(rf"RFC \d+, section {re.escape(number)}", text)
            assert number in headings or rfc is not None, f"{document} has no section {number}"


def test_every_violation_named_in_the_text_is_in_the_table() -> None:
    table = section(DMTP, "11 Violations")
    known = set(re.findall(r"^\| (V\d+) \|", table, re.MULTILINE))
    for text in (DMTP, DRPC, ERRORS):
        assert set(re.findall(r"\bV\d+\b", text)) <= known
