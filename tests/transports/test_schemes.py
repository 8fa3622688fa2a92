"""Which transport an endpoint belongs to, and what a peer is told that has none for it."""

from __future__ import annotations

from typing import Any

import pytest

import duplex
from duplex.transports import (
    DEFAULT,
    MemoryTransport,
    Port,
    Receiver,
    TransportOptions,
    Transports,
    ZmqTransport,
    ZmtpTransport,
    default_transports,
    scheme_of,
)


class Fake:
    """A transport that only says which schemes it has, and notes what it is asked for."""

    def __init__(self, *schemes: Any) -> None:
        self.schemes = frozenset(schemes)
        self.asked: list[str] = []

    def __repr__(self) -> str:
        return "Fake"

    def bind(self, endpoint: str, receiver: Receiver, options: TransportOptions) -> Port:
        self.asked.append(endpoint)
        raise duplex.BindError("cannot bind: this is a fake")

    def connect(self, endpoint: str, receiver: Receiver, options: TransportOptions) -> Port:
        self.asked.append(endpoint)
        raise duplex.ConfigurationError("cannot connect: this is a fake")


def test_defaults() -> None:
    zmtp, zmq, memory = default_transports()
    assert isinstance(zmtp, ZmtpTransport)
    assert isinstance(zmq, ZmqTransport)
    assert isinstance(memory, MemoryTransport)
    assert DEFAULT.transport_for("ipc:///x") is zmtp
    assert DEFAULT.transport_for("zmq+ipc:///x") is zmq
    assert DEFAULT.transport_for("inproc://x") is zmq
    assert DEFAULT.transport_for("memory://x") is memory


def test_each_is_given_once() -> None:
    one, two = Fake("a", "b"), Fake("c")
    assert list(Transports([one, two, one])) == [one, two]


@pytest.mark.parametrize(
    ("transports", "complaint"),
    [
        (5, "transports must be a list of transports, not 5"),
        ("tcp", "transports must be a list of transports, not 'tcp'"),
        ([], "transports must not be empty"),
        ([5], "5 is no transport: it needs schemes"),
        ([Fake()], "Fake is no transport: it needs schemes"),
        ([ZmqTransport], "is no transport: it needs schemes"),
        ([Fake("Tcp")], "Fake has the scheme 'Tcp', which is none"),
        ([Fake(7)], "Fake has the scheme 7, which is none"),
        ([Fake("a"), Fake("b", "a")], "Fake and Fake both have the scheme a://"),
    ],
    ids=str,
)
async def test_wrong_transports(transports: Any, complaint: str) -> None:
    with pytest.raises(duplex.ConfigurationError) as caught:
        async with duplex.open_peer(transports=transports):
            pytest.fail("the peer opened")
    assert complaint in str(caught.value)


async def test_a_peer_has_the_transports_that_it_is_given() -> None:
    fake = Fake("mine")
    async with duplex.open_peer(transports=[fake]) as peer:
        with pytest.raises(duplex.BindError, match="this is a fake"):
            await peer.bind("mine://x")
        with pytest.raises(duplex.ConfigurationError, match="this is a fake"):
            peer.connect_soon("mine://y")
        assert fake.asked == ["mine://x", "mine://y"]
        for other in ("memory://x", "127.0.0.1:7700", "nonsense"):
            with pytest.raises(duplex.ConfigurationError) as caught:
                await peer.bind(other)
            assert str(caught.value).endswith("does not begin with a known scheme; there are mine://")
            with pytest.raises(duplex.ConfigurationError, match=r"there are mine://$"):
                await peer.connect(other)


async def test_others_beside_those_of_the_package() -> None:
    fake = Fake("mine")
    async with duplex.open_peer(transports=[*default_transports(), fake]) as peer:
        assert (await peer.bind("memory://*")).startswith("memory://")
        with pytest.raises(duplex.BindError, match="this is a fake"):
            await peer.bind("mine://x")


async def test_a_service_is_followed_over_any_of_them() -> None:
    fake = Fake("mine")
    async with duplex.open_peer(transports=[fake]) as peer:
        for where in ("mine://x", [duplex.Endpoint("mine://x")]):
            peer.connect_service("calc", where)
        with pytest.raises(
            duplex.ConfigurationError, match=r"there are mine://; services are looked up at .*dns://"
        ):
            peer.connect_service("calc", "memory://x")


@pytest.mark.parametrize("text", ["nonsense", "://x", "TCP://x", "7://x", "t cp://x"])
def test_no_scheme(text: str) -> None:
    with pytest.raises(duplex.ConfigurationError, match="does not begin with a scheme, such as tcp://"):
        scheme_of(text)
    with pytest.raises(duplex.ConfigurationError, match="does not begin with a scheme, such as tcp://"):
        duplex.Endpoint(text)
