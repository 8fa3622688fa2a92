"""Three nodes of etcd, Consul or ZooKeeper, which are killed, stopped and cut off from each other under load.

The nodes and the clients live in namespaces, so this runs twice: :func:`cluster_faults` makes them, and has the rest done
inside, by ``python -m tests.services.faults.cluster``.
"""

from __future__ import annotations

import contextlib
import functools
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final

import msgspec
import trio

from duplex_services.store import open_store
from duplex_services.store.testing import CHECKS, Faults, check_store
from tests.machine import crowding, why_no_namespaces, within
from tests.services.faults.directory import DirectoryLoad, twice
from tests.services.faults.load import Load, for_a_while
from tests.services.faults.network import Network, inside, network
from tests.services.faults.report import Finding
from tests.services.servers import (
    ConsulServers,
    EtcdServers,
    Node,
    Servers,
    ZooKeeperServers,
    loopback,
    paused,
)

Harm = Callable[[], contextlib.AbstractAsyncContextManager[None]]

#: How to start each kind, what follows its URL, and the shortest lease, in seconds.
KINDS: Final[dict[str, tuple[type[Servers], str, float]]] = {
    "etcd": (EtcdServers, "", 5.0),
    "consul": (ConsulServers, "", 10.0),
    "zookeeper": (ZooKeeperServers, "?session=6", 4.5),
}
#: Seconds for which nodes are stopped or cut off, at full size; and killed ones are away.
_STOPPED: Final = 12.0
_CUT: Final = 10.0
_AWAY: Final = 4.0
#: Seconds that an instance of a directory lives without a heartbeat.
_TTL: Final = 5.0
#: Seconds that writes may stand still, beyond the fault itself.
_GAP: Final = 15.0


class Order(msgspec.Struct):
    """What is to be done inside."""

    kind: str
    clients: str
    nodes: list[str]
    size: float
    #: Whether a directory over the store is used, and not the store itself.
    directory: bool = False


def cluster_faults(kind: str, size: float, *, directory: bool = False) -> Iterator[Finding]:
    """Do harm to three nodes of a kind, in every way.

    Args:
        kind: of :data:`KINDS`.
        size: how long faults last; below 1 some are left out.
        directory: who uses them meanwhile: those who use a directory over them, or clients of the store itself.
    """
    problem = why_no_namespaces()
    if problem is not None:
        yield Finding(f"{kind}: three nodes", problem, False)
        return
    with network() as net:
        order = msgspec.json.encode(Order(kind, net.clients, net.nodes, size, directory)).decode()
        command = inside(net, [sys.executable, "-m", "tests.services.faults.cluster", order])
        with subprocess.Popen(command, stdout=subprocess.PIPE) as run:
            assert run.stdout is not None
            try:
                for line in run.stdout:
                    yield msgspec.json.decode(line, type=Finding)
            finally:
                run.terminate()
        if run.returncode not in (0, -signal.SIGTERM):
            yield Finding(f"{kind}: three nodes", f"ended with {run.returncode}", False)


def small_faults(kind: str) -> Iterator[Finding]:
    """Kill the leader of three nodes, on loopback and for a moment: for a machine without namespaces."""
    servers_class, _, _ = KINDS[kind]
    with servers_class(loopback(3, peer_ports=servers_class.PEER_PORTS)) as servers:
        yield _under_load(
            kind, "SIGKILL of the leader", servers, functools.partial(_kill_leader, servers, 1.0), 1.0
        )


def directory_over_two_elections(kind: str) -> DirectoryLoad:
    """Kill the leader of three nodes, and the next one, on loopback, under a directory; return what its users saw."""
    servers_class, options, _ = KINDS[kind]
    with servers_class(loopback(3, peer_ports=servers_class.PEER_PORTS)) as servers:
        ttl = 2.0 * min(crowding(), 3.0)
        load = DirectoryLoad(_urls(kind, servers, "elections", options)[:2], ttl, instances=20)
        trio.run(load.run, functools.partial(twice, functools.partial(_kill_leader, servers, 2.0)))
    return load


# ------------------------------------------------------------------------------------------ inside


def main() -> None:
    """Do what the command line says, and print what came of it."""
    order = msgspec.json.decode(sys.argv[1], type=Order)
    net = Network(order.clients, order.nodes)
    servers_class, _, _ = KINDS[order.kind]
    with servers_class(net.places(servers_class.PEER_PORTS)) as servers:
        for finding in _findings(order, net, servers):
            sys.stdout.write(msgspec.json.encode(finding).decode() + "\n")
            sys.stdout.flush()


