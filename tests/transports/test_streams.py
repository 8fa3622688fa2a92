"""Ports that speak ZMTP over sockets of their own: how connections begin and end, and what is large, slow or too much."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from duplex import BindError, ConfigurationError
from duplex.transports import Carrier, CarrierDown, Frames, ZmtpTransport
from duplex.transports.streams import _bound, _connecting, _connection, _dialing, _liveness
from duplex.transports.streams._liveness import UNREACHABLE, Signs
from duplex.transports.streams._lookout import get_lookout
from tests.machine import fail_after, within
from tests.transports.helpers import QUICK, Ports, Recorder
from tests.transports.streams import ALL, BOTH, CLOSED, KiB, MiB, dial, hears, opened, with_options
from tests.transports.zmtp.sessions import OPENING, command, greeting, message, ready

# -- ends ------------------------------------------------------------------------------------------------------


@ALL
async def test_the_end_comes_after_the_last_message(endpoint: str) -> None:
    async with opened() as ports:
        bound, connecting = await ports.pair(endpoint)
        for one, other in ((connecting, bound), (bound, connecting)):
            for number in range(5000):
                one.send(one.ups[-1], b"%d" % number)
            near, far = one.ups[-1], other.ups[-1]
            one.send(near, b"last", bytes(3 * MiB))
            near.close()
            near.close()
            assert await other.down() == CLOSED
            assert [int(frames[0]) for _, frames in other.messages[:-1]] == list(range(5000))
            assert [len(part) for part in other.messages[-1][1]] == [4, 3 * MiB]
            assert not one.downs
            with pytest.raises(CarrierDown, match="the carrier was closed"):
                near.send([b"too late"])
            with pytest.raises(CarrierDown, match=CLOSED):
                far.send([b"too late"])
            if one is connecting:
                connecting.send(await connecting.up(2), b"HELLO")
                bound.send(await bound.up(2), b"HELLO")
                await connecting.received()
                for recorder in (bound, connecting):
                    recorder.messages.clear()
                    recorder.downs.clear()


@ALL
async def test_closing_a_port_loses_nothing(endpoint: str) -> None:
    """Neither what the other side has not read yet, nor what this one has not."""
    for closes in ("bound", "connecting"):
        async with opened() as ports:
            bound, connecting = await ports.pair(endpoint)
            one, other = (bound, connecting) if closes == "bound" else (connecting, bound)
            other.send(other.ups[0], bytes(100))
            one.send(one.ups[0], b"last", bytes(8 * MiB))
            one.send(one.ups[0], b"really")
            one.port.close()
            await other.received(2)
            assert other.messages[1][1] == (b"really",)
            await other.down()
            with fail_after(5):
                await one.finished.wait()


async def test_closing_many_carriers_keeps_few_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_bound, "_MOST_FAREWELLS", 2)
    async with opened() as ports:
        bound = ports.bind("tcp://127.0.0.1:*")
        with contextlib.ExitStack() as stack:
            wires = [stack.enter_context(dial(bound.port.endpoint)) for _ in range(4)]
            for number, wire in enumerate(wires, 1):
                wire.sendall(OPENING + message(b"HELLO"))
                (await bound.up(number)).close()
            # The first two give way to others; those end when the other side has had its time.
            for wire in wires:
                await hears(wire)


async def test_closing_a_port_does_not_wait_for_those_who_were_closed_before() -> None:
    async with opened() as ports:
        bound = ports.bind("tcp://127.0.0.1:*")
        with dial(bound.port.endpoint) as wire:
            wire.sendall(OPENING + message(b"HELLO"))
            (await bound.up()).close()
            bound.port.close(1000)
            await bound.finished.wait()
            await hears(wire)


async def test_a_client_that_does_not_read_is_not_waited_for() -> None:
    async with opened() as ports:
        bound = ports.bind("tcp://127.0.0.1:*")
        with dial(bound.port.endpoint) as wire:
            wire.sendall(OPENING + message(b"HELLO"))
            bound.send(await bound.up(), b"", bytes(64 * MiB))
            began = time.monotonic()
            bound.port.close(0.2)
            with fail_after(10):
                await bound.finished.wait()
            assert 0.1 < time.monotonic() - began < within(5)


async def test_a_server_that_does_not_read_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with opened() as ports:
            connecting = ports.connect(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
            wire, _ = await trio.to_thread.run_sync(listener.accept)
            with wire:
                wire.sendall(greeting() + ready(b"ROUTER"))
                connecting.send(await connecting.up(), b"", bytes(64 * MiB))
                began = time.monotonic()
                connecting.port.close(0.2)
                with fail_after(10):
                    await connecting.finished.wait()
                assert 0.1 < time.monotonic() - began < within(5)


@BOTH
async def test_a_killed_process_is_noticed(endpoint: str) -> None:
    code = """
