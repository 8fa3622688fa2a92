"""A small part of ``make attacks``: what memory and failed calls tell, but not times, which belong to a quiet machine."""

from __future__ import annotations

import pytest

from tests.attacks.attacker import KINDS
from tests.attacks.stage import attack

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
)


@pytest.mark.slow
@pytest.mark.parametrize("kind", QUICK)
def test_an_attack_is_borne(kind: str) -> None:
    outcome = attack(kind, 1.0)
    assert outcome.problems(timed=False) == []
    assert outcome.calls > 0
    assert kind in KINDS
