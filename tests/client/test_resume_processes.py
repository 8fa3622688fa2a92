"""A stream outlives the process that serves it, several times over."""

from __future__ import annotations

import contextlib
import signal
import subprocess

import pytest

import duplex
from tests.engine.helpers import process
from tests.machine import fail_after

#: Items of the whole stream; and how many are taken between one kill and the next.
ITEMS = 30_000
STRETCH = 6_000


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["tcp", "ipc"])
async def test_server_is_killed_and_started_again(scheme: str, tmp_path: object) -> None:
    """The numbers that come are all numbers, in order, each once; whatever was under way was lost."""
    endpoint = {"tcp": "tcp://127.0.0.1:*", "ipc": f"ipc://{tmp_path}/log"}[scheme]
    values: list[int] = []
    with contextlib.ExitStack() as servers, fail_after(60):

        def start(where: str) -> tuple[subprocess.Popen[str], str]:
            return servers.enter_context(process("tests.client.serve_log", where))

        server, address = start(endpoint)
        # A window of less than a stretch, or what has come and not been taken would outlast several servers.
        limits = duplex.Limits(channel_window=64 * 1024)
        async with duplex.open_peer(connect_timeout=30.0, limits=limits) as client:
            await client.connect(address)
            method = client.service("log").count.with_options(resume=True)
            async with method.open(ITEMS) as stream:
                async for value in stream:
                    values.append(value)
                    assert stream.cursor == value
                    if len(values) % STRETCH == 0 and len(values) < ITEMS:
                        server.send_signal(signal.SIGKILL)
                        server.wait()
                        server, _ = start(address)
                assert stream.resumptions == ITEMS // STRETCH - 1
    assert values == list(range(ITEMS))


@pytest.mark.slow
async def test_two_servers_take_turns(tmp_path: object) -> None:
    """The stream moves to the server that is up, without waiting for the one that is down."""
    values: list[int] = []
    with contextlib.ExitStack() as servers, fail_after(60):
        running = {}
        for name in ("one", "two"):
            server, address = servers.enter_context(
                process("tests.client.serve_log", f"ipc://{tmp_path}/{name}")
            )
            running[address] = server
        async with duplex.open_peer(connect_timeout=30.0) as client:
            for address in running:
                await client.connect(address)
            method = client.service("log").count.with_options(resume=True)
            async with method.open(ITEMS) as stream:
                async for value in stream:
                    values.append(value)
                    if len(values) == ITEMS // 2:
                        (link,) = [link for link in client.links if link.statistics().outgoing]
                        running[link.endpoint].send_signal(signal.SIGKILL)
                assert stream.resumptions == 1
    assert values == list(range(ITEMS))
