"""Two linked peers for a test, and the check that nothing is left over when it has done its worst."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, cast

import trio
import trio.testing

import duplex
from tests.machine import fail_after
from tests.wires import place
from tests.wires.elsewhere import Elsewhere, LookedElsewhereError, served
from tests.wires.shared import shared_with

ROOT: Final = Path(__file__).resolve().parents[2]

#: Every kind of endpoint there is.
SCHEMES: Final = ("tcp", "ipc", "memory", "inproc")

#: Seconds after which a test is stuck; all of them take a small part of it.
GUARD: Final = 10.0

#: How often :func:`quiet` looks before it believes that something is left over.
_LOOKS: Final = 300


def endpoint_of(scheme: str, directory: Path) -> str:
    """Return an endpoint to bind, which nobody else uses."""
    return {
        "tcp": "tcp://127.0.0.1:*",
        "ipc": f"ipc://{directory}/socket",
        "memory": "memory://*",
        "inproc": "inproc://*",
    }[scheme]


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two peers with one link between them."""

    server: duplex.Peer
    client: duplex.Peer
    #: The client's end of the link, and the server's.
    link: duplex.Link
    back: duplex.Link
    endpoint: str

    def service(self, name: str) -> duplex.ServiceProxy:
        """A proxy at the client."""
        return self.client.service(name)

    async def settle(self) -> None:
        """Return once everything that either side has queued was handled by the other."""
        for _ in range(2):
            await self.link.ping()
            await self.back.ping()


@contextlib.asynccontextmanager
async def linked(
    *services: duplex.Service,
    endpoint: str = "memory://*",
    offers: Iterable[duplex.Service] = (),
    within: float = GUARD,
    check: bool = True,
    server: dict[str, Any] | None = None,
    client: dict[str, Any] | None = None,
) -> AsyncIterator[Pair]:
    """Link a client to a server; afterwards check that nothing is left over, and close both.

    Args:
        services: what the server offers.
        endpoint: where it binds.
        offers: what the client offers in return.
        within: seconds for all of it.
        check: whether to end with :func:`quiet`.
        server: other options of the server's ``open_peer``.
        client: other options of the client's ``open_peer``.
    """
    serving_options = {"name": "server", **(server or {})}
    if place.elsewhere_for is not None:
        with fail_after(within):
            async with _linked_elsewhere(services, endpoint, offers, serving_options, client or {}) as pair:
                yield pair
                if check:
                    await quiet(pair.link)
        return
    with fail_after(within):
        async with (
            duplex.open_peer(services=services, **serving_options) as serving,
            duplex.open_peer(services=offers, **{"name": "client", **(client or {})}) as calling,
        ):
            address = await serving.bind(endpoint)
            link = await calling.connect(address)
            pair = Pair(serving, calling, link, await first_link(serving), address)
            yield pair
            if check:
                await quiet(pair.link, pair.back)


@contextlib.asynccontextmanager
async def _linked_elsewhere(
    services: Sequence[duplex.Service],
    endpoint: str,
    offers: Iterable[duplex.Service],
    server: dict[str, Any],
    client: dict[str, Any],
) -> AsyncIterator[Pair]:
    """Link a client to a server in another process."""
    assert place.elsewhere_for is not None
    if shared := shared_with(place.elsewhere_for, services):
        raise LookedElsewhereError(f"shares {shared}, which is in another process")
    async with (
        served(services, endpoint, server, leftovers) as address,
        duplex.open_peer(services=offers, **{"name": "client", **client}) as calling,
    ):
        link = await calling.connect(address)
        yield Pair(
            cast("Any", Elsewhere("the server")), calling, link, cast("Any", Elsewhere("its link")), address
        )


