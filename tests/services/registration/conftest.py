"""One engine for the tests of a process, empty for each of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.services.docker import DockerEngine


@pytest.fixture(scope="session")
def shared_engine() -> Iterator[DockerEngine]:
    with DockerEngine() as engine:
        yield engine


@pytest.fixture
def engine(shared_engine: DockerEngine) -> Iterator[DockerEngine]:
    yield shared_engine
    shared_engine.clear()
