"""The parts of the transport over byte streams that decide, or keep, something; without sockets where that is possible."""

from __future__ import annotations

import errno
import math
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from duplex.transports.streams._accepting import Acceptor
from duplex.transports.streams._complaints import Complaints
from duplex.transports.streams._farewell import Farewell, end
from duplex.transports.streams._liveness import Signs, patience_with, signs_of
from duplex.transports.streams._pool import BufferPool, get_pool, room_for
from duplex.transports.streams._sockets import is_delivered, time_now
from duplex.transports.streams._strangers import Strangers, neighbourhood
from duplex.transports.streams._unsent import Unsent

KiB = 1024
LARGE = 64 * KiB

# -- buffers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "room"),
    [
        (1, 1),
        (64 * KiB, 64 * KiB),
        (65 * KiB, 128 * KiB),
        (100 * KiB, 128 * KiB),
        (1024 * KiB, 1024 * KiB),
        (1025 * KiB, 1088 * KiB),
    ],
)
def test_room_for_a_buffer(size: int, room: int) -> None:
    assert room_for(size) == room


def test_buffers_are_used_again_when_nobody_has_them() -> None:
    pool = BufferPool()
    first = pool.get(1000)
    assert len(first) >= 1000
    view = memoryview(first)[:10].toreadonly()
    known = id(first)
    del first
    second = pool.get(1000)
    assert id(second) != known, "a view of it is in use"
    del second
    view.release()
    assert known in {id(pool.get(1000)) for _ in range(4)}


def test_a_pool_forgets_what_was_not_asked_for() -> None:
    pool = BufferPool(most=1000 * KiB)
    for size in (64, 128, 256, 512, 600):
        held = [pool.get(size * KiB) for _ in range(2)]
        assert len({id(buffer) for buffer in held}) == 2
        assert pool._kept <= 1000 * KiB
        assert pool._kept == sum(room * len(buffers) for room, buffers in pool._buffers.items())
    assert 64 * KiB not in pool._buffers
    kept = pool._kept
    assert len(pool.get(2000 * KiB)) >= 2000 * KiB
    assert pool._kept == kept, "what is larger than the pool is not kept"


def test_not_all_buffers_are_looked_at() -> None:
    pool = BufferPool(most=20 * 64 * KiB)
    held = [pool.get(64 * KiB) for _ in range(20)]
    assert len({id(buffer) for buffer in held}) == 20


async def test_each_event_loop_has_a_pool() -> None:
    assert get_pool() is get_pool()
    other: list[BufferPool] = []

    async def main() -> None:
        other.append(get_pool())

    await trio.to_thread.run_sync(trio.run, main)
    assert other[0] is not get_pool()


# -- what waits to be sent -------------------------------------------------------------------------------------


class Slow:
    """A stream that takes so many bytes at a time, until it takes no more."""

    def __init__(self, *counts: int) -> None:
        self.counts = list(counts)
        self.taken = b""
        self.buffers = 0

    def sendmsg(self, buffers: Any, /) -> int:
        if not self.counts:
            raise BlockingIOError
        data = b"".join(buffers)[: self.counts.pop(0)]
        self.buffers = max(self.buffers, len(buffers))
        self.taken += data
        return len(data)

    send: Any = None
    recv: Any = None
    recv_into: Any = None


