"""One example, over and over: ``python -m tests.stress.pair NAME ROUNDS SEED``.

An example has a server and a client in one event loop, whose order of things hides much. Here its server's services run
in another process: where the example binds a peer, that process binds one with the same services and options, and the
example is given its endpoint. What both print together has to be what the example prints alone; every line of it, and
those of each process in the same order.

Some examples need both sides in one process. They run in one, over a wire of :mod:`tests.wires`.

For each round the processes are forks of this one, so that nothing is left from the round before. Every round prints a
line, as JSON: ``"ok"``, or what was wrong.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import json
import multiprocessing
import os
import random
import subprocess
import sys
import threading
import traceback
import types
from collections import Counter
from collections.abc import AsyncIterator, Callable
from multiprocessing.connection import Connection
from typing import Any, Final
from unittest import mock

import trio

import duplex
from tests.docs.markdown import ROOT
from tests.machine import within
from tests.wires.orders import ORDERS
from tests.wires.place import in_place, shuffle_tasks

EXPECTED: Final = ROOT / "tests" / "docs" / "expected"
#: Seconds that a round may take on a quiet machine.
PATIENCE: Final = 30.0
#: Examples that need both sides in one process, and why.
TOGETHER: Final = {
    "backpressure": "counts what is sent while nothing is read",
    "balancing": "exposes objects that it has made",
    "both_ways": "asks the server for its links",
    "cancellation": "waits for what its handlers do",
    "deadlines": "exposes an object that it has made",
    "discovery": "makes its services itself",
    "errors": "looks into the log of the server",
    "following": "exposes objects that it has made",
    "gather": "exposes objects that it has made",
    "health": "changes the health of the server",
    "idempotency": "closes a link of the server",
    "lost_peer": "starts a process itself",
    "many_links": "exposes objects that it has made",
    "own_transport": "hands a transport to its peers",
    "plain_functions": "exposes a module",
    "retries": "makes its services itself",
    "resumable": "stops and starts the server",
    "stateful_service": "exposes objects that it has made",
    "store": "makes its services itself",
    "streaming": "waits for what its handlers do",
    "telemetry": "counts what is dropped while nothing is read",
    "typed_client": "exposes an object that it has made",
}
#: Parts of others, and not programs by themselves.
PIECES: Final = frozenset({"calc", "demo_workers", "worker"})
_fork: Final = multiprocessing.get_context("fork")


def load(name: str) -> types.ModuleType:
    """Return an example as a module."""
    path = ROOT / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(
        f"example_{name}", path
    )  # one is called as a module of Python is
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


def name_of(module: types.ModuleType) -> str:
    """Return the name of an example."""
    return module.__name__.removeprefix("example_")


def round_of(module: types.ModuleType, seed: str) -> str:
    """Run an example in two processes, or over a wire; return what is wrong, or nothing."""
    ends = _fork.Pipe()
    if name_of(module) in TOGETHER:
        forks = [Fork(_alone, module, seed, *ends)]
    else:
        forks = [
            Fork(_call, module, f"{seed} client", *ends),
            Fork(_serve, module, f"{seed} server", *reversed(ends)),
        ]
    for end in ends:
        end.close()
    problems = [problem for fork in forks for problem in fork.end()]
    texts = [fork.text() for fork in forks]
    expected = (EXPECTED / f"{name_of(module)}.txt").read_text(encoding="utf-8")
    problems += compare(expected, *texts)
    return "; ".join(problems) + ":\n" + "\n---\n".join(texts) if problems else ""


class Fork:
    """A process that runs a function of this module, and what it prints.

    Args:
        function: what to run.
        module: the example.
        seed: of what is left to chance.
        line: to the other process.
        other: the other process's end of it.
    """

    def __init__(
        self,
        function: Callable[..., None],
        module: types.ModuleType,
        seed: str,
        line: Connection,
        other: Connection,
    ) -> None:
        reading, writing = os.pipe()
        self._process = _fork.Process(target=_in_fork, args=(writing, function, module, seed, line, other))
        self._process.start()
        os.close(writing)
        self._reader = threading.Thread(target=self._read, args=(reading,), daemon=True)
        self._text = ""
        self._reader.start()

    def _read(self, reading: int) -> None:
        with os.fdopen(reading) as file:
            self._text = file.read()

    def end(self) -> list[str]:
        """Wait for its end, which is not far; return what is wrong with that."""
        self._process.join(within(PATIENCE))
        late = self._process.is_alive()
        self._process.kill()
        self._process.join()
        if late:
            return [f"a process did not end in {PATIENCE:g} s of a quiet machine"]
        return [f"a process ended with {self._process.exitcode}"] if self._process.exitcode else []

    def text(self) -> str:
        """Return what it has printed."""
        self._reader.join()
        return self._text


def compare(expected: str, *texts: str) -> list[str]:
    """Say what is wrong with what several processes printed together."""
    problems = []
    lines = expected.splitlines()
    together = Counter(line for text in texts for line in text.splitlines())
    if missing := Counter(lines) - together:
        problems.append(f"{sum(missing.values())} lines are missing, such as {next(iter(missing))!r}")
    if more := together - Counter(lines):
        problems.append(f"{sum(more.values())} lines are too many, such as {next(iter(more))!r}")
    if not problems and not all(_in_order(lines, text.splitlines()) for text in texts):
        problems.append("the order of lines is another")
    return problems


def _in_order(lines: list[str], some: list[str]) -> bool:
    rest = iter(lines)
    return all(line in rest for line in some)


# -- in the forks ----------------------------------------------------------------------------------------


def _in_fork(
    output: int, function: Callable[..., None], module: Any, seed: str, line: Connection, other: Connection
) -> None:
    other.close()  # or nobody would notice that the other process has ended
    shuffle_tasks(seed)
    with os.fdopen(output, "w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        try:
            function(module, line, seed)
        except BaseException:
            traceback.print_exc()
            raise


def _serve(module: types.ModuleType, line: Connection, _seed: str) -> None:
    """Bind what is asked for, until nobody can ask any more."""
    services = {value.name: value for value in vars(module).values() if isinstance(value, duplex.Service)}

    async def main() -> None:
        async with contextlib.AsyncExitStack() as peers:
            while True:
                try:
                    names, options, endpoint = await trio.to_thread.run_sync(line.recv)
                except EOFError:
                    return
                offered = [services[name] for name in names]
                # Nobody else is in the memory of this process.
                endpoint = endpoint if endpoint.startswith("tcp") else "tcp://127.0.0.1:*"
                peer = await peers.enter_async_context(duplex.open_peer(services=offered, **options))
                await trio.to_thread.run_sync(line.send, await peer.bind(endpoint))

    trio.run(main)


def _call(module: types.ModuleType, line: Connection, _seed: str) -> None:
    """Run the example, with its servers in the other process."""
    real_open = duplex.open_peer
    made: dict[int, tuple[list[str], dict[str, Any]]] = {}

    @contextlib.asynccontextmanager
    async def open_peer(**options: Any) -> AsyncIterator[duplex.Peer]:
        names = [service.name for service in options.get("services", ())]
        async with real_open(**options) as peer:
            made[id(peer)] = names, {name: value for name, value in options.items() if name != "services"}
            yield peer

    async def bind(peer: duplex.Peer, endpoint: str) -> str:
        line.send((*made[id(peer)], endpoint))
        return str(await trio.to_thread.run_sync(line.recv))

    with mock.patch.object(duplex, "open_peer", open_peer), mock.patch.object(duplex.Peer, "bind", bind):
        trio.run(module.main)


def _alone(module: types.ModuleType, _line: Connection, seed: str) -> None:
    with in_place(random.Random(seed).choice(list(ORDERS)), seed):
        if inspect.iscoroutinefunction(module.main):
            trio.run(module.main)
        else:
            module.main()


def demonstration() -> str:
    """Run ``make demo``, which starts a server of its own; return what is wrong, or nothing."""
    command = [sys.executable, str(ROOT / "examples" / "demo.py")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=within(4 * PATIENCE), check=False)
    return ran.stdout + ran.stderr if ran.returncode or ran.stderr else ""


def main(name: str, rounds: int, seed: str) -> None:
    """Run the rounds."""
    module = None if name == "demo" else load(name)
    for number in range(rounds):
        problem = demonstration() if module is None else round_of(module, f"{seed} {number}")
        sys.stdout.write(json.dumps(problem or "ok") + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
