"""Reads what ``duplex`` makes public, and the list of it that is kept in ``public_surface.txt``."""

from __future__ import annotations

import enum
import inspect
import types
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final, ForwardRef

FROZEN: Final = Path(__file__).with_name("public_surface.txt")

#: Public classes whose objects come from elsewhere, so that what they are called with is the engine's business.
MADE_INSIDE: Final = frozenset(
    {"CallContext", "MethodProxy", "OpenCall", "OutgoingCall", "ServedCall", "ServiceProxy"}
)

COMMAND: Final = "python -m tests.meta.freeze"


def public_names(module: types.ModuleType) -> list[str]:
    """The sorted public names: ``__all__`` where there is one, else what is neither private nor a module."""
    declared = getattr(module, "__all__", None)
    if declared is not None:
        return sorted(declared)
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not isinstance(value, types.ModuleType)
        # `from __future__ import annotations` is visible in a module, and not meant.
        and getattr(type(value), "__module__", "") != "__future__"
    )


def read_frozen() -> list[str]:
    """The lines of ``public_surface.txt``; fails with the command that writes it when there is none."""
    if not FROZEN.exists():
        raise AssertionError(f"{FROZEN.name} is missing; write it with: {COMMAND}")
    return FROZEN.read_text(encoding="utf-8").splitlines()


def surface(module: types.ModuleType) -> list[str]:
    """What is public, a line each: names, what they are called with, and the members of classes.

    What a class has from another public one stands there.
    """
    public = {getattr(module, name) for name in public_names(module)}
    lines = []
    for name in public_names(module):
        value = getattr(module, name)
        if inspect.isclass(value):
            above = [base for base in value.__mro__[1:] if base in public]
            bases = [base for base in above if not any(base in other.__mro__[1:] for other in above)]
            heir = f" is a {' and '.join(base.__name__ for base in bases)}" if bases else ""
            lines.append(f"class {name}{_constructor(value)}{heir}")
            lines += [_member(value, member, found) for member, found in sorted(_own(value, public))]
        else:
            lines.append(_routine(name, value) if inspect.isroutine(value) else name)
    return lines


def _own(cls: type, public: Collection[object] = ()) -> Iterator[tuple[str, Any]]:
    """The public members of a class that are of this project, and not another public class's."""
    seen = {name for base in cls.__mro__[1:] if base in public for name, _ in _own(base)}
    ours = {"duplex", cls.__module__.partition(".")[0]}
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] not in ours:
            continue
        for name in [*vars(base), *inspect.get_annotations(base)]:
            if not name.startswith("_") and name not in seen:
                seen.add(name)
                yield name, vars(base).get(name)


def _member(cls: type, name: str, value: Any) -> str:
    full = f"{cls.__name__}.{name}"
    if isinstance(value, property):
        return f"{full}: {_shown(inspect.get_annotations(value.fget).get('return'))}"  # type: ignore[arg-type]
    if isinstance(value, staticmethod | classmethod):
        return f"{type(value).__name__} {_routine(full, value.__func__)}"
    if inspect.isfunction(value):
        return _routine(full, value)
    if isinstance(value, enum.Enum):
        return f"{full} = {value.value!r}"
    for base in cls.__mro__:
        note = inspect.get_annotations(base).get(name)
        if note is not None:
            return f"{full}: {_shown(note)}"
    return full


def _constructor(cls: type) -> str:
    """What a class is called with, if users call it."""
    if cls.__name__ in MADE_INSIDE or isinstance(cls, enum.EnumMeta) or getattr(cls, "_is_protocol", False):
        return ""
    if "__call__" in vars(type(cls)) and type(cls).__module__.startswith("duplex."):
        return ""
    if issubclass(cls, BaseException):
        return _signature(types.MethodType(cls.__init__, cls))
    try:
        return _signature(cls)
    except ValueError:  # what a library has written in C says no more than its fields do
        return ""


def _routine(name: str, value: Any) -> str:
    kind = "async " if inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value) else ""
    return f"{kind}{name}{_signature(value)}"


def _signature(value: Any) -> str:
    found = inspect.signature(value)
    parameters = [
        parameter.replace(
            annotation=parameter.empty
            if parameter.annotation is parameter.empty
            else _Text(_shown(parameter.annotation)),
            default=parameter.empty
            if parameter.default is parameter.empty
            else _Text(_without_address(parameter.default)),
        )
        for parameter in found.parameters.values()
    ]
    returned = (
        "" if found.return_annotation in (found.empty, None) else f" -> {_shown(found.return_annotation)}"
    )
    return f"{inspect.Signature(parameters)}{returned}"


class _Text:
    """Shows itself as a text, without quotes."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _shown(annotation: Any) -> str:
    """An annotation as it is written, if that is known."""
    if isinstance(annotation, ForwardRef):
        return annotation.__forward_arg__
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _without_address(default: object) -> str:
    shown = repr(default)
    return "..." if " at 0x" in shown else shown


def undocumented(module: types.ModuleType) -> list[str]:
    """Public classes and functions without a docstring of their own.

    A dataclass that has none gets its signature for one, and a subclass its parent's; neither counts.
    """
    found = []
    for name in public_names(module):
        value = getattr(module, name)
        if not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        doc = value.__dict__.get("__doc__") if inspect.isclass(value) else value.__doc__
        if not doc or not doc.strip() or doc.startswith(f"{name}("):
            found.append(name)
    return found


def undocumented_members(module: types.ModuleType) -> list[str]:
    """Public methods and properties without a docstring."""
    return [
        f"{name}.{member}"
        for name in public_names(module)
        if inspect.isclass(cls := getattr(module, name))
        for member, value in _own(cls)
        if inspect.isroutine(value) or isinstance(value, property)
        if not (value.__doc__ or "").strip()
    ]


def misplaced(module: types.ModuleType) -> list[str]:
    """Public classes and functions that say they live in another module than the one they are public in.

    Tracebacks, pickles and documentation show that name, and a private one there invites imports of it.
    """
    return [
        f"{name} is in {value.__module__}"
        for name in public_names(module)
        if (inspect.isclass(value := getattr(module, name)) or inspect.isroutine(value))
        and value.__module__ != module.__name__
    ]
