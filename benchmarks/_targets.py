"""What Duplex is to reach, as data: an expression over the figures of one run, and a bound.

Bounds are ratios within a run, apart from memory, which does not depend on how busy the machine is.
"""

from __future__ import annotations

import dataclasses
from typing import Final, Literal, Protocol

from benchmarks._fits import exponent
from benchmarks._model import Better
from benchmarks._results import Results
from benchmarks.scenarios import FIGURES

HOME: Final = "duplex"
#: Not among the peers that others are compared with: floors, and Duplex itself.
APART: Final = frozenset(
    {"duplex", "duplex-inline", "duplex-libzmq", "duplex-tls", "pyzmq", "trio-pyzmq", "tcp"}
)


class Expression(Protocol):
    """Something that the results of a run have a value for, or not."""

    def value(self, results: Results) -> float | None:
        """Return the value; ``None`` if a figure is missing."""


@dataclasses.dataclass(frozen=True)
class Of:
    """One figure of one peer."""

    name: str
    peer: str = HOME

    def value(self, results: Results) -> float | None:
        return results.median(self.peer, self.name)

    def __str__(self) -> str:
        return self.name if self.peer == HOME else f"{self.peer} {self.name}"


@dataclasses.dataclass(frozen=True)
class Best:
    """The best figure of all peers but Duplex and the floors. There must be at least ``least`` to choose from."""

    name: str
    least: int = 3

    def value(self, results: Results) -> float | None:
        medians = [results.median(peer, self.name) for peer in results.peers if peer not in APART]
        figures = [median for median in medians if median is not None]
        if len(figures) < self.least:
            return None
        return max(figures) if FIGURES[self.name].better is Better.HIGHER else min(figures)

    def __str__(self) -> str:
        return f"best peer's {self.name}"


@dataclasses.dataclass(frozen=True)
class Quotient:
    """One expression divided by another."""

    upper: Expression
    lower: Expression

    def value(self, results: Results) -> float | None:
        upper, lower = self.upper.value(results), self.lower.value(results)
        return upper / lower if upper is not None and lower else None

    def __str__(self) -> str:
        return f"{self.upper} / {self.lower}"


@dataclasses.dataclass(frozen=True)
class Exponent:
    """The exponent fitted to a family of Duplex's figures."""

    family: str

    def value(self, results: Results) -> float | None:
        return exponent(results, HOME, self.family)

    def __str__(self) -> str:
        return f"exponent of {self.family}"


@dataclasses.dataclass(frozen=True)
class Target:
    """A bound for an expression."""

    title: str
    expression: Expression
    relation: Literal["<=", ">="]
    bound: float
    unit: str = "×"

    def state(self, results: Results) -> tuple[float | None, Literal["met", "NOT MET", "not measured"]]:
        """Return the value, and whether it keeps the bound."""
        value = self.expression.value(results)
        if value is None:
            return None, "not measured"
        kept = value <= self.bound if self.relation == "<=" else value >= self.bound
        return value, "met" if kept else "NOT MET"


def _to(name: str, peer: str) -> Quotient:
    return Quotient(Of(name), Of(name, peer))


TARGETS: Final = (
    Target("sequential unary against gRPC", _to("latency.p50", "grpc"), "<=", 0.40),
    Target("sequential unary against aiozmq", _to("latency.p50", "aiozmq"), "<=", 0.9),
    Target("64 in flight against gRPC", _to("unary.64", "grpc"), ">=", 10),
    Target("64 in flight against aiozmq", _to("unary.64", "aiozmq"), ">=", 3),
    Target("64 in flight against Cap'n Proto", _to("unary.64", "pycapnp"), ">=", 1.7),
    Target("server stream against gRPC", _to("download.rate", "grpc"), ">=", 25),
    Target(
        "server stream against the fastest", Quotient(Of("download.rate"), Best("download.rate")), ">=", 4
    ),
    Target("1 MiB echo against gRPC", _to("echo.1MiB", "grpc"), ">=", 8),
    Target("1 MiB echo against aiozmq", _to("echo.1MiB", "aiozmq"), ">=", 1.5),
    Target("memory of an idle link", Of("memory.link"), "<=", 40, "KiB"),
    Target("a deadline", Of("features.deadline"), "<=", 1.15),
    Target("typed validation, five parameters", Of("features.validation"), "<=", 1.15),
    Target("typed validation, a struct", Of("features.validation-struct"), "<=", 1.15),
    # 5 % is what "nothing measurable" comes to: `features.same` shows how well two equal calls agree.
    Target("unused features", Of("features.unused"), "<=", 1.05),
    Target(
        "client stream against server stream", Quotient(Of("upload.rate"), Of("download.rate")), ">=", 1 / 1.5
    ),
    Target(
        "items both ways, each way counted, against server stream",
        Quotient(Of("bidi.carried"), Of("download.rate")),
        ">=",
        1 / 1.5,
    ),
    Target("a callback against a call", Quotient(Of("callbacks.time"), Of("latency.p50")), "<=", 2),
    Target("callbacks, 64 in flight", Quotient(Of("callbacks.rate"), Of("unary.64")), ">=", 0.5),
    Target("1 000 links, calls on one", Quotient(Of("links.one-1000"), Of("links.one-1")), ">=", 0.8),
    Target("1 000 links, calls on all in turn", Quotient(Of("links.all-1000"), Of("links.all-1")), ">=", 0.8),
    # A rate that falls as the power of -0.03 loses a fifth in three decades.
    Target("cost of a call as methods grow", Exponent("scaling-methods.rate"), ">=", -0.03, ""),
    Target("cost of a call as open channels grow", Exponent("scaling-channels.rate"), ">=", -0.03, ""),
)
