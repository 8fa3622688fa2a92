"""The options for certificates, of every command that links."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from duplex import TLS

F = TypeVar("F", bound=Callable[..., Any])

#: Under which a command keeps them.
_TLS: Final = "duplex.tls"
#: By their fields of :class:`duplex.TLS`: the word, what it is, and what it says.
_ALL: Final = {
    "ca": ("ca", "FILE", "For tls://: which authorities are trusted, in PEM.  [default: this system's]"),
    "certificate": (
        "cert",
        "FILE",
        "For tls://: the certificate of this side, in PEM, with those behind it.",
    ),
    "key": ("key", "FILE", "For tls://: its private key.  [default: in the file of the certificate]"),
    "server_name": (
        "server-name",
        "NAME",
        "For tls://: whom the server's certificate has to be for.  [default: the host]",
    ),
}
_OF_SERVERS: Final = {
    "client_ca": ("client-ca", "FILE", "For tls://: ask who connects for a certificate of these authorities.")
}


def tls_options(command: F) -> F:
    """How ``tls://`` endpoints encrypt, and whom they trust: see :func:`tls`."""
    for field, (word, metavar, text) in reversed(_ALL.items()):
        command = _option(field, word, metavar, text)(command)
    return command


def server_tls_options(command: F) -> F:
    """The same, and what those who bind may ask of others."""
    for field, (word, metavar, text) in _OF_SERVERS.items():
        command = _option(field, word, metavar, text)(command)
    return tls_options(command)


def _option(field: str, word: str, metavar: str, text: str) -> Callable[[F], F]:
    def note(context: click.Context, _option: click.Parameter, value: str | None) -> None:
        if value is not None:
            context.meta.setdefault(_TLS, {})[field] = value

    return click.option(
        f"--tls-{word}",
        metavar=metavar,
        envvar=f"DUPLEX_TLS_{word.replace('-', '_').upper()}",
        expose_value=False,
        callback=note,
        help=text,
    )


def tls() -> TLS | None:
    """Return what the command that runs says of it; ``None`` for nothing.

    Raises:
        ConfigurationError: that makes no sense.
    """
    from duplex import TLS

    context = click.get_current_context(silent=True)
    found: dict[str, Any] | None = None if context is None else context.meta.get(_TLS)
    return None if found is None else TLS(**found)
