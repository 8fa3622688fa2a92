"""The data of the specification is JSON that every language reads as it is, JavaScript first of all."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from spec.vectors import write
from tests.machine import require_program

SPEC: Final = Path(write.__file__).parents[1]
FILES: Final = sorted([*SPEC.glob("vectors/*.json"), *SPEC.glob("scenarios/*.json")])

#: Reads the files as any program in JavaScript would, and says what became of them.
SCRIPT: Final = """
const fs = require("fs");
const unsafe = [];
function walk(value, path) {
    if (typeof value === "number" && !Number.isSafeInteger(value)) unsafe.push(`${path}: ${value}`);
    if (value !== null && typeof value === "object")
        for (const [key, item] of Object.entries(value)) walk(item, `${path}/${key}`);
}
const contents = process.argv.slice(1).map((path) => {
    const content = JSON.parse(fs.readFileSync(path, "utf8"));
    walk(content, path);
    return content;
});
process.stdout.write(JSON.stringify({ unsafe, contents }));
"""


def once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A map, whose keys all differ."""
    found = dict(pairs)
    assert len(found) == len(pairs), [key for key, _ in pairs]
    return found


def never(number: str) -> Any:
    """What a number that no integer of JSON is becomes."""
    raise AssertionError(number)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_numbers_are_safe_integers_and_keys_differ(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    content = json.loads(
        text, object_pairs_hook=once, parse_float=never, parse_constant=never, parse_int=safe
    )
    assert content


def safe(number: str) -> int:
    """An integer that a double holds, and its neighbours too."""
    assert abs(int(number)) <= write.MAX_INTEGER, number
    return int(number)


def test_node_reads_what_is_written() -> None:
    node = require_program("node")
    done = subprocess.run(
        [node, "-e", SCRIPT, *map(str, FILES)], capture_output=True, encoding="utf-8", timeout=60, check=True
    )
    read = json.loads(done.stdout)
    assert read["unsafe"] == []
    for path, content in zip(FILES, read["contents"], strict=True):
        # As text: to Python 1 and 1.0 are equal.
        wanted = json.loads(path.read_text(encoding="utf-8"))
        assert json.dumps(content, sort_keys=True) == json.dumps(wanted, sort_keys=True), path.name
