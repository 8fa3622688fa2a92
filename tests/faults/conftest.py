from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def unmeasured_processes(unmeasured: None) -> None:
    """What these tests start is Duplex at work, whose lines other tests come to as well."""
