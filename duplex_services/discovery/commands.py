"""``duplex discovery …``: serve a directory, and look into one."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import click
import trio

import duplex
from duplex_services._shared._places import settings_of, socket_endpoint, state_folder
from duplex_services.discovery._backup_commands import backup_command, restore_command
from duplex_services.discovery._board import show_board
from duplex_services.discovery._front_options import front_options, fronts_of
from duplex_services.discovery._rules._naming import LOCAL
from duplex_services.discovery._showing import (
    show_change,
    show_diff,
    show_explanation,
    show_instance,
    show_instances,
    show_json,
    show_leader,
    show_overview,
    show_service,
)
from duplex_services.discovery.client import (
    Check,
    DiscoveryService,
    Filter,
    Registration,
    ServiceConfig,
    follow,
    keep_registered,
    open_client,
)

#: Seconds that an answer may take, connecting included.
_ANSWER_WITHIN: Final = 5.0

#: Seconds that a completion may take.
_COMPLETE_WITHIN: Final = 1.0

#: Of a process that found nothing of what it was asked for.
_NOT_FOUND: Final = 1

F = TypeVar("F", bound=Callable[..., Any])


def _complete_service(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return names of services with which what was typed may go on; none if nobody answers."""

    async def ask(where: tuple[str, ...]) -> list[str]:
        with trio.move_on_after(_COMPLETE_WITHIN):
            async with open_client(*_places(where)) as peer:
                overview = await peer.service(DiscoveryService, name="discovery").services()
                return [info.name for info in overview.services]
        return []

    try:
        names = _run(lambda: ask(tuple(context.params.get("where") or ())))
    except (duplex.DuplexError, OSError):
        return []
    return [name for name in names if name.startswith(incomplete)]


def _where_option(command: F) -> F:
    return click.option(
        "--discovery",
        "where",
        multiple=True,
        envvar="DUPLEX_DISCOVERY",
        metavar="ENDPOINT",
        help="A server of discovery; repeatable.  [default: DUPLEX_DISCOVERY, or the Unix socket of this host's]",
    )(command)


def _output_option(command: F) -> F:
    return click.option(
        "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True
    )(command)


def _filter_options(command: F) -> F:
    for option in (
        click.option("-a", "--all", "everything", is_flag=True, help="Also those that do not serve."),
        click.option("--zone", default="", help="Only in this zone."),
        click.option("--protocol", default="", help="Only with this protocol."),
        click.option(
            "-m",
            "--metadata",
            "pairs",
            multiple=True,
            metavar="KEY[=VALUE]",
            help="Only with this; repeatable.",
        ),
    ):
        command = option(command)
    return command


def _filter_of(everything: bool, zone: str, protocol: str, pairs: tuple[str, ...]) -> Filter:
    wanted: dict[str, str | None] = {}
    for pair in pairs:
        key, given, value = pair.partition("=")
        wanted[key] = value if given else None
    return Filter(wanted, zone, protocol, everything)


@click.group("discovery")
@click.pass_context
def commands(context: click.Context) -> None:
    """Serve a directory of services, or look into one.

    Options of `run` may also be in /etc/duplex/discovery.toml, or in DUPLEX_DISCOVERY_STORE and the like.
    """
    settings = settings_of("discovery")
    context.default_map = {"run": settings, "serve": settings}


