"""TLS on one connection: that it does as a socket does, whatever the kernel takes and gives, and what it takes of others."""

from __future__ import annotations

import contextlib
import random
import re
import select
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from duplex.transports.streams._contexts import contexts_of
from duplex.transports.streams._liveness import signs_of
from duplex.transports.streams._tls import CUT, TlsError, TlsWire
from duplex.transports.streams._unsent import Unsent
from tests.transports.certificates import tls
from tests.transports.tls_records import Records

KiB = 1024


class Narrow:
    """A socket that takes and gives no more than it is allowed to.

    Args:
        wire: the socket.
        chance: how much each time; ``None``: as much as there is.
    """

    def __init__(self, wire: socket.socket, chance: random.Random | None = None) -> None:
        self.wire = wire
        self.chance = chance
        #: Bytes that it takes in all, and what went through it.
        self.takes = 10**9
        self.sent = 0

    def _most(self, size: int) -> int:
        if self.chance is None:
            return size
        if self.chance.random() < 0.3:
            raise BlockingIOError
        return min(size, self.chance.choice((1, 2, 5, 100, 4000, 70_000)))

    def send(self, data: bytes, /) -> int:
        most = min(self._most(len(data)), self.takes - self.sent)
        if not most:
            raise BlockingIOError
        count = self.wire.send(data[:most])
        self.sent += count
        return count

    def sendmsg(self, buffers: list[bytes], /) -> int:
        return self.send(b"".join(buffers))

    def recv(self, size: int, /) -> bytes:
        return self.wire.recv(self._most(size))

    def recv_into(self, buffer: memoryview, /) -> int:
        return self.wire.recv_into(buffer)

    def shutdown(self, how: int, /) -> None:
        self.wire.shutdown(how)

    def close(self) -> None:
        self.wire.close()

    @property
    def family(self) -> int:
        return self.wire.family

    def fileno(self) -> int:
        return self.wire.fileno()


@pytest.fixture
def sockets() -> Iterator[tuple[Narrow, Narrow]]:
    left, right = socket.socketpair()
    with left, right:
        for wire in (left, right):
            wire.setblocking(False)
        yield Narrow(left), Narrow(right)


def client(wire: Any) -> TlsWire:
    return TlsWire(wire, contexts_of(tls()).client(), "localhost")


def server(wire: Any) -> TlsWire:
    return TlsWire(wire, contexts_of(tls()).server(), None)


def read(wire: TlsWire, size: int = 64 * KiB) -> bytes | None:
    """What has come, or ``None``."""
    try:
        return wire.recv(size)
    except BlockingIOError:
        return None


def until_it_ends(wire: TlsWire) -> None:
    for _ in range(10_000):
        read(wire)
    raise AssertionError("there is no end")


def shake_hands(one: TlsWire, other: TlsWire) -> None:
    for _ in range(10_000):
        assert read(one) is None
        assert read(other) is None
        if one.is_ready and other.is_ready:
            return
    raise AssertionError("the handshake does not come to an end")


@pytest.fixture
def pair(sockets: tuple[Narrow, Narrow]) -> tuple[TlsWire, TlsWire]:
    near, far = client(sockets[0]), server(sockets[1])
    shake_hands(near, far)
    return near, far


# -- as a socket does ------------------------------------------------------------------------------------------


def test_what_is_said_before_the_handshake_comes_first(sockets: tuple[Narrow, Narrow]) -> None:
    near, far = client(sockets[0]), server(sockets[1])
    assert near.send(b"gree") == 4
    assert near.sendmsg([b"ti", b"ngs"]) == 5
    assert far.send(b"hello") == 5
    heard = {near: b"", far: b""}
    for _ in range(10):
        for wire in (near, far):
            heard[wire] += read(wire) or b""
    assert heard == {far: b"greetings", near: b"hello"}


@pytest.mark.parametrize("seed", range(12))
def test_everything_comes_through_whatever_the_kernel_takes(
    sockets: tuple[Narrow, Narrow], seed: int
) -> None:
    chance = random.Random(seed)
    near, far = client(sockets[0]), server(sockets[1])
    shake_hands(near, far)
    for narrow in sockets:
        narrow.chance = chance
    whole = [
        chance.randbytes(chance.choice((1, 2, 100, 16_000, 16_384, 16_385, 70_000, 200_000)))
        for _ in range(25)
    ]
    waiting = Unsent()
    expected = b"".join(whole)
    came = bytearray()
    buffer = bytearray(100_000)
    while len(came) < len(expected):
        if whole and chance.random() < 0.5:
            data = whole.pop(0)
            sent = 0
            if not waiting:
                with contextlib.suppress(BlockingIOError):
                    sent = near.send(data) if chance.random() < 0.5 else near.sendmsg([data[:1], data[1:]])
            if sent < len(data):
                waiting.add([data], sent)
        if waiting:
            waiting.send(near)
        size = chance.choice((1, 10, 5000, 16_384, 64 * KiB))
        with contextlib.suppress(BlockingIOError):
            if chance.random() < 0.5:
                came += far.recv(size)
            else:
                count = far.recv_into(memoryview(buffer)[:size])
                came += buffer[:count]
    assert bytes(came) == expected
    assert waiting.send(near)


