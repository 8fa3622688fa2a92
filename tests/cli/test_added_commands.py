"""Commands of other packages: found by name, imported when asked for, and what is wrong with one is told."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from click.testing import CliRunner

from duplex.cli._commands import GROUP, Added, added_commands
from duplex.cli._errors import CommandError
from duplex.cli._main import commands

MODULE = """
import click

@click.command()
@click.argument("word")
def hello(word):
    click.echo(f"hello {word}")

nothing = 5
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A distribution that adds commands."""
    (tmp_path / "added_module_for_tests.py").write_text(MODULE)
    info = tmp_path / "some_tools-1.2.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text(
        "[console_scripts]\nhello = none:none\n\n"
        f"[{GROUP}]\n# a comment\nhello = added_module_for_tests:hello\n"
        "nothing=added_module_for_tests:nothing\nmissing = no_such_module_for_tests:x\n"
        "serve = added_module_for_tests:hello\n[other]\nx = y:z\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("added_module_for_tests", None)


def test_it_finds_what_the_standard_library_finds() -> None:
    assert {(added.name, added.value) for added in added_commands()} == {
        (point.name, point.value) for point in entry_points(group=GROUP)
    }
    assert "discovery" in {added.name for added in added_commands()}


def test_an_added_command_runs(installed: Path) -> None:
    assert Added("hello", "added_module_for_tests:hello", "some-tools") in set(added_commands())
    result = CliRunner().invoke(commands, ["hello", "world"])
    assert (result.output, result.exit_code) == ("hello world\n", 0)


def test_help_names_added_commands_and_imports_none(installed: Path) -> None:
    result = CliRunner().invoke(commands, ["--help"])
    assert "Services:" in result.output
    assert "hello" in result.output
    assert "Of some-tools: see its own --help." in result.output
    assert "added_module_for_tests" not in sys.modules


def test_own_commands_come_first(installed: Path) -> None:
    result = CliRunner().invoke(commands, ["serve", "--help"])
    assert "TARGET" in result.output


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "missing",
            "the command 'missing' of some-tools cannot be loaded: ModuleNotFoundError: No module named",
        ),
        ("nothing", "which is to be the command 'nothing', is a int and no click.Command"),
    ],
)
def test_what_is_wrong_with_an_added_command_is_told(name: str, message: str, installed: Path) -> None:
    result = CliRunner().invoke(commands, [name])
    assert isinstance(result.exception, CommandError)
    assert message in str(result.exception)


def test_an_unknown_command_is_an_error_of_use(installed: Path) -> None:
    result = CliRunner().invoke(commands, ["frobnicate"])
    assert result.exit_code == 2
    assert "No such command 'frobnicate'" in result.output


def test_what_cannot_be_read_adds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "bad-1.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_bytes(b"[duplex.commands]\n\xff = x:y\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "none")
    assert "bad" not in {added.distribution for added in added_commands()}
