"""Proxies: ``remote.add(1, 2)`` is awaited, ``remote.count.open(3)`` is entered, options stay apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Literal, NoReturn, Protocol, Unpack, cast, final, get_args, overload

import trio

from duplex._config import Overflow
from duplex._errors import ConfigurationError, Unavailable
from duplex._metadata import IDEMPOTENCY_KEY, RESERVED_PREFIX, Metadata, check_metadata
from duplex._numbers import check_seconds
from duplex.client._resume import OpenStream
from duplex.codec import Codec, get_codec
from duplex.engine._link import BaseLink
from duplex.engine._tracked import ResumableStream
from duplex.engine._types import CallOptions, OtherOptions
from duplex.engine.calling._outgoing import OpenCall
from duplex.engine.calling._request import Request, deadline_exceeded, time_limit
from duplex.engine.calling._unary import call_unary, notify
from duplex.engine.serving import MAX_KEY


class LinkPicker(Protocol):
    """Whatever says which link a call takes: a peer balances, a link is itself."""

    @property
    def balances(self) -> bool:
        """Whether another call may take another link."""

    def pick_now(self, service: str) -> BaseLink | None:
        """Return a link for a call to a service, if one is there at once."""

    async def pick(self, service: str, *, wait_for_ready: bool = True) -> BaseLink:
        """Wait for one. Raises ``Unavailable`` if none comes in time, or at once if it is not to wait."""


class ResumingMethod(Protocol):
    """The static type of ``method.with_options(resume=True)``: what it opens goes on after a lost link."""

    def open(self, /, *args: Any, **kwargs: Any) -> AbstractAsyncContextManager[ResumableStream[Any]]:
        """Open a stream that goes on after a lost link."""


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """How calls are made, apart from their arguments; see :meth:`ServiceProxy.with_options`."""

    codec: Codec
    timeout: float | None = None
    metadata: Metadata | None = None
    wait_for_ready: bool = True
    idempotency_key: str | None = None
    overflow: Overflow | None = None
    resume: bool = False

    def replace(self, **changes: Any) -> Options:
        """Return these options with some changed.

        Raises:
            ConfigurationError: an option is unknown or its value is wrong.
        """
        unknown = changes.keys() - _CHECKS.keys()
        if unknown:
            raise ConfigurationError(
                f"unknown option {', '.join(sorted(unknown))}; the options of a call are {', '.join(_CHECKS)}"
            )
        for name, value in changes.items():
            changes[name] = _CHECKS[name](value)
        if changes.get("metadata") is not None:
            changes["metadata"] = {**(self.metadata or {}), **changes["metadata"]}
        return dataclasses.replace(self, **changes)

    def for_picker(self, picker: LinkPicker) -> Options:
        """Return these options, or raise ``ConfigurationError`` if calls over this picker cannot have them."""
        if self.resume and not picker.balances:
            raise ConfigurationError(
                "a stream over one link ends with the link: resume=True is for peer.service(...), which may take "
                "another one, not for link.service(...)"
            )
        return self

    @property
    def all_metadata(self) -> Metadata | None:
        """The metadata of calls, with the protocol's own."""
        metadata = self.metadata or None
        if self.idempotency_key is None:
            return metadata
        return {**(metadata or {}), IDEMPOTENCY_KEY: self.idempotency_key}


def _codec(value: Any) -> Codec:
    if isinstance(value, str):
        return get_codec(value)
    if not isinstance(getattr(value, "name", None), str):
        raise ConfigurationError(f"codec must be a name or a codec, not {value!r}")
    return cast("Codec", value)


def _timeout(value: Any) -> float | None:
    if value is None:
        return None
    return cast("float", check_seconds("timeout", value, hint=", and None is for no limit"))


def _flag(name: str) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        if not isinstance(value, bool):
            raise ConfigurationError(f"{name} must be True or False, not {value!r}")
        return value

    return check


def _idempotency_key(value: Any) -> str | None:
    try:
        size = len(value.encode()) if isinstance(value, str) else 0
    except UnicodeEncodeError:  # a lone surrogate
        size = 0
    if value is not None and not 0 < size <= MAX_KEY:
        raise ConfigurationError(
            f"idempotency_key must be a text of 1 to {MAX_KEY} bytes or None, not {value!r}"
        )
    return cast("str | None", value)


