"""What a benchmark has measured, while it goes on."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import trio

import duplex
from duplex.cli._histogram import Histogram


@dataclass
class Failures:
    """Calls that failed with one status."""

    code: int
    #: What the first of them said.
    example: str
    count: int = 0


@dataclass
class Figures:
    """The figures of a run; times are seconds.

    Calls count if they were due after the warm-up. Rates are of what happened between the end of the warm-up
    and the end of the run, whichever calls it belonged to, so calls that go on at either end do not bend them.
    """

    #: From the time that a call was due until it had ended well, of every such call.
    latency: Histogram = field(default_factory=Histogram)
    #: From the time that a call was due until it had failed, of every such call.
    failed_latency: Histogram = field(default_factory=Histogram)
    #: From the time that a call was due until its first streamed result.
    first_item: Histogram = field(default_factory=Histogram)
    #: From the time that a call was due until it was made.
    start_delay: Histogram = field(default_factory=Histogram)
    #: By how much timers of this process were late.
    loop_delay: Histogram = field(default_factory=Histogram)
    failures: dict[str, Failures] = field(default_factory=dict)
    #: Calls that were made, after the warm-up.
    started: int = 0
    #: Calls that were due and never made, and how long the first of them had waited.
    unsent: int = 0
    unsent_for: float = 0.0
    #: Calls after the warm-up that had to wait because as many as may be were under way.
    held_up: int = 0

    #: The window that rates are of: what was counted in it, and how long it was so far.
    is_open: bool = False
    answered: int = 0
    items_sent: int = 0
    items_received: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    _opened: float = 0.0
    _seconds: float = 0.0
    _cpu_seconds: float = 0.0

    def open_window(self) -> None:
        """Begin to count what rates are made of."""
        self.is_open = True
        self._opened, self._cpu_seconds = trio.current_time(), time.process_time()

    def close_window(self) -> None:
        """Count nothing more. Idempotent."""
        if self.is_open:
            self.is_open = False
            self._seconds = trio.current_time() - self._opened
            self._cpu_seconds = time.process_time() - self._cpu_seconds

    @property
    def seconds(self) -> float:
        """How long the window is, or was."""
        return trio.current_time() - self._opened if self.is_open else self._seconds

    @property
    def cpu_share(self) -> float:
        """The part of one core that this process used in the window, which is closed."""
        return self._cpu_seconds / self._seconds if self._seconds else 0.0

    @property
    def failed(self) -> int:
        """Calls that failed."""
        return self.failed_latency.count

    @property
    def unfinished(self) -> int:
        """Calls that were made and have not ended."""
        return self.started - self.latency.count - self.failed

    def rate(self, count: int) -> float:
        """Return how many that is in a second."""
        return count / self.seconds if self.seconds else 0.0

    def failure(self, error: duplex.RPCError, seconds: float) -> None:
        """Count a call that failed."""
        self.failed_latency.record(seconds)
        name = error.code.name
        if name not in self.failures:
            self.failures[name] = Failures(int(error.code), str(error))
        self.failures[name].count += 1


class Attempt:
    """One call under way: takes note of what goes to and fro."""

    __slots__ = ("_figures", "first")

    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        #: When the first streamed result came.
        self.first: float | None = None

    def sent(self, size: int) -> None:
        """Arguments of so many bytes were sent; 0 if nobody counts them."""
        if self._figures.is_open:
            self._figures.bytes_sent += size

    def sent_item(self, size: int) -> None:
        """An item was sent."""
        if self._figures.is_open:
            self._figures.items_sent += 1
            self._figures.bytes_sent += size

    def received(self, value: Any) -> None:
        """A streamed result came."""
        if self.first is None:
            self.first = trio.current_time()
        if self._figures.is_open:
            self._figures.items_received += 1
            self.returned(value)

    def returned(self, value: Any) -> None:
        """A result came, whose bytes are counted if it is bytes or an array."""
        if self._figures.is_open:
            if isinstance(value, bytes | bytearray):
                self._figures.bytes_received += len(value)
            else:
                self._figures.bytes_received += getattr(value, "nbytes", 0)
