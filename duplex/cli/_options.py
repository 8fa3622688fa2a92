"""Options and arguments that several commands take, and how they are read."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import click

from duplex._errors import ConfigurationError
from duplex._numbers import check_seconds
from duplex.cli._errors import CommandError
from duplex.cli._tls_options import tls_options

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_DURATION: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|m|h|)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}
_SIZE: Final = re.compile(r"(\d+)\s*(B|kB|KiB|MB|MiB|GiB|)")
_BYTES: Final = {"": 1, "B": 1, "kB": 10**3, "KiB": 2**10, "MB": 10**6, "MiB": 2**20, "GiB": 2**30}

F = TypeVar("F", bound=Callable[..., Any])

# -- options ---------------------------------------------------------------------------------------------


class Number(click.ParamType[float]):
    """The type of an option that is a number: neither nan nor inf, which click's own numbers may be.

    Args:
        name: what it is a number of.
        check: returns the number, or raises ``ConfigurationError``.
    """

    def __init__(self, name: str, check: Callable[[str, float], float]) -> None:
        self.name = name
        self._check = check

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return self._check("it", float(value))
        except ConfigurationError as error:
            self.fail(str(error), param, ctx)
        except ValueError:
            self.fail(f"{value!r} is not a number", param, ctx)


class Duration(click.ParamType[float]):
    """The type of an option that is a time: ``10s``, ``500ms``, ``2m``, ``1h``, or seconds without a unit.

    Args:
        low: the fewest seconds.
    """

    name = "time"

    def __init__(self, low: float = 0.0) -> None:
        self._low = low

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = _DURATION.fullmatch(str(value))
        try:
            seconds = float(value) if match is None else float(match[1]) * _SECONDS[match[2]]
            return cast("float", check_seconds("it", seconds, low=self._low))
        except ConfigurationError as error:
            self.fail(str(error), param, ctx)
        except ValueError:
            self.fail(f"{value!r} is not a time, such as 10s, 500ms or 2m", param, ctx)


DURATION: Final = Duration()


#: Under which a command keeps where discovery is asked, and what it shows to other peers.
_DISCOVERY: Final = "duplex.discovery"
_CREDENTIALS: Final = "duplex.credentials"
#: The variable that has credentials, for those who have them in no file.
CREDENTIALS_VARIABLE: Final = "DUPLEX_CREDENTIALS"


def endpoint_argument(command: F) -> F:
    """Where the other peer is bound, or the name of a service to look up."""
    argument = click.argument("endpoint", metavar="ENDPOINT", shell_complete=complete_endpoint)
    return argument(credentials_option(tls_options(discovery_option(command))))


def complete_endpoint(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """Return endpoints with which what was typed may go on: names of services, from the directory that the command line names."""
    from duplex.cli._completing import endpoints

    return endpoints(context.meta.get(_DISCOVERY, ()), incomplete)


def credentials_option(command: F) -> F:
    """What is shown to other peers: see :func:`credentials`. Never the secret itself, which everybody on the machine would see among the
    words of the process."""
    return click.option(
        "--credentials",
        metavar="FILE",
        expose_value=False,
        callback=_note_credentials,
        help=f"What proves to the other peer who calls: the content of FILE, without a line end at its end.  [default: {CREDENTIALS_VARIABLE}]",
    )(command)


def _note_credentials(context: click.Context, _option: click.Parameter, path: str | None) -> None:
    text = os.environ.get(CREDENTIALS_VARIABLE)
    if path is None and not text:
        return
    from duplex._authentication import MOST_CREDENTIALS, checked_credentials

    if path is None:
        found, what = os.fsencode(text or ""), CREDENTIALS_VARIABLE
    else:
        found, what = _read_credentials(path, MOST_CREDENTIALS), path
    try:
        checked_credentials(found)
    except ConfigurationError as error:
        raise click.BadParameter(f"{what}: {error}") from None
    context.meta[_CREDENTIALS] = found


def _read_credentials(path: str, most: int) -> bytes:
    try:
        with open(path, "rb") as file:
            # One byte more than there may be, and a line end: a wrong file may be a large one.
            found = file.read(most + 3)
    except OSError as error:
        raise click.BadParameter(f"{path} cannot be read: {error.strerror}") from None
    found = found.removesuffix(b"\n").removesuffix(b"\r")
    if not found:
        raise click.BadParameter(f"{path} is empty")
    return found


def credentials() -> bytes | None:
    """Return what the command that runs is to show to other peers; ``None`` for nothing."""
    context = click.get_current_context(silent=True)
    found: bytes | None = None if context is None else context.meta.get(_CREDENTIALS)
    return found


def permission_options(prefix: str = "") -> Callable[[F], F]:
    """Who may have a link, and who may call what: ``authenticator`` and ``authorize``, the names of functions.

    Args:
        prefix: of variables that may name them too; empty for none.
    """

    def decorate(command: F) -> F:
        for name, words in (
            ("authorize", "A function that decides who may call what"),
            ("authenticator", "An async function that finds out who connects"),
        ):
            command = click.option(
                f"--{name}",
                metavar="MODULE:NAME",
                envvar=f"{prefix}{name.upper()}" if prefix else None,
                help=f"{words}: `{name}` of duplex.open_peer.",
            )(command)
        return command

    return decorate


def log_option(command: F) -> F:
    """What is logged to stderr, from when the command line was read."""
    return click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default="warning",
        show_default=True,
        expose_value=False,
        callback=_begin_log,
        help="What is logged to stderr.",
    )(command)


def _begin_log(context: click.Context, _option: click.Parameter, level: str) -> None:
    if context.resilient_parsing:
        return
    import logging

    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )


def discovery_option(command: F) -> F:
    """Where ``discovery://NAME`` is looked up: see :func:`discovery_servers`."""
    return click.option(
        "--discovery",
        multiple=True,
        envvar="DUPLEX_DISCOVERY",
        metavar="URL",
        expose_value=False,
        callback=_note_discovery,
        help="Where discovery://NAME is looked up: a server of discovery, or a store; repeatable.  [default: DUPLEX_DISCOVERY, "
        "or the Unix socket of this host's]",
    )(command)


