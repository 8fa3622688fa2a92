"""What the journals of all processes together say: a pure function of them.

A call without a key is executed at most once; one with a key at most once to the end by each process that ran in the
place of the same server, and never twice at a time: a run that was cut short is forgotten. Whoever was told of success, or of an error of the application's own, was executed. Whoever was told
that the handler certainly never began was not. Whoever asked was told something, and what began has ended, but for
processes that were killed.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from tests.oracle.journal import CANCELLED, OK, Entry

#: What a call with an idempotency key is, for the journal.
KEYED: Final = "keyed"
#: Kinds that are executed anew for what was lost: a stream that is resumed.
REPEATED: Final = frozenset({"follow"})
#: Notifications: to have been sent says nothing of the other side.
UNANSWERED: Final = frozenset({"note"})
#: In the place of how a run ended.
_RUNNING: Final = "running"
#: Outcomes that only a handler can have given.
FROM_HANDLER: Final = frozenset({"Aborted", "Internal"})


@dataclasses.dataclass(frozen=True)
class Life:
    """One process, from its start to its end.

    Attributes:
        name: of the process that it is, or in whose place it ran.
        killed: it ended before it was told to.
        entries: its journal.
    """

    name: str
    killed: bool
    entries: Sequence[Entry]


@dataclasses.dataclass
class Asked:
    """A call, as its caller saw it."""

    kind: str
    by: str
    killed: bool
    told: list[tuple[str, bool | None]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Verdict:
    """What was found.

    Attributes:
        operations: calls that were made, nested ones and callbacks among them.
        outcomes: what callers were told, by kind.
        executed: handlers that began, by kind.
        violations: what must not be, each with the name of the call.
    """

    operations: int = 0
    outcomes: dict[str, Counter[str]] = dataclasses.field(default_factory=lambda: defaultdict(Counter))
    executed: Counter[str] = dataclasses.field(default_factory=Counter)
    violations: list[str] = dataclasses.field(default_factory=list)


def judge(lives: Sequence[Life]) -> Verdict:
    """Compare what callers were told with what was executed."""
    verdict = Verdict()
    asked: dict[str, Asked] = {}
    runs: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    #: What began while it ran, and where.
    doubled: dict[str, str] = {}
    for number, life in enumerate(lives):
        _read(verdict, life, number, asked, runs, doubled)
    for name, call in asked.items():
        _judge_call(verdict, name, call, list(runs.get(name, {}).values()))
    verdict.violations += [
        f"{name}: began at {where} while it ran there"
        for name, where in doubled.items()
        if name in asked and asked[name].kind not in REPEATED
    ]
    for name in runs.keys() - asked.keys():
        verdict.violations.append(f"{name}: was executed, and nobody asked for it")
    return verdict


def _read(
    verdict: Verdict,
    life: Life,
    number: int,
    asked: dict[str, Asked],
    runs: Mapping[str, Mapping[int, list[str]]],
    doubled: dict[str, str],
) -> None:
    for what, name, *rest in life.entries:
        if what == "ask":
            call = asked.setdefault(name, Asked(rest[0], life.name, life.killed))
            call.told.append(("nothing", None))
        elif what == "told":
            asked[name].told[-1] = (rest[0], rest[1])
        elif what == "run":
            if _RUNNING in runs[name][number]:
                doubled[name] = life.name
            runs[name][number].append(_RUNNING)
        elif what == "end":
            hows = runs[name][number]
            hows[hows.index(_RUNNING)] = rest[0]
        else:
            verdict.violations.append(f"{name}: {life.name} saw that {rest[0]}")
    if not life.killed:
        verdict.violations += [
            f"{name}: began at {life.name} and never ended"
            for name, lives in runs.items()
            if _RUNNING in lives.get(number, ())
        ]


def _judge_call(verdict: Verdict, name: str, call: Asked, runs: Sequence[Sequence[str]]) -> None:
    count = sum(map(len, runs))
    verdict.operations += len(call.told)
    verdict.executed[call.kind] += count
    for outcome, _ in call.told:
        verdict.outcomes[call.kind][outcome] += 1

    def violated(text: str) -> None:
        told = ", ".join(_said(outcome, may) for outcome, may in call.told)
        verdict.violations.append(
            f"{name}: {text} ({call.kind}, asked by {call.by}, told {told}; executed {count} times)"
        )

    most = count
    if call.kind == KEYED:
        most = max((len([how for how in hows if how != CANCELLED]) for hows in runs), default=0)
    if most > 1 and call.kind not in REPEATED:
        violated("was executed more than once")
    answered = any(outcome == OK or outcome in FROM_HANDLER for outcome, _ in call.told)
    if answered and not count and call.kind not in UNANSWERED:
        violated("was told of as executed, and was not")
    if count and all(may is False for _, may in call.told):
        violated("was told of as never begun, and was executed")
    if not call.killed and any(outcome == "nothing" for outcome, _ in call.told):
        violated("ended for its caller with nothing")


def _said(outcome: str, may: bool | None) -> str:
    return outcome + {None: "", True: " (may have executed)", False: " (not executed)"}[may]
