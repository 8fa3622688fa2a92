"""How much the other side may send."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What is taken of one connection, which ends with more. Sizes in bytes.

    They are looked at when the head of a frame has come, before there is room for its body.
    """

    #: One frame of a message.
    frame: int
    #: Frames of a message, those included that are empty.
    frames: int
    #: A message, all its frames together.
    message: int
    #: Commands that are not messages: all those that come while these bounds hold, but for ``PING`` and ``PONG`` of a connection
    #: that is trusted.
    commands: int