@pytest.mark.parametrize("count", [1, 7, 1000, 70_000, 10**9])
def test_unsent_goes_on_where_it_was(count: int) -> None:
    unsent = Unsent()
    assert not unsent
    large = bytes(range(256)) * 300
    unsent.add([b"begun", b"next"], skip=6)
    unsent.add([b"small"])
    unsent.add([b"head", large, b"tail"], skip=2)
    assert unsent
    assert unsent.messages == 3
    expected = b"extsmallad" + large + b"tail"
    stream = Slow(*[count] * (len(expected) // count + 10))
    while not unsent.send(stream):
        stream.counts.append(count)
    assert stream.taken == expected
    assert not unsent
    assert unsent.messages == 0


def test_unsent_waits() -> None:
    unsent = Unsent()
    unsent.add([b"one"])
    stream = Slow(1)
    assert not unsent.send(stream)
    unsent.add([b"two"])
    assert not unsent.send(stream)
    stream.counts = [100] * 3
    assert unsent.send(stream)
    assert stream.taken == b"onetwo"


def test_small_messages_are_put_together_and_copied() -> None:
    unsent = Unsent()
    array = bytearray(b"x")
    for _ in range(LARGE + 10):
        unsent.add([array])
    array[:] = b"y"
    stream = Slow(10**9, 10**9, 10**9)
    assert unsent.send(stream)
    assert stream.taken == b"x" * (LARGE + 10)
    assert stream.buffers == 2


# -- strangers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "where"),
    [
        (None, ""),
        ("127.0.0.1", ""),
        ("127.1.2.3", ""),
        ("::1", ""),
        ("::ffff:127.0.0.1", ""),
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("nonsense", "nonsense"),
    ],
)
def test_who_are_neighbours(host: str | None, where: str) -> None:
    assert neighbourhood(host) == where


def test_the_oldest_of_the_same_address_gives_way() -> None:
    strangers: Strangers[str] = Strangers(6, 2, 5.0)
    assert strangers.add("a1", "192.0.2.1", 0) is None
    assert strangers.add("a2", "192.0.2.1", 0) is None
    assert strangers.add("b1", "192.0.2.2", 0) is None
    assert strangers.add("a3", "192.0.2.1", 0) == "a1"
    assert strangers.add("c1", "2001:db8::1", 0) is None
    assert strangers.add("c2", "2001:db8::2", 0) is None
    assert strangers.add("c3", "2001:db8::3", 0) == "c1"
    strangers.add("d1", "192.0.2.4", 0)
    assert len(strangers) == 6
    # There are too many in all: of the newcomer's own address, else of the address that has most.
    assert strangers.add("b2", "192.0.2.2", 0) == "b1"
    assert strangers.add("e1", "192.0.2.5", 0) == "a2"
    assert len(strangers) == 6


def test_this_machine_has_the_total_alone() -> None:
    strangers: Strangers[int] = Strangers(4, 1, 5.0)
    assert [strangers.add(number, "127.0.0.1", 0) for number in range(2)] == [None, None]
    assert [strangers.add(number, None, 0) for number in range(2, 6)] == [None, None, 0, 1]


def test_strangers_have_their_time() -> None:
    strangers: Strangers[str] = Strangers(9, 9, 5.0)
    assert strangers.next_due() is None
    for number, name in enumerate("abc"):
        strangers.add(name, "192.0.2.1", number)
    strangers.remove("a")
    strangers.remove("a")
    assert strangers.next_due() == 6
    assert strangers.take_due(5.9) == []
    assert strangers.take_due(6) == ["b"]
    assert strangers.take_due(100) == ["c"]
    assert len(strangers) == 0
    assert strangers._of == {}
    assert strangers._where == {}


# -- signs of life ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signs", "patience"),
    [
        (None, math.inf),
        (Signs(0, 100), math.inf),
        (Signs(1, 0), 15),
        (Signs(2, 14.99), 0.1),
        (Signs(2, 100), 0.1),
        (Signs(3, 5), 10),
        (Signs(3, 15), 0),
        (Signs(9, 16), 0),
    ],
)
def test_patience(signs: Signs | None, patience: float) -> None:
    assert patience_with(signs, 15) == patience


@pytest.fixture
def wires() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a TCP connection that do not block."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    with near, far:
        near.setblocking(False)
        far.setblocking(False)
        yield near, far


def test_signs_of_a_connection(wires: tuple[socket.socket, socket.socket]) -> None:
    near, _ = wires
    near.send(b"x")
    found = signs_of(near)
    assert found is not None
    assert found.unanswered == 0
    assert 0 <= found.since_ack < 60
    near.close()
    assert signs_of(near) is None
    for wire in socket.socketpair():
        with wire:
            assert signs_of(wire) is None


# -- the end ---------------------------------------------------------------------------------------------------


def test_what_was_acknowledged_is_delivered(wires: tuple[socket.socket, socket.socket]) -> None:
    near, far = wires
    far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1000)
    assert is_delivered(near)
    try:
        while True:
            near.send(bytes(100_000))
    except BlockingIOError:
        pass  # the window is full
    assert not is_delivered(near)
    for wire in socket.socketpair():
        with wire:
            assert is_delivered(wire)


def full(near: socket.socket) -> int:
    """Send until nothing more is taken; return how much that was."""
    sent = 0
    try:
        while True:
            sent += near.send(bytes(100_000))
    except BlockingIOError:
        return sent


def test_a_farewell_lasts_until_all_has_come(wires: tuple[socket.socket, socket.socket]) -> None:
    near, far = wires
    sent = full(near)
    unsent = Unsent()
    unsent.add([b"last"])
    farewell = Farewell(near, unsent, 0.0)
    assert [farewell.go_on(), farewell.wants_to_write] == [False, True]
    far.send(b"too late")
    far.setblocking(True)
    got = b""
    while not got.endswith(b"last"):
        got += far.recv(100_000)
        if farewell.wants_to_write:
            farewell.go_on()
    assert len(got) == sent + 4
    assert [farewell.wants_to_write] == [False]
    far.close()
    while not farewell.go_on():
        pass  # the kernel tells the other end in a moment
    end(near)
    end(near)


