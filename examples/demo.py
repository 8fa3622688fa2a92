"""The demonstration: a service in one process, called in every way there is from another; and three that are found by name.

``make demo`` runs it. It starts ``duplex serve examples/calc.py``, calls it first with the ``duplex`` command and
then from Python; then it starts workers that register themselves (``demo_workers.py``). It shows what it does and what comes
of it, and compares that with what should. It exits with 1 if anything was different.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import re
import select
import shlex
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

import demo_workers
import numpy as np
import trio

import duplex

CALC = Path(__file__).with_name("calc.py")

#: Seconds that the server may take to come up, and that one step may take.
PATIENCE = 20


# -- showing and comparing -----------------------------------------------------------------------------


class Report:
    """Prints what happens and remembers what was not as it should be."""

    def __init__(self) -> None:
        self.steps = 0
        #: The titles of the steps that went wrong.
        self.failures: list[str] = []
        self._title = ""
        self._bold = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")

    def heading(self, text: str) -> None:
        """Begin a part."""
        print(f"\n{self._bold[0]}{text}{self._bold[1]}")

    def step(self, title: str, code: str) -> None:
        """Begin a step: what is done next."""
        self.steps += 1
        self._title = title
        print(f"\n  {title}")
        print(textwrap.indent(code.strip("\n"), "      "))

    def result(self, printed: str, expected: str) -> None:
        """End a step: what came of it, and the pattern of what should have."""
        for line in printed.splitlines():
            print(f"      | {line}")
        if not re.fullmatch(expected, printed.rstrip("\n")):
            self.failures.append(self._title)
            print(f"      ! WRONG: expected {expected!r}")


# -- the server ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def serving(log: IO[str]) -> Iterator[tuple[int, str]]:
    """Run ``duplex serve`` in a process of its own; gives its id and the endpoint it is bound to."""
    command = [sys.executable, "-m", "duplex", "serve", str(CALC), "--bind", "tcp://127.0.0.1:*"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], PATIENCE)
        endpoint = process.stdout.readline().strip() if readable else ""
        if not endpoint:
            log.seek(0)
            raise SystemExit(f"the server did not come up:\n{log.read()}")
        yield process.pid, endpoint
    finally:
        process.terminate()
        try:
            process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


# -- from a shell --------------------------------------------------------------------------------------


class Shell(NamedTuple):
    """A command line, and what it should do.

    Attributes:
        title: what it shows.
        line: the command; ENDPOINT stands for the server's.
        expected: a pattern for all that it prints.
        exit_code: what it ends with.
        stdin: what it reads, and what to show before a pipe.
    """

    title: str
    line: str
    expected: str
    exit_code: int = 0
    stdin: tuple[str, str] | None = None


SHELL = [
    Shell("What is there?", "duplex list ENDPOINT", r"calc 1\.0\.0  .*\n  calc\.add\n(?s:.*)  calc\.total"),
    Shell(
        "How is it called?",
        "duplex describe ENDPOINT calc.divide",
        r"calc\.divide\(a: float, b: float = 1\.0\) -> float\n    Divide a by b(?s:.*)",
    ),
    Shell("One result", "duplex call ENDPOINT calc.divide 1 b=8", r"0\.125"),
    Shell("A stream of results", "duplex call ENDPOINT calc.count 3", r"0\n1\n2"),
    Shell(
        "A stream of arguments, from standard input",
        "duplex call ENDPOINT calc.total",
        "5050",
        stdin=("seq 100", "".join(f"{number}\n" for number in range(1, 101))),
    ),
    Shell(
        "Both, as lines of text",
        "duplex call ENDPOINT calc.shout --lines --raw",
        "BROKERLESS\nSYMMETRICAL",
        stdin=(r"printf 'brokerless\nsymmetrical\n'", "brokerless\nsymmetrical\n"),
    ),
    Shell(
        "An error: 69 is 64 + the status NOT_FOUND",
        "duplex call ENDPOINT calc.constant tau",
        r"error: NOT_FOUND: .*no constant is named 'tau'\ndetails: \{\"known\": ?\[\"e\", ?\"pi\"\]\}",
        exit_code=69,
    ),
]


def run_shell(step: Shell, endpoint: str, report: Report) -> None:
    """Run one command line."""
    line = step.line.replace("ENDPOINT", endpoint)
    report.step(step.title, f"$ {step.stdin[0]} | {line}" if step.stdin else f"$ {line}")
    ran = subprocess.run(
        [sys.executable, "-m", *shlex.split(line)],
        input=step.stdin[1] if step.stdin else "",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    ended = f"(exit code {ran.returncode})\n" if ran.returncode else ""
    expected = f"{step.expected}\n\\(exit code {step.exit_code}\\)" if step.exit_code else step.expected
    report.result(ran.stdout + ended, expected)


# -- from Python ---------------------------------------------------------------------------------------
#
# The body of each function is shown, then run. `client` is a peer that is connected to the server.


async def unary(client: duplex.Peer) -> None:
    """One argument list, one result"""
    calc = client.service("calc")
    print(await calc.add(1, 2))


async def server_streaming(client: duplex.Peer) -> None:
    """A stream of results"""
    async with client.service("calc").count.open(1_000_000) as numbers:
        async for number in numbers:
            print(number)
            if number == 2:
                break  # leaving the block cancels the rest


async def client_streaming(client: duplex.Peer) -> None:
    """A stream of arguments"""
    async with client.service("calc").total.open() as call:
        for number in range(1, 101):
            await call.send(number)
        print(await call.result())


async def bidirectional(client: duplex.Peer) -> None:
    """Both directions at once"""
    async with client.service("calc").shout.open() as call:
        for word in ("brokerless", "symmetrical"):
            await call.send(word)
            print(await call.receive())


async def callback(client: duplex.Peer) -> None:
    """A callback: the server calls a function of ours"""
    visited: list[int] = []
    await client.service("calc").each([3, 1, 2], visited.append)
    print(visited)


async def channel(client: duplex.Peer) -> None:
    """A channel as a value: the server sends into it"""
    found, divisors = trio.open_memory_channel[int](10)
    count = await client.service("calc").divisors(28, found)
    print(count, "divisors:", [divisor async for divisor in divisors])


async def array(client: duplex.Peer) -> None:
    """A numpy array of 8 MiB there and back, as buffers beside the message"""
    ones = np.ones((1024, 1024))
    scaled = await client.service("calc").scale(ones, 0.5)
    print(scaled.dtype, scaled.shape, scaled.sum())


async def error_with_details(client: duplex.Peer) -> None:
    """An expected error has a class and details"""
    try:
        await client.service("calc").constant("tau")
    except duplex.NotFound as error:
        print(error)
        print(error.details)


async def wrong_argument(client: duplex.Peer) -> None:
    """A wrong argument is found before the handler runs"""
    try:
        await client.service("calc").add(1, "two")
    except duplex.InvalidArgument as error:
        print(error.message)


async def unexpected_error(client: duplex.Peer) -> None:
    """An unexpected error has an incident id, which the server's log has too"""
    try:
        await client.service("calc").crash()
    except duplex.Internal as error:
        print(error.message)