def _note_discovery(context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> None:
    context.meta[_DISCOVERY] = values


def discovery_servers() -> tuple[str, ...]:
    """Return where the command that runs is to look services up; empty for where that is done by default."""
    context = click.get_current_context(silent=True)
    found: tuple[str, ...] = () if context is None else context.meta.get(_DISCOVERY, ())
    return found


def connect_timeout_option(command: F) -> F:
    """How long to wait for it."""
    return click.option(
        "--connect-timeout",
        type=DURATION,
        default=5.0,
        show_default=True,
        metavar="TIME",
        help="How long to wait for a link, and for the peer's description of what it offers.",
    )(command)


def output_option(command: F) -> F:
    """Text or JSON."""
    return click.option(
        "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True
    )(command)


def data_option(command: F) -> F:
    """The arguments of a call in JSON, for :func:`duplex.cli._words.read_data`."""
    return click.option(
        "-d",
        "--data",
        metavar="JSON",
        help="All arguments in JSON: by name in an object, by position in an array. "
        "@FILE and @- (stdin) read it.",
    )(command)


def timeout_option(command: F) -> F:
    """The deadline of a call."""
    return click.option("--timeout", type=DURATION, metavar="TIME", help="Limits the whole call.")(command)


def metadata_option(command: F) -> F:
    """The metadata of a call."""
    return click.option(
        "-H",
        "--metadata",
        multiple=True,
        metavar="KEY:VALUE",
        callback=_read_metadata,
        help="Metadata of the call; repeatable.",
    )(command)


def _read_metadata(
    _context: click.Context, _option: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    metadata = {}
    for value in values:
        key, colon, text = value.partition(":")
        if not colon:
            raise click.BadParameter(f"{value!r} is not KEY:VALUE")
        metadata[key.strip().lower()] = text.strip()
    return metadata


def read_size(text: str) -> int:
    """Return the bytes that ``64KiB``, ``1MiB`` or ``100`` is; the type of an option."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise click.BadParameter(f"{text!r} is no size, such as 100, 64KiB or 1MiB")
    return int(match[1]) * _BYTES[match[2]]


# -- a call's arguments ----------------------------------------------------------------------------------


class CallCommand(click.Command):
    """Takes negative numbers for words, and refuses other words that look like options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        literal = "--" in args
        rest = super().parse_args(ctx, args)
        for word in () if literal else ctx.params.get("words", ()):
            if word.startswith("-") and not _is_number(word):
                raise click.NoSuchOption(
                    word, f"No such option: {word}; put -- before words like that.", ctx=ctx
                )
        return rest


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def check_method_name(method: str) -> None:
    """Raise ``CommandError`` if this cannot be the name of a method."""
    service, _, name = method.rpartition(".")
    if not service or not name:
        raise CommandError(f"a method is named service.method, not {method!r}")
