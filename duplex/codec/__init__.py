"""Python values and payload bytes: what can travel, and how.

A codec knows nothing of calls, links or transports; what must stay connected to its origin (callbacks and
channels) goes through :class:`LiveValues`, which the engine provides.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from duplex._errors import ConfigurationError
from duplex.codec._base import Buffer, Codec, Decoder, LiveKind, LiveValues
from duplex.codec._json import JsonCodec
from duplex.codec._msgpack import MsgpackCodec
from duplex.codec._raw import RawCodec
from duplex.codec._types import foreign_types

__all__ = [
    "Codec",
    "Decoder",
    "Buffer",
    "LiveValues",
    "LiveKind",
    "MsgpackCodec",
    "JsonCodec",
    "RawCodec",
    "CODECS",
    "get_codec",
    "foreign_types",
]

_ALL: Final[tuple[Codec, ...]] = (MsgpackCodec(), JsonCodec(), RawCodec())

#: Every codec that a peer offers, by name; the first one is the default.
CODECS: Final[Mapping[str, Codec]] = MappingProxyType({codec.name: codec for codec in _ALL})


def get_codec(name: str) -> Codec:
    """Return a codec by its name. Raises ``ConfigurationError`` if there is none."""
    codec = CODECS.get(name)
    if codec is None:
        raise ConfigurationError(f"there is no codec {name!r}, only {', '.join(CODECS)}")
    return codec
