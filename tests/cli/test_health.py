"""``duplex health``: an exit code for scripts and containers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import duplex
from tests.cli.conftest import Invoke
from tests.cli.harness import COMMAND, finish, run, start
from tests.machine import within

#: Its service takes calls as long as a file is there.
PROGRAM = """
import sys, duplex, trio
from pathlib import Path

db = duplex.Service("db")

@db.rpc
async def query() -> int:
    return 1

async def is_ready() -> bool:
    return Path(sys.argv[2]).exists()

async def main():
    async with duplex.open_peer(services=[db]) as peer:
        peer.probe_health("db", is_ready, ttl=0.05)
        await peer.bind(sys.argv[1])
        print("bound", flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


def test_health(calc: str, invoke: Invoke) -> None:
    assert invoke("health", calc) == (0, "SERVING\n", "")
    assert invoke("health", calc, "calc") == (0, "SERVING\n", "")
    assert invoke("health", calc, "--wait") == (0, "SERVING\n", "")
    assert invoke("health", calc, "calc", "--wait").code == 0


def test_what_is_not_there(calc: str, invoke: Invoke) -> None:
    missing = invoke("health", calc, "other")
    assert missing.code == 64 + duplex.StatusCode.NOT_FOUND
    assert "no service 'other'" in missing.err
    nobody = invoke("health", "tcp://127.0.0.1:9")
    assert nobody.code == 64 + duplex.StatusCode.UNAVAILABLE


def test_waiting_ends(calc: str, invoke: Invoke) -> None:
    for endpoint, service, why in (
        (calc, "other", "no service 'other'"),
        ("tcp://127.0.0.1:9", "", "nothing listens"),
    ):
        result = invoke("health", endpoint, service, "--wait", "--timeout", "500ms")
        assert (result.code, result.out) == (1, "")
        assert "not serving within 0.5 s" in result.err
        assert why in result.err


def test_an_endpoint_that_is_none_is_not_waited_for(invoke: Invoke) -> None:
    assert invoke("health", "nonsense://x", "--wait").code == 2


@pytest.mark.slow
def test_waiting_for_a_peer_and_its_service(tmp_path: Path) -> None:
    """It waits while nobody is there, and while the service says that it is not ready."""
    endpoint, ready = f"ipc://{tmp_path}/peer", tmp_path / "ready"
    with start("health", endpoint, "db", "--wait", "--timeout", "10m") as waiting:
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM, endpoint, ready], stdout=subprocess.PIPE, text=True
        ) as peer:
            try:
                assert peer.stdout is not None
                assert peer.stdout.readline() == "bound\n"
                refused = run("health", endpoint, "db")
                assert (refused.code, refused.out) == (1, "NOT_SERVING\n")
                assert run("health", endpoint).code == 0, "the peer itself is well"
                assert waiting.poll() is None
                ready.touch()
                assert finish(waiting).code == 0
                assert (
                    subprocess.run(
                        [*COMMAND, "health", endpoint, "db"], timeout=within(60), check=False
                    ).returncode
                    == 0
                )
            finally:
                peer.kill()
