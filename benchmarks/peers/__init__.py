"""The peers: which there are, what they need, and what each must offer.

A peer runs as two processes, ``python -m benchmarks.peers serve NAME`` and ``... run NAME SCENARIO ADDRESS
SECONDS``. To add one, write a module with an object of type :class:`Peer` and enter it in :data:`PEERS`.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from collections.abc import Callable, Mapping
from typing import Final, Protocol, cast


class Peer(Protocol):
    """One way to make calls."""

    def serve(self, announce: Callable[[str], None]) -> None:
        """Serve all scenarios at a free port of the loopback interface until the process is ended.

        Args:
            announce: to be called with the address once it can be connected to.
        """

    def run(self, scenario: str, address: str, seconds: float) -> float:
        """Measure one scenario, a key of ``SCENARIOS``, and return the figure in the scenario's unit."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """Where a peer is found."""

    name: str
    #: ``module:attribute``.
    location: str
    title: str
    #: Distributions whose versions belong into the report.
    distributions: tuple[str, ...] = ()
    #: A module without which the peer cannot run, and how to get it.
    requires: str | None = None
    hint: str = ""

    @property
    def is_missing(self) -> bool:
        """Whether what it requires is not installed."""
        return self.requires is not None and importlib.util.find_spec(self.requires) is None

    def load(self) -> Peer:
        """Import the peer."""
        module, _, attribute = self.location.partition(":")
        return cast("Peer", getattr(importlib.import_module(module), attribute))


PEERS: Final[Mapping[str, Entry]] = {
    entry.name: entry
    for entry in (
        Entry(
            "duplex",
            "benchmarks.peers.duplex_peer:TASKS",
            "Duplex, handlers are `async def`",
            ("duplex-rpc", "trio", "pyzmq", "msgspec"),
        ),
        Entry(
            "duplex-inline",
            "benchmarks.peers.duplex_peer:INLINE",
            "Duplex, handlers are plain functions with `inline=True`",
            ("duplex-rpc", "trio", "pyzmq", "msgspec"),
        ),
        Entry(
            "grpc",
            "benchmarks.peers.grpc_peer:PEER",
            "grpc.aio, generic handlers, msgpack payloads",
            ("grpcio", "msgspec"),
            requires="grpc",
            hint="pip install -e '.[bench]'",
        ),
        Entry(
            "pyzmq",
            "benchmarks.peers.pyzmq_peer:PEER",
            "pyzmq alone: blocking DEALER and ROUTER, no event loop, no protocol",
            ("pyzmq", "msgspec"),
        ),
    )
}


def entry_of(name: str) -> Entry:
    """Return the entry of a peer, given by its name, or by ``module:attribute`` for one that has no entry.

    Raises ``KeyError`` if there is none.
    """
    return Entry(name, name, name) if ":" in name else PEERS[name]
