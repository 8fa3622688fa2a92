"""Callbacks and channels as values: how they become numbers on the way out and objects on the way in.

A **callback** is a function that the other side may call while the call lives that carried it. On the wire it
is a number, valid on this link; calling it opens a channel whose target is that number and whose parent is
that call.

A **channel as a value** is a channel of its own on the same link, nested in the call that carried it (the
idea is libchan's). The side that passes the value opens it, just before the message that names it, so that it is
there when the name arrives. Locally the value is any trio channel; a task of the peer pumps between it and
the wire, so code that knows only trio can be at both ends.

Both end with the call: the side that imported a channel closes it before the call's own ``CLOSE``, so that what was
sent on it still arrives; what is open after that is cancelled by the side that opened it.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import trio

from duplex._errors import DecodeError, EncodeError
from duplex.codec._base import LiveKind
from duplex.engine.channels._types import Callback
from duplex.protocol import ChannelClosed, Connection


class Child(Protocol):
    """A channel that is a value in a message of a call."""

    @property
    def channel(self) -> int:
        """The number of the channel."""

    @property
    def opener(self) -> bool:
        """Whether this side passed the value."""

    def note_named(self) -> bool:
        """Note that a value names the channel, and return whether that is the first one, as it must be."""

    def sending_end(self) -> object:
        """Return the end to send with."""

    def receiving_end(self) -> object:
        """Return the end to receive with."""

    def start_pump(self, local: Any) -> None:
        """Begin to move items between the wire and the local channel that was passed."""

    def revoke(self) -> None:
        """The value was not passed after all."""

    def release_from_parent(self, *, failed: bool) -> None:
        """The call is over."""

    def close_receive(self) -> None:
        """Take no more items; those that wait are dropped."""

    async def wait_over(self) -> None:
        """Return once the channel is over."""

    async def wait_forwarded(self) -> None:
        """Return once everything was handed on that has come, if the local end is a channel of another call."""


class Limited(Protocol):
    """The limits of this side, as far as they concern values."""

    @property
    def max_elements(self) -> int:
        """Values in one payload."""


class ValuesOwner(Protocol):
    """The peer."""

    @property
    def limits(self) -> Limited:
        """What it takes and holds."""


class Values(Protocol):
    """What is passed as a value over a link."""

    def export_callback(self, function: Callable[..., Any], root: CallValues) -> int:
        """Make a function callable for the other side, as long as a call lives, and return its number."""

    def withdraw_callbacks(self, numbers: Sequence[int]) -> None:
        """Take back functions that were made callable."""

    def import_callback(self, number: int, root: CallValues) -> object:
        """Return the local object for a function of the other side."""

    def open_nested(self, root: CallValues, *, sends_to_peer: bool) -> Child:
        """Open a channel nested in a call."""


class ValuesHost(Protocol):
    """The link."""

    @property
    def connection(self) -> Connection:
        """The protocol."""

    @property
    def engine(self) -> ValuesOwner:
        """This side's engine."""

    @property
    def values(self) -> Values:
        """What is passed as a value over it."""


class Children(dict[int, Child]):
    """The channels that belong to another one, by number, in order of their opening."""

    __slots__ = ("late_bytes",)

    def __init__(self) -> None:
        super().__init__()
        #: Bytes of items that wait in channels which ended before the value that names them was decoded.
        self.late_bytes = 0


#: What may be passed where a callback is expected; other callables must be wrapped in a function, so that
#: no object becomes remotely callable by accident.
FUNCTIONS: Final = (
    types.FunctionType,
    types.MethodType,
    types.BuiltinFunctionType,
    functools.partial,
    Callback,
)


