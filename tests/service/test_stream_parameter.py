"""The call's own stream among the arguments: left out, unless the caller passed a channel for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from duplex import Callback, Channel, ReceiveChannel, SendChannel
from tests.service.helpers import FakeCallback, FakeReceive, FakeSend, call, refusal, spec_of


async def first(numbers: ReceiveChannel[int], scale: int = 1, shift: int = 0) -> int: ...  # type: ignore[empty-body]
async def middle(name: str, numbers: ReceiveChannel[int], scale: int = 1) -> int: ...  # type: ignore[empty-body]
async def required(name: str, numbers: ReceiveChannel[int], scale: int) -> int: ...  # type: ignore[empty-body]
async def anything(numbers: ReceiveChannel[int], other: Any = None) -> int: ...  # type: ignore[empty-body]
async def named(*names: str, numbers: ReceiveChannel[int]) -> int: ...  # type: ignore[empty-body]
async def options(numbers: ReceiveChannel[int], **more: int) -> int: ...  # type: ignore[empty-body]
async def both(numbers: ReceiveChannel[int], out: SendChannel[int]) -> None: ...
async def chat(channel: Channel[int, str], name: str = "") -> None: ...
async def merge(a: ReceiveChannel[int], b: ReceiveChannel[str]) -> None: ...
async def each(visit: Callback[[int], None], out: SendChannel[int] | None = None) -> None: ...


async def shout(words: ReceiveChannel[str], loud: bool = True) -> AsyncIterator[str]:
    yield ""


def test_it_is_not_among_the_arguments() -> None:
    assert call(spec_of(first)) == ((), {})
    assert call(spec_of(shout)) == ((), {})
    assert call(spec_of(named), "a", "b") == (("a", "b"), {})
    assert call(spec_of(chat)) == ((), {})


def test_what_stands_behind_it_is_bound_by_name() -> None:
    assert call(spec_of(first), 2) == ((), {"scale": 2})
    assert call(spec_of(first), 2, 3) == ((), {"scale": 2, "shift": 3})
    assert call(spec_of(first), 2, shift=3) == ((), {"scale": 2, "shift": 3})
    assert call(spec_of(middle), "n") == (("n",), {})
    assert call(spec_of(middle), "n", 2) == (("n",), {"scale": 2})
    assert call(spec_of(middle), name="n", scale=2) == ((), {"name": "n", "scale": 2})
    assert call(spec_of(options), x=1) == ((), {"x": 1})
    assert call(spec_of(chat), "n") == ((), {"name": "n"})


def test_errors_do_not_speak_of_it() -> None:
    assert (
        refusal(spec_of(first), 1, 2, 3) == "calc.first takes 0 to 2 arguments (scale=..., shift=...), got 3"
    )
    assert refusal(spec_of(required), "n") == "calc.required: missing argument 'scale'"
    assert refusal(spec_of(middle), "n", "x") == "calc.middle: argument 'scale': expected `int`, got `str`"
    assert refusal(spec_of(middle), "n", x=1) == "calc.middle: unknown argument 'x'; it takes name, scale"


def test_a_channel_may_be_passed_for_it() -> None:
    numbers = FakeReceive()
    assert call(spec_of(first), numbers) == ((), {"numbers": numbers})
    assert numbers.item_type is int
    assert call(spec_of(first), numbers, 2) == ((), {"numbers": numbers, "scale": 2})
    assert call(spec_of(first), scale=2, numbers=numbers) == ((), {"numbers": numbers, "scale": 2})
    assert call(spec_of(middle), "n", numbers, 2) == (("n",), {"numbers": numbers, "scale": 2})
    assert call(spec_of(named), "a", numbers=numbers) == (("a",), {"numbers": numbers})
    assert call(spec_of(anything), numbers) == ((), {"numbers": numbers})
    other = FakeReceive()
    assert call(spec_of(anything), numbers, other) == ((), {"numbers": numbers, "other": other})


def test_only_a_receiving_end_is_meant_for_it() -> None:
    out, numbers = FakeSend(), FakeReceive()
    assert call(spec_of(both), out) == ((), {"out": out})
    assert call(spec_of(both), numbers, out) == ((), {"numbers": numbers, "out": out})
    assert call(spec_of(anything), out) == ((), {"other": out})
    assert "argument 'numbers': expected a ReceiveChannel, got a FakeSend" in refusal(
        spec_of(first), numbers=out
    )
    assert "argument 'numbers': expected a ReceiveChannel, got a int" in refusal(spec_of(first), numbers=1)


def test_the_whole_channel_is_always_the_calls_own() -> None:
    message = refusal(spec_of(chat), channel=FakeReceive())
    assert message == "calc.chat: argument 'channel' is the call's own channel; send on the call"
    assert "argument 'name'" in refusal(spec_of(chat), FakeReceive())


def test_several_channels_are_all_values() -> None:
    a, b = FakeReceive(), FakeReceive()
    assert call(spec_of(merge), a, b) == ((a, b), {})
    assert (a.item_type, b.item_type) == (int, str)
    assert call(spec_of(merge), b=a, a=b) == ((), {"a": b, "b": a})
    assert refusal(spec_of(merge), a) == "calc.merge: missing argument 'b'"
    assert "argument 'b': expected a ReceiveChannel" in refusal(spec_of(merge), a, FakeSend())


def test_other_live_values() -> None:
    visit, out = FakeCallback(), FakeSend()
    assert call(spec_of(each), visit) == ((visit,), {})
    assert call(spec_of(each), visit, out) == ((visit, out), {})
    assert call(spec_of(each), visit, None) == ((visit, None), {})
    assert "argument 'visit': expected a Callback, got a FakeSend" in refusal(spec_of(each), out)
    assert "argument 'out'" in refusal(spec_of(each), visit, 3)
