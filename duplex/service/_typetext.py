"""Types and signatures as text that a human reads: ``dict[str, Point] | None``, no module names."""

from __future__ import annotations

import enum
import inspect
import re
import types
import typing
from collections.abc import Container, Sequence
from typing import Any, Final

from duplex.service._arguments import REQUIRED, Parameter

#: Longest default that is written out.
_LONGEST_DEFAULT: Final = 60


def type_text(annotation: Any) -> str:
    """Return a type as its author might have written it.

    Constraints in ``Annotated`` are left out; the JSON Schema has them.
    """
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = annotation.__origin__
    if annotation is None or annotation is types.NoneType:
        return "None"
    if annotation is ...:
        return "..."
    if annotation is Any:
        return "Any"
    if isinstance(annotation, (list, tuple)):  # the parameters of a Callback
        return f"[{', '.join(map(type_text, annotation))}]"
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Union or origin is types.UnionType:
        return " | ".join(map(type_text, arguments))
    if origin is typing.Literal:
        return f"Literal[{', '.join(map(value_text, arguments))}]"
    name = _name(annotation if origin is None else origin)
    if name == "ndarray" and arguments:
        # numpy.typing.NDArray[float64], whose expansion differs from one numpy to the next
        dtype = typing.get_args(arguments[-1])
        known = dtype and not isinstance(dtype[0], typing.TypeVar)
        return f"NDArray[{type_text(dtype[0])}]" if known else "NDArray"
    if arguments:
        return f"{name}[{', '.join(map(type_text, arguments))}]"
    return f"{name}[()]" if annotation == tuple[()] else name


def value_text(value: Any) -> str:
    """Return a value as Python would write it, cut short if it is long."""
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    try:
        text = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))  # differs from run to run
    except Exception:  # somebody else's repr
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _LONGEST_DEFAULT else text[:_LONGEST_DEFAULT] + "..."


def signature_text(
    name: str, parameters: Sequence[Parameter], result: str | None, *, hidden: Container[str] = ()
) -> str:
    """Return a signature such as ``add(a: int, b: int = 2) -> int``.

    Args:
        name: the name of the method.
        parameters: its parameters; what is ``Any`` is left out.
        result: the text of what it returns; ``None`` to say nothing of it.
        hidden: the names of parameters whose defaults are not told.
    """

    def default_of(p: Parameter) -> Any:
        if p.default is REQUIRED:
            return REQUIRED
        return _Verbatim("..." if p.name in hidden else value_text(p.default))

    written = inspect.Signature(
        [
            inspect.Parameter(
                p.name,
                p.kind,
                annotation=inspect.Parameter.empty
                if p.annotation is Any
                else _Verbatim(type_text(p.annotation)),
                default=default_of(p),
            )
            for p in parameters
        ],
        return_annotation=inspect.Signature.empty if result is None else _Verbatim(result),
    )
    return f"{name}{written}"


def _name(annotation: Any) -> str:
    if isinstance(annotation, typing.ForwardRef):
        return annotation.__forward_arg__
    name = getattr(annotation, "__name__", None)
    return name if isinstance(name, str) else str(annotation).removeprefix("typing.").removeprefix("~")


class _Verbatim:
    """Text that :class:`inspect.Signature` shows as it is."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text
