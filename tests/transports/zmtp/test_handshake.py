"""Greeting and handshake: what is understood, and what is wrong with what is not."""

from __future__ import annotations

import pytest

from duplex.transports.zmtp import Command, Greeting, Properties, ZmtpConnection, ZmtpError
from tests.transports.zmtp.sessions import (
    AFTER,
    BEFORE,
    OPENING,
    command,
    connection,
    frame,
    greeting,
    message,
    plain,
    prop,
    ready,
)


def refused(data: bytes, socket_type: str = "ROUTER") -> ZmtpError:
    """Return what a new connection says of some bytes; and it says so again."""
    made = connection(socket_type)
    with pytest.raises(ZmtpError) as caught:
        list(made.receive(data))
    with pytest.raises(ZmtpError) as again:
        list(made.receive(b""))
    assert again.value is caught.value
    return caught.value


@pytest.mark.parametrize("socket_type", ["DEALER", "ROUTER"])
@pytest.mark.parametrize("version", [(3, 0), (3, 1), (3, 2), (4, 0)])
def test_handshake(socket_type: str, version: tuple[int, int]) -> None:
    made = connection(socket_type)
    other = b"ROUTER" if socket_type == "DEALER" else b"DEALER"
    data = greeting(version=version) + ready(other, prop(b"identity", b"me"), prop(b"X-Other", b""))
    assert plain(made.receive(data + message(b"first"))) == [[b"first"]]
    assert made.greeting == Greeting(version, "NULL", False)
    assert made.properties == {"socket-type": other, "identity": b"me", "x-other": b""}
    assert made.received == len(data) + 7


@pytest.mark.parametrize(
    ("ours", "theirs", "fits"),
    [
        ("ROUTER", b"DEALER", True),
        ("ROUTER", b"ROUTER", True),
        ("ROUTER", b"REQ", True),
        ("ROUTER", b"REP", False),
        ("DEALER", b"ROUTER", True),
        ("DEALER", b"DEALER", True),
        ("DEALER", b"REP", True),
        ("DEALER", b"REQ", False),
        ("DEALER", b"PUB", False),
        ("DEALER", b"dealer", False),
        ("ROUTER", b"", False),
    ],
)
def test_types_of_sockets(ours: str, theirs: bytes, fits: bool) -> None:
    if fits:
        assert list(connection(ours).receive(greeting() + ready(theirs))) == []
    else:
        error = refused(greeting() + ready(theirs), ours)
        assert error.kind == "socket type"
        assert f"a socket of type {theirs.decode()!r}, and a {ours} can be linked with" in str(error)


def test_nothing_is_waited_for_before_this_side_greets() -> None:
    """libzmq sends ten bytes, and the rest when it has ours."""
    made = connection()
    assert made.data_to_send() == greeting()
    for count in range(64):
        assert list(made.receive(greeting()[count : count + 1])) == []
        assert (made.greeting is not None) == (count == 63)
    assert made.data_to_send()


@pytest.mark.parametrize(
    ("data", "kind", "what"),
    [
        (b"GET / HTTP/1.1\r\n", "greeting", "speaks HTTP, and this is a ZeroMQ endpoint"),
        (b"HTTP/1.1 400 Bad Request", "greeting", "speaks HTTP"),
        (b"\x16\x03\x01\x02\x00", "greeting", "speaks TLS"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "greeting", "speaks TLS"),
        (b"SSH-2.0-OpenSSH_9.2", "greeting", "speaks SSH"),
        (b"220 mail ESMTP", "greeting", "speaks SMTP or FTP"),
        (b"PRI * HTTP/2.0\r\n\r\nSM", "greeting", "speaks HTTP/2"),
        (b"\0", "greeting", r"does not speak ZMTP: it begins with b'\x00'"),
        (b"\xff" + bytes(8) + b"\0", "greeting", "speaks ZMTP 1.0"),
        (greeting()[:9] + b"\x01", "greeting", "speaks ZMTP 1.0"),
        (greeting()[:10] + b"\x00", "version", "speaks ZMTP 1.0 or 2.0 (revision 0)"),
        (greeting()[:10] + b"\x01", "version", "speaks ZMTP 2.0, and 3.0 is the oldest"),
        (greeting(mechanism=b""), "greeting", "b'' is no name of a security mechanism"),
        (greeting(mechanism=b"NU\0LL"), "greeting", r"b'NU\x00LL' is no name"),
        (greeting(mechanism=b"null"), "greeting", "b'null' is no name"),
        (greeting(mechanism=b"CURVE"), "mechanism", "wants the mechanism CURVE, and this side NULL"),
        (greeting(as_server=2), "greeting", "as-server is neither 0 nor 1, but 2"),
    ],
)
def test_greetings_that_are_none(data: bytes, kind: str, what: str) -> None:
    error = refused(data)
    assert error.kind == kind
    assert what in str(error)
    assert error.at == 0


