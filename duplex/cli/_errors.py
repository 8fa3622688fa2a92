"""What a command says when it cannot go on."""

from __future__ import annotations

from typing import Final

#: Something failed on this side, such as binding an endpoint.
FAILED: Final = 1
#: The command line is wrong.
USAGE: Final = 2


class CommandError(Exception):
    """The command ends: ``message`` goes to stderr and ``exit_code`` to the shell.

    Args:
        message: one line, unless it shows a traceback of the user's own code.
        exit_code: what the process ends with.
    """

    def __init__(self, message: str, exit_code: int = USAGE) -> None:
        super().__init__(message)
        self.exit_code = exit_code