def test_it_returns_less_only_if_nothing_more_is_here(pair: tuple[TlsWire, TlsWire]) -> None:
    """The kernel does not tell again of what it has handed over."""
    near, far = pair
    assert near.sendmsg([b"a" * 20_000, b"b" * 30_000]) == 50_000
    assert far.recv(10) == b"a" * 10
    rest = far.recv(64 * KiB)
    assert rest == b"a" * 19_990 + b"b" * 30_000
    assert near.sendmsg([b"c" * 40_000]) == 40_000
    room = memoryview(bytearray(64 * KiB))
    assert far.recv_into(room[:7]) == 7
    assert far.recv_into(room) == 39_993
    for take in (lambda: far.recv(1), lambda: far.recv_into(room)):
        with pytest.raises(BlockingIOError):
            take()


def test_the_last_byte_is_owed_until_the_kernel_has_everything(
    sockets: tuple[Narrow, Narrow], pair: tuple[TlsWire, TlsWire]
) -> None:
    near, far = pair
    narrow = sockets[0]
    narrow.takes = narrow.sent + 10
    assert near.send(b"message") == 6
    assert read(far) is None
    with pytest.raises(BlockingIOError):
        near.send(b"e")
    with pytest.raises(BlockingIOError):
        near.sendmsg([b"e", b"next"])
    narrow.takes = 10**9
    assert near.sendmsg([b"e", b"", b"next"]) == 5
    assert far.recv(100) == b"messagenext"
    assert near.send(b"plain") == 5
    # What is owed alone.
    narrow.takes = narrow.sent
    assert near.send(b"x") == 0
    narrow.takes = 10**9
    assert near.send(b"x") == 1
    assert far.recv(100) == b"plainx"


def test_not_much_is_encrypted_that_the_kernel_does_not_take(
    sockets: tuple[Narrow, Narrow], pair: tuple[TlsWire, TlsWire]
) -> None:
    near, _ = pair
    sockets[0].takes = sockets[0].sent
    assert near.sendmsg([bytes(10_000_000)]) == 64 * KiB - 1


def test_what_was_moved_takes_no_room_any_more(
    sockets: tuple[Narrow, Narrow], pair: tuple[TlsWire, TlsWire]
) -> None:
    near, far = pair
    sockets[0].takes = sockets[0].sent + 30_000
    sent, came = near.sendmsg([bytes(100_000)]), 0
    assert sent < 100_000
    sockets[0].takes = 10**9
    while sent < 100_000:
        sent += near.sendmsg([bytes(100_000 - sent)])
    while came < 100_000:
        came += len(read(far) or b"")
    # A view, even an empty one, keeps all that it is a view of.
    assert (near._sealed.obj, far._rest.obj) == (b"", b"")


def test_small_messages_are_one_record_each(
    sockets: tuple[Narrow, Narrow], pair: tuple[TlsWire, TlsWire]
) -> None:
    near, far = pair
    before = sockets[0].sent
    assert near.send(b"hello") == 5
    assert sockets[0].sent - before == 5 + 22
    assert far.recv(100) == b"hello"


def test_the_kernel_is_asked_about_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()) as wire:
            secure = client(wire)
            assert secure.family == socket.AF_INET
            assert secure.fileno() == wire.fileno()
            signs = signs_of(secure)
            assert signs is not None
            assert signs.unanswered == 0
            assert secure.has_heard is False


# -- ends ------------------------------------------------------------------------------------------------------


def test_an_end_is_told_from_a_cut(pair: tuple[TlsWire, TlsWire]) -> None:
    near, far = pair
    near.send(b"last words")
    near.shutdown(socket.SHUT_WR)
    assert far.recv(100) == b"last words"
    assert far.recv(100) == b""
    assert far.send(b"not heard any more") == 18
    assert near.recv(100), "it is thrown away by who has ended, as it came"
    far.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("rest", [b"", b"\x17\x03\x03\x00\x40cut"])
