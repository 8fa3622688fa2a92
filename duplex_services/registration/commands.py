"""``duplex registrator …``: list what runs, and say what would be listed, and why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from duplex.cli.options import (
    credentials,
    credentials_option,
    log_option,
    output_option,
    tls,
    tls_options,
)
from duplex_services._shared._commands import NOT_FOUND, announce, run, show, show_json, take_settings
from duplex_services._shared._places import state_folder
from duplex_services.registration._model import Finding, Options
from duplex_services.registration._open import Settings
from duplex_services.registration._showing import show_findings, show_plan, show_services

_ENVIRONMENT: Final = "DUPLEX_REGISTRATOR_"

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS: Final[list[tuple[str, dict[str, Any]]]] = [
    (
        "--docker",
        {
            "metavar": "URL",
            "default": "",
            "help": "The engine: unix:///run/docker.sock, tcp://HOST:PORT.  [default: DOCKER_HOST, else this host's]",
        },
    ),
    ("--no-docker", {"is_flag": True, "help": "Look at no engine."}),
    (
        "--files",
        {
            "multiple": True,
            "type": click.Path(path_type=Path),
            "metavar": "FOLDER",
            "help": "List also what the TOML files there say; repeatable.",
        },
    ),
    (
        "--discovery",
        {
            "multiple": True,
            "envvar": "DUPLEX_DISCOVERY",
            "metavar": "ENDPOINT",
            "help": "A server of discovery; repeatable.  [default: DUPLEX_DISCOVERY, or the Unix socket of this host's]",
        },
    ),
    (
        "--advertise",
        {
            "multiple": True,
            "metavar": "ADDRESS",
            "help": "This host's address for others, a network that it is in, or an interface; repeatable.  "
            "[default: the one from which others are reached]",
        },
    ),
    ("--hostname", {"default": "", "help": "This host's name; part of ids with --compat alone."}),
    ("--internal", {"is_flag": True, "help": "List containers' own addresses and ports."}),
    (
        "--network",
        {
            "multiple": True,
            "help": "Whose addresses are taken of a container in several networks, the first that it is in; repeatable.",
        },
    ),
    ("--explicit", {"is_flag": True, "help": "List only what has a SERVICE_NAME."}),
    (
        "--host-ports",
        {
            "type": click.Choice(["labelled", "exposed"]),
            "default": "labelled",
            "show_default": True,
            "help": "Of containers in the host's network list the ports that labels speak of, or all that are exposed.",
        },
    ),
    ("--tags", {"default": "", "metavar": "LIST", "help": "Tags of every service; a template."}),
    (
        "--ttl",
        {
            "type": click.FloatRange(min=0),
            "default": 0.0,
            "help": "Seconds that services stay if this process dies.  [default: 10, in discovery]",
        },
    ),
    (
        "--deregister",
        {
            "type": click.Choice(["always", "on-success"]),
            "default": "always",
            "show_default": True,
            "help": "After which exits services go.",
        },
    ),
    (
        "--keep-exited",
        {
            "type": click.FloatRange(min=0),
            "default": 0.0,
            "metavar": "SECONDS",
            "help": "How long what a stopped container had stays listed, as critical.",
        },
    ),
    (
        "--use-ip-from-label",
        {
            "default": "",
            "metavar": "LABEL",
            "help": "The address is the value of this label, up to its last slash.",
        },
    ),
    (
        "--ip",
        {
            "default": "",
            "metavar": "ADDRESS",
            "help": "Instead of the host's address, whatever a port is published at.",
        },
    ),
    ("--compat", {"type": click.Choice(["registrator"]), "help": "List as Registrator did."}),
    (
        "--interval",
        {
            "type": click.FloatRange(min=0.1),
            "default": 10.0,
            "show_default": True,
            "metavar": "SECONDS",
            "help": "Between two comparisons of all that runs with all that is listed; events are acted on at once.",
        },
    ),
    (
        "--state",
        {
            "type": click.Path(path_type=Path, file_okay=False),
            "help": "The state folder.  [default: as its documentation says]",
        },
    ),
]


def _options(command: F) -> F:
    for name, words in reversed(_OPTIONS):
        variable = _ENVIRONMENT + name.removeprefix("--").replace("-", "_").upper()
        command = click.option(name, **({"envvar": variable} | words))(command)
    return credentials_option(tls_options(command))


def _settings(targets: tuple[str, ...], given: dict[str, Any]) -> Settings:
    return Settings(
        targets=targets,
        discovery=given["discovery"],
        credentials=credentials(),
        tls=tls(),
        docker=None if given["no_docker"] else given["docker"],
        files=given["files"],
        advertise=given["advertise"],
        hostname=given["hostname"],
        state=given["state"] or state_folder("registrator"),
        interval=given["interval"],
        options=Options(
            compat=given["compat"] is not None,
            internal=given["internal"],
            explicit=given["explicit"],
            host_ports=given["host_ports"],
            networks=given["network"],
            tags=given["tags"],
            ttl=given["ttl"],
            deregister=given["deregister"],
            keep_exited=given["keep_exited"],
            address_label=given["use_ip_from_label"],
            host_address=given["ip"],
        ),
    )


@click.group("registrator")
@click.pass_context
def commands(context: click.Context) -> None:
    """List what containers of this host serve, for as long as they run.

    Options may also be in /etc/duplex/registrator.toml, or in DUPLEX_REGISTRATOR_DOCKER and the like.
    """
    take_settings(context, "registrator", ("run", "serve", "ls", "explain", "plan"))


@commands.command("run")
@click.argument("targets", metavar="[TARGET]...", nargs=-1)
@_options
@log_option
def run_command(targets: tuple[str, ...], **given: Any) -> int:
    """Keep each TARGET equal to what runs, until a signal comes.

    A TARGET is discovery: (the default) or discovery://HOST:PORT,HOST:PORT; or one of Registrator's, such as
    consul://HOST:PORT, consulkv://HOST:PORT/PREFIX, etcd://HOST:PORT/PREFIX, skydns2://HOST:PORT/DOMAIN and
    zookeeper://HOST:PORT/BASE. Each goes to stdout once it is begun with.
    What is listed stays for its TTL when this ends, and is adopted by the next run.
    """
    from duplex_services.registration._running import run_registrar

    run(lambda: run_registrar(_settings(targets, given), announce))
    return 0


commands.add_command(run_command, "serve")


@commands.command("ls")
@_options
@output_option
def ls_command(output: str, **given: Any) -> int:
    """List what is to be listed of what runs now."""
    from duplex_services.registration._running import look

    _, found = run(lambda: look(_settings((), given)))
    show(output, found.services, show_services)
    return 0 if found.services else NOT_FOUND


@commands.command("explain")
@click.argument("container", required=False)
@_options
@output_option
def explain_command(container: str | None, output: str, **given: Any) -> int:
    """Say of each port of CONTAINER, a name or the beginning of an id, what it is listed as, or why not; or of all."""
    from duplex_services.registration._running import look

    containers, found = run(lambda: look(_settings((), given)))
    chosen = [
        one
        for one in containers
        if container is None or one.name == container or one.id.startswith(container)
    ]
    if not chosen:
        raise click.ClickException("there is no container" + (f" {container}" if container else ""))
    by_id: dict[str, list[Finding]] = {}
    for finding in found.findings:
        by_id.setdefault(finding.container, []).append(finding)
    told = [finding for one in chosen for finding in by_id.get(one.id, [])]
    if output == "json":
        click.echo(show_json(told))
    else:
        click.echo("\n\n".join(show_findings(one, by_id.get(one.id, [])) for one in chosen))
    return 0 if any(finding.service for finding in told) else NOT_FOUND


@commands.command("plan")
@click.argument("targets", metavar="[TARGET]...", nargs=-1)
@_options
@output_option
def plan_command(targets: tuple[str, ...], output: str, **given: Any) -> int:
    """Say what `run` would do with each TARGET now. Nothing is changed."""
    from duplex_services.registration._running import plan

    results = run(lambda: plan(_settings(targets, given)))
    is_away = False
    for name, found in results:
        if isinstance(found, str):
            is_away = True
            click.echo(f"{name}: {found}", err=True)
        elif output == "json":
            click.echo(show_json({"target": name, "actions": found.actions, "refusals": found.refusals}))
        else:
            click.echo(show_plan(name, found))
    return NOT_FOUND if is_away else 0
