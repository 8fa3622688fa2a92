"""What the commands of all services have in common: their settings file, their output, and how they run."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import msgspec
import trio

import duplex
from duplex_services._shared._places import settings_files

#: Of a process that found nothing of what it was asked for.
NOT_FOUND: Final = 1

_T = TypeVar("_T")


# -- settings --------------------------------------------------------------------------------------------


def take_settings(context: click.Context, service: str, names: Iterable[str]) -> None:
    """Have commands of a group take what their command line does not say from the service's file.

    Args:
        context: of the group.
        service: whose file it is: ``/etc/duplex/SERVICE.toml``, or that below ``$XDG_CONFIG_HOME``.
        names: of the commands, which have the same options, or the first of them more.

    Raises:
        ConfigurationError: the file is there and is no TOML, or says something that is no option.
    """
    found = _read_settings(service)
    if found is None:
        return
    path, settings = found
    assert isinstance(context.command, click.Group)
    chosen = {name: context.command.commands[name] for name in names}
    first = next(iter(chosen))
    known = _options_of(chosen[first])
    given = {key.replace("-", "_"): value for key, value in settings.items()}
    if unknown := [key for key in settings if key.replace("-", "_") not in known]:
        raise duplex.ConfigurationError(
            f"{path}: {', '.join(map(repr, unknown))} is no option of `{context.command_path} {first}`; "
            f"there are {', '.join(name.replace('_', '-') for name in sorted(known))}"
        )
    context.default_map = {name: _defaults(command, given, path) for name, command in chosen.items()}


def _read_settings(service: str) -> tuple[Path, dict[str, Any]] | None:
    for path in settings_files(service):
        try:
            return path, tomllib.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise duplex.ConfigurationError(f"{path}: {error}") from error
    return None


def _options_of(command: click.Command) -> dict[str, click.Option]:
    """Return the options of a command by their names on the command line, with ``_`` for ``-``."""
    return {
        max(param.opts, key=len).lstrip("-").replace("-", "_"): param
        for param in command.params
        if isinstance(param, click.Option)
    }


def _defaults(command: click.Command, given: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return what is given for a command, by the names that it has for its options itself."""
    defaults: dict[str, Any] = {}
    for name, option in _options_of(command).items():
        if name not in given or option.name is None:
            continue
        value = given[name]
        if isinstance(value, dict) or (isinstance(value, list) and not option.multiple):
            raise duplex.ConfigurationError(f"{path}: {name.replace('_', '-')} is one value, not {value!r}")
        defaults[option.name] = [value] if option.multiple and not isinstance(value, list) else value
    return defaults


# -- output ----------------------------------------------------------------------------------------------


def announce(line: str) -> None:
    """Write a line to stdout, for who waits for it."""
    click.echo(line)
    sys.stdout.flush()


def show(output: str, value: object, as_text: Callable[[Any], str]) -> None:
    """Write a value to stdout: as JSON, or as a function makes it text; nothing if that is empty."""
    text = show_json(value) if output == "json" else as_text(value)
    if text:
        click.echo(text)


def show_json(value: object) -> str:
    """Return a value as JSON, in a line."""
    # In JSON whatever is not printable is inside of a text.
    return "".join(
        one if one.isprintable() else json.dumps(one)[1:-1] for one in msgspec.json.encode(value).decode()
    )


# -- running ---------------------------------------------------------------------------------------------


def run(function: Callable[[], Awaitable[_T]]) -> _T:
    """Run something, and raise what it raises as it is, out of whatever group."""
    try:
        return trio.run(function)
    except BaseExceptionGroup as group:
        found: BaseException = group
        while isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
        raise found from None
