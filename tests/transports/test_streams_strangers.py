"""Ports that speak ZMTP over sockets of their own, and those who come to them: how many, how long, and what they may say."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from duplex import BindError
from duplex.transports import ZmtpTransport
from tests.machine import fail_after, within
from tests.transports.helpers import QUICK, Recorder
from tests.transports.streams import BOTH, KiB, MiB, dial, hears, opened, with_options
from tests.transports.zmtp.sessions import OPENING, command, greeting, message, ready

# -- strangers -------------------------------------------------------------------------------------------------


@BOTH
async def test_who_says_nothing_is_cut(endpoint: str, caplog: pytest.LogCaptureFixture) -> None:
    async with opened() as ports:
        bound = ports.bind(endpoint, with_options(hello_timeout=0.1))
        good = ports.connect(bound.port.endpoint)
        good.send(await good.up(), b"HELLO")
        await bound.received()
        for said in (b"", greeting()[:10], greeting(), OPENING, OPENING + command(b"PING", b"\0\0")):
            with dial(bound.port.endpoint) as wire:
                wire.sendall(said)
                began = time.monotonic()
                assert (await hears(wire)).startswith(b"\xff")
                assert time.monotonic() - began < within(5)
        assert len(bound.ups) == 1
        assert not bound.downs, "one that has greeted has time"
    assert "sent nothing within 0.1 s, and was cut" in caplog.text


async def test_what_came_while_this_side_was_busy_counts() -> None:
    async with opened() as ports:
        bound = ports.bind("tcp://127.0.0.1:*", with_options(hello_timeout=0.2))
        with dial(bound.port.endpoint) as wire:
            wire.sendall(OPENING)
            await trio.sleep(0.05)  # it is let in
            wire.sendall(message(b"HELLO"))
            time.sleep(0.5)  # the event loop stands still beyond the time that a stranger has
            assert await bound.received() == [[b"HELLO"]]
            await trio.sleep(0.3)  # time for what must not come
            assert not bound.downs


async def test_one_too_many_takes_the_place_of_the_oldest() -> None:
    async with opened() as ports:
        bound = ports.bind("tcp://127.0.0.1:*", with_options(max_ungreeted=3))
        port: Any = bound.port
        with contextlib.ExitStack() as stack:
            silent = []
            for number in range(5):
                silent.append(stack.enter_context(dial(bound.port.endpoint)))
                with fail_after(5):
                    while len(port._strangers) < min(3, number + 1) or len(port._connections) > 3:
                        await trio.sleep(0.001)  # nothing tells of a stranger
                await trio.testing.wait_all_tasks_blocked(0.01)
            for wire in silent[:2]:
                assert (await hears(wire)).startswith(b"\xff")
            good = ports.connect(bound.port.endpoint)
            good.send(await good.up(), b"HELLO")
            assert await bound.received() == [[b"HELLO"]]
            assert len(port._strangers) == 2


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "speaks HTTP"),
        (OPENING + message(bytes(65 * KiB)), "a frame has 66560 bytes, and 65536 are allowed"),
        (OPENING + message(b"a", b"b"), "more than the 1 frames"),
        (greeting() + ready(b"PUB"), "a socket of type 'PUB'"),
        (OPENING + command(b"PING", b"\0\0") * 70, "more than 64 commands"),
    ],
)
async def test_what_strangers_may_not_say(said: bytes, why: str, caplog: pytest.LogCaptureFixture) -> None:
    async with opened() as ports:
        bound = ports.bind("tcp://127.0.0.1:*")
        for _ in range(5):
            with dial(bound.port.endpoint) as wire:
                wire.sendall(said)
                await hears(wire)
        assert not bound.ups
    said_of_it = [record.getMessage() for record in caplog.records if record.name == "duplex"]
    assert len(said_of_it) == 1
    assert why in said_of_it[0]
    assert said_of_it[0].startswith(f"{bound.port.endpoint}: tcp://127.0.0.1 ")


REFUSAL = b"the first message is too long"


@BOTH
@pytest.mark.parametrize(
    "first",
    [message(bytes(65 * KiB)), message(bytes(65 * KiB), b"b"), message(b"a", b"b"), message(bytes(3 * MiB))],
)
async def test_who_says_too_much_at_first_learns_so(endpoint: str, first: bytes) -> None:
    async with opened() as ports:
        bound = ports.bind(endpoint, with_options(refusal=REFUSAL))
        with dial(bound.port.endpoint) as wire:

            def send() -> None:
                with contextlib.suppress(OSError):
                    wire.sendall(OPENING + first)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, send)
                heard = await hears(wire)
            assert len(first) > 2 * MiB or heard.endswith(message(REFUSAL))
        assert not bound.ups


@pytest.mark.parametrize(
    "said",
    [
        OPENING[:-1] + b"\xff",
        OPENING + b"\xff" + bytes(8),
        OPENING + command(b"PING"),
        OPENING + message(b"HELLO") + message(bytes(2 * MiB)),
    ],
)
async def test_others_are_told_nothing(said: bytes) -> None:
    async with opened() as ports:
        bound = ports.bind("tcp://127.0.0.1:*", with_options(refusal=REFUSAL, max_frame=MiB))
        with dial(bound.port.endpoint) as wire:
            with contextlib.suppress(OSError):
                await trio.to_thread.run_sync(wire.sendall, said)
            assert REFUSAL not in await hears(wire)


async def test_who_was_connected_to_may_begin_with_anything() -> None:
    async with opened() as ports:
        bound = ports.bind("tcp://127.0.0.1:*")
        connecting = ports.connect(bound.port.endpoint)
        connecting.send(await connecting.up(), b"HELLO")
        bound.send(await bound.up(), bytes(100 * KiB), bytes(MiB), b"x")
        (frames,) = await connecting.received()
        assert [len(frame) for frame in frames] == [100 * KiB, MiB, 1]


async def test_a_message_without_end_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    async with opened() as ports:
        bound = ports.bind("tcp://127.0.0.1:*", with_options(max_message=MiB, max_frame=100_000))
        with dial(bound.port.endpoint) as wire:
            wire.sendall(OPENING + message(b"HELLO"))
            await bound.received()

            def send() -> None:
                with contextlib.suppress(OSError):
                    for _ in range(100):
                        wire.sendall(message(bytes(90_000), b"")[:-2])

            await trio.to_thread.run_sync(send)
            assert "more than the 1048576 bytes" in await bound.down()
        over: Any = bound.ups[0]
        assert not over.zmtp._frames, (
            "links that are over are remembered for a while, and what came of a message is not"
        )
        assert over.why.__traceback__ is None
        assert len(bound.messages) == 1


# -- descriptors -----------------------------------------------------------------------------------------------


async def test_the_listener_pauses_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened() as ports:
        bound = ports.bind("tcp://127.0.0.1:*")
        port: Any = bound.port
        accept = port._acceptor.accept
        answers: list[Any] = [([], True)]

        def short() -> Any:
            if answers:
                port._acceptor.refused = 3
                return answers.pop()
            return accept()

        monkeypatch.setattr(port._acceptor, "accept", short)
        good = ports.connect(bound.port.endpoint)
        good.send(await good.up(), b"HELLO")
        assert await bound.received() == [[b"HELLO"]]
        assert not answers
    assert "no descriptor is left: 3 connections were refused" in caplog.text


async def test_a_connection_that_cannot_be_waited_for_is_forgotten() -> None:
    """The kernel bounds what one user may wait for (``fs.epoll.max_user_watches``)."""

    class Full:
        def __init__(self, epoll: select.epoll) -> None:
            self._epoll = epoll
            self.refused = 0

        def register(self, fd: int, events: int) -> None:
            if not self.refused:
                self.refused += 1
                raise OSError(errno.ENOSPC, "no space")
            self._epoll.register(fd, events)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._epoll, name)

    async with opened() as ports:
        bound = ports.bind("tcp://127.0.0.1:*")
        port: Any = bound.port
        port._epoll = full = Full(port._epoll)
        good = ports.connect(bound.port.endpoint)
        good.send(await good.up(), b"HELLO")
        assert await bound.received() == [[b"HELLO"]]
        assert full.refused == 1
        assert len(port._connections) == 1
        assert port._strangers.loser() is None


async def test_who_says_nothing_gives_way_when_descriptors_are_short(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Short:
        """A listener that has no descriptor three times, and passes everything on then."""

        def __init__(self, inner: socket.socket) -> None:
            self.inner = inner
            self.times = 3

        def accept(self) -> Any:
            if self.times:
                self.times -= 1
                raise OSError(errno.EMFILE, "")
            return self.inner.accept()

        def close(self) -> None:
            self.inner.close()

    async with opened() as ports:
        bound, parting = await ports.pair("tcp://127.0.0.1:*")
        port: Any = bound.port
        with dial(bound.port.endpoint) as oldest, dial(bound.port.endpoint) as other:
            with fail_after(5):
                while len(port._strangers) < 2:
                    await trio.sleep(0.001)  # nothing tells of a stranger
            far: Any = parting.ups[0]
            far.turns.take = lambda lazily=False: True  # it does not end its side
            bound.ups[0].close()
            assert len(port._farewells) == 1
            port._acceptor._listener = Short(port._acceptor._listener)
            good = ports.connect(bound.port.endpoint)
            good.send(await good.up(), b"HELLO")
            await bound.up(2)
            assert not port._farewells
            for wire in (oldest, other):
                assert (await hears(wire)).startswith(b"\xff")
    assert "gave way to another one, as no descriptor was left" in caplog.text


def test_without_descriptors() -> None:
    code = """