# -- run -------------------------------------------------------------------------------------------------


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
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="warning",
    show_default=True,
    help="What is logged to stderr.",
)
def run_command(
    store: str | None,
    binds: tuple[str, ...],
    name: str | None,
    state: Path | None,
    no_socket: bool,
    no_checks: bool,
    log_level: str,
    **fronts: Any,
) -> int:
    """Serve the directory until a signal comes.

    The endpoints go to stdout, one a line, once all of them are bound. Without options the directory is a file in
    the state folder, and is served at this host's Unix socket alone.
    """
    from duplex_services.discovery._running import Settings, run_server

    logging.basicConfig(
        level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    sockets = () if no_socket else (socket_endpoint("discovery"),)
    settings = Settings(
        store,
        (*sockets, *binds),
        name,
        state or state_folder("discovery"),
        checks=not no_checks,
        fronts=fronts_of(fronts),
    )
    trio.run(run_server, settings, _announce)
    return 0


commands.add_command(run_command, "serve")
commands.add_command(backup_command)
commands.add_command(restore_command)


def _announce(line: str) -> None:
    click.echo(line)
    sys.stdout.flush()


# -- looking ---------------------------------------------------------------------------------------------


@commands.command("ls")
@click.argument("service", required=False, shell_complete=_complete_service)
@_filter_options
@_where_option
@_output_option
def ls_command(
    service: str | None,
    everything: bool,
    zone: str,
    protocol: str,
    pairs: tuple[str, ...],
    where: tuple[str, ...],
    output: str,
) -> int:
    """List the services, or the instances of SERVICE that serve."""
    if service is None:
        overview = _ask(where, lambda remote: remote.services())
        _show(output, overview, show_overview)
        return 0
    wanted = _filter_of(everything, zone, protocol, pairs)
    listing = _ask(where, lambda remote: remote.instances(service, wanted))
    _show(output, listing, show_instances)
    return 0 if listing.instances else _NOT_FOUND


@commands.command("show")
@click.argument("service", shell_complete=_complete_service)
@click.argument("id", required=False)
@_where_option
@_output_option
def show_command(service: str, id: str | None, where: tuple[str, ...], output: str) -> int:
    """Show SERVICE with what is kept for it, or its instance ID."""
    if id is None:
        _show(output, _ask(where, lambda remote: remote.service(service)), show_service)
        return 0
    listing = _ask(where, lambda remote: remote.instances(service, Filter(everything=True)))
    found = next((one for one in listing.instances if one.id == id), None)
    if found is None:
        raise click.ClickException(f"{service} has no instance {id}; `duplex discovery explain` may know why")
    _show(output, found, show_instance)
    return 0


@commands.command("watch")
@click.argument("service", required=False, shell_complete=_complete_service)
@click.option(
    "--live", is_flag=True, help="Draw all there is, again and again, instead of a line for each change."
)
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=1.0,
    show_default=True,
    help="Of --live: seconds between two looks.",
)
@click.option("--count", type=click.IntRange(min=1), help="Of --live: end after so many looks.")
@_where_option
@_output_option
def watch_command(
    service: str | None,
    live: bool,
    interval: float,
    count: int | None,
    where: tuple[str, ...],
    output: str,
) -> int:
    """Tell what there is of SERVICE, or of all, and what changes, a line each, until interrupted.

    With --live a table takes the place of the one before, on a terminal; elsewhere it is written below it. With -o json it
    is changes in any case.
    """

    async def watch() -> None:
        async with open_client(*_places(where)) as peer:
            if live and output == "text":
                await show_board(peer, service or "", interval=interval, count=count)
                return
            async with follow(peer, service or "") as following:
                async for news in following:
                    for change in news.changes:
                        _show(output, change, show_change)
                    sys.stdout.flush()

    _run(watch)
    return 0


@commands.command("leader")
@click.argument("service", shell_complete=_complete_service)
@click.option("--set", "id", metavar="ID", help="Name the leader, and have it named by hand from now on.")
@click.option("--oldest", is_flag=True, help="Have the oldest instance lead again.")
@click.option("--watch", is_flag=True, help="Tell also who leads after that, until interrupted.")
@_where_option
@_output_option
def leader_command(
    service: str, id: str | None, oldest: bool, watch: bool, where: tuple[str, ...], output: str
) -> int:
    """Tell who leads SERVICE, with the fence that its writes are to carry."""
    if id is not None and oldest:
        raise click.UsageError("a leader is named with --set, or is the --oldest: not both")
    if id is not None:
        _ask(where, lambda remote: remote.configure(service, ServiceConfig("manual", id)))
    elif oldest:
        _ask(where, lambda remote: remote.configure(service, ServiceConfig()))
    if not watch:
        news = _ask(where, lambda remote: remote.leader(service))
        _show(output, news, show_leader)
        return 0 if news.leader is not None else _NOT_FOUND

    async def follow_leader() -> None:
        async with open_client(*_places(where)) as peer:
            remote = peer.service(DiscoveryService, name="discovery")
            async with remote.watch_leader.open(service) as stream:
                async for news in stream:
                    _show(output, news, show_leader)
                    sys.stdout.flush()

    _run(follow_leader)
    return 0


