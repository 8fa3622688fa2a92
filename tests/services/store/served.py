"""A process that serves a store, to be stopped, killed and started again: ``python -m tests.services.store.served``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

import duplex
from duplex_services.store import open_store, store_service
from duplex_services.store.testing import Faults


class Served:
    """Serves a store of sqlite over a Unix socket.

    Args:
        folder: for the file and the socket.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"duplex+ipc://{folder}/store.sock"
        self._number = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin; clients may come before it is up."""
        path = self.folder / f"store{self._number}.db"
        command = [
            sys.executable,
            "-m",
            "tests.services.store.served",
            str(path),
            f"ipc://{self.folder}/store.sock",
        ]
        self._process = subprocess.Popen(command)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send it a signal."""
        assert self._process is not None
        os.kill(self._process.pid, number)

    def end(self) -> None:
        """Kill it, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def faults(self) -> Faults:
        """What can be done to it."""
        return Faults(stall=self.stalled, restart=self.restarted, replace=self.replaced)

    @asynccontextmanager
    async def stalled(self) -> AsyncIterator[None]:
        """Stop it."""
        self.kill(signal.SIGSTOP)
        try:
            yield
        finally:
            self.kill(signal.SIGCONT)

    @asynccontextmanager
    async def restarted(self) -> AsyncIterator[None]:
        """Kill it and start it again."""
        self.end()
        self.start()
        yield

    @asynccontextmanager
    async def replaced(self) -> AsyncIterator[None]:
        """Kill it, and start one that has nothing."""
        self.end()
        self._number += 1
        self.start()
        yield


async def main(path: str, endpoint: str) -> None:
    """Serve until killed."""
    async with (
        open_store(f"sqlite:{path}") as store,
        duplex.open_peer(services=[store_service(store)]) as peer,
    ):
        await peer.bind(endpoint)
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2])
