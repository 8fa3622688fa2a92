"""Remote ends that die, hang, misbehave or were never what they seemed."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import zmq

from duplex import Reconnect
from duplex.transports import (
    Carrier,
    CarrierDown,
    Frames,
    TransportOptions,
    Turns,
    ZmqTransport,
    _zmq_dealer,
    _zmq_options,
    _zmq_router,
)
from duplex.transports._backoff import Backoff
from tests.machine import fail_after, within
from tests.transports.helpers import CONNECTED, QUICK, Ports, Recorder, of_libzmq, open_ports, plain

#: A remote end that answers every message with itself; argv: what to do, endpoint.
REMOTE = """
import sys, zmq
what, endpoint = sys.argv[1:]
context = zmq.Context()
socket = context.socket(zmq.DEALER if what == "connect" else zmq.ROUTER)
socket.heartbeat_ivl = 5000
getattr(socket, what)(endpoint)
print(socket.last_endpoint.decode(), flush=True)
if what == "connect":
    socket.send(b"hello")
while True:
    socket.send_multipart(socket.recv_multipart())
"""


@contextmanager
def remote(what: str, endpoint: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", REMOTE, what, plain(endpoint)], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        try:
            yield process, f"zmq+{process.stdout.readline().strip()}"
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["tcp", "ipc"])
async def test_a_killed_client_is_noticed(scheme: str) -> None:
    async with open_ports() as ports:
        bound = ports.bind({"tcp": "zmq+tcp://127.0.0.1:*", "ipc": "zmq+ipc://*"}[scheme])
        with remote("connect", bound.port.endpoint) as (process, _):
            carrier = await bound.up()
            process.kill()
            killed = time.perf_counter()
            assert await bound.down() == "the connection was closed or lost"
            assert time.perf_counter() - killed < within(1)
            with pytest.raises(CarrierDown):
                carrier.send([b"too late"])


@pytest.mark.slow
async def test_a_killed_server_is_noticed() -> None:
    async with open_ports() as ports:
        with remote("bind", "zmq+tcp://127.0.0.1:*") as (process, endpoint):
            connecting = ports.connect(endpoint)
            connecting.send(await connecting.up(), b"echo")
            await connecting.received()
            process.kill()
            killed = time.perf_counter()
            assert await connecting.down() == "the connection was closed or lost"
            assert time.perf_counter() - killed < within(1)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["connect", "bind"])
async def test_a_stopped_process_is_noticed_by_heartbeats(what: str) -> None:
    options = TransportOptions(heartbeat_interval=0.1, heartbeat_timeout=0.3, reconnect=Reconnect(initial=5))
    async with open_ports() as ports:
        here = ports.bind("zmq+tcp://127.0.0.1:*", options)
        with remote(what, here.port.endpoint if what == "connect" else "zmq+tcp://127.0.0.1:*") as (
            process,
            there,
        ):
            if what == "bind":
                here = ports.connect(there, options)
            await here.up()
            process.send_signal(signal.SIGSTOP)
            stopped = time.perf_counter()
            await here.down()
            assert 0.2 < time.perf_counter() - stopped < within(2)


@pytest.mark.parametrize("endpoint", CONNECTED)
async def test_only_the_carrier_that_is_gone_goes_down(endpoint: str) -> None:
    """Descriptors are reused at once, so this also tells old connections from new ones."""
    async with open_ports() as ports:
        bound, first = await ports.pair(endpoint)
        for number in range(1, 30):
            other = ports.connect(bound.port.endpoint)
            other.send(await other.up(), b"%d" % number)
            await bound.received(number)
            other.port.close()
            await bound.down(number)
            assert bound.downs[-1][0] is bound.messages[-1][0]
        assert bound.ups[0] not in [carrier for carrier, _ in bound.downs]
        bound.send(bound.ups[0], b"still there")
        assert await first.received() == [[b"still there"]]


async def test_connections_that_never_send_do_not_confuse() -> None:
    async with open_ports() as ports:
        bound = ports.bind("zmq+tcp://127.0.0.1:*")
        address = _address(bound)
        for number in range(1, 20):
            with socket.create_connection(address):
                pass
            with zmq.Context() as context, context.socket(zmq.DEALER) as other:
                other.linger = 0
                other.connect(plain(bound.port.endpoint))
                other.send(b"%d" % number)
                await bound.received(number)
                assert len(bound.downs) == number - 1
            await bound.down(number)


async def test_last_messages_come_before_the_end_however_it_is_noticed() -> None:
    """The bound port does not run while the other end sends and leaves."""
    bound = Recorder()
    bound.port = transport_bind(bound)
    with zmq.Context() as context:
        for name in (b"a", b"b"):
            with context.socket(zmq.DEALER) as other:
                other.linger = 1000
                other.connect(plain(bound.port.endpoint))
                for number in range(100):
                    other.send_multipart([name, b"%d" % number])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bound.run)
        await bound.down(2)
        assert len(bound.messages) == 200
        assert {carrier for carrier, _ in bound.downs} == set(bound.ups)
        bound.port.close()


def transport_bind(receiver: Recorder, options: TransportOptions = QUICK) -> Any:
    return ZmqTransport().bind("zmq+tcp://127.0.0.1:*", receiver, options)


async def test_a_socket_that_is_never_empty_still_reports_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_ports() as ports:
        bound, gone = await ports.pair("zmq+tcp://127.0.0.1:*", dataclasses.replace(QUICK, receive_queue=100))
        busy = ports.connect(bound.port.endpoint)
        near = await busy.up()
        turns: list[bool] = []
        router: Any = bound.port
        settle = router._settle

        def never_empty(drained: bool) -> None:
            turns.append(drained)
            settle(False)

        monkeypatch.setattr(router, "_settle", never_empty)
        busy.on_message = lambda carrier, frames: busy.send(carrier, b"more")
        bound.on_message = lambda carrier, frames: bound.send(carrier, b"more")
        busy.send(near, b"more")
        await bound.up(2)
        turns.clear()
        gone.port.close()
        await bound.down()
        assert bound.downs[0][0] is bound.ups[0]
        assert len(turns) > 2 * 100 // 32


async def test_the_end_is_noticed_by_a_send_when_no_event_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_zmq_router.RouterPort, "_on_event", lambda self, event, value: None)
    async with open_ports() as ports:
        bound, connecting = await ports.pair("zmq+tcp://127.0.0.1:*")
        connecting.port.close()
        with fail_after(5):
            while not refuses(bound.ups[0]):
                await trio.sleep(0.001)  # libzmq closes in the background, unobserved here
        assert not bound.downs, "carrier_down may come only from the port's own task"
        assert await bound.down() == "the connection was closed or lost"


def refuses(carrier: Carrier) -> bool:
    try:
        carrier.send([b"anyone there?"])
    except CarrierDown:
        return True
    return False


async def test_an_end_that_is_noticed_while_another_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_zmq_router.RouterPort, "_on_event", lambda self, event, value: None)

    class Chain(Recorder):
        def carrier_down(self, carrier: Carrier, reason: str) -> None:
            super().carrier_down(carrier, reason)
            for other in self.ups:
                while not refuses(other):
                    time.sleep(0.001)  # libzmq closes in the background, unobserved here

    bound = Chain()
    bound.port = transport_bind(bound)
    async with open_ports() as ports, trio.open_nursery() as nursery:
        nursery.start_soon(bound.run)
        ends = [ports.connect(bound.port.endpoint) for _ in range(3)]
        for number, end in enumerate(ends, 1):
            end.send(await end.up(), b"hello")
            await bound.up(number)
        for end in ends:
            end.port.close()
        while not refuses(bound.ups[0]):
            await trio.sleep(0.001)  # as above
        await bound.down(3)
        assert [carrier for carrier, _ in bound.downs] == bound.ups
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("what", ["carrier", "port"])
async def test_closing_while_several_ends_are_reported(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []
    on_event = _zmq_router.RouterPort._on_event

    def count(self: Any, event: int, value: int) -> None:
        if event == zmq.EVENT_DISCONNECTED:
            ended.append(value)
        on_event(self, event, value)

    monkeypatch.setattr(_zmq_router.RouterPort, "_on_event", count)

    class Closes(Recorder):
        def carrier_down(self, carrier: Carrier, reason: str) -> None:
            super().carrier_down(carrier, reason)
            for closed in self.ups if what == "carrier" else [self.port]:
                closed.close()

    bound = Closes()
    bound.port = transport_bind(bound)
    with zmq.Context() as context:
        for _ in range(3):
            with context.socket(zmq.DEALER) as other:
                other.linger = 1000
                other.connect(plain(bound.port.endpoint))
                other.send(b"hello")
    loop: Any = bound.port
    with fail_after(5):
        while len(ended) < 3:
            loop.read_events()
            await trio.sleep(0.001)  # the port does not run yet, so that it finds all of it at once
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bound.run)
        await bound.down()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(bound.ups) == 3
        assert len(bound.downs) == 1
        bound.port.close()


async def test_nothing_is_sent_on_the_connection_after_the_lost_one() -> None:
    """The remote end comes back while this event loop is busy, so the loss has not been noticed yet."""
    with zmq.Context() as context:
        old = context.socket(zmq.ROUTER)
        old.bind("tcp://127.0.0.1:*")
        endpoint = of_libzmq(old)
        async with open_ports() as ports:
            connecting = ports.connect(endpoint)
            carrier = await connecting.up()
            await trio.testing.wait_all_tasks_blocked()
            old.close(0)
            with context.socket(zmq.ROUTER) as new:
                new.linger = 0
                while True:
                    try:
                        new.bind(plain(endpoint))
                        break
                    except zmq.ZMQError:
                        time.sleep(0.001)  # the old socket is closed in the background
                time.sleep(0.1)  # libzmq would connect again meanwhile, if it were left to
                carrier.send([b"stale"])
                assert not connecting.downs
                connecting.send(await connecting.up(2), b"fresh")
                assert await trio.to_thread.run_sync(new.poll, 5000) == zmq.POLLIN
                assert new.recv_multipart()[1:] == [b"fresh"]


async def test_a_connection_that_stands_has_no_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_zmq_dealer, "CONNECT_TIMEOUT_MS", 50)
    monkeypatch.setattr(_zmq_dealer, "HANDSHAKE_MS", 50)
    async with open_ports() as ports:
        bound, connecting = await ports.pair("zmq+tcp://127.0.0.1:*")
        await trio.sleep(0.15)  # longer than the limit of an attempt
        assert not connecting.downs
        bound.send(bound.ups[0], b"still there")
        await connecting.received()


@pytest.mark.slow
async def test_who_connects_and_never_speaks_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a connection holds a descriptor of the bound side; it is cut at a fiftieth of the real time here."""
    limit_ms = _zmq_options.HANDSHAKE_MS // 50
    monkeypatch.setattr(_zmq_options, "HANDSHAKE_MS", limit_ms)
    async with open_ports() as ports:
        port = ports.bind("zmq+tcp://127.0.0.1:*").port
        with trio.socket.socket() as silent:
            await silent.connect(("127.0.0.1", int(port.endpoint.rpartition(":")[2])))
            began = trio.current_time()
            with fail_after(10):
                # ZMTP's own greeting comes first, and then the end.
                while await silent.recv(1000):
                    pass
            assert trio.current_time() - began >= 0.9 * limit_ms / 1000, "cut before it could have spoken"


