"""The command ``duplex conformance``, run as users run it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import zmq

from tests.cli.harness import Result, finish, run, serving, start

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """Our own peer, as a process of its own."""
    with serving("duplex.conformance:service", "--log-level", "error") as server:
        yield server.endpoint


@pytest.fixture(scope="module")
def calc() -> Iterator[str]:
    """A peer without the service."""
    with serving("examples/calc.py") as server:
        yield server.endpoint


def conformance(*words: object) -> Result:
    return run("conformance", *words)


def test_the_report(endpoint: str) -> None:
    result = conformance(endpoint, "--only", "dmtp/7", "--only", "dmtp/4/refused*")
    assert result.code == 0, result
    assert "4 Handshake\n  passed     dmtp/4/refused-version: No common version\n" in result.out
    assert "\ndmtp.md 7 Liveness\n" in result.out
    assert result.out.endswith("\n6 passed\n")
    assert result.err == ""


def test_an_endpoint_without_its_scheme(endpoint: str) -> None:
    result = conformance(endpoint.removeprefix("tcp://127.0.0.1"), "--only", "dmtp/7")
    assert result.code == 0, result
    assert conformance(":1", "--only", "dmtp/7", "--connect-timeout", "0.2").code == 78


def test_json(endpoint: str) -> None:
    result = conformance(endpoint, "--only", "drpc/1", "-o", "json")
    report = json.loads(result.out)
    assert report["summary"] == {"passed": 6, "failed": 0, "not_tested": 0}
    assert "conformance" in report["implementation"]["services"]
    assert report["results"][0]["id"] == "drpc/1/unknown-service"
    assert report["results"][0]["outcome"] == "passed"


def test_what_is_not_offered_is_not_tested(calc: str) -> None:
    result = conformance(calc, "--only", "drpc/8")
    assert result.code == 0
    assert "not tested drpc/8/deadline: " in result.out
    assert "the implementation does not offer hold" in result.out
    strict = conformance(calc, "--only", "drpc/8", "--strict")
    assert strict.code == 1
    assert strict.err == "error: 11 of 11 scenarios failed\n"


def test_strict_does_not_ask_for_the_other_role(endpoint: str) -> None:
    result = conformance(endpoint, "--only", "dmtp/4", "--strict")
    assert result.code == 0, result
    assert "the implementation has to be the connecting side" in result.out


def test_a_peer_that_is_wrong() -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context, context.socket(zmq.ROUTER) as router:
        router.set(zmq.LINGER, 0)
        port = router.bind_to_random_port("tcp://127.0.0.1")
        words = (f"tcp://127.0.0.1:{port}", "--only", "dmtp/7/pong", "--timeout", "0.2")
        with start("conformance", *words) as process:
            for _ in range(2):  # the question what it offers, and the scenario
                routing_id, _hello = router.recv_multipart()
                # [[HELLO, "DMTP", 1, 1, "deaf"]]
                router.send_multipart([routing_id, bytes.fromhex("919500a4444d54500101a464656166")])
            result = finish(process)
    assert result.code == 1
    assert "failed     dmtp/7/pong: PING is answered with PONG" in result.out
    assert 'step 2: expected PONG(0, {"type": "uint"})' in result.out
    assert "came     nothing within 0.2 s" in result.out
    assert result.err == "error: 1 of 1 scenarios failed\n"


def test_nobody_is_there() -> None:
    result = conformance("tcp://127.0.0.1:1", "--connect-timeout", "0.3")
    assert result.code == 78
    assert result.err.startswith("error: no peer answered at tcp://127.0.0.1:1 within 0.3 s")
    assert result.err.count("\n") == 1


def test_nobody_connects() -> None:
    result = conformance("tcp://127.0.0.1:*", "--listen", "--connect-timeout", "0.3")
    assert result.code == 78
    waiting, error = result.err.splitlines()
    assert waiting.startswith("waiting for connections to tcp://127.0.0.1:")
    assert error.startswith("error: nobody connected to tcp://127.0.0.1:")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nonsense",), "error: cannot connect to nonsense"),
        (
            ("tls://127.0.0.1:1",),
            "error: cannot connect to tls://127.0.0.1:1: the suite speaks through ZeroMQ's library",
        ),
        (("nonsense", "--listen"), "error: cannot bind nonsense"),
        (
            ("tcp://127.0.0.1:1", "--only", "dmtp/77"),
            "error: no scenario matches 'dmtp/77'; --list shows all",
        ),
        ((), "Missing argument 'ENDPOINT'"),
    ],
)
def test_a_wrong_command_line(words: tuple[str, ...], message: str) -> None:
    result = conformance(*words)
    assert result.code == 2
    assert message in result.err


def test_the_list() -> None:
    result = conformance("--list", "--only", "dmtp/7")
    assert result.code == 0
    assert result.out.startswith("dmtp.md 7 Liveness\n  MUST   dmtp/7/pong: PING is answered with PONG\n")
    listed = json.loads(conformance("--list", "-o", "json").out)
    assert len(listed) > 250
    assert listed[0].keys() == {"id", "section", "title", "level", "rule"}
