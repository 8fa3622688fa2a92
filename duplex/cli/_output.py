"""What goes to stdout and stderr: results as JSON, errors as a line, and the exit codes."""

from __future__ import annotations

import base64
import contextlib
import errno
import math
import os
import select
import sys
from collections.abc import Mapping
from typing import Any, Final

import click
import msgspec
import trio

import duplex
from duplex.cli._errors import FAILED, USAGE, CommandError

#: Added to a status code, as grpcurl does, so that scripts can tell outcomes apart.
STATUS_BASE: Final = 64
#: What the shell reports of a process that wrote where nobody reads (128 + SIGPIPE).
BROKEN_PIPE: Final = 141


def to_plain(value: Any) -> Any:
    """Return what stands for a value in JSON.

    Bytes become base64, arrays nested lists, numbers that are not finite the strings ``NaN``, ``Infinity`` and
    ``-Infinity`` (as in the JSON mapping of protobuf), and complex numbers pairs. Dates are left to msgspec.

    Raises:
        CommandError: it is a callback, a channel or the like, or two keys of a dict would be the same.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else _not_finite(value)
    if isinstance(value, Mapping):
        plain = {_key(key): to_plain(item) for key, item in value.items()}
        if len(plain) < len(value):
            raise CommandError(
                "the result holds a dict of which two keys are the same text in JSON, as 1 and '1' are",
                FAILED,
            )
        return plain
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_plain(item) for item in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if isinstance(value, complex):
        return [to_plain(value.real), to_plain(value.imag)]
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
        return to_plain(_numpy_plain(numpy, value))
    try:
        return msgspec.to_builtins(value)
    except TypeError:
        raise CommandError(
            f"the result holds a {type(value).__name__}, which has no form in JSON", FAILED
        ) from None


def _numpy_plain(numpy: Any, value: Any) -> Any:
    if isinstance(value, numpy.complexfloating):
        return complex(value)
    # tolist() of what is wider than a float gives itself.
    return float(value) if isinstance(value, numpy.floating) else value.tolist()


def _not_finite(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _key(key: Any) -> str:
    plain = to_plain(key)
    return plain if isinstance(plain, str) else msgspec.json.encode(plain).decode()


def to_json(value: Any, *, pretty: bool = False) -> bytes:
    """Return a value as JSON in UTF-8, in one line or indented.

    Raises:
        CommandError: it has no form in JSON.
    """
    try:
        encoded = msgspec.json.encode(to_plain(value))
    except RecursionError:
        raise CommandError("the result is nested too deeply to print", FAILED) from None
    return msgspec.json.format(encoded, indent=2) if pretty else encoded


class ResultWriter:
    """Writes results to stdout as they come.

    A reader that is slow holds the call back, and never keeps the command from being interrupted.

    Args:
        raw: strings and bytes are written as they are, strings with a line end.
        descriptor: where to; ``None`` for stdout.
    """

    def __init__(self, *, raw: bool, descriptor: int | None = None) -> None:
        self._raw = raw
        self._descriptor = sys.stdout.fileno() if descriptor is None else descriptor
        self._pretty = os.isatty(self._descriptor)

    async def write(self, value: Any, *, alone: bool) -> None:
        """Write one result; if it is the call's only one, indented on a terminal.

        Raises:
            OSError: it cannot be written; ``BrokenPipeError`` if nobody reads any more.
            CommandError: it has no form in JSON.
        """
        if self._raw and isinstance(value, str):
            data = value.encode() + b"\n"
        elif self._raw and isinstance(value, (bytes, bytearray, memoryview)):
            data = bytes(value)
        else:
            data = to_json(value, pretty=alone and self._pretty) + b"\n"
        if len(data) <= select.PIPE_BUF and select.select((), (self._descriptor,), (), 0)[1]:
            os.write(self._descriptor, data)
        else:
            await trio.to_thread.run_sync(self._write_all, data, abandon_on_cancel=True)

    def _write_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]


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
    if isinstance(error, duplex.RPCError):
        return STATUS_BASE + error.code
    if isinstance(error, (duplex.ConnectError, duplex.HandshakeError)):
        return STATUS_BASE + duplex.StatusCode.UNAVAILABLE
    if isinstance(error, (duplex.ConfigurationError, duplex.EncodeError)):
        return USAGE
    return FAILED


def error_text(error: Exception) -> str:
    """Return what stderr is told: one line, then details in JSON and what else came with the error."""
    if not isinstance(error, duplex.RPCError):
        return f"error: {printable(str(error))}"
    lines = [f"error: {error.code.name}: {printable(str(error))}"]
    notes = [printable(note) for note in getattr(error, "__notes__", ())]
    details = error.details
    if notes and isinstance(details, dict):
        details = {key: value for key, value in details.items() if key != "traceback"}
    if details not in (None, {}):
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
