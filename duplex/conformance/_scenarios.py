"""Scenarios as data: found, read from JSON and checked, so that a slip in one is an error with its place."""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from duplex.conformance._values import ScenarioError

#: Each step is an object with one of these, and with some of what may accompany it.
STEPS: Final[Mapping[str, frozenset[str]]] = {
    "send": frozenset({"attachments", "repeat", "batches"}),
    "frames": frozenset(),
    "expect": frozenset({"repeat", "in_any_order", "ignoring"}),
    "nothing": frozenset({"ignoring"}),
    "alive": frozenset(),
    "broken": frozenset(),
    "over": frozenset(),
    "refused": frozenset(),
    "holds": frozenset(),
    "reconnect": frozenset(),
}

_REQUIRED: Final = frozenset({"id", "title", "rule", "level", "steps"})
_OPTIONAL: Final = frozenset({"role", "needs", "violations", "handshake", "hello", "at_most"})
_LEVELS: Final = ("MUST", "SHOULD")
_NEEDS: Final = re.compile(r"\w+|(?:codec|service|feature|without):.+")
_ROLES: Final = ("either", "binding", "connecting")

#: In an installed package the scenarios are beside this module; in a checkout they are part of the specification.
_PLACES: Final = (Path(__file__).with_name("scenarios"), Path(__file__).parents[2] / "spec" / "scenarios")


@dataclasses.dataclass(frozen=True)
class Scenario:
    """One rule of the specification, as steps that show whether it is kept.

    Attributes:
        id: ``document/section/name``; never given to another scenario.
        title: what it is about, in a few words.
        rule: the rule in one sentence, with ``MUST`` or ``SHOULD`` as the specification has it.
        level: ``MUST`` or ``SHOULD``.
        section: the heading of the part of the specification that it belongs to.
        role: the side of the link that the implementation has to be: ``either``, ``binding`` or ``connecting``.
        needs: what the implementation has to offer: methods of the service ``conformance``, ``codec:NAME``,
            ``service:NAME`` and ``feature:NAME``; and ``without:NAME``, a feature that it must not have.
        violations: the numbers of dmtp.md, section 11, that it commits.
        handshake: whether the link is open before the first step.
        at_most: pairs of numbers, of which each first has to be at most the second; otherwise the limits of the
            implementation make the scenario impossible.
        hello: fields of this side's ``HELLO`` that are not the usual ones.
        steps: what happens, in order.
    """

    id: str
    title: str
    rule: str
    level: str
    section: str
    steps: Sequence[Mapping[str, Any]]
    role: str = "either"
    needs: Sequence[str] = ()
    violations: Sequence[str] = ()
    at_most: Sequence[Sequence[Any]] = ()
    handshake: bool = True
    hello: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def load(folder: Path | None = None) -> list[Scenario]:
    """Read all scenarios, in the order of the specification.

    Args:
        folder: where they are; those of this distribution by default.

    Raises:
        ScenarioError: there are none, or one is malformed; the message says where.
    """
    if folder is None:
        folder = next((place for place in _PLACES if place.is_dir()), None)
        if folder is None:
            raise ScenarioError("the scenarios are missing from this installation")
    files = sorted(path for path in folder.glob("*.json") if path.name != "unobservable.json")
    if not files:
        raise ScenarioError(f"no scenarios in {folder}")
    found = [scenario for file in files for scenario in _read_file(file)]
    seen: set[str] = set()
    for scenario in found:
        if scenario.id in seen:
            raise ScenarioError(f"{scenario.id}: there are two scenarios of this name")
        seen.add(scenario.id)
    return found


def select(scenarios: Iterable[Scenario], patterns: Sequence[str]) -> list[Scenario]:
    """Return the scenarios whose id matches one of the patterns, or has it as its beginning; all without any.

    Raises:
        ScenarioError: a pattern matches nothing.
    """
    scenarios = list(scenarios)
    if not patterns:
        return scenarios
    chosen: set[str] = set()
    for pattern in patterns:
        matching = {
            scenario.id
            for scenario in scenarios
            if fnmatch.fnmatchcase(scenario.id, pattern)
            or scenario.id.startswith(f"{pattern.removesuffix('/')}/")
        }
        if not matching:
            raise ScenarioError(f"no scenario matches {pattern!r}; --list shows all")
        chosen |= matching
    return [scenario for scenario in scenarios if scenario.id in chosen]


def _read_file(path: Path) -> list[Scenario]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ScenarioError(f"{path.name}: not JSON: {error}") from None
    if not isinstance(content, dict) or content.keys() != {"document", "section", "title", "scenarios"}:
        raise ScenarioError(f"{path.name}: a map of document, section, title and scenarios is needed")
    prefix = f"{content['document']}/{content['section']}"
    heading = f"{content['document']}.md {content['section']} {content['title']}"
    return [_read_scenario(path.name, prefix, heading, fields) for fields in content["scenarios"]]


def _read_scenario(file: str, prefix: str, heading: str, fields: Any) -> Scenario:
    name = fields.get("id") if isinstance(fields, dict) else None
    if not isinstance(name, str):
        raise ScenarioError(f"{file}: a scenario without an id: {str(fields)[:80]}")

    def check(condition: object, problem: str) -> None:
        if not condition:
            raise ScenarioError(f"{name}: {problem}")

    check(re.match(rf"{re.escape(prefix)}(\.\d+)?/", name), f"the id begins with {prefix}/ in {file}")
    check(fields.keys() >= _REQUIRED, f"lacks {', '.join(sorted(_REQUIRED - fields.keys()))}")
    unknown = fields.keys() - _REQUIRED - _OPTIONAL
    check(not unknown, f"has {', '.join(sorted(unknown))}, which means nothing")
    check(fields["level"] in _LEVELS, f"the level is MUST or SHOULD, not {fields['level']!r}")
    check(fields["level"] in fields["rule"], f"the rule has the word {fields['level']} in it")
    check(fields.get("role", "either") in _ROLES, f"there is no role {fields.get('role')!r}")
    for need in fields.get("needs", ()):
        check(_NEEDS.fullmatch(need), f"there is no need {need!r}")
    check(isinstance(fields["steps"], list) and fields["steps"], "has no steps")
    for number, step in enumerate(fields["steps"], 1):
        verbs = step.keys() & STEPS.keys() if isinstance(step, dict) else set()
        check(len(verbs) == 1, f"step {number} does not have exactly one of {', '.join(STEPS)}")
        [verb] = verbs
        extra = step.keys() - {verb} - STEPS[verb]
        check(not extra, f"step {number}: {verb} takes no {', '.join(sorted(extra))}")
    return Scenario(section=heading, **fields)
