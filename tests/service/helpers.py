"""Live values without an engine, and the way from Python arguments to bound ones."""

from __future__ import annotations

import typing
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from duplex import Callback, ChannelStatistics, ReceiveChannel, SendChannel
from duplex._errors import DecodeError, InvalidArgument
from duplex.codec import CODECS, LiveKind, MsgpackCodec
from duplex.service import MethodSpec, Service

CODEC = CODECS["msgpack"]


class FakeReceive(ReceiveChannel[Any]):
    """The receiving end of nothing."""

    item_type: Any = None

    async def receive(self) -> Any:
        raise NotImplementedError

    def statistics(self) -> ChannelStatistics:
        raise NotImplementedError

    async def aclose(self) -> None:
        raise NotImplementedError


class FakeSend(SendChannel[Any]):
    """The sending end of nothing."""

    async def send(self, value: Any) -> None:
        raise NotImplementedError

    async def send_eof(self) -> None:
        raise NotImplementedError

    def statistics(self) -> ChannelStatistics:
        raise NotImplementedError

    async def aclose(self) -> None:
        raise NotImplementedError


class FakeCallback(Callback[..., Any]):
    """A function of nobody."""

    def __init__(self) -> None:
        pass

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


_KINDS: dict[LiveKind, type] = {
    LiveKind.CALLBACK: FakeCallback,
    LiveKind.SEND_CHANNEL: FakeSend,
    LiveKind.RECEIVE_CHANNEL: FakeReceive,
}


class FakeLive:
    """Numbers for live values, and the values for the numbers. Each can be imported once, as in the engine."""

    max_attachments = 64
    max_elements = 65_536

    def __init__(self) -> None:
        self.exported: list[Any] = []
        self.imported: list[Any] = []

    def export(self, value: Any) -> tuple[LiveKind, int] | None:
        for kind, cls in _KINDS.items():
            if isinstance(value, cls):
                self.exported.append(value)
                return kind, len(self.exported) - 1
        return None

    def import_(self, kind: LiveKind, number: int) -> Any:
        value = self.exported[number]
        if not isinstance(value, _KINDS[kind]) or value in self.imported:
            raise DecodeError(f"there is no {kind.name} {number}")
        self.imported.append(value)
        return value

    def adapt(self, value: Any, annotation: Any) -> Any:
        origin = typing.get_origin(annotation) or annotation
        if not isinstance(value, origin):
            raise DecodeError(f"expected a {origin.__name__}, got a {type(value).__name__}")
        if isinstance(value, FakeReceive):
            value.item_type = (typing.get_args(annotation) or (Any,))[0]
        return value


def spec_of(function: Callable[..., Any], **options: Any) -> MethodSpec:
    """Return the spec of a function as a method of the service ``calc``."""
    service = Service("calc")
    service.add(function, **options)
    (spec,) = service.methods.values()
    return spec


def call(spec: MethodSpec, *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Send arguments through the codec and bind them, with live values at hand."""
    return call_raw(spec, args, kwargs)


def call_raw(
    spec: MethodSpec, args: Sequence[Any], kwargs: dict[Any, Any], codec: MsgpackCodec | None = None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same, for names that Python would not take."""
    live = FakeLive()
    payload, attachments = CODEC.encode_arguments(args, kwargs, live)
    bound_args, bound_kwargs = spec.arguments(codec or CODEC, payload, attachments, live)
    return tuple(bound_args), dict(bound_kwargs)


def refusal(spec: MethodSpec, *args: Any, **kwargs: Any) -> str:
    """Return the message with which arguments are refused."""
    with pytest.raises(InvalidArgument) as caught:
        call(spec, *args, **kwargs)
    assert caught.value.may_have_executed is False
    return caught.value.message
