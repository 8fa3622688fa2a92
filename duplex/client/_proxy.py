"""Proxies: ``remote.add(1, 2)`` is awaited, ``remote.count.open(3)`` is entered, options stay apart."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Literal, NamedTuple, NoReturn, Protocol, Unpack, final, overload

from duplex.client._open import OpenCall
from duplex.client._options import Options
from duplex.engine.calling import Caller, CallOptions, Gathering, OtherOptions, Request
from duplex.engine.channels import ResumableStream


class Route(Protocol):
    """Gives what makes the calls of services: over any link, or over one."""

    def caller(self, service: str, options: Options) -> Caller:
        """Return what makes the calls of a service that have some options.

        Raises:
            ConfigurationError: its calls cannot have them.
        """

    def gathering(
        self,
        service: str,
        options: Options,
        request: Request,
        positional: Sequence[Any],
        keyword: Mapping[str, Any],
    ) -> Gathering[Any]:
        """Return what makes a call at everybody who offers a service.

        Raises:
            ConfigurationError: it is not for calls over one link, or that have such options.
        """


class ResumingMethod(Protocol):
    """The static type of ``method.with_options(resume=True)``: what it opens goes on after a lost link."""

    def open(self, /, *args: Any, **kwargs: Any) -> AbstractAsyncContextManager[ResumableStream[Any]]:
        """Open a stream that goes on after a lost link."""


@final
class Declared(NamedTuple):
    """What is known of a method before it is called."""

    #: The type of its result, or of each item.
    result_type: Any = Any
    #: It is sure to return one value.
    single: bool = False
    #: It may run twice for one call.
    idempotent: bool = False


NOTHING_DECLARED: Final = Declared()


def _bound_to_peer(proxy: object) -> TypeError:
    return TypeError(f"{proxy!r} belongs to its peer and can be neither copied nor pickled: use the same one")


@final
class MethodProxy:
    """One method of a remote service.

    ``await method(...)`` makes a unary call; ``async with method.open(...) as call`` opens any call, and is
    the only way for one that streams; ``await method.notify(...)`` calls without an answer.
    """

    __slots__ = ("_caller", "_declared", "_name", "_options", "_request", "_route", "_service")

    def __init__(
        self,
        route: Route,
        service: str,
        name: str,
        options: Options,
        declared: Declared = NOTHING_DECLARED,
    ) -> None:
        self._route = route
        self._caller = route.caller(service, options)
        self._service = service
        self._name = name
        self._options = options
        self._declared = declared
        target = f"{service}.{name}"
        self._request = Request(
            target,
            target,
            options.codec,
            declared.result_type,
            options.timeout,
            options.all_metadata,
            overflow=options.overflow,
            single=declared.single,
            idempotent=declared.idempotent if options.idempotent is None else options.idempotent,
            wait_for_ready=options.wait_for_ready,
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
            self._route,
            self._service,
            self._name,
            self._options.replace(**options),
            self._declared,
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
        return self._caller.unary(self._request, args, kwargs)

    def open(self, /, *args: Any, **kwargs: Any) -> OpenCall:
        """Open a call: ``async with remote.method.open(...) as call``.

        Inside, ``async for`` gives streamed results, ``send`` and ``send_eof`` stream arguments, and
        ``await call.result()`` gives a single result. Leaving the block cancels a call that goes on.

        With the option ``resume`` it gives a :class:`duplex.ResumableStream` instead.
        """
        return OpenCall(self._request.method, self._caller.open(self._request, args, kwargs))

    def notify(self, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, None]:
        """Call the method without waiting for its outcome, which nobody learns.

        Returns when the call is queued on a link. Once it has come to the other side its handler runs, whatever
        becomes of the link. Callbacks and channels cannot be passed.
        """
        return self._caller.notify(self._request, args, kwargs)

    def gather(self, /, *args: Any, **kwargs: Any) -> Gathering[Any]:
        """Call the method at every linked peer that offers the service: ``async for peer, outcome in remote.method.gather()``.

        Each is asked once, those that offer it when the loop begins. ``peer`` is a :class:`PeerInfo`, and
        ``outcome`` an :class:`Outcome`, whose ``result()`` returns what the method has, or raises the error of that peer; a peer that
        is lost meanwhile has one, too. The loop ends when all have answered, or sooner with the options ``max_answers`` and
        ``stall``. Leaving it cancels the calls that still run.

        For methods with one result. The options are those of a call, but for ``resume`` and ``balancer``; ``timeout`` is for
        all together.

        Raises:
            ConfigurationError: the calls are to take one link, or have options that go with one peer only.

        The loop raises :class:`NoPeers` if nobody offers the service at present, without waiting, and ``EncodeError`` if an argument
        cannot travel.
        """
        return self._route.gathering(self._service, self._options, self._request, args, kwargs)


class ServiceProxy:
    """A remote service: its attributes are its methods.

    Any name is taken for a method; whether there is one is known to the other side only. A method whose
    name is taken here (``with_options``) is called as ``proxy["with_options"]``.
    """

    def __init__(self, route: Route, service: str, options: Options) -> None:
        self._route = route
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
        return MethodProxy(self._route, self._service, name, self._options)

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
                ``ResourceExhausted``. Receiving: likewise for items that wait to be received, with
                ``"error"`` the call fails. Bounds are this peer's ``Limits.channel_window``.
            resume: whether an opened stream goes on after a lost link, on whichever link offers the service;
                for methods that are resumable. See :class:`duplex.ResumableStream`.
            idempotent: whether a method may run twice for one call; ``None`` for what its class says
                (``@rpc(idempotent=True)``), and no where there is none.
            retry: when a call that failed is made again, a :class:`duplex.RetryPolicy`; ``None`` for never, but for calls
                that certainly never began, which take another link once.
            hedging: when a unary call that takes long is made once more beside the first, a :class:`duplex.HedgingPolicy`;
                ``None`` for never. Not together with ``retry``.
            balancer: which of the peers that offer the service gets a call: ``"least_loaded"``, ``"round_robin"``,
                ``"pick_first"`` or a :class:`duplex.ConsistentHash`; ``None`` for the peer's own, see
                :func:`duplex.open_peer`.
            max_answers: how many answers are enough for ``method.gather()``: it ends then, and cancels the other calls. Failures
                are no answers. ``None``: those of all.
            stall: seconds without another answer after which ``method.gather()`` ends, from the first one on; ``None``: never.
            middleware: what runs around the calls, the outermost first, inside what was given before: see
                :class:`duplex.CallingMiddleware`.

        Raises:
            ConfigurationError: an option is unknown or its value is wrong.
        """
        changed = self._options.replace(**options)
        self._route.caller(self._service, changed)
        return type(self)(self._route, self._service, changed)
