"""Network namespaces for the nodes of a store: they speak over one bridge, and with clients over another.

So a node can be cut off from its peers while its clients still reach it, without a word to anybody: that is the fault that
the words "the connection is fine" hide.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final, final

from tests.services.servers import Place

#: How the names of our namespaces begin; then comes the process that made them.
_PREFIX: Final = "duplex-stores-"
#: From the block that is set aside for benchmarks of networks, which nobody uses otherwise (RFC 2544).
_PEERS: Final = "198.18.78"
_CLIENTS: Final = "198.18.79"
_PORT: Final = 7000


@final
class Network:
    """Namespaces by their names.

    Attributes:
        clients: where the clients live, and both bridges.
        nodes: where the nodes live.
    """

    def __init__(self, clients: str, nodes: list[str]) -> None:
        self.clients = clients
        self.nodes = nodes

    def places(self, peer_ports: int) -> list[Place]:
        """Return a place in each of the namespaces; whoever uses it lives where the clients do."""
        ports = tuple(range(_PORT + 1, _PORT + 1 + peer_ports))
        return [
            Place(f"{_CLIENTS}.{10 + index}", _PORT, f"{_PEERS}.{10 + index}", ports, _enter(name))
            for index, name in enumerate(self.nodes)
        ]

    def cut(self, index: int) -> None:
        """Cut a node off from the others: what they send each other is lost."""
        _ip("-n", self.clients, "link", "set", f"p{index}", "down")

    def mend(self, index: int) -> None:
        """Let it hear from the others again."""
        _ip("-n", self.clients, "link", "set", f"p{index}", "up")


@contextlib.contextmanager
def network(nodes: int = 3) -> Iterator[Network]:
    """Make namespaces for some nodes; root."""
    _remove_stale()
    token = f"{_PREFIX}{os.getpid()}-{secrets.token_hex(2)}"
    found = Network(token, [f"{token}-{index}" for index in range(nodes)])
    with contextlib.ExitStack() as stack:
        for name in (found.clients, *found.nodes):
            _ip("netns", "add", name)
            stack.callback(_ip, "netns", "del", name)
            _ip("-n", name, "link", "set", "lo", "up")
        for bridge in ("peers", "clients"):
            _ip("-n", found.clients, "link", "add", bridge, "type", "bridge")
            _ip("-n", found.clients, "link", "set", bridge, "up")
        _ip("-n", found.clients, "addr", "add", f"{_CLIENTS}.1/24", "dev", "clients")
        for index, name in enumerate(found.nodes):
            for bridge, subnet in (("peers", _PEERS), ("clients", _CLIENTS)):
                port, inside = f"{bridge[0]}{index}", f"{bridge[0]}0"
                ends = [port, "netns", found.clients, "type", "veth", "peer", "name", inside, "netns", name]
                _ip("link", "add", *ends)
                _ip("-n", found.clients, "link", "set", port, "master", bridge, "up")
                _ip("-n", name, "addr", "add", f"{subnet}.{10 + index}/24", "dev", inside)
                _ip("-n", name, "link", "set", inside, "up")
        yield found


def _enter(name: str) -> tuple[str, ...]:
    return ("ip", "netns", "exec", name)


def inside(network: Network, command: list[str]) -> list[str]:
    """Return the command that runs another one where the clients live."""
    return [*_enter(network.clients), *command]


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _remove_stale() -> None:
    """Remove what a run left behind that was killed before it could remove it itself."""
    for path in Path("/run/netns").glob(f"{_PREFIX}*"):
        maker = path.name.removeprefix(_PREFIX).partition("-")[0]
        if not Path(f"/proc/{maker}").exists():
            _ip("netns", "del", path.name)
