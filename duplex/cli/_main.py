"""The commands and their options; what they do is in the modules beside this one.

Each command imports them when it is run, with trio, msgspec and the rest: help, versions and errors of the command line
need none of that, and are there at once.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Final

import click

from duplex._errors import DuplexError
from duplex._numbers import LEAST_SECONDS
from duplex._version import __version__
from duplex.cli._bench_command import bench_command
from duplex.cli._commands import Commands
from duplex.cli._errors import CommandError
from duplex.cli._options import (
    DURATION,
    CallCommand,
    Duration,
    check_method_name,
    connect_timeout_option,
    credentials,
    credentials_option,
    data_option,
    endpoint_argument,
    log_option,
    metadata_option,
    output_option,
    permission_options,
    timeout_option,
)
from duplex.cli._report import open_missing_streams, report, report_unwritable
from duplex.cli._tls_options import server_tls_options, tls
from duplex.cli._watch_commands import health_command, stats_command, top_command

if TYPE_CHECKING:
    from duplex.cli._stdin import Form

#: What a shell sets that asks for completions.
_COMPLETION: Final = "_DUPLEX_COMPLETE"
DEFAULT_BIND: Final = "tcp://127.0.0.1:*"
#: Of a process that was interrupted, as shells have it (128 + SIGINT).
INTERRUPTED: Final = 130


def main() -> None:
    """Run the command that ``sys.argv`` asks for, and exit with its code."""
    open_missing_streams()
    if _COMPLETION in os.environ:
        from duplex.cli._completing import prepare

        prepare()
    try:
        code = commands.main(prog_name="duplex", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        with contextlib.suppress(OSError):
            error.show()
        code = error.exit_code
    except (CommandError, DuplexError) as error:
        code = report(error)
    except OSError as error:
        code = report_unwritable(error)
    except (click.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    sys.exit(code)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def commands(context: click.Context) -> None:
    """Call, look into, measure and serve Duplex services.

    Exit codes: 0; 1 if something failed here; 2 if the command line is wrong; 64 + the status of a call
    that failed, such as 69 for NOT_FOUND and 78 for UNAVAILABLE, which also means that no peer is there.
    """
    if os.environ.get("NO_COLOR"):
        context.color = False


# -- serve -----------------------------------------------------------------------------------------------


@commands.command("serve")
@click.argument("target", metavar="TARGET")
@click.option(
    "--bind",
    "binds",
    multiple=True,
    metavar="ENDPOINT",
    help=f"Where to listen; repeatable.  [default: {DEFAULT_BIND}]",
)
@click.option("--name", help="The peer's name in errors and listings of others.  [default: made from TARGET]")
@click.option(
    "--drain-timeout",
    type=DURATION,
    default=30.0,
    show_default=True,
    metavar="TIME",
    help="How long calls that run may go on after a signal to stop.",
)
@click.option(
    "--discovery",
    multiple=True,
    envvar="DUPLEX_DISCOVERY",
    metavar="URL",
    help="Register what is served at this server of discovery (local: this host's), or in this store; repeatable for servers.",
)
@click.option(
    "--advertise",
    multiple=True,
    envvar="DUPLEX_ADVERTISE",
    metavar="ADDRESS",
    help="Where others reach it, if not where it is bound: HOST[:PORT], a network or an interface; repeatable.",
)
@click.option(
    "--zone", default="", envvar="DUPLEX_ZONE", help="Where it is, for those who prefer what is near."
)
@click.option(
    "--weight",
    type=click.IntRange(0, 65535),
    default=1,
    show_default=True,
    help="How many calls it wants, as a multiple of what others want.",
)
@permission_options()
@credentials_option
@server_tls_options
@click.option("--log-calls", is_flag=True, help="Log a line for each call to stderr.")
@click.option("--debug", is_flag=True, help="Send tracebacks of unexpected exceptions to callers.")
@log_option
def serve_command(
    target: str,
    binds: tuple[str, ...],
    name: str | None,
    drain_timeout: float,
    discovery: tuple[str, ...],
    advertise: tuple[str, ...],
    zone: str,
    weight: int,
    authenticator: str | None,
    authorize: str | None,
    log_calls: bool,
    debug: bool,
) -> int:
    """Serve the functions of a module, or of something in it.

    TARGET is file.py, module, file.py:attribute or module:attribute. A module serves its duplex.Service
    objects and its functions under @duplex.rpc; an attribute is a Service, an object or a class with such
    methods, or a module.

    The endpoints go to stdout, one a line, once all of them are bound; everything else goes to stderr, what the
    module and its functions print included.
    With --discovery its services are registered wherever it is bound, for as long as it takes calls.
    SIGINT and SIGTERM let it drain, which means that calls that run may finish and no new ones are taken, and
    end it with exit code 0; a second signal ends it at once. SIGUSR1 lists the calls under way on stderr.
    """
    import trio

    from duplex import Advertise
    from duplex.cli._serving import serve, stdout_apart
    from duplex.cli._session import run
    from duplex.cli._target import load_function, load_services, target_name

    with stdout_apart() as announce:
        services = load_services(target)
        asked = None if authenticator is None else load_function(authenticator)
        decides = None if authorize is None else load_function(authorize)
        stop = trio.Event()
        shown, certificates = credentials(), tls()
        return run(
            lambda: serve(
                services,
                binds or (DEFAULT_BIND,),
                name=name or target_name(target),
                debug=True if debug else None,
                stop=stop,
                drain_timeout=drain_timeout,
                log_calls=log_calls,
                announce=announce,
                discovery=discovery,
                advertise=Advertise(addresses=advertise, zone=zone, weight=weight),
                authorize=decides,
                authenticator=asked,
                shown=shown,
                certificates=certificates,
            ),
            on_signal=stop.set,
        )


# -- call ------------------------------------------------------------------------------------------------


@commands.command("call", cls=CallCommand, context_settings={"ignore_unknown_options": True})
@endpoint_argument
@click.argument("method", metavar="METHOD")
@click.argument("words", metavar="[WORD]...", nargs=-1, type=click.UNPROCESSED)
@data_option
@timeout_option
@connect_timeout_option
@metadata_option
@click.option(
    "--no-reflection", is_flag=True, help="Do not ask for the method's types; guess those of words."
)
@click.option(
    "--stdin", is_flag=True, help="Stream stdin to the method, where there is no description that says so."
)
@click.option("--lines", is_flag=True, help="Items on stdin are lines, read as words are, rather than JSON.")
@click.option(
    "--bytes", "chunks", is_flag=True, help="Items on stdin are its bytes, as many as are read at once."
)
@click.option(
    "--all",
    "everybody",
    is_flag=True,
    help="Call all instances that discovery://NAME has, rather than one, and write who has answered what.",
)
@click.option(
    "--also", multiple=True, metavar="ENDPOINT", help="With --all: call the peer there as well; repeatable."
)
@click.option("-r", "--raw", is_flag=True, help="Write strings and bytes as they are rather than as JSON.")
@click.option("-v", "--verbose", is_flag=True, help="Write the peer, the trailers and times to stderr.")
def call_command(
    endpoint: str,
    method: str,
    words: tuple[str, ...],
    data: str | None,
    timeout: float | None,
    connect_timeout: float,
    metadata: dict[str, str],
    no_reflection: bool,
    stdin: bool,
    lines: bool,
    chunks: bool,
    everybody: bool,
    also: tuple[str, ...],
    raw: bool,
    verbose: bool,
) -> int:
    """Call METHOD, which is service.method, of the peer at ENDPOINT.

    \b
    WORD is an argument:
      5  text        by position, of the type that the parameter has
      name=word      by name
      name:=JSON     by name, in JSON
      :=JSON         by position, in JSON
      @FILE          what is in a file, in the place of JSON or of bytes; @- is stdin

    Results go to stdout as JSON: a single one indented on a terminal, streamed ones in a line each as they
    come. A method that takes a stream gets the JSON values on stdin as they are read.

    \b
    Examples:
      duplex call tcp://127.0.0.1:7700 calc.add 1 -2
      duplex call tcp://127.0.0.1:7700 calc.divide 1 b=4
      seq 10 | duplex call tcp://127.0.0.1:7700 calc.total
      duplex call --all discovery://calc calc.add 1 2
    """
    check_method_name(method)
    if data is not None and words:
        raise CommandError("arguments are given in words or with --data, not both")
    if lines and chunks:
        raise CommandError("items on stdin are --lines or --bytes, not both")
    form: Form = "lines" if lines else "bytes" if chunks else "json"
    from_stdin = data == "@-" or any(word == "@-" or word.endswith("=@-") for word in words)
    if from_stdin and (stdin or form != "json"):
        raise CommandError("stdin cannot hold both the arguments and the stream")
    if also and not everybody:
        raise CommandError("--also names further peers to call, so it needs --all")
    if everybody and (stdin or form != "json" or verbose):
        raise CommandError("--all goes with neither --stdin, --lines, --bytes nor --verbose")

    from duplex.cli._session import Call, make_call, run
    from duplex.cli._words import read_data

    call = Call(
        endpoint=endpoint,
        target=method,
        words=words,
        data=None if data is None else read_data(data),
        data_from_stdin=from_stdin,
        timeout=timeout,
        connect_timeout=connect_timeout,
        metadata=metadata,
        reflection=not no_reflection,
        stdin=stdin,
        form=form,
        raw=raw,
        verbose=verbose,
    )
    if everybody:
        from duplex.cli._everybody import call_everybody

        return run(lambda: call_everybody(call, also))
    return run(lambda: make_call(call))


commands.add_command(bench_command)
commands.add_command(health_command)
commands.add_command(stats_command)
commands.add_command(top_command)


# -- list, describe, ping --------------------------------------------------------------------------------


@commands.command("list")
@endpoint_argument
@output_option
@click.option("--all", "everything", is_flag=True, help="Also what every peer has, duplex.*.")
@connect_timeout_option
def list_command(endpoint: str, output: str, everything: bool, connect_timeout: float) -> int:
    """List the services of the peer at ENDPOINT, and their methods."""
    from duplex.cli._listing import show_list
    from duplex.cli._session import run

    return run(
        lambda: show_list(
            endpoint, connect_timeout=connect_timeout, as_json=output == "json", everything=everything
        )
    )


@commands.command("describe")
@endpoint_argument
@click.argument("name", metavar="[SERVICE[.METHOD] | TYPE]", required=False)
@output_option
@connect_timeout_option
def describe_command(endpoint: str, name: str | None, output: str, connect_timeout: float) -> int:
    """Describe services of the peer at ENDPOINT: signatures, documentation, and the fields, members and bounds of types.

    TYPE is the name of a type in one of the signatures. In JSON there are JSON Schemas.
    """
    from duplex.cli._listing import show_description
    from duplex.cli._session import run

    return run(
        lambda: show_description(endpoint, name, connect_timeout=connect_timeout, as_json=output == "json")
    )


@commands.command("ping")
@endpoint_argument
@click.option("--count", type=click.IntRange(min=1), default=5, show_default=True, help="How many pings.")
@click.option(
    "--interval",
    type=DURATION,
    default=1.0,
    show_default=True,
    metavar="TIME",
    help="The pause between two.",
)
@click.option(
    "--timeout",
    type=DURATION,
    default=5.0,
    show_default=True,
    metavar="TIME",
    help="How long to wait for each answer.",
)
@connect_timeout_option
def ping_command(endpoint: str, count: int, interval: float, timeout: float, connect_timeout: float) -> int:
    """Measure round trips to the peer at ENDPOINT, through its event loop, in milliseconds."""
    from duplex.cli._session import ping, run

    return run(
        lambda: ping(
            endpoint, count=count, interval=interval, connect_timeout=connect_timeout, timeout=timeout
        )
    )


@commands.command("doctor")
@endpoint_argument
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="How many round trips are measured.",
)
@output_option
@connect_timeout_option
def doctor_command(endpoint: str, count: int, output: str, connect_timeout: float) -> int:
    """Find out why there is no link to ENDPOINT, or that all is well.

    It goes step by step: the address, the connection, TLS, ZMTP, what the peer says of itself, round trips; and says what to do
    where that ends. Of discovery://NAME it looks at all instances. The exit code is 1 if a step has failed.
    """
    from duplex.cli._doctor import show_diagnosis
    from duplex.cli._session import run

    return run(
        lambda: show_diagnosis(
            endpoint, connect_timeout=connect_timeout, count=count, as_json=output == "json"
        )
    )


# -- conformance -----------------------------------------------------------------------------------------


@commands.command("conformance")
@click.argument("endpoint", metavar="[ENDPOINT]", required=False)
@click.option("--listen", is_flag=True, help="Bind ENDPOINT, for an implementation that connects.")
@click.option(
    "--only",
    multiple=True,
    metavar="PATTERN",
    help="Only these scenarios, such as dmtp/6 or '*V2?'; repeatable.",
)
@click.option("--list", "listing", is_flag=True, help="List the scenarios and run none.")
@output_option
@click.option(
    "--timeout",
    type=Duration(LEAST_SECONDS),
    default=5.0,
    show_default=True,
    metavar="TIME",
    help="How long to wait for what has to come, in each step.",
)
@click.option(
    "--strict", is_flag=True, help="A SHOULD that is not kept, and what cannot be tested, count as failures."
)
@connect_timeout_option
def conformance_command(
    endpoint: str | None,
    listen: bool,
    only: tuple[str, ...],
    listing: bool,
    output: str,
    timeout: float,
    strict: bool,
    connect_timeout: float,
) -> int:
    """Try the implementation at ENDPOINT, in whatever language, against the specification.

    It drives the raw wire with one scenario for each rule, and reports which are kept. The implementation
    offers the service that spec/scenarios/README.md specifies; `duplex serve duplex.conformance:service` is
    one that does. With --listen the implementation connects to ENDPOINT, again after every scenario.

    The exit code is 1 if a MUST is not kept.
    """
    from duplex.cli._conformance import show_scenarios, try_implementation
    from duplex.cli._session import run

    if listing:
        show_scenarios(only, as_json=output == "json")
        return 0
    if endpoint is None:
        raise click.UsageError("Missing argument 'ENDPOINT'.")
    return run(
        lambda: try_implementation(
            endpoint,
            only,
            listen=listen,
            timeout=timeout,
            connect_timeout=connect_timeout,
            strict=strict,
            as_json=output == "json",
        )
    )
