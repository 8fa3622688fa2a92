"""How long the state machines run: briefly in ``make test``, for long in ``make fuzz``."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

#: What ``DUPLEX_HYPOTHESIS=long`` multiplies the number of examples by; ``DUPLEX_HYPOTHESIS=20`` says it.
LONG = 40


def scale() -> int:
    """Return how many times more examples than usual are asked for."""
    asked = os.environ.get("DUPLEX_HYPOTHESIS", "")
    return LONG if asked == "long" else int(asked or 1)


def machine_settings(*, examples: int, steps: int) -> settings:
    """Return the settings of a state machine, for so many examples of so many steps in ``make test``."""
    return settings(
        max_examples=examples * scale(),
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
