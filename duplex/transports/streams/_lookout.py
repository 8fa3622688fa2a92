"""Looks after all connections that one event loop has made: one task does it for all, as a task for each would be a tenth of what
an idle connection costs.

A task needs somebody whose it is. So it is the task of one of the ports, and another one's as soon as that one has no connection any
more.
"""

from __future__ import annotations

import heapq
import itertools
import math
from typing import Final, Protocol, final

import trio

#: By which part of its time each may be looked after too soon, so that those whose times are near cost one waking of the loop: of a
#: thousand connections in 5 s, each woke it by itself.
_SOONER: Final = 1 / 20
#: Times that do not hold any more and may be kept besides as many as there are ports.
_SPARE: Final = 16


class Connected(Protocol):
    """A port that has a connection.

    Attributes:
        home: where it has its tasks; open as long as it has the connection.
    """

    home: trio.Nursery | None

    def look(self, now: float) -> float:
        """Look after the connection; return when to do it again."""


@final
class Lookout:
    """Those of one event loop."""

    def __init__(self) -> None:
        #: When each is to be looked after.
        self._due: dict[Connected, float] = {}
        #: The same in order, with times that do not hold any more: thousands of links are not looked through whenever one is due. And
        #: from when on each may be looked after.
        self._queue: list[tuple[float, int, Connected, float]] = []
        self._numbers = itertools.count()
        self._host: Connected | None = None
        self._hosting = trio.CancelScope()
        self._sleeping: trio.CancelScope | None = None

    def add(self, port: Connected, due: float) -> None:
        """Look after a port's connection from some time on, instead of from another time on."""
        self._plan(port, due, due)
        if self._host is None:
            self._begin(port)
        elif self._sleeping is not None and due < self._sleeping.deadline:
            self._sleeping.deadline = due

    def remove(self, port: Connected) -> None:
        """A port has no connection any more."""
        del self._due[port]
        if len(self._queue) > 2 * len(self._due) + _SPARE:
            # Or ports that are gone would be kept until it is their time.
            self._queue = [entry for entry in self._queue if self._due.get(entry[2]) == entry[0]]
            heapq.heapify(self._queue)
        if port is self._host:
            self._hosting.cancel()
            self._host = None
            if self._due:
                self._begin(next(iter(self._due)))

    def _plan(self, port: Connected, due: float, earliest: float) -> None:
        self._due[port] = due
        if due != math.inf:
            heapq.heappush(self._queue, (due, next(self._numbers), port, earliest))

    def _next(self) -> tuple[float, float]:
        """Return when the next one is to be looked after, and from when on it may be."""
        queue = self._queue
        while queue and self._due.get(queue[0][2]) != queue[0][0]:
            heapq.heappop(queue)
        return (queue[0][0], queue[0][3]) if queue else (math.inf, math.inf)

    def _begin(self, host: Connected) -> None:
        assert host.home is not None
        self._host = host
        self._hosting = trio.CancelScope()
        self._sleeping = None
        host.home.start_soon(self._run, self._hosting)

    async def _run(self, hosting: trio.CancelScope) -> None:
        with hosting:
            while True:
                now = trio.current_time()
                while self._next()[1] <= now:
                    port = heapq.heappop(self._queue)[2]
                    again = port.look(now)
                    if port in self._due:
                        self._plan(port, again, again - (again - now) * _SOONER)
                with trio.CancelScope(deadline=self._next()[0]) as self._sleeping:
                    await trio.sleep_forever()


_lookout: Final = trio.lowlevel.RunVar[Lookout]("duplex lookout")


def get_lookout() -> Lookout:
    """Return that of the running event loop."""
    try:
        return _lookout.get()
    except LookupError:
        lookout = Lookout()
        _lookout.set(lookout)
        return lookout
