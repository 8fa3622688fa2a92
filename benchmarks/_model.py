"""What a scenario is: a name, the figures it gives, what it asks of a peer, and the function that measures."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from benchmarks._histogram import Histogram

if TYPE_CHECKING:
    from benchmarks.peers import Client, Peer
    from benchmarks.peers._runtimes import Runtime


class Better(enum.Enum):
    """Which of two figures is the better one."""

    LOWER = "lower is better"
    HIGHER = "higher is better"


@dataclasses.dataclass(frozen=True)
class Figure:
    """One number that a scenario gives."""

    title: str
    unit: str
    better: Better
    #: The name of the histogram of which it is a percentile, and which: it is that of all repeats together, in µs.
    percentile: tuple[str, float] | None = None


@dataclasses.dataclass(frozen=True)
class Session:
    """What the function of a scenario has at hand, in the client's process."""

    peer: Peer
    runtime: Runtime
    client: Client
    address: str
    #: How long one figure is measured.
    seconds: float
    server_pid: int
    #: The peer's name or ``module:attribute``, to start another process of it.
    location: str
    abilities: frozenset[str]
    #: Filled in by scenarios of latency, by the name of what they belong to.
    histograms: dict[str, Histogram] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Scenario:
    """One thing that is measured, with a fresh pair of processes."""

    name: str
    title: str
    #: By the name that follows the scenario's, as in ``latency.p50``.
    figures: Mapping[str, Figure]
    #: Gives figures by name; one that a peer cannot give is left out.
    run: Callable[[Session], Awaitable[dict[str, float]]]
    #: What a peer must be able to do, of :data:`benchmarks.peers.ABILITIES`.
    needs: frozenset[str]
    #: How many times ``seconds`` it takes, and how many seconds beside them: for timeouts.
    parts: int = 1
    extra: float = 0.0
    #: Part of ``--quick``.
    quick: bool = True
