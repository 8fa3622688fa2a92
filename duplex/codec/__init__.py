"""Python values and payload bytes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from duplex._errors import ConfigurationError
from duplex.codec._base import Buffer, Codec, Decoder, LiveKind, LiveValues
from duplex.codec._msgpack import MsgpackCodec

#: Every codec that a peer offers, by name.
CODECS: Final[Mapping[str, Codec]] = MappingProxyType({codec.name: codec for codec in (MsgpackCodec(),)})


def get_codec(name: str) -> Codec:
    """Return a codec by its name. Raises ``ConfigurationError`` if there is none."""
    try:
        return CODECS[name]
    except KeyError:
        raise ConfigurationError(f"there is no codec {name!r}; there are: {', '.join(CODECS)}") from None


__all__ = ["Buffer", "Codec", "Decoder", "LiveKind", "LiveValues", "MsgpackCodec", "CODECS", "get_codec"]
