"""When what has come to a port is delivered. Time is counted in passes of trio's event loop, so that a clock which
jumps has no part in it."""

from __future__ import annotations

import dataclasses
import itertools
import random
from abc import ABC, abstractmethod
from collections import deque
from typing import Final, Protocol

from duplex.transports import Frames
from tests.wires.rearranged import merge, split


class Addressee(Protocol):
    """What an order has to know of a carrier.

    Attributes:
        most_commands: how many the receiver takes in a message; ``None`` if it has not said so yet.
    """

    most_commands: int | None


@dataclasses.dataclass
class News:
    """What has come from a remote end: a message, or that it is there, or gone.

    Attributes:
        carrier: the remote end.
        frames: the message, or ``None``.
        gone: why the remote end is gone, or ``None``.
        due: the pass in which it is to be delivered, where that matters.
    """

    carrier: Addressee
    frames: Frames | None = None
    gone: str | None = None
    due: int = 0


#: What waits, in the order in which it has to be delivered.
Line = deque[News]


class Order(ABC):
    """One per port."""

    def __init__(self, source: random.Random) -> None:
        self.random = source
        #: Passes so far in which something waited.
        self.now = 0

    @abstractmethod
    def arrived(self, line: Line, news: News) -> None:
        """Append it to a line."""

    @abstractmethod
    def due(self, lines: list[Line]) -> list[tuple[Line, int]]:
        """Tell how much of each line is to be delivered now, in which order. Every line has something."""


class Coalesced(Order):
    """Holds everything until nothing has come for some passes, and then delivers it all in one turn: what began a
    call, its items and its end are there before any task has seen the beginning."""

    LULL: Final = (4, 12)
    LONGEST: Final = 60

    def __init__(self, source: random.Random) -> None:
        super().__init__(source)
        self._first = self._until = 0

    def arrived(self, line: Line, news: News) -> None:
        if self._until <= self.now:
            self._first = self.now
        self._until = min(self.now + self.random.randint(*self.LULL), self._first + self.LONGEST)
        line.append(news)

    def due(self, lines: list[Line]) -> list[tuple[Line, int]]:
        if self.now < self._until:
            return []
        self.random.shuffle(lines)
        for line in lines:
            self._press(line)
        return [(line, len(line)) for line in lines]

    def _press(self, line: Line) -> None:
        """Nothing: messages stay as they came."""


class Merged(Coalesced):
    """The same, and all commands are in one message."""

    def _press(self, line: Line) -> None:
        news = list(line)
        line.clear()
        for carrier, group in itertools.groupby(news, lambda one: one.frames and one.carrier):
            if carrier is None or carrier.most_commands is None:
                line += group  # not greeted: the receiver has not said what it takes
            else:
                together = merge([one.frames for one in group if one.frames], carrier.most_commands)
                line += [News(carrier, frames) for frames in together]


class Split(Order):
    """Gives every command a message of its own, and delivers one of them in a pass."""

    def arrived(self, line: Line, news: News) -> None:
        if news.frames is None:
            line.append(news)
        else:
            line += [dataclasses.replace(news, frames=frames) for frames in split(news.frames)]

    def due(self, lines: list[Line]) -> list[tuple[Line, int]]:
        return [(self.random.choice(lines), 1)]


class Delayed(Order):
    """Delivers every message some passes later. What comes from different remote ends, and what goes there and back,
    may change places."""

    LONGEST: Final = 20

    def arrived(self, line: Line, news: News) -> None:
        if news.frames is not None:
            # The order within a line is kept, whatever is due.
            news.due = self.now + self.random.randint(0, self.LONGEST)
        line.append(news)

    def due(self, lines: list[Line]) -> list[tuple[Line, int]]:
        self.random.shuffle(lines)
        return [(line, count) for line in lines if (count := self._count(line))]

    def _count(self, line: Line) -> int:
        for count, news in enumerate(line):
            if news.due > self.now:
                return count
        return len(line)


#: By name.
ORDERS: Final[dict[str, type[Order]]] = {
    "coalesced": Coalesced,
    "merged": Merged,
    "split": Split,
    "delayed": Delayed,
}
