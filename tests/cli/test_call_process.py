"""``duplex call`` as a process: pipes, signals, and the order in which things happen."""

from __future__ import annotations

import signal
import time

import pytest

from tests.cli.conftest import Invoke
from tests.cli.harness import Result, finish, run, start

#: Processes start slowly.
pytestmark = pytest.mark.slow


def test_unary(calc: str) -> None:
    assert run("call", calc, "calc.add", "1", "-2") == Result(0, "-1\n", "")


def test_server_streaming(calc: str) -> None:
    assert run("call", calc, "calc.count", 3) == Result(0, "0\n1\n2\n", "")


def test_client_streaming(calc: str) -> None:
    assert run("call", calc, "calc.total", given="1 2\n3[\n") == Result(
        2, "", "error: standard input, item 4: not JSON: Input data was truncated\n"
    )
    assert run("call", calc, "calc.total", given="1 2\n3") == Result(0, "6\n", "")


def test_bidirectional_while_stdin_is_open(calc: str) -> None:
    with start("call", calc, "calc.shout") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for word in ("one", "two"):
            process.stdin.write(f'"{word}"\n')
            process.stdin.flush()
            assert process.stdout.readline() == f'"{word.upper()}"\n'
        assert finish(process) == Result(0, "", "")


@pytest.mark.parametrize("options", [(), ("--no-reflection", "--stdin")])
def test_items_may_take_their_time(calc: str, options: tuple[str, ...]) -> None:
    """What receives finds out after a while that one value is all that will come. The items go on."""
    with start("call", *options, calc, "calc.total") as process:
        assert process.stdin is not None
        for number in (1, 20, 300):
            process.stdin.write(f"{number}\n")
            process.stdin.flush()
            time.sleep(0.4)  # so that all of them take longer than nothing may come without a question
        assert finish(process) == Result(0, "321\n", "")


def test_a_result_may_come_before_stdin_ends(odd: str) -> None:
    with start("call", odd, "odd.first") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("5 6 ")
        process.stdin.flush()
        assert process.stdout.read() == "5\n"
        assert process.wait() == 0


def test_interrupting_cancels_the_call(odd: str, invoke: Invoke) -> None:
    with start("call", odd, "odd.forever") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "0\n"
        process.send_signal(signal.SIGINT)
        code, _, err = finish(process)
    assert (code, err) == (130, "")
    assert invoke("call", odd, "odd.was_cancelled") == Result(0, "true\n", "")


def test_terminating_ends_a_call_that_waits_for_stdin(calc: str) -> None:
    with start("call", calc, "calc.shout") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write('"one"')
        process.stdin.flush()
        assert process.stdout.readline() == '"ONE"\n'
        process.send_signal(signal.SIGTERM)
        # Its stdin is still open.
        assert process.wait() == 143


def test_interrupting_works_while_nobody_reads_the_results(odd: str) -> None:
    with start("call", odd, "odd.large", 1_000_000, "--raw") as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == "x"
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130


@pytest.mark.parametrize("method", ["odd.forever", "odd.large"])
def test_a_reader_that_goes_away_ends_the_call_quietly(odd: str, method: str) -> None:
    words = ["1000000"] if method == "odd.large" else []
    with start("call", odd, method, *words) as process:
        assert process.stdout is not None
        assert process.stdout.read(1)
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait() == 141


def test_no_server() -> None:
    assert run("call", "tcp://127.0.0.1:1", "calc.add") == Result(
        78, "", "error: nothing listens at tcp://127.0.0.1:1: connection refused\n"
    )
