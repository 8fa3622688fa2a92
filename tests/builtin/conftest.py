"""Fixtures of these tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.helpers import SCHEMES, endpoint_of


@pytest.fixture(params=SCHEMES)
def endpoint(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An endpoint to bind, of every scheme in turn."""
    return endpoint_of(request.param, tmp_path)
