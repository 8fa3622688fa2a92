"""A TCP proxy that is a bad network: it hands over bytes in pieces of any size, late, stands still, and cuts."""

from __future__ import annotations

import random
from typing import Final

import trio

#: Bytes read at once, and how small a piece of them may be that is handed over.
PIECE: Final = 65_536
#: So many pieces are cut in two, and so many are late, by up to so many seconds.
TORN: Final = 0.1
LATE: Final = 0.02
LATEST: Final = 0.02


class Proxy:
    """Listens at a port of its own and connects to a server for each connection that comes.

    Args:
        target: the port of the server on this machine.
        seed: of what is left to chance.
    """

    def __init__(self, target: int, seed: str) -> None:
        self.target = target
        self.port = 0
        self.cuts = 0
        self._random = random.Random(seed)
        self._connections: set[trio.CancelScope] = set()
        self._moves = trio.Event()
        self._moves.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._serve, listeners)

    def cut(self) -> None:
        """End all connections, wherever they are in a message."""
        self.cuts += len(self._connections)
        for scope in list(self._connections):
            scope.cancel()

    def stand_still(self) -> None:
        """Carry nothing until :meth:`go_on`."""
        self._moves = trio.Event()

    def go_on(self) -> None:
        """Carry on."""
        self._moves.set()

    async def _serve(self, near: trio.SocketStream) -> None:
        with trio.CancelScope() as scope:
            self._connections.add(scope)
            try:
                async with await trio.open_tcp_stream("127.0.0.1", self.target) as far:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._carry, near, far, scope)
                        nursery.start_soon(self._carry, far, near, scope)
            except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # the server is gone, or either end is: so is the connection
            finally:
                self._connections.discard(scope)
                await trio.aclose_forcefully(near)

    async def _carry(
        self, source: trio.SocketStream, sink: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        while True:
            data = await source.receive_some(PIECE)
            if not data:
                scope.cancel()
                return
            await self._moves.wait()
            if self._random.random() < LATE:
                await trio.sleep(self._random.random() * LATEST)  # what a network does
            at = self._random.randrange(len(data)) if self._random.random() < TORN else len(data)
            for piece in (data[:at], data[at:]):
                if piece:
                    await sink.send_all(piece)
