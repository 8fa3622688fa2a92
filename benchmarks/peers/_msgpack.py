"""The serializer of peers that bring none: msgpack by msgspec, which is also what Duplex uses."""

from __future__ import annotations

from typing import Any

import msgspec

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(dict[str, Any]).decode
