"""Counts the bytecodes that Python executes for one call or item, by layer: where the time of a call goes.

Counted are the programs of :mod:`benchmarks._micro` over loopback TCP, both sides in one process. What C code does within
one bytecode (msgspec, pyzmq, the kernel) is not seen; the floors among the peers tell what that takes.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import trio

from benchmarks._micro import PROGRAMS

_DUPLEX: Final = Path(__file__).parents[1] / "duplex"
_HERE: Final = Path(__file__).parent
#: What the packages of others are called in the report.
_OTHERS: Final = {"trio": "trio", "outcome": "trio", "zmq": "pyzmq"}
#: How often each program does its work in the two runs whose difference is counted.
#: Multiples of 128: items of streams go out so many at a time, and one of the programs makes 16 calls at once.
FEW: Final = 128
MANY: Final = 512
#: About how much slower Python is while it counts.
_SLOWER: Final = 30


class _SlowClock(trio.abc.Clock):
    """A clock that runs as slowly as Python does while it counts: what is done from time to time, or shared within
    a moment, is done as often for each call as without the count."""

    def start_clock(self) -> None:
        """See :class:`trio.abc.Clock`."""

    def current_time(self) -> float:
        """See :class:`trio.abc.Clock`."""
        return time.perf_counter() / _SLOWER

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """See :class:`trio.abc.Clock`."""
        return (deadline - self.current_time()) * _SLOWER


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one layer takes for one call or item."""

    bytecodes: float
    #: Python functions that are called or resumed.
    calls: float


def count(program: str, few: int = FEW, many: int = MANY, *, functions: bool = False) -> dict[str, Cost]:
    """Return what one call or item of a program takes, by layer, the dearest first.

    Args:
        program: a name in :data:`benchmarks._micro.PROGRAMS`.
        few: how often the work is done in a run that is only there to be subtracted: past what is done once.
        many: how often in the other.
        functions: tell the functions of each layer apart.
    """
    name = _function if functions else _layer
    _run(program, 1, name)  # what is compiled and imported at the first time
    less, more = _run(program, few, name), _run(program, many, name)
    layers = {
        layer: Cost(
            *((b - a) / (many - few) for a, b in zip(less.get(layer, (0, 0)), more[layer], strict=True))
        )
        for layer in more
    }
    return dict(sorted(layers.items(), key=lambda item: -item[1].bytecodes))


def total(costs: Iterable[Cost]) -> Cost:
    """Return the sum."""
    costs = list(costs)
    return Cost(sum(cost.bytecodes for cost in costs), sum(cost.calls for cost in costs))


def _layer(code: CodeType) -> str:
    # The slow clock is here in the place of trio's own.
    return "trio" if code.co_filename == __file__ else layer_of(code.co_filename)


def _function(code: CodeType) -> str:
    return f"{_layer(code)}: {code.co_qualname}"


def _run(program: str, times: int, name: Callable[[CodeType], str]) -> Mapping[str, tuple[int, int]]:
    bytecodes: Counter[CodeType] = Counter()
    calls: Counter[CodeType] = Counter()

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "opcode":
            bytecodes[frame.f_code] += 1
        elif event == "call":
            calls[frame.f_code] += 1
            frame.f_trace_opcodes = True
            frame.f_trace_lines = False
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        trio.run(PROGRAMS[program][0], times, "tcp://127.0.0.1:*", clock=_SlowClock())
    finally:
        sys.settrace(before)
    found: dict[str, tuple[int, int]] = {}
    for code in calls | bytecodes:
        key = name(code)
        some, made = found.get(key, (0, 0))
        found[key] = some + bytecodes[code], made + calls[code]
    return found


def layer_of(filename: str) -> str:
    """Name the layer that a source file belongs to."""
    path = Path(filename)
    if path.is_relative_to(_DUPLEX):
        parts = path.relative_to(_DUPLEX).parts
        return f"duplex.{parts[0]}" if len(parts) > 1 else "duplex"
    if path.is_relative_to(_HERE):
        return "the program itself"
    packages = [_OTHERS[part] for part in path.parts if part in _OTHERS]
    return packages[-1] if packages else "the standard library"