import sys, zmq
with zmq.Context() as context, context.socket(zmq.DEALER) as remote:
    remote.connect(sys.argv[1])
    remote.send(b"HELLO")
    remote.recv()
"""
    async with opened() as ports:
        bound = ports.bind(endpoint)
        with subprocess.Popen([sys.executable, "-c", code, bound.port.endpoint]) as process:
            try:
                carrier = await bound.up()
                if endpoint.startswith("ipc"):
                    assert carrier.address == f"{bound.port.endpoint} (pid {process.pid})"
                process.send_signal(signal.SIGKILL)
                assert await bound.down() == CLOSED
            finally:
                process.kill()
        with pytest.raises(CarrierDown):
            carrier.send([b"too late"])


async def test_a_send_finds_the_end_and_the_rest_still_comes() -> None:
    async with opened() as ports:
        bound = ports.bind("tcp://127.0.0.1:*")
        wire = dial(bound.port.endpoint)
        wire.sendall(OPENING + message(b"HELLO"))
        carrier = await bound.up()
        connection: Any = carrier
        wire.sendall(message(b"last words"))
        connection.wire.shutdown(socket.SHUT_WR)
        with pytest.raises(CarrierDown, match=CLOSED):
            carrier.send([b"x"])
        with pytest.raises(CarrierDown, match=CLOSED):
            carrier.send([b"x"])
        assert await bound.down() == CLOSED
        assert (await bound.received())[-1] == [b"last words"]
        wire.close()


async def test_a_large_send_finds_the_end() -> None:
    async with opened() as ports:
        bound, connecting = await ports.pair("tcp://127.0.0.1:*")
        for recorder in (bound, connecting):
            connection: Any = recorder.ups[0]
            connection.wire.shutdown(socket.SHUT_WR)
            with pytest.raises(CarrierDown, match=CLOSED):
                connection.send([b"x", bytes(MiB)])
        assert await connecting.down() == CLOSED


@pytest.mark.parametrize("role", ["bound", "connecting"])
async def test_who_has_stopped_reading_is_gone(role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_connection, "MOST_WAITING", 10)
    async with opened() as ports:
        bound, connecting = await ports.pair("tcp://127.0.0.1:*")
        carrier = (bound if role == "bound" else connecting).ups[0]

        def send_much() -> None:
            for _ in range(100):  # and nothing runs meanwhile that could read
                carrier.send([b"x", bytes(MiB)])

        with pytest.raises(CarrierDown, match="stopped reading"):
            send_much()
        assert "stopped reading" in await (bound if role == "bound" else connecting).down()


@pytest.mark.parametrize("role", ["bound", "connecting"])
async def test_who_sends_nothing_is_given_up(role: str) -> None:
    strict = with_options(heartbeat_interval=0.02, heartbeat_timeout=0.1, max_silence=1.0)
    patient = with_options(max_silence=None, heartbeat_interval=0.02)
    async with opened() as ports:
        bound = ports.bind("tcp://127.0.0.1:*", strict if role == "bound" else patient)
        connecting = ports.connect(bound.port.endpoint, patient if role == "bound" else strict)
        connecting.send(await connecting.up(), b"HELLO")
        bound.send(await bound.up(), b"HELLO")
        one, other = (bound, connecting) if role == "bound" else (connecting, bound)
        began = trio.current_time()
        while trio.current_time() < began + 1.5:
            other.send(other.ups[0], b"a sign of life")
            await trio.sleep(0.02)  # a remote end that pings
        assert not one.downs
        assert await one.down() == "nothing has come from it for 1 s, though its host answers"


@pytest.mark.parametrize("role", ["bound", "connecting"])
async def test_a_host_that_is_gone(role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel says is made up; whether it says so is shown by the tests of faults."""
    signs = Signs(1, 0.0)
    monkeypatch.setattr(_liveness, "signs_of", lambda wire: signs)
    looks = with_options(heartbeat_interval=0.02, heartbeat_timeout=0.3)
    async with opened() as ports:
        bound = ports.bind("tcp://127.0.0.1:*", looks if role == "bound" else QUICK)
        connecting = ports.connect(bound.port.endpoint, QUICK if role == "bound" else looks)
        connecting.send(await connecting.up(), b"HELLO")
        await bound.up()
        one = bound if role == "bound" else connecting
        await trio.sleep(0.2)  # several looks
        assert not one.downs
        signs = Signs(5, 0.1)
        await trio.sleep(0.1)  # more of them
        assert not one.downs
        signs = Signs(5, 0.3)
        assert await one.down() == UNREACHABLE
        with pytest.raises(CarrierDown, match=UNREACHABLE):
            one.ups[0].send([b"x"])