@commands.command("explain")
@click.argument("service", shell_complete=_complete_service)
@click.argument("id")
@_filter_options
@_where_option
@_output_option
def explain_command(
    service: str,
    id: str,
    everything: bool,
    zone: str,
    protocol: str,
    pairs: tuple[str, ...],
    where: tuple[str, ...],
    output: str,
) -> int:
    """Say why the instance ID of SERVICE is listed, or is not; with the options of `ls`, to who asks with these."""
    wanted = _filter_of(everything, zone, protocol, pairs)
    found = _ask(where, lambda remote: remote.explain(service, id, wanted))
    _show(output, found, show_explanation)
    return 0 if found.listed else _NOT_FOUND


@commands.command("diff")
@click.argument("first", metavar="FROM")
@click.argument("last", metavar="[TO]", required=False)
@click.option("--service", default="", help="Only of this service.")
@_where_option
@_output_option
def diff_command(first: str, last: str | None, service: str, where: tuple[str, ...], output: str) -> int:
    """Tell what became different between FROM and TO, or now.

    Each is an index, as answers say it (`as of 42`), a time ago, such as 10m or 2h, or one of the day, such as 14:05:30.
    """
    now = time.time()
    begin, is_time = _moment(first, now)
    end, end_is_time = (None, is_time) if last is None else _moment(last, now)
    if is_time != end_is_time:
        raise click.UsageError("FROM and TO are both indexes, or both times")
    found = _ask(where, lambda remote: remote.diff(begin, end, service, is_time))
    _show(output, found, show_diff)
    return 0


# -- changing --------------------------------------------------------------------------------------------


@commands.command("register")
@click.argument("service", shell_complete=_complete_service)
@click.argument("address", metavar="ENDPOINT|HOST:PORT")
@click.option(
    "--id",
    metavar="ID",
    help="What it is called; stays the same over restarts.  [default: made from the address]",
)
@click.option(
    "--ttl", type=float, default=10.0, show_default=True, help="Seconds that it stays if this process dies."
)
@click.option("--protocol", help="What is spoken there.  [default: duplex for an endpoint, else tcp]")
@click.option("--zone", default="", help="Where it is.")
@click.option(
    "--weight", type=int, default=1, show_default=True, help="How much work it wants beside the others."
)
@click.option(
    "-m",
    "--metadata",
    "pairs",
    multiple=True,
    metavar="KEY=VALUE",
    help="What others may filter by; repeatable.",
)
@click.option(
    "--check",
    metavar="KIND[:TARGET]",
    help="Have discovery check it: tcp, http:/PATH, duplex, grpc; or check it here by a program: command:LINE.",
)
@_where_option
def register_command(
    service: str,
    address: str,
    id: str | None,
    ttl: float,
    protocol: str | None,
    zone: str,
    weight: int,
    pairs: tuple[str, ...],
    check: str | None,
    where: tuple[str, ...],
) -> int:
    """Register an instance of SERVICE for as long as this runs; interrupting it withdraws the instance at once."""
    is_endpoint = "://" in address
    host, _, port = address.rpartition(":")
    if not is_endpoint and not (host and port.isdecimal()):
        raise click.UsageError(f"{address!r} is neither an endpoint nor HOST:PORT")
    metadata = dict(_pair(pair) for pair in pairs)
    checking = None if check is None else _check_of(check)
    is_own = checking is not None and checking.kind == "command"
    said = Registration(
        id or "".join(letter if letter.isalnum() else "-" for letter in address).strip("-"),
        endpoint=address if is_endpoint else "",
        host="" if is_endpoint else host.removeprefix("[").removesuffix("]"),
        port=0 if is_endpoint else int(port),
        protocol=protocol or ("duplex" if is_endpoint else "tcp"),
        metadata=metadata,
        weight=weight,
        zone=zone,
        check=None if is_own else checking,
    )

    async def register() -> None:
        async with open_client(*_places(where)) as peer:
            async with keep_registered(
                peer, service, said, ttl=ttl, check=checking if is_own else None
            ) as registered:
                with trio.move_on_after(_ANSWER_WITHIN) as waiting:
                    await registered.registered()
                if waiting.cancelled_caught:
                    raise _nobody(where)
                if registered.is_registered:
                    click.echo(f"registered {service}/{said.id}", err=True)
                await registered.over.wait()
                raise click.ClickException(registered.why)

    _run(register)
    return 0


