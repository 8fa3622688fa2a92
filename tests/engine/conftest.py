"""Fixtures of the engine's tests."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.helpers import SCHEMES, endpoint_of


@pytest.fixture(params=SCHEMES)
def endpoint(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An endpoint to bind, of every scheme in turn."""
    return endpoint_of(request.param, tmp_path)


@pytest.fixture
def others_out_of_sight() -> Iterator[None]:
    """The collector looks at nothing that was there before the test: it is quick, and finds nothing of other tests."""
    gc.freeze()
    yield
    gc.unfreeze()
