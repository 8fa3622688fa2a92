"""``duplex health``: whether a peer takes calls, for a person, a script or a container's health check."""

from __future__ import annotations

from typing import Final

import click
import trio

import duplex
from duplex.cli._errors import FAILED, CommandError
from duplex.cli._report import printable
from duplex.cli._session import linked

HEALTH: Final = "duplex.health"
SERVING: Final = "SERVING"
#: Seconds between two attempts to reach a peer that is awaited.
_PAUSE: Final = 0.2


async def show_health(endpoint: str, service: str, *, connect_timeout: float) -> int:
    """Write whether a service takes calls to stdout, and return the exit code.

    Args:
        endpoint: where the peer is bound.
        service: its name; empty for the peer as a whole.
        connect_timeout: seconds to wait for a link, and for the answer.
    """
    async with linked(endpoint, connect_timeout) as link:
        status = str(await link.service(HEALTH).with_options(timeout=connect_timeout).check(service))
    click.echo(printable(status))
    return 0 if status == SERVING else FAILED


async def wait_for_health(endpoint: str, service: str, *, timeout: float, connect_timeout: float) -> int:
    """Return once a service takes calls, be its peer there yet or not.

    Args:
        endpoint: where the peer is bound, or is going to be.
        service: as for :func:`show_health`.
        timeout: seconds to wait.
        connect_timeout: seconds for each attempt to link.

    Raises:
        CommandError: it did not within that time; the message says what was known last.
    """
    known = "nothing was heard of it"
    with trio.move_on_after(timeout):
        while True:
            try:
                async with (
                    linked(endpoint, connect_timeout) as link,
                    link.service(HEALTH).watch.open(service) as changes,
                ):
                    async for status in changes:
                        if status == SERVING:
                            click.echo(SERVING)
                            return 0
                        known = f"it is {status}"
            except duplex.ConfigurationError:
                raise
            except duplex.DuplexError as error:
                # It may come yet: the peer, or the service.
                known = str(error).partition("\n")[0]
            await trio.sleep(_PAUSE)
    raise CommandError(printable(f"not serving within {timeout:g} s: {known}"), FAILED)
