"""Two network namespaces with a wire between them, which are gone when the block is left."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, final

import trio

from tests.faults.stage import Child, Stage

#: How the names of our namespaces begin; then comes the process that made them.
_PREFIX: Final = "duplex-faults-"
#: From the block that is set aside for benchmarks of networks, which nobody uses otherwise (RFC 2544).
ADDRESSES: Final = ("198.18.77.1", "198.18.77.2")
#: Where a server binds: namespaces have their ports to themselves.
ENDPOINT: Final = f"tcp://{ADDRESSES[0]}:7700"


@final
class Network:
    """The server's side is ``a`` and the client's ``b``."""

    def __init__(self, names: tuple[str, str], wire: Child) -> None:
        self.names = names
        self._wire = wire

    async def set(self, **wire: Any) -> dict[str, int]:
        """Make the wire like this, see :meth:`tests.faults.wire.Wire.set`; return the packets it carried and
        lost until now."""
        found: dict[str, int] = await self._wire.ask("set", **wire)
        return found


@contextlib.asynccontextmanager
async def network(stage: Stage, *, seed: int = 1) -> AsyncIterator[Network]:
    """Make two namespaces and a good wire between them. Enter it before processes are started in them."""
    await _remove_stale()
    token = secrets.token_hex(3)
    names = (f"{_PREFIX}{os.getpid()}-{token}a", f"{_PREFIX}{os.getpid()}-{token}b")
    async with contextlib.AsyncExitStack() as stack:
        for name in names:
            await _ip("netns", "add", name)
            stack.push_async_callback(_remove, name)
            await _ip("-n", name, "link", "set", "lo", "up")
        words = (names[0], ADDRESSES[0], names[1], ADDRESSES[1], str(seed))
        wire = await stage.child("wire", [sys.executable, "-m", "tests.faults.wire", *words])
        yield Network(names, wire)


async def _ip(*words: str) -> None:
    await trio.run_process(["ip", *words], capture_stderr=True)


async def _remove(name: str) -> None:
    with trio.CancelScope(shield=True):
        await _ip("netns", "del", name)


async def _remove_stale() -> None:
    """Remove what a test left behind that was killed before it could remove it itself."""
    for path in Path("/run/netns").glob(f"{_PREFIX}*"):
        maker = path.name.removeprefix(_PREFIX).partition("-")[0]
        if not Path(f"/proc/{maker}").exists():
            await _ip("netns", "del", path.name)
