"""Reads what ``duplex`` makes public, and the list of it that is kept in ``public_surface.txt``."""

from __future__ import annotations

import inspect
import types
from pathlib import Path
from typing import Final

FROZEN: Final = Path(__file__).with_name("public_surface.txt")

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
    """The names in ``public_surface.txt``; fails with the command that writes it when there is none."""
    if not FROZEN.exists():
        raise AssertionError(f"{FROZEN.name} is missing; write it with: {COMMAND}")
    return FROZEN.read_text(encoding="utf-8").split()


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
