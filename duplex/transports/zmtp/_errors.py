"""What is wrong with what came."""

from __future__ import annotations

from typing import Literal, TypeAlias, final

#: What an error is about: the first bytes, the protocol's version, who is there and how that is proved, properties that were
#: told, kinds of sockets, a frame, a command, how much may come; or the other side refuses.
Kind: TypeAlias = Literal[
    "greeting",
    "version",
    "mechanism",
    "handshake",
    "metadata",
    "socket type",
    "frame",
    "command",
    "bounds",
    "refused",
]


@final
class ZmtpError(Exception):
    """What came is not ZMTP as this side takes it, and the connection cannot go on.

    Args:
        kind: what the error is about, in a word, to count by.
        what: what is wrong.

    Attributes:
        kind: see above.
        at: bytes of the stream before what is wrong; ``None`` as long as nobody has said.
    """

    def __init__(self, kind: Kind, what: str) -> None:
        super().__init__(what)
        self.kind = kind
        self.at: int | None = None

    def __str__(self) -> str:
        what = super().__str__()
        return what if self.at is None else f"{what} (at byte {self.at} of what came)"
