"""The audited table of socket options, and what is an endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import trio
import zmq

from duplex import ConfigurationError, Keepalive
from duplex._config import LONGEST_SILENCE
from duplex.transports import DEFAULT, TransportOptions, _zmq_options, _zmq_socket
from duplex.transports._endpoint import Endpoint, parse_endpoint
from duplex.transports._zmq_options import Role, apply_options, socket_options
from tests.transports.helpers import open_ports

OPTIONS = TransportOptions(max_frame=123_456, heartbeat_interval=1.5, heartbeat_timeout=4.0)

#: All that is written as an endpoint of sockets is.
EVERY = frozenset({"tcp", "ipc", "zmq+tcp", "zmq+ipc", "inproc"})

TCP4 = Endpoint("tcp", "127.0.0.1", 5555)


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    with zmq.Context() as context:
        yield context


@pytest.mark.parametrize("role", ["dealer", "router"])
def test_every_option_of_the_table_is_set(role: Role, context: zmq.Context[zmq.Socket[bytes]]) -> None:
    kind = zmq.DEALER if role == "dealer" else zmq.ROUTER
    write_only = {zmq.ROUTER_MANDATORY, zmq.ROUTER_HANDOVER}
    with context.socket(kind) as socket:
        socket.linger = 0
        apply_options(socket, role, TCP4, OPTIONS)
        for entry in socket_options(role, TCP4, OPTIONS):
            assert entry.why
            if entry.option not in write_only:
                assert socket.getsockopt(entry.option) == entry.value, entry.option


@pytest.mark.parametrize("role", ["dealer", "router"])
def test_no_option_is_listed_twice(role: Role) -> None:
    options = [entry.option for entry in socket_options(role, TCP4, OPTIONS)]
    assert len(options) == len(set(options))


async def test_the_ports_sockets_have_the_options() -> None:
    async with open_ports() as ports:
        bound, connecting = await ports.pair("zmq+tcp://127.0.0.1:*", OPTIONS)
        router: Any = bound.port
        dealer: Any = connecting.ups[0]
        for loop, role in ((router, "router"), (dealer, "dealer")):
            assert loop._socket.getsockopt(zmq.MAXMSGSIZE) == 123_456
            assert loop._socket.getsockopt(zmq.HEARTBEAT_IVL) == 1500, role
            assert loop._socket.getsockopt(zmq.HEARTBEAT_TIMEOUT) == 2500, "4 s, less an interval"
            assert loop._socket.getsockopt(zmq.HEARTBEAT_TTL) == 4000
            assert loop._socket.getsockopt(zmq.LINGER) == 1000
        assert dealer._socket.getsockopt(zmq.RECONNECT_IVL) == _zmq_options.NEVER_RECONNECT_MS
        shared = _zmq_socket._get_shared()
        assert shared.context.get(zmq.MAX_SOCKETS) == _zmq_options.MAX_SOCKETS


def test_times_below_a_millisecond_do_not_become_never() -> None:
    tiny = TransportOptions(heartbeat_interval=0.0001, heartbeat_timeout=0.0002)
    values = {entry.option: entry.value for entry in socket_options("dealer", TCP4, tiny)}
    assert values[zmq.SocketOption.HEARTBEAT_IVL] == 1
    assert values[zmq.SocketOption.HEARTBEAT_TIMEOUT] == 1


@pytest.mark.parametrize(
    ("timeout", "milliseconds"),
    [
        # What travels is tenths of a second, made milliseconds again in 16 bits.
        (0.0002, 100),
        (0.15, 200),
        (0.6, 600),
        (15.0, 15_000),
        (65.4, 65_400),
        (65.5, 65_500),
        (65.51, 0),
        (65.6, 0),
        (131.1, 0),
        (6553.6, 0),
        (604_800.0, 0),
    ],
)
def test_the_other_side_is_never_asked_to_cut_earlier(timeout: float, milliseconds: int) -> None:
    options = TransportOptions(heartbeat_interval=timeout / 2, heartbeat_timeout=timeout)
    values = {entry.option: entry.value for entry in socket_options("dealer", TCP4, options)}
    assert values[zmq.SocketOption.HEARTBEAT_TTL] == milliseconds
    assert milliseconds == 0 or round(1000 * timeout) <= milliseconds == milliseconds // 100 * 100 & 0xFFFF


def test_the_longest_keepalive_is_none_too_many(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    longest = Keepalive(interval=LONGEST_SILENCE - 1, timeout=LONGEST_SILENCE)
    options = TransportOptions(heartbeat_interval=longest.interval, heartbeat_timeout=longest.timeout)
    roles: list[tuple[zmq.SocketType, Role]] = [(zmq.DEALER, "dealer"), (zmq.ROUTER, "router")]
    for kind, role in roles:
        with context.socket(kind) as socket:
            socket.linger = 0
            apply_options(socket, role, TCP4, options)


@pytest.mark.parametrize(
    ("endpoint", "ipv6"),
    [
        (Endpoint("tcp", "127.0.0.1", 1), 0),
        (Endpoint("tcp", "localhost", 1), 0),
        (Endpoint("tcp", "::1", 1), 1),
        (Endpoint("ipc", name="/tmp/x"), 0),
    ],
)
def test_ipv6_is_on_where_it_is_needed(endpoint: Endpoint, ipv6: int) -> None:
    values = {entry.option: entry.value for entry in socket_options("dealer", endpoint, OPTIONS)}
    assert values[zmq.SocketOption.IPV6] == ipv6


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("tcp://127.0.0.1:5555", Endpoint("tcp", "127.0.0.1", 5555)),
        ("tcp://some-host.example.:1", Endpoint("tcp", "some-host.example.", 1)),
        ("tcp://under_score:65535", Endpoint("tcp", "under_score", 65535)),
        ("tcp://[::1]:5555", Endpoint("tcp", "::1", 5555)),
        ("tcp://[fe80::1%eth0]:5555", Endpoint("tcp", "fe80::1%eth0", 5555)),
        ("ipc:///run/app.sock", Endpoint("ipc", name="/run/app.sock")),
        ("ipc://relative", Endpoint("ipc", name="relative")),
        ("ipc://@abstract", Endpoint("ipc", name="@abstract")),
        ("inproc://a name", Endpoint("inproc", name="a name")),
        ("zmq+tcp://some-host:1", Endpoint("tcp", "some-host", 1, prefix="zmq+")),
        ("zmq+tcp://[::1]:5555", Endpoint("tcp", "::1", 5555, prefix="zmq+")),
        ("zmq+ipc:///run/app.sock", Endpoint("ipc", name="/run/app.sock", prefix="zmq+")),
    ],
)
@pytest.mark.parametrize("binding", [True, False])
def test_endpoints(text: str, parsed: Endpoint, binding: bool) -> None:
    assert parse_endpoint(text, binding=binding, schemes=EVERY) == parsed
    assert str(parsed) == text


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("tcp://127.0.0.1:*", "tcp://127.0.0.1:*"),
        ("tcp://127.0.0.1:0", "tcp://127.0.0.1:*"),
        ("tcp://*:0", "tcp://*:*"),
        ("tcp://*:5555", "tcp://*:5555"),
        ("tcp://[::]:*", "tcp://[::]:*"),
        ("zmq+tcp://*:0", "zmq+tcp://*:*"),
    ],
)
def test_wildcards_are_for_binding(text: str, printed: str) -> None:
    assert str(parse_endpoint(text, binding=True, schemes=EVERY)) == printed
    with pytest.raises(ConfigurationError, match="is for binding"):
        parse_endpoint(text, binding=False, schemes=EVERY)


@pytest.mark.parametrize("scheme", ["ipc", "zmq+ipc", "inproc"])
def test_wildcard_names_are_unique(scheme: str) -> None:
    with pytest.raises(ConfigurationError, match="is for binding"):
        parse_endpoint(f"{scheme}://*", binding=False, schemes=EVERY)
    first, second = (parse_endpoint(f"{scheme}://*", binding=True, schemes=EVERY) for _ in range(2))
    assert first != second
    assert len(first.name) < 100


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "nonsense",
            "write tcp://host:port, ipc://path, zmq+tcp://host:port, zmq+ipc://path or inproc://name",
        ),
        ("udp://127.0.0.1:1", "not an endpoint of this transport"),
        ("tcp://", "the port is missing"),
        (
            "zmq+tcp://",
            "the port is missing; write for example zmq+tcp://127.0.0.1:5555, or zmq+tcp://[::1]:5555",
        ),
        ("zmq+ipc://", "has nothing after zmq+ipc://; write for example zmq+ipc:///run/app.sock"),
        ("tcp://127.0.0.1", "the port is missing"),
        ("tcp://:5555", "the host is missing"),
        ("tcp://127.0.0.1:", "the port '' is not a number from 0 to 65535"),
        ("tcp://127.0.0.1:http", "the port 'http' is not a number"),
        ("tcp://127.0.0.1:65536", "not a number from 0 to 65535"),
        ("tcp://127.0.0.1:-1", "not a number from 0 to 65535"),
        ("tcp://127.0.0.1:\u0661", "not a number from 0 to 65535"),
        ("tcp://::1:5555", "an IPv6 address needs brackets"),
        ("tcp://[::1:5555", "is not an IPv6 address in brackets"),
        ("tcp://[host]:5555", "is not an IPv6 address in brackets"),
        ("tcp://a b:5555", "'a b' is not a host name or an address"),
        ("tcp://-a:5555", "'-a' is not a host name"),
        ("tcp://eth0;127.0.0.1:5555", "is not a host name"),
        ("tcp://a/b:5555", "is not a host name"),
        ("ipc://", "write for example ipc:///run/app.sock"),
        ("inproc://", "write for example inproc://name"),
        ("ipc://a\0b", "NUL"),
        ("ipc://a\ud800b", "no character"),
        ("inproc://\udfff", "no character"),
        ("ipc:///" + "x" * 200, "at most 107 are possible; use a shorter path"),
        ("inproc://" + "x" * 300, "at most 255"),
    ],
)
@pytest.mark.parametrize("binding", [True, False])
def test_wrong_endpoints(text: str, complaint: str, binding: bool) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_endpoint(text, binding=binding, schemes=EVERY)
    assert complaint in str(caught.value)
    assert repr(text) in str(caught.value)


def test_the_port_is_missing_in_a_connect_endpoint() -> None:
    with pytest.raises(ConfigurationError, match="a wildcard port is for binding"):
        parse_endpoint("tcp://host:0", binding=False, schemes=EVERY)
    with pytest.raises(ConfigurationError, match=r"the host \* is for binding"):
        parse_endpoint("tcp://*:5555", binding=False, schemes=EVERY)


@pytest.mark.parametrize("scheme", ["ipc", "zmq+ipc"])
def test_the_longest_ipc_path_can_be_bound(scheme: str) -> None:
    async def main() -> None:
        async with open_ports() as ports:
            path = "/tmp/" + "x" * (zmq.IPC_PATH_MAX_LEN - 5)
            await ports.pair(f"{scheme}://{path}")

    trio.run(main)


@pytest.mark.parametrize("text", ["nonsense", "udp://x:1", "TCP://127.0.0.1:1"])
def test_unknown_schemes_list_the_known(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        DEFAULT.transport_for(text)
    assert repr(text) in str(caught.value)
    assert "inproc://, ipc://, memory://, tcp://, tls://, zmq+ipc://, zmq+tcp://" in str(caught.value)
