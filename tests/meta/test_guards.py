"""The fixtures of ``conftest.py`` do what they say."""

from __future__ import annotations

from collections.abc import Callable

import hypothesis
import pytest
from hypothesis import strategies as st


def test_present_program_is_found(require_program: Callable[[str], str]) -> None:
    assert require_program("sh").endswith("sh")


def test_missing_program_skips(
    require_program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DUPLEX_REQUIRE_SERVICES", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-program is not installed"):
        require_program("no-such-program")


def test_missing_program_fails_where_required(
    require_program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DUPLEX_REQUIRE_SERVICES", "1")
    with pytest.raises(pytest.fail.Exception, match="no-such-program"):
        require_program("no-such-program")


@hypothesis.given(st.integers())
def test_hypothesis_has_no_deadline(number: int) -> None:
    assert hypothesis.settings().deadline is None


async def test_async_tests_run_in_trio() -> None:
    import trio

    assert trio.current_time() > 0
