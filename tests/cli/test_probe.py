"""Commands say at once that nothing listens at an endpoint, or what else does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke
from tests.cli.harness import Result


@contextmanager
def listening(answer: Callable[[socket.socket], object]) -> Iterator[int]:
    """A port at which every connection is answered so, and then left open."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                kept.append(connection)
                answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in kept:
                connection.close()


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# A command that waited would take an hour.
WAIT = ("--connect-timeout", 3600)


@pytest.mark.parametrize(
    "form", ["tcp://127.0.0.1:{}", "127.0.0.1:{}", ":{}", "tcp://localhost:{}", "zmq+tcp://127.0.0.1:{}"]
)
def test_a_refused_port(form: str, free_port: int, invoke: Invoke) -> None:
    endpoint = form.format(free_port)
    assert invoke("call", endpoint, "calc.add", 1, 2, *WAIT) == Result(
        78, "", f"error: nothing listens at {endpoint}: connection refused\n"
    )


def test_a_socket_that_is_not_there(tmp_path: Path, invoke: Invoke) -> None:
    endpoint = f"ipc://{tmp_path}/nobody"
    assert invoke("list", endpoint, *WAIT).err == (
        f"error: nothing listens at {endpoint}: no such file or directory\n"
    )


def test_a_socket_that_was_left_behind(tmp_path: Path, invoke: Invoke) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(f"{tmp_path}/left")
    endpoint = f"ipc://{tmp_path}/left"
    assert invoke("list", endpoint, *WAIT).err == (
        f"error: nothing listens at {endpoint}: connection refused\n"
    )


def test_a_host_that_is_not_known(invoke: Invoke) -> None:
    err = invoke("ping", "tcp://no-such-host.invalid:7700", *WAIT).err
    assert err.startswith("error: the host of tcp://no-such-host.invalid:7700 cannot be found: ")


def test_another_protocol_that_speaks_first(invoke: Invoke) -> None:
    with listening(lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")) as port:
        assert invoke("describe", f":{port}", *WAIT).err == (
            f"error: no link to :{port}: the other side speaks SSH, and this is a ZeroMQ endpoint: one of the two is the "
            f"wrong one (at byte 0 of what came)\n"
        )


def test_another_protocol_that_waits(invoke: Invoke) -> None:
    with listening(lambda connection: None) as port:
        result = invoke("list", f"tcp://127.0.0.1:{port}", "--connect-timeout", 0.2)
    assert result.code == 78
    assert f"within 0.2 s: tcp://127.0.0.1:{port} accepted the connection, but is silent" in result.err
