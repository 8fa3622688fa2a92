"""How each side proves who it is: what comes between the greetings and the first message."""

from __future__ import annotations

from typing import Final, Protocol, final

from duplex.transports.zmtp._commands import (
    Command,
    Properties,
    decode_properties,
    encode_command,
    encode_properties,
)
from duplex.transports.zmtp._errors import ZmtpError


class Mechanism(Protocol):
    """One side's part of a handshake, for one connection."""

    @property
    def name(self) -> str:
        """As it stands in the greeting, such as ``NULL``; up to 20 capital letters."""

    @property
    def as_server(self) -> bool:
        """Whether this side is the server of the mechanism, where there is one."""

    def begin(self, properties: Properties) -> bytes:
        """Return what is to be sent as soon as both sides have greeted; nothing, if it is for the other side to begin.

        Args:
            properties: of this side's socket, which the other one is to be told.
        """

    def receive(self, command: Command) -> tuple[bytes, Properties | None]:
        """Take a command of the other side's.

        Returns:
            What is to be sent, and the properties of the other side's socket; ``None`` if there is more to come.

        Raises:
            ZmtpError: it is not what has to come now.
        """


@final
class Null:
    """Nobody proves anything: both tell their properties."""

    name: Final = "NULL"
    as_server: Final = False

    def begin(self, properties: Properties) -> bytes:
        """See :meth:`Mechanism.begin`."""
        return encode_command(b"READY", encode_properties(properties))

    def receive(self, command: Command) -> tuple[bytes, Properties]:
        """See :meth:`Mechanism.receive`."""
        if command.name != b"READY":
            raise ZmtpError("handshake", f"the command {command.name!r} came where READY was due")
        return b"", decode_properties(command.body)
