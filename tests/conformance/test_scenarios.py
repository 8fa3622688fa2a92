"""The scenarios are well-formed and leave no rule out; what is wrong in a file is said with its place."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

from duplex.conformance import Scenario, ScenarioError, load, make_service, select
from duplex.conformance._commands import COMMANDS, LIMITS, NOTIFY_OVERHEAD, OVERHEAD
from tests.conformance.helpers import SCENARIOS
from tests.meta.layering import ROOT, imports_of, module_name, python_files

SPEC: Final = ROOT / "spec"
FOLDER: Final = SPEC / "scenarios"
UNOBSERVABLE: Final = json.loads((FOLDER / "unobservable.json").read_text(encoding="utf-8"))
DMTP: Final = (SPEC / "dmtp.md").read_text(encoding="utf-8")


def excused() -> set[str]:
    return {entry["rule"] for entry in UNOBSERVABLE["rules"]}


# -- nothing is left out -----------------------------------------------------------------------------------


def test_every_violation_is_covered_or_excused() -> None:
    numbers = set(re.findall(r"^\| (V\d+) \|", DMTP, flags=re.MULTILINE))
    assert len(numbers) == 30
    covered = {number for scenario in SCENARIOS.values() for number in scenario.violations}
    assert covered <= numbers
    assert numbers - covered == {rule for rule in excused() if rule.startswith("V")}


@pytest.mark.parametrize("document", ["dmtp", "drpc"])
def test_every_section_is_covered_or_excused(document: str) -> None:
    text = (SPEC / f"{document}.md").read_text(encoding="utf-8")
    sections = {f"{document}/{number}" for number in re.findall(r"^##+ (\d+(?:\.\d+)?) ", text, re.MULTILINE)}
    covered = {scenario.id.rpartition("/")[0] for scenario in SCENARIOS.values()}
    covered |= {re.sub(r"\.\d+$", "", section) for section in covered}
    assert sections - covered == {rule for rule in excused() if rule in sections}


def test_every_section_on_errors_is_covered_or_excused() -> None:
    headings = re.findall(r"^## (.*)$", (SPEC / "errors.md").read_text(encoding="utf-8"), re.MULTILINE)
    covered = {scenario.section for scenario in SCENARIOS.values()}
    left = {f"errors/{title}" for title in headings if f"errors.md status {title}" not in covered}
    assert left == {rule for rule in excused() if rule.startswith("errors/")}


def test_headings_are_those_of_the_specification() -> None:
    for scenario in SCENARIOS.values():
        document, number, title = re.fullmatch(r"(\w+\.md) ([\w.]+) (.*)", scenario.section).groups()  # type: ignore[union-attr]
        level = "###" if "." in number else "##"
        heading = f"## {title}" if number == "status" else f"{level} {number} {title}"
        assert heading in (SPEC / document).read_text(encoding="utf-8").splitlines()


def test_every_excuse_has_a_reason() -> None:
    assert all(entry.keys() == {"rule", "what", "why"} and entry["why"] for entry in UNOBSERVABLE["rules"])


# -- the scenarios are about what exists ---------------------------------------------------------------------


def test_methods_are_those_that_the_service_has() -> None:
    ours = set(make_service().methods)
    documented = set(
        re.findall(r"^\| `(\w+)` \|", (FOLDER / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    needed = {need for scenario in SCENARIOS.values() for need in scenario.needs if ":" not in need}
    assert ours <= documented
    assert needed <= ours
    assert ours - needed == {"methods"}


@pytest.mark.parametrize("name", SCENARIOS)
def test_what_a_scenario_calls_it_needs(name: str) -> None:
    scenario = SCENARIOS[name]
    called = set(re.findall(r'\["OPEN", [^,]*, "conformance\.(\w+)"', json.dumps(scenario.steps)))
    called &= set(make_service().methods)
    if "V26" in scenario.violations or name == "dmtp/5.3/refused-at-once":
        return  # refused before the method matters
    assert called <= set(scenario.needs)


def test_commands_are_those_of_the_specification() -> None:
    named = {int(number): name for name, number in re.findall(r"\*\*`(\w+)`\*\* = (\d+)", DMTP)}
    assert named == {number: name for number, (name, _) in enumerate(COMMANDS)}
    for name, fields in COMMANDS:
        table = re.search(rf"\*\*`{name}`\*\* = .*?\n\n(?:\|[^\n]*\n)+", DMTP, re.DOTALL)
        if table is not None and name != "PONG":
            rows = re.findall(r"^\| (\w+) \|", table[0], re.MULTILINE)
            assert len(rows) - 1 == len(fields), name  # the head of the table is a row too


def test_limits_are_those_of_the_specification() -> None:
    table = re.findall(r"^\| `(\w+)` \| [^|]* \| (\d+) \|", DMTP, re.MULTILINE)
    assert {name: int(value) for name, value in table} == LIMITS
    assert f"**{OVERHEAD}**, or of **{NOTIFY_OVERHEAD}**" in DMTP


def test_the_tool_knows_nothing_of_what_it_tries() -> None:
    for path in python_files("duplex/conformance"):
        module = module_name(path)
        found = {
            imported.module
            for imported in imports_of(
                path.read_text(encoding="utf-8"), module, is_package=path.name == "__init__.py"
            )
            if imported.distribution == "duplex" and not imported.module.startswith("duplex.conformance")
        }
        assert found == ({"duplex"} if path.name == "_service.py" else set()), module


# -- a file that is wrong --------------------------------------------------------------------------------------

GOOD: Final = {
    "id": "dmtp/7/x",
    "title": "x",
    "rule": "It MUST.",
    "level": "MUST",
    "steps": [{"alive": True}],
}


def read(folder: Path, *scenarios: Any, **fields: Any) -> list[Scenario]:
    content = {
        "document": "dmtp",
        "section": "7",
        "title": "Liveness",
        "scenarios": list(scenarios),
        **fields,
    }
    (folder / "file.json").write_text(json.dumps(content))
    return load(folder)


def test_a_good_file_is_read(tmp_path: Path) -> None:
    [scenario] = read(tmp_path, GOOD)
    assert (scenario.id, scenario.section, scenario.role) == ("dmtp/7/x", "dmtp.md 7 Liveness", "either")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"id": "dmtp/8/x"}, r"dmtp/8/x: the id begins with dmtp/7/ in file\.json"),
        ({"id": 5}, r"file\.json: a scenario without an id"),
        ({"level": "MAY"}, "dmtp/7/x: the level is MUST or SHOULD, not 'MAY'"),
        ({"level": "SHOULD"}, "dmtp/7/x: the rule has the word SHOULD in it"),
        ({"needs": ["kodec:msgpack"]}, "dmtp/7/x: there is no need 'kodec:msgpack'"),
        ({"role": "broker"}, "dmtp/7/x: there is no role 'broker'"),
        ({"colour": "red"}, "dmtp/7/x: has colour, which means nothing"),
        ({"steps": []}, "dmtp/7/x: has no steps"),
        ({"steps": [{"alive": True}, {"dance": True}]}, "dmtp/7/x: step 2 does not have exactly one of send"),
        ({"steps": [{"alive": True, "broken": True}]}, "step 1 does not have exactly one of"),
        ({"steps": [{"alive": True, "repeat": 2}]}, "step 1: alive takes no repeat"),
    ],
)
def test_a_bad_scenario_is_named(fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=message):
        read(tmp_path, {**GOOD, **fields})


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="dmtp/7/x: lacks rule"):
        read(tmp_path, {key: value for key, value in GOOD.items() if key != "rule"})


def test_two_of_a_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="dmtp/7/x: there are two"):
        read(tmp_path, GOOD, GOOD)


def test_a_file_of_another_shape_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"file\.json: a map of document"):
        read(tmp_path, GOOD, more=1)
    (tmp_path / "file.json").write_text("{")
    with pytest.raises(ScenarioError, match=r"file\.json: not JSON"):
        load(tmp_path)


def test_an_empty_folder_has_no_scenarios(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="no scenarios in"):
        load(tmp_path)


# -- choosing --------------------------------------------------------------------------------------------------


def test_scenarios_are_chosen_by_prefix_and_by_pattern() -> None:
    all_of_them = list(SCENARIOS.values())
    assert select(all_of_them, []) == all_of_them
    assert [found.id for found in select(all_of_them, ["dmtp/7/pong"])] == ["dmtp/7/pong"]
    assert {found.id.split("/")[1] for found in select(all_of_them, ["dmtp/6", "drpc/10.2/"])} == {
        "6",
        "10.2",
    }
    assert [found.id for found in select(all_of_them, ["*/V10"])] == ["dmtp/11/V10"]
    with pytest.raises(ScenarioError, match="no scenario matches 'dmtp/77'"):
        select(all_of_them, ["dmtp/77"])