# -- connecting ------------------------------------------------------------------------------------------------


async def why_not(ports: Ports, endpoint: str, contains: str) -> Recorder:
    """Connect in vain, and wait for the reason."""
    connecting = ports.connect(endpoint)
    with fail_after(5):
        while contains not in (connecting.port.last_error or ""):
            await trio.sleep(0.005)  # nothing tells of an attempt that failed
    assert not connecting.ups
    return connecting


async def test_why_there_is_no_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
    async with opened() as ports:
        await why_not(ports, f"tcp://127.0.0.1:{port}", "it was refused (nothing listens there)")
        await why_not(ports, "tcp://no-such-host.invalid:1", "cannot resolve 'no-such-host.invalid'")
        await why_not(
            ports, f"ipc://{tmp_path}/none", f"{tmp_path}/none does not exist: nothing is bound there"
        )
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(f"{tmp_path}/left")
            await why_not(
                ports, f"ipc://{tmp_path}/left", f"nothing accepts connections at ipc://{tmp_path}/left"
            )
            left.listen(0)
            with contextlib.ExitStack() as stack:
                for _ in range(2):
                    waits = stack.enter_context(socket.socket(socket.AF_UNIX))
                    waits.setblocking(False)
                    with contextlib.suppress(BlockingIOError):
                        waits.connect(f"{tmp_path}/left")
                await why_not(ports, f"ipc://{tmp_path}/left", "too many wait there to be accepted")
        (tmp_path / "file").touch()
        (tmp_path / "file").chmod(0o600)
        await why_not(ports, f"ipc://{tmp_path}/file/x", "did not accept the connection: Not a directory")
        await why_not(ports, "tcp://255.255.255.255:1", "did not accept the connection: ")


async def test_attempts_have_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_dialing, "CONNECT_TIMEOUT", 0.05)
    monkeypatch.setattr(_connecting, "HANDSHAKE", 0.05)

    async def never(self: Any, address: Any) -> None:
        await trio.sleep_forever()

    async with opened() as ports:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            endpoint = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
            await why_not(ports, endpoint, "accepted the connection, but is silent")
            monkeypatch.setattr(trio.socket.SocketType, "connect", never, raising=False)
            monkeypatch.setattr(trio._socket._SocketType, "connect", never)
            await why_not(ports, endpoint, "it did not answer within 0.05 s")