def _mode_command(name: str, text: str) -> None:
    @commands.command(name, help=text)
    @click.argument("service", shell_complete=_complete_service)
    @click.argument("id")
    @click.option("--undo", is_flag=True, help="No more.")
    @click.option("--note", default="", help="Why, for those who ask.")
    @_where_option
    def command(service: str, id: str, undo: bool, note: str, where: tuple[str, ...]) -> int:
        _ask(where, lambda remote: getattr(remote, name)(service, id, note, undo))
        return 0


_mode_command("drain", "Give the instance ID of SERVICE no new work; what runs there may end.")
_mode_command(
    "maintain",
    "Take the instance ID of SERVICE out until that is undone, also if it registers anew.",
)


@commands.command("deregister")
@click.argument("service", shell_complete=_complete_service)
@click.argument("id")
@click.option("--why", default="deregistered", help="For those who ask.")
@_where_option
def deregister_command(service: str, id: str, why: str, where: tuple[str, ...]) -> int:
    """Deregister the instance ID of SERVICE, whichever server keeps it; its registrant does not register it again."""
    _ask(where, lambda remote: remote.deregister(service, id, "", why))
    return 0


# -- common ----------------------------------------------------------------------------------------------

_T = TypeVar("_T")


def _ask(where: tuple[str, ...], question: Callable[[DiscoveryService], Awaitable[_T]]) -> _T:
    """Ask a server of discovery, and return the answer."""

    async def ask() -> _T:
        async with open_client(*_places(where)) as peer:
            remote = peer.service(DiscoveryService, name="discovery")
            with trio.move_on_after(_ANSWER_WITHIN):
                return await question(remote)
        raise _nobody(where)

    return _run(ask)


def _run(function: Callable[[], Awaitable[_T]]) -> _T:
    """Run something, and raise what it raises as it is."""
    try:
        return trio.run(function)
    except BaseExceptionGroup as group:
        found: BaseException = group
        while isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
        raise found from None


def _places(where: tuple[str, ...]) -> tuple[str, ...]:
    """Return the endpoints to ask."""
    given = tuple(part for text in where for part in text.split(",") if part) or (LOCAL,)
    return tuple(socket_endpoint("discovery") if part == LOCAL else _long(part) for part in given)


def _long(endpoint: str) -> str:
    """Return an endpoint of which the scheme may be left out."""
    if "://" in endpoint:
        return endpoint
    return f"tcp://127.0.0.1{endpoint}" if endpoint.startswith(":") else f"tcp://{endpoint}"


def _nobody(where: tuple[str, ...]) -> duplex.Unavailable:
    asked = ", ".join(_places(where))
    return duplex.Unavailable(
        f"no server of discovery answers at {asked}: start one with `duplex discovery run`, "
        "or say where it is with --discovery or DUPLEX_DISCOVERY"
    )


def _show(output: str, value: object, show: Callable[[Any], str]) -> None:
    text = show_json(value) if output == "json" else show(value)
    if text:
        click.echo(text)


def _pair(pair: str) -> tuple[str, str]:
    key, given, value = pair.partition("=")
    if not given:
        raise click.UsageError(f"{pair!r} is no KEY=VALUE")
    return key, value


def _check_of(text: str) -> Check:
    kind, _, target = text.partition(":")
    if kind not in ("tcp", "http", "duplex", "grpc", "command"):
        raise click.UsageError(f"{kind!r} is no kind of check: tcp, http, duplex, grpc or command")
    return Check(cast("Any", kind), target=target)


_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _moment(text: str, now: float) -> tuple[float, bool]:
    """Return an index, or a time in seconds since 1970 and that it is one."""
    if text.isdecimal():
        return float(text), False
    if text[-1:] in _UNITS and text[:-1].replace(".", "", 1).isdecimal():
        return now - float(text[:-1]) * _UNITS[text[-1]], True
    for form in ("%H:%M:%S", "%H:%M", "%Y-%m-%dT%H:%M:%S"):
        try:
            read = time.strptime(text, form)
        except ValueError:
            continue
        if not form.startswith("%Y"):
            today = time.localtime(now)
            read = time.struct_time((*today[:3], *read[3:6], *today[6:8], -1))
        return time.mktime(read), True
    raise click.UsageError(f"{text!r} is neither an index nor a time, such as 10m, 2h or 14:05:30")