def _findings(order: Order, net: Network, servers: Servers) -> Iterator[Finding]:
    kind = order.kind
    cut = _CUT * max(order.size, 0.5)
    stopped = _STOPPED * max(order.size, 0.5)
    harms: list[tuple[str, Harm, float]] = [
        (
            "a follower cut off from its peers",
            functools.partial(_cut, net, servers, servers.follower, cut),
            cut,
        ),
        ("SIGKILL of the leader", functools.partial(_kill_leader, servers, _AWAY), _AWAY),
        ("SIGSTOP of the leader", functools.partial(_stop, servers, stopped), stopped),
        (
            "the leader cut off from its peers",
            functools.partial(_cut, net, servers, servers.leader, cut),
            cut,
        ),
        ("SIGKILL of all", functools.partial(_kill_all, servers), 0.0),
    ]
    if order.size < 1:
        harms = harms[:1]
    for what, harm, seconds in harms:
        if order.directory:
            yield _under_directory(kind, what, servers, harm)
        else:
            yield _under_load(kind, what, servers, harm, seconds)
    if order.size >= 1 and not order.directory:
        yield from _checks(kind, net, servers)


def _checks(kind: str, net: Network, servers: Servers) -> Iterator[Finding]:
    """Run the suite's checks with faults, on three nodes."""
    _, options, ttl = KINDS[kind]

    @contextlib.asynccontextmanager
    async def stall() -> AsyncIterator[None]:
        with paused(await trio.to_thread.run_sync(servers.leader)):
            yield

    @contextlib.asynccontextmanager
    async def again(wipe: bool) -> AsyncIterator[None]:
        servers.restart(wipe=wipe)
        await trio.to_thread.run_sync(servers.wait_ready)
        yield

    @contextlib.asynccontextmanager
    async def deafen() -> AsyncIterator[None]:
        # Clients begin at the first, where they choose.
        net.cut(0)
        try:
            yield
        finally:
            net.mend(0)

    faults = Faults(
        stall=stall,
        restart=functools.partial(again, False),
        replace=functools.partial(again, True),
        deafen=deafen,
    )
    url = f"{kind}://{servers.hosts}/checked{options}"
    for check in CHECKS:
        if check.partition("_")[0] not in ("stall", "restart", "replace", "deafen") and check != "history":
            continue
        began = time.monotonic()
        run = functools.partial(
            check_store,
            lambda **more: open_store(url, **more),
            only=[check],
            faults=faults,
            url=url,
            ttl=ttl,
            slack=within(15),
            timeout=within(180),
        )
        try:
            trio.run(run)
            problem = ""
        except AssertionError as error:
            problem = str(error)
        servers.wait_ready()
        seconds = time.monotonic() - began
        yield Finding(
            f"{kind}: three nodes: {check}", problem or f"as it must be, {seconds:.0f} s", not problem
        )


def _under_load(kind: str, what: str, servers: Servers, harm: Harm, seconds: float) -> Finding:
    _, options, ttl = KINDS[kind]
    load = Load(_urls(kind, servers, what, options), ttl)
    trio.run(load.run, harm)
    servers.wait_ready()
    gap = load.longest_gap()
    if gap > seconds + within(_GAP):
        load.problems.append("writes stood still for too long")
    came = (
        f"{load.acknowledged} writes acknowledged, longest gap {gap:.1f} s; slowest of {load.reads} reads "
        f"{load.slowest_read:.1f} s, {load.failed_reads} failed; lease {load.lease}"
    )
    return Finding(f"{kind}: {what}", "; ".join([came, *load.problems]), not load.problems)


def _under_directory(kind: str, what: str, servers: Servers, harm: Harm) -> Finding:
    _, options, _ = KINDS[kind]
    load = DirectoryLoad(_urls(kind, servers, f"directory {what}", options)[:2], _TTL)
    trio.run(load.run, harm)
    servers.wait_ready()
    return Finding(
        f"a directory over {kind}: {what}", "; ".join([load.came(), *load.problems]), not load.problems
    )


def _urls(kind: str, servers: Servers, what: str, options: str) -> list[str]:
    """Return URLs of a root that only this fault has; each begins at another of the servers."""
    hosts = [f"{host}:{port}" for host, port in servers.endpoints]
    root = what.replace(" ", "-")
    return [
        f"{kind}://{','.join(hosts[index:] + hosts[:index])}/{root}{options}" for index in range(len(hosts))
    ]


@contextlib.asynccontextmanager
async def _kill_leader(servers: Servers, seconds: float) -> AsyncIterator[None]:
    leader = await trio.to_thread.run_sync(servers.leader)
    async with for_a_while(leader.kill, leader.start, seconds):
        yield
    await trio.to_thread.run_sync(servers.wait_ready)


@contextlib.asynccontextmanager
async def _kill_all(servers: Servers) -> AsyncIterator[None]:
    servers.restart()
    await trio.to_thread.run_sync(servers.wait_ready)
    yield


@contextlib.asynccontextmanager
async def _stop(servers: Servers, seconds: float) -> AsyncIterator[None]:
    leader = await trio.to_thread.run_sync(servers.leader)
    stop = functools.partial(leader.signal, signal.SIGSTOP)
    async with for_a_while(stop, functools.partial(leader.signal, signal.SIGCONT), seconds):
        yield


@contextlib.asynccontextmanager
async def _cut(
    net: Network, servers: Servers, choose: Callable[[], Node], seconds: float
) -> AsyncIterator[None]:
    index = servers.nodes.index(await trio.to_thread.run_sync(choose))
    async with for_a_while(functools.partial(net.cut, index), functools.partial(net.mend, index), seconds):
        yield


if __name__ == "__main__":
    main()
