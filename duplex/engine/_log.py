"""What reaches the log ``duplex`` of what other peers say: escaped, bounded, and counted where it repeats.

Names, reasons and texts of other peers stand in log records. Written as they are, a name could begin a line of its
own, which looks like a record, or command a terminal; a long text, or a text sent again and again, could fill a disk.
One filter on the logger sees to all of them, so that no place where something is logged has to.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final, final

#: Characters of one argument of a record.
MOST_TEXT: Final = 1000
#: Characters of a traceback.
MOST_TRACEBACK: Final = 32_000
#: Seconds in which records that differ in their arguments only count as repeated.
WINDOW: Final = 10.0
#: Records of one kind that are written as they are in that time ...
WHOLE: Final = 20
#: ... and records of errors that are written without their traceback after those: their incidents are looked for.
BRIEF: Final = 500
#: Formats that are told apart; Duplex itself has some dozens.
MOST_KINDS: Final = 1000


def clean(text: str, most: int = MOST_TEXT) -> str:
    """Return text with no character in it that ends a line or that a terminal would obey, cut to a length."""
    if len(text) > most:
        text = f"{text[:most]}... ({len(text)} characters)"
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]


@final
class _Cleaned:
    """An object that shows itself in clean text."""

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return clean(str(self._value))

    def __repr__(self) -> str:
        return clean(repr(self._value))


@final
class _Kind:
    """Records of one format, in one window of time."""

    __slots__ = ("began", "count", "left_out")

    def __init__(self, began: float) -> None:
        self.began = began
        self.count = 0
        self.left_out = 0


@final
class Bounded(logging.Filter):
    """Escapes, bounds and counts; see the module.

    Args:
        clock: gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._kinds: dict[str, _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Make a record fit to be written; ``False`` if it is only counted."""
        now = self._clock()
        form = str(record.msg)  # an application that logs here may use any object
        kind = self._kinds.get(form)
        if kind is None:
            if len(self._kinds) >= MOST_KINDS:
                self._kinds.clear()  # its records are texts of their own, not formats
            kind = self._kinds[form] = _Kind(now)
        left_out = 0
        if now - kind.began >= WINDOW:
            left_out = kind.left_out
            kind = self._kinds[form] = _Kind(now)
        kind.count += 1
        if kind.count > WHOLE and (record.exc_info is None or kind.count > WHOLE + BRIEF):
            kind.left_out += 1
            return False
        if isinstance(record.args, tuple):
            record.args = tuple(map(_clean_argument, record.args))
        if record.exc_info:
            _bound_traceback(record, brief=kind.count > WHOLE)
        if left_out:
            record.msg = f"{record.msg} ({left_out} more like this were not logged before it)"
        return True


def _clean_argument(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    return value if value is None or isinstance(value, (int, float)) else _Cleaned(value)


_formatter: Final = logging.Formatter()


def _bound_traceback(record: logging.LogRecord, *, brief: bool) -> None:
    assert isinstance(record.exc_info, tuple)
    kind, error, _ = record.exc_info
    if brief:
        record.msg = f"{record.msg}: %s: %s"
        record.args = (*(record.args or ()), getattr(kind, "__name__", "?"), _Cleaned(error))
        record.exc_info = record.exc_text = None
        return
    text = _formatter.formatException(record.exc_info)
    if len(text) > MOST_TRACEBACK:
        half = MOST_TRACEBACK // 2
        text = f"{text[:half]}\n... ({len(text) - 2 * half} characters)\n{text[-half:]}"
    # Formatters take this text where there is one. Indented, no line of it looks like a record.
    record.exc_text = "\n".join("  " + clean(line, MOST_TRACEBACK) for line in text.split("\n"))


logger: Final = logging.getLogger("duplex")
logger.addFilter(Bounded())
