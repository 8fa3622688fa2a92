from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def unmeasured_processes(unmeasured: None) -> None:
    """What documents and examples show, other tests come to as well."""
