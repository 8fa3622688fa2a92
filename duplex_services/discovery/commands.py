"""``duplex discovery …``: serve a directory, and look into one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from duplex.cli.options import load_function, log_option, permission_options, server_tls_options, tls
from duplex_services._shared._commands import announce, run, take_settings
from duplex_services._shared._places import socket_endpoint, state_folder
from duplex_services.discovery._backup_commands import backup_command, restore_command
from duplex_services.discovery._change_commands import (
    deregister_command,
    drain_command,
    leader_command,
    maintain_command,
    register_command,
)
from duplex_services.discovery._front_options import front_options, fronts_of
from duplex_services.discovery._look_commands import (
    diff_command,
    explain_command,
    ls_command,
    show_command,
    watch_command,
)
from duplex_services.discovery._model import MOST_ENTRIES


@click.group("discovery")
@click.pass_context
def commands(context: click.Context) -> None:
    """Serve a directory of services, or look into one.

    Options of `run`, `backup` and `restore` may also be in /etc/duplex/discovery.toml, or in DUPLEX_DISCOVERY_STORE and the like.
    """
    take_settings(context, "discovery", ("run", "serve", "backup", "restore"))


@commands.command("run")
@click.option(
    "--store",
    envvar="DUPLEX_DISCOVERY_STORE",
    metavar="URL",
    help="Where the directory is kept: sqlite:PATH, consul://, consul-catalog://, etcd://, zookeeper://, duplex+tcp://.  "
    "[default: a file in the state folder]",
)
@click.option(
    "--bind",
    "binds",
    multiple=True,
    envvar="DUPLEX_DISCOVERY_BIND",
    metavar="ENDPOINT",
    help="Where to listen besides this host's Unix socket; repeatable.",
)
@click.option(
    "--name",
    envvar="DUPLEX_DISCOVERY_NAME",
    help="The server's name, which it keeps over restarts.  [default: drawn by lot once, and kept in the state folder]",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="DUPLEX_DISCOVERY_STATE",
    help="The state folder.  [default: as its documentation says]",
)
@front_options
@click.option("--no-socket", is_flag=True, help="Do not listen at this host's Unix socket.")
@click.option("--no-checks", is_flag=True, help="Make no health checks; other servers do.")
@click.option(
    "--max-entries",
    type=click.IntRange(min=1),
    default=MOST_ENTRIES,
    show_default=True,
    envvar="DUPLEX_DISCOVERY_MAX_ENTRIES",
    help="Instances and services, together, beyond which no more are taken.",
)
@server_tls_options
@permission_options("DUPLEX_DISCOVERY_")
@log_option
def run_command(
    store: str | None,
    binds: tuple[str, ...],
    name: str | None,
    state: Path | None,
    no_socket: bool,
    no_checks: bool,
    max_entries: int,
    authenticator: str | None,
    authorize: str | None,
    **fronts: Any,
) -> int:
    """Serve the directory until a signal comes.

    The endpoints go to stdout, one a line, once all of them are bound. Without options the directory is a file in
    the state folder, and is served at this host's Unix socket alone.

    With --authorize it decides who may call what: changes require the permission discovery:register or discovery:operate, and
    looking up requires none. Without it everyone who reaches the endpoints may do everything.
    """
    from duplex_services.discovery._running import Settings, run_server

    sockets = () if no_socket else (socket_endpoint("discovery"),)
    if not (*sockets, *binds) and not fronts["http"] and not fronts["dns"]:
        raise click.UsageError("with --no-socket it listens nowhere: say where with --bind, --http or --dns")
    settings = Settings(
        store,
        (*sockets, *binds),
        name,
        state or state_folder("discovery"),
        checks=not no_checks,
        max_entries=max_entries,
        fronts=fronts_of(fronts),
        authenticator=load_function(authenticator),
        authorize=load_function(authorize),
        tls=tls(),
    )
    run(lambda: run_server(settings, announce))
    return 0


for command in (
    backup_command,
    deregister_command,
    diff_command,
    drain_command,
    explain_command,
    leader_command,
    ls_command,
    maintain_command,
    register_command,
    restore_command,
    show_command,
    watch_command,
):
    commands.add_command(command)
commands.add_command(run_command, "serve")
