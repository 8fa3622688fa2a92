"""The maps of the built-in services in ``spec/drpc.md`` have the keys, in the order, that peers send."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from duplex import MethodStatistics
from duplex.builtin import ServiceSummary, Snapshot
from duplex.service import MethodDescription, ParameterDescription, ServiceDescription, TypeDescription

DRPC = (Path(__file__).parents[2] / "spec" / "drpc.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("title", "struct"),
    [
        ("A **summary**", ServiceSummary),
        ("A **description**", ServiceDescription),
        ("A **method** map", MethodDescription),
        ("A **parameter** map", ParameterDescription),
        ("A **type** map", TypeDescription),
        ("A **snapshot**", Snapshot),
        ("A **counts** map", MethodStatistics),
    ],
)
def test_keys(title: str, struct: type[msgspec.Struct]) -> None:
    table = DRPC.split(f"\n{title}", 1)[1].split("\n\n")[1]
    written = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    assert written == [field.encode_name for field in msgspec.structs.fields(struct)]
    optional = {
        key for key in written if re.search(rf"^\| `{re.escape(key)}` .*optional:", table, re.MULTILINE)
    }
    assert optional == {
        field.encode_name for field in msgspec.structs.fields(struct) if field.default is msgspec.UNSET
    }