@pytest.mark.parametrize(
    ("data", "kind", "what"),
    [
        (message(b"early"), "handshake", "a message came before the handshake was over"),
        (frame(b"early", 1), "handshake", "a message came before the handshake was over"),
        (command(b"PING", b"\0\0"), "handshake", "b'PING' came where READY was due"),
        (command(b"HELLO", bytes(194)), "handshake", "b'HELLO' came where READY was due"),
        (command(b"ERROR", b"\x03400"), "refused", "the other side refuses the connection: '400'"),
        (command(b"ERROR", b"\x04400"), "command", "ERROR has no reason"),
        (command(b"ERROR"), "command", "ERROR has no reason"),
        (frame(b"", 4), "command", "b'', which is no name"),
        (frame(b"\0", 4), "command", "which is no name"),
        (frame(b"\x06READY", 4), "command", "which is no name"),
        (frame(b"\x03R\0Y", 4), "command", "which is no name"),
        (command(b"READY", b"\0"), "metadata", "b'' is no name of a property"),
        (command(b"READY", b"\x02\0\0"), "metadata", r"b'\x00\x00' is no name of a property"),
        (command(b"READY", b"\x01a\0\0\0"), "metadata", "b'a' is cut off"),
        (command(b"READY", b"\x01a\0\0\0\2x"), "metadata", "b'a' is cut off: 2 bytes, and 1 are there"),
        (ready(b"DEALER", prop(b"SOCKET-TYPE", b"")), "metadata", "b'SOCKET-TYPE' comes twice"),
        (
            ready(b"DEALER", *(prop(b"x%d" % number, b"") for number in range(64))),
            "metadata",
            "more than 64 properties",
        ),
        (
            ready(b"DEALER", prop(b"Identity", bytes(256))),
            "metadata",
            "Identity has 256 bytes, and 255 are possible",
        ),
        (command(b"READY"), "socket type", "a socket of type ''"),
    ],
)
def test_handshakes_that_are_none(data: bytes, kind: str, what: str) -> None:
    error = refused(greeting() + data)
    assert error.kind == kind
    assert what in str(error)
    assert error.at == 64
    assert str(error).endswith("(at byte 64 of what came)")


def test_a_second_ready_is_a_command_like_any_other() -> None:
    made = connection()
    assert plain(made.receive(OPENING + ready(b"PUB") + message(b"x"))) == [[b"x"]]
    assert made.properties == {"socket-type": b"DEALER"}


def test_a_refusal_after_the_handshake() -> None:
    error = refused(OPENING + command(b"ERROR", b"\x02no"))
    assert error.kind == "refused"
    assert error.at == len(OPENING)


def test_strangers_have_narrower_bounds() -> None:
    assert list(connection().receive(OPENING + message(bytes(BEFORE.frame))))
    for data, what in [
        (
            message(bytes(BEFORE.frame + 1))[:9],
            f"a frame has {BEFORE.frame + 1} bytes, and {BEFORE.frame} are allowed",
        ),
        (message(b"one", b"two"), "more than the 1 frames"),
        (command(b"PING", b"\0\0") * BEFORE.commands, "more than 8 commands"),
    ]:
        error = refused(OPENING + data)
        assert what in str(error)
        made = connection(trusts=True)
        assert len(list(made.receive(OPENING + data))) <= 1
    assert AFTER.frame > BEFORE.frame


class TwoSteps:
    """A mechanism in which the other side begins, and says its properties only with the second command."""

    name = "TWO"
    as_server = True

    def begin(self, properties: Properties) -> bytes:
        assert properties == {"Socket-Type": b"ROUTER", "Identity": b""}
        return b""

    def receive(self, step: Command) -> tuple[bytes, Properties | None]:
        return (b"more", None) if step.name == b"ONE" else (b"", {"socket-type": step.body})


def test_mechanisms_of_several_steps() -> None:
    made = ZmtpConnection(socket_type="ROUTER", mechanism=TwoSteps(), before=BEFORE, after=AFTER)
    assert made.data_to_send() == greeting(mechanism=b"TWO", as_server=1)
    assert list(made.receive(greeting(mechanism=b"TWO") + command(b"ONE"))) == []
    assert made.data_to_send() == b"more"
    assert made.properties is None
    assert list(made.receive(command(b"TWO", b"DEALER"))) == []
    assert made.properties == {"socket-type": b"DEALER"}
