"""The table of types that travel says what happens."""

from __future__ import annotations

import re
import sys
import types
from typing import Any, Final

import pytest

from duplex._errors import ConfigurationError, EncodeError
from duplex.codec import CODECS
from tests.codec.test_round_trip import same
from tests.docs.markdown import ROOT, blocks

PAGE: Final = (ROOT / "docs" / "reference" / "types.md").read_text(encoding="utf-8")
CELL: Final = re.compile(r"`((?:[^`\\]|\\.)*)`|(refused)")


def rows() -> list[tuple[str, ...]]:
    lines = [line for line in PAGE.splitlines() if line.startswith("| `")]
    return [tuple(code.replace(r"\|", "|") or word for code, word in CELL.findall(line)) for line in lines]


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    module = types.ModuleType("page_of_types")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)  # classes look themselves up there
        exec(compile(blocks(PAGE)[0].text, "types.md", "exec", dont_inherit=True), module.__dict__)
    return module.__dict__


def test_there_is_a_table() -> None:
    assert len(rows()) > 30
    assert {len(row) for row in rows()} == {4}


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row[0]} {row[1]}")
def test_a_row_is_true(row: tuple[str, ...], names: dict[str, Any]) -> None:
    annotation, value = eval(row[0], names), eval(row[1], names)
    for name, shown in (("msgpack", row[2]), ("json", row[3])):
        codec = CODECS[name]
        if shown == "refused":
            with pytest.raises((EncodeError, ConfigurationError)):
                codec.decoder(annotation)(*codec.encode(value), None)
            continue
        sent = codec.encode(value)
        back = codec.decoder(annotation)(*sent, None)
        assert same(back, value)
        assert same(codec.convert(codec.decoder(Any)(*sent, None), annotation), value)
        plain = codec.decoder(Any)(*sent, None)
        assert (sent[0].decode() if name == "json" else repr(plain)) == shown
