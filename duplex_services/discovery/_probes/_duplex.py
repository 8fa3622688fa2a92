"""Checking by asking a peer of Duplex's."""

from __future__ import annotations

import duplex
from duplex_services.discovery._model import Check
from duplex_services.discovery._rules._monitor import Result


async def probe(check: Check, target: str, tls: duplex.TLS | None = None) -> Result:
    """Ask the health service of the peer at an endpoint whether it takes calls of a service, or any."""
    what = f"{target}: {check.service or 'the peer'}"
    try:
        async with duplex.open_peer(
            name="discovery check", connect_timeout=check.timeout, reflection=False, tls=tls
        ) as peer:
            link = await peer.connect(target)
            status = await link.service("duplex.health").check(check.service)
    except duplex.RPCError as error:
        return Result("critical", f"{what}: {error.message}")
    except duplex.DuplexError as error:
        return Result("critical", f"{what}: {error}")
    if status == "SERVING":
        return Result("passing", f"{what} takes calls")
    return Result("critical", f"{what} is {status}")
