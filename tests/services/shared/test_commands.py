"""What the commands of services have in common: settings from a file, by the names that the command line has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

import duplex
from duplex_services._shared._commands import take_settings


@click.group("thing")
@click.pass_context
def commands(context: click.Context) -> None:
    take_settings(context, "thing", ("run", "look"))


@commands.command("run")
@click.option("--bind", "binds", multiple=True)
@click.option("--store", "url")
@click.option("-q", "--be-quiet", is_flag=True)
@click.option("--size", type=int, default=1)
def run_command(**given: Any) -> None:
    click.echo(repr(sorted(given.items())))


@commands.command("look")
@click.option("--store", "url")
def look_command(**given: Any) -> None:
    click.echo(repr(sorted(given.items())))


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "duplex").mkdir()
    return tmp_path / "duplex" / "thing.toml"


def told(*words: str) -> str:
    from click.testing import CliRunner

    result = CliRunner().invoke(commands, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output.strip()


def test_options_are_called_as_on_the_command_line(file: Path) -> None:
    file.write_text('bind = ["tcp://a:1", "tcp://a:2"]\nstore = "memory:"\nbe-quiet = true\nsize = 3\n')
    assert told("run") == str(
        [("be_quiet", True), ("binds", ("tcp://a:1", "tcp://a:2")), ("size", 3), ("url", "memory:")]
    )
    # What the command line says comes first; and a command takes what it has of them.
    assert "'url', 'other'" in told("run", "--store", "other")
    assert told("look") == "[('url', 'memory:')]"


def test_one_value_is_enough_where_several_may_be(file: Path) -> None:
    file.write_text('bind = "tcp://a:1"\nbe_quiet = false\n')
    assert "('binds', ('tcp://a:1',))" in told("run")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('stroe = "memory:"', r"thing\.toml: 'stroe' is no option of `thing run`; there are be-quiet, bind,"),
        ('binds = ["tcp://a:1"]\nx = 1', "'binds', 'x' is no option"),
        ('store = ["a", "b"]', "store is one value, not"),
        ("[bind]\na = 1", "bind is one value, not"),
        ("bind = ", r"thing\.toml: "),
    ],
)
def test_what_makes_no_sense_is_told(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(duplex.ConfigurationError, match=message):
        told("run")


def test_without_a_file_nothing_is_taken(file: Path) -> None:
    assert told("look") == "[('url', None)]"
