"""What is passed as a value over one link: functions that the other side may call, and channels in calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, final

from duplex._errors import RPCError
from duplex._status import StatusCode
from duplex.engine._handler import Handler
from duplex.engine.calling import Caller, CallOwner, RemoteCallback
from duplex.engine.channels import CallValues, NestedChannel
from duplex.engine.serving import ServingLink, ServingPeer, refuse
from duplex.protocol import END, ChannelOpened


class ValuesOwner(ServingPeer, CallOwner, Protocol):
    """The peer."""

    @property
    def make_callback_handler(self) -> Callable[[Callable[..., Any]], Handler]:
        """Makes a handler of a function."""

    @property
    def caller_of_callbacks(self) -> Callable[[Caller], Caller]:
        """Gives what calls functions of the other side over a link, of what calls its methods."""


class ValuesLink(ServingLink, Protocol):
    """The link."""

    @property
    def engine(self) -> ValuesOwner:
        """This side's engine."""

    @property
    def caller(self) -> Caller:
        """Makes calls over the link."""

    def unavailable(self) -> RPCError:
        """Return the error for a call that cannot begin on the link."""


@final
class LinkValues:
    """The functions and channels that were passed over one link.

    Args:
        link: the link.
    """

    __slots__ = ("_link", "_next", "functions")

    def __init__(self, link: ValuesLink) -> None:
        self._link = link
        #: What the other side may call, by number, and the call that each lives as long as.
        self.functions: dict[int, tuple[Handler, CallValues]] = {}
        self._next = 1

    def export_callback(self, function: Callable[..., Any], root: CallValues) -> int:
        """Make a function callable for the other side, as long as ``root`` lives, and return its number."""
        number = self._next
        self._next += 1
        self.functions[number] = self._link.engine.make_callback_handler(function), root
        return number

    def withdraw_callbacks(self, numbers: Sequence[int]) -> None:
        """Take back functions that were made callable."""
        for number in numbers:
            self.functions.pop(number, None)

    def called(self, event: ChannelOpened) -> tuple[Handler, CallValues] | None:
        """Return what the call of a function runs, and the call that it was passed in, if that is its parent."""
        assert isinstance(event.target, int)
        found = self.functions.get(event.target)
        # The channel that it came on may itself be nested in the call.
        owner = None if event.parent is None else self._link.channels.users.get(event.parent)
        if found is None or owner is None or owner.root is not found[1]:
            return None
        return found

    def import_callback(self, number: int, root: CallValues) -> RemoteCallback:
        """Return the local object for a function of the other side."""
        return RemoteCallback(
            self._link.engine.caller_of_callbacks(self._link.caller),
            self._link.engine.default_codec,
            number,
            root,
        )

    def open_nested(self, root: CallValues, *, sends_to_peer: bool) -> NestedChannel:
        """Open a channel nested in a call."""
        link = self._link
        parent = root.ensure_open()
        child = NestedChannel(link, 0, link.engine.default_codec, root, opener=True)
        link.engine.check_thread()
        if not link.connection.is_open:
            raise link.unavailable()
        child.channel = link.connection.open(None, flags=0 if sends_to_peer else END, parent=parent)
        link.channels.users[child.channel] = child
        link.touch()
        return child

    def on_nested(self, event: ChannelOpened) -> None:
        """The other side opened a channel nested in a call."""
        link = self._link
        users = link.channels.users
        parent = None if event.parent is None else users.get(event.parent)
        if parent is None or event.notify or event.payload is not None:
            refuse(
                link,
                event,
                StatusCode.FAILED_PRECONDITION,
                "a channel that is a value must name a call that is not over, and come without a message",
            )
            return
        root = parent.root
        child = NestedChannel(
            link, event.channel, link.engine.default_codec, root, opener=False, ended=event.end
        )
        users[event.channel] = child
        root.adopt(child)
