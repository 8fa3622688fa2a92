"""Other implementations of ZeroMQ at the other end of ``ZmtpTransport``: libzmq, by pyzmq, and zeromq.js under Node; and Duplex over libzmq.

Each is bound and connects, with its heartbeats on; what is sent comes back as it was.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import trio
import zmq

import duplex
from duplex.transports import Carrier, Transports, ZmtpTransport
from tests.interop.service import make_service
from tests.machine import fail_after, missing, require_program, within
from tests.transports.helpers import Ports, Recorder, open_ports

KiB: Final = 1024
#: Frames from none to a megabyte, around the sizes at which heads change and copies end; and messages with empty frames.
SHAPES: Final = (
    *([size] for size in (0, 1, 255, 256, 8191, 65535, 65536, 65537, 1024 * KiB)),
    *([0, 0], [1, 0, 1], [0, 5, 0], [3, 1024 * KiB, 300], [70_000, 70_000], [1] * 500, [0] * 20),
)
ZEROMQ_JS: Final = "zeromq@6.5.0"
NODE: Final = Path(__file__).with_name("echo.mjs")
HEARTBEAT: Final = 100


def messages() -> Iterator[list[bytes]]:
    """One of each shape."""
    source = random.Random(1)
    for shape in SHAPES:
        yield [source.randbytes(size) for size in shape]


# -- who echoes ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def libzmq(kind: zmq.SocketType, how: str, endpoint: str) -> Iterator[str]:
    """A socket of libzmq's that sends all back until it gets ``END``; gives its endpoint."""
    with zmq.Context() as context, context.socket(kind) as remote:
        remote.linger = 0
        remote.heartbeat_ivl = HEARTBEAT
        remote.heartbeat_timeout = round(1000 * within(2))
        remote.heartbeat_ttl = remote.heartbeat_timeout
        getattr(remote, how)(endpoint)
        if how == "connect":
            remote.send(b"HELLO")
        at = remote.getsockopt_string(zmq.LAST_ENDPOINT)

        def echo() -> None:
            while (frames := remote.recv_multipart())[-1] != b"END":
                remote.send_multipart(frames)

        thread = threading.Thread(target=echo)
        thread.start()
        try:
            yield at
        finally:
            if thread.is_alive():
                # A test that has failed has not sent END.
                thread.join(within(5))


