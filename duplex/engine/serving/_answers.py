"""What is common to the answers of all ends: their trailers, and errors that are told as far as the other side takes them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from duplex._errors import as_text
from duplex._metadata import REFUSED, RESERVED_PREFIX, metadata_size, without_reserved
from duplex.codec._base import Buffer
from duplex.engine._failure import Failure
from duplex.engine.serving._end import Trailers

logger = logging.getLogger("duplex")

#: No trailers.
NONE: Final[Mapping[str, str | bytes]] = {}
#: What a caller is told when the error itself cannot be.
UNTOLD: Final = "the handler failed with an error that cannot be told; its peer's log says why"


class Close(Protocol):
    """Ends a call."""

    def __call__(
        self,
        status: int,
        payload: bytes | None = None,
        attachments: Sequence[Buffer] = (),
        message: str = "",
        details: bytes | None = None,
        trailers: Trailers = None,
        own: Mapping[str, str | bytes] = NONE,
    ) -> None:
        """End it. Raises what :meth:`duplex.protocol.Connection.close` does."""


def all_trailers(method: str, trailers: Trailers, own: Mapping[str, str | bytes]) -> dict[str, str | bytes]:
    """Return the handler's trailers with the protocol's own."""
    allowed, reserved = without_reserved(trailers or {})
    if reserved:
        logger.error(
            "trailers of %s are left out, because keys that begin with %r belong to the protocol: %s",
            method,
            RESERVED_PREFIX,
            ", ".join(reserved),
        )
    allowed.update(own)
    return allowed


def fail_somehow(
    close: Close,
    method: str,
    failure: Failure,
    trailers: Trailers,
    *,
    has_begun: bool,
    max_metadata: int,
) -> bool:
    """End a call with an error; without what the other side would not take, if it comes to that.

    Args:
        close: ends it.
        method: for the log.
        failure: the error.
        trailers: what the handler has set.
        has_begun: whether the handler may have done anything.
        max_metadata: what the other side takes, in bytes.

    Returns:
        Whether it was told. Raises nothing.
    """
    own = failure.own if has_begun else {**failure.own, REFUSED: "1"}
    if metadata_size(own) > max_metadata:
        own = NONE
    every = {**(trailers or {}), **failure.trailers}
    for kept, details in ((every, failure.details), (None, failure.details), (None, None)):
        try:
            close(failure.status, message=failure.message, details=details, trailers=kept, own=own)
            return True
        except Exception as problem:
            logger.warning("the error of %s was not taken as it is: %s", method, as_text(problem))
    return False
