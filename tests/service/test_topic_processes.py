"""Subscribers in other processes, of which some are killed or stopped: nobody else misses anything for it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trio

import duplex
from tests.engine.helpers import ROOT, until
from tests.machine import fail_after, within

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def hearing(endpoint: str, *, group: str = "", seconds: float = 0) -> Iterator[subprocess.Popen[str]]:
    """Run a subscriber; it ends with its stream."""
    command = [sys.executable, "-m", "tests.service.hear", endpoint, group, str(seconds)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


async def heard(running: subprocess.Popen[str]) -> list[int]:
    """Return what a subscriber has printed when its stream has ended."""
    assert running.stdout is not None
    text = await trio.to_thread.run_sync(running.stdout.read)
    return [int(line.split()[0]) for line in text.splitlines()]


@contextlib.asynccontextmanager
async def board(**how: Any) -> AsyncIterator[tuple[duplex.Topic[str], str]]:
    """Serve a topic; gives it and the endpoint."""
    topic: duplex.Topic[str] = duplex.Topic()
    service = duplex.Service("board")

    @service.rpc
    async def headlines(group: str | None = None) -> AsyncIterator[str]:
        async for headline in topic.subscribe(group=group, **how):
            yield headline

    keepalive = duplex.Keepalive(interval=within(0.3), timeout=within(1.5), max_silence=within(1.5))
    with fail_after(60):
        async with duplex.open_peer(services=[service], keepalive=keepalive) as server:
            yield topic, await server.bind("tcp://127.0.0.1:*")


async def publish(topic: duplex.Topic[str], begin: int, end: int) -> None:
    for number in range(begin, end):
        await topic.publish(f"{number} " + "." * 100)


async def test_publishers_wait_for_the_slow_and_not_for_the_dead() -> None:
    async with board(buffer=8) as (topic, endpoint):
        with hearing(endpoint) as quick, hearing(endpoint) as killed, hearing(endpoint) as stopped:
            await until(lambda: topic.subscribers == 3)
            await publish(topic, 0, 100)
            killed.kill()
            stopped.send_signal(signal.SIGSTOP)
            # Until its link is lost, what it does not take holds up the others: nothing is dropped.
            await publish(topic, 100, 300)
            await until(lambda: topic.subscribers == 1)
            topic.close()
            assert await heard(quick) == list(range(300))
            stopped.kill()
            for running in (killed, stopped):
                assert (had := await heard(running)) == list(range(len(had)))


async def test_one_who_is_stopped_misses_items_and_nobody_waits_for_it() -> None:
    async with board(overflow="drop_oldest", buffer=1000) as (topic, endpoint):
        with hearing(endpoint) as quick, hearing(endpoint) as stopped:
            await until(lambda: topic.subscribers == 2)
            await publish(topic, 0, 10)
            stopped.send_signal(signal.SIGSTOP)
            await publish(topic, 10, 500)
            topic.close()
            assert await heard(quick) == list(range(500))
            stopped.kill()


async def test_a_group_shares_the_items_and_those_that_a_killed_member_has_not_had() -> None:
    async with board(buffer=4) as (topic, endpoint):
        with contextlib.ExitStack() as stack:
            members = [
                stack.enter_context(hearing(endpoint, group="g", seconds=seconds)) for seconds in (0, 0, 1000)
            ]
            await until(lambda: topic.subscribers == 3)
            await publish(topic, 0, 200)
            output = members[2].stdout
            assert output is not None
            begun = await trio.to_thread.run_sync(output.readline)  # On a busy machine it is long behind.
            members[2].kill()
            await publish(topic, 200, 300)
            await until(lambda: topic.subscribers == 2)
            topic.close()
            shares = [await heard(member) for member in members]
            assert begun
            assert not shares[2], "it had begun with one"
            first, second, *_ = map(set, shares)
            assert not first & second, "nobody has what another has"
            missing = set(range(300)) - first - second
            assert len(missing) <= 12, (
                "no more than were on their way to the one that was killed: its window is of 1 KiB"
            )