async def test_no_socket_to_connect_with(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_descriptor(*words: Any) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(trio.socket, "socket", no_descriptor)
    async with opened() as ports:
        await why_not(ports, "tcp://127.0.0.1:1", "cannot make a socket: Too many open files")


async def test_a_socket_that_is_connected_with_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trio._socket._SocketType, "getpeername", lambda self: self.getsockname())
    async with opened() as ports:
        bound = ports.bind("tcp://127.0.0.1:*")
        await why_not(ports, bound.port.endpoint, "it was refused (nothing listens there)")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"SSH-2.0-x\r\n", "but: the other side speaks SSH"),
        (greeting(mechanism=b"CURVE"), "but: the other side wants the mechanism CURVE, and this side NULL"),
        (greeting() + command(b"ERROR", b"\x02no"), "but: the other side refuses the connection: 'no'"),
        (greeting(), "but ended it during the handshake of ZMTP"),
    ],
)
async def test_who_is_there_is_no_peer(said: bytes, why: str) -> None:
    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                wire, _ = listener.accept()
                wire.sendall(said)
                wire.recv(64)
                wire.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with opened() as ports, trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, serve, listener)
            connecting = await why_not(ports, f"tcp://127.0.0.1:{listener.getsockname()[1]}", why)
            connecting.port.close()
            listener.shutdown(socket.SHUT_RDWR)


async def test_every_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened() as ports:
        bound = ports.bind("tcp://127.0.0.1:*")
        number = int(bound.port.endpoint.rpartition(":")[2])

        async def found(*words: Any, **more: Any) -> list[Any]:
            there = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", number))
            return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", number, 0, 0)), there, there]

        monkeypatch.setattr(trio.socket, "getaddrinfo", found)
        connecting = ports.connect("tcp://name:5555")
        connecting.send(await connecting.up(), b"HELLO")
        assert await bound.received() == [[b"HELLO"]]
        assert connecting.port.last_error is None
        assert connecting.ups[0].address == "tcp://name:5555"
        assert bound.ups[0].address == "tcp://127.0.0.1"


@pytest.mark.parametrize(
    ("endpoint", "address"),
    [
        ("tcp://127.0.0.1:*", "tcp://127.0.0.1"),
        ("tcp://[::1]:*", "tcp://[::1]"),
        ("ipc://*", " (pid PID)"),
    ],
)
async def test_addresses_name_a_host_or_a_process(endpoint: str, address: str) -> None:
    """Without ports: the engine counts the links of an address."""
    async with opened() as ports:
        bound, connecting = await ports.pair(endpoint)
        assert bound.ups[0].address.endswith(address.replace("PID", str(os.getpid())))
        assert connecting.ups[0].address == bound.port.endpoint


async def test_abstract_names() -> None:
    async with opened() as ports:
        endpoint = f"ipc://@duplex-test-{os.getpid()}"
        bound, connecting = await ports.pair(endpoint)
        assert bound.port.endpoint == endpoint
        assert not Path(endpoint.removeprefix("ipc://")).exists()
        connecting.send(connecting.ups[0], b"x")
        await bound.received()


@pytest.mark.parametrize(
    ("endpoint", "what"),
    [
        ("inproc://x", "write tcp://host:port, tls://host:port or ipc://path"),
        ("nonsense", "write tcp://host:port, tls://host:port or ipc://path"),
        ("tcp://x", "the port is missing"),
    ],
)
async def test_endpoints_of_others(endpoint: str, what: str) -> None:
    for method in (ZmtpTransport().bind, ZmtpTransport().connect):
        with pytest.raises(ConfigurationError, match=what):
            method(endpoint, Recorder(), QUICK)


