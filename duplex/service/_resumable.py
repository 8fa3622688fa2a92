"""What ``@rpc(resumable=True)`` asks of a function, told when it is registered."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Sequence
from typing import Any, Final

from duplex._errors import ConfigurationError
from duplex.engine._handler import Kind
from duplex.engine.channels import Tracked
from duplex.service._annotations import bare, role_of
from duplex.service._arguments import Parameter

#: The parameter that says where to go on.
CURSOR: Final = "cursor"

_BY_NAME: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def check_resumable(method: str, kind: Kind, parameters: Sequence[Parameter], output_type: Any) -> None:
    """Raise if a method cannot be resumable.

    Raises:
        ConfigurationError: the message says what to change.
    """
    if kind is not Kind.SERVER_STREAMING:
        problem = (
            "streams its input, which cannot be sent again" if kind.streams_input else "gives one result"
        )
        raise ConfigurationError(
            f"{method}: resumable=True is for methods that yield their results and take single arguments; this one "
            f"{problem}"
        )
    for p in parameters:
        if role_of(p.annotation) in ("send", "receive", "channel"):
            raise ConfigurationError(
                f"{method}: the parameter {p.name!r} is a channel, which cannot be passed again when a resumable "
                f"stream is opened again"
            )
    found = next((p for p in parameters if p.name == CURSOR and p.kind in _BY_NAME), None)
    if found is None or found.required:
        what = (
            "its parameter 'cursor' a default" if found else "it a parameter `*, cursor: ... | None = None`"
        )
        raise ConfigurationError(
            f"{method}: resumable=True means that the stream goes on behind a cursor; give {what}"
        )
    item = bare(output_type)
    if item is not Any and (typing.get_origin(item) or item) is not Tracked:
        raise ConfigurationError(
            f"{method}: a resumable stream is one of duplex.Tracked[cursor type, value type]; annotate the "
            f"function so, and yield duplex.Tracked(cursor, value)"
        )
