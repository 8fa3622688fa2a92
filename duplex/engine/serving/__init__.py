"""Calls that this peer serves: who runs them, how, and what their outcome is on the wire.

A call is two things. Its *channel* is on a link (:class:`ServedChannel`), or there are several, for one idempotency key.
Its *run* is an :class:`Invocation`, which knows nothing of links: it takes arguments from its end, and hands that a result or an
error.
"""

from __future__ import annotations

from duplex.engine.serving._admission import Admission as Admission
from duplex.engine.serving._authorization import AskedCall as AskedCall
from duplex.engine.serving._authorization import Authorization as Authorization
from duplex.engine.serving._authorization import Authorize as Authorize
from duplex.engine.serving._authorization import checked_authorize as checked_authorize
from duplex.engine.serving._callbacks import Callbacks as Callbacks
from duplex.engine.serving._channel import ServedChannel as ServedChannel
from duplex.engine.serving._context import CallContext as CallContext
from duplex.engine.serving._context import current_call as current_call
from duplex.engine.serving._end import ServingLink as ServingLink
from duplex.engine.serving._end import ServingPeer as ServingPeer
from duplex.engine.serving._invocation import Invocation as Invocation
from duplex.engine.serving._middleware import MiddlewareLayers as MiddlewareLayers
from duplex.engine.serving._middleware import Next as Next
from duplex.engine.serving._middleware import ServedCall as ServedCall
from duplex.engine.serving._middleware import ServingMiddleware as ServingMiddleware
from duplex.engine.serving._middleware import checked_middleware as checked_middleware
from duplex.engine.serving._middleware import checked_result as checked_result
from duplex.engine.serving._observer import Observer as Observer
from duplex.engine.serving._observer import UnservedCall as UnservedCall
from duplex.engine.serving._reception import Reception as Reception
from duplex.engine.serving._refusal import refuse as refuse
from duplex.engine.serving._services import ServiceT as ServiceT
from duplex.engine.serving._services import ServiceTable as ServiceTable
from duplex.engine.serving._who import BUILTIN as BUILTIN
from duplex.engine.serving._who import CALLBACK as CALLBACK
from duplex.engine.serving.idempotency import ResultCache as ResultCache

__all__ = (
    "ServiceT",
    "ServiceTable",
    "Callbacks",
    "Admission",
    "AskedCall",
    "Authorization",
    "Authorize",
    "ServingPeer",
    "ServingLink",
    "BUILTIN",
    "CALLBACK",
    "CallContext",
    "Invocation",
    "MiddlewareLayers",
    "Next",
    "Observer",
    "Reception",
    "ResultCache",
    "ServedCall",
    "ServedChannel",
    "ServingMiddleware",
    "UnservedCall",
    "checked_authorize",
    "checked_middleware",
    "checked_result",
    "current_call",
    "refuse",
)
