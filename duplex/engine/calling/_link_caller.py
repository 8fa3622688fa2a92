"""Calls over one link."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

import trio

from duplex._errors import EncodeError, RPCError, Unknown
from duplex.codec._base import LiveKind
from duplex.engine._runs import check_run
from duplex.engine.calling._channel import open_channel
from duplex.engine.calling._opening import LimitedOpening
from duplex.engine.calling._outcome import blame, deadline_exceeded
from duplex.engine.calling._outgoing import (
    OutgoingCall,
    OutgoingChannelEnd,
    OverflowingChannelEnd,
    close_now,
)
from duplex.engine.calling._request import Request, begun, in_time
from duplex.engine.calling._unary import UnaryCall
from duplex.engine.channels import FUNCTIONS, message_bytes
from duplex.engine.threads import in_thread, wait_in_thread
from duplex.protocol import END, NOTIFY

if TYPE_CHECKING:
    from duplex.engine.calling._host import CallHost


@final
class LinkCaller:
    """Makes calls over one link; see :class:`Caller`. They end with the link, as ``PeerLost``."""

    __slots__ = ("_link",)

    def __init__(self, link: CallHost) -> None:
        self._link = link

    def unary(
        self, request: Request, positional: Sequence[Any], keyword: Mapping[str, Any], /
    ) -> Coroutine[Any, Any, Any]:
        """See :meth:`Caller.unary`."""
        if request.timeout is None and in_thread.get() is None:
            return UnaryCall(self._link, request).run(positional, keyword)
        return self._limited(request, positional, keyword)

    async def _limited(self, request: Request, positional: Sequence[Any], keyword: Mapping[str, Any]) -> Any:
        """Make a unary call that has a time limit, or is made by a handler's thread."""
        request = begun(request)
        call = UnaryCall(self._link, request)
        if request.deadline is not None and not request.is_bounded:
            if request.deadline <= self._link.engine.clock():
                await trio.lowlevel.checkpoint()
                raise deadline_exceeded(request.method, request.timeout, self._link, sent=False)
            call.keep_time(request.deadline)
        threads = in_thread.get()
        if threads is None:
            return await call.run(positional, keyword)
        return await wait_in_thread(threads, call.run(positional, keyword))

    def open(
        self, request: Request, positional: Sequence[Any], keyword: Mapping[str, Any], /
    ) -> LimitedOpening[OutgoingCall[Any, Any]]:
        """See :meth:`Caller.open`."""

        def begin(request: Request) -> Awaitable[OutgoingCall[Any, Any]]:
            return _open_call(self._link, request, positional, keyword)

        return LimitedOpening(request, begin, _end_call, self._link)

    async def notify(
        self, request: Request, positional: Sequence[Any], keyword: Mapping[str, Any], /
    ) -> None:
        """See :meth:`Caller.notify`."""
        link = self._link
        link.engine.check_thread()
        check_run()
        request = begun(request)
        call = UnaryCall(link, request)
        try:
            payload, attachments = request.codec.encode_arguments(positional, keyword, _NotifiedValues(link))
            with in_time(request, link):
                await trio.lowlevel.checkpoint()
                await link.wait_link_credit(call)
            open_channel(link, call, request, request.time_left(), payload, attachments, END | NOTIFY)
            if (counting := link.engine.counting) is not None:
                counting.made[request.method].ended(0, 0.0, 0, message_bytes(payload, attachments))
        except RPCError as error:
            blame(error, request.method, link)
            raise


@trio.lowlevel.enable_ki_protection
async def _open_call(
    link: CallHost, request: Request, positional: Sequence[Any], keyword: Mapping[str, Any]
) -> OutgoingCall[Any, Any]:
    if request.overflow is None:
        call = OutgoingChannelEnd(link, request)
    else:
        call = OverflowingChannelEnd(link, request, request.overflow)
    try:
        payload, attachments = request.codec.encode_arguments(positional, keyword, call)
        await trio.lowlevel.checkpoint_if_cancelled()
        await link.wait_link_credit(call)
        if call.over:
            call.revoke_exports()  # it was refused already; its user learns how
        elif call.channel:
            link.connection.send(call.channel, payload, attachments)
            link.touch()
            call.bytes_out += message_bytes(payload, attachments)
            call.commit_exports()
        else:
            call.timeout = request.time_left()
            call.channel = open_channel(link, call, request, call.timeout, payload, attachments)
            call.bytes_out += message_bytes(payload, attachments)
        call.started = link.now
    except BaseException as error:
        if call.channel and not call.over:
            link.channels.cancel(call.channel, "the call could not be opened")
        call.revoke_exports()
        call.finish(Unknown("the call could not be opened"))
        if isinstance(error, RPCError):
            blame(error, request.method, link)
            await trio.lowlevel.checkpoint()  # a task that tries again and again must let others run
        raise
    return OutgoingCall(call)


async def _end_call(call: OutgoingCall[Any, Any]) -> None:
    close_now(call)


@final
class _NotifiedValues:
    """What a codec has to know of a notification, which is over at once: no callback or channel goes with it."""

    __slots__ = ("max_attachments", "max_elements")

    def __init__(self, link: CallHost) -> None:
        self.max_attachments = link.connection.max_attachments
        self.max_elements = 0  # nothing is decoded

    def export(self, value: Any) -> tuple[LiveKind, int] | None:
        if isinstance(value, (*FUNCTIONS, trio.abc.SendChannel, trio.abc.ReceiveChannel)):
            raise EncodeError(
                "functions and channels travel only while a call lives, and a notification's does not"
            )
        return None

    def import_(self, kind: LiveKind, number: int) -> Any:
        raise NotImplementedError("arguments are only encoded")  # pragma: no cover

    def adapt(self, value: Any, annotation: Any) -> Any:
        raise NotImplementedError("arguments are only encoded")  # pragma: no cover
