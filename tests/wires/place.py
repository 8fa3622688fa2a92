"""Puts a wire in the place of the transports, and decides the order in which trio runs tasks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final

import trio

from duplex import transports
from tests.wires.named import EncryptedTransport, LibzmqTransport, NamedTransport
from tests.wires.orders import ORDERS
from tests.wires.transport import WireTransport

#: The name of the wire that is Unix sockets where ``memory://`` is named, and of the one that is libzmq for ``tcp://`` and ``ipc://``.
SOCKETS: Final = "sockets"
LIBZMQ: Final = "libzmq"
#: The name of the wire that is TLS where ``memory://`` is named.
ENCRYPTED: Final = "tls"
#: The name of the wire that leads to another process, and the test for which :func:`tests.engine.helpers.linked` uses it.
PROCESS: Final = "process"
elsewhere_for: Callable[..., Any] | None = None


@contextlib.contextmanager
def in_place(
    name: str, seed: str, test: Callable[..., Any] | None = None, *, has_clock: bool = False
) -> Iterator[None]:
    """Have all endpoints of this process use a wire; any other name than that of one changes nothing.

    Args:
        name: of the wire.
        seed: of what it leaves to chance.
        test: what it is for.
        has_clock: it has a clock of its own, which the kernel does not keep to: ``memory://`` stays in memory.
    """
    global elsewhere_for
    order = ORDERS.get(name)
    schemes = transports.DEFAULT._by_scheme
    before = dict(schemes)
    if order is not None:
        wires = {inner: WireTransport(inner, order, seed) for inner in transports.DEFAULT}
        schemes.update({scheme: wires[inner] for scheme, inner in before.items()})
    if name in (SOCKETS, ENCRYPTED) and not has_clock:
        named = NamedTransport() if name == SOCKETS else EncryptedTransport()
        schemes.update(dict.fromkeys(named.schemes, named))
    if name == LIBZMQ:
        libzmq = LibzmqTransport()
        schemes.update(dict.fromkeys(libzmq.schemes, libzmq))
    elsewhere_for = test if name == PROCESS else None
    try:
        yield
    finally:
        schemes.update(before)
        elsewhere_for = None


def shuffle_tasks(seed: str) -> None:
    """Let trio run the tasks of each pass in an order that follows from a seed."""
    trio_run: Any = trio._core._run
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True  # as pytest-trio does
    trio_run._r.seed(seed)
