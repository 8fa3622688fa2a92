"""Which handlers share objects with their test, so that they have to be in its process."""

from __future__ import annotations

import dis
import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import duplex

#: Where the classes of objects come from that have a state which others wait for, or look at.
_STATEFUL: Final = frozenset({"collections", "threading", "trio", "tests"})


def shared_with(test: Callable[..., Any], services: Sequence[duplex.Service]) -> str | None:
    """Return what a handler shares with a test; ``None`` if that is nothing."""
    used = set(_names(inspect.unwrap(test).__code__))
    if "wait_all_tasks_blocked" in used:
        return "the time at which all tasks are blocked"
    for service in services:
        for method in service.methods.values():
            for name, value in _seen_by(method.function):
                if name == "self" or name in used:
                    return f"{name!r} ({type(value).__name__}) with {method.method}"
    return None


def _seen_by(function: Any, known: frozenset[Any] = frozenset()) -> Iterator[tuple[str, Any]]:
    """What a function has from outside of it, and may change or wait for; and what the functions have that it has."""
    if inspect.ismethod(function):
        yield "self", function.__self__
    function = inspect.unwrap(function)
    if not isinstance(function, types.FunctionType) or function in known:
        return
    code = function.__code__
    rebound = {step.argval for step in dis.get_instructions(code) if step.opname == "STORE_DEREF"}
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:
            yield name, None  # the test is going to give it one, such as the peers themselves
            continue
        if name in rebound or _has_state(value):
            yield name, value
        else:
            yield from _seen_by(value, known | {function})
    names: Mapping[str, Any] = function.__globals__
    yield from ((name, names[name]) for name in _names(code) if name in names and _has_state(names[name]))


def _has_state(value: object) -> bool:
    if isinstance(value, type | types.ModuleType | types.FunctionType | duplex.Service):
        return False
    return isinstance(value, list | dict | set) or type(value).__module__.partition(".")[0] in _STATEFUL


def _names(code: types.CodeType) -> Iterator[str]:
    yield from (*code.co_names, *code.co_varnames, *code.co_cellvars)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)
