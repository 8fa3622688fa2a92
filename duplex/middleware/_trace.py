"""A span of OpenTelemetry for each call, and the trace that it belongs to, which travels with it."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

import trio

import duplex
from duplex._errors import as_text
from duplex.engine._throttle import Throttle
from duplex.middleware._status import status_of

if TYPE_CHECKING:
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import Span, TracerProvider

logger = logging.getLogger("duplex")

#: A member of ``tracestate``, and how long and how many W3C has peers pass on.
_MEMBER: Final = re.compile(
    r"[a-z0-9][a-z0-9_*/@-]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
_MOST_STATE: Final = 512
_MOST_MEMBERS: Final = 32

#: Runs around calls of either side.
Middleware: TypeAlias = Callable[[Any, Any], Coroutine[Any, Any, Any]]

#: What a span of a call that is served has failed with, if it was not the caller's doing: as the conventions have it for gRPC,
#: whose statuses these are.
_FAULTS: Final = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)


def trace_calls(
    *, tracer_provider: TracerProvider | None = None, propagator: TextMapPropagator | None = None
) -> Middleware:
    """Return middleware that makes a span for each call, for calls that are served and for calls that are made.

    The trace travels in the metadata, as ``traceparent`` and ``tracestate``: a call that a handler makes is part of the
    trace of the call that it serves, whatever peers are in between, if all use this. Spans have the names and attributes of OpenTelemetry's
    conventions for RPC; arguments and results are not recorded. Needs the extra ``opentelemetry``.

    Args:
        tracer_provider: where the spans go; ``None``: the one that is set for the program.
        propagator: how the trace travels; ``None``: as W3C has specified it.

    Raises:
        ConfigurationError: OpenTelemetry is not installed.
    """
    try:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
    except ImportError:
        raise duplex.ConfigurationError(
            "traces need OpenTelemetry: pip install 'duplex-rpc[opentelemetry]', and its SDK where they are to be collected"
        ) from None
    tracing = _Tracing(
        trace,
        trace.get_tracer("duplex", duplex.__version__, tracer_provider),
        TraceContextTextMapPropagator() if propagator is None else propagator,
    )

    async def trace_call(call: Any, next: Any) -> Any:
        if isinstance(call, duplex.MadeCall):
            return await tracing.made(call, next)
        return await tracing.served(call, next)

    return trace_call


@final
class _Tracing:
    """Makes the spans.

    Args:
        trace: the module of OpenTelemetry.
        tracer: begins spans.
        propagator: reads and writes metadata.
    """

    def __init__(self, trace: Any, tracer: Any, propagator: TextMapPropagator) -> None:
        from opentelemetry.context import Context, attach, detach

        self._attach = attach
        self._detach = detach
        self._trace = trace
        self._tracer = tracer
        self._propagator = propagator
        self._fields = sorted(propagator.fields)
        self._throttle = Throttle()
        #: The parent of calls that come without one, whatever was current where the peer was opened.
        self._nothing = Context()

    async def served(self, call: duplex.ServedCall, next: duplex.Next) -> Any:
        """Serve a call in a span, which is the current one for the handler."""
        attributes = {**_attributes(call.method), "duplex.peer": str(call.peer)}
        if call.attempt > 1:
            attributes["duplex.attempt"] = call.attempt
        try:
            span = self._tracer.start_span(
                attributes["rpc.method"],
                context=self._context_of(call.metadata),
                kind=self._trace.SpanKind.SERVER,
                attributes=attributes,
            )
        except Exception as error:
            self._failed(error)
            return await next(call)
        token = self._attach(self._trace.set_span_in_context(span))
        try:
            result = await next(call)
        except BaseException as error:
            status = status_of(call, error)
            is_unexpected = isinstance(error, Exception) and not isinstance(error, duplex.RPCError)
            self._end(
                span,
                status,
                status if status in _FAULTS else None,
                _message(error),
                error if is_unexpected else None,
            )
            raise
        finally:
            self._detach(token)
        self._end(span, "OK", None, None)
        return result

    async def made(self, call: duplex.MadeCall, next: duplex.NextCall) -> Any:
        """Make a call in a span. The block of an opened call has a current span of its own, or none: it may make other calls, which
        are no part of this one."""
        attributes = _attributes(call.method)
        headers: dict[str, str] = {}
        try:
            span = self._tracer.start_span(
                attributes["rpc.method"], kind=self._trace.SpanKind.CLIENT, attributes=attributes
            )
            context = self._trace.set_span_in_context(span)
            self._propagator.inject(headers, context=context)
        except Exception as error:
            self._failed(error)
            return await next(call)
        if headers:
            call.metadata = {**call.metadata, **headers}
        token = None if call.kind == "open" else self._attach(context)
        try:
            result = await next(call)
        except BaseException as error:
            self._end_made(span, call, error)
            raise
        finally:
            if token is not None:
                self._detach(token)
        self._end_made(span, call, None)
        return result

    def _context_of(self, metadata: duplex.Metadata) -> Any:
        """Return the context that a call comes with; of what it says of the trace, only what has the form for that counts."""
        headers = {key: value for key in self._fields if isinstance(value := metadata.get(key), str)}
        # What OpenTelemetry finds wrong with it, it logs, for each call and in full.
        if "tracestate" in headers and not _is_trace_state(headers["tracestate"]):
            del headers["tracestate"]
        return self._propagator.extract(headers) if headers else self._nothing

    def _failed(self, error: BaseException) -> None:
        """What becomes of a span is nothing to the call: an exporter that fails costs no result."""
        more = self._throttle.note("failed", trio.current_time())
        if more is not None:
            logger.error("a span of a call is lost: %s%s", as_text(error), more, exc_info=error)

    def _end_made(self, span: Span, call: duplex.MadeCall, raised: BaseException | None) -> None:
        error = call.error or raised
        peer = call.peer or (error.peer if isinstance(error, duplex.RPCError) else None)
        if peer is not None:
            span.set_attribute("duplex.peer", peer)
        if isinstance(error, Exception) and not isinstance(error, duplex.RPCError):
            # It never was a call, or its block has raised something of its own: there is no status.
            name = f"{type(error).__module__}.{type(error).__qualname__}"
            self._end(span, None, name, f"{name}: {as_text(error)}")
        else:
            status = status_of(call, error)
            self._end(span, status, None if status == "OK" else status, _message(error))

    def _end(
        self,
        span: Span,
        status: str | None,
        failure: str | None,
        message: str | None,
        unexpected: BaseException | None = None,
    ) -> None:
        """End a span.

        Args:
            span: the span.
            status: how the call has ended, if it was one.
            failure: the kind of failure, if it is to count as one.
            message: more about that.
            unexpected: what a handler has raised and did not mean to.
        """
        try:
            if unexpected is not None:
                span.record_exception(unexpected)
            if status is not None:
                span.set_attribute("rpc.response.status_code", status)
            if failure is not None:
                span.set_attribute("error.type", failure)
                span.set_status(self._trace.StatusCode.ERROR, message)
            span.end()
        except Exception as error:
            self._failed(error)


def _attributes(method: str) -> dict[str, Any]:
    # Which of the other side's functions is called back makes no kind of call of its own.
    name = "callback" if method.startswith("callback ") else method
    return {"rpc.system.name": "duplex", "rpc.method": name}


def _is_trace_state(text: str) -> bool:
    if len(text) > _MOST_STATE:
        return False
    members = [member.strip(" \t") for member in text.split(",")]
    keys = {member.partition("=")[0] for member in members}
    return len(keys) == len(members) <= _MOST_MEMBERS and all(map(_MEMBER.fullmatch, members))


def _message(error: BaseException | None) -> str | None:
    return error.message if isinstance(error, duplex.RPCError) else None
