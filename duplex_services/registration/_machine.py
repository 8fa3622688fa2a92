"""This machine: its name and its addresses."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import Final, final

import duplex
from duplex_services.registration._model import Host
from duplex_services.registration._rules._hosts import Interface, choose_host

#: Seconds for which addresses are not read again.
_FRESH: Final = 5.0

#: Addresses for documentation, that nobody has: a socket that is connected there sends nothing, but has our address.
_ELSEWHERE: Final = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


@final
class Machine:
    """Who this is, for others.

    Args:
        wanted: addresses, networks or interfaces to tell; empty for the ones from which others are reached.
        name: instead of the machine's.
        resolves: the address is the one that the name resolves to, as with Registrator.
        clock: for how long it is known.

    Attributes:
        trouble: why there is no address.
    """

    def __init__(
        self,
        wanted: Sequence[str] = (),
        *,
        name: str = "",
        resolves: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.trouble = ""
        self._wanted = tuple(wanted)
        self._name = name
        self._resolves = resolves
        self._clock = clock
        self._known: tuple[float, Host] | None = None

    def __call__(self) -> Host:
        """Return the host as it is; what cannot be found out stays empty, with the reason in ``trouble``.

        Raises:
            ConfigurationError: a library is missing.
        """
        now = self._clock()
        if self._known is None or now - self._known[0] > _FRESH:
            self._known = (now, self._find())
        return self._known[1]

    def _find(self) -> Host:
        name = self._name or socket.gethostname()
        self.trouble = ""
        if self._resolves and not self._wanted:
            return Host(name, _resolved(name))
        here = _interfaces()
        try:
            return choose_host(name, here, self._wanted, _routed())
        except ValueError as error:
            self.trouble = str(error)
            return Host(name)


def _resolved(name: str) -> str:
    try:
        return str(socket.getaddrinfo(os.fsencode(name), None, socket.AF_INET)[0][4][0])
    except OSError:
        return ""


def _interfaces() -> list[Interface]:
    try:
        import psutil
    except ModuleNotFoundError:
        raise duplex.ConfigurationError(
            "to tell which addresses this machine has needs the library psutil, which is not installed: "
            "pip install 'duplex-rpc[registration]'"
        ) from None
    return [
        Interface(name, address.address.partition("%")[0])
        for name, addresses in psutil.net_if_addrs().items()
        for address in addresses
        if address.family in (socket.AF_INET, socket.AF_INET6)
    ]


def _routed() -> list[str]:
    found: list[str] = []
    for family, elsewhere in _ELSEWHERE:
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((elsewhere, 9))
            found.append(str(sock.getsockname()[0]))
    return found
