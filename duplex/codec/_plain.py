"""Plain forms of what is nearly plain, and the refusal of all else."""

from __future__ import annotations

from typing import Any, final

from duplex.codec import _numpy


@final
class UnfitError(Exception):
    """A value within another cannot travel. Never leaves this package: ``EncodeError`` tells of it.

    Attributes:
        value: the one that cannot travel.
        reason: why, and what to do about it; empty if it is just of no type that travels.
    """

    def __init__(self, value: Any, reason: str = "") -> None:
        super().__init__(value, reason)
        self.value = value
        self.reason = reason


def plain_form(value: Any) -> Any:
    """Return the plain value within an instance of a subclass of ``int``, ``float``, ``str`` or ``bytes``, or
    a scalar of numpy; ``value`` itself if it is none of them."""
    # The methods of the base classes return exactly the plain type, whatever the subclass overrides.
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__index__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, bytes):
        return bytes(memoryview(value))
    return _numpy.plain_scalar(value)


def plain_only(value: Any) -> Any:
    """The ``enc_hook`` of encoders that know plain values only. Raises :exc:`UnfitError`."""
    plain = plain_form(value)
    if plain is value:
        raise UnfitError(value)
    return plain
