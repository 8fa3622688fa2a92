from __future__ import annotations

from collections.abc import Iterator

import pytest

from duplex.transports import _zmq_socket


@pytest.fixture(autouse=True)
def no_socket_left() -> Iterator[None]:
    """Fail a test that leaves a ZeroMQ socket open."""
    yield
    left = _zmq_socket._get_shared().open
    assert not left, f"the test left sockets open: {left}"
