"""``duplex serve``: endpoints, targets, signals and errors."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke
from tests.cli.harness import CALC, TARGETS, Result, Server, finish, run, serving, start

#: Processes start slowly.
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it(number: int) -> None:
    with serving(CALC, stderr=subprocess.PIPE) as server:
        assert server.endpoint.startswith("tcp://127.0.0.1:")
        code, out, err = server.stop(number)
    assert (code, out) == (0, "")
    assert err.startswith("serving calc 1.0.0: add, count, total, ")
    assert err.count("\n") == 1


def test_stdout_is_for_endpoints_alone() -> None:
    with start("serve", TARGETS / "talkative.py", "--bind", "tcp://127.0.0.1:*") as process:
        assert process.stdout is not None
        endpoint = process.stdout.readline().strip()
        assert endpoint.startswith("tcp://127.0.0.1:")
        assert run("call", endpoint, "talkative.say", "hello") == Result(0, "null\n", "")
        process.send_signal(signal.SIGTERM)
        code, out, err = finish(process)
    assert (code, out) == (0, "")
    assert err.splitlines() == ["imported", "serving talkative 0.0.0: say", "hello", "hello in a child"]


def wait_for_line(server: Server, end: str) -> None:
    """Read the server's stderr to a line that ends so."""
    assert server.process.stderr is not None
    assert any(line.rstrip().endswith(end) for line in server.process.stderr), "stderr was closed"


def test_a_signal_stops_it_while_calls_run() -> None:
    with serving(TARGETS / "odd.py", "--drain-timeout", 0.2, stderr=subprocess.PIPE) as server:
        with start("call", server.endpoint, "odd.forever") as client:
            assert client.stdout is not None
            assert client.stdout.readline() == "0\n"
            stopped = server.stop()
            result = finish(client)
    assert stopped.code == 0
    assert "draining: 1 call may run on for 0.2 s; a second signal stops at once" in stopped.err
    assert result.code == 78
    assert result.err.startswith("error: UNAVAILABLE: odd.forever")
    assert "draining" in result.err


def test_calls_that_run_finish_after_a_signal() -> None:
    with serving(TARGETS / "odd.py", stderr=subprocess.PIPE) as server:
        with start("call", server.endpoint, "odd.nap", 1.5) as client:
            wait_for_call(server, "odd.nap")
            server.process.send_signal(signal.SIGTERM)
            assert finish(client) == (0, '"rested"\n', "")
        result = finish(server.process)
    assert result.code == 0


def test_a_second_signal_does_not_wait_for_calls() -> None:
    with serving(TARGETS / "odd.py", stderr=subprocess.PIPE) as server:
        with start("call", server.endpoint, "odd.sleepy") as client:
            wait_for_call(server, "odd.sleepy")
            server.process.send_signal(signal.SIGTERM)
            err = server.process.stderr
            assert err is not None
            # What the report said of a busy event loop may come first.
            assert any(line.startswith("draining: 1 call") for line in err)
            assert server.stop(signal.SIGINT).code == 130
            assert finish(client).code == 78


def wait_for_call(server: Server, method: str) -> str:
    """Ask a server for its report until the method is in it, and return that line."""
    err = server.process.stderr
    assert err is not None
    while True:
        server.process.send_signal(signal.SIGUSR1)
        while not (header := err.readline()).endswith((" call under way\n", " calls under way\n")):
            assert header, "the server has ended"
        for line in [err.readline() for _ in range(int(header.split()[0]))]:
            if method in line and " s  incoming" in line:
                return line


def test_sigusr1_lists_the_calls_under_way() -> None:
    with serving(TARGETS / "odd.py", stderr=subprocess.PIPE) as server:
        with start("call", server.endpoint, "odd.sleepy", "--timeout", 60) as client:
            line = wait_for_call(server, "odd.sleepy")
            server.process.kill()
            client.kill()
    assert re.fullmatch(
        r" +\d+\.\d{3} s  incoming  odd\.sleepy  from duplex-cli  channel \d+  credit \d+  "
        r"deadline in [5-6]\d\.\d{3} s\n",
        line,
    )


def test_sigusr1_shows_what_blocks_the_event_loop(tmp_path: Path) -> None:
    target = tmp_path / "busy.py"
    target.write_text(
        "import duplex, time\n"
        "@duplex.rpc(inline=True)\n"
        "def block() -> None:\n"
        "    print('blocked', flush=True)\n"
        "    time.sleep(60)\n"
    )
    with serving(target, stderr=subprocess.PIPE) as server:
        with start("call", server.endpoint, "busy.block") as client:
            wait_for_line(server, "blocked")
            server.process.send_signal(signal.SIGUSR1)
            wait_for_line(server, ", in block")
            client.kill()
            server.process.kill()


