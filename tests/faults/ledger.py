"""What was seen: of every call and every item, so that what came twice, out of order or not at all is noticed.

Calls are numbered uniquely over all processes of a run. A process notes every number it executes in a file, with
one ``write`` each, which also a process that is killed in the next moment has done.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, final

import trio

import duplex

_NUMBER: Final = struct.Struct("<q")
#: Problems that are kept word for word; the rest are counted.
_KEPT: Final = 20


def executions(*paths: Path) -> Counter[int]:
    """Return how often each call was executed, by all processes that wrote to these files."""
    found: Counter[int] = Counter()
    for path in paths:
        if path.exists():
            data = path.read_bytes()
            found.update(number for (number,) in _NUMBER.iter_unpack(data[: len(data) // 8 * 8]))
    return found


def name_of(error: BaseException) -> str:
    """Return how a report calls the end of a call: the class of its error."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return type(error).__name__


#: How a handler may end whose caller gave the call up or is gone. An async generator that waits in ``yield``
#: is closed instead of cancelled.
CUT_SHORT: Final = ("ok", "Cancelled", "CallCancelled", "GeneratorExit", "PeerLost")


@final
class Bell:
    """Wakes whoever waits for some condition whenever something has changed."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def ring(self) -> None:
        """Something has changed."""
        self._event.set()
        self._event = trio.Event()

    async def wait_for(self, condition: Callable[[], object]) -> None:
        """Return once the condition holds."""
        while not condition():
            await self._event.wait()


@final
class Ledger:
    """What one process saw as the side that is called.

    Attributes:
        under_way: handlers that run now, by kind.
        ended: how handlers ended, as ``(kind, how)``.
        last_end: when the latest handler ended, as ``time.monotonic`` counts, which is the same clock for
            all processes of the machine.
        problems: what must not happen: items that came twice, or out of order.
    """

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.bell = Bell()
        self.under_way: Counter[str] = Counter()
        self.forget()

    def forget(self) -> None:
        """Begin anew, but for the handlers that run."""
        self.ended: Counter[tuple[str, str]] = Counter()
        self.last_end: float | None = None
        self.problems: list[str] = []
        self.dropped_problems = 0

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def problem(self, text: str) -> None:
        """Note what must not happen."""
        if len(self.problems) < _KEPT:
            self.problems.append(text)
        else:
            self.dropped_problems += 1

    @contextlib.contextmanager
    def handling(self, kind: str, number: int) -> Iterator[None]:
        """Note that a handler runs, and how it ends."""
        os.write(self._file, _NUMBER.pack(number))
        self.under_way[kind] += 1
        self.bell.ring()
        how = "ok"
        try:
            yield
        except BaseException as error:
            how = name_of(error)
            raise
        finally:
            self.under_way[kind] -= 1
            self.ended[kind, how] += 1
            self.last_end = time.monotonic()
            self.bell.ring()

    def sequence(self, kind: str, number: int) -> Sequence:
        """Return what checks the items of one stream."""
        return Sequence(self, kind, number)


@final
class Sequence:
    """Checks that the items of a stream come in order, each once, and belong to it."""

    def __init__(self, ledger: Ledger, kind: str, number: int) -> None:
        self._ledger = ledger
        self._kind = kind
        self._number = number
        self.count = 0

    def check(self, item: Any) -> None:
        """Note the next item."""
        if item != [self._number, self.count]:
            text = f"{self._kind} {self._number}: {item} came where item {self.count} was due"
            self._ledger.problem(text)
        self.count += 1


@final
class Outcomes:
    """How calls of this side ended.

    Attributes:
        counts: calls by ``(kind, outcome)``, where the outcome is ``"ok"`` or the class of the error.
        failed: each call that failed, with all that its error says.
        slowest: seconds of the slowest call that succeeded, by kind.
    """

    def __init__(self) -> None:
        self.bell = Bell()
        self.under_way = 0
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.counts: Counter[tuple[str, str]] = Counter()
        self.failed: list[dict[str, Any]] = []
        self.slowest: dict[str, float] = {}

    @contextlib.contextmanager
    def call(self, kind: str, number: int) -> Iterator[None]:
        """Note the end of a call; an error of Duplex's is kept and goes no further."""
        began = time.monotonic()
        self.under_way += 1
        try:
            yield
        except duplex.DuplexError as error:
            self._note(kind, number, error, began)
        except trio.Cancelled:
            self.counts[kind, "Cancelled"] += 1
            raise
        except Exception as error:
            # Not an outcome that a call may have: it is shown with the rest, and fails whoever looks.
            self._note(kind, number, error, began)
        else:
            self.counts[kind, "ok"] += 1
            self.slowest[kind] = max(self.slowest.get(kind, 0.0), time.monotonic() - began)
        finally:
            self.under_way -= 1
            self.bell.ring()

    def _note(self, kind: str, number: int, error: Exception, began: float) -> None:
        now = time.monotonic()
        self.counts[kind, name_of(error)] += 1
        self.failed.append(
            {
                "kind": kind,
                "number": number,
                "outcome": name_of(error),
                "message": str(error)[:300],
                "may_have_executed": getattr(error, "may_have_executed", None),
                "cancelled_by": getattr(error, "cancelled_by", None),
                "seconds": now - began,
                "ended_at": now,
            }
        )