@pytest.mark.parametrize("role", ["bound", "connecting"])
async def test_a_remote_end_that_stopped_reading(role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_zmq_options, "SEND_QUEUE", 10)
    with zmq.Context() as context, context.socket(zmq.DEALER if role == "bound" else zmq.ROUTER) as other:
        other.linger = 0
        other.rcvhwm = 1
        other.rcvbuf = 4096
        async with open_ports() as ports:
            if role == "bound":
                here = ports.bind("zmq+tcp://127.0.0.1:*")
                other.connect(plain(here.port.endpoint))
                other.send(b"hello")
            else:
                other.bind("tcp://127.0.0.1:*")
                here = ports.connect(of_libzmq(other))
            carrier = await here.up()
            reason = ""
            while not reason:
                try:
                    carrier.send([bytes(60_000)])
                except CarrierDown as error:
                    reason = str(error)
            assert "stopped reading" in reason
            assert "stopped reading" in await here.down()
            if role == "connecting":
                assert await here.up(2) is not carrier
            else:
                other.send(b"alive after all")
                assert await here.up(2) is not carrier


@pytest.mark.parametrize("endpoint", CONNECTED)
async def test_a_message_is_as_good_as_the_event_of_its_connection(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The monitor and the data are two queues, and the data may be seen first."""
    on_event = _zmq_dealer._Connection._on_event

    def without_up(self: Any, event: int, value: int) -> None:
        if event != zmq.EVENT_HANDSHAKE_SUCCEEDED:
            on_event(self, event, value)

    monkeypatch.setattr(_zmq_dealer._Connection, "_on_event", without_up)
    with zmq.Context() as context, context.socket(zmq.DEALER) as other:
        other.linger = 0
        other.sndtimeo = 5000
        other.bind(plain(endpoint) if "tcp" in endpoint else f"ipc://{tmp_path / 'socket'}")
        async with open_ports() as ports:
            connecting = ports.connect(of_libzmq(other))
            await trio.to_thread.run_sync(other.send, b"here I am")
            assert await connecting.received() == [[b"here I am"]]
            assert len(connecting.ups) == 1
            other.close()
            assert await connecting.down() == "the connection was closed or lost"


async def test_a_receiver_that_refuses_what_a_message_announces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_zmq_dealer._Connection, "_on_event", lambda self, event, value: None)

    class Refuses(Recorder):
        def carrier_up(self, carrier: Carrier) -> None:
            super().carrier_up(carrier)
            self.port.close()

    with zmq.Context() as context, context.socket(zmq.DEALER) as other:
        other.linger = 0
        other.sndtimeo = 5000
        other.bind("tcp://127.0.0.1:*")
        refuses = Refuses()
        endpoint = of_libzmq(other)
        refuses.port = ZmqTransport().connect(endpoint, refuses, QUICK)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refuses.run)
            await trio.to_thread.run_sync(other.send, b"here I am")
        assert len(refuses.ups) == 1
        assert not refuses.messages


async def test_the_end_of_a_carrier_that_was_closed_here_is_no_news() -> None:
    async with open_ports() as ports:
        bound, connecting = await ports.pair("zmq+tcp://127.0.0.1:*")
        other = ports.connect(bound.port.endpoint)
        other.send(await other.up(), b"hello")
        await bound.up(2)
        bound.ups[0].close()
        connecting.port.close()
        await connecting.finished.wait()
        other.port.close()
        await bound.down()
        assert [carrier for carrier, _ in bound.downs] == [bound.ups[1]]


class TestBackoff:
    def test_doubles_up_to_the_longest(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("random.random", lambda: 0.5)
        backoff = Backoff(Reconnect(initial=0.1, maximum=1.0))
        assert [backoff.pause(0) for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
        assert backoff.pause(0.99) == 1.0
        assert backoff.pause(1.0) == 0.1
        assert backoff.pause(0.5) == 0.2

    def test_jitter(self) -> None:
        policy = Reconnect(initial=1.0, maximum=4.0, multiplier=3, jitter=0.25)
        pauses = {Backoff(policy).pause(0) for _ in range(100)}
        assert len(pauses) > 50
        assert 0.75 <= min(pauses) < 1 < max(pauses) <= 1.25

    def test_no_pause_is_longer_than_the_longest(self) -> None:
        backoff = Backoff(Reconnect(initial=1.0, maximum=2.0, jitter=0.5))
        assert max(backoff.pause(0) for _ in range(100)) == 2.0

    def test_without_jitter_and_growth(self) -> None:
        backoff = Backoff(Reconnect(initial=0.3, multiplier=1, jitter=0))
        assert [backoff.pause(0) for _ in range(3)] == [0.3, 0.3, 0.3]


class TestHostileSenders:
    async def test_noise_instead_of_zmtp(self) -> None:
        async with open_ports() as ports:
            bound, connecting = await ports.pair("zmq+tcp://127.0.0.1:*")
            for noise in (
                b"GET / HTTP/1.1\r\n\r\n",
                b"\xff" + bytes(8) + b"\x7f" + bytes(53),
                b"\0" * 100,
                b"",
            ):
                with socket.create_connection(_address(bound)) as stranger:
                    stranger.settimeout(5)
                    try:
                        stranger.sendall(noise)
                        stranger.shutdown(socket.SHUT_WR)
                        while stranger.recv(1000):
                            pass
                    except OSError:
                        pass  # libzmq was quicker to end the connection
            await self.still_works(bound, connecting)
            assert len(bound.ups) == 1

    async def test_odd_messages(self) -> None:
        async with open_ports() as ports:
            bound, connecting = await ports.pair("zmq+tcp://127.0.0.1:*")
            with zmq.Context() as context, context.socket(zmq.DEALER) as other:
                other.linger = 0
                other.connect(plain(bound.port.endpoint))
                odd: list[list[bytes]] = [[b""], [b""] * 500, [b"", b"x"], [bytes(range(256))] * 3]
                for message in odd:
                    other.send_multipart(message)
                assert await bound.received(len(odd)) == odd
                bound.messages.clear()
                await self.still_works(bound, connecting)

    @pytest.mark.parametrize("kind", [zmq.REQ, zmq.ROUTER, zmq.PUB])
    async def test_other_kinds_of_socket(self, kind: zmq.SocketType) -> None:
        async with open_ports() as ports:
            bound, connecting = await ports.pair("zmq+tcp://127.0.0.1:*")
            with zmq.Context() as context, context.socket(kind) as other:
                other.linger = 0
                other.connect(plain(bound.port.endpoint))
                if kind == zmq.REQ:
                    other.send(b"request")
                    assert await bound.received() == [[b"", b"request"]]
                    bound.messages.clear()
                await self.still_works(bound, connecting)

    async def test_taking_over_a_routing_id(self) -> None:
        async with open_ports() as ports:
            bound = ports.bind("zmq+tcp://127.0.0.1:*")
            with (
                zmq.Context() as context,
                context.socket(zmq.DEALER) as owner,
                context.socket(zmq.DEALER) as thief,
            ):
                for number, dealer in enumerate((owner, thief)):
                    dealer.linger = 0
                    dealer.routing_id = b"the same"
                    with dealer.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED) as monitor:
                        dealer.connect(plain(bound.port.endpoint))
                        dealer.send(b"%d" % number)
                        assert await trio.to_thread.run_sync(monitor.poll, 5000)
                        dealer.disable_monitor()
                    await bound.up()
                # The thief's message may be on its way still; the owner's comes after it, if it comes.
                assert await trio.to_thread.run_sync(lambda: owner.poll(20)) == 0
                owner.send(b"again")
                assert await bound.received(2) == [[b"0"], [b"again"]]
                bound.send(bound.ups[0], b"for the owner")
                assert await trio.to_thread.run_sync(lambda: owner.poll(5000)) == zmq.POLLIN
                assert thief.poll(20) == 0, "the thief got a message, or time to"

    async def test_an_oversize_frame_costs_only_its_own_connection(self) -> None:
        options = TransportOptions(max_frame=1000, reconnect=Reconnect(initial=0.01))
        async with open_ports() as ports:
            bound, connecting = await ports.pair("zmq+tcp://127.0.0.1:*", options)
            with zmq.Context() as context, context.socket(zmq.DEALER) as other:
                other.linger = 0
                other.reconnect_ivl = 60_000
                other.connect(plain(bound.port.endpoint))
                other.send_multipart([b"good", bytes(1000)])
                await bound.up(2)
                other.send_multipart([b"bad", bytes(1001)])
                await bound.down()
                assert bound.downs[0][0] is bound.ups[1]
                assert [frames[0] for _, frames in bound.messages] == [b"good"]
                bound.messages.clear()
                await self.still_works(bound, connecting)

    @pytest.mark.slow
    async def test_unread_events_do_not_block_libzmq(self) -> None:
        """Of a port that does not run nobody reads the monitor; its I/O thread serves all of the process."""
        stalled = Recorder()
        stalled.port = transport_bind(stalled)
        try:
            for _ in range(1500):
                with socket.create_connection(_address(stalled)):
                    pass
            async with open_ports() as ports:
                bound, connecting = await ports.pair("zmq+tcp://127.0.0.1:*")
                await self.still_works(bound, connecting)
        finally:
            stalled.port.close()

    async def still_works(self, bound: Recorder, connecting: Recorder) -> None:
        connecting.send(connecting.ups[0], b"ping")
        assert await bound.received() == [[b"ping"]]
        bound.send(bound.ups[0], b"pong")
        assert await connecting.received() == [[b"pong"]]
        assert bound.ups[0] not in [carrier for carrier, _ in bound.downs]
        assert not connecting.downs


class TestFailedAttempts:
    async def error_of(self, ports: Ports, endpoint: str) -> str:
        connecting = ports.connect(endpoint)
        with fail_after(5):
            while connecting.port.last_error is None:
                await trio.sleep(0.001)  # nothing is called back for an attempt that fails
        assert not connecting.ups
        return connecting.port.last_error

    async def test_refused(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        async with open_ports() as ports:
            error = await self.error_of(ports, f"zmq+tcp://127.0.0.1:{port}")
            assert error.startswith(
                f"zmq+tcp://127.0.0.1:{port} did not accept the connection: it was refused"
            )

    async def test_no_ipc_file(self) -> None:
        async with open_ports() as ports:
            error = await self.error_of(ports, "zmq+ipc:///tmp/duplex-no-such-file")
            assert error == "/tmp/duplex-no-such-file does not exist: nothing is bound there"

    async def test_nobody_at_the_ipc_file(self, tmp_path: os.PathLike[str]) -> None:
        path = os.path.join(tmp_path, "s")
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
        async with open_ports() as ports:
            assert (
                await self.error_of(ports, f"zmq+ipc://{path}")
                == f"nothing accepts connections at zmq+ipc://{path}"
            )
            assert "nothing accepts" in await self.error_of(ports, "zmq+ipc://@duplex-no-such-name")

    async def test_unknown_host(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def fail(*args: object, **kwargs: object) -> Any:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(trio.socket, "getaddrinfo", fail)
        async with open_ports() as ports:
            error = await self.error_of(ports, "zmq+tcp://no-such-host:1")
            assert error == "cannot resolve 'no-such-host': Name or service not known"

    async def test_something_that_hangs_up(self) -> None:
        async with open_ports() as ports:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                port = listener.getsockname()[1]
                connecting = ports.connect(f"zmq+tcp://127.0.0.1:{port}")
                listener.settimeout(5)
                await trio.testing.wait_all_tasks_blocked()
                listener.accept()[0].close()
                while connecting.port.last_error is None:
                    await trio.sleep(0.001)  # nothing is called back for an attempt that fails
            assert connecting.port.last_error == "the connection ended during the ZMTP handshake"

    @pytest.mark.parametrize("greeting", [b"SSH-2.0-OpenSSH_9.2\r\n", b"\xff" + b"x" * 80])
    async def test_something_that_does_not_speak_zmtp(
        self, greeting: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_zmq_dealer, "CONNECT_TIMEOUT_MS", 20)
        monkeypatch.setattr(_zmq_dealer, "HANDSHAKE_MS", 30)
        async with open_ports() as ports:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                port = listener.getsockname()[1]
                connecting = ports.connect(f"zmq+tcp://127.0.0.1:{port}")
                await trio.testing.wait_all_tasks_blocked()
                stranger, _ = listener.accept()
                stranger.sendall(greeting)
                with fail_after(5):
                    while connecting.port.last_error is None:
                        await trio.sleep(0.001)  # nothing is called back for an attempt that fails
                stranger.close()
            assert "ZMTP" in connecting.port.last_error
            assert not connecting.ups

    async def test_the_next_address_of_a_name_is_tried(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with open_ports() as ports:
            bound = ports.bind("zmq+tcp://127.0.0.1:*")
            port = int(bound.port.endpoint.rpartition(":")[2])

            async def resolve(*args: object, **kwargs: object) -> list[Any]:
                kind = socket.SOCK_STREAM
                return [
                    (socket.AF_INET6, kind, 6, "", ("::1", port, 0, 0)),
                    (socket.AF_INET, kind, 6, "", ("127.0.0.1", port)),
                ]

            monkeypatch.setattr(trio.socket, "getaddrinfo", resolve)
            connecting = ports.connect(f"zmq+tcp://some-name:{port}")
            connecting.send(await connecting.up(), b"hello")
            assert await bound.received() == [[b"hello"]]
            assert connecting.ups[0].address == f"zmq+tcp://some-name:{port}"


def _address(recorder: Recorder) -> tuple[str, int]:
    host, _, port = recorder.port.endpoint.removeprefix("zmq+tcp://").rpartition(":")
    return host, int(port)


async def test_frames_of_all_sizes_are_bytes_or_views() -> None:
    async with open_ports() as ports:
        bound, connecting = await ports.pair("zmq+tcp://127.0.0.1:*")
        kept: list[Frames] = []
        bound.on_message = lambda carrier, frames: kept.append(frames)
        connecting.send(connecting.ups[0], bytes(70_000), bytes(65_535), bytes(65_536))
        await bound.received()
        assert [type(frame) for frame in kept[0]] == [bytes, bytes, memoryview]


async def test_what_has_come_is_taken_by_hundreds(monkeypatch: pytest.MonkeyPatch) -> None:
    """In libzmq's queue it takes more memory than where a link keeps what it has no time for."""
    monkeypatch.setattr(_zmq_router, "LONG_TURN", 60.0)
    bound = Recorder()
    bound.port = transport_bind(bound, dataclasses.replace(QUICK, receive_queue=1000))
    in_turns: list[int] = []

    async def take_turns(turns: Turns) -> None:
        await trio.sleep(0.3)  # libzmq receives in its own thread, unobserved here
        while len(bound.messages) < 400:
            before = len(bound.messages)
            await turns.wait()
            turns.take()
            in_turns.append(len(bound.messages) - before)
        bound.port.close()

    with zmq.Context() as context, context.socket(zmq.DEALER) as other:
        other.linger = 1000
        other.connect(plain(bound.port.endpoint))
        for number in range(400):
            other.send(b"%d" % number)
    with fail_after(5):
        await bound.port.run(take_turns)
    assert max(in_turns) == 256
