"""What the tests of all stores on real servers share: which checks there are, and how to do harm to servers."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final

import trio

from duplex_services.store import open_store
from duplex_services.store.testing import CHECKS, Faults, check_store
from tests.machine import within
from tests.services.servers import Node, Servers, paused

#: The checks by the fault that they need; ``""`` is none.
BY_FAULT: Final = {
    fault: [name for name in CHECKS if name.partition("_")[0] == fault] for fault in Faults.__struct_fields__
}
WITHOUT_FAULT: Final = [name for name in CHECKS if name.partition("_")[0] not in BY_FAULT]


async def check(name: str, url: str, *, ttl: float = 2.0, faults: Faults | None = None) -> None:
    """Run one check of a store that can be reached by URL.

    Args:
        name: which.
        url: where; another process uses it, too.
        ttl: of leases, the shortest of this store.
        faults: what can be done to it.
    """
    (result,) = await check_store(
        lambda **options: open_store(url, **options),
        only=[name],
        url=url,
        ttl=ttl,
        faults=faults,
        slack=within(10),
        timeout=within(100),
    )
    assert (result.name, result.left_out) == (name, "")


def faults_of(servers: Servers, watched: Callable[[], Node] | None = None) -> Faults:
    """Return what can be done to the servers of any store.

    Args:
        servers: which.
        watched: finds the node that is stopped, by default the leader.
    """

    @contextlib.asynccontextmanager
    async def stall() -> AsyncIterator[None]:
        node = await trio.to_thread.run_sync(watched or servers.leader)
        with paused(node):
            yield

    def again(*, wipe: bool) -> Callable[[], contextlib.AbstractAsyncContextManager[None]]:
        @contextlib.asynccontextmanager
        async def restart() -> AsyncIterator[None]:
            servers.restart(wipe=wipe)
            await trio.to_thread.run_sync(servers.wait_ready)
            yield

        return restart

    return Faults(stall=stall, restart=again(wipe=False), replace=again(wipe=True))
