"""Puts a wire in the place of the transports, and decides the order in which trio runs tasks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import trio

from duplex import transports
from tests.wires.orders import ORDERS
from tests.wires.transport import WireTransport


@contextlib.contextmanager
def in_place(name: str, seed: str) -> Iterator[None]:
    """Have all endpoints of this process use a wire; any other name than that of one changes nothing."""
    order = ORDERS.get(name)
    schemes = transports._BY_SCHEME
    before = dict(schemes)
    if order is not None:
        schemes.update({scheme: WireTransport(inner, order, seed) for scheme, inner in before.items()})
    try:
        yield
    finally:
        schemes.update(before)


def shuffle_tasks(seed: str) -> None:
    """Let trio run the tasks of each pass in an order that follows from a seed."""
    trio_run: Any = trio._core._run
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True  # as pytest-trio does
    trio_run._r.seed(seed)