class CallValues:
    """The live values of one channel end: implements :class:`duplex.codec.LiveValues` for its codec.

    Base class of channel ends, so that one without live values pays two empty slots for them.
    """

    __slots__ = ("_children", "_exports", "_fresh", "channel", "link", "over")

    link: ValuesHost
    channel: int
    over: bool

    def __init__(self) -> None:
        #: Until they are over and their items have been handed on.
        self._children: Children | None = None
        self._exports: list[int] | None = None
        #: What was exported for a message that was not sent yet: callbacks' numbers, and channels.
        self._fresh: list[tuple[Child | int, Any]] | None = None

    @property
    def max_attachments(self) -> int:
        """See :attr:`duplex.codec.LiveValues.max_attachments`."""
        return self.link.connection.max_attachments

    @property
    def max_elements(self) -> int:
        """See :attr:`duplex.codec.LiveValues.max_elements`."""
        return self.link.engine.limits.max_elements

    @property
    def root(self) -> CallValues:
        """The call whose end is the end of the values that pass here: this one, unless it is nested."""
        return self

    @property
    def close_received(self) -> ChannelClosed | None:
        """What the other side ended a call of this side's with; ``None`` if it has not, or this side gave up before."""
        return None

    def ensure_open(self) -> int:
        """Return the number of the channel, opening it first if need be."""
        return self.channel

    def export(self, value: Any) -> tuple[LiveKind, int] | None:
        """See :meth:`duplex.codec.LiveValues.export`."""
        if isinstance(value, FUNCTIONS):
            root = self._living_root()
            root.ensure_open()
            number = self.link.values.export_callback(value, root)
            if root._exports is None:
                root._exports = []
            root._exports.append(number)
            self._note_fresh(number, value)
            return LiveKind.CALLBACK, number
        receives = isinstance(value, trio.abc.ReceiveChannel)
        sends = isinstance(value, trio.abc.SendChannel)
        if receives and sends:
            raise EncodeError(
                f"{type(value).__name__} both sends and receives; pass its two ends as two channels"
            )
        if not receives and not sends:
            return None
        root = self._living_root()
        child = self.link.values.open_nested(root, sends_to_peer=receives)
        root.adopt(child)
        self._note_fresh(child, value)
        return LiveKind.RECEIVE_CHANNEL if receives else LiveKind.SEND_CHANNEL, child.channel

    def _note_fresh(self, export: Child | int, value: Any) -> None:
        if self._fresh is None:
            self._fresh = []
        self._fresh.append((export, value))

    def commit_exports(self) -> list[Child | int]:
        """The message that carries the latest exports was sent: let them live. Returns them."""
        fresh, self._fresh = self._fresh or [], None
        for export, value in fresh:
            if not isinstance(export, int):
                export.start_pump(value)
        return [export for export, _ in fresh]

    def revoke_exports(self) -> list[Any]:
        """The message that would have carried the latest exports was not sent, so nothing was passed.

        Returns the local channels, which are as they were.
        """
        fresh, self._fresh = self._fresh or [], None
        channels = []
        for export, value in fresh:
            if isinstance(export, int):
                self.link.values.withdraw_callbacks([export])
            else:
                export.revoke()
                channels.append(value)
        return channels

    def import_(self, kind: LiveKind, number: int) -> Any:
        """See :meth:`duplex.codec.LiveValues.import_`."""
        root = self.root
        if kind is LiveKind.CALLBACK:
            return self.link.values.import_callback(number, root)
        child = root.claim(number)
        return child.sending_end() if kind is LiveKind.SEND_CHANNEL else child.receiving_end()

    @property
    def children(self) -> Children:
        """The channels that belong to this call."""
        if self._children is None:
            self._children = Children()
        return self._children

    def claim(self, number: int) -> Child:
        """Return the channel that the other side opened for a value of this call; it may be over by now, and the call
        too: what came on it is still there. Raises ``DecodeError`` if there is none."""
        child = None if self._children is None else self._children.get(number)
        if child is None or not child.note_named():
            raise DecodeError(
                f"there is no channel {number} that belongs to this call, or it was taken already"
            )
        return child

    def adapt(self, value: Any, annotation: Any) -> Any:
        """See :meth:`duplex.codec.LiveValues.adapt`."""
        origin = typing.get_origin(annotation) or annotation
        if not isinstance(origin, type) or not isinstance(value, origin):
            expected = getattr(origin, "__name__", str(origin))
            raise DecodeError(f"expected a {expected}, got a {type(value).__name__}")
        parameters = typing.get_args(annotation)
        if parameters and hasattr(value, "_set_type"):
            value._set_type(parameters[-1])
        return value

    def release(self, *, failed: bool = True) -> None:
        """End everything that lives as long as the channel end. Idempotent."""
        if self._exports is not None:
            exports, self._exports = self._exports, None
            self.link.values.withdraw_callbacks(exports)
        if self._children is not None:
            for child in list(self._children.values()):
                child.release_from_parent(failed=failed)

    def exported(self) -> list[Child | int]:
        """Return the callbacks and channels that this side passed and that still live."""
        children = self._children.values() if self._children else ()
        return [*(self._exports or ()), *(child for child in children if child.opener)]

    async def wait_forwarded(self) -> None:
        """Return once what came on passed channels was handed on, as far as their local ends are channels of
        other calls: a handler that forwards a channel and returns has then forwarded everything."""
        if self._children:
            for child in list(self._children.values()):
                await child.wait_forwarded()

    def _living_root(self) -> CallValues:
        root = self.root
        if root.over:
            raise EncodeError("callbacks and channels cannot be passed after their call has ended")
        return root

    def adopt(self, child: Child) -> None:
        """Have a nested channel end together with this one."""
        self.children[child.channel] = child

    def disown(self, child: Child) -> None:
        """Forget a nested channel that is over, or a long stream of channels would never let go of one."""
        if self._children is not None:
            self._children.pop(child.channel, None)
