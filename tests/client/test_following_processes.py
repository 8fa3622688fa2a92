"""Servers are killed, stopped, added, removed and started again while calls run: no call that may run twice fails."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

import duplex
from duplex.resolvers import FileResolver
from tests.engine.helpers import process, until
from tests.machine import fail_after, within

pytestmark = pytest.mark.unmeasured("the same calls for seconds")

#: Seconds that a call takes.
WORK = "0.005"
CALLERS = 8

#: Attempts are cut short, or calls would wait for as long as a server that was stopped. There are tokens for all callers.
RETRY = duplex.RetryPolicy(max_attempts=6, attempt_timeout=within(1))


class Servers:
    """Processes that offer the service, and the file that lists them."""

    def __init__(self, stack: contextlib.ExitStack, directory: Path) -> None:
        self._stack = stack
        self._directory = directory
        self.path = directory / "workers.json"
        self.running: dict[str, subprocess.Popen[str]] = {}

    def endpoint(self, name: str) -> str:
        return f"ipc://{self._directory}/{name}"

    def start(self, *names: str) -> None:
        for name in names:
            arguments = name, self.endpoint(name), WORK
            self.running[name], _ = self._stack.enter_context(
                process("tests.client.serve_worker", *arguments)
            )

    def signal(self, name: str, number: signal.Signals) -> None:
        self.running[name].send_signal(number)

    def list(self, *names: str) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps([self.endpoint(name) for name in names]), encoding="utf-8")
        os.replace(new, self.path)


class Load:
    """Calls that are made all the time, and who has answered them."""

    def __init__(self, client: duplex.Peer) -> None:
        options = {"retry": RETRY, "idempotent": True}
        self._remote = client.service("worker").with_options(**options)  # type: ignore[arg-type]
        self.answers: Counter[str] = Counter()

    async def call(self) -> None:
        while True:
            self.answers[await self._remote.work()] += 1

    async def more(self, count: int = 300) -> Counter[str]:
        """Return who answers the next calls."""
        before = self.answers.copy()
        await until(lambda: self.answers.total() - before.total() >= count)
        return self.answers - before

    async def from_now_on(self, *names: str) -> None:
        """Return when just these answer, all of them."""
        while set((await self.more()).keys()) != set(names):
            pass


@contextlib.asynccontextmanager
async def under_load(tmp_path: Path, *names: str) -> AsyncIterator[tuple[Servers, Load, duplex.Peer]]:
    keepalive = duplex.Keepalive(interval=within(0.5), timeout=within(60))
    with contextlib.ExitStack() as stack, fail_after(60):
        servers = Servers(stack, tmp_path)
        servers.start(*names)
        servers.list(*names)
        async with duplex.open_peer(keepalive=keepalive, connect_timeout=within(20)) as client:
            client.connect_service("worker", FileResolver(servers.path, interval=0.05))
            load = Load(client)
            async with trio.open_nursery() as nursery:
                for _ in range(CALLERS):
                    nursery.start_soon(load.call)
                await load.from_now_on(*names)
                yield servers, load, client
                nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_servers_are_added_and_removed(tmp_path: Path) -> None:
    async with under_load(tmp_path, "a", "b", "c") as (servers, load, client):
        servers.start("d")
        servers.list("a", "b", "c", "d")
        await load.from_now_on("a", "b", "c", "d")
        servers.list("b", "d")
        await load.from_now_on("b", "d")
        await until(lambda: len(client.links) == 2)
        for name in ("a", "c"):
            assert servers.running[name].poll() is None, "nobody has stopped it"


@pytest.mark.slow
async def test_a_server_is_killed_and_started_again(tmp_path: Path) -> None:
    async with under_load(tmp_path, "a", "b", "c") as (servers, load, _):
        for _ in range(2):
            servers.signal("a", signal.SIGKILL)
            servers.running["a"].wait()
            await load.from_now_on("b", "c")
            servers.start("a")
            await load.from_now_on("a", "b", "c")


@pytest.mark.slow
async def test_a_server_is_stopped_for_a_while(tmp_path: Path) -> None:
    async with under_load(tmp_path, "a", "b", "c") as (servers, load, client):
        servers.signal("a", signal.SIGSTOP)
        try:
            await load.from_now_on("b", "c")
            # Once it is told as slow, and in fact before, hardly anything goes there.
            (link,) = [link for link in client.links if link.peer_name == "a"]
            await until(lambda: link.statistics().is_slow)
            sent = link.statistics().outgoing
            answered = await load.more(600)
            assert set(answered) == {"b", "c"}
            assert link.statistics().outgoing - sent <= 0.05 * answered.total()
        finally:
            servers.signal("a", signal.SIGCONT)
        await load.from_now_on("a", "b", "c")


@pytest.mark.slow
async def test_the_list_is_lost_for_a_while(tmp_path: Path) -> None:
    """The file is empty, broken, and gone: the servers are there all the same."""
    async with under_load(tmp_path, "a", "b") as (servers, load, _):
        for damage in ("[]", "[", None):
            if damage is None:
                servers.path.unlink()
            else:
                servers.path.write_text(damage, encoding="utf-8")
            for _ in range(3):
                await load.from_now_on("a", "b")
        servers.list("b")
        await load.from_now_on("b")


@pytest.mark.slow
async def test_all_servers_are_replaced(tmp_path: Path) -> None:
    """As with a new version: those that come are listed beside the old ones, and then alone."""
    async with under_load(tmp_path, "a", "b") as (servers, load, client):
        servers.start("c", "d")
        servers.list("a", "b", "c", "d")
        await load.from_now_on("a", "b", "c", "d")
        servers.list("c", "d")
        await load.from_now_on("c", "d")
        await until(lambda: len(client.links) == 2)
        for name in ("a", "b"):
            servers.signal(name, signal.SIGKILL)
        assert set(await load.more()) == {"c", "d"}
