"""Peers and calls that are only numbers: what a policy makes of them, at any load, in no time."""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from duplex.client.balancing import Balancer, Meter
from duplex.codec import CODECS
from duplex.engine.calling import Request

REQUEST = Request("s.m", "s.m", CODECS["msgpack"])


@dataclasses.dataclass(eq=False)
class Worker:
    """A candidate, and how long it takes for a call."""

    id: str
    seconds: float = 0.01
    weight: float = 1.0
    delay: float = 0.0
    #: Calls that it works at, at once; the others wait in line.
    hands: int = 10_000
    place: str = ""
    free_at: list[float] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.place = self.place or f"tcp://{self.id}"
        self.free_at = [0.0] * min(self.hands, 1000)

    def takes(self, now: float, chance: random.Random) -> float:
        """Return when a call that comes now is answered; a tenth more or less of its time is chance."""
        begin = max(now, self.free_at[0])
        end = begin + self.seconds * chance.uniform(0.9, 1.1)
        heapq.heapreplace(self.free_at, end)
        return end


def choose(balancer: Balancer, workers: Sequence[Worker], now: float = 0.0, seed: int = 1) -> Worker:
    """Return whom a policy chooses."""
    return balancer.choose(workers, REQUEST, now, random.Random(seed))[0]


def closed_loop(
    balancer: Balancer,
    workers: Sequence[Worker],
    callers: int,
    seconds: float,
    *,
    seed: int = 1,
    events: Mapping[float, Callable[[], Sequence[Worker]]] | None = None,
) -> Counter[tuple[int, str]]:
    """Have so many callers make one call after the other.

    Returns:
        How many calls were answered, by the second in which that was and by the worker.
    """
    return _run(balancer, workers, [0.0] * callers, seconds, seed, events or {}, again=True)


def open_loop(
    balancer: Balancer,
    workers: Sequence[Worker],
    rate: float,
    seconds: float,
    *,
    seed: int = 1,
    events: Mapping[float, Callable[[], Sequence[Worker]]] | None = None,
) -> Counter[tuple[int, str]]:
    """Have so many calls begin a second, whatever becomes of those before. Returns what :func:`closed_loop` does."""
    chance = random.Random(seed)
    times = list(itertools.accumulate(chance.expovariate(rate) for _ in range(int(rate * seconds))))
    return _run(balancer, workers, times, seconds, seed, events or {}, again=False)


def _run(
    balancer: Balancer,
    workers: Sequence[Worker],
    begins: Sequence[float],
    seconds: float,
    seed: int,
    events: Mapping[float, Callable[[], Sequence[Worker]]],
    *,
    again: bool,
) -> Counter[tuple[int, str]]:
    chance = random.Random(seed)
    number = itertools.count()
    #: What happens when: a change, or the end of a call at a worker that began at a time, or a beginning.
    queue: list[
        tuple[float, int, Callable[[], Sequence[Worker]] | tuple[Worker, Meter | None, float] | None]
    ] = []
    for time, change in events.items():
        heapq.heappush(queue, (time, next(number), change))
    for time in begins:
        heapq.heappush(queue, (time, next(number), None))
    answered: Counter[tuple[int, str]] = Counter()
    while queue and queue[0][0] < seconds:
        now, _, what = heapq.heappop(queue)
        if callable(what):
            workers = what()
            continue
        if what is not None:
            worker, meter, began = what
            answered[int(now), worker.id] += 1
            if meter is not None:
                meter.end(now, began)
            if not again:
                continue
        worker, meter = balancer.choose(workers, REQUEST, now, chance)
        if meter is not None:
            meter.begin(now)
        heapq.heappush(queue, (worker.takes(now, chance), next(number), (worker, meter, now)))
    return answered


def by_worker(answered: Counter[tuple[int, str]], first: int = 0, last: int = 10**9) -> Counter[str]:
    """Return how many calls each worker has answered, from one second until before another."""
    counts: Counter[str] = Counter()
    for (second, worker), count in answered.items():
        if first <= second < last:
            counts[worker] += count
    return counts
