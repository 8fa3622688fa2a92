"""Peers of other processes are asked together, and are killed or stopped meanwhile."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

import duplex
from tests.engine.helpers import process
from tests.machine import fail_after, within

pytestmark = pytest.mark.slow


@contextlib.asynccontextmanager
async def workers(
    directory: Path, **seconds: float
) -> AsyncIterator[tuple[duplex.Peer, dict[str, subprocess.Popen[str]]]]:
    """Link a client to processes that answer after so many seconds."""
    keepalive = duplex.Keepalive(interval=within(0.5), timeout=within(60))
    with contextlib.ExitStack() as stack, fail_after(60):
        async with duplex.open_peer(keepalive=keepalive, connect_timeout=within(20)) as client:
            running = {}
            for name, delay in seconds.items():
                arguments = name, f"ipc://{directory}/{name}", str(delay)
                running[name], endpoint = stack.enter_context(
                    process("tests.client.serve_worker", *arguments)
                )
                await client.connect(endpoint)
            yield client, running


async def test_one_is_killed_while_it_works(tmp_path: Path) -> None:
    async with workers(tmp_path, a=0, b=0, c=1000) as (client, running):
        found: dict[str, duplex.Outcome[str]] = {}
        async for peer, outcome in client.service("worker").work.gather():
            found[peer.name] = outcome
            if len(found) == 2:
                running["c"].kill()
        assert (found["a"].result(), found["b"].result()) == ("a", "b")
        error = found["c"].error
        assert isinstance(error, duplex.PeerLost)
        assert (error.peer, error.may_have_executed) == ("c", True)


async def test_one_that_was_stopped_is_not_waited_for(tmp_path: Path) -> None:
    async with workers(tmp_path, a=0, b=0, c=0) as (client, running):
        running["c"].send_signal(signal.SIGSTOP)
        try:
            remote = client.service("worker").with_options(stall=within(0.5))
            assert sorted([peer.name async for peer, _ in remote.work.gather()]) == ["a", "b"]
        finally:
            running["c"].send_signal(signal.SIGCONT)
        assert sorted([peer.name async for peer, _ in client.service("worker").work.gather()]) == [
            "a",
            "b",
            "c",
        ]


async def test_the_quickest_is_enough(tmp_path: Path) -> None:
    async with workers(tmp_path, a=1000, b=0, c=1000) as (client, _):
        remote = client.service("worker").with_options(max_answers=1)
        for _ in range(3):
            assert [outcome.result() async for _, outcome in remote.work.gather()] == ["b"]
        with trio.fail_after(within(10)):  # the others were cancelled, so nothing is left to drain
            await client.drain(timeout=within(10))
