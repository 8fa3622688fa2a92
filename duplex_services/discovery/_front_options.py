"""Options of ``duplex discovery run`` for who does not speak Duplex: HTTP and DNS."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

import duplex
from duplex_services.discovery._dns._options import DnsOptions
from duplex_services.discovery._fronts import Fronts
from duplex_services.discovery._http._options import HttpOptions

F = TypeVar("F", bound=Callable[..., Any])

_ENVIRONMENT: Final = "DUPLEX_DISCOVERY_"


def front_options(command: F) -> F:
    """Give a command the options; what they say goes to :func:`fronts_of`."""
    defaults = DnsOptions()
    options: list[tuple[str, dict[str, Any]]] = [
        (
            "--http",
            {
                "metavar": "ADDRESS",
                "help": "Where to serve HTTP, such as 127.0.0.1:7710.  [default: nowhere]",
            },
        ),
        (
            "--http-certificate",
            {"metavar": "FILE", "help": "Serve HTTPS; the certificate and its key, in PEM."},
        ),
        (
            "--http-write-token",
            {"metavar": "TOKEN", "help": "What changes have to show; better told in the environment."},
        ),
        (
            "--http-read-token",
            {"metavar": "TOKEN", "help": "What suffices to read; without it everybody may."},
        ),
        (
            "--http-anybody",
            {"is_flag": True, "help": "Serve HTTP without a token beyond this host, and under any name."},
        ),
        (
            "--http-advertise",
            {
                "multiple": True,
                "metavar": "URL",
                "help": "Where others reach HTTP, if not where it listens; repeatable.",
            },
        ),
        (
            "--http-streams",
            {
                "type": click.IntRange(min=0),
                "default": HttpOptions().streams,
                "show_default": True,
                "help": "Streams and questions that wait, of one address at a time; 0 is no limit.",
            },
        ),
        (
            "--dns",
            {
                "metavar": "ADDRESS",
                "help": "Where to answer DNS, such as 127.0.0.1:7753.  [default: nowhere]",
            },
        ),
        (
            "--dns-zone",
            {"default": defaults.zone, "show_default": True, "help": "What the names are below."},
        ),
        (
            "--dns-ttl",
            {
                "type": int,
                "default": defaults.ttl,
                "help": "Seconds that others may keep an answer.  [default: 0]",
            },
        ),
        (
            "--dns-negative-ttl",
            {
                "type": int,
                "default": defaults.negative_ttl,
                "help": "Seconds that they may keep that there is none.  [default: 0]",
            },
        ),
        (
            "--dns-near",
            {"default": "", "metavar": "ZONE", "help": "Have the instances of this zone come first."},
        ),
        (
            "--dns-recursor",
            {
                "multiple": True,
                "metavar": "ADDRESS",
                "help": "Who is asked about all other names; repeatable.",
            },
        ),
    ]
    for name, words in reversed(options):
        variable = _ENVIRONMENT + name.removeprefix("--").replace("-", "_").upper()
        command = click.option(name, envvar=variable, **words)(command)
    return command


def fronts_of(options: dict[str, Any]) -> Fronts:
    """Return what the options say.

    Raises:
        duplex.ConfigurationError: the certificate cannot be used, or something is no URL.
    """
    return Fronts(
        http=options["http"] or "",
        http_options=HttpOptions(
            write_token=options["http_write_token"] or "",
            read_token=options["http_read_token"] or "",
            anybody=options["http_anybody"],
            tls=_tls(options["http_certificate"]),
            streams=options["http_streams"],
        ),
        http_advertise=tuple(map(_url, options["http_advertise"])),
        dns=options["dns"] or "",
        dns_options=DnsOptions(
            zone=options["dns_zone"],
            ttl=options["dns_ttl"],
            negative_ttl=options["dns_negative_ttl"],
            near=options["dns_near"],
            recursors=tuple(options["dns_recursor"]),
        ),
    )


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")) or not text.partition("://")[2].strip("/"):
        raise duplex.ConfigurationError(
            f"--http-advertise is a URL such as http://10.0.0.7:7710, not {text!r}"
        )
    return text.rstrip("/")


def _tls(path: str | None) -> ssl.SSLContext | None:
    if not path:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(path)
    except (OSError, ssl.SSLError) as error:
        raise duplex.ConfigurationError(f"--http-certificate {path}: {error}") from error
    return context