def modules() -> Path:
    """Return where the packages of Node are, which are fetched once."""
    npm = require_program("npm", package="npm")
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "duplex-test-programs" / ZEROMQ_JS
    if not (home / "node_modules" / "zeromq").exists():
        partial = home.with_name(f"{home.name}-{os.getpid()}")
        partial.mkdir(parents=True, exist_ok=True)
        command = [
            npm,
            "install",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--prefix",
            str(partial),
            ZEROMQ_JS,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode:
            shutil.rmtree(partial)
            missing(f"npm cannot install {ZEROMQ_JS}: {done.stderr[-300:]}")
        try:
            partial.rename(home)
        except OSError:
            shutil.rmtree(partial)  # another process was quicker
    return home / "node_modules"


@contextlib.contextmanager
def zeromq_js(kind: str, how: str, endpoint: str) -> Iterator[str]:
    """The same in another process, with zeromq.js."""
    node = require_program("node", package="nodejs")
    command = [
        node,
        str(NODE),
        str(modules()),
        kind,
        how,
        endpoint,
        str(HEARTBEAT),
        str(round(1000 * within(2))),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        try:
            line = running.stdout.readline()
            if not line:
                running.wait()
                missing("zeromq.js does not run here")
            yield json.loads(line)
        finally:
            running.kill()


Remote = Callable[[str, str], Any]
REMOTES: Final[dict[str, tuple[Remote, Remote]]] = {
    # Those that bind are ROUTERs, and those that connect DEALERs; a DEALER may bind as well.
    "libzmq": (
        lambda how, endpoint: libzmq(zmq.ROUTER, how, endpoint),
        lambda how, endpoint: libzmq(zmq.DEALER, how, endpoint),
    ),
    "libzmq-dealer": (
        lambda how, endpoint: libzmq(zmq.DEALER, how, endpoint),
        lambda how, endpoint: libzmq(zmq.ROUTER, how, endpoint),
    ),
    "zeromq.js": (
        lambda how, endpoint: zeromq_js("Router", how, endpoint),
        lambda how, endpoint: zeromq_js("Dealer", how, endpoint),
    ),
}


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Ports]:
    with fail_after(60):
        async with open_ports(Transports([ZmtpTransport()])) as ports:
            yield ports


async def in_thread(manager: Any) -> tuple[Any, str]:
    """Enter a context in a thread, as it waits for another process."""
    return manager, await trio.to_thread.run_sync(manager.__enter__)


async def exchange(here: Recorder, carrier: Carrier) -> None:
    """Send all there is, one after the other and all at once, and have heartbeats meanwhile; and the end."""
    here.messages.clear()
    sent = list(messages())
    for frames in sent:
        before = len(here.messages)
        carrier.send(frames)
        with fail_after(20):
            while len(here.messages) == before:
                await trio.sleep(0.0005)  # until the other process has answered
    await trio.sleep(3 * HEARTBEAT / 1000)  # several of the other side's heartbeats, which are answered
    for frames in sent:
        carrier.send(frames)
    await here.until(lambda: len(here.messages) >= 2 * len(sent), 20)
    assert [[bytes(part) for part in frames] for _, frames in here.messages] == 2 * sent
    assert not here.downs
    zmtp: Any = carrier
    assert zmtp.zmtp.ttl > 0, "the other side has pinged"


@pytest.mark.slow
@pytest.mark.parametrize("remote", REMOTES)
@pytest.mark.parametrize("scheme", ["tcp", "ipc"])
async def test_connecting_to_another(remote: str, scheme: str, tmp_path: Path) -> None:
    endpoint = "tcp://127.0.0.1:*" if scheme == "tcp" else f"ipc://{tmp_path}/socket"
    async with opened() as ports:
        manager, at = await in_thread(REMOTES[remote][0]("bind", endpoint))
        try:
            here = ports.connect(at)
            carrier = await here.up()
            carrier.send([b"HELLO"])
            await here.until(lambda: here.messages, 20)
            await exchange(here, carrier)
            carrier.send([b"END"])
        finally:
            await trio.to_thread.run_sync(manager.__exit__, None, None, None)


@pytest.mark.slow
@pytest.mark.parametrize("remote", ["libzmq", "zeromq.js"])
@pytest.mark.parametrize("scheme", ["tcp", "ipc"])
async def test_another_connects(remote: str, scheme: str, tmp_path: Path) -> None:
    endpoint = "tcp://127.0.0.1:*" if scheme == "tcp" else f"ipc://{tmp_path}/socket"
    async with opened() as ports:
        here = ports.bind(endpoint)
        manager, _ = await in_thread(REMOTES[remote][1]("connect", here.port.endpoint))
        try:
            carrier = await here.up()
            await exchange(here, carrier)
            carrier.send([b"END"])
        finally:
            await trio.to_thread.run_sync(manager.__exit__, None, None, None)


# -- Duplex over libzmq ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("serving", "calling"), [("", "zmq+"), ("zmq+", "")])
@pytest.mark.parametrize("scheme", ["tcp", "ipc"])
async def test_duplex_over_one_calls_duplex_over_the_other(
    serving: str, calling: str, scheme: str, tmp_path: Path
) -> None:
    endpoint = "tcp://127.0.0.1:*" if scheme == "tcp" else f"ipc://{tmp_path}/socket"
    with fail_after(60):
        async with (
            duplex.open_peer(services=[make_service()]) as server,
            duplex.open_peer() as client,
        ):
            bound = await server.bind(serving + endpoint)
            link = await client.connect(calling + bound.removeprefix(serving))
            remote = client.service("interop")
            assert await remote.empty() is None
            for size in (0, 1, 100, 70_000, 1024 * KiB, 10_000 * KiB):
                assert await remote.unary(size, bytes(size)) == bytes(size)
            async with trio.open_nursery() as nursery:
                for size in range(200):
                    nursery.start_soon(remote.unary, size, b"")
            async with remote.emit.open([0, 300, 100_000]) as call:
                assert [len(item) async for item in call] == [0, 300, 100_000]
            async with remote.collect.open() as call:
                for _ in range(50):
                    await call.send(bytes(100_000))
                await call.send_eof()
                assert await call.result() == 5_000_000
            await link.ping()
