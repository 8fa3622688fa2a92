"""Commands that other packages add: ``duplex NAME …``, found through the entry-point group ``duplex.commands``.

An entry point names a ``click.Command``. It is imported when its command is asked for, and not before, so that what nobody uses
costs nothing.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from duplex.cli._errors import FAILED, CommandError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

GROUP: Final = "duplex.commands"


class Added(NamedTuple):
    """A command that another package adds."""

    name: str
    #: ``module:attribute``.
    value: str
    distribution: str


class Commands(click.Group):
    """The commands of this package, and those of others."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; one of this package's if there are two of the same name."""
        found = super().get_command(ctx, cmd_name)
        if found is not None:
            return found
        return next((load(added) for added in added_commands() if added.name == cmd_name), None)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Complete the names of all commands, with those of others."""
        from click.shell_completion import CompletionItem

        found = super().shell_complete(ctx, incomplete)
        known = {item.value for item in found}
        others = {added.name for added in added_commands() if added.name.startswith(incomplete)}
        return [*found, *(CompletionItem(name) for name in sorted(others - known))]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List all commands; of those of others, where they are from."""
        super().format_commands(ctx, formatter)
        rows = sorted(
            {(added.name, f"Of {added.distribution}: see its own --help.") for added in added_commands()}
        )
        if rows:
            with formatter.section("Services"):
                formatter.write_dl(rows)


def added_commands() -> Iterator[Added]:
    """Return what the installed distributions add.

    ``importlib.metadata`` would say the same, and its import takes longer than all that help and wrong command lines need.
    """
    for folder in dict.fromkeys(sys.path):
        try:
            names = sorted(os.listdir(folder or "."))
        except OSError:
            continue  # a zip file, or nothing any more
        for name in names:
            if name.endswith(".dist-info"):
                text = _read(os.path.join(folder, name, "entry_points.txt"))
                yield from _entries(text, name.removesuffix(".dist-info").rpartition("-")[0])


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return ""


def _entries(text: str, distribution: str) -> Iterator[Added]:
    group = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            group = line.strip("[]").strip()
        elif group == GROUP and "=" in line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            yield Added(name.strip(), value.strip(), distribution.replace("_", "-"))


def load(added: Added) -> click.Command:
    """Import a command.

    Raises:
        CommandError: that fails, or it is none.
    """
    module, _, attribute = added.value.partition(":")
    try:
        command = getattr(importlib.import_module(module), attribute)
    except Exception as error:
        raise CommandError(
            f"the command {added.name!r} of {added.distribution} cannot be loaded: {type(error).__name__}: {error}",
            FAILED,
        ) from error
    if not isinstance(command, click.Command):
        raise CommandError(
            f"{added.value} of {added.distribution}, which is to be the command {added.name!r}, is a "
            f"{type(command).__name__} and no click.Command",
            FAILED,
        )
    return command
