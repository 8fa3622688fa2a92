"""What a process of the oracle did and what it was told, one JSON array a line.

Every line is one ``write``, so what a process noted before it was killed is there.

=========== ==================================== ==========================================================
``ask``     id, kind                             a call is about to be made
``told``    id, outcome, may_have_executed       how it ended for the caller
``run``     id                                   a handler, or a callback, has begun
``end``     id, outcome                          it has ended
``bad``     id, text                             a value, an item or an end that is wrong, whoever sees it
=========== ==================================== ==========================================================
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

import trio

import duplex

#: A line.
Entry: TypeAlias = "list[Any]"

OK: Final = "ok"
CANCELLED: Final = "Cancelled"


class Journal:
    """The journal of one process."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, *entry: Any) -> None:
        """Write a line; from any thread."""
        os.write(self._file, json.dumps(entry).encode() + b"\n")

    @contextlib.contextmanager
    def running(self, name: str) -> Iterator[None]:
        """Note that a handler runs, and how it ends."""
        self.note("run", name)
        how = OK
        try:
            yield
        except BaseException as error:
            how = type(leaf(error)).__name__
            raise
        finally:
            self.note("end", name, how)

    @contextlib.contextmanager
    def asking(self, name: str, kind: str) -> Iterator[None]:
        """Note that a call is made, and what its caller is told; the error goes on."""
        self.note("ask", name, kind)
        try:
            yield
        except BaseException as error:
            first = leaf(error)
            self.note("told", name, type(first).__name__, getattr(first, "may_have_executed", None))
            raise
        self.note("told", name, OK, None)

    def expect(self, name: str, condition: object, text: str) -> None:
        """Note what is wrong unless a condition holds."""
        if not condition:
            self.note("bad", name, text)


def leaf(error: BaseException) -> BaseException:
    """Return what an exception is about: of a group the error of Duplex, or another, rather than a cancellation."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [leaf(inner) for inner in error.exceptions]
    for wanted in (duplex.DuplexError, Exception):
        for found in leaves:
            if isinstance(found, wanted):
                return found
    return leaves[0]


def read(path: Path) -> list[Entry]:
    """Return what a journal says. A line that was not finished when its process was killed counts for nothing."""
    lines = path.read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for line in lines]


#: What a broken link makes of channels.
BROKEN: Final = (trio.BrokenResourceError, trio.ClosedResourceError)
