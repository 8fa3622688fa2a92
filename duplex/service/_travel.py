"""Which types can travel: told when a function is registered, not when the first call fails."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import trio

from duplex._errors import ConfigurationError
from duplex.codec._types import foreign_types, inspect_type
from duplex.engine._types import Callback, ReceiveChannel, SendChannel, is_live_annotation
from duplex.service._annotations import UnresolvedNameError
from duplex.service._typetext import type_text

#: What stays connected to its origin and can stand anywhere in a value.
_LIVE_TYPES: Final = (Callback, SendChannel, ReceiveChannel, trio.abc.SendChannel, trio.abc.ReceiveChannel)

_ADVICE: Final = "use a dataclass, a msgspec.Struct, a TypedDict or plain types"
_LIVE_ADVICE: Final = "use duplex.SendChannel or duplex.ReceiveChannel"

#: Classes whose subclasses may encode as they do.
_PLAIN_TYPES: Final = (str, int, float, bytes, list, tuple, dict, set, frozenset)


def check_input(subject: str, annotation: Any) -> bool:
    """Raise if values of a type cannot come in; return whether msgspec knows the whole type by itself.

    Args:
        subject: what the message begins with.
        annotation: the type.

    Raises:
        ConfigurationError: the message says what can travel.
        UnresolvedNameError: a field of a class is annotated with a name that does not exist (yet).
    """
    for kind in _foreign_types(subject, annotation):
        if kind is object:
            raise ConfigurationError(f"{subject}: it says object where it has to say typing.Any")
        if kind not in _LIVE_TYPES:
            advice = _LIVE_ADVICE if is_live_annotation(kind) else _ADVICE
            raise ConfigurationError(f"{subject}: {type_text(kind)} cannot travel; {advice}")
    return not inspect_type(annotation).custom


def check_output(subject: str, annotation: Any) -> None:
    """Raise if values of a type certainly cannot go out; see :func:`check_input`.

    It is less strict, since what is annotated ``Iterable[int]`` may well be a list.
    """
    for kind in _foreign_types(subject, annotation):
        if not is_live_annotation(kind) and not _may_be_something_else(kind):
            raise ConfigurationError(f"{subject}: {type_text(kind)} cannot travel; {_ADVICE}")


def _foreign_types(subject: str, annotation: Any) -> tuple[Any, ...]:
    try:
        hash(annotation)  # codecs keep what they compiled by type
        msgspec.inspect.type_info(annotation)
        return foreign_types(annotation)
    except NameError as error:
        raise UnresolvedNameError(subject, annotation, error) from None
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{subject}: {error}") from None


def _may_be_something_else(kind: Any) -> bool:
    """Tell whether a value that is annotated so may in fact be of a type that travels."""
    if kind is object or getattr(kind, "_is_protocol", False) or kind.__module__ == "collections.abc":
        return True
    return isinstance(kind, type) and issubclass(kind, _PLAIN_TYPES)
