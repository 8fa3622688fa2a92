"""What the tests of codecs share."""

from __future__ import annotations

import typing
from typing import Any

from duplex._errors import DecodeError
from duplex.codec import CODECS, LiveKind, LiveValues, MsgpackCodec

CODEC = MsgpackCodec()
JSON = CODECS["json"]
RAW = CODECS["raw"]

#: The smallest buffer that travels as an attachment.
LARGE = 65_536


def through(value: Any, annotation: Any = Any, live: LiveValues | None = None) -> Any:
    """Send a value through the msgpack codec."""
    payload, attachments = CODEC.encode(value, live)
    return CODEC.decoder(annotation)(payload, attachments, live)


class Remote:
    """What a live value is at its other side."""

    def __init__(self, kind: LiveKind, number: int) -> None:
        self.kind = kind
        self.number = number
        self.annotation: Any = None

    def __repr__(self) -> str:
        return f"Remote({self.kind.name}, {self.number})"


class FakeLive:
    """Both sides of a call in one: exports functions and what ``kinds`` names, imports as :class:`Remote`."""

    def __init__(self, kinds: dict[type, LiveKind] | None = None, max_attachments: int = 64) -> None:
        self.max_attachments = max_attachments
        self.max_elements = 65_536
        self.kinds = kinds or {}
        self.exported: list[Any] = []
        self.imported: list[tuple[LiveKind, int]] = []

    def export(self, value: Any) -> tuple[LiveKind, int] | None:
        """See :class:`LiveValues`."""
        kind = LiveKind.CALLBACK if callable(value) else self.kinds.get(type(value))
        if kind is None:
            return None
        self.exported.append(value)
        return kind, len(self.exported)

    def import_(self, kind: LiveKind, number: int) -> Any:
        """See :class:`LiveValues`."""
        if (kind, number) in self.imported:
            raise DecodeError(f"{kind.name} {number} was imported before")
        self.imported.append((kind, number))
        return Remote(kind, number)

    def adapt(self, value: Any, annotation: Any) -> Any:
        """See :class:`LiveValues`."""
        if not isinstance(value, Remote):
            raise DecodeError(f"expected a {typing.get_origin(annotation) or annotation}, got {value!r}")
        value.annotation = annotation
        return value
