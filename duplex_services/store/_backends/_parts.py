"""Groups of commits, in parts that a server takes as one request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from duplex_services.store._model import Commit


def in_parts(
    commits: Sequence[Commit], cost: Callable[[Commit], tuple[int, ...]], limits: tuple[int, ...]
) -> Iterator[list[Commit]]:
    """Split commits, in order; one that is too much by itself is a part of its own.

    Args:
        commits: which.
        cost: what one takes of each of the limits.
        limits: what a part may take.
    """
    part: list[Commit] = []
    left = limits
    for commit in commits:
        taken = cost(commit)
        if part and any(one > rest for one, rest in zip(taken, left, strict=True)):
            yield part
            part, left = [], limits
        part.append(commit)
        left = tuple(rest - one for one, rest in zip(taken, left, strict=True))
    if part:
        yield part
