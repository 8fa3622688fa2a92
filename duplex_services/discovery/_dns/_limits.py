"""How many answers a network gets in a second, so that forged addresses do not make this server a weapon."""

from __future__ import annotations

import ipaddress
import socket
from typing import Final

#: Networks that are remembered.
_MOST: Final = 10_000


def network_of(address: str) -> str | bytes | None:
    """Return the network that an address is of: /24, or /56 of IPv6; ``None`` for this machine's own."""
    if "." in address and ":" not in address:
        return None if address.startswith("127.") else address.rpartition(".")[0]
    if address == "::1":
        return None
    return socket.inet_pton(socket.AF_INET6, address.partition("%")[0])[:7]


def is_near(address: str) -> bool:
    """Whether an address is of this machine or of a private network."""
    return ipaddress.ip_address(address.partition("%")[0]).is_private


class Budget:
    """Answers that each network may have, a second's worth at once.

    Args:
        rate: of each, in a second; 0 is no limit.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._left: dict[str | bytes, tuple[float, float]] = {}

    def __len__(self) -> int:
        return len(self._left)

    def take(self, address: str, now: float) -> bool:
        """Return whether an address may have another answer, and note that it has.

        Args:
            address: the client's.
            now: a time in seconds that never jumps.
        """
        network = network_of(address) if self._rate else None
        if network is None:
            return True
        left, at = self._left.get(network, (float(self._rate), now))
        left = min(float(self._rate), left + (now - at) * self._rate)
        if len(self._left) >= _MOST and network not in self._left:
            self._forget(now)
        self._left[network] = max(0.0, left - 1), now
        return left >= 1

    def _forget(self, now: float) -> None:
        # Who has been quiet for a second has all its budget again, and so has who is not remembered.
        self._left = {network: state for network, state in self._left.items() if now - state[1] < 1}
        if len(self._left) >= _MOST:
            self._left.clear()
