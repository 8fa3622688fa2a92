"""The seam for calls out: whatever can make a call."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeAlias

from duplex.engine.calling._request import Request

#: What opens a call: entered, it gives an ``OutgoingCall``, or another stream of its kind.
Opening: TypeAlias = AbstractAsyncContextManager[Any]


class Caller(Protocol):
    """Whatever can make calls: a link, a service of several peers, what tries again or goes on after a loss.

    Callers compose: one that has another inside hands the request on to it, once, several times, or with something
    changed. The request says all there is to say of how to call; the arguments are the user's.

    Each method raises ``RPCError`` with the call's outcome, where ``method`` and ``peer`` say what failed where, and
    ``EncodeError`` if an argument cannot travel. Cancelling cancels what is under way at the other side.
    """

    def unary(
        self, request: Request, positional: Sequence[Any], keyword: Mapping[str, Any], /
    ) -> Coroutine[Any, Any, Any]:
        """Call a method and return its single result."""

    def open(self, request: Request, positional: Sequence[Any], keyword: Mapping[str, Any], /) -> Opening:
        """Return what opens a call when it is entered, once, and ends it when it is left."""

    def notify(
        self, request: Request, positional: Sequence[Any], keyword: Mapping[str, Any], /
    ) -> Coroutine[Any, Any, None]:
        """Call a method without waiting for its outcome; return when the call is queued on a link."""
