"""What a handler sees of the call that it serves."""

from __future__ import annotations

from typing import Any

from duplex._errors import as_text
from duplex._metadata import Metadata, read_previous_attempts
from duplex.engine._handler import Handler
from duplex.engine._peer_info import PeerInfo
from duplex.engine._public_link import PublicLink
from duplex.engine.channels import ChannelStatistics
from duplex.engine.serving._invocation import Invocation
from duplex.engine.threads import served_call


def current_call() -> CallContext:
    """Return the call that the running handler serves; also in threads and child tasks of the handler.

    Raises:
        RuntimeError: this code does not run on behalf of a call.
    """
    call = served_call.get(None)
    if call is None:
        raise RuntimeError("current_call() works only inside a handler that serves a call")
    return context_of(call)


def context_of(invocation: Invocation) -> CallContext:
    """Return what a handler sees of its call: one object for all who ask."""
    context = invocation.context
    if context is None:
        context = invocation.context = CallContext(invocation)
    return context  # type: ignore[no-any-return]


class CallContext:
    """The call that the running handler serves, as :func:`current_call` returns it.

    There is one for each call. It tells of the call, and can end it by :meth:`cancel`; the call is answered by what
    the handler returns or raises, and by nothing else. Threads that work for the handler may ask and end it too.
    """

    __slots__ = ("_call",)

    def __init__(self, call: Invocation) -> None:
        self._call = call

    def __repr__(self) -> str:
        return f"<call of {self.method} from {self.peer}>"

    @property
    def link(self) -> PublicLink:
        """The link that the call came over; ``call.link.service(...)`` calls the caller's own services."""
        return self._call.end.link.public

    @property
    def peer(self) -> PeerInfo:
        """Who calls."""
        return self._call.end.peer

    @property
    def method(self) -> str:
        """``service.method``."""
        return self._call.method

    @property
    def handler(self) -> Handler:
        """What is called: the method as it was registered."""
        return self._call.handler

    @property
    def codec(self) -> str:
        """The name of the codec that the caller chose."""
        return self._call.end.codec.name

    @property
    def notify(self) -> bool:
        """Whether the caller waits for no answer."""
        return self._call.notify

    @property
    def metadata(self) -> Metadata:
        """The caller's headers."""
        return self._call.metadata

    @property
    def attempt(self) -> int:
        """How often the caller has made the call, this time included: 1, or more if it tries again or hedges."""
        return 1 + read_previous_attempts(self._call.metadata)

    @property
    def deadline(self) -> float | None:
        """When the call has to end, as :func:`trio.current_time` counts; ``None`` if never."""
        return self._call.deadline

    @property
    def time_remaining(self) -> float:
        """Seconds until the deadline; ``inf`` without one."""
        return self._call.time_remaining

    @property
    def trailers(self) -> dict[str, str | bytes]:
        """What goes back to the caller with the status: fill it before the handler ends. Keys that begin with
        ``duplex-`` belong to the protocol and are left out."""
        return self._call.trailers

    @property
    def state(self) -> dict[Any, Any]:
        """A dict for what handles this call, such as middleware and the handler."""
        return self._call.state

    @property
    def cancelled_by(self) -> str | None:
        """Who ended the call before its handler did, for its ``finally``: ``"remote"``, the caller;
        ``"deadline"``; ``"link"``, which was lost; ``"local"``, this peer; ``None`` if nobody has."""
        return self._call.cancelled_by

    def cancel(self, reason: str = "") -> None:
        """End the call: its handler is cancelled, and the caller gets ``CallCancelled``. Idempotent.

        Args:
            reason: for the caller; part of the error's message.
        """
        self._call.cancel(as_text(reason))

    def statistics(self) -> ChannelStatistics:
        """Return a snapshot of the call's own channel: credit, items that wait, items that were dropped."""
        return self._call.end.statistics()
