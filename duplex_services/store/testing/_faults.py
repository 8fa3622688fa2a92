"""What a suite may do to a store's servers, as far as its user can."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import msgspec

#: Harms the store for as long as the block takes, and undoes that after it.
Fault: TypeAlias = Callable[[], AbstractAsyncContextManager[None]]


class Faults(msgspec.Struct, frozen=True):
    """Faults that can be made; checks that need one that is ``None`` are left out.

    Attributes:
        stall: nobody answers, but what is sent arrives when it is over: ``SIGSTOP`` and ``SIGCONT`` of the server
            (of the leader, where others take over).
        restart: the server is killed, and is back, with all that it had acknowledged, when the block is entered.
        replace: the server is gone, and an empty one is in its place when the block is entered.
        deny: the rights of the clients to read are taken away, and given back.
        deafen: the server that a client watches is cut off from the others, or tells nothing more, while its clients
            still reach it.
    """

    stall: Fault | None = None
    restart: Fault | None = None
    replace: Fault | None = None
    deny: Fault | None = None
    deafen: Fault | None = None
