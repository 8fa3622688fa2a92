"""Streams that can go on where they were cut off: their items, and what the caller holds."""

# Without postponed annotations, or msgspec would look for the type variables in the module that the class says it
# is from, which is ``duplex``.
# ruff: noqa: I002
from abc import abstractmethod
from typing import Any, Generic, TypeVar

import msgspec

from duplex._metadata import Metadata
from duplex.engine.channels._types import ReceiveChannel

C = TypeVar("C")
T = TypeVar("T")
ReceiveT = TypeVar("ReceiveT", covariant=True)


class Tracked(msgspec.Struct, Generic[C, T], frozen=True, array_like=True):
    """An item of a resumable stream: a value and the place in the stream right behind it.

    The handler yields these::

        @log.rpc(resumable=True)
        async def follow(topic: str, *, cursor: int | None = None) -> AsyncIterator[Tracked[int, str]]:
            for number in range(0 if cursor is None else cursor + 1, len(lines)):
                yield Tracked(number, lines[number])

    Called again with the ``cursor`` of any item, it must go on with the item that came after that one. What a
    cursor is (a number, a time, a text) is the handler's business; callers only hand it back. It should mean
    the same after a restart, and at every server that offers the service.

    A caller with ``with_options(resume=True)`` gets the values alone. For any other caller an item is what it
    is on the wire: the array of cursor and value, or a ``Tracked`` if that is the type it asks for.
    """

    cursor: C
    value: T


class ResumableStream(ReceiveChannel[ReceiveT]):
    """A stream of results that goes on after a lost link; ``async for`` gives the values.

    Made by ``async with remote.method.with_options(resume=True).open(...) as stream``. While it is opened
    again, :meth:`receive` waits. It raises ``Unavailable`` if that does not succeed within the peer's
    ``connect_timeout``; then :attr:`cursor` says where to go on later.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def cursor(self) -> Any:
        """The cursor of the last item that was taken; before the first one, the argument ``cursor``, or ``None``.

        To go on later, perhaps in another process, open the method again with ``cursor=`` this.
        """

    @property
    @abstractmethod
    def resumptions(self) -> int:
        """How often the stream was opened again."""

    @property
    @abstractmethod
    def method(self) -> str:
        """``service.method``."""

    @property
    @abstractmethod
    def peer(self) -> str:
        """The name of the peer that streams, or streamed last."""

    @property
    @abstractmethod
    def trailers(self) -> Metadata:
        """What came with the status; empty before the stream has ended."""
