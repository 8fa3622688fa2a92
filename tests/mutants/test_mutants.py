"""The runner of mutants: what faults it makes, and that it tells those that are noticed from those that are not."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mutants.__main__ import ROOT, Copy, all_mutants, diff_of, load_equivalent, stages
from tests.mutants.coverage_map import Map
from tests.mutants.operators import Mutant, mutants_of, rank

FILE = "duplex/protocol/_flow.py"


def made(source: str) -> list[str]:
    """Return what a function of one line becomes."""
    text = textwrap.dedent(source).encode()
    return [mutant.apply(text).decode().splitlines()[-1].strip() for mutant in mutants_of("x.py", text)]


@pytest.mark.parametrize(
    ("source", "becomes"),
    [
        ("if a < b: x", ["if (a <= b): x", "if (a >= b): x"]),
        ("if a is None: x", ["if (a is not None): x"]),
        ("if a: x", ["if (not a): x"]),
        ("while not a: x", ["while (a): x"]),
        ("y = a and b", ["y = (a or b)"]),
        ("y = 3", ["y = (4)"]),
        ("y = True", ["y = (False)"]),
        ("y = a + b", ["y = (a - b)"]),
        ("y = a if b else c", ["y = (c if b else a)"]),
        ("y = min(a, b)", ["y = (max(a, b))"]),
        ("y: int | None = a", []),
        ("a.y = b", ["pass"]),
        ("a += b", ["pass", "a -= b"]),
        ("del a.y", ["pass"]),
        ("raise ValueError('x' + 1)", ["pass"]),
        ("a.b()", ["pass"]),
        ("await_(a)", ["pass"]),
        ("log.warning('%s', a)", []),
        ("assert a < b", []),
        ("raise AssertionError('never')", []),
        ("'''text'''", []),
        ("y = f'{a + b}'", []),
        ("def f(a=1): return a", ["def f(a=(2)): return a", "def f(a=1): return (None)"]),
        ("async def f(): await a()", ["async def f(): pass"]),
        ("def f(): return", ["def f(): pass"]),
        ("for x in y: continue", ["for x in y: break"]),
    ],
)
def test_faults(source: str, becomes: list[str]) -> None:
    assert made(source) == becomes


def test_an_exception_is_let_through() -> None:
    source = b"try:\n    pass\nexcept ValueError:\n    x = y\n"
    [mutant] = mutants_of("x.py", source)
    assert mutant.apply(source) == b"try:\n    pass\nexcept ValueError:\n    raise\n"


def test_every_fault_of_the_project_has_a_name_of_its_own_and_can_be_compiled() -> None:
    everything = all_mutants(None)
    assert len(everything) > 3000
    assert len({mutant.key for mutant in everything}) == len(everything)
    for mutant in sorted(everything, key=lambda mutant: rank(mutant, 1))[:100]:
        ast.parse(mutant.apply((ROOT / mutant.path).read_bytes()))
        assert f"+++ {mutant.path}" in diff_of(mutant)


def test_what_is_said_to_be_equivalent_is_there_and_has_a_reason() -> None:
    reasons = load_equivalent()
    assert reasons.keys() <= {mutant.key for mutant in all_mutants(None)}
    assert all(len(reason) > 20 for reason in reasons.values())


def test_order_of_those_that_stay_is_the_same() -> None:
    source = (ROOT / FILE).read_bytes()
    before, after = mutants_of(FILE, source), mutants_of(FILE, source + b"ADDED = [0.1, 0.2, 0.3]\n")
    assert len(after) == len(before) + 3
    order = [mutant.key for mutant in sorted(after, key=lambda mutant: rank(mutant, 7))]
    assert [key for key in order if "0." not in key] == [
        mutant.key for mutant in sorted(before, key=lambda mutant: rank(mutant, 7)) if "0." not in mutant.key
    ]


def test_the_most_telling_tests_come_first_and_slow_ones_last() -> None:
    lines = {"x.py": {1: ["all", "few", "slow"], 2: ["all", "slow"], 3: ["all"]}}
    which = Map(lines, {"slow"})
    assert which.tests_of("x.py", 1) == ["few", "all", "slow"]
    assert which.tests_of("x.py", 9) == which.tests_of("x.py", 1), "it runs when the file is imported"
    assert which.tests_of("y.py", 1) == []
    assert [chosen for chosen, _ in stages(which.tests_of("x.py", 1), which)] == [["few", "all"], ["slow"]]


def test_values_and_types_are_for_all_tests_of_their_folder() -> None:
    lines = {"a/values.py": {1: ["odd"]}, "a/b.py": {1: ["one"], 2: ["two"]}, "c/d.py": {1: ["other"]}}
    which = Map(lines, set(), ["a/values.py"])
    assert which.tests_of("a/values.py", 1) == ["odd", "one", "two"]
    assert which.tests_of("a/b.py", 1) == ["one"]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    one = Copy(tmp_path_factory.mktemp("mutants") / "copy")
    yield one
    one.close()


def judged(copy: Copy, was: str, becomes: str, tests: list[str]) -> tuple[str, str]:
    """Make a fault of one's own in a file, and return its fate and who noticed it."""
    source = (ROOT / FILE).read_bytes()
    begin = source.index(was.encode())
    mutant = Mutant(FILE, "", "own", 1, begin, begin + len(was.encode()), was, becomes)
    verdict = copy.judge(mutant, Map({FILE: {1: tests}}, set()))
    return verdict.fate, verdict.by


@pytest.mark.slow
def test_fates(copy: Copy) -> None:
    tests = [
        "tests/protocol/test_flow.py::" + name for name in names_of(ROOT / "tests/protocol/test_flow.py")
    ]
    line = "from __future__ import annotations\n"
    same = line + "# The same.\n"
    assert judged(copy, line, same, tests) == ("survived", "")
    assert judged(copy, line, line + "raise OSError\n", tests)[0] == "killed"
    assert judged(copy, line, same, tests) == ("survived", ""), "the other one was taken out"
    assert judged(copy, line, same, []) == ("not run", "")
    fate, by = judged(copy, "self.unconsumed -= cost", "self.unconsumed += cost", tests)
    assert fate == "killed"
    assert by in tests


def names_of(file: Path) -> list[str]:
    """Return the tests of a file that have no parameters."""
    return [
        node.name
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and not node.decorator_list
    ]