async def first_link(peer: duplex.Peer) -> duplex.Link:
    """Wait for a peer's first link."""
    await until(lambda: peer.links)
    return peer.links[0]


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that no event tells, letting all other tasks run; the caller bounds the time."""
    while not condition():
        # Gives libzmq's threads and other processes the processor; memory endpoints need no time at all.
        await trio.sleep(0 if isinstance(trio.lowlevel.current_clock(), trio.testing.MockClock) else 0.0005)


async def quiet(*links: duplex.Link) -> None:
    """Check that nothing is left over on links whose calls have all ended, and at their peers.

    No channel is open on either side, no callback can be called, no task waits for credit, all credit has
    come back (what is owed is less than a grant), and a peer's only tasks are those of its ports and idle
    workers. So a link that did anything at all is as good as a fresh one.

    Raises:
        AssertionError: with everything that was found.
    """
    for _ in range(_LOOKS):
        for link in links:
            if link.is_open:
                with contextlib.suppress(duplex.Unavailable):
                    await link.ping()
        found = [problem for link in links for problem in leftovers(link)]
        found += _owed(links)
        if not found:
            return
        await trio.lowlevel.checkpoint()
    raise AssertionError("; ".join(found))


def leftovers(link: duplex.Link) -> list[str]:
    """List what is left over on one end of a link, and of its peer's tasks."""
    connection = link._inside.connection
    statistics = link.statistics()
    incoming = connection._incoming
    held = {
        "channels opened here": statistics.outgoing,
        "channels opened there": statistics.incoming,
        "channel records": connection._channels,
        "bytes that nobody takes": statistics.unconsumed if link.is_open else 0,
        "messages of channels that are over": connection._unread,
        "notifications that run": connection._notified,
        "channel ends": link._inside.channels.users,
        "callbacks": link._inside.values.functions,
        "waiters for credit": link._inside.credit.waiters,
        "channel ends that owe credit": link._inside.returns.pending,
        "credit that is owed": link._inside.returns.owed if link.is_open else 0,
        "tasks": stray_tasks(link.peer),
    }
    found = [f"{link.peer.name}: {what}: {repr(value)[:200]}" for what, value in held.items() if value]
    window = link.peer._inside.limits.link_window
    if link.is_open and incoming.balance + incoming.consumed + incoming.unconsumed != window:
        found.append(f"{link.peer.name}: the accounts of the link do not add up to {window}")
    return found


def _owed(links: Iterable[duplex.Link]) -> list[str]:
    """Compare what each end of a link may send with what the other end thinks that it may."""
    by_peer = {link.peer.id: link for link in links if link.is_open}
    found = []
    for link in by_peer.values():
        other = by_peer.get(link.peer_id)
        if other is not None and other is not link:
            mine, theirs = link.statistics().send_credit, other._inside.connection._incoming.balance
            if mine != theirs:
                found.append(
                    f"{link.peer.name} may send {mine} bytes, but {other.peer.name} expects {theirs}"
                )
    return found


def stray_tasks(peer: duplex.Peer) -> list[str]:
    """List a peer's tasks but for its ports, its watchmen and the workers that are idle or receive."""
    own_workers = [task for task, _ in peer._inside.workers._idle] + [
        lead.task for lead in peer._inside.workers.leads.values()
    ]
    names = [task.name for task in peer._inside.home.nursery.child_tasks if task not in own_workers]
    own = ("duplex port", "duplex timers")
    return [name for name in names if not name.startswith(own) and "watch_links" not in name]


async def collect(channel: Any, count: int | float = math.inf) -> list[Any]:
    """Receive so many items, or all."""
    items: list[Any] = []
    while len(items) < count:
        try:
            items.append(await channel.receive())
        except trio.EndOfChannel:
            break
    return items


async def made(method: Any, *arguments: Any, opened: bool) -> Any:
    """Call a method and return its single result, by awaiting the method itself or by opening the call."""
    if not opened:
        return await method(*arguments)
    async with method.open(*arguments) as call:
        return await call.result()


async def streamed(method: Any, items: list[Any] | None = None) -> list[Any]:
    """Open a call, append its results to a list as they come, and return the list."""
    items = [] if items is None else items
    async with method.open() as call:
        async for item in call:
            items.append(item)
    return items


async def feed(sink: Any, item: Any) -> None:
    """Send an item again and again, until that raises."""
    while True:
        await sink.send(item)


async def outcome(awaitable: Awaitable[Any]) -> Any:
    """Return what a call gives, or the error that it raises."""
    try:
        return await awaitable
    except duplex.DuplexError as error:
        return error


@contextlib.contextmanager
def process(module: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a module of the tests that serves until its standard input is closed; gives the process and the
    endpoint that it printed."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        try:
            line = running.stdout.readline().strip()
            assert "://" in line, f"{module} printed {line!r}, not an endpoint"
            yield running, line
        finally:
            running.stdin.close()
            try:
                running.wait(GUARD)
            except subprocess.TimeoutExpired:
                running.kill()
                raise


async def serve_until_eof(*services: duplex.Service, endpoint: str, **options: Any) -> None:
    """What such a module does."""
    async with duplex.open_peer(services=services, **options) as peer:
        sys.stdout.write(await peer.bind(endpoint) + "\n")
        sys.stdout.flush()
        await trio.lowlevel.wait_readable(sys.stdin.fileno())