async def test_what_is_at_a_path_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(BindError, match="a file is there, and is left as it is"):
        ZmtpTransport().bind(f"ipc://{path}", Recorder(), QUICK)
    assert path.read_text() == "mine"
    async with opened() as ports:
        bound = ports.bind(f"ipc://{tmp_path}/socket")
        assert (tmp_path / "socket").is_socket()
        with pytest.raises(BindError, match="a process listens there"):
            ZmtpTransport().bind(f"ipc://{tmp_path}/socket", Recorder(), QUICK)
        bound.port.close()
        await bound.finished.wait()
    assert not (tmp_path / "socket").exists()


# -- one task for all that was connected -----------------------------------------------------------------------


async def test_others_go_on_to_be_looked_after_when_a_port_is_closed() -> None:
    options = with_options(heartbeat_interval=0.1, heartbeat_timeout=0.2, max_silence=0.3)
    async with opened() as ports:
        bound = ports.bind("tcp://127.0.0.1:*", with_options(max_silence=None))
        several = [ports.connect(bound.port.endpoint, options) for _ in range(4)]
        for one in several:
            await one.up()
        lookout = get_lookout()
        assert len(lookout._due) == 4
        several[0].port.close()
        await several[0].finished.wait()
        several[1].port.close()
        several[2].port.close()
        began = trio.current_time()
        assert "nothing has come from it for 0.3 s" in await several[3].down()
        assert 0.1 < trio.current_time() - began < within(2)
        several[3].port.close()
        await several[3].finished.wait()
        assert not lookout._due
        await ports.connect(bound.port.endpoint, options).up()
        assert len(lookout._due) == 1


# -- turns -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["bound", "connecting"])
async def test_a_chunk_of_many_messages_takes_several_turns(
    role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_connection, "LONG_TURN", 0.0)
    async with opened() as ports:
        bound, connecting = await ports.pair("tcp://127.0.0.1:*")
        one, other = (connecting, bound) if role == "bound" else (bound, connecting)
        for number in range(300):
            one.send(one.ups[0], b"%d" % number)
        await other.received(300)
        assert [int(frames[0]) for _, frames in other.messages] == list(range(300))


