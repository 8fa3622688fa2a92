"""``HOST:PORT`` is an endpoint wherever one is taken."""

from __future__ import annotations

import pytest

import duplex
from duplex.transports import full_endpoint


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("127.0.0.1:7700", "tcp://127.0.0.1:7700"),
        (":7700", "tcp://127.0.0.1:7700"),
        (":*", "tcp://127.0.0.1:*"),
        ("*:7700", "tcp://*:7700"),
        ("host.example:1", "tcp://host.example:1"),
        ("[::1]:7700", "tcp://[::1]:7700"),
        ("tcp://127.0.0.1:7700", "tcp://127.0.0.1:7700"),
        ("ipc://x:1", "ipc://x:1"),
        ("::1:7700", "::1:7700"),
        ("host", "host"),
        ("host:port", "host:port"),
        ("", ""),
    ],
)
def test_what_is_short_for_what(short: str, full: str) -> None:
    assert full_endpoint(short) == full


async def test_binding_connecting_and_undoing_both() -> None:
    async with duplex.open_peer() as server, duplex.open_peer() as client:
        bound = await server.bind(":*")
        assert bound.startswith("tcp://127.0.0.1:")
        short = bound.removeprefix("tcp://")
        link = await client.connect(short)
        assert link.endpoint == bound
        await client.disconnect(short)
        await server.unbind(short)
        assert server.endpoints == []
