"""Classes whose objects come from functions: calling such a class says which."""

from __future__ import annotations

from typing import Any, Never, TypeVar

T = TypeVar("T")


class Made(type):
    """The type of classes that users name and never call. Each says in ``_MADE_BY`` what gives its objects."""

    _MADE_BY: str

    def __call__(cls, *_: object, **__: object) -> Never:
        raise TypeError(f"a {cls.__name__} is not made by calling the class: {cls._MADE_BY}")

    def _make(cls: type[T], *args: Any, **kwargs: Any) -> T:
        made: T = type.__call__(cls, *args, **kwargs)
        return made
