"""Who has connected and not said yet who they are: how many there may be, for how long, and who gives way to whom.

Anybody can connect to a port, and a connection costs a descriptor. When there are too many strangers, the one that has been
silent longest gives way, of the same address if there is one: so a host that makes many takes them from itself, and a client that
greets at once gets through.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Hashable
from typing import Final, Generic, TypeVar, final

T = TypeVar("T", bound=Hashable)

#: Of an IPv6 address so many bits say whose network it is: one host has as many addresses as it likes within it.
_NETWORK_BITS: Final = 64


def neighbourhood(host: str | None) -> str:
    """Return what the connections of one host, or of one network of its, have in common.

    Args:
        host: its address; ``None`` for a Unix socket.

    Returns:
        The address, or its IPv6 network; empty for this machine, as there is no telling its programs apart.
    """
    if host is None:
        return ""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            if address.is_loopback:
                return ""
            return str(ipaddress.ip_network((address, _NETWORK_BITS), strict=False))
        address = address.ipv4_mapped
    return "" if address.is_loopback else str(address)


@final
class Strangers(Generic[T]):
    """The strangers at one port.

    Args:
        most: how many there may be.
        most_of_one: how many of one address; of this machine's own as many as there may be at all.
        patience: seconds that each has.
    """

    def __init__(self, most: int, most_of_one: int, patience: float) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._patience = patience
        #: When the time of each is over, in the order in which they came.
        self._due: dict[T, float] = {}
        #: By where they come from, in the same order; and where each comes from.
        self._of: dict[str, dict[T, None]] = {}
        self._where: dict[T, str] = {}

    def __len__(self) -> int:
        return len(self._due)

    def add(self, stranger: T, host: str | None, now: float) -> T | None:
        """Let one in, and return the one that has to give way, if there are too many.

        Args:
            stranger: who is new.
            host: its address; ``None`` for a Unix socket.
            now: the time.
        """
        where = neighbourhood(host)
        neighbours = self._of.get(where, {})
        loser = None
        if neighbours and (len(self._due) >= self._most or (where and len(neighbours) >= self._most_of_one)):
            loser = next(iter(neighbours))
        elif len(self._due) >= self._most:
            loser = self.loser()
        if loser is not None:
            self.remove(loser)
        self._due[stranger] = now + self._patience
        self._where[stranger] = where
        self._of.setdefault(where, {})[stranger] = None
        return loser

    def loser(self) -> T | None:
        """Return who has to give way to somebody else: the oldest of the address that has most."""
        most = max(self._of.values(), key=len, default=None)
        return None if most is None else next(iter(most))

    def remove(self, stranger: T) -> None:
        """One has said who he is, or is gone. Who is none stays none."""
        if self._due.pop(stranger, None) is None:
            return
        where = self._where.pop(stranger)
        neighbours = self._of[where]
        del neighbours[stranger]
        if not neighbours:
            del self._of[where]

    def take_due(self, now: float) -> list[T]:
        """Return those whose time is over. They are strangers no more."""
        due = []
        for stranger, until in self._due.items():
            if until > now:
                break
            due.append(stranger)
        for stranger in due:
            self.remove(stranger)
        return due

    def next_due(self) -> float | None:
        """Return when the time of the next one is over."""
        return next(iter(self._due.values()), None)