async def deadline(client: duplex.Peer) -> None:
    """The cancel scope is the deadline, and the handler's too"""
    with trio.move_on_after(0.2) as scope:
        await client.service("calc").nap(60)
    print("gave up:", scope.cancelled_caught)


async def cancellation(client: duplex.Peer) -> None:
    """Cancelling a call cancels its handler"""
    calc = client.service("calc")
    async with calc.nap.open(60):
        print("naps:", await calc.naps())
    print("naps:", await calc.naps())


async def both_ways(client: duplex.Peer) -> None:
    """Either side calls: we serve a `calc` of our own, and the server asks it"""
    ours = duplex.Service("calc")

    @ours.rpc
    async def add(a: int, b: int) -> int:
        print(f"the server wants to know what {a} + {b} is")
        return a + b

    client.add_service(ours)
    print(await client.service("calc").second_opinion(1, 2))


PYTHON: list[tuple[Callable[[duplex.Peer], Awaitable[None]], str]] = [
    (unary, "3"),
    (server_streaming, "0\n1\n2"),
    (client_streaming, "5050"),
    (bidirectional, "BROKERLESS\nSYMMETRICAL"),
    (callback, r"\[3, 1, 2\]"),
    (channel, r"6 divisors: \[1, 2, 4, 7, 14, 28\]"),
    (array, r"float64 \(1024, 1024\) 524288\.0"),
    (error_with_details, r"calc\.constant at calc: no constant is named 'tau'\n\{'known': \['e', 'pi'\]\}"),
    (wrong_argument, r".*argument 'b': expected `int`, got `str`"),
    (unexpected_error, r"unexpected error in the handler; its peer's log has it as incident [0-9a-f]+"),
    (deadline, "gave up: True"),
    (cancellation, "naps: 1\nnaps: 0"),
    (both_ways, r"the server wants to know what 1 \+ 2 is\nTrue"),
]