def test_a_cut_is_told_from_an_end(
    sockets: tuple[Narrow, Narrow], pair: tuple[TlsWire, TlsWire], rest: bytes
) -> None:
    near, far = pair
    near.send(b"last words")
    sockets[0].wire.send(rest)
    sockets[0].shutdown(socket.SHUT_WR)
    assert far.recv(100) == b"last words"
    with pytest.raises(OSError, match=CUT):
        until_it_ends(far)


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01"])
def test_an_end_in_the_handshake(sockets: tuple[Narrow, Narrow], said: bytes) -> None:
    far = server(sockets[1])
    sockets[0].wire.send(said)
    sockets[0].shutdown(socket.SHUT_WR)
    with pytest.raises(TlsError, match="in the middle of" if said else "without a word of TLS"):
        until_it_ends(far)


def test_an_end_in_the_same_piece_as_the_last_data(pair: tuple[TlsWire, TlsWire]) -> None:
    near, far = pair
    near.send(b"last words")
    near.shutdown(socket.SHUT_WR)
    room = memoryview(bytearray(100))
    assert far.recv_into(room) == 10
    assert far.recv_into(room) == 0
    assert far.recv(100) == b""


def test_what_is_said_after_the_end_of_this_side_is_thrown_away(pair: tuple[TlsWire, TlsWire]) -> None:
    near, far = pair
    near.shutdown(socket.SHUT_WR)
    far.send(b"x" * 100)
    room = memoryview(bytearray(1000))
    assert near.recv_into(room) == 122


# -- what is wrong ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "speaks HTTP, and this is an endpoint with TLS"),
        (b"\xff\0\0\0\0\0\0\0\1\x7f", "ZeroMQ's protocol without TLS: both need tls://, or both tcp://"),
        (b"SSH-2.0-OpenSSH", "speaks SSH"),
        (b"?", "does not speak TLS: it begins with b'?'"),
    ],
)
@pytest.mark.parametrize("make", [client, server])
def test_others_are_named(
    sockets: tuple[Narrow, Narrow], said: bytes, why: str, make: Callable[[Any], TlsWire]
) -> None:
    wire, other = make(sockets[1]), sockets[0].wire
    with contextlib.suppress(BlockingIOError):
        other.recv(10_000)
    other.send(said)
    with pytest.raises(TlsError, match=re.escape(why)):
        wire.recv(100)
    assert other.recv(100) == b"\x15\x03\x03\x00\x02\x02\x46", "an alert that says protocol_version"
    with pytest.raises(TlsError, match=re.escape(why)):
        wire.send(b"x")
    other.send(b"what comes now is thrown away")
    assert wire.recv(4) == b"what"


