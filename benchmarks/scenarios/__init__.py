"""The scenarios, by theme."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from benchmarks._model import Figure, Scenario
from benchmarks.scenarios import (
    callbacks,
    cores,
    features,
    latency,
    links,
    memory,
    open_loop,
    payloads,
    scaling,
    startup,
    streaming,
    throughput,
)

#: By name, in the order in which they are measured and shown.
SCENARIOS: Final[Mapping[str, Scenario]] = {
    scenario.name: scenario
    for module in (
        latency,
        throughput,
        streaming,
        payloads,
        callbacks,
        open_loop,
        links,
        memory,
        startup,
        features,
        scaling,
        cores,
    )
    for scenario in module.SCENARIOS
}

#: By full name, such as ``latency.p50``.
FIGURES: Final[Mapping[str, Figure]] = {
    f"{scenario.name}.{name}": figure
    for scenario in SCENARIOS.values()
    for name, figure in scenario.figures.items()
}