import logging, resource, socket, sys, trio
from duplex.transports import TransportOptions, ZmtpTransport
from tests.transports.helpers import Recorder
logging.basicConfig(stream=sys.stdout, format="%(message)s")

async def main():
    bound, good = Recorder(), Recorder()
    bound.port = ZmtpTransport().bind("tcp://127.0.0.1:*", bound, TransportOptions())
    good.port = ZmtpTransport().connect(bound.port.endpoint, good, TransportOptions())
    address = ("127.0.0.1", int(bound.port.endpoint.rpartition(":")[2]))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bound.run)
        nursery.start_soon(good.run)
        good.send(await good.up(), b"HELLO")
        await bound.received()
        lowest = socket.socket()
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest.fileno() + 40, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        held = [lowest]
        try:
            while True:
                wire = socket.socket()
                held.append(wire)
                wire.connect(address)
        except OSError:
            pass
        held.pop().close()
        stranger = socket.socket()
        stranger.connect(address)
        held.append(stranger)
        for wire in held[1:10]:
            wire.close()
        spare = [socket.socket() for _ in range(9)]
        await trio.sleep(0.1)  # the port meets the limit
        good.send(good.ups[0], b"still there")
        while len(bound.messages) < 2:
            await trio.sleep(0.01)  # received() would need a descriptor, to find out how busy the machine is
        for wire in held[10:] + spare:
            wire.close()
        await trio.sleep(0.5)  # longer than a listener pauses
        other = Recorder()
        other.port = ZmtpTransport().connect(bound.port.endpoint, other, TransportOptions())
        nursery.start_soon(other.run)
        other.send(await other.up(), b"HELLO")
        await bound.received(3)
        nursery.cancel_scope.cancel()
    print("fine")

trio.run(main)
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=within(30),
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert run.stdout.endswith("fine\n"), run.stdout + run.stderr
    assert "no descriptor is left" in run.stdout


@pytest.mark.parametrize("what", ["socket", "epoll"])
def test_binding_without_descriptors(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_descriptor(*words: Any) -> Any:
        raise OSError(errno.EMFILE, "")

    async def main() -> None:
        monkeypatch.setattr(*((socket, "socket") if what == "socket" else (select, "epoll")), no_descriptor)
        with pytest.raises(BindError, match=r"cannot bind tcp://127.0.0.1:\*: Too many open files"):
            ZmtpTransport().bind("tcp://127.0.0.1:*", Recorder(), QUICK)
        monkeypatch.undo()

    trio.run(main)
