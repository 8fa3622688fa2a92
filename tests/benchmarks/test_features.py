"""The table of features: the page is read right, all its cells have something behind them, and what is found is compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.features import __main__ as command
from benchmarks.features._checks import Checks, Finding, answer
from benchmarks.features._libraries import LIBRARIES, Library
from benchmarks.features._names import names_with
from benchmarks.features._page import PAGE, Cell, PageError, read

TABLE = """
| | Duplex | gRPC |
|---|---|---|
| unary calls | yes | **yes** |
| retries | part: of some | no ° |

| source | of |
|---|---|
| a README of 2020 | gRPC: retries |
"""


def directly(check: Callable[[], Any]) -> Any:
    return check()


def test_a_page_is_read() -> None:
    page = read(TABLE)
    assert page.cells == {
        ("unary calls", "Duplex"): Cell("yes", "", told=False),
        ("unary calls", "gRPC"): Cell("yes", "", told=False),
        ("retries", "Duplex"): Cell("part", "of some", told=False),
        ("retries", "gRPC"): Cell("no", "", told=True),
    }
    assert page.sources == {("retries", "gRPC"): "a README of 2020"}


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("| no °", "| perhaps", "'retries' of gRPC says 'perhaps'"),
        ("| retries |", "| unary calls |", "'unary calls' of Duplex stands there twice"),
        ("gRPC: retries", "gRPC: retries, retries", "'retries' of gRPC stands there twice"),
        ("| no °", "", "'retries' has 1 cells, and not 2"),
    ],
)
def test_a_page_that_cannot_be_read(before: str, after: str, message: str) -> None:
    with pytest.raises(PageError, match=message):
        read(TABLE.replace(before, after))


def test_every_cell_of_the_page_is_checked_or_has_a_source() -> None:
    assert command.gaps(read(PAGE.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("unary calls | yes | yes", "unary calls | yes | yes °", "but no source is named"),
        ("unary calls | yes | yes", "walks | yes | yes", "Duplex, walks: it is neither checked nor"),
        (
            "unary calls | yes | yes",
            "walks | yes | yes",
            "Duplex, unary calls: it is checked, but not in the page",
        ),
        ("a README of 2020 | gRPC: retries", "a README | gRPC: walks", "gRPC, walks: a source is named, but"),
        ("retries | part: of some", "retries | part", "Duplex, retries: it says part, but not which"),
        ("| no °", "| no", "gRPC, retries: a source is named, but the cell is not marked"),
        ("| no °", "| no °", "gRPC, retries: it is said to be from documentation, but it is checked"),
        ("| Duplex | gRPC |", "| Duplex | gRPZ |", "there is no library gRPZ; there are Duplex, gRPC"),
    ],
)
def test_gaps_are_told(before: str, after: str, problem: str) -> None:
    text = TABLE.replace("**yes**", "yes").replace(before, after)
    assert problem in "\n".join(command.gaps(read(text)))


@pytest.fixture
def checks() -> Checks:
    made = Checks(directly)

    @made.of("unary calls")
    def unary() -> bool:
        """Call something.

        And more.
        """
        return True

    made.of("streams", "retries")(lambda: answer(yes=False, part=True))
    made.of("health")(lambda: 1 / 0)
    made.of("names")(lambda: "perhaps")
    made.absent("walks", "benchmarks.features._page", "legs", "feet")
    made.absent("reads", "benchmarks.features._page", "feet", "tables")
    return made


def test_checks_answer_for_their_rows(checks: Checks) -> None:
    found = {finding.feature: finding for finding in checks.run()}
    assert {name: finding.answer for name, finding in found.items()} == {
        "unary calls": "yes",
        "streams": "part",
        "retries": "part",
        "health": None,
        "names": None,
        "walks": "no",
        "reads": None,
    }
    assert found["unary calls"].how == "Call something."
    assert "ZeroDivisionError" in found["health"].how
    assert "not 'perhaps'" in found["names"].how
    assert found["walks"].how.endswith("has 'legs' or 'feet' in it")
    assert "has names that may mean it: _tables" in found["reads"].how
    assert [finding.feature for finding in checks.run(lambda row: "al" in row)] == [
        "unary calls",
        "health",
        "walks",
    ]


def test_a_row_is_checked_once(checks: Checks) -> None:
    with pytest.raises(ValueError, match="'walks' is checked twice"):
        checks.of("walks")(lambda: True)


def test_names_of_packages_and_modules() -> None:
    assert names_with("benchmarks.features._names", ["names_w"]) == ["names_with"]
    assert "Checks" in names_with("benchmarks.features", ["checks"])
    with pytest.raises(ModuleNotFoundError, match="there is no module no_such_module"):
        names_with("no_such_module", ["a"])


def test_a_finding_is_compared() -> None:
    page, library = read(TABLE), LIBRARIES["duplex"]
    assert command.disagreement(page, library, Finding("retries", "part", "tried")) == ""
    assert "the page says part, found was yes: tried" in command.disagreement(
        page, library, Finding("retries", "yes", "tried")
    )
    assert "the check failed: KeyError" in command.disagreement(
        page, library, Finding("retries", None, "KeyError")
    )


def test_what_is_missing_is_told() -> None:
    absent = Library("nothing", "Nothing", (), ("no_such_module",))
    assert absent.missing.startswith("there is no module no_such_module")
    assert "apt-get install no-such-program" in Library("n", "N", (), (), "no-such-program").missing
    assert LIBRARIES["duplex"].missing == ""
    assert set(LIBRARIES["duplex"].versions) == {"duplex-rpc", "trio", "pyzmq"}


@pytest.mark.slow
def test_the_command_finds_what_the_page_says_of_duplex(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["duplex", "--only", "streams of"]) == 0, capsys.readouterr()
    assert "0 are not as the page says" in capsys.readouterr().out


@pytest.mark.slow
def test_the_command_fails_where_the_page_says_something_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "comparison.md"
    page.write_text(
        PAGE.read_text(encoding="utf-8").replace("| unary calls | yes |", "| unary calls | no |"),
        encoding="utf-8",
    )
    assert command.main(["duplex", "--only", "unary", "--page", str(page), "-v"]) == 1
    output = capsys.readouterr()
    assert "1 cells checked, 1 are not as the page says" in output.out
    assert "Duplex, unary calls: the page says no, found was yes" in output.err


def test_what_is_not_installed_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Library, "missing", "it is not there")
    assert command.main([]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{library.title} is left out: it is not there" for library in LIBRARIES.values()
    ]


def test_a_page_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--page", "no-such-page.md"]) == 2
    assert "no-such-page.md" in capsys.readouterr().err


def test_libraries_that_are_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["corba"])
    assert "'corba' is none of duplex, grpc" in capsys.readouterr().err


def test_checks_that_end_too_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LIBRARIES, "nothing", Library("nothing", "Nothing", (), ()))
    findings, failure = command.run(LIBRARIES["nothing"])
    assert findings == []
    assert failure.startswith("Nothing: the checks ended with status 2:")


def test_what_is_told_is_read_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["duplex", "--tell", "--only", "persistent"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert Finding(**json.loads(line)).answer == "no"
