"""Which types can travel: told when a function is registered, not when the first call fails."""

from __future__ import annotations

import typing
from collections import abc
from typing import Any, Final

import trio

from duplex._errors import ConfigurationError
from duplex.codec._types import facts_of, inspect_type
from duplex.engine.channels import Callback, ReceiveChannel, SendChannel
from duplex.service._annotations import UnresolvedNameError, bare, role_of
from duplex.service._typetext import type_text

#: What stays connected to its origin and can stand anywhere in a value.
_LIVE_TYPES: Final = (Callback, SendChannel, ReceiveChannel, trio.abc.SendChannel, trio.abc.ReceiveChannel)

_ADVICE: Final = "use a dataclass, a msgspec.Struct, a TypedDict or plain types"
_LIVE_ADVICE: Final = "use duplex.SendChannel or duplex.ReceiveChannel"
_STREAM_ADVICE: Final = "use duplex.ReceiveChannel to receive its items one by one, or a list"
_BETTER: Final[dict[Any, str]] = {
    abc.Callable: "use duplex.Callback",
    abc.AsyncIterator: _STREAM_ADVICE,
    abc.AsyncIterable: _STREAM_ADVICE,
    abc.AsyncGenerator: _STREAM_ADVICE,
    abc.Iterator: _STREAM_ADVICE,
    abc.Iterable: _STREAM_ADVICE,
    abc.Generator: _STREAM_ADVICE,
}

#: Classes whose subclasses may encode as they do.
_PLAIN_TYPES: Final = (str, int, float, bytes, list, tuple, dict, set, frozenset)


def check_input(subject: str, annotation: Any) -> bool:
    """Raise if values of a type cannot come in; return whether they can be decoded in one pass.

    Args:
        subject: what the message begins with.
        annotation: the type.

    Raises:
        ConfigurationError: the message says what can travel.
        UnresolvedNameError: a field of a class is annotated with a name that does not exist (yet).
    """
    for kind in _foreign_types(subject, annotation):
        if kind not in _LIVE_TYPES:
            advice = _LIVE_ADVICE if role_of(kind) else _BETTER.get(kind, _ADVICE)
            raise ConfigurationError(f"{subject}: {type_text(kind)} cannot travel; {advice}")
    if role_of(annotation) is not None:
        return False
    facts = inspect_type(annotation)
    return not facts.foreign and not facts.arrays


def check_output(subject: str, annotation: Any) -> None:
    """Raise if values of a type certainly cannot go out; see :func:`check_input`.

    It is less strict, since what is annotated ``Iterable[int]`` may well be a list.
    """
    for kind in _foreign_types(subject, annotation):
        if role_of(kind) is None and not _may_be_something_else(kind):
            raise ConfigurationError(f"{subject}: {type_text(kind)} cannot travel; {_ADVICE}")


def _foreign_types(subject: str, annotation: Any) -> tuple[Any, ...]:
    """Return the classes in a type that are neither plain nor arrays, without their parameters."""
    if role_of(annotation) is not None:
        kind = bare(annotation)
        return (typing.get_origin(kind) or kind,)  # what is in it is msgspec's business no more
    try:
        return facts_of(annotation).foreign
    except NameError as error:
        raise UnresolvedNameError(subject, annotation, error) from None
    except Exception as error:
        raise ConfigurationError(f"{subject}: {error}") from None


def _may_be_something_else(kind: Any) -> bool:
    """Tell whether a value that is annotated so may in fact be of a type that travels."""
    if getattr(kind, "_is_protocol", False) or kind.__module__ == "collections.abc":
        return True
    return isinstance(kind, type) and issubclass(kind, _PLAIN_TYPES)
