"""A resolver that is asked once, and not followed."""

from __future__ import annotations

import trio

from duplex._errors import ConfigurationError, ConnectError, as_text
from duplex.client.following._service import as_known, closing
from duplex.resolvers import Known, Resolver


async def ask_once(resolver: Resolver, service: str, seconds: float) -> Known:
    """Return the first endpoints that a resolver tells.

    Args:
        resolver: what is asked.
        service: the name of the service; may be empty.
        seconds: that it has.

    Raises:
        ConfigurationError: the resolver cannot be asked that.
        ConnectError: there are none, or it cannot say in time; the message says why.
    """
    known: Known | None = None
    with trio.move_on_after(seconds):
        try:
            async with closing(resolver.resolve(service)) as sets:
                async for told in sets:
                    known = as_known(told)
                    break
        except ConfigurationError:
            raise
        except Exception as error:
            raise ConnectError(f"{resolver!r} cannot say where it is: {as_text(error)}") from error
    if known is None:
        raise ConnectError(f"{resolver!r} did not say where it is within {seconds:g} s")
    if not known.endpoints:
        raise ConnectError(known.problem or f"{resolver!r} names no endpoints")
    return known
