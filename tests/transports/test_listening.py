"""Binding: what is at an ipc path is never lost, and what the operating system refuses is told as BindError."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import zmq

from duplex import BindError
from duplex.transports import ZmqTransport, ZmtpTransport, _listen, _zmq_dealer
from duplex.transports._endpoint import Endpoint
from duplex.transports._listen import Listener, tcp_endpoint
from tests.machine import fail_after
from tests.transports.helpers import QUICK, Recorder, open_ports


def _leave_stale(path: Path) -> None:
    """Leave a socket at a path as a process does that is killed."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))


def _make(what: str, path: Path) -> None:
    target = path.with_name("target")
    match what:
        case "a file":
            path.write_text("precious")
        case "an empty file":
            path.touch()
        case "a directory":
            path.mkdir()
        case "a link to a file":
            target.write_text("precious")
            path.symlink_to(target)
        case "a link to a stale socket":
            _leave_stale(target)
            path.symlink_to(target)
        case "a link to nothing":
            path.symlink_to(target)
        case "a pipe":
            os.mkfifo(path)


class TestWhatIsAtAPath:
    @pytest.mark.parametrize(
        ("what", "said"),
        [
            ("a file", "a file is there"),
            ("an empty file", "a file is there"),
            ("a directory", "a directory is there"),
            ("a link to a file", "a symbolic link is there"),
            ("a link to a stale socket", "a symbolic link is there"),
            ("a link to nothing", "a symbolic link is there"),
            ("a pipe", "a named pipe is there"),
        ],
    )
    async def test_is_left_alone(self, tmp_path: Path, what: str, said: str) -> None:
        path = tmp_path / "thing"
        _make(what, path)
        before = [(entry.name, entry.stat(follow_symlinks=False)) for entry in os.scandir(tmp_path)]
        with pytest.raises(BindError) as caught:
            ZmtpTransport().bind(f"ipc://{path}", Recorder(), QUICK)
        assert str(caught.value) == (
            f"cannot bind ipc://{path}: {said}, and is left as it is; bind another path, or remove it if nobody "
            f"needs it"
        )
        after = [(entry.name, entry.stat(follow_symlinks=False)) for entry in os.scandir(tmp_path)]
        assert after == before

    def test_devices_are_no_sockets(self) -> None:
        assert _listen._kind(os.stat(os.devnull).st_mode) == "a device"

    async def test_a_stale_socket_goes(self, tmp_path: Path) -> None:
        path = tmp_path / "socket"
        _leave_stale(path)
        async with open_ports() as ports:
            await ports.pair(f"ipc://{path}")
            assert path.is_socket()
        assert not path.exists()

    async def test_a_socket_at_which_somebody_listens_stays(self, tmp_path: Path) -> None:
        endpoint = f"ipc://{tmp_path / 'socket'}"
        async with open_ports() as ports:
            bound, connecting = await ports.pair(endpoint)
            with pytest.raises(BindError) as caught:
                ports.bind(endpoint)
            assert str(caught.value) == (
                f"cannot bind {endpoint}: Address already in use: a process listens there; stop that one, or bind "
                f"another path"
            )
            connecting.send(connecting.ups[0], b"still there")
            await bound.received()

    def test_a_socket_that_is_too_busy_to_accept_stays(self, tmp_path: Path) -> None:
        path = str(tmp_path / "socket")
        with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waits:
            busy.bind(path)
            busy.listen(0)
            waits.connect(path)
            with pytest.raises(BindError, match="a process listens there"):
                Listener(Endpoint("ipc", name=path))
            assert os.path.exists(path)

    def test_the_socket_of_another_user_stays(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "socket"
        _leave_stale(path)
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        with pytest.raises(
            BindError, match=rf"a socket of another user is there \(uid {os.getuid()}\), and is"
        ):
            Listener(Endpoint("ipc", name=str(path)))
        assert path.is_socket()

    def test_a_socket_that_cannot_be_tried_stays(self, tmp_path: Path) -> None:
        path = tmp_path / "socket"
        _make("a socket of another type", path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.bind(str(path))
            with pytest.raises(
                BindError, match=r"cannot be tried \(Protocol wrong type for socket\), and is left"
            ):
                Listener(Endpoint("ipc", name=str(path)))
        assert path.is_socket()

    def test_what_took_the_place_of_a_stale_socket_stays(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A program that knows nothing of the lock binds there between the look and the removal."""
        path = tmp_path / "socket"
        _leave_stale(path)
        with socket.socket(socket.AF_UNIX) as other:

            def try_connecting(name: str) -> int:
                path.unlink()
                other.bind(name)
                return errno.ECONNREFUSED

            monkeypatch.setattr(_listen, "_try_connecting", try_connecting)
            with pytest.raises(OSError, match="Address already in use"):
                Listener(Endpoint("ipc", name=str(path)))
            assert path.is_socket()

    def test_what_was_removed_meanwhile_is_not_missed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "thing"
        path.touch()
        look = _listen._look

        def remove_and_look(name: str) -> os.stat_result | None:
            path.unlink()
            return look(name)

        monkeypatch.setattr(_listen, "_look", remove_and_look)
        Listener(Endpoint("ipc", name=str(path))).close()

    def test_only_one_of_many_gets_the_place_of_a_stale_socket(self, tmp_path: Path) -> None:
        for name in map(str, range(20)):
            path = tmp_path / name
            _leave_stale(path)
            together = threading.Barrier(8)
            listeners: list[Listener] = []
            refused: list[BindError] = []

            def bind(
                path: Path = path,
                together: threading.Barrier = together,
                listeners: list[Listener] = listeners,
                refused: list[BindError] = refused,
            ) -> None:
                together.wait()
                try:
                    listeners.append(Listener(Endpoint("ipc", name=str(path))))
                except BindError as error:
                    refused.append(error)

            threads = [threading.Thread(target=bind) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            (winner,) = listeners
            assert len(refused) == 7
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                winner.socket.accept()[0].close()
            winner.close()


class TestTheLock:
    @pytest.fixture
    def held(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Somebody holds the directory's lock for ever."""
        monkeypatch.setattr(_listen, "LOCK_PATIENCE", 0.0)
        directory = os.open(tmp_path, os.O_RDONLY)
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
        os.close(directory)

    @pytest.mark.usefixtures("held")
    def test_that_somebody_else_holds_keeps_stale_sockets(self, tmp_path: Path) -> None:
        path = tmp_path / "socket"
        _leave_stale(path)
        with pytest.raises(
            BindError, match="at which nobody listens, but another process has its directory lo"
        ):
            Listener(Endpoint("ipc", name=str(path)))
        assert path.is_socket()

    @pytest.mark.usefixtures("held")
    def test_that_somebody_else_holds_does_not_stop_binding(self, tmp_path: Path) -> None:
        listener = Listener(Endpoint("ipc", name=str(tmp_path / "socket")))
        listener.close()
        assert not os.listdir(tmp_path)

    def test_is_waited_for(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "socket"
        _leave_stale(path)
        directory = os.open(tmp_path, os.O_RDONLY)
        fcntl.flock(directory, fcntl.LOCK_EX)
        monkeypatch.setattr(_listen, "LOCK_PATIENCE", 60.0)
        monkeypatch.setattr(time, "sleep", lambda seconds: os.close(directory))
        Listener(Endpoint("ipc", name=str(path))).close()

    def test_leaves_nothing(self, tmp_path: Path) -> None:
        listener = Listener(Endpoint("ipc", name=str(tmp_path / "socket")))
        assert os.listdir(tmp_path) == ["socket"]
        listener.close()

    @pytest.mark.parametrize("function", ["open", "flock"])
    def test_is_done_without_where_there_is_none(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
    ) -> None:
        path = tmp_path / "socket"
        _leave_stale(path)

        def fail(*args: Any) -> Any:
            raise OSError(errno.EACCES if function == "open" else errno.ENOLCK, "no lock")

        monkeypatch.setattr(os if function == "open" else fcntl, function, fail)
        Listener(Endpoint("ipc", name=str(path))).close()
        assert not path.exists()

    async def test_that_fails_otherwise_is_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*args: Any) -> Any:
            raise OSError(errno.EIO, "broken")

        monkeypatch.setattr(fcntl, "flock", fail)
        with pytest.raises(BindError, match="Input/output error"):
            ZmtpTransport().bind(f"ipc://{tmp_path / 'socket'}", Recorder(), QUICK)
        assert not os.listdir(tmp_path)


class TestFiles:
    @pytest.mark.parametrize("umask", [0, 0o022, 0o777])
    async def test_are_for_their_user(self, tmp_path: Path, umask: int) -> None:
        path = tmp_path / "socket"
        before = os.umask(umask)
        try:
            async with open_ports() as ports:
                ports.bind(f"ipc://{path}")
                assert stat.S_IMODE(path.lstat().st_mode) == 0o600 & ~umask
        finally:
            os.umask(before)

    async def test_go_with_their_port(self, tmp_path: Path) -> None:
        path = tmp_path / "socket"
        async with open_ports() as ports:
            bound = ports.bind(f"ipc://{path}")
            path.chmod(0o660)
            bound.port.close()
            assert not path.exists()

    async def test_go_from_another_working_directory_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        async with open_ports() as ports:
            await ports.pair("ipc://socket")
            monkeypatch.chdir("/")
        assert not os.listdir(tmp_path)

    async def test_that_have_changed_stay(self, tmp_path: Path) -> None:
        """Numbers of files are used again at once, so the number alone does not tell whose a file is."""
        path = tmp_path / "socket"
        async with open_ports() as ports:
            bound = ports.bind(f"ipc://{path}")
            os.utime(path, (1, 1))
            bound.port.close()
            assert path.is_socket()

    async def test_that_somebody_removed(self, tmp_path: Path) -> None:
        path = tmp_path / "socket"
        async with open_ports() as ports:
            bound = ports.bind(f"ipc://{path}")
            path.unlink()
            bound.port.close()

    async def test_that_cannot_be_removed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(path: str) -> None:
            raise PermissionError

        async with open_ports() as ports:
            bound = ports.bind(f"ipc://{tmp_path / 'socket'}")
            with monkeypatch.context() as patch:
                patch.setattr(os, "unlink", fail)
                bound.port.close()

    async def test_are_gone_when_libzmq_does_not_take_the_socket(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*args: Any) -> None:
            raise zmq.ZMQError(zmq.EMTHREAD)

        monkeypatch.setattr(zmq.Socket, "bind", fail)
        with pytest.raises(BindError, match="No thread available"):
            ZmqTransport().bind(f"zmq+ipc://{tmp_path / 'socket'}", Recorder(), QUICK)
        assert not os.listdir(tmp_path)

    def test_no_temporary_directory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail() -> str:
            raise FileNotFoundError(errno.ENOENT, "No usable temporary directory")

        monkeypatch.setattr(tempfile, "gettempdir", fail)
        with pytest.raises(BindError, match=r"cannot bind ipc://\*: no temporary directory can be used"):
            ZmtpTransport().bind("ipc://*", Recorder(), QUICK)


class TestTcp:
    async def test_every_address_of_both_families(self) -> None:
        async with open_ports() as ports:
            bound = ports.bind("tcp://*:*")
            port = bound.port.endpoint.removeprefix("tcp://[::]:")
            for host in ("[::]", "[::1]", "127.0.0.1"):
                await ports.connect(f"tcp://{host}:{port}").up()

    @pytest.mark.parametrize("code", [errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT])
    async def test_every_address_without_ipv6(self, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
        """What is returned can be connected to, in a container without IPv6 too."""
        self.fail_for_ipv6(monkeypatch, code)
        async with open_ports() as ports:
            bound = ports.bind("tcp://*:*")
            assert bound.port.endpoint.startswith("tcp://0.0.0.0:")
            await ports.connect(bound.port.endpoint).up()

    async def test_every_address_without_descriptors(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fail_for_ipv6(monkeypatch, errno.EMFILE)
        with pytest.raises(BindError, match="Too many open files"):
            ZmtpTransport().bind("tcp://*:*", Recorder(), QUICK)

    @staticmethod
    def fail_for_ipv6(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
        class Socket(socket.socket):
            def bind(self, address: Any) -> None:
                if address[0] == "::1":
                    raise OSError(code, "no IPv6")
                super().bind(address)

        monkeypatch.setattr(socket, "socket", Socket)

    def test_an_address_of_one_interface_keeps_it(self) -> None:
        lo = socket.if_nametoindex("lo")
        assert str(tcp_endpoint(("fe80::1", 5, 0, lo))) == "tcp://[fe80::1%lo]:5"
        assert str(tcp_endpoint(("fe80::1%lo", 5, 0, lo))) == "tcp://[fe80::1%lo]:5"
        assert str(tcp_endpoint(("fe80::1", 5, 0, 999_999))) == "tcp://[fe80::1%999999]:5"
        assert str(tcp_endpoint(("2001:db8::1", 5, 0, 0))) == "tcp://[2001:db8::1]:5"
        assert str(tcp_endpoint(("192.0.2.1", 5))) == "tcp://192.0.2.1:5"

    async def test_connecting_to_an_address_of_one_interface_keeps_it(self) -> None:
        target = Endpoint("tcp", "fe80::1%lo", 5)
        port = _zmq_dealer.DealerPort(target, Recorder(), QUICK)
        assert await port._resolve() == [target]

    @pytest.mark.parametrize("interface", ["a..b", "é", "x" * 100])
    @pytest.mark.parametrize("prefix", ["", "zmq+"])
    async def test_an_interface_that_no_host_could_be_called(self, prefix: str, interface: str) -> None:
        endpoint = f"{prefix}tcp://[fe80::1%{interface}]:5555"
        async with open_ports() as ports:
            with pytest.raises(BindError, match="no interface or address of that name"):
                ports.bind(endpoint)
            connecting = ports.connect(endpoint)
            with fail_after(5):
                while connecting.port.last_error is None:
                    await trio.lowlevel.checkpoint()
            assert "cannot resolve" in connecting.port.last_error
            connecting.port.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "endpoint",
    ["tcp://127.0.0.1:*", "tcp://lo:*", "tcp://*:*", "ipc://*", "zmq+tcp://127.0.0.1:*", "zmq+ipc://*"],
)
def test_without_descriptors(endpoint: str) -> None:
    """Whatever is missing is an error, and never the end of the process; nothing is kept of what failed."""
    program = """
        import os, resource, sys
        import duplex, trio

        async def main() -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
            async with duplex.open_peer() as peer, duplex.open_peer() as other:
                failed = 0
                while True:
                    held = []
                    try:
                        while True:
                            held.append(os.open(os.devnull, os.O_RDONLY))
                    except OSError:
                        pass
                    for _ in range(failed):
                        os.close(held.pop())
                    try:
                        endpoint = await peer.bind(sys.argv[1])
                    except duplex.BindError:
                        failed += 1
                        continue
                    finally:
                        for descriptor in held:
                            os.close(descriptor)
                    break
                await other.connect(endpoint)
                print(failed)

        trio.run(main)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), endpoint], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1


async def test_without_a_monitor(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> Any:
        raise zmq.ZMQError(errno.EMFILE)

    monkeypatch.setattr(zmq.Socket, "monitor", fail)
    with pytest.raises(BindError, match="cannot make a socket: Too many open files"):
        ZmqTransport().bind("zmq+tcp://127.0.0.1:*", Recorder(), QUICK)
    async with open_ports() as ports:
        connecting = ports.connect("zmq+tcp://127.0.0.1:9")
        await trio.testing.wait_all_tasks_blocked()
        assert connecting.port.last_error == "cannot make a socket: Too many open files"
