"""Functions that are passed as callbacks: whatever they are, they can be called."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from duplex import ConfigurationError, Kind
from duplex.engine._handler import Flavor, Handler
from duplex.service import callback_spec
from tests.service.helpers import FakeCallback, call, refusal


def test_a_lambda() -> None:
    handler: Handler = callback_spec(lambda item: item, "callback")
    assert (handler.method, handler.kind, handler.flavor) == ("callback", Kind.UNARY, Flavor.SYNC)
    assert handler.inline, "on the event loop, where whoever wrote it expects it"
    spec = callback_spec(lambda item: item, "callback")
    assert call(spec, [1]) == (([1],), {})
    assert refusal(spec) == "callback: missing argument 'item'"
    assert refusal(spec, 1, 2) == "callback takes 1 argument (item), got 2"


def test_annotations_are_checked() -> None:
    async def visit(number: int, *, name: str = "") -> None: ...

    spec = callback_spec(visit, "callback")
    assert spec.flavor is Flavor.ASYNC
    assert not spec.inline
    assert call(spec, 1, name="n") == ((1,), {"name": "n"})
    assert refusal(spec, "x") == "callback: argument 'number': expected `int`, got `str`"


def test_annotations_that_mean_nothing_here_are_ignored() -> None:
    class Foreign:
        pass

    def visit(a: Unknown, b: Foreign | int, c: int) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    visit.__annotations__["b"] = Foreign | int
    spec = callback_spec(visit, "callback")
    assert [p.annotation for p in spec.parameters] == [Any, Any, int]
    assert call(spec, "x", "y", 1) == (("x", "y", 1), {})


@pytest.mark.parametrize("function", [[].append, print, functools.partial(print, 1), FakeCallback()])
def test_what_is_written_in_c_or_remote_takes_anything(function: Any) -> None:
    spec = callback_spec(function, "callback")
    assert call(spec, 1, end="") == ((1,), {"end": ""})
    assert spec.flavor is (Flavor.ASYNC if isinstance(function, FakeCallback) else Flavor.SYNC)


def test_methods_and_partials() -> None:
    class Seen:
        def note(self, number: int, scale: int = 1) -> None: ...

    seen = Seen()
    assert call(callback_spec(seen.note, "callback"), 1) == ((1,), {})
    assert refusal(callback_spec(functools.partial(seen.note, 1), "callback"), 1, 2).endswith("got 2")


def test_what_yields_is_refused() -> None:
    async def stream() -> AsyncIterator[int]:
        yield 1

    with pytest.raises(
        ConfigurationError, match=r"callback: a callback returns one value, so stream cannot yield"
    ):
        callback_spec(stream, "callback")
    with pytest.raises(ConfigurationError, match="Python cannot tell the signature"):
        callback_spec(functools.partial(lambda: None, 1), "callback")  # type: ignore[call-arg]
