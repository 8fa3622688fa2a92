"""Processes: a server of discovery, and registrants, each in a process of its own.

``python -m tests.services.discovery.served serve STORE ENDPOINT NAME``, ``… store STORE ENDPOINT`` and
``… register ENDPOINT SERVICE TTL COUNT``.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from typing import Final, Self

import trio

import duplex
from duplex_services.discovery import open_directory
from duplex_services.discovery._serving import open_client, open_server
from duplex_services.discovery.client import Registration, keep_registered
from duplex_services.store import open_store, store_service

_PR_SET_PDEATHSIG: Final = 1


class Process:
    """One of them, killed when the block ends."""

    def __init__(self, *words: str) -> None:
        command = [sys.executable, "-m", "tests.services.discovery.served", *words]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def line(self) -> str:
        """Wait for a line of its output."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        self._process.kill()
        self._process.wait()


class Registrants:
    """Processes that are registered, each one instance of a service.

    Args:
        endpoint: of discovery.
        service: of which they are instances.
        ttl: seconds.
        count: how many there are.
    """

    def __init__(self, endpoint: str, service: str, ttl: float, count: int) -> None:
        self._parent = Process("register", endpoint, service, f"{ttl}", f"{count}")
        self.pids: dict[str, int] = {}
        for _ in range(count):
            id, pid = self._parent.line().split()
            self.pids[id] = int(pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # They go with their parent.
        self._parent.__exit__()

    def kill(self, *ids: str) -> None:
        """Kill some of them, at once."""
        for id in ids:
            os.kill(self.pids.pop(id), signal.SIGKILL)


async def _serve(store: str, endpoint: str, name: str) -> None:
    async with (
        open_directory(store, server=name) as directory,
        open_server(directory, [endpoint]) as (_, ends),
    ):
        sys.stdout.write(f"{ends[0]}\n")
        sys.stdout.flush()
        await trio.sleep_forever()


async def _serve_store(url: str, endpoint: str) -> None:
    async with open_store(url) as store, duplex.open_peer(services=[store_service(store)]) as peer:
        await peer.bind(endpoint)
        await trio.sleep_forever()


def _register_all(endpoint: str, service: str, ttl: float, count: int) -> None:
    parent = os.getpid()
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() == parent:
                trio.run(_register, endpoint, service, ttl, number)
            os._exit(0)
        sys.stdout.write(f"i{number} {pid}\n")
    sys.stdout.flush()
    while True:
        with contextlib.suppress(InterruptedError):
            os.wait()  # those who were killed


async def _register(endpoint: str, service: str, ttl: float, number: int) -> None:
    said = Registration(f"i{number}", host="127.0.0.1", port=10_000 + number)
    async with open_client(endpoint) as peer, keep_registered(peer, service, said, ttl=ttl):
        await trio.sleep_forever()


def main() -> None:
    """Do what the command line says."""
    what, *words = sys.argv[1:]
    if what == "serve":
        store, endpoint, name = words
        trio.run(_serve, store, endpoint, name)
    elif what == "store":
        store, endpoint = words
        trio.run(_serve_store, store, endpoint)
    else:
        endpoint, service, ttl, count = words
        _register_all(endpoint, service, float(ttl), int(count))


if __name__ == "__main__":
    main()
