"""Types and signatures as text."""

from __future__ import annotations

import datetime as dt
import enum
import inspect
import types
import typing
from collections.abc import AsyncIterator
from typing import Annotated, Any, ForwardRef, Literal, NewType, Optional, TypeVar, Union

import numpy as np
import numpy.typing as npt
import pytest

from duplex import Callback, Channel, ReceiveChannel
from duplex.service._arguments import Parameter
from duplex.service._typetext import signature_text, type_text, value_text

T = TypeVar("T")
UserId = NewType("UserId", int)


class Color(enum.Enum):
    RED = 1


class Point:
    class Inner:
        pass


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int, "int"),
        (None, "None"),
        (types.NoneType, "None"),
        (Any, "Any"),
        (object, "object"),
        (Point, "Point"),
        (Point.Inner, "Inner"),
        (dt.datetime, "datetime"),
        (list[int], "list[int]"),
        (list, "list"),
        (typing.List[int], "list[int]"),  # noqa: UP006
        (dict[str, list[Point]], "dict[str, list[Point]]"),
        (tuple[int, ...], "tuple[int, ...]"),
        (tuple[()], "tuple[()]"),
        (int | None, "int | None"),
        (Optional[Point], "Point | None"),  # noqa: UP045
        (Union[int, str, None], "int | str | None"),  # noqa: UP007
        (Literal["a", 1, None, Color.RED], "Literal['a', 1, None, Color.RED]"),
        (Annotated[int, "positive"], "int"),
        (list[Annotated[int, "positive"]], "list[int]"),
        (Callback[[int, str], None], "Callback[[int, str], None]"),
        (Callback[[], int], "Callback[[], int]"),
        (Callback[..., int], "Callback[..., int]"),
        (ReceiveChannel[int], "ReceiveChannel[int]"),
        (Channel[int, str | None], "Channel[int, str | None]"),
        (AsyncIterator[int], "AsyncIterator[int]"),
        (T, "T"),
        (list[T], "list[T]"),  # type: ignore[valid-type]
        (UserId, "UserId"),
        (ForwardRef("Point"), "Point"),
        (np.ndarray, "ndarray"),
        (npt.NDArray, "NDArray"),
        (np.ndarray[Any, np.dtype[np.float64]], "NDArray[float64]"),
    ],
)
def test_types(annotation: Any, text: str) -> None:
    assert type_text(annotation) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        ("a", "'a'"),
        (Color.RED, "Color.RED"),
        (Point(), "<tests.service.test_typetext.Point object>"),
        ("x" * 100, "'" + "x" * 59 + "..."),
    ],
)
def test_values(value: Any, text: str) -> None:
    assert value_text(value) == text


def test_signatures() -> None:
    only, either, rest, named, others = inspect._ParameterKind
    parameters = [
        Parameter("a", only, int),
        Parameter("b", either, str, "x"),
        Parameter("c", rest, float),
        Parameter("d", named),
        Parameter("e", named, Color | None, Color.RED),
        Parameter("f", others, list[int]),
    ]
    assert signature_text("work", parameters, "AsyncIterator[Point]") == (
        "work(a: int, /, b: str = 'x', *c: float, d, e: Color | None = Color.RED, **f: list[int]) -> "
        "AsyncIterator[Point]"
    )
    assert signature_text("work", parameters[3:4], None) == "work(*, d)"
    assert signature_text("work", [], "None") == "work() -> None"