def _overflow(value: Any) -> Overflow | None:
    if value is not None and value not in get_args(Overflow):
        raise ConfigurationError(
            f"overflow must be one of {', '.join(map(repr, get_args(Overflow)))} or None, not {value!r}"
        )
    return cast("Overflow | None", value)


def _metadata(value: Any) -> Metadata | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"metadata must be a dict or another mapping or None, not {value!r}")
    return _checked(value)


#: The options by name, with what checks and converts their values.
_CHECKS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "codec": _codec,
    "timeout": _timeout,
    "metadata": _metadata,
    "wait_for_ready": _flag("wait_for_ready"),
    "idempotency_key": _idempotency_key,
    "overflow": _overflow,
    "resume": _flag("resume"),
}


def _checked(metadata: Mapping[str, str | bytes]) -> Mapping[str, str | bytes]:
    problem = check_metadata(metadata)
    if problem is None:
        reserved = [key for key in metadata if key.startswith(RESERVED_PREFIX)]
        if not reserved:
            return metadata
        problem = (
            f"metadata key {reserved[0]!r} is reserved: keys with {RESERVED_PREFIX!r} belong to the protocol"
        )
    raise ConfigurationError(problem)


def _bound_to_peer(proxy: object) -> TypeError:
    return TypeError(f"{proxy!r} belongs to its peer and can be neither copied nor pickled: use the same one")


