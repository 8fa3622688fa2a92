"""How commands ask a server of discovery."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, TypeVar

import click
import trio

import duplex
from duplex.cli.options import credentials, credentials_option, tls, tls_options
from duplex_services._shared._commands import run
from duplex_services._shared._places import socket_endpoint
from duplex_services.discovery._rules._naming import LOCAL
from duplex_services.discovery._rules._retrying import refusal_of
from duplex_services.discovery.client import SERVICE, DiscoveryService, open_client

#: Seconds that an answer may take, and a link, of these.
ANSWER_WITHIN: Final = 5.0
_LINK_WITHIN: Final = 4.0

#: Seconds that a completion may take.
_COMPLETE_WITHIN: Final = 1.0

F = TypeVar("F", bound=Callable[..., Any])
_T = TypeVar("_T")


def where_option(command: F) -> F:
    """Which servers are asked, what is shown to them, and how they are trusted."""
    option = click.option(
        "--discovery",
        "where",
        multiple=True,
        envvar="DUPLEX_DISCOVERY",
        metavar="ENDPOINT",
        help="A server of discovery; repeatable.  [default: DUPLEX_DISCOVERY, or the Unix socket of this host's]",
    )
    return option(credentials_option(tls_options(command)))


def open_line(where: tuple[str, ...]) -> AbstractAsyncContextManager[duplex.Peer]:
    """Open a peer to the servers that a command names."""
    return open_client(*places(where), credentials=credentials(), tls=tls(), connect_timeout=_LINK_WITHIN)


def ask(where: tuple[str, ...], question: Callable[[DiscoveryService], Awaitable[_T]]) -> _T:
    """Ask a server of discovery, and return the answer.

    Raises:
        Unavailable: none answers.
        RPCError: as the method has it.
    """

    async def asked() -> _T:
        async with open_line(where) as peer:
            with trio.move_on_after(ANSWER_WITHIN):
                try:
                    return await question(peer.service(DiscoveryService, name=SERVICE))
                except duplex.Unavailable as error:
                    if refusal_of(error) is not None:
                        raise
                    raise nobody(where, error.message) from None
        raise nobody(where)

    return run(asked)


def complete_service(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return names of services with which what was typed may go on; none if nobody answers."""

    async def asked(where: tuple[str, ...]) -> list[str]:
        with trio.move_on_after(_COMPLETE_WITHIN):
            async with open_line(where) as peer:
                overview = await peer.service(DiscoveryService, name=SERVICE).services()
                return [info.name for info in overview.services]
        return []

    try:
        names = run(lambda: asked(tuple(context.params.get("where") or ())))
    except (duplex.DuplexError, OSError):
        return []
    return [name for name in names if name.startswith(incomplete)]


def places(where: tuple[str, ...]) -> tuple[str, ...]:
    """Return the endpoints to ask."""
    given = tuple(part for text in where for part in text.split(",") if part) or (LOCAL,)
    return tuple(socket_endpoint("discovery") if part == LOCAL else _long(part) for part in given)


def _long(endpoint: str) -> str:
    """Return an endpoint of which the scheme may be left out."""
    if "://" in endpoint:
        return endpoint
    return f"tcp://127.0.0.1{endpoint}" if endpoint.startswith(":") else f"tcp://{endpoint}"


def nobody(where: tuple[str, ...], why: str = "") -> duplex.Unavailable:
    """Return what is told if no server answers; with the reason, if it is known."""
    reason = f" ({why})" if why else ""
    return duplex.Unavailable(
        f"no server of discovery answers at {', '.join(places(where))}{reason}: start one with `duplex discovery run`, "
        "or say where it is with --discovery or DUPLEX_DISCOVERY"
    )