def test_a_farewell_that_waits_for_the_other_side(wires: tuple[socket.socket, socket.socket]) -> None:
    near, far = wires
    unsent = Unsent()
    unsent.add([b"last"])
    farewell = Farewell(near, unsent, 0.0, waits=True)
    assert not farewell.go_on()
    far.setblocking(True)
    assert far.recv(100) == b"last"
    far.setblocking(False)
    with pytest.raises(BlockingIOError):
        far.recv(100)
    far.close()
    while not farewell.go_on():
        pass  # the kernel tells the other end in a moment


def test_a_farewell_to_one_who_is_gone(wires: tuple[socket.socket, socket.socket]) -> None:
    near, far = wires
    full(near)
    unsent = Unsent()
    unsent.add([b"last"])
    far.close()  # with something unread: the connection is reset
    assert Farewell(near, unsent, 0.0).go_on()


def test_a_farewell_does_not_read_without_end(wires: tuple[socket.socket, socket.socket]) -> None:
    near, far = wires
    full(far)
    full(near)
    farewell = Farewell(near, Unsent(), 0.0)
    assert not farewell.go_on()
    assert not farewell.wants_to_write


def test_a_farewell_hears_only_so_much(wires: tuple[socket.socket, socket.socket]) -> None:
    near, far = wires
    farewell = Farewell(near, Unsent(), 0.0, waits=True, hears=200_000)
    assert not farewell.go_on()
    sent = 0
    while not farewell.go_on():
        assert sent < 10_000_000
        sent += full(far)


def test_there_is_no_time_without_a_loop() -> None:
    assert time_now() == -math.inf


# -- accepting -------------------------------------------------------------------------------------------------


class Waits:
    """A listener at which some wait, and that fails as it is told."""

    def __init__(self, *turns: int | None) -> None:
        self.turns = list(turns)
        self.accepted = 0
        self.is_closed = False

    def accept(self) -> tuple[socket.socket, Any]:
        if not self.turns:
            raise BlockingIOError
        number = self.turns.pop(0)
        if number is not None:
            raise OSError(number, os.strerror(number))
        self.accepted += 1
        return socket.socket(), ("192.0.2.1", 1)

    def close(self) -> None:
        self.is_closed = True


def acceptor(*turns: int | None, spared: int = 0) -> tuple[Acceptor, Waits]:
    listener = Waits(*turns)
    given: Any = listener
    sockets = iter(range(spared))
    return Acceptor(given, lambda: next(sockets, None) is not None), listener


def taken(found: Acceptor) -> tuple[int, bool]:
    accepted, is_short = found.accept()
    for wire, _ in accepted:
        wire.close()
    return len(accepted), is_short


def test_accepting() -> None:
    found, listener = acceptor(None, None, errno.ECONNABORTED)
    # What happened to one that waited is not the listener's trouble.
    assert taken(found) == (2, False) or taken(found) == (0, False)
    found.close()
    assert listener.is_closed
    found.close()
    found, listener = acceptor(*[None] * 100)
    assert taken(found) == (64, False)
    found.close()


def test_one_that_failed_is_passed_over() -> None:
    found, _ = acceptor(errno.ECONNABORTED, errno.EPROTO, None)
    assert taken(found) == (1, False)
    found.close()


def test_others_give_way_when_descriptors_are_short() -> None:
    found, _ = acceptor(None, errno.EMFILE, None, errno.ENFILE, None, errno.EMFILE, None, None, spared=2)
    assert taken(found) == (3, False)
    assert found.refused == 2
    found.close()


def test_who_waits_is_refused_when_descriptors_are_short() -> None:
    found, _ = acceptor(None, errno.EMFILE, None, None)
    assert taken(found) == (1, False)
    assert found.refused == 2
    assert taken(found) == (0, False)
    found.close()


def test_the_listener_pauses_when_the_reserve_is_of_no_use() -> None:
    found, _ = acceptor(errno.ENFILE, errno.ENFILE, None)
    assert taken(found) == (0, True)
    assert found.refused == 0
    assert taken(found) == (1, False)
    found.close()


def test_without_a_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_descriptor(*words: Any) -> int:
        raise OSError(errno.EMFILE, "")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", no_descriptor)
        found, _ = acceptor(errno.EMFILE, None)
        assert taken(found) == (0, True)
    assert taken(found) == (1, False)
    assert found._reserve is not None
    found.close()


# -- what is said ----------------------------------------------------------------------------------------------


def test_complaints_are_few(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints()
    for now in (0.0, 1.0, 9.9):
        complaints.say("kind", f"first at {now}", now)
    complaints.say("other", "another", 1.0)
    complaints.say("kind", "again", 10.0)
    complaints.say("kind", "and again", 20.0)
    assert [record.getMessage() for record in caplog.records] == [
        "first at 0.0",
        "another",
        "again (and 2 times before, since the last time this was said)",
        "and again",
    ]
