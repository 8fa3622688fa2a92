"""Metadata: the key-value headers of a call and the trailers that come back with its status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

#: Keys are lower-case ASCII words; values are text or bytes.
Metadata: TypeAlias = Mapping[str, str | bytes]

#: Keys that begin with this belong to the protocol.
RESERVED_PREFIX = "duplex-"
#: The caller's name for what a call is to do, so that it is done once: see :mod:`duplex.engine.serving.idempotency`.
IDEMPOTENCY_KEY = "duplex-idempotency-key"
#: Bytes of it, at most.
MAX_IDEMPOTENCY_KEY = 255
#: What a peer whose callee side keeps such keys announces in its ``HELLO``.
IDEMPOTENCY_FEATURE = "idempotency-keys"
#: The caller relies on the stream of results to be resumable.
RESUME_KEY = "duplex-resume"

#: How often the same caller has made the call before, as decimal text; not there if it has not.
PREVIOUS_ATTEMPTS = "duplex-previous-attempts"

#: A trailer: after how many milliseconds, as decimal text, the same call may be tried again.
RETRY_AFTER = "duplex-retry-after"
#: A trailer, with any value: the call was refused before its handler began.
REFUSED = "duplex-refused"

_KEY_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")


def metadata_size(metadata: Mapping[Any, Any]) -> int:
    """Return the bytes that metadata counts for: each key and value in UTF-8, and 32 an entry.

    The 32 an entry are HTTP/2's way of counting (RFC 9113, section 10.5.1), so that many tiny entries
    are bounded too. Entries must have passed :func:`check_metadata`.
    """
    return sum(
        len(key) + (len(value) if isinstance(value, bytes) else len(value.encode())) + 32
        for key, value in metadata.items()
    )


def check_metadata(metadata: Mapping[Any, Any]) -> str | None:
    """Return what is wrong with metadata in one sentence, or ``None`` if it is well formed."""
    for key, value in metadata.items():
        if not isinstance(key, str) or not key:
            return f"metadata key {key!r} must be a non-empty str"
        if not _KEY_CHARACTERS.issuperset(key):
            return f"metadata key {key!r} may hold only a-z, 0-9, '-', '_' and '.'"
        if not isinstance(value, (str, bytes)):
            return f"metadata {key!r} must be str or bytes, not {type(value).__name__}"
        if isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError:
                return f"metadata {key!r} is not encodable as UTF-8"
    return None


def without_reserved(metadata: Mapping[Any, Any]) -> tuple[dict[Any, Any], list[str]]:
    """Return metadata without the keys that belong to the protocol, and those.

    What an application passes on of a call that it made, or makes up, must not speak in the protocol's name: with
    :data:`REFUSED` among them a caller would take a call that ran for one that never began, and make it again.
    """
    reserved = [key for key in metadata if isinstance(key, str) and key.startswith(RESERVED_PREFIX)]
    return {key: value for key, value in metadata.items() if key not in reserved}, reserved


def read_previous_attempts(metadata: Metadata) -> int:
    """Return what :data:`PREVIOUS_ATTEMPTS` of metadata says; 0 if it is not there or is nonsense."""
    value = metadata.get(PREVIOUS_ATTEMPTS)
    if not isinstance(value, str) or not value.isascii() or not value.isdigit() or len(value) > 9:
        return 0
    return int(value)


def retry_after_text(seconds: float) -> str:
    """Return what :data:`RETRY_AFTER` says for a number of seconds."""
    return str(max(0, round(1000 * seconds)))


def read_retry_after(trailers: Metadata) -> float | None:
    """Return the seconds that :data:`RETRY_AFTER` of trailers says; ``None`` if it is not there or is nonsense."""
    value = trailers.get(RETRY_AFTER)
    if not isinstance(value, str) or not value.isascii() or not value.isdigit() or len(value) > 15:
        return None
    return int(value) / 1000
