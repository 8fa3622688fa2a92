"""What a check is, and how those of a library are gathered."""

from __future__ import annotations

import dataclasses
import inspect
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias, TypeVar

from benchmarks.features._names import names_with

#: What a cell of the table says first. ``part`` is for what is there with a restriction, which the cell tells.
Answer: TypeAlias = Literal["yes", "part", "no"]
ANSWERS: Final[tuple[Answer, ...]] = ("yes", "part", "no")

_F = TypeVar("_F", bound=Callable[[], Any])


def answer(*, yes: bool, part: bool = False) -> Answer:
    """Turn what was seen into what a cell says."""
    return "yes" if yes else "part" if part else "no"


@dataclasses.dataclass(frozen=True)
class Finding:
    """What came of one check.

    Attributes:
        feature: the row of the table.
        answer: what was found, or ``None`` if the check failed.
        how: what was done to find it, or why the check failed.
    """

    feature: str
    answer: Answer | None
    how: str


class Checks:
    """The checks of one library, by the row of the table that each is for.

    Args:
        run: runs the coroutine or the function of one check, within a limit of time, as the library wants it.
    """

    def __init__(self, run: Callable[[Callable[[], Any]], Any]) -> None:
        self._run = run
        self._functions: dict[str, Callable[[], Any]] = {}
        self._absent: dict[str, tuple[str, tuple[str, ...]]] = {}

    def of(self, *features: str) -> Callable[[_F], _F]:
        """Enter a function for rows of the table. It returns an ``Answer``, or a bool for ``yes`` or ``no``."""

        def enter(function: _F) -> _F:
            for feature in features:
                self._enter(feature)
                self._functions[feature] = function
            return function

        return enter

    def absent(self, feature: str, module: str, *words: str) -> None:
        """Have a row answered by ``no``, as long as no name in the source of a module has one of the words in it."""
        self._enter(feature)
        self._absent[feature] = (module, words)

    def _enter(self, feature: str) -> None:
        if feature in self.features:
            raise ValueError(f"{feature!r} is checked twice")

    @property
    def features(self) -> Mapping[str, str]:
        """What is checked, and how."""
        functions = {
            feature: inspect.cleandoc(function.__doc__ or "").partition("\n")[0]
            for feature, function in self._functions.items()
        }
        return functions | {
            feature: f"no name in the source of {module} has {' or '.join(map(repr, words))} in it"
            for feature, (module, words) in self._absent.items()
        }

    def run(self, wanted: Callable[[str], bool] = lambda _: True) -> Iterator[Finding]:
        """Run the checks of the rows that are wanted, one after the other."""
        for feature, how in self.features.items():
            if wanted(feature):
                try:
                    yield Finding(feature, self._answer(feature), how)
                except Exception:
                    # One that fails must not keep the others from being told.
                    yield Finding(feature, None, traceback.format_exc(limit=-6))

    def _answer(self, feature: str) -> Answer:
        if feature in self._absent:
            module, words = self._absent[feature]
            if found := names_with(module, words):
                raise LookupError(f"{module} has names that may mean it: {', '.join(found[:8])}")
            return "no"
        found = self._run(self._functions[feature])
        if isinstance(found, bool):
            return answer(yes=found)
        if found not in ANSWERS:
            raise TypeError(f"a check returns a bool or one of {ANSWERS}, not {found!r}")
        return found
