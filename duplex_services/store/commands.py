"""``duplex store …``: serve a store to other processes, back it up, and put a backup back."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from duplex.cli.options import log_option
from duplex_services._shared._commands import announce, run, take_settings
from duplex_services._shared._places import made_folder, socket_endpoint, state_folder

#: Seconds between two lines of progress, on a terminal.
_TELL_EVERY: Final = 0.2

F = TypeVar("F", bound=Callable[..., Any])


def _store_option(command: F) -> F:
    return click.option(
        "--store",
        "url",
        envvar="DUPLEX_STORE_STORE",
        metavar="URL",
        help="Which: sqlite:PATH, duplex+tcp://, duplex+ipc://, consul://, etcd://, zookeeper://.  "
        "[default: a file in the state folder]",
    )(command)


_force_option = click.option("--force", is_flag=True, help="Replace what is there.")


@click.group("store")
@click.pass_context
def commands(context: click.Context) -> None:
    """Serve a store to other processes, back it up, and put a backup back.

    Options of `run`, `backup` and `restore` may also be in /etc/duplex/store.toml, or in DUPLEX_STORE_BIND and the like.
    """
    take_settings(context, "store", ("run", "serve", "backup", "restore"))


@commands.command("run")
@_store_option
@click.option(
    "--bind",
    "binds",
    multiple=True,
    envvar="DUPLEX_STORE_BIND",
    metavar="ENDPOINT",
    help="Where to listen besides this host's Unix socket; repeatable.",
)
@click.option("--no-socket", is_flag=True, help="Do not listen at this host's Unix socket.")
@log_option
def run_command(url: str | None, binds: tuple[str, ...], no_socket: bool) -> int:
    """Serve a store until a signal comes: others open it as duplex+tcp://HOST:PORT or duplex+ipc:///PATH.

    Those URLs go to stdout, one a line, once all are bound. Everyone who reaches them can read and change everything.
    """
    from duplex_services.store._running import serve_store

    sockets = () if no_socket else (socket_endpoint("store"),)
    if not (*sockets, *binds):
        raise click.UsageError("with --no-socket it listens nowhere: say where with --bind")
    run(lambda: serve_store(url or _own_file(), (*sockets, *binds), announce))
    return 0


commands.add_command(run_command, "serve")


@commands.command("backup")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_store_option
@_force_option
def backup_command(file: Path, url: str | None, force: bool) -> int:
    """Write all that the store holds at one moment into FILE.

    A process that has the store open goes on. FILE appears when it is whole, and is a store of its own: sqlite:FILE.
    """
    back_up_to(file, url or _own_file(), force=force)
    return 0


@commands.command("restore")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_store_option
@_force_option
def restore_command(file: Path, url: str | None, force: bool) -> int:
    """Put what is in FILE, a backup, into the store.

    The store may be of another kind than the one that the backup was made of. A file must not be in use.
    """
    restore_from(file, url or _own_file(), force=force)
    return 0


# -- also for the services that keep a store ---------------------------------------------------------------


def back_up_to(file: Path, url: str, *, force: bool) -> None:
    """Make a backup, and say what it holds."""
    from duplex_services.store.backups import back_up

    progress = _Progress()
    began = time.monotonic()
    try:
        made = run(lambda: back_up(url, file, replace=force, progress=progress))
    finally:
        progress.end()
    left_out = f", without {made.left_out} that are held by a lease" if made.left_out else ""
    click.echo(
        f"{file}: {made.keys} keys{left_out}, of revision {made.revision}; {made.size / 1024:.0f} KiB "
        f"in {time.monotonic() - began:.1f} s"
    )


def restore_from(file: Path, url: str, *, force: bool) -> None:
    """Put a backup back, and say what it held."""
    from duplex_services.store.backups import restore

    found = run(lambda: restore(file, url, replace=force))
    left_out = f", without {found.left_out} that were held by a lease" if found.left_out else ""
    click.echo(f"{found.keys} keys{left_out} are back, as of revision {found.revision}")


class _Progress:
    """Draws how far a copy is, in a line of a terminal."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()
        self._told = 0.0

    def __call__(self, done: int, whole: int) -> None:
        now = time.monotonic()
        if self._is_shown and now > self._told + _TELL_EVERY:
            self._told = now
            self._write(f"\r\x1b[K{100 * done // max(whole, 1)} % of {whole} pages")

    def end(self) -> None:
        """Erase it."""
        if self._told:
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        click.echo(text, nl=False, err=True)


def _own_file() -> str:
    return f"sqlite:{made_folder(state_folder('store')) / 'store.db'}"
