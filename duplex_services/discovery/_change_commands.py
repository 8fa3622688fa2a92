"""``duplex discovery register``, ``deregister``, ``drain``, ``maintain`` and ``leader``."""

from __future__ import annotations

import sys
from typing import Any, cast

import click
import trio

from duplex.cli.options import output_option, tls
from duplex_services._shared._commands import NOT_FOUND, run, show
from duplex_services.discovery._asking import (
    ANSWER_WITHIN,
    ask,
    complete_service,
    nobody,
    open_line,
    where_option,
)
from duplex_services.discovery._showing import show_leader
from duplex_services.discovery.client import (
    SERVICE,
    Check,
    DiscoveryService,
    Registration,
    ServiceConfig,
    keep_registered,
)


@click.command("register")
@click.argument("service", shell_complete=complete_service)
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
@where_option
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
        async with open_line(where) as peer:
            async with keep_registered(
                peer, service, said, ttl=ttl, check=checking if is_own else None, tls=tls()
            ) as registered:
                with trio.move_on_after(ANSWER_WITHIN) as waiting:
                    await registered.answered()
                if registered.refusal is not None:
                    raise registered.refusal
                if waiting.cancelled_caught:
                    raise nobody(where)
                if registered.is_registered:
                    click.echo(f"registered {service}/{said.id}", err=True)
                await registered.over.wait()
                raise click.ClickException(registered.why)

    run(register)
    return 0


def _mode_command(name: str, text: str) -> click.Command:
    @click.command(name, help=text)
    @click.argument("service", shell_complete=complete_service)
    @click.argument("id")
    @click.option("--undo", is_flag=True, help="No more.")
    @click.option("--note", default="", help="Why, for those who ask.")
    @where_option
    def command(service: str, id: str, undo: bool, note: str, where: tuple[str, ...]) -> int:
        ask(where, lambda remote: getattr(remote, name)(service, id, note, undo))
        return 0

    return command


drain_command = _mode_command(
    "drain", "Give the instance ID of SERVICE no new work; what runs there may end."
)
maintain_command = _mode_command(
    "maintain",
    "Take the instance ID of SERVICE out until that is undone, also if it registers anew.",
)


@click.command("deregister")
@click.argument("service", shell_complete=complete_service)
@click.argument("id")
@click.option("--why", default="deregistered", help="For those who ask.")
@where_option
def deregister_command(service: str, id: str, why: str, where: tuple[str, ...]) -> int:
    """Deregister the instance ID of SERVICE, whichever server keeps it; its registrant does not register it again."""
    ask(where, lambda remote: remote.deregister(service, id, "", why))
    return 0


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


@click.command("leader")
@click.argument("service", shell_complete=complete_service)
@click.option("--set", "id", metavar="ID", help="Name the leader, and have it named by hand from now on.")
@click.option("--oldest", is_flag=True, help="Have the oldest instance lead again.")
@click.option("--watch", is_flag=True, help="Tell also who leads after that, until interrupted.")
@where_option
@output_option
def leader_command(
    service: str, id: str | None, oldest: bool, watch: bool, where: tuple[str, ...], output: str
) -> int:
    """Tell who leads SERVICE, with the fence that its writes are to carry."""
    if id is not None and oldest:
        raise click.UsageError("a leader is named with --set, or is the --oldest: not both")
    if id is not None:
        ask(where, lambda remote: remote.configure(service, ServiceConfig("manual", id)))
    elif oldest:
        ask(where, lambda remote: remote.configure(service, ServiceConfig()))
    if not watch:
        news = ask(where, lambda remote: remote.leader(service))
        show(output, news, show_leader)
        return 0 if news.leader is not None else NOT_FOUND

    async def follow_leader() -> None:
        async with open_line(where) as peer:
            remote = peer.service(DiscoveryService, name=SERVICE)
            async with remote.watch_leader.open(service) as stream:
                async for news in stream:
                    show(output, news, show_leader)
                    sys.stdout.flush()

    run(follow_leader)
    return 0
