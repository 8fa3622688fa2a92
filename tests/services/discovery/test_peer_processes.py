"""Peers whose discovery is killed, stopped and started again, and which are killed themselves: real processes."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

import duplex
from duplex_services.discovery._serving import open_client
from duplex_services.discovery.client import DiscoveryService, Filter
from tests.docs.markdown import ROOT
from tests.engine.helpers import until
from tests.machine import fail_after
from tests.services.discovery.served import Process

pytestmark = pytest.mark.slow

WORKER = ROOT / "examples" / "worker.py"


class Worker:
    """``duplex serve examples/worker.py``, registered, and killed when the block ends."""

    def __init__(self, name: str, *servers: str, words: tuple[str, ...] = ()) -> None:
        where = [word for server in servers for word in ("--discovery", server)]
        command = [sys.executable, "-m", "duplex", "serve", str(WORKER), "--name", name, *where, *words]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.endpoint = self.process.stdout.readline().strip()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


@contextlib.contextmanager
def serving(store: str, endpoint: str, name: str = "here") -> Iterator[Process]:
    with Process("serve", store, endpoint, name) as server:
        assert server.line() == endpoint
        yield server


async def listed(*servers: str) -> set[str]:
    """Return the names of the workers that discovery lists."""
    async with open_client(*servers) as peer:
        remote = peer.service(DiscoveryService, name="discovery")
        listing = await remote.instances("work", Filter())
        return {one.metadata["duplex.peer"] for one in listing.instances}


def work_of(client: duplex.Peer) -> duplex.ServiceProxy:
    return client.service("work").with_options(retry=duplex.RetryPolicy(), idempotent=True, timeout=30)


async def test_a_worker_that_is_killed_and_discovery_that_starts_again(tmp_path: Path) -> None:
    endpoint, store = f"ipc://{tmp_path}/d.sock", f"sqlite:{tmp_path}/db"
    failed: list[Exception] = []
    made = 0
    with fail_after(60), serving(store, endpoint) as first, Worker("a", endpoint) as a, Worker("b", endpoint):
        async with duplex.open_peer(discovery=endpoint) as client:
            followed = client.connect_service("work", "discovery://")
            await until(lambda: {link.peer_name for link in client.links} == {"a", "b"})

            async with trio.open_nursery() as nursery:

                async def call() -> None:
                    nonlocal made
                    while True:
                        try:
                            await work_of(client).square(3)
                        except duplex.RPCError as error:
                            failed.append(error)
                        made += 1

                for _ in range(5):
                    nursery.start_soon(call)
                await until(lambda: made > 50)
                # Discovery is gone: what is known works on, and says that it is old.
                first.kill()
                await until(lambda: followed.problem is not None)
                assert "what is known is of" in (followed.problem or "")
                age = followed.age
                assert age is not None
                assert len(followed.endpoints) == 2
                a.process.kill()
                await until(lambda: {link.peer_name for link in client.links} == {"b"})
                before = made
                await until(lambda: made > before + 50)
                with Worker("c", endpoint), serving(store, endpoint):
                    # Who lived is there again, who is new is found, and the dead one goes.
                    await until(lambda: {link.peer_name for link in client.links} == {"b", "c"})
                    await until(lambda: followed.problem is None)
                    assert followed.age == 0
                    while await listed(endpoint) != {"b", "c"}:
                        await trio.sleep(0.2)  # what other processes do has no clock of ours
                nursery.cancel_scope.cancel()
    assert failed == []


async def test_two_servers_of_which_one_stands_still(tmp_path: Path) -> None:
    socket = f"ipc://{tmp_path}/store.sock"
    ends = [f"ipc://{tmp_path}/{name}.sock" for name in "ab"]
    with (
        fail_after(60),
        Process("store", f"sqlite:{tmp_path}/db", socket),
        serving(f"duplex+{socket}", ends[0], "a") as first,
        serving(f"duplex+{socket}", ends[1], "b") as second,
        Worker("one", *ends),
    ):
        async with duplex.open_peer(discovery=ends) as client:
            await client.connect("discovery://work", timeout=30)
            for server in (first, second):
                server.signal(signal.SIGSTOP)
                with Worker("late", *ends) as late:
                    # Longer than keepalive and TTL: the other one goes on, and nobody is lost.
                    await until(lambda: {link.peer_name for link in client.links} == {"one", "late"})
                    assert await work_of(client).square(2)
                    late.process.send_signal(signal.SIGTERM)
                    await trio.to_thread.run_sync(late.process.wait)
                await until(lambda: {link.peer_name for link in client.links} == {"one"})
                server.signal(signal.SIGCONT)
                while await listed(*ends) != {"one"}:
                    await trio.sleep(0.2)  # what other processes do has no clock of ours


async def test_a_client_that_starts_while_discovery_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DUPLEX_DISCOVERY_CACHE", str(tmp_path / "cache"))
    endpoint, store = f"ipc://{tmp_path}/d.sock", f"sqlite:{tmp_path}/db"
    with fail_after(60), contextlib.ExitStack() as stack:
        with serving(store, endpoint):
            stack.enter_context(Worker("a", endpoint))
            async with duplex.open_peer(discovery=endpoint) as client:
                await client.connect("discovery://work", timeout=30)
        began = time.time()
        async with duplex.open_peer(discovery=endpoint) as client:
            known = await client.look_up("discovery://work")
            assert known.as_of is not None
            assert known.as_of < began
            assert "from this machine's disk" in (known.problem or "")
            followed = client.connect_service("work", "discovery://")
            assert await work_of(client).square(4)
            assert (followed.age or 0) > 0
            assert "disk" in (followed.problem or "")
        (file,) = (tmp_path / "cache").iterdir()
        file.write_bytes(file.read_bytes()[:-1])
        async with duplex.open_peer(discovery=endpoint) as client:
            with pytest.raises(duplex.ConnectError, match="no server of discovery answers"):
                await client.look_up("discovery://work")
        assert "is not used" in caplog.text


async def test_the_command_calls_a_service_by_its_name(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/d.sock"

    def run(*words: str) -> tuple[int, str, str]:
        ran = subprocess.run(
            [sys.executable, "-m", "duplex", *words, "--discovery", endpoint], capture_output=True, text=True
        )
        return ran.returncode, ran.stdout, ran.stderr

    with fail_after(60), serving("memory:", endpoint), Worker("a", endpoint, words=("--zone", "x")) as worker:
        while "a" not in await listed(endpoint):
            await trio.sleep(0.1)  # what other processes do has no clock of ours
        for words, shown in [
            (("call", "discovery://work", "work.square", "7"), "49"),
            (("call", "discovery://work?zone=x", "work.square", "7"), "49"),
            (("list", "discovery://work"), "work.square"),
            (("describe", "discovery://work"), "Return the square"),
            (("health", "discovery://work"), "SERVING"),
            (("stats", "discovery://work"), "work.square"),
            (("ping", "discovery://work", "--count", "1"), "ms"),
            (("top", "discovery://work", "--count", "1"), f"{worker.endpoint}:"),
            (("bench", "discovery://work", "work.square", "7", "--count", "3", "--warmup", "0s"), "calls"),
        ]:
            code, out, err = await trio.to_thread.run_sync(run, *words)
            assert (code, shown in out) == (0, True), (words, out, err)
        code, _, err = await trio.to_thread.run_sync(run, "call", "discovery://nope", "work.square", "7")
        assert code == 78
        assert "no instance of 'nope'; it has work" in err
        worker.process.kill()
        worker.process.wait()
        code, _, err = await trio.to_thread.run_sync(run, "call", "discovery://work", "work.square", "7")
        assert code == 78
        assert "nothing listens at" in err


async def test_top_shows_all_instances_whichever_there_are(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/d.sock"
    command = [sys.executable, "-m", "duplex", "top", "discovery://work", "--discovery", endpoint]
    with fail_after(60), serving("memory:", endpoint), Worker("a", endpoint) as first:
        while "a" not in await listed(endpoint):
            await trio.sleep(0.1)  # what other processes do has no clock of ours
        with (
            subprocess.Popen([*command, "--interval", "100ms"], stdout=subprocess.PIPE, text=True) as top,
            Worker("b", endpoint) as second,
        ):
            assert top.stdout is not None
            seen: set[str] = set()

            def read_until(shown: str) -> None:
                assert top.stdout is not None
                for line in top.stdout:
                    seen.add(line.partition(": ")[0])
                    if shown in line:
                        return

            await trio.to_thread.run_sync(read_until, f"{second.endpoint}: b")
            if first.endpoint not in seen:
                # Both were there when it began, and it shows them in the order in which they are linked.
                await trio.to_thread.run_sync(read_until, f"{first.endpoint}: a")
            first.process.terminate()
            await trio.to_thread.run_sync(first.process.wait)
            assert await listed(endpoint) == {"b"}
            top.kill()
