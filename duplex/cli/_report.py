"""What goes to stderr: errors as a line, and the exit codes; and standard streams that cannot be used.

Wrong command lines are reported here too, so this imports nothing that takes long.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import Final

import click

from duplex._errors import ConfigurationError, ConnectError, EncodeError, HandshakeError, RPCError
from duplex._status import StatusCode
from duplex.cli._errors import FAILED, USAGE, CommandError

#: Added to a status code, as grpcurl does, so that scripts can tell outcomes apart.
STATUS_BASE: Final = 64
#: What the shell reports of a process that wrote where nobody reads (128 + SIGPIPE).
BROKEN_PIPE: Final = 141

# -- streams that cannot be written to -------------------------------------------------------------------


def open_missing_streams() -> None:
    """Take the place of standard streams that were closed before Python started, as by ``>&-``.

    Otherwise the next socket that is opened would get the number of one of them, and what is meant for it. What
    is written to the stand-in for stdout fails, because results that nobody gets are an error; stdin is at its
    end, and what would go to stderr is dropped.
    """
    if sys.stdin is None:
        _stand_in(0, os.O_RDONLY)
    if sys.stdout is None:
        _stand_in(1, os.O_RDONLY)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        _stand_in(2, os.O_WRONLY)
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _stand_in(descriptor: int, mode: int) -> None:
    opened = os.open(os.devnull, mode)
    if opened != descriptor:
        os.dup2(opened, descriptor)
        os.close(opened)


def report_unwritable(error: OSError) -> int:
    """Tell that output could not be written, unless its reader has just gone, and return the exit code."""
    # Whatever Python still holds for stdout goes nowhere, without a complaint at the end.
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return BROKEN_PIPE
    reason = "it is closed" if error.errno == errno.EBADF else error.strerror or str(error)
    return report(CommandError(f"standard output cannot be written to: {reason}", FAILED))


# -- errors ----------------------------------------------------------------------------------------------


def exit_code(error: Exception) -> int:
    """Return what the process ends with after an error."""
    if isinstance(error, CommandError):
        return error.exit_code
    if isinstance(error, RPCError):
        return STATUS_BASE + error.code
    if isinstance(error, HandshakeError) and error.reason == "auth":
        return STATUS_BASE + StatusCode.UNAUTHENTICATED
    if isinstance(error, (ConnectError, HandshakeError)):
        return STATUS_BASE + StatusCode.UNAVAILABLE
    if isinstance(error, (ConfigurationError, EncodeError)):
        return USAGE
    return FAILED


def error_text(error: Exception) -> str:
    """Return what stderr is told: one line, then details in JSON and what else came with the error."""
    if not isinstance(error, RPCError):
        return f"error: {printable(str(error))}"
    lines = [f"error: {error.code.name}: {printable(str(error))}"]
    notes = [printable(note) for note in getattr(error, "__notes__", ())]
    details = error.details
    if notes and isinstance(details, dict):
        details = {key: value for key, value in details.items() if key != "traceback"}
    if details not in (None, {}):
        from duplex.cli._output import to_json

        try:
            lines.append(f"details: {to_json(details).decode()}")
        except CommandError:
            lines.append(f"details: {printable(repr(details))}")
    return "\n".join([*lines, *notes])


def printable(text: str) -> str:
    """Return text of the other side's with nothing in it that a terminal would obey."""
    return "".join(
        character if character in "\n\t" or character.isprintable() else ascii(character)[1:-1]
        for character in text
    )


def tell(text: str) -> None:
    """Write a line to stderr. That it cannot be written changes nothing else."""
    with contextlib.suppress(OSError):
        click.echo(text, err=True)


def report(error: Exception) -> int:
    """Write an error to stderr and return the exit code."""
    tell(error_text(error))
    return exit_code(error)
