"""A small part of ``make attacks``: what memory and failed calls tell, but not times, which belong to a quiet machine."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.attacks.__main__ import judge
from tests.attacks.attacker import KINDS
from tests.attacks.stage import GROWTH, Outcome, attack

#: Those that memory or calls of others would suffer from within a second.
QUICK = (
    "window",
    "grant",
    "refusals",
    "pongs",
    "notifications",
    "threads",
    "handlers",
    "questions",
    "dribble",
    "disconnects",
    "ids",
    "silent",
    "endless",
    "endless_later",
    "crumbs",
)


@pytest.mark.slow
@pytest.mark.parametrize("kind", QUICK)
def test_an_attack_is_borne(kind: str) -> None:
    outcome = attack(kind, 1.0)
    assert outcome.problems(timed=False) == []
    assert outcome.calls > 0
    assert kind in KINDS


def _outcome(attacked: float, *, grown: int = 0) -> Outcome:
    return Outcome("deep", 0, grown, 0.004, attacked, 100, {}, is_alive=True)


def _may_not() -> Outcome:
    raise PermissionError


@pytest.mark.parametrize(
    ("outcome", "again", "is_borne", "says"),
    [
        (_outcome(0.05), _may_not, True, "borne"),
        (
            _outcome(0.06),
            lambda: _outcome(0.02),
            True,
            "borne by the target: 20 ms if it and the client go first",
        ),
        (_outcome(0.06), lambda: _outcome(0.07), False, "was 60 ms; and if they go first: .* was 70 ms"),
        (_outcome(0.06), _may_not, False, "was 60 ms; whether by the kernel's doing cannot be told"),
        (_outcome(0.06), None, False, "was 60 ms$"),
        (_outcome(0.06, grown=GROWTH + 1), _may_not, False, "grew by 80 MB; .* was 60 ms$"),
    ],
)
def test_the_report_tells_the_kernels_doing_from_the_targets(
    outcome: Outcome, again: Callable[[], Outcome] | None, is_borne: bool, says: str
) -> None:
    found, verdict = judge(outcome, again)
    assert found is is_borne
    assert re.search(says, verdict)
