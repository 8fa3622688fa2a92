"""Endpoints that are free in a moment: who binds them waits, and all others go on meanwhile."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

import duplex
from duplex.transports import _listen, _zmq_router, _zmq_socket
from duplex.transports.streams import _bound
from tests.engine.helpers import until
from tests.machine import fail_after


@pytest.fixture(autouse=True)
def never_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may sleep in the thread of the event loop."""

    def sleep(seconds: float) -> None:
        raise AssertionError("the event loop was blocked")

    monkeypatch.setattr(time, "sleep", sleep)


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the lock of a directory, as another process does."""
    descriptor = os.open(directory, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def leave_stale(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))


class Ticks:
    """A task that runs beside what is tested."""

    def __init__(self) -> None:
        self.count = 0

    async def run(self) -> None:
        while True:
            await trio.lowlevel.checkpoint()
            self.count += 1


async def test_a_lock_that_another_process_holds_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    leave_stale(path)
    ticks = Ticks()
    with fail_after(10):
        async with duplex.open_peer() as peer, trio.open_nursery() as nursery:
            bound: list[str] = []

            async def bind() -> None:
                bound.append(await peer.bind(f"ipc://{path}"))

            nursery.start_soon(ticks.run)
            with locked(tmp_path):
                nursery.start_soon(bind)
                await until(lambda: ticks.count > 10)
                assert not bound
            await until(lambda: bound)
            assert bound == [f"ipc://{path}"]
            nursery.cancel_scope.cancel()
    assert not path.exists()


async def test_a_lock_that_is_never_free_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "socket"
    leave_stale(path)
    monkeypatch.setattr(_listen, "LOCK_PATIENCE", 0.02)
    with fail_after(10), locked(tmp_path):
        async with duplex.open_peer() as peer:
            with pytest.raises(duplex.BindError, match="another process has its directory locked") as caught:
                await peer.bind(f"ipc://{path}")
            assert type(caught.value) is duplex.BindError
            assert peer.endpoints == []
    assert path.is_socket()


async def test_a_cancelled_wait_binds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    leave_stale(path)
    with fail_after(10):
        async with duplex.open_peer() as peer:
            with locked(tmp_path), trio.move_on_after(0.01) as scope:
                await peer.bind(f"ipc://{path}")
            assert scope.cancelled_caught
            assert peer.endpoints == []


@pytest.mark.parametrize("endpoint", ["zmq+tcp://127.0.0.1:*", "inproc://again"])
async def test_what_this_process_has_just_unbound_is_waited_for(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = 3

    def refuse() -> None:
        nonlocal refused
        if refused:
            refused -= 1
            raise OSError(errno.EADDRINUSE, "in use")

    bind_when_free = _zmq_socket.bind_when_free

    def bind_later(text: str, bind: Any, *, blocking: bool) -> Any:
        def bind_or_not() -> Any:
            refuse()
            return bind()

        return bind_when_free(text, bind_or_not, blocking=blocking)

    with fail_after(10):
        async with duplex.open_peer() as peer:
            real = await peer.bind(endpoint)
            monkeypatch.setattr(_zmq_router, "bind_when_free", bind_later)
            await peer.unbind(real)
            assert await peer.bind(real) == real
            assert refused == 0


#: What removes the file of an endpoint, by what is in front of that.
REMOVES = pytest.mark.parametrize(("prefix", "module"), [("", _bound), ("zmq+", _zmq_router)])


@REMOVES
async def test_closing_waits_for_the_lock_with_others_running(
    prefix: str, module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "socket"
    ticks = Ticks()
    monkeypatch.setattr(module, "LOCK_PATIENCE", 60.0)
    with fail_after(10):
        async with duplex.open_peer() as peer, trio.open_nursery() as nursery:
            await peer.bind(f"{prefix}ipc://{path}")
            nursery.start_soon(ticks.run)
            await until(lambda: ticks.count)
            with locked(tmp_path):
                await peer.unbind(f"{prefix}ipc://{path}")
                before = ticks.count
                await until(lambda: ticks.count > before + 10)
                assert path.is_socket()
            await until(lambda: not path.exists())
            nursery.cancel_scope.cancel()


@REMOVES
async def test_closing_does_not_wait_for_ever(
    prefix: str, module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "socket"
    monkeypatch.setattr(module, "LOCK_PATIENCE", 0.02)
    with fail_after(10), locked(tmp_path):
        async with duplex.open_peer() as peer:
            await peer.bind(f"{prefix}ipc://{path}")
            assert path.is_socket()
        assert not path.exists()
