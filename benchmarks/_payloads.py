"""What is sent, the same for all peers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

#: What small calls and items carry: about 64 bytes in msgpack.
SMALL: Final[Mapping[str, Any]] = {
    "id": 1234567,
    "name": "sensor-17/temperature",
    "value": 21.625,
    "ok": True,
    "tags": ["raw", "c"],
}
#: Stream items between two looks at the clock.
CHUNK: Final = 64

KiB: Final = 1024
MiB: Final = 1024 * KiB

#: Sizes of large payloads by name.
SIZES: Final[Mapping[str, int]] = {"1KiB": KiB, "64KiB": 64 * KiB, "1MiB": MiB, "64MiB": 64 * MiB}


def some_bytes(size: int) -> bytes:
    """Return bytes that do not compress to nothing."""
    return (bytes(range(256)) * (size // 256 + 1))[:size]
