"""``duplex discovery backup`` and ``restore``: what the directory's store holds, in a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from duplex_services._shared._places import made_folder, state_folder
from duplex_services.discovery._rules._catalogue import split_url

F = TypeVar("F", bound=Callable[..., Any])


def _options(command: F) -> F:
    for option in (
        click.argument("file", type=click.Path(path_type=Path, dir_okay=False)),
        click.option(
            "--store",
            envvar="DUPLEX_DISCOVERY_STORE",
            metavar="URL",
            help="Where the directory is kept.  [default: a file in the state folder]",
        ),
        click.option(
            "--state",
            type=click.Path(path_type=Path, file_okay=False),
            envvar="DUPLEX_DISCOVERY_STATE",
            help="The state folder.  [default: as its documentation says]",
        ),
        click.option("--force", is_flag=True, help="Replace what is there."),
    ):
        command = option(command)
    return command


@click.command("backup")
@_options
def backup_command(file: Path, store: str | None, state: Path | None, force: bool) -> int:
    """Write all that the directory's store holds at one moment into FILE, while servers go on."""
    from duplex_services.store.commands import back_up_to

    back_up_to(file, store_of(store, state), force=force)
    return 0


@click.command("restore")
@_options
def restore_command(file: Path, store: str | None, state: Path | None, force: bool) -> int:
    """Put what is in FILE, a backup, into the directory's store; of a file that is the store no server may be running."""
    from duplex_services.store.commands import restore_from

    restore_from(file, store_of(store, state), force=force)
    return 0


def store_of(store: str | None, state: Path | None) -> str:
    """Return the URL of the store in which the directory is kept."""
    if store is not None:
        return split_url(store)[0]
    return f"sqlite:{made_folder(state or state_folder('discovery')) / 'directory.db'}"