def test_a_second_signal_stops_it_at_once(tmp_path: Path) -> None:
    target = tmp_path / "busy.py"
    target.write_text(
        "import duplex\n"
        "@duplex.rpc(inline=True)\n"
        "def block() -> None:\n"
        "    print('blocked', flush=True)\n"
        "    while True:\n"
        "        pass\n"
    )
    with (
        serving(target, stderr=subprocess.PIPE) as server,
        start("call", server.endpoint, "busy.block") as client,
    ):
        wait_for_line(server, "blocked")
        server.process.send_signal(signal.SIGINT)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait() in (130, 143)
        assert finish(client).code == 78


def test_a_background_job_goes_on_ignoring_interrupts() -> None:
    # As a shell without job control starts `duplex serve ... &`; Python leaves an ignored SIGINT ignored.
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with serving(CALC) as server:
            signal.signal(signal.SIGINT, previous)
            server.process.send_signal(signal.SIGINT)
            assert run("call", server.endpoint, "calc.add", 1, 2).out == "3\n"
            assert server.stop(signal.SIGTERM).code == 0
    finally:
        signal.signal(signal.SIGINT, previous)


def test_several_endpoints(tmp_path: Path, invoke: Invoke) -> None:
    local = f"ipc://{tmp_path}/calc.sock"
    with serving(CALC, "--bind", "tcp://127.0.0.1:*", "--bind", local, "--name", "sums") as server:
        assert server.stdout.readline().strip() == local
        for endpoint in (server.endpoint, local):
            assert invoke("call", endpoint, "calc.add", 1, 2).out == "3\n"
        assert "peer: sums\n" in invoke("call", local, "calc.add", 1, 2, "-v").err
        assert server.stop().code == 0


def test_functions_of_a_module(invoke: Invoke) -> None:
    with serving("plain", cwd=TARGETS) as server:
        assert invoke("call", server.endpoint, "plain.greet", "you").out == '"hello you"\n'
        assert invoke("list", server.endpoint).out.startswith("plain 3.2.1")
        assert server.stop().code == 0


def test_a_class(invoke: Invoke) -> None:
    with serving(f"{TARGETS / 'plain.py'}:Counter") as server:
        assert invoke("call", server.endpoint, "counter.up").out == "1\n"
        assert invoke("call", server.endpoint, "counter.up", "by=5").out == "6\n"
        assert server.stop().code == 0


def test_tracebacks_stay_here_unless_asked_for(invoke: Invoke) -> None:
    with serving(TARGETS / "odd.py", stderr=subprocess.PIPE) as server:
        err = invoke("call", server.endpoint, "odd.crash").err
        assert "RuntimeError" not in err
        assert "RuntimeError: the answer was not 42" in server.stop().err


def test_an_endpoint_in_use(calc: str) -> None:
    result = run("serve", CALC, "--bind", calc)
    assert (result.code, result.out) == (1, "")
    assert calc in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.py"], "error: there is no file nowhere.py"),
        (["no_such_module"], "error: there is no module 'no_such_module'"),
        ([f"{CALC}:nope"], "has no attribute 'nope'; it has "),
        (["json"], "error: json has nothing to serve"),
        ([], "Missing argument 'TARGET'"),
        ([str(CALC), "--log-level", "loud"], "--log-level"),
    ],
)
@pytest.mark.usefixtures("forget_imports")
def test_errors(invoke: Invoke, words: list[str], message: str) -> None:
    result = invoke("serve", *words)
    assert (result.code, result.out) == (2, "")
    assert message in result.err


def test_a_malformed_endpoint() -> None:
    result = run("serve", CALC, "--bind", "nonsense")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: 'nonsense' does not begin with a known scheme")


def test_a_target_that_fails(tmp_path: Path) -> None:
    target = tmp_path / "failing.py"
    target.write_text("1 / 0\n")
    result = run("serve", target)
    assert result == Result(
        2,
        "",
        f"error: importing {target} failed:\nTraceback (most recent call last):\n"
        f'  File "{target}", line 1, in <module>\n    1 / 0\n    ~~^~~\nZeroDivisionError: division by zero\n',
    )


@pytest.mark.slow
def test_calls_are_logged_if_so_asked() -> None:
    with serving(CALC, "--log-calls", stderr=subprocess.PIPE) as server:
        assert run("call", server.endpoint, "calc.add", 1, 2).code == 0
        assert run("call", server.endpoint, "calc.divide", 1, 0).code != 0
        assert run("call", server.endpoint, "calc.nothing", "--no-reflection").code != 0
        err = server.stop().err
    logged = [line.partition("duplex.calls: ")[2] for line in err.splitlines() if "method=calc." in line]
    assert [re.sub("ms=[0-9.e-]+", "ms=0", line) for line in logged[:2]] == [
        "direction=served method=calc.add peer=duplex-cli status=OK ms=0",
        'direction=served method=calc.divide peer=duplex-cli status=INVALID_ARGUMENT ms=0 error="b must not be 0"',
    ]
    assert "method=calc.nothing peer=duplex-cli status=UNIMPLEMENTED" in logged[2]
