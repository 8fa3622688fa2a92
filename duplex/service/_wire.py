"""Types that describe the arguments of a call as they travel, so that a decoder does all in one pass.

Their fields are called ``p0``, ``p1``, ... because a parameter may have a name that means something to a class.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, cast

import msgspec
from msgspec import UNSET, UnsetType


class Wire(msgspec.Struct, array_like=True):
    """What all types of :func:`wire_type` have in common."""

    positional: Any
    keyword: Any | UnsetType = UNSET


def named_fields(names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Return the field of ``Wire.keyword`` for each name, and the name."""
    return tuple((f"p{index}", name) for index, name in enumerate(names))


@functools.lru_cache(maxsize=1024)
def wire_type(slots: tuple[Any, ...], named: tuple[tuple[str, Any], ...]) -> type[Wire]:
    """Return a type for a whole payload: ``[positional, keyword]``.

    Whatever is missing is ``UNSET``; whether the arguments suffice depends on both parts together.

    Args:
        slots: the type of each parameter that may come by position.
        named: name and type of each parameter that may come by name.
    """
    fields = named_fields(name for name, _ in named)
    keyword = msgspec.defstruct(
        "Keyword",
        [(field, annotation, UNSET) for (field, _), (_, annotation) in zip(fields, named, strict=True)],
        rename=dict(fields),
        forbid_unknown_fields=True,
        gc=False,
    )
    positional = msgspec.defstruct(
        "Positional",
        [(f"p{index}", annotation, UNSET) for index, annotation in enumerate(slots)],
        array_like=True,
        forbid_unknown_fields=True,
        gc=False,
    )
    arguments = msgspec.defstruct(
        "Arguments",
        [("positional", positional), ("keyword", keyword, UNSET)],
        bases=(Wire,),
        array_like=True,
        forbid_unknown_fields=True,
        gc=False,
    )
    return cast("type[Wire]", arguments)
