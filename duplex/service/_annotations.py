"""From annotations as they are written to types.

With ``from __future__ import annotations`` an annotation is text, and the names in it mean what they mean
where the function was *defined*. Modules keep their names; the locals of a function, in which tests and
factories define services, are gone by the time anybody asks. So a decorator takes a note of them while it
runs (:func:`capture_scope`), and a name that is not known yet is looked for again when the service is used.
"""

from __future__ import annotations

import builtins
import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

import trio

from duplex._errors import ConfigurationError
from duplex.engine.channels import Callback

#: Names of built-in types. A service likes to have methods called ``list`` and ``set``; the annotations
#: beside them still mean the types.
_BUILTIN_TYPES: Final = frozenset(name for name, value in vars(builtins).items() if isinstance(value, type))

Role: TypeAlias = typing.Literal["send", "receive", "channel", "callback"]


class Scope(NamedTuple):
    """The names that were visible where a function was defined, beyond those of its module."""

    #: Of the enclosing function; they hide the module's.
    function_names: Mapping[str, Any] = types.MappingProxyType({})
    #: Of the enclosing class. The weakest: a method called ``date`` must not hide the type ``date``.
    class_names: Mapping[str, Any] = types.MappingProxyType({})


#: What a module-level function needs.
NO_SCOPE: Final = Scope()


class UnresolvedNameError(Exception):
    """An annotation names something that does not exist, perhaps not yet."""

    def __init__(self, subject: str, annotation: Any, cause: Exception) -> None:
        super().__init__(subject, annotation, cause)
        self.subject = subject
        self.annotation = annotation
        self.cause = cause

    def as_configuration_error(self) -> ConfigurationError:
        """Return the error to raise once there is no later."""
        name = getattr(self.cause, "name", None) or str(self.annotation)
        return ConfigurationError(
            f"{self.subject}: the annotation {str(self.annotation)!r} cannot be resolved: {self.cause}. "
            f"Define or import {name!r} where the function is defined: at the top level of its module and not "
            f"under `if TYPE_CHECKING:`, or before it if it stands in another function"
        )


def capture_scope(depth: int = 1) -> Scope:
    """Take a note of the local names at the call that is ``depth`` frames above the caller of this.

    Within a function these are its variables at this moment, within a class body also the class's, and at
    the top level of a module there are none.
    """
    frame: types.FrameType | None = sys._getframe(depth + 1)
    class_names: dict[str, Any] = {}
    while frame is not None and frame.f_locals is not frame.f_globals:
        if frame.f_code.co_flags & inspect.CO_OPTIMIZED:
            return Scope(dict(frame.f_locals), class_names)
        class_names = {**frame.f_locals, **class_names}
        frame = frame.f_back
    return Scope({}, class_names) if class_names else NO_SCOPE


def in_class_body(depth: int = 1) -> bool:
    """Tell whether the call that is ``depth`` frames above the caller of this stands in a class body."""
    frame = sys._getframe(depth + 1)
    return frame.f_locals is not frame.f_globals and "__qualname__" in frame.f_locals


def underlying(function: Callable[..., Any]) -> Any:
    """Return the plain function within partials, bound methods and decorators that use ``functools.wraps``;
    the callable itself if there is none."""
    inner: Any = function
    while True:
        if isinstance(inner, functools.partial):
            inner = inner.func
        elif isinstance(inner, types.MethodType):
            inner = inner.__func__
        elif hasattr(inner, "__wrapped__"):
            inner = inner.__wrapped__
        else:
            return inner


def names_for(function: Callable[..., Any], scope: Scope = NO_SCOPE) -> dict[str, Any]:
    """Return every name that the annotations of ``function`` may use, apart from the built-in ones."""
    inner = underlying(function)
    names = {name: value for name, value in scope.class_names.items() if not hasattr(builtins, name)}
    names.update(getattr(inner, "__globals__", {}))
    names.update(scope.function_names)
    code = getattr(inner, "__code__", None)
    for name, cell in zip(
        getattr(code, "co_freevars", ()), getattr(inner, "__closure__", None) or (), strict=True
    ):
        try:
            names[name] = cell.cell_contents
        except ValueError:
            pass  # a variable of the enclosing function that has no value yet
    names.update((parameter.__name__, parameter) for parameter in getattr(inner, "__type_params__", ()))
    for name in _BUILTIN_TYPES:
        if isinstance(names.get(name), types.FunctionType):
            del names[name]
    return names


def resolve(subject: str, annotation: Any, names: dict[str, Any]) -> Any:
    """Return the type that an annotation stands for, ``Annotated`` included.

    Raises:
        UnresolvedNameError: a name in it is not defined.
        ConfigurationError: it is no type; the message begins with ``subject``.
    """
    # get_type_hints wants something that has annotations, and also finds text within types: list["Point"].
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, names, include_extras=True)["it"]
    except (NameError, AttributeError) as error:
        raise UnresolvedNameError(subject, annotation, error) from None
    except Exception as error:
        raise ConfigurationError(
            f"{subject}: the annotation {str(annotation)!r} is no type: {error}"
        ) from error


def hints_of(function: Callable[..., Any], method: str, scope: Scope = NO_SCOPE) -> dict[str, Any]:
    """Return the resolved annotations of a function by parameter, and that of its result as ``return``.

    Raises:
        UnresolvedNameError: a name in one of them is not defined (yet).
        ConfigurationError: one is no type, or Python does not know the function's signature.
    """
    signature = signature_of(function, method)
    names = names_for(function, scope)
    hints = {
        p.name: resolve(f"{method}: the parameter {p.name!r}", p.annotation, names)
        for p in signature.parameters.values()
        if p.annotation is not inspect.Parameter.empty
    }
    if signature.return_annotation is not inspect.Signature.empty:
        hints["return"] = resolve(f"{method}: the result", signature.return_annotation, names)
    return hints


def signature_of(function: Callable[..., Any], method: str) -> inspect.Signature:
    """Return a function's signature. Raises ``ConfigurationError`` if Python does not know it."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        raise ConfigurationError(
            f"{method}: Python cannot tell the signature of {function!r}; wrap it in a function of your own"
        ) from None


def bare(annotation: Any) -> Any:
    """Return what an annotation says without its ``Annotated`` wrapper, and what ``type X = ...`` stands for."""
    while True:
        if typing.get_origin(annotation) is typing.Annotated:
            annotation = annotation.__origin__
        elif type(annotation).__name__ == "TypeAliasType":  # since Python 3.12, and in typing_extensions
            annotation = annotation.__value__
        else:
            return annotation


def role_of(annotation: Any) -> Role | None:
    """Return what an annotation is if it is itself, not merely contains, a callback or a channel."""
    annotation = bare(annotation)
    origin = typing.get_origin(annotation) or annotation
    if not isinstance(origin, type):
        return None
    if issubclass(origin, Callback):
        return "callback"
    sends = issubclass(origin, trio.abc.SendChannel)
    receives = issubclass(origin, trio.abc.ReceiveChannel)
    if sends and receives:
        return "channel"
    if sends:
        return "send"
    return "receive" if receives else None
