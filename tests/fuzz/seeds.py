"""Writes the first inputs of every target, from the vectors of the specification: ``python -m tests.fuzz.seeds``."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from spec.vectors import kit, write
from tests.fuzz.inputs import Message, join
from tests.transports.zmtp import sessions

CORPUS: Final = Path(__file__).with_name("corpus")
#: Longer inputs teach a fuzzer nothing that shorter ones do not.
LONGEST: Final = 2000
_CODECS: Final = ("msgpack", "json", "raw")


def vectors(*names: str) -> Iterator[Any]:
    """The vectors of some files."""
    for name in names:
        yield from json.loads(Path(kit.__file__).with_name(f"{name}.json").read_text(encoding="utf-8"))[
            "vectors"
        ]


def frames_of(vector: Any) -> list[bytes]:
    """The frames of what a vector is about."""
    rest = vector.get("frames", vector.get("attachments", []))
    return [bytes.fromhex(vector["hex"]), *(bytes.fromhex(frame) for frame in rest if isinstance(frame, str))]


def streams() -> Iterator[bytes]:
    """What comes to one end of a ZMTP connection: after the greeting of either version, and the handshake, up to two of these."""
    after = (
        b"",
        sessions.message(b"HELLO"),
        sessions.message(b"one", b"", b"three"),
        sessions.frame(b"long", long=True),
        sessions.message(bytes(300)),
        sessions.command(b"PING", b"\0\x0fcontext"),
        sessions.command(b"SUBSCRIBE", b"x"),
        sessions.command(b"ERROR", b"\x03400"),
    )
    for mode, (first, second) in enumerate(itertools.product(after, after)):
        beginning = sessions.greeting(version=(3, mode // 2 % 2))
        ready = sessions.ready(b"ROUTER" if mode % 2 else b"DEALER", sessions.prop(b"Identity", b"me"))
        yield bytes([mode * 7 % 256 & ~1 | mode % 2 | 2]) + beginning + ready + first + second
    yield b"\0" + sessions.greeting(mechanism=b"CURVE")
    yield b"\0" + sessions.greeting(version=(1, 0))
    yield b"\0" + b"GET / HTTP/1.1\r\n\r\n"


def seeds() -> Iterator[tuple[str, bytes]]:
    """Targets and inputs."""
    for stream in streams():
        yield "zmtp", stream
    for vector in vectors(*(group.name for group in write.GROUPS)):
        if not vector.get("hex"):
            continue
        role = vector["state"]["role"] == "connecting"
        state = 2 if vector["state"]["messages"] else 1
        yield "connection", join(role | state << 1, [Message(0, frames_of(vector))])
    for vector in vectors("values", "arguments"):
        if not vector.get("hex"):
            continue
        yield "codec", bytes([_CODECS.index(vector["codec"])]) + join(0, [Message(0, frames_of(vector))])


def store(target: str, data: bytes) -> None:
    """Add an input to the corpus."""
    directory = CORPUS / target
    directory.mkdir(parents=True, exist_ok=True)
    (directory / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


if __name__ == "__main__":
    for _target, _data in seeds():
        if len(_data) <= LONGEST:
            store(_target, _data)
