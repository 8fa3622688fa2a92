"""What is particular to the ZeroMQ transports: binding, files, forks, exits."""

from __future__ import annotations

import errno
import gc
import os
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import zmq

from duplex import BindError, ConfigurationError
from duplex.transports import CarrierDown, ZmqTransport, _zmq_dealer, _zmq_router, _zmq_socket
from duplex.transports._endpoint import Endpoint
from tests.machine import fail_after, within
from tests.transports.helpers import CONNECTED, QUICK, Recorder, open_ports


class TestBinding:
    async def test_in_use_by_another_program(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            endpoint = f"zmq+tcp://127.0.0.1:{taken.getsockname()[1]}"
            with pytest.raises(BindError) as caught:
                ZmqTransport().bind(endpoint, Recorder(), QUICK)
        assert str(caught.value) == f"cannot bind {endpoint}: Address already in use"

    @pytest.mark.parametrize(
        ("endpoint", "cause"),
        [
            ("zmq+tcp://192.0.2.1:*", "Cannot assign requested address"),
            ("zmq+tcp://nosuchinterface:*", "this machine has no interface or address of that name"),
            ("zmq+tcp://nosuchinterface2:*", "this machine has no interface or address of that name"),
            ("zmq+ipc:///no/such/directory/socket", "No such file or directory"),
        ],
    )
    async def test_impossible(self, endpoint: str, cause: str) -> None:
        with pytest.raises(BindError) as caught:
            ZmqTransport().bind(endpoint, Recorder(), QUICK)
        assert str(caught.value) == f"cannot bind {endpoint}: {cause}"

    async def test_again_at_once(self) -> None:
        async with open_ports() as ports:
            bound = ports.bind("zmq+tcp://127.0.0.1:*")
            for _ in range(20):
                bound.port.close()
                assert bound.port.endpoint in _zmq_socket._get_shared().unbound
                bound = ports.bind(bound.port.endpoint)

    def test_what_was_unbound_long_ago_is_forgotten(self, monkeypatch: pytest.MonkeyPatch) -> None:
        unbound: dict[str, float] = {"zmq+tcp://127.0.0.1:1": 0.0}
        monkeypatch.setattr(_zmq_socket._get_shared(), "unbound", unbound)
        _zmq_socket.note_unbound("zmq+tcp://127.0.0.1:2")
        assert list(unbound) == ["zmq+tcp://127.0.0.1:2"]

    def test_what_was_unbound_just_now_is_waited_for(self) -> None:
        endpoint = "zmq+tcp://127.0.0.1:1"

        calls = 0

        def bind() -> str:
            nonlocal calls
            calls += 1
            if calls < 3:
                raise OSError(errno.EADDRINUSE, "in use")
            return endpoint

        with pytest.raises(OSError, match="in use"):
            _zmq_socket.bind_when_free(endpoint, bind)
        _zmq_socket.note_unbound(endpoint)
        assert _zmq_socket.bind_when_free(endpoint, bind) == endpoint
        assert calls == 3

    async def test_interface_names(self) -> None:
        async with open_ports() as ports:
            bound = ports.bind("zmq+tcp://lo:*")
            assert bound.port.endpoint.startswith("zmq+tcp://127.0.0.1:")

    async def test_localhost(self) -> None:
        async with open_ports() as ports:
            bound = ports.bind("zmq+tcp://127.0.0.1:*")
            connecting = ports.connect(bound.port.endpoint.replace("127.0.0.1", "localhost"))
            await connecting.up()

    async def test_without_sockets(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(kind: zmq.SocketType) -> Any:
            raise zmq.ZMQError(errno.EMFILE)

        for module in (_zmq_router, _zmq_dealer):
            monkeypatch.setattr(module, "new_socket", fail)
        with pytest.raises(BindError, match="cannot make a socket: Too many open files"):
            ZmqTransport().bind("zmq+tcp://127.0.0.1:*", Recorder(), QUICK)
        async with open_ports() as ports:
            connecting = ports.connect("zmq+tcp://127.0.0.1:9")
            await trio.testing.wait_all_tasks_blocked()
            assert connecting.port.last_error == "cannot make a socket: Too many open files"

    async def test_connecting_can_fail_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def resolve(self: Any) -> list[Any]:
            return [Endpoint("tcp", "no such address", 1)]

        monkeypatch.setattr(_zmq_dealer.DealerPort, "_resolve", resolve)
        async with open_ports() as ports:
            connecting = ports.connect("zmq+tcp://127.0.0.1:9")
            await trio.testing.wait_all_tasks_blocked()
            assert connecting.port.last_error == "cannot make a socket: Invalid argument"

    def test_malformed(self) -> None:
        for method in (ZmqTransport().bind, ZmqTransport().connect):
            with pytest.raises(ConfigurationError):
                method("zmq+tcp://", Recorder(), QUICK)


class TestIpcFiles:
    async def test_removed_on_close(self, tmp_path: Path) -> None:
        path = tmp_path / "socket"
        async with open_ports() as ports:
            bound = ports.bind(f"zmq+ipc://{path}")
            assert path.is_socket()
            bound.port.close()
            assert not path.exists()

    async def test_that_another_has_bound_since_stays(self, tmp_path: Path) -> None:
        path = tmp_path / "socket"
        async with open_ports() as ports:
            bound = ports.bind(f"zmq+ipc://{path}")
            path.unlink()
            await ports.pair(f"zmq+ipc://{path}")
            bound.port.close()
            assert path.is_socket()

    async def test_abstract_names_have_none(self) -> None:
        name = f"@duplex-test-{os.getpid()}"
        async with open_ports() as ports:
            bound, _ = await ports.pair(f"zmq+ipc://{name}")
            with pytest.raises(BindError, match="Address already in use"):
                ports.bind(f"zmq+ipc://{name}")
            assert f"(pid {os.getpid()})" in bound.ups[0].address
            assert not os.path.exists(name)


class TestAddresses:
    @pytest.mark.parametrize(
        ("endpoint", "address"),
        [
            ("zmq+tcp://127.0.0.1:*", "zmq+tcp://127.0.0.1"),
            ("zmq+tcp://[::1]:*", "zmq+tcp://[::1]"),
            ("inproc://some-name", "inproc://some-name"),
        ],
    )
    async def test_of_remote_ends(self, endpoint: str, address: str) -> None:
        async with open_ports() as ports:
            bound, connecting = await ports.pair(endpoint)
            assert bound.ups[0].address == address
            assert connecting.ups[0].address == bound.port.endpoint

    async def test_ipv4_at_a_port_for_both_families(self) -> None:
        async with open_ports() as ports:
            bound = ports.bind("zmq+tcp://*:*")
            port = bound.port.endpoint.rpartition(":")[2]
            connecting = ports.connect(f"zmq+tcp://127.0.0.1:{port}")
            connecting.send(await connecting.up(), b"hello")
            assert (await bound.up()).address == "zmq+tcp://127.0.0.1"


class TestSending:
    @pytest.mark.parametrize("endpoint", ["zmq+tcp://127.0.0.1:*", "inproc://*"])
    async def test_a_message_that_is_none_harms_no_other(self, endpoint: str) -> None:
        async with open_ports() as ports:
            bound, connecting = await ports.pair(endpoint)
            for sender, receiver in ((connecting, bound), (bound, connecting)):
                carrier: Any = sender.ups[0]
                for wrong in ([b"begun", "text"], [b"begun", 5], ["text"], [b"begun", None, b"end"]):
                    with pytest.raises(TypeError):
                        carrier.send(wrong)
                with pytest.raises(ValueError, match="at least one frame"):
                    carrier.send([])
                sender.send(carrier, b"right")
                assert await receiver.received() == [[b"right"]]

    async def test_an_inproc_remote_end_that_is_gone(self) -> None:
        async with open_ports() as ports:
            bound, connecting = await ports.pair("inproc://*")
            bound.port.close()
            with fail_after(5):
                while not connecting.downs:
                    try:
                        connecting.ups[0].send([b"anyone there?"])
                    except CarrierDown:
                        pass
                    await trio.sleep(0.001)  # libzmq closes in the background, and inproc says nothing
            assert "inproc endpoint was closed" in connecting.downs[0][1]


class TestBrokenSockets:
    """A socket that fails under the loop: the context was ended, or someone else closed it."""

    async def test_bound(self) -> None:
        async with open_ports() as ports:
            bound, _ = await ports.pair("zmq+tcp://127.0.0.1:*")
            other = ports.connect(bound.port.endpoint)
            other.send(await other.up(), b"hello")
            await bound.up(2)
            loop: Any = bound.port
            loop._socket.close(0)
            loop.sends_done()
            await bound.finished.wait()
            assert [carrier for carrier, _ in bound.downs] == bound.ups
            assert {reason for _, reason in bound.downs} == {
                "the socket failed: Socket operation on non-socket"
            }
            with pytest.raises(CarrierDown):
                bound.ups[0].send([b"too late"])

    async def test_connecting(self) -> None:
        async with open_ports() as ports:
            _, connecting = await ports.pair("zmq+tcp://127.0.0.1:*")
            loop: Any = connecting.ups[0]
            loop._socket.close(0)
            loop.sends_done()
            await connecting.finished.wait()
            assert await connecting.down() == "the socket failed: Socket operation on non-socket"

    @pytest.mark.parametrize("role", [0, 1], ids=["bound", "connecting"])
    async def test_found_by_a_send(self, role: int) -> None:
        async with open_ports() as ports:
            recorder = (await ports.pair("zmq+tcp://127.0.0.1:*"))[role]
            loop: Any = recorder.port if role == 0 else recorder.ups[0]
            loop._socket.close(0)
            with pytest.raises(CarrierDown, match="the socket failed"):
                recorder.ups[0].send([b"x"])
            assert not recorder.downs
            await recorder.down()
            await recorder.finished.wait()


async def test_a_receiver_that_raises_ends_the_port() -> None:
    async with open_ports() as ports:
        bound, _ = await ports.pair("zmq+tcp://127.0.0.1:*")

        class Raises(Recorder):
            def carrier_up(self, carrier: Any) -> None:
                raise ZeroDivisionError

        faulty = Raises()
        faulty.port = ZmqTransport().connect(bound.port.endpoint, faulty, QUICK)
        with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
            await faulty.port.run()


@pytest.mark.parametrize("endpoint", CONNECTED)
@pytest.mark.parametrize("closes", ["bound", "connecting"])
async def test_an_end_that_is_told_of_beside_a_message_is_reported(endpoint: str, closes: str) -> None:
    """Lazy turns leave the end for later if a message came before it. Which of the two the event loop sees first is
    left to chance, so there are several attempts."""
    async with open_ports() as ports:
        ports.lazily = True
        for number in range(1, 13):
            bound, connecting = await ports.pair(endpoint)
            here, there = (connecting, bound) if closes == "bound" else (bound, connecting)
            there.send(there.ups[0], b"last")
            there.port.close()
            time.sleep(0.01)  # blocks the loop, so that both the message and the end are there when it looks
            await here.down()
            assert await here.received() == [[b"last"]], number
            here.port.close()


@pytest.mark.parametrize("endpoint", CONNECTED)
async def test_an_end_that_is_told_of_beside_the_first_message_is_reported(endpoint: str) -> None:
    async with open_ports() as ports:
        ports.lazily = True
        bound = ports.bind(endpoint)
        for number in range(1, 13):
            connecting = ports.connect(bound.port.endpoint)
            connecting.send(await connecting.up(), b"first and last")
            connecting.port.close()
            time.sleep(0.01)  # as above
            await bound.down(number)
        assert await bound.received() == [[b"first and last"]] * 12


@pytest.mark.parametrize("endpoint", ["zmq+tcp://127.0.0.1:*", "memory://*"])
async def test_run_is_for_one_task(endpoint: str) -> None:
    async with open_ports() as ports:
        for recorder in await ports.pair(endpoint):
            with pytest.raises(RuntimeError, match="only once"):
                await recorder.port.run()


async def test_an_unclosed_port_warns() -> None:
    def forget() -> None:
        ZmqTransport().bind("zmq+tcp://127.0.0.1:*", Recorder(), QUICK)
        gc.collect()

    with pytest.warns(ResourceWarning, match="unclosed"):
        forget()


async def test_probe_looks_at_the_socket() -> None:
    async with open_ports() as ports:
        for recorder in await ports.pair("zmq+tcp://127.0.0.1:*"):
            recorder.ups[0].turns.probe()
            recorder.ups[0].turns.probe()
        not_running: Any = ZmqTransport().bind("zmq+tcp://127.0.0.1:*", Recorder(), QUICK)
        not_running.probe()
        not_running.sends_done()
        not_running.close()


def run_python(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=within(20),
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.slow
async def test_what_was_handed_over_before_exit_is_transmitted() -> None:
    async with open_ports() as ports:
        bound = ports.bind("zmq+tcp://127.0.0.1:*")
        code = f"""
            import trio
            from tests.transports.helpers import open_ports

            async def main():
                async with open_ports() as ports:
                    connecting = ports.connect({bound.port.endpoint!r})
                    carrier = await connecting.up()
                    for number in range(50):
                        carrier.send([b"%d" % number, bytes(300_000)])

            trio.run(main)
        """
        await trio.to_thread.run_sync(run_python, code)
        got = await bound.received(50)
        assert [int(frames[0]) for frames in got] == list(range(50))
        await bound.down()


@pytest.mark.slow
async def test_exit_with_a_port_left_open_does_not_hang() -> None:
    out = await trio.to_thread.run_sync(
        run_python,
        """
        import sys, trio
        from tests.transports.helpers import *

        async def main():
            global port
            port = DEFAULT.transport_for("zmq+tcp://127.0.0.1:*").bind("zmq+tcp://127.0.0.1:*", Recorder(), QUICK)
            async with open_ports() as ports:
                connecting = ports.connect(port.endpoint)
                carrier = await connecting.up()
                # Nobody receives these, so the other port cannot transmit them within its linger time.
                for _ in range(2000):
                    carrier.send([b"x", bytes(100_000)])

        trio.run(main)
        print("end")
        """,
    )
    assert out == "end"


async def test_the_parents_sockets_are_left_alone_in_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same as in a real child, as far as the parent can see it."""
    async with open_ports() as ports:
        bound, connecting = await ports.pair("zmq+tcp://127.0.0.1:*")
        loop: Any = connecting.ups[0]
        shared = _zmq_socket._get_shared()
        with monkeypatch.context() as patch:
            patch.setattr(shared, "pid", -1)
            shared.transmit_rest()
            loop.stop()
        assert not loop._socket.closed
        assert not loop._scope.cancel_called
        bound.send(bound.ups[0], b"still there")
        assert loop._socket.poll(5000) == zmq.POLLIN
        socket, monitor = loop._entry
        _zmq_socket.close_pair(socket, monitor, 0)


@pytest.mark.slow
async def test_a_forked_child_gets_a_context_of_its_own() -> None:
    out = await trio.to_thread.run_sync(
        run_python,
        """
        import os, trio, warnings
        from tests.transports.helpers import *
        from duplex.transports import _zmq_socket

        async def main():
            async with open_ports() as ports:
                await ports.pair("zmq+tcp://127.0.0.1:*")

        async def outer():
            async with open_ports() as ports:
                bound, connecting = await ports.pair("zmq+tcp://127.0.0.1:*")
                child = os.fork()
                if child == 0:
                    # What the child does to its copies of the parent's ports stays in the child.
                    connecting.ups[0].stop()
                    bound.port.stop()
                    os.execv("/proc/self/exe", ["python", "-c", "print('child')"])
                assert os.waitpid(child, 0)[1] == 0
                connecting.send(connecting.ups[0], b"still there")
                await bound.received()

        trio.run(outer)
        before = _zmq_socket._get_shared()
        child = os.fork()
        if child == 0:
            trio.run(main)
            assert _zmq_socket._get_shared() is not before
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert _zmq_socket._get_shared() is before
        trio.run(main)
        print("parent")
        """,
    )
    assert out.split() == ["child", "parent"]
