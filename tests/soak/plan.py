"""The faults of a soak: a pure function of a seed, so that a run can be had again."""

from __future__ import annotations

import dataclasses
import random
from typing import Final

#: Faults begin once everything runs, and end in time for all to recover before the reckoning.
FIRST, LAST = 0.03, 0.92
#: Seconds between two faults, on average.
PAUSE: Final = 2.0
#: A process that is killed is started again after this long.
DOWN: Final = (0.2, 3.0)

#: How often each kind of fault comes, and on whom. Those that live all along may be stopped but not killed.
KINDS: Final = {
    "kill": (3, ("server-mortal", "client-mortal")),
    "stop": (3, ("server-mortal", "client-mortal", "server-tcp", "server-ipc", "client-steady")),
    "close": (5, ("client-steady", "client-mortal", "server-tcp", "server-ipc")),
    "block": (3, ("client-steady", "client-mortal", "server-tcp", "server-ipc", "server-mortal")),
    "garbage": (4, ("server-tcp", "server-ipc", "server-mortal")),
}


@dataclasses.dataclass(frozen=True)
class Fault:
    """Something bad that happens to a process."""

    at: float
    kind: str
    target: str
    #: How long it is stopped, blocked or down, in seconds.
    seconds: float


def plan(seed: int, duration: float) -> list[Fault]:
    """Return the faults of a run of so many seconds, in order."""
    source = random.Random(f"plan-{seed}")
    weights = [weight for weight, _ in KINDS.values()]
    faults: list[Fault] = []
    at = duration * FIRST
    while True:
        at += source.uniform(0.25, 1.75) * min(PAUSE, duration / 15)
        if at > duration * LAST:
            return faults
        (kind,) = source.choices(list(KINDS), weights)
        # Half of the stops are so short that nobody may be taken for lost, the others long enough for it.
        longest = {"kill": DOWN[1], "stop": source.choice([2.0, 7.0]), "block": 1.5}.get(kind, 0.0)
        seconds = source.uniform(DOWN[0], max(DOWN[0], min(longest, duration / 10)))
        faults.append(Fault(at, kind, source.choice(KINDS[kind][1]), seconds))