def body_of(function: Callable[..., object]) -> str:
    """Return the source of a function less its first line and its docstring."""
    _, _, body = inspect.getsource(function).partition('"""\n')
    return textwrap.dedent(body)


async def run_python(endpoint: str, report: Report) -> str:
    """Run all steps in Python over one link; return all that they printed."""
    everything = ""
    async with duplex.open_peer(name="demo") as client:
        await client.connect(endpoint)
        for function, expected in PYTHON:
            everything += await run_step(function, client, expected, report)
    return everything


Argument = TypeVar("Argument")


async def run_step(
    function: Callable[[Argument], Awaitable[None]], argument: Argument, expected: str, report: Report
) -> str:
    """Show the body of a function, run it, and return what it has printed."""
    report.step(function.__doc__ or "", body_of(function))
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), trio.fail_after(PATIENCE):
            await function(argument)
    except Exception as error:
        printed.write(f"{type(error).__name__}: {error}\n")
    report.result(printed.getvalue(), expected)
    return printed.getvalue()


# -- workers -------------------------------------------------------------------------------------------


async def run_workers(log: IO[str], report: Report) -> None:
    """Run all steps with workers that are found by name."""
    async with demo_workers.open_workers(log) as workers:
        print(f"\n      (discovery is in this process; the workers are {', '.join(map(str, workers.pids))})")
        for function, expected in demo_workers.STEPS:
            await run_step(function, workers, expected, report)


# -- everything ----------------------------------------------------------------------------------------


def main() -> int:
    """Run the demonstration and return the exit code."""
    # Without this, a supervisor that stops the demonstration would leave the server behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    report = Report()
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as log, serving(log) as (pid, endpoint):
        report.heading("A service: decorated functions, in a process of their own")
        print(f"\n      $ duplex serve examples/calc.py --bind tcp://127.0.0.1:*\n      | {endpoint}")
        print(f"\n      (process {pid}; every method of it is in examples/calc.py)")

        report.heading("From a shell")
        for step in SHELL:
            run_shell(step, endpoint, report)

        report.heading("From Python")
        print(
            "\n  `client` is a duplex.Peer that is connected to the server; each body is run as it is shown."
        )
        printed = trio.run(run_python, endpoint, report)

        log.seek(0)
        (incident,) = re.findall(r"incident ([0-9a-f]+)", printed) or ["none"]
        found = [line for line in log if incident in line]
        report.heading("In the log of the server")
        report.step("The line with the incident id, above the traceback", f"$ grep {incident} log")
        report.result(
            "".join(found), r".*ERROR duplex: incident [0-9a-f]+: the handler of calc\.crash failed"
        )

    if demo_workers.STEPS:
        report.heading("Workers that are found by their name")
        with tempfile.TemporaryFile("w+") as log:
            trio.run(run_workers, log, report)

    seconds = time.monotonic() - began
    if report.failures:
        report.heading(f"{len(report.failures)} of {report.steps} steps went WRONG:")
        for title in report.failures:
            print(f"  - {title}")
        print("Above, each of them shows what it printed and what it should have.")
        return 1
    report.heading(f"All {report.steps} steps went as they should, in {seconds:.1f} s. What next?")
    print(
        """
      README.md          what Duplex is, in a few minutes
      docs/tutorial/     learn it, in seven short chapters
      examples/          one feature per file; start with hello.py
      make test          run the tests
      . .venv/bin/activate; duplex --help
"""
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
