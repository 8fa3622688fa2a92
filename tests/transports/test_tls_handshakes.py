"""How many handshakes there are in a second, and whose turn it is."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import pytest
import trio
import trio.testing

from duplex.transports.streams._handshakes import Bucket, Handshakes
from tests.machine import fail_after
from tests.transports.streams import dial, hears, opened, with_options
from tests.transports.test_tls import ANYWHERE, hello

# -- the decisions ---------------------------------------------------------------------------------------------


def test_a_bucket_fills() -> None:
    bucket = Bucket(10, 0.0)
    for _ in range(10):
        assert bucket.due(0.0) == 0.0
        bucket.take()
    assert bucket.due(0.0) == pytest.approx(0.1)
    assert not bucket.is_full(0.05)
    assert bucket.due(0.1) == 0.1
    assert bucket.is_full(1.1)
    assert bucket.due(50.0) == 50.0
    for _ in range(10):
        bucket.take()
    assert bucket.due(50.0) > 50.0, "no more than a second's worth is kept"


def test_a_bucket_of_less_than_one_has_one() -> None:
    bucket = Bucket(0.5, 0.0)
    assert bucket.due(0.0) == 0.0
    bucket.take()
    assert bucket.due(0.0) == 2.0


def test_so_many_at_once_and_the_others_in_their_order() -> None:
    paced: Handshakes[int] = Handshakes(4, 100, 0.0)
    for number in range(10):
        paced.note(number, "127.0.0.1")
    assert [paced.begin(number, 0.0) for number in range(10)] == [True] * 4 + [False] * 6
    assert paced.is_waiting(4)
    assert not paced.is_waiting(0)
    assert paced.next_due(0.0) == 0.25
    assert paced.take_due(0.2) == []
    assert paced.take_due(0.25) == [4]
    assert paced.take_due(0.76) == [5, 6]
    paced.remove(7)
    paced.remove(7)
    assert paced.take_due(10.0) == [8, 9]
    assert paced.next_due(10.0) is None


def test_one_that_comes_later_does_not_overtake() -> None:
    paced: Handshakes[str] = Handshakes(1, 100, 0.0)
    for name in ("first", "second", "third"):
        paced.note(name, "127.0.0.1")
    assert paced.begin("first", 0.0)
    assert not paced.begin("second", 0.0)
    assert not paced.begin("third", 5.0), "somebody waits"
    assert paced.take_due(5.0) == ["second"]


def test_an_address_has_its_share() -> None:
    paced: Handshakes[str] = Handshakes(10, 2, 0.0)
    many = [f"many {number}" for number in range(8)]
    for name in many:
        paced.note(name, "10.0.0.1")
    assert [paced.begin(name, 0.0) for name in many] == [True, True] + [False] * 6
    for name, host in (("other", "10.0.0.2"), ("another", "2001:db8::1"), ("next", "2001:db8::2")):
        paced.note(name, host)
        assert paced.begin(name, 0.0), "what one address has to wait for, others do not"
    paced.note("last", "2001:db8::3")
    assert not paced.begin("last", 0.0), "it is of the same network as two others"
    assert paced.next_due(0.0) == 0.5
    assert paced.take_due(0.5) == ["many 2", "last"]
    assert set(paced._of) == {"10.0.0.1", "2001:db8::/64"}
    # It was idle: of the second's worth no more than two are kept.
    assert paced.take_due(5.0) == ["many 3", "many 4"]
    assert set(paced._of) == {"10.0.0.1"}, "addresses are forgotten when nothing is to be remembered of them"


def test_addresses_take_turns() -> None:
    paced: Handshakes[str] = Handshakes(1, 100, 0.0)
    paced.note("first", "10.0.0.9")
    assert paced.begin("first", 0.0)
    for name, host in (
        ("a1", "10.0.0.1"),
        ("a2", "10.0.0.1"),
        ("a3", "10.0.0.1"),
        ("b1", "10.0.0.2"),
        ("c1", "10.0.0.3"),
    ):
        paced.note(name, host)
        assert not paced.begin(name, 0.0)
    assert [paced.take_due(float(second)) for second in range(1, 6)] == [
        ["a1"],
        ["b1"],
        ["c1"],
        ["a2"],
        ["a3"],
    ]


# -- at a port -------------------------------------------------------------------------------------------------


def wait_for(condition: Any) -> Any:
    async def wait() -> None:
        with fail_after(10):
            while not condition():
                await trio.sleep(0.005)  # nothing tells of a stranger

    return wait()


async def test_who_comes_beyond_it_waits_unread() -> None:
    async with opened() as ports:
        bound = ports.bind(ANYWHERE, with_options(max_handshakes=2, hello_timeout=30))
        port: Any = bound.port
        with contextlib.ExitStack() as stack:
            wires = [stack.enter_context(dial(bound.port.endpoint)) for _ in range(2)]
            for wire in wires:
                wire.sendall(hello())
            await wait_for(lambda: len(port._connections) == 2)
            good = ports.connect(bound.port.endpoint)
            await wait_for(lambda: port._newcomers)
            began = trio.current_time()
            good.send(await good.up(), b"HELLO")
            assert await bound.received() == [[b"HELLO"]]
            assert trio.current_time() - began > 0.3, "it had to wait for half a second"
            assert not port._newcomers
            assert port._handshakes.next_due(0.0) is None


async def test_who_waits_too_long_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    async with opened() as ports:
        bound = ports.bind(ANYWHERE, with_options(max_handshakes=1, hello_timeout=0.2))
        port: Any = bound.port
        with dial(bound.port.endpoint) as first, dial(bound.port.endpoint) as second:
            first.sendall(hello())
            await wait_for(lambda: port._connections)
            second.sendall(hello())
            assert await hears(second) == b"", "nothing was done for it"
        assert not port._newcomers
    assert "had to wait for TLS longer than 0.2 s, and was cut" in caplog.text


async def test_who_waits_and_goes_costs_nothing() -> None:
    async with opened() as ports:
        bound = ports.bind(ANYWHERE, with_options(max_handshakes=1, hello_timeout=30))
        port: Any = bound.port
        with dial(bound.port.endpoint) as first:
            first.sendall(hello())
            await wait_for(lambda: port._connections)
            second = dial(bound.port.endpoint)
            second.sendall(hello())
            await wait_for(lambda: port._newcomers and port._handshakes.next_due(0.0) is not None)
            # A reset, which the kernel tells of whatever it was asked for.
            second.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            second.close()
            await wait_for(lambda: not port._newcomers)
            assert port._handshakes.next_due(0.0) is None


async def test_closing_a_port_while_some_wait() -> None:
    async with opened() as ports:
        bound = ports.bind(ANYWHERE, with_options(max_handshakes=1, hello_timeout=30))
        port: Any = bound.port
        with (
            dial(bound.port.endpoint) as first,
            dial(bound.port.endpoint) as second,
            dial(bound.port.endpoint) as silent,
        ):
            first.sendall(hello())
            await wait_for(lambda: port._connections)
            second.sendall(hello())
            await wait_for(lambda: port._handshakes.next_due(0.0) is not None)
            bound.port.close()
            for wire in (second, silent):
                assert await hears(wire) == b""
        await bound.finished.wait()