@final
class MethodProxy:
    """One method of a remote service.

    ``await method(...)`` makes a unary call; ``async with method.open(...) as call`` opens any call, and is
    the only way for one that streams; ``await method.notify(...)`` calls without an answer.
    """

    __slots__ = ("_name", "_options", "_picker", "_request", "_service")

    def __init__(
        self,
        picker: LinkPicker,
        service: str,
        name: str,
        options: Options,
        result_type: Any = Any,
        *,
        single: bool = False,
    ) -> None:
        self._picker = picker
        self._service = service
        self._name = name
        self._options = options
        target = f"{service}.{name}"
        self._request = Request(
            target,
            target,
            options.codec,
            result_type,
            options.timeout,
            options.all_metadata,
            overflow=options.overflow,
            single=single,
        )

    def __repr__(self) -> str:
        return f"<remote method {self._request.method}>"

    def __reduce__(self) -> NoReturn:
        raise _bound_to_peer(self)

    @overload
    def with_options(  # type: ignore[overload-overlap]  # resume=True is one of CallOptions' as well
        self, *, resume: Literal[True], **options: Unpack[OtherOptions]
    ) -> ResumingMethod: ...

    @overload
    def with_options(self, **options: Unpack[CallOptions]) -> MethodProxy: ...

    def with_options(self, **options: Any) -> Any:
        """Return the method with other options: see :meth:`ServiceProxy.with_options`."""
        return MethodProxy(
            self._picker,
            self._service,
            self._name,
            self._options.replace(**options).for_picker(self._picker),
            self._request.result_type,
            single=self._request.single,
        )

    def __call__(self, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """Call the method and return its single result.

        The deadline is that of the trio cancel scopes around the call, or ``timeout`` of the options if that
        is sooner; it travels to the handler. Cancelling the call cancels the handler.

        Raises:
            RPCError: the call's outcome; ``.method``, ``.peer`` and ``.details`` say more.
            EncodeError: an argument cannot travel.
            TypeError: the method streams its results: use :meth:`open`.
        """
        link = self._picker.pick_now(self._service)
        if link is not None:
            again = self._call_later if self._picker.balances else None
            return call_unary(link, self._request, args, kwargs, again)
        return self._call_later(args, kwargs)

    async def _call_later(self, args: Any, kwargs: Any, deadline: float | None = None) -> Any:
        """Call once there is a link; waiting for one counts towards the timeout, which ``deadline``, as
        :func:`trio.current_time` counts, is the end of if it has begun."""
        request = self._request
        timeout = time_limit(request.timeout)
        if timeout is not None and deadline is not None:
            timeout = min(timeout, deadline - trio.current_time())
        if timeout is None:
            return await call_unary(await self._pick(), request, args, kwargs)
        link: BaseLink | None = None
        with trio.CancelScope(deadline=trio.current_time() + timeout):
            link = await self._pick()
            return await call_unary(link, _without_timeout(request), args, kwargs)
        raise deadline_exceeded(request, timeout, link, sent=link is not None)

    def open(self, /, *args: Any, **kwargs: Any) -> OpenCall:
        """Open a call: ``async with remote.method.open(...) as call``.

        Inside, ``async for`` gives streamed results, ``send`` and ``send_eof`` stream arguments, and
        ``await call.result()`` gives a single result. Leaving the block cancels a call that goes on.

        With the option ``resume`` it gives a :class:`duplex.ResumableStream` instead.
        """
        if self._options.resume:
            patience: float = cast("Any", self._picker).connect_timeout
            return cast("OpenCall", OpenStream(self._pick, patience, self._request, args, kwargs))
        return OpenCall(self._pick, self._request, args, kwargs)

    async def _pick(self) -> BaseLink:
        return self._picker.pick_now(self._service) or await self._picker.pick(
            self._service, wait_for_ready=self._options.wait_for_ready
        )

    async def notify(self, /, *args: Any, **kwargs: Any) -> None:
        """Call the method without waiting for its outcome, which nobody learns.

        Returns when the call is queued on a link. Once it has come to the other side its handler runs, whatever
        becomes of the link. Callbacks and channels cannot be passed.
        """
        try:
            await notify(await self._pick(), self._request, args, kwargs)
        except Unavailable:
            # Its link would take it no more; nothing of it was sent.
            if not self._picker.balances:
                raise
            await notify(await self._pick(), self._request, args, kwargs)


def _without_timeout(request: Request) -> Request:
    return Request(
        request.target,
        request.method,
        request.codec,
        request.result_type,
        None,
        request.metadata,
        request.parent,
    )


class ServiceProxy:
    """A remote service: its attributes are its methods.

    Any name is taken for a method; whether there is one is known to the other side only. A method whose
    name is taken here (``with_options``) is had with ``proxy["with_options"]``.
    """

    def __init__(self, picker: LinkPicker, service: str, options: Options) -> None:
        self._picker = picker
        self._service = service
        self._options = options

    def __repr__(self) -> str:
        return f"<remote service {self._service}>"

    def __getattr__(self, name: str) -> MethodProxy:
        if name.startswith("_"):
            raise AttributeError(f"{name!r} is not the name of a remote method")
        method = self[name]
        self.__dict__[name] = method
        return method

    def __getitem__(self, name: str) -> MethodProxy:
        if not isinstance(name, str):
            raise TypeError(f"the name of a method of {self._service} is a str, not {name!r}")
        return MethodProxy(self._picker, self._service, name, self._options)

    # Else Python would take the method above for a sequence's, and look through an endless one.
    __iter__ = None
    __contains__ = None

    def __reduce__(self) -> NoReturn:
        raise _bound_to_peer(self)

    def with_options(self, **options: Unpack[CallOptions]) -> ServiceProxy:
        """Return the service with other options for its calls.

        Args:
            timeout: seconds for each call, beside the deadline of trio's cancel scopes; ``None`` for none,
                0 or less, as time that has run out, fails at once with nothing sent.
            metadata: headers, added to those set before.
            codec: ``"msgpack"``, ``"json"`` or ``"raw"``.
            wait_for_ready: whether a call that finds no link waits for one, up to the peer's
                ``connect_timeout``; ``False`` fails it at once.
            idempotency_key: a text of at most 255 bytes, unique to what the call is to do: the other side
                runs the method once for it, and answers repetitions with the first outcome.
            overflow: what this side does when the window of one of the call's streams is full, instead of
                making the sender wait. ``None``: the sender waits. Sending: ``"drop_newest"`` drops the
                item, ``"drop_oldest"`` queues it and drops the oldest that is queued, ``"error"`` raises
                ``ResourceExhausted``. Receiving: the same for items that wait to be received, with
                ``"error"`` the call fails. Bounds are this peer's ``Limits.channel_window``.
            resume: whether an opened stream goes on after a lost link, on whichever link offers the service;
                for methods that are resumable. See :class:`duplex.ResumableStream`.

        Raises:
            ConfigurationError: an option is unknown or its value is wrong.
        """
        changed = self._options.replace(**options).for_picker(self._picker)
        return type(self)(self._picker, self._service, changed)
