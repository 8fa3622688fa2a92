"""The addresses of this machine."""

from __future__ import annotations

import socket

import duplex
from duplex_services.discovery._rules._advertising import Interface


def interfaces() -> list[Interface]:
    """Return the addresses of the interfaces that are up.

    Raises:
        ConfigurationError: a library is missing.
    """
    try:
        import psutil
    except ModuleNotFoundError:
        raise duplex.ConfigurationError(
            "to tell which addresses this machine has needs the library psutil, which is not installed: "
            "pip install 'duplex-rpc[discovery]'; or bind to an address, or advertise one"
        ) from None
    up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    return [
        Interface(name, address.address.partition("%")[0])
        for name, addresses in psutil.net_if_addrs().items()
        if name in up
        for address in addresses
        if address.family in (socket.AF_INET, socket.AF_INET6)
    ]
