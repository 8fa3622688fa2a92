"""Who may call what: asked before anything of a call is looked at but its method, its caller and its headers.

What is asked is a function of the program's. If that is a plain one, the link's reader asks it, and a call that may not be is refused
as one of an unknown method is: it costs neither a task nor room, and no key is looked up for it. If it is ``async def``,
it has to wait somewhere: in the task of the call, around all middleware.

Methods that nobody has to be asked for are in a table of their own, so their calls ask nothing.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, final

import msgspec
import trio

from duplex._errors import ConfigurationError, RPCError, as_text
from duplex._identity import Identity
from duplex._metadata import Metadata
from duplex._status import StatusCode
from duplex.engine._failure import must_go_on, pause_of
from duplex.engine._handler import Handler
from duplex.engine._peer_info import PeerInfo
from duplex.engine._throttle import Throttle
from duplex.engine.serving._middleware import Next, ServedCall
from duplex.engine.serving._observer import Observer, UnservedCall, status_of
from duplex.protocol import MAX_TEXT

logger = logging.getLogger("duplex")


@final
class AskedCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call of which it is to be decided whether it may be made: what ``authorize`` of :func:`duplex.open_peer` is given."""

    #: ``service.method``.
    method: str
    #: Who calls: ``peer.identity`` as far as that is proved; all else the peer says of itself.
    peer: PeerInfo
    #: What the method asks for, see :func:`duplex.rpc`; empty if it asks for nothing.
    requires: frozenset[str]
    #: The caller's headers.
    metadata: Metadata
    #: Whether the caller waits for no answer.
    notify: bool


#: Decides whether a call may be made: given who calls, as far as that is proved, the method, and the call, it returns whether,
#: or raises an ``RPCError`` that says why not.
Authorize: TypeAlias = Callable[[Identity, str, AskedCall], bool | Awaitable[bool]]


class Refusal(NamedTuple):
    """Why a call may not be made, for its caller."""

    status: StatusCode
    message: str
    retry_after: float | None = None


class Asking(Protocol):
    """The link that a call came over."""

    @property
    def remote(self) -> PeerInfo:
        """Who is at its other end."""


class Asked(Protocol):
    """A call as it came over a link."""

    @property
    def metadata(self) -> Metadata:
        """The caller's headers."""

    @property
    def notify(self) -> bool:
        """Whether the caller waits for no answer."""


_GRANTED_BY: Final = "who serves it decides that with open_peer(authorize=...)"


@final
class Authorization:
    """Decides which calls of a peer's methods may be made.

    Args:
        authorize: decides; ``None``: methods that ask for nothing may be called by everybody, and others by nobody.
        observer: is told of calls that may not, where they have a task.
    """

    def __init__(self, authorize: Authorize | None, observer: Observer | None) -> None:
        self._authorize = authorize
        self._observer = observer
        self._throttle = Throttle()
        self._waits = authorize is not None and _is_async(authorize)

    def guards(self, handler: Handler) -> bool:
        """Whether :meth:`refusal` is to be asked for each call of a method, before it has a task."""
        return not self._waits and (self._authorize is not None or bool(handler.requires))

    @property
    def layers(self) -> tuple[Callable[[ServedCall, Next], Any], ...]:
        """What runs around all calls, around all middleware: a function that asks, if it takes a task to ask."""
        return (self._ask,) if self._waits else ()

    def refusal(self, link: Asking, event: Asked, handler: Handler) -> Refusal | None:
        """Return why a call may not be made; ``None`` if it may."""
        if self._authorize is None:
            return Refusal(StatusCode.PERMISSION_DENIED, _nobody_may(handler, link.remote))
        call = AskedCall(
            method=handler.method,
            peer=link.remote,
            requires=handler.requires,
            metadata=event.metadata,
            notify=event.notify,
        )
        try:
            return _refusal_of(self._authorize(call.peer.identity, call.method, call), call)
        except BaseException as error:
            if must_go_on(error):
                raise
            return self._failure(error, call)

    async def _ask(self, served: ServedCall, next: Next) -> Any:
        call = AskedCall(
            method=served.method,
            peer=served.peer,
            requires=served.handler.requires,
            metadata=served.metadata,
            notify=served.notify,
        )
        assert self._authorize is not None
        try:
            verdict = self._authorize(call.peer.identity, call.method, call)
            assert not isinstance(verdict, bool)
            refusal = _refusal_of(await verdict, call)
        except BaseException as error:
            if must_go_on(error):
                raise
            refusal = self._failure(error, call)
        if refusal is None:
            return await next(served)
        if self._observer is not None:
            self._observer.note(
                UnservedCall(
                    method=call.method,
                    peer=call.peer,
                    status=status_of(refusal.status),
                    message=refusal.message,
                    metadata=call.metadata,
                    notify=call.notify,
                )
            )
        refused = RPCError(refusal.message, code=refusal.status)
        refused.retry_after = refusal.retry_after
        raise refused

    def _failure(self, error: BaseException, call: AskedCall) -> Refusal:
        """Return what becomes of a call for which there is an error instead of a decision."""
        code: object = error.code if isinstance(error, RPCError) else None
        if isinstance(error, RPCError) and isinstance(code, StatusCode) and code is not StatusCode.OK:
            # Errors are the program's, and may be odd.
            with contextlib.suppress(Exception):
                return Refusal(code, as_text(error.message)[:MAX_TEXT], pause_of(error))
        more = self._throttle.note("failed", trio.current_time())
        if more is not None:
            logger.error("authorize failed for %s, which is refused%s", call.method, more, exc_info=error)
        return Refusal(
            StatusCode.INTERNAL, f"whether {call.peer.identity} may call {call.method} could not be decided"
        )


def _refusal_of(verdict: object, call: AskedCall) -> Refusal | None:
    if verdict is True:
        return None
    if inspect.iscoroutine(verdict):
        verdict.close()
        raise TypeError("authorize returned a coroutine: write it as an `async def`")
    if verdict is not False:
        raise TypeError(f"authorize returns True or False, not {verdict!r}")
    what = _permissions(call.requires)
    needs = f", which requires {what}" if what else ""
    return Refusal(
        StatusCode.PERMISSION_DENIED,
        f"{call.peer.identity} may not call {call.method}{needs}: {_GRANTED_BY}",
    )


def _nobody_may(handler: Handler, peer: PeerInfo) -> str:
    return (
        f"{handler.method} requires {_permissions(handler.requires)}, which {peer.identity} does not have: "
        f"{_GRANTED_BY}"
    )


def _permissions(names: frozenset[str]) -> str:
    if not names:
        return ""
    word = "the permission" if len(names) == 1 else "the permissions"
    return f"{word} {', '.join(map(repr, sorted(names)))}"


def _is_async(function: object) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - of an object that acts as a function
    )


def checked_authorize(function: object) -> Authorize | None:
    """Return what was given as ``authorize``.

    Raises:
        ConfigurationError: it is no function of three arguments.
    """
    if function is None:
        return None
    if not callable(function):
        raise ConfigurationError(f"authorize must be a function, not {function!r}")
    try:
        inspect.signature(function).bind(None, None, None)
    except TypeError:
        raise ConfigurationError(
            "authorize must take three arguments: `def authorize(identity, method, call)`"
        ) from None
    except ValueError:
        pass  # written in C, so its signature is not known
    return function