@pytest.mark.parametrize("what", ["carrier", "port"])
async def test_closing_in_the_middle_of_a_chunk(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened() as ports:
        bound, connecting = await ports.pair("tcp://127.0.0.1:*")
        for one, other in ((connecting, bound), (bound, connecting)):

            def close(carrier: Carrier, frames: Frames, other: Recorder = other) -> None:
                if bytes(frames[0]) == b"3":
                    (carrier if what == "carrier" else other.port).close()

            other.on_message = close
            count = len(one.ups)
            for number in range(10):
                one.ups[-1].send([b"%d" % number, bytes(number * 40_000)])
            await one.down()
            assert [frames[0] for _, frames in other.messages] == [b"0", b"1", b"2", b"3"]
            if what == "port":
                break
            one.downs.clear()
            await (bound if one is connecting else connecting).until(lambda: True)
            connecting.send(await connecting.up(count + 1), b"HELLO")
            await bound.up(count + 1)
            bound.on_message = None
            bound.send(bound.ups[-1], b"HELLO")
            await connecting.until(lambda: connecting.messages)
            connecting.messages.clear()


async def test_one_that_sends_much_does_not_keep_others_waiting() -> None:
    async with opened() as ports:
        bound = ports.bind("tcp://127.0.0.1:*")
        greedy, modest = ports.connect(bound.port.endpoint), ports.connect(bound.port.endpoint)
        for one in (greedy, modest):
            one.send(await one.up(), b"HELLO")
        await bound.received(2)
        order: list[bytes] = []
        bound.on_message = lambda carrier, frames: order.append(bytes(frames[0]))
        for _ in range(30):
            greedy.send(greedy.ups[0], b"greedy", bytes(MiB))
        for _ in range(30):
            modest.send(modest.ups[0], b"modest", bytes(60 * KiB))
        await bound.received(62)
        assert order[:40].count(b"modest") >= 20, order


@pytest.mark.parametrize("role", ["bound", "connecting"])
async def test_what_is_sent_faster_than_it_is_read_waits_in_order(role: str) -> None:
    async with opened() as ports:
        bound, connecting = await ports.pair("tcp://127.0.0.1:*")
        one, other = (connecting, bound) if role == "bound" else (bound, connecting)
        for number in range(100):
            one.send(one.ups[0], b"%d" % number, bytes(200_000 if number % 2 else 100))
        one.send(one.ups[0], b"100", *[bytes(70_000)] * 100)
        await other.received(101)
        assert [int(frames[0]) for _, frames in other.messages] == list(range(101))
        assert len(other.messages[100][1]) == 101


async def test_pings_are_answered_behind_what_waits() -> None:
    async with opened() as ports:
        bound = ports.bind("tcp://127.0.0.1:*")
        with dial(bound.port.endpoint) as wire:
            wire.sendall(OPENING + message(b"HELLO"))
            carrier = await bound.up()
            connection: Any = carrier
            while connection._unsent is None:
                carrier.send([b"x", bytes(MiB)])
            wire.sendall(command(b"PING", b"\0\0hello") + message(b"after"))
            await bound.received(2)

            def read() -> bytes:
                data = b""
                wire.settimeout(within(10))
                while not data.endswith(command(b"PONG", b"hello")):
                    data += wire.recv(MiB)
                return data

            await trio.to_thread.run_sync(read)


@contextlib.asynccontextmanager
async def accepted(ports: Ports) -> AsyncIterator[tuple[Recorder, socket.socket]]:
    """A connecting port whose carrier is up, and the plain socket that it has connected to."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connecting = ports.connect(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
        wire, _ = await trio.to_thread.run_sync(listener.accept)
        with wire:
            wire.settimeout(within(10))
            wire.sendall(greeting() + ready(b"ROUTER"))
            await connecting.up()
            yield connecting, wire
            connecting.port.close(0)


async def hears_until(wire: socket.socket, end: bytes) -> None:
    def read() -> None:
        data = b""
        while not data.endswith(end):
            part = wire.recv(MiB)
            assert part, "the connection is over"
            data = data[-len(end) :] + part

    await trio.to_thread.run_sync(read)


async def test_a_probe_does_not_stop_what_waits_to_be_sent() -> None:
    """A call probes that is given up, perhaps while the stream takes nothing."""
    async with opened() as ports, accepted(ports) as (connecting, wire):
        carrier = connecting.ups[0]
        connecting.send(carrier, b"", bytes(64 * MiB), b"the end")
        await trio.testing.wait_all_tasks_blocked()
        carrier.turns.probe()
        await trio.testing.wait_all_tasks_blocked()
        await hears_until(wire, b"the end")


class Narrow:
    """A socket that is told how often it takes something."""

    def __init__(self, wire: socket.socket) -> None:
        self._wire = wire
        self.takes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wire, name)

    def sendmsg(self, buffers: list[bytes]) -> int:
        if not self.takes:
            raise BlockingIOError
        self.takes -= 1
        return self._wire.sendmsg(buffers)


async def test_one_task_writes_what_waits_and_the_answer_behind_it() -> None:
    """The stream takes all that waits, and then no answer to the PING that has come meanwhile."""
    async with opened() as ports, accepted(ports) as (connecting, wire):
        carrier: Any = connecting.ups[0]
        carrier.wire = narrow = Narrow(carrier.wire)
        for _ in range(2):
            connecting.send(carrier, b"", b"waits")
            wire.sendall(command(b"PING", b"\0\0hello"))
            with fail_after(5):
                while not carrier.zmtp.has_to_send:
                    await trio.lowlevel.checkpoint()
                narrow.takes = 1
                while narrow.takes or carrier.zmtp.has_to_send:
                    await trio.lowlevel.checkpoint()
            for _ in range(10):
                await trio.lowlevel.checkpoint()
            narrow.takes = 1
            await hears_until(wire, command(b"PONG", b"hello"))


async def test_a_carrier_that_was_closed_costs_nothing_while_the_other_end_does_not_read() -> None:
    async with opened() as ports:
        bound = ports.bind("tcp://127.0.0.1:*")
        with dial(bound.port.endpoint) as wire:
            wire.sendall(OPENING + message(b"HELLO"))
            bound.send(await bound.up(), b"", bytes(64 * MiB))
            port: Any = bound.port
            goes: list[int] = []
            go_on = port._go_on

            def counted(fd: int) -> None:
                goes.append(fd)
                go_on(fd)

            port._go_on = counted
            bound.ups[0].close()
            wire.sendall(message(b"more"))
            await trio.sleep(0.3)  # nothing is to happen meanwhile
            assert len(goes) < 10
            port.close(0)


async def test_a_port_runs_once() -> None:
    async with opened() as ports:
        bound, connecting = await ports.pair("tcp://127.0.0.1:*")
        for recorder in (bound, connecting):
            with pytest.raises(RuntimeError, match="only once"):
                await recorder.port.run()


async def test_waits_end_when_they_are_told_to() -> None:
    async with opened() as ports:
        bound, connecting = await ports.pair("tcp://127.0.0.1:*")
        await trio.testing.wait_all_tasks_blocked()
        for recorder in (bound, connecting):
            turns = recorder.ups[0].turns
            takes: list[bool] = []
            take: Callable[[], bool] = turns.take
            any_turns: Any = turns
            any_turns.take = lambda take=take, takes=takes: takes.append(True) or take()
            turns.probe()
            turns.probe()
            with fail_after(5):
                while not takes:
                    await trio.lowlevel.checkpoint()


def test_ports_that_outlive_their_loop() -> None:
    left: list[Recorder] = []

    async def main() -> None:
        async with opened() as ports:
            left.extend(await ports.pair("tcp://127.0.0.1:*"))
        idle = Recorder()
        idle.port = ZmtpTransport().bind("tcp://127.0.0.1:*", idle, QUICK)
        left.append(idle)
        waits = Recorder()
        waits.port = ZmtpTransport().connect("tcp://127.0.0.1:1", waits, QUICK)
        left.append(waits)

    trio.run(main)
    for recorder in left:
        recorder.port.close()
        for carrier in recorder.ups:
            carrier.turns.probe()
    left.clear()
    gc.collect()


# -- forks -----------------------------------------------------------------------------------------------------


@pytest.fixture
def ends() -> Iterator[list[int]]:
    """Children, which are ended."""
    children: list[int] = []
    yield children
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@ALL
async def test_a_forked_child_holds_no_connection(endpoint: str, ends: list[int], tmp_path: Path) -> None:
    async with opened() as ports:
        bound, connecting = await ports.pair(
            f"ipc://{tmp_path}/socket" if endpoint.startswith("ipc") else endpoint
        )
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            with contextlib.suppress(BaseException):
                bound.port.close()
                connecting.port.close()
                fds = [bound.ups[0].wire.fileno(), connecting.ups[0].wire.fileno()]  # type: ignore[attr-defined]
                os.write(writing, repr(fds).encode())
            signal.pause()
        ends.append(child)
        assert os.read(reading, 100) == b"[-1, -1]"
        os.close(reading)
        os.close(writing)
        connecting.send(connecting.ups[0], b"still there")
        assert await bound.received() == [[b"still there"]]
        connecting.ups[0].close()
        assert await bound.down() == CLOSED
        if endpoint.startswith("ipc"):
            assert (tmp_path / "socket").exists()