def test_what_was_changed_on_its_way(sockets: tuple[Narrow, Narrow], pair: tuple[TlsWire, TlsWire]) -> None:
    near, far = pair
    sockets[0].wire.send(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(TlsError, match="what came was changed on its way"):
        far.recv(100)
    with pytest.raises(TlsError, match="by an alert of TLS: bad record mac"):
        near.recv(100)
    with pytest.raises(TlsError, match="changed"):
        far.sendmsg([b"x"])


def into_buffer(wire: TlsWire) -> bytes:
    room = memoryview(bytearray(100))
    return bytes(room[: wire.recv_into(room)])


@pytest.mark.parametrize("take", [lambda wire: wire.recv(100), into_buffer])
def test_what_is_right_comes_before_what_is_wrong(
    sockets: tuple[Narrow, Narrow], pair: tuple[TlsWire, TlsWire], take: Callable[[TlsWire], bytes]
) -> None:
    near, far = pair
    near.send(b"right")
    sockets[0].wire.send(b"\x17\x03\x03\x00\x20" + bytes(32))
    assert take(far) == b"right"
    assert select.select([far], [], [], 0)[0], "something makes the next time come"
    with pytest.raises(TlsError, match="what came was changed on its way"):
        take(far)


def test_older_versions_are_refused(sockets: tuple[Narrow, Narrow]) -> None:
    far = server(sockets[1])
    old = ssl.create_default_context(cafile=str(tls().ca))
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = old.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        asking.do_handshake()
    sockets[0].wire.send(outgoing.read())
    with pytest.raises(TlsError, match=r"it speaks no TLS 1\.3, which is the only one that is spoken here"):
        far.recv(100)
    incoming.write(sockets[0].wire.recv(100))
    with pytest.raises(ssl.SSLError, match="TLSV1_ALERT_PROTOCOL_VERSION"):
        asking.do_handshake()


def test_a_context_that_allows_older_versions_does_not_bring_them(sockets: tuple[Narrow, Narrow]) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.load_cert_chain(str(tls().certificate), str(tls().key))
    lenient = ssl.create_default_context(cafile=str(tls().ca))
    near = TlsWire(sockets[0], lenient, "localhost")  # type: ignore[arg-type]  # it does as a socket does
    far = TlsWire(sockets[1], old, None)  # type: ignore[arg-type]  # as above
    with pytest.raises(TlsError, match=r"speaks TLSv1\.2, and TLSv1\.3 is the only one"):
        shake_hands(near, far)


# -- floods ----------------------------------------------------------------------------------------------------


def test_a_handshake_without_end_is_cut(sockets: tuple[Narrow, Narrow]) -> None:
    """A ClientHello of 100 KiB that does not come to its end."""
    far = server(sockets[1])
    body = b"\x01" + (100 * KiB).to_bytes(3, "big") + bytes(100 * KiB)
    sent = 0

    def flood() -> None:
        nonlocal sent
        while sent < len(body):
            part = body[sent : sent + 16_000]
            sent += len(part)
            sockets[0].wire.send(b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part)
            read(far)

    with pytest.raises(TlsError, match="bytes of TLS without any data"):
        flood()
    assert sent <= 96 * KiB


@pytest.mark.parametrize("kind", ["updates of keys", "updates that want an answer", "empty records"])
def test_records_without_data_are_bounded(sockets: tuple[Narrow, Narrow], kind: str, tmp_path: Path) -> None:
    far = server(sockets[1])
    records = Records(sockets[0].wire, tmp_path / "keys", lambda: read(far))
    assert far.is_ready
    records.send_data(b"hello")
    assert read(far) == b"hello"
    sent = 0

    def flood() -> None:
        nonlocal sent
        while sent < 1000 * KiB:
            for _ in range(50):
                if kind == "empty records":
                    sent += records.send_data(b"")
                else:
                    sent += records.update_key(asks="answer" in kind)
            read(far)

    with pytest.raises(TlsError, match=r"without any data in them|record too small"):
        flood()
    assert sent <= 48 * KiB


def test_who_does_not_read_answers_is_cut(sockets: tuple[Narrow, Narrow], tmp_path: Path) -> None:
    far = server(sockets[1])
    records = Records(sockets[0].wire, tmp_path / "keys", lambda: read(far))
    read(far)
    sockets[1].takes = sockets[1].sent
    sent = 0

    def flood() -> None:
        nonlocal sent
        while sent < 1000 * KiB:
            sent += sum(records.update_key(asks=True) for _ in range(100))
            for _ in range(100):
                records.send_data(b"data, for which much is forgiven")
            read(far)

    with pytest.raises(TlsError, match="asks for answers of TLS, and does not read them"):
        flood()
    assert sent < 300 * KiB


def test_some_updates_of_keys_are_fine(sockets: tuple[Narrow, Narrow], tmp_path: Path) -> None:
    far = server(sockets[1])
    records = Records(sockets[0].wire, tmp_path / "keys", lambda: read(far))
    for number in range(20):
        records.update_key(asks=True)
        records.send_data(b"%d" % number)
        assert read(far) == b"%d" % number
        assert far.send(b"answer") == 6


# -- anything --------------------------------------------------------------------------------------------------


def first_flight() -> bytes:
    """What a client says first."""
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        client(near)
        return far.recv(10_000)


@pytest.mark.parametrize("when", ["at first", "as a changed hello", "after the handshake"])
@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(data=st.data())
def test_whatever_comes_is_an_error_of_the_connection(when: str, data: st.DataObject) -> None:
    left, right = socket.socketpair()
    with left, right:
        for wire in (left, right):
            wire.setblocking(False)
        near, far = client(left) if when == "after the handshake" else None, server(right)
        if near is not None:
            shake_hands(near, far)
        said = data.draw(st.binary(max_size=300))
        if when == "as a changed hello":
            hello = bytearray(first_flight())
            for _ in range(data.draw(st.integers(1, 4))):
                hello[data.draw(st.integers(0, len(hello) - 1))] = data.draw(st.integers(0, 255))
            said = bytes(hello) + said
        elif near is not None:
            kind, size = data.draw(st.sampled_from((20, 21, 22, 23, 24))), data.draw(st.integers(0, 20_000))
            said = bytes((kind, 3, 3)) + size.to_bytes(2, "big") + said
        problem: OSError | None = None
        while said and problem is None:
            count = data.draw(st.integers(1, len(said)))
            left.send(said[:count])
            said = said[count:]
            try:
                far.recv(1000)
            except BlockingIOError:
                pass
            except OSError as error:
                problem = error
        left.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            while far.recv(1000):
                pass
        if isinstance(problem, TlsError):
            assert str(problem)
            with pytest.raises(TlsError):
                far.send(b"x")
        for how in (socket.SHUT_WR, socket.SHUT_RDWR):
            with contextlib.suppress(OSError):
                far.shutdown(how)
