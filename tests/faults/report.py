"""What came of one fault: a row of the table, and everything that was not as it should be."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import trio

from tests.faults.stage import Child, Stage

#: MiB by which a process may have grown when a fault and everything after it is over. Without a leak it is a
#: few tenths; a call that stays costs some KiB, so a leak of each of a thousand calls shows.
GROWTH: Final = 4.0
#: Seconds that libzmq may take to close the sockets of connections that are over.
_CLOSING: Final = 5.0
#: Problems that the table shows for each fault.
_SHOWN: Final = 8

_HEAD: Final = (
    "fault",
    "calls",
    "outcomes",
    "slowest end after the fault",
    "server's memory",
    "client's memory",
    "as asked",
)


@dataclasses.dataclass
class Report:
    """One fault and what came of it."""

    fault: str
    #: Calls attempted, and how they ended.
    calls: int = 0
    outcomes: Counter[str] = dataclasses.field(default_factory=Counter)
    #: Seconds after the fault at which the last call or handler that it hit had ended; and the most allowed.
    slowest: float | None = None
    bound: float | None = None
    #: MiB of resident memory before and after, by side.
    memory: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    #: MiB by which a side may grow.
    growth: float = GROWTH
    #: Other figures worth telling.
    notes: list[str] = dataclasses.field(default_factory=list)
    #: What was not as it should be.
    problems: list[str] = dataclasses.field(default_factory=list)
    _before: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)

    def check(self, condition: object, problem: str) -> None:
        """Note a problem unless the condition holds."""
        if not condition:
            self.problems.append(problem)

    def ended(self, what: str, seconds: float | None, bound: float) -> None:
        """Note when something that the fault hit had ended, and check that this was in time."""
        self.bound = bound
        if seconds is None:
            self.problems.append(f"{what} did not end")
            return
        self.slowest = max(seconds, self.slowest or 0.0)
        self.check(seconds <= bound, f"{what} ended {seconds:.2f} s after the fault, more than {bound:.2f}")

    async def add_outcomes(self, child: Child) -> list[dict[str, Any]]:
        """Count how the calls of a process have ended; return those that failed."""
        found = await child.ask("outcomes")
        self._count(found)
        self.check(not found["under_way"], f"{child.name}: {found['under_way']} calls have not ended")
        failed: list[dict[str, Any]] = found["failed"]
        return failed

    async def add_outcomes_so_far(self, child: Child) -> list[dict[str, Any]]:
        """The same for calls that have ended while others go on; they are not counted again."""
        found = await child.ask("outcomes", forget=True)
        self._count(found)
        failed: list[dict[str, Any]] = found["failed"]
        return failed

    def _count(self, found: dict[str, Any]) -> None:
        for _, outcome, count in found["counts"]:
            self.calls += count
            self.outcomes[outcome] += count

    async def check_seen(self, child: Child) -> dict[str, Any]:
        """Check that nothing came twice or out of order at a process, and that no handler runs there."""
        seen: dict[str, Any] = await child.ask("seen")
        self.problems += [f"{child.name}: {problem}" for problem in seen["problems"]]
        self.check(not seen["under_way"], f"{child.name}: handlers still run: {seen['under_way']}")
        return seen

    def check_executions(self, stage: Stage, failed: Iterable[dict[str, Any]] = ()) -> None:
        """Check that no call was executed twice, and none that is said not to have been executed at all."""
        executed = stage.executions()
        twice = [number for number, count in executed.items() if count > 1]
        self.check(not twice, f"{len(twice)} calls were executed twice, such as {twice[:3]}")
        lies = [f for f in failed if f["may_have_executed"] is False and executed[f["number"]]]
        self.check(not lies, f"{len(lies)} calls that were executed say that they were not: {lies[:2]}")

    def check_errors(
        self, failed: Iterable[dict[str, Any]], allowed: Sequence[str], *, cancelled_by: str | None = None
    ) -> None:
        """Check that every call that failed did so with one of the errors that are allowed."""
        wrong = [f for f in failed if f["outcome"] not in allowed]
        if cancelled_by is not None:
            wrong += [f for f in failed if f["outcome"] == "PeerLost" and f["cancelled_by"] != cancelled_by]
        self.check(not wrong, f"{len(wrong)} calls ended with a wrong error: {wrong[:2]}")

    async def measure(self, child: Child) -> None:
        """Note what a process takes before the fault."""
        self._before[child.name] = await child.ask("figures")

    def before(self, child: Child) -> float:
        """MiB that a process took before the fault."""
        found: float = self._before[child.name]["rss"]
        return found

    async def compare(self, child: Child, *, growth: float | None = None) -> None:
        """Check that a process has nothing more than before the fault."""
        before, after = self._before[child.name], await child.ask("figures")
        until = trio.current_time() + _CLOSING
        while after["descriptors"] > before["descriptors"] and trio.current_time() < until:
            await trio.sleep(0.1)  # libzmq closes in the background, and nothing tells when it has
            after = await child.ask("figures")
        grown = after["rss"] - before["rss"]
        most = self.growth if growth is None else growth
        self.memory[child.name] = before["rss"], after["rss"]
        self.check(grown <= most, f"{child.name}: memory grew by {grown:.1f} MiB, more than {most:g}")
        for what in ("strays", "left"):
            self.check(not after[what], f"{child.name}: left over: {after[what]}")
        more = after["descriptors"] - before["descriptors"]
        self.check(more <= 0, f"{child.name}: {more} more files are open than before")

    def assert_good(self) -> None:
        """Fail with everything that was not as it should be."""
        assert not self.problems, f"{self.fault}:\n" + "\n".join(self.problems)

    def row(self) -> list[str]:
        """The cells of the table."""

        def memory(side: str) -> str:
            figures = self.memory.get(side)
            return "–" if figures is None else f"{figures[0]:.1f} → {figures[1]:.1f} MiB"

        outcomes = ", ".join(f"{count:,} {name}" for name, count in self.outcomes.most_common())
        slowest = "–" if self.slowest is None else f"{self.slowest:.2f} s (at most {self.bound or 0:.2f})"
        name = self.fault + (f" ({'; '.join(self.notes)})" if self.notes else "")
        good = "yes" if not self.problems else f"**no: {len(self.problems)} problems**"
        return [name, f"{self.calls:,}", outcomes, slowest, memory("server"), memory("client"), good]

    def as_json(self) -> dict[str, Any]:
        """The same for programs, with all problems."""
        return {
            "fault": self.fault,
            "calls": self.calls,
            "outcomes": dict(self.outcomes),
            "slowest": self.slowest,
            "bound": self.bound,
            "memory": self.memory,
            "notes": self.notes,
            "problems": self.problems,
        }


def table(reports: Iterable[Report]) -> str:
    """Return a Markdown table, with the problems below it."""
    reports = list(reports)
    lines = [_HEAD, ["---"] * len(_HEAD), *(report.row() for report in reports)]
    text = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines) + "\n"
    for report in reports:
        if report.problems:
            text += f"\n{report.fault}:\n\n"
            shown = report.problems[:_SHOWN]
            text += "".join(f"- {problem[:600]}\n" for problem in shown)
            if len(report.problems) > len(shown):
                text += f"- and {len(report.problems) - len(shown)} more\n"
    return text


def write(reports: Iterable[Report], path: Path) -> None:
    """Write the table, as JSON if the file's name ends so, else as Markdown."""
    if path.suffix == ".json":
        text = json.dumps([report.as_json() for report in reports], indent=2) + "\n"
    else:
        text = table(reports)
    path.write_text(text, encoding="utf-8")
