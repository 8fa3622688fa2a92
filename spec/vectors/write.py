"""Writes the vectors: ``python -m spec.vectors.write``.

What a vector expects is written here by hand and comes from no implementation; msgpack does the bytes. A test
compares the files with what this writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgpack

from spec.vectors import (
    kit,
    payloads,
    vectors_of_batch,
    vectors_of_close,
    vectors_of_data,
    vectors_of_handshake,
    vectors_of_link,
    vectors_of_open,
)

HERE: Final = Path(__file__).parent

GROUPS: Final = [
    vectors_of_handshake.GROUP,
    vectors_of_link.GROUP,
    vectors_of_open.GROUP,
    vectors_of_data.GROUP,
    vectors_of_close.GROUP,
    vectors_of_batch.GROUP,
]


def bytes_of(value: Any) -> bytes:
    """Return a value in msgpack."""
    return bytes(msgpack.packb(value, use_bin_type=True))


#: The greatest integer that every reader of JSON takes as it is.
MAX_INTEGER: Final = 2**53 - 1


def plain(value: Any) -> Any:
    """Return a value as every reader of JSON has it: bytes are ``{"hex": ...}``, floats and large integers are text."""
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, float):
        return {"float": repr(value)}
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        return {"int": str(value)}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def message(commands: Sequence[Any], frames: Sequence[bytes]) -> dict[str, Any]:
    """Return a transport message with its meaning."""
    return {
        "hex": bytes_of(commands).hex(),
        "frames": [frame.hex() for frame in frames],
        "commands": plain(commands),
    }


def link_vector(vector: kit.Vector) -> dict[str, Any]:
    """Return a vector of DMTP as JSON has it."""
    result: dict[str, Any] = {
        "name": vector.name,
        "state": {
            "role": vector.role,
            "hello": plain(vector.hello),
            "messages": [
                {"direction": step.direction, **message(step.commands, step.frames)} for step in vector.state
            ],
        },
    }
    if vector.raw is not None:
        result["hex"] = vector.raw.hex()
        result["frames"] = [frame.hex() for frame in vector.frames]
    elif vector.commands is None:
        result["hex"] = None
        result["frames"] = []
    else:
        result.update(message(vector.commands, vector.frames))
    if vector.pad_to is not None:
        result["pad_to"] = vector.pad_to
    if vector.sendable:
        result["sendable"] = True
    if vector.violation is not None:
        result["violation"] = vector.violation
        result["outcome"] = vector.outcome
    result["events"] = plain(vector.events)
    result["answers"] = plain(vector.answers)
    result["after"] = vector.after
    return result


def text_of(content: dict[str, Any]) -> str:
    """Return a file's text: one line for each field of a vector, so that changes can be read."""
    vectors = []
    for vector in content["vectors"]:
        lines = [
            f"   {json.dumps(name)}: {json.dumps(value, allow_nan=False)}" for name, value in vector.items()
        ]
        vectors.append("  {\n" + ",\n".join(lines) + "\n  }")
    about = json.dumps(content["about"])
    return f'{{\n "about": {about},\n "vectors": [\n' + ",\n".join(vectors) + "\n ]\n}\n"


def files() -> Iterator[tuple[Path, str]]:
    """Return every file with its text."""
    groups: dict[str, Any] = {}
    for group in GROUPS:
        groups[group.name] = {
            "about": group.about,
            "vectors": [link_vector(vector) for vector in group.vectors],
        }
    for name, (about, vectors) in payloads.GROUPS.items():
        groups[name] = {"about": about, "vectors": plain(vectors)}
    for name, content in groups.items():
        yield HERE / f"{name}.json", text_of(content)


if __name__ == "__main__":
    for path, text in files():
        path.write_text(text, encoding="utf-8")
