"""What goes to stdout: results as JSON."""

from __future__ import annotations

import base64
import math
import os
import select
import sys
from collections.abc import Mapping
from typing import Any

import msgspec
import trio

from duplex.cli._errors import FAILED, CommandError


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
