"""``duplex discovery ls``, ``show``, ``watch``, ``explain`` and ``diff``."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click
import trio

from duplex.cli.options import output_option
from duplex_services._shared._commands import NOT_FOUND, run, show
from duplex_services.discovery._asking import (
    ANSWER_WITHIN,
    ask,
    complete_service,
    nobody,
    open_line,
    where_option,
)
from duplex_services.discovery._board import show_board
from duplex_services.discovery._showing import (
    show_change,
    show_diff,
    show_explanation,
    show_instance,
    show_instances,
    show_overview,
    show_service,
)
from duplex_services.discovery.client import Filter, Following, follow

F = TypeVar("F", bound=Callable[..., Any])


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


@click.command("ls")
@click.argument("service", required=False, shell_complete=complete_service)
@_filter_options
@where_option
@output_option
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
        overview = ask(where, lambda remote: remote.services())
        show(output, overview, show_overview)
        return 0
    wanted = _filter_of(everything, zone, protocol, pairs)
    listing = ask(where, lambda remote: remote.instances(service, wanted))
    show(output, listing, show_instances)
    return 0 if listing.instances else NOT_FOUND


@click.command("show")
@click.argument("service", shell_complete=complete_service)
@click.argument("id", required=False)
@where_option
@output_option
def show_command(service: str, id: str | None, where: tuple[str, ...], output: str) -> int:
    """Show SERVICE with what is kept for it, or its instance ID."""
    if id is None:
        show(output, ask(where, lambda remote: remote.service(service)), show_service)
        return 0
    listing = ask(where, lambda remote: remote.instances(service, Filter(everything=True)))
    found = next((one for one in listing.instances if one.id == id), None)
    if found is None:
        raise click.ClickException(f"{service} has no instance {id}; `duplex discovery explain` may know why")
    show(output, found, show_instance)
    return 0


@click.command("watch")
@click.argument("service", required=False, shell_complete=complete_service)
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
@where_option
@output_option
def watch_command(
    service: str | None,
    live: bool,
    interval: float,
    count: int | None,
    where: tuple[str, ...],
    output: str,
) -> int:
    """Tell what there is of SERVICE, or of all, and what changes, a line each, until interrupted.

    That no server answers is told on stderr; it goes on as soon as one does.

    With --live a table takes the place of the one before, on a terminal; elsewhere it is written below it. With -o json it
    is changes in any case.
    """

    async def watch() -> None:
        async with open_line(where) as peer:
            if live and output == "text":
                await show_board(peer, service or "", interval=interval, count=count)
                return
            async with follow(peer, service or "") as following:
                await _tell_changes(following, where, output)

    run(watch)
    return 0


async def _tell_changes(following: Following, where: tuple[str, ...], output: str) -> None:
    """Tell what changes, and on stderr if nobody tells what does."""
    trouble = ""
    while True:
        is_silent = following.status is None
        with trio.move_on_after(ANSWER_WITHIN if is_silent and not trouble else math.inf) as waiting:
            news = await following.receive()
            for change in news.changes:
                show(output, change, show_change)
            sys.stdout.flush()
        if following.status is not None:
            if trouble:
                click.echo("a server of discovery answers again", err=True)
            trouble = ""
        elif waiting.cancelled_caught or following.refusal is not None:
            why = nobody(where).message if following.refusal is None else following.refusal.message
            if why != trouble:
                click.echo(why, err=True)
            trouble = why


@click.command("explain")
@click.argument("service", shell_complete=complete_service)
@click.argument("id")
@_filter_options
@where_option
@output_option
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
    found = ask(where, lambda remote: remote.explain(service, id, wanted))
    show(output, found, show_explanation)
    return 0 if found.listed else NOT_FOUND


@click.command("diff")
@click.argument("first", metavar="FROM")
@click.argument("last", metavar="[TO]", required=False)
@click.option("--service", default="", help="Only of this service.")
@where_option
@output_option
def diff_command(first: str, last: str | None, service: str, where: tuple[str, ...], output: str) -> int:
    """Tell what became different between FROM and TO, or now.

    Each is an index, as answers say it (`as of 42`), a time ago, such as 10m or 2h, or one of the day, such as 14:05:30.
    """
    now = time.time()
    begin, is_time = _moment(first, now)
    end, end_is_time = (None, is_time) if last is None else _moment(last, now)
    if is_time != end_is_time:
        raise click.UsageError("FROM and TO are both indexes, or both times")
    found = ask(where, lambda remote: remote.diff(begin, end, service, is_time))
    show(output, found, show_diff)
    return 0


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
