"""Runs nats-server for the checks of NATS."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from benchmarks.peers import find_program


@contextlib.asynccontextmanager
async def broker(config: str = "") -> AsyncIterator[str]:
    """Run a server at a free port, with JetStream in a directory of its own, and give its address."""
    program = find_program("nats-server")
    assert program is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "nats.conf"
        store = f'jetstream: {{store_dir: "{directory}/js"}}'
        path.write_text(f'listen: "127.0.0.1:{port}"\n{store}\n{config}\n', encoding="ascii")
        process = await asyncio.create_subprocess_exec(
            program, "-c", str(path), stderr=asyncio.subprocess.DEVNULL
        )
        try:
            await _wait_for(port)
            yield f"nats://127.0.0.1:{port}"
        finally:
            process.terminate()
            await process.wait()


async def _wait_for(port: int) -> None:
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.02)
