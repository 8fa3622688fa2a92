"""Decorated functions of a module, and a class with state."""

from __future__ import annotations

import duplex

__version__ = "3.2.1"


@duplex.rpc
def greet(name: str = "world") -> str:
    """Greet somebody."""
    return f"hello {name}"


class Counter:
    """Counts."""

    def __init__(self) -> None:
        self.value = 0

    @duplex.rpc(inline=True)
    def up(self, by: int = 1) -> int:
        """Count up."""
        self.value += by
        return self.value


class Named:
    """Cannot be made without arguments."""

    def __init__(self, name: str) -> None:
        self.name = name

    @duplex.rpc(inline=True)
    def name_of(self) -> str:
        """Return the name."""
        return self.name


class Picky:
    """Cannot be made at all."""

    def __init__(self) -> None:
        raise OSError("no such device")

    @duplex.rpc
    def use(self) -> None:
        """Never called."""


class Silent:
    """Has no decorated methods."""


def undecorated() -> None:
    """Not to be called from elsewhere."""


deep = Named("deep")
silent = Silent()
