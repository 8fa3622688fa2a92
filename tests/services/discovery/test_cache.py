"""What was known of discovery, on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from duplex_services.discovery._cache import MOST_AGE, Cache, Kept


@pytest.mark.parametrize(("age", "is_used"), [(0, True), (MOST_AGE - 1, True), (MOST_AGE + 1, False)])
def test_what_is_too_old_says_nothing_whichever_way_the_clock_jumped(
    age: float, is_used: bool, tmp_path: Path
) -> None:
    cache = Cache(tmp_path / "cache")
    kept = Kept("key", 1_700_000_000.0, [("tcp://10.0.0.1:7700", 1.0, "")])
    cache.write(kept)
    for now in (kept.as_of + age, kept.as_of - age):
        assert cache.read("key", now) == (kept if is_used else None)
