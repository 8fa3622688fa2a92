"""Functions of the other side, which are called over the link that they came by."""

from __future__ import annotations

from typing import Any, final

import trio

from duplex._errors import FailedPrecondition
from duplex.codec._base import Codec
from duplex.engine.calling._caller import Caller
from duplex.engine.calling._request import Request
from duplex.engine.channels import Callback, CallValues


@final
class RemoteCallback(Callback[..., Any]):
    """A function of the other peer; see :class:`Callback`.

    Args:
        caller: makes its calls.
        codec: of their arguments and results.
        number: which function it is.
        channel_end: the call that brought it, and as long as which it lives.
    """

    __slots__ = ("_caller", "_codec", "_channel_end", "_number", "_result_type")

    def __init__(self, caller: Caller, codec: Codec, number: int, channel_end: CallValues) -> None:
        self._caller = caller
        self._codec = codec
        self._number = number
        self._channel_end = channel_end
        self._result_type: Any = Any

    def _set_type(self, result_type: Any) -> None:
        self._result_type = result_type

    async def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the function where it lives and return what it returns."""
        if self._channel_end.over:
            await trio.lowlevel.checkpoint()
            raise FailedPrecondition("this callback's call is over, and the callback with it")
        request = Request(
            self._number,
            f"callback {self._number}",
            self._codec,
            self._result_type,
            parent=self._channel_end.channel,
        )
        return await self._caller.unary(request, args, kwargs)
