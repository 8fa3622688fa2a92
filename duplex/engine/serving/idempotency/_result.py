"""How a call with an idempotency key ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, final

import msgspec

from duplex._metadata import metadata_size
from duplex._status import StatusCode

#: What a result costs in memory beside its contents, roughly; so that many empty ones count, too.
OVERHEAD: Final = 768


@final
class CallResult(msgspec.Struct, frozen=True):
    """How a call ended: all that ``CLOSE`` says."""

    status: int
    payload: bytes | None = None
    attachments: tuple[bytes, ...] = ()
    message: str = ""
    details: bytes | None = None
    trailers: Mapping[str, str | bytes] | None = None

    @property
    def size(self) -> int:
        """Bytes that it takes to remember it."""
        return (
            OVERHEAD
            + len(self.payload or b"")
            + sum(map(len, self.attachments))
            + len(self.message)
            + len(self.details or b"")
            + metadata_size(self.trailers or {})
        )


#: The answer to an attempt that its caller cancelled.
GIVEN_UP: Final = CallResult(StatusCode.CANCELLED, message="the caller cancelled the call")
#: For a notification that joins a run: nobody waits for more.
JOINED: Final = CallResult(StatusCode.OK)
