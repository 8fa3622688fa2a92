"""Servers are killed, stopped, drained, added and removed under load: ``python -m tests.stress.failover --seconds 120``.

Five processes offer a service that a client follows by a file, and calls begin at a steady rate, whatever becomes of those
before. In each phase one thing happens to the servers. For each phase it tells

* calls that may run twice and failed: there must be none;
* calls that must not run twice and did: none either; that some fail because their server is gone is how it must be;
* how far the load of any server was from an equal share, in windows of ten seconds from two seconds after the change was known.

Its exit code is 1 if a call failed or ran twice.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import trio

import duplex
from duplex.resolvers import FileResolver
from tests.docs.markdown import ROOT

NAMES: Final = ("a", "b", "c", "d", "e")
#: Seconds that a call takes; of a window; and after a change before shares are looked at.
WORK: Final = 0.004
WINDOW: Final = 10.0
SETTLED: Final = 2.0
#: One call of so many must not run twice.
ONCE: Final = 10


@dataclasses.dataclass
class Phase:
    """What came of one phase."""

    name: str
    #: Who answered, by the second in which that was.
    answers: Counter[tuple[int, str]] = dataclasses.field(default_factory=Counter)
    failed: list[str] = dataclasses.field(default_factory=list)
    #: Outcomes of calls that must not run twice.
    once: Counter[str] = dataclasses.field(default_factory=Counter)
    #: Calls that began in it and have not ended.
    under_way: int = 0
    #: Who takes calls from when on.
    serving: tuple[str, ...] = ()
    since: float = 0.0

    def uneven(self, until: float) -> float:
        """Return how far the load of any server was from an equal share, as a part of it, in any window."""
        worst = 0.0
        start = int(self.since + SETTLED) + 1
        length = int(min(WINDOW, until - start))
        while length > 0 and start + length <= int(until):
            counts = Counter(dict.fromkeys(self.serving, 0))
            for second in range(start, start + length):
                counts.update({name: self.answers[second, name] for name in self.serving})
            share = counts.total() / len(self.serving)
            worst = max(worst, *(abs(count - share) / max(1.0, share) for count in counts.values()))
            start += length
        return worst


class Cluster:
    """The processes, and the file that lists them."""

    def __init__(self, stack: contextlib.ExitStack, directory: Path) -> None:
        self._stack = stack
        self._directory = directory
        self.path = directory / "workers.json"
        self.journals: list[Path] = []
        self.running: dict[str, subprocess.Popen[str]] = {}

    def endpoint(self, name: str) -> str:
        return f"ipc://{self._directory}/{name}"

    def start(self, name: str) -> None:
        journal = self._directory / f"journal-{len(self.journals)}"
        self.journals.append(journal)
        self.running[name] = self._stack.enter_context(_process(name, self.endpoint(name), journal))

    def list(self, *names: str) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps([self.endpoint(name) for name in names]), encoding="utf-8")
        os.replace(new, self.path)

    def executed(self) -> Counter[str]:
        """Return how often each call ran that must not run twice."""
        return Counter(line for journal in self.journals for line in journal.read_text().split())


@contextlib.contextmanager
def _process(name: str, endpoint: str, journal: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.stress.failover_worker", name, endpoint, str(WORK), str(journal)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        try:
            assert "://" in running.stdout.readline()
            yield running
        finally:
            running.stdin.close()
            running.send_signal(signal.SIGCONT)
            running.wait(30)


class Load:
    """Calls that begin at a steady rate."""

    def __init__(self, client: duplex.Peer, rate: float, patience: float) -> None:
        retry = duplex.RetryPolicy(max_attempts=8, attempt_timeout=patience, max_tokens=1000)
        service = client.service("worker")
        options: Any = {"retry": retry, "idempotent": True}
        self._work = service.with_options(**options).work
        self._once = service.with_options(timeout=4 * patience).once
        self._rate = rate
        self._number = 0
        self.phase = Phase("before")

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            due = trio.current_time()
            while True:
                due = max(due + 1 / self._rate, trio.current_time() - 1)
                await trio.sleep_until(due)
                self._number += 1
                nursery.start_soon(self._one, self._number, self.phase)

    async def _one(self, number: int, phase: Phase) -> None:
        phase.under_way += 1
        try:
            if number % ONCE:
                name = await self._work()
            else:
                name = await self._once(number)
                phase.once["done"] += 1
        except duplex.RPCError as error:
            if number % ONCE:
                notes = " ".join(getattr(error, "__notes__", ()))
                phase.failed.append(f"{error!r} at {error.peer}. {notes}")
            else:
                phase.once[type(error).__name__] += 1
        else:
            phase.answers[int(trio.current_time()), name] += 1
        finally:
            phase.under_way -= 1


async def run(rate: float, seconds: float, patience: float, say: Callable[[str], None]) -> bool:
    """Run all phases; tell whether all was well."""
    is_well = True
    with contextlib.ExitStack() as stack:
        cluster = Cluster(stack, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        for name in NAMES:
            cluster.start(name)
        cluster.list(*NAMES)
        async with duplex.open_peer(connect_timeout=30) as client, trio.open_nursery() as nursery:
            client.connect_service("worker", FileResolver(cluster.path, interval=0.1))
            load = Load(client, rate, patience)
            nursery.start_soon(load.run)

            def links(name: str) -> list[duplex.Link]:
                return [link for link in client.links if link.peer_name == name]

            async def until(condition: Callable[[], object]) -> None:
                while not condition():
                    await trio.sleep(0.02)  # nothing tells it

            async def phase(name: str, serving: tuple[str, ...]) -> None:
                """Let some time pass in which these servers take the calls."""
                nonlocal is_well
                load.phase.serving, load.phase.since = serving, trio.current_time()
                await trio.sleep(seconds)  # as long as it is asked for
                end = trio.current_time()
                done, load.phase = load.phase, Phase("")
                await until(lambda: not done.under_way)
                repeated = sum(count > 1 for count in cluster.executed().values())
                is_well = is_well and not done.failed and not repeated
                counts: Counter[str] = Counter()
                for (_, server), count in done.answers.items():
                    counts[server] += count
                say(
                    f"{name:16} {counts.total():6} answered, {len(done.failed)} failed, {repeated} ran twice, once: "
                    f"{dict(done.once)}, {dict(sorted(counts.items()))}, share off by {done.uneven(end):.0%}"
                )
                for text in done.failed[:3]:
                    say(f"    {text}")
                load.phase = Phase("")

            rest = NAMES[1:]
            await until(lambda: len(client.links) == len(NAMES))
            await phase("nothing", NAMES)
            cluster.running["a"].kill()
            await until(lambda: not links("a"))
            await phase("killed", rest)
            cluster.start("a")
            await until(lambda: links("a"))
            await phase("started again", NAMES)
            cluster.running["a"].send_signal(signal.SIGSTOP)
            await until(lambda: any(link.statistics().is_slow for link in links("a")))
            await phase("stopped", rest)
            cluster.running["a"].send_signal(signal.SIGCONT)
            await until(lambda: not any(link.statistics().is_slow for link in links("a")))
            await phase("goes on", NAMES)
            cluster.running["a"].send_signal(signal.SIGTERM)
            await until(lambda: not links("a"))
            await phase("drained", rest)
            cluster.start("f")
            cluster.list(*rest, "f")
            await until(lambda: links("f"))
            await phase("another added", (*rest, "f"))
            cluster.list(*NAMES[2:], "f")
            await until(lambda: not links("b"))
            await phase("one removed", (*NAMES[2:], "f"))
            nursery.cancel_scope.cancel()
    return is_well


def main() -> None:
    """Run, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress.failover", description=__doc__)
    parser.add_argument("--rate", type=float, default=500, help="calls that begin in a second")
    parser.add_argument("--seconds", type=float, default=120, help="of each phase")
    parser.add_argument("--patience", type=float, default=1, help="seconds of one attempt of a call")
    options = parser.parse_args()

    def say(text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    sys.exit(0 if trio.run(run, options.rate, options.seconds, options.patience, say) else 1)


if __name__ == "__main__":
    main()
