"""What the instances of a measurement are called."""

from __future__ import annotations

from typing import Final

#: Instances of one service.
OF_ONE: Final = 20


def service_of(number: int) -> str:
    """Return the service of an instance, by its number."""
    return f"service-{number // OF_ONE}"
