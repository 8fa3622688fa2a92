"""A directory over a store: two servers of discovery, instances that live, and those who look while something happens to the store."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, final

import dns.asyncquery
import dns.exception
import dns.message
import dns.rcode
import trio

import duplex
from duplex_services.discovery.client import (
    DiscoveryService,
    Filter,
    Following,
    Registration,
    ServiceConfig,
    follow,
    keep_registered,
    open_client,
)
from tests.machine import within

#: The service that lives, and the one whose leader changes all the time.
_WEB: Final = "web"
_LED: Final = "led"
#: Seconds between two lookups of one caller, between two questions of DNS, and for which somebody leads.
_LOOK_EVERY: Final = 0.1
_ASK_EVERY: Final = 0.05
_LEAD_FOR: Final = 1.0
#: Seconds within which the whole is registered, and is well again after the fault.
_UP_WITHIN: Final = 30.0
_BACK_WITHIN: Final = 30.0
#: Seconds that an answer of DNS may take on a quiet machine.
ANSWER_WITHIN: Final = 0.25
_LINKS: Final = 4


@final
class Server:
    """``duplex discovery run``, as a process.

    Attributes:
        endpoint: for Duplex.
        dns: for DNS, host and port.
    """

    def __init__(self, store: str, name: str, folder: Path) -> None:
        command = [sys.executable, "-m", "duplex", "discovery", "run", "--no-socket", "--no-checks"]
        command += ["--store", store, "--name", name, "--state", str(folder)]
        command += ["--bind", "tcp://127.0.0.1:*", "--dns", "127.0.0.1:0"]
        self.log = folder / f"{name}.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
        assert self._process.stdout is not None
        self.endpoint = self._process.stdout.readline().decode().strip()
        host, _, port = (
            self._process.stdout.readline().decode().strip().removeprefix("dns://").rpartition(":")
        )
        self.dns = (host, int(port or 0))

    def end(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def servers(stores: Sequence[str]) -> Iterator[list[Server]]:
    """Run servers of one directory."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="duplex-directory-")))
        found = []
        for number, store in enumerate(stores):
            server = Server(store, f"s{number}", folder)
            stack.callback(server.end)
            found.append(server)
        yield found


@final
class DirectoryLoad:
    """What those do who use a directory, and what they saw.

    Args:
        stores: URLs of one store, for a server of discovery each.
        ttl: of the instances, in seconds.
        instances: how many there are.
    """

    def __init__(self, stores: Sequence[str], ttl: float, instances: int = 200) -> None:
        self._stores = stores
        self._ttl = ttl
        self._ids = {f"i{number}" for number in range(instances)}
        self.problems: list[str] = []
        self.lookups = 0
        self.slowest_lookup = 0.0
        self.oldest = 0.0
        self.answers = 0
        self.slow_answers = 0
        self.slowest_answer = 0.0
        #: Who led the service with that fence, as anybody was told.
        self.terms: dict[int, str] = {}
        self._followers: list[Following] = []

    async def run(self, harm: Callable[[], contextlib.AbstractAsyncContextManager[None]]) -> None:
        """Use the directory before, during and after a fault, and check what came of it."""
        with servers(self._stores) as running:
            async with contextlib.AsyncExitStack() as stack:
                peers = [
                    await stack.enter_async_context(open_client(*(one.endpoint for one in running)))
                    for _ in range(_LINKS)
                ]
                lookers = [await stack.enter_async_context(open_client(one.endpoint)) for one in running]
                for peer in lookers:
                    self._followers.append(await stack.enter_async_context(follow(peer, _WEB)))
                nursery = await stack.enter_async_context(trio.open_nursery())
                for number, id in enumerate(sorted(self._ids)):
                    nursery.start_soon(self._live, peers[number % _LINKS], id)
                await self._until(self._all_know, within(_UP_WITHIN), "not all are registered")
                async with trio.open_nursery() as observers:
                    for number in range(3):
                        observers.start_soon(self._lead_for_a_while, peers[0], f"l{number}", number)
                    for peer, server, following in zip(lookers, running, self._followers, strict=True):
                        for _ in range(5):
                            observers.start_soon(self._look, peer)
                        observers.start_soon(self._ask, server)
                        observers.start_soon(self._read, following)
                        observers.start_soon(self._observe, peer)
                    await trio.sleep(2)  # of ordinary life
                    async with harm():
                        pass
                    await self._until_written(lookers[0])
                    # Who was to be given up would be by now.
                    await trio.sleep(2 * self._ttl)
                    observers.cancel_scope.cancel()
                await self._until(
                    self._all_know, within(_BACK_WITHIN), "followers do not come to what is there"
                )
                await self._agree(lookers)
                if self.slow_answers:
                    self._say(f"{self.slow_answers} answers of DNS were slow")
                nursery.cancel_scope.cancel()

    def came(self) -> str:
        """Say what was seen."""
        return (
            f"{self.lookups} lookups, slowest {self.slowest_lookup:.1f} s, oldest {self.oldest:.1f} s; "
            f"{self.answers} answers of DNS, slowest {1000 * self.slowest_answer:.0f} ms; {len(self.terms)} leaders"
        )

    # ---------------------------------------------------------------------------------------- who is there

    async def _live(self, peer: duplex.Peer, id: str) -> None:
        said = Registration(id, host=f"10.0.{int(id[1:]) >> 8}.{int(id[1:]) & 255}", port=80)
        async with keep_registered(peer, _WEB, said, ttl=self._ttl):
            await trio.sleep_forever()

    async def _lead_for_a_while(self, peer: duplex.Peer, id: str, number: int) -> None:
        """Be there, and go again: whoever is the oldest then leads."""
        said = Registration(id, host="10.1.0.1", port=80 + number)
        await trio.sleep(number * _LEAD_FOR)  # one after the other
        while True:
            async with keep_registered(peer, _LED, said, ttl=self._ttl):
                await trio.sleep(3 * _LEAD_FOR)  # while the others come and go

    # -------------------------------------------------------------------------------------------- who looks

    async def _look(self, peer: duplex.Peer) -> None:
        remote = peer.service(DiscoveryService, name="discovery")
        while True:
            began = trio.current_time()
            listing = await remote.instances(_WEB, Filter())
            self.slowest_lookup = max(self.slowest_lookup, trio.current_time() - began)
            self.oldest = max(self.oldest, listing.status.age or 0.0)
            self.lookups += 1
            if lost := self._ids - {one.id for one in listing.instances}:
                self._say(f"a lookup misses {len(lost)} that live")
            await trio.sleep(_LOOK_EVERY)

    async def _ask(self, server: Server) -> None:
        host, port = server.dns
        while True:
            began = trio.current_time()
            query = dns.message.make_query("web.discoverd", "A")
            try:
                answer = await dns.asyncquery.udp(query, host, port=port, timeout=within(1.0))
            except dns.exception.Timeout:
                self._say("no answer of DNS")
                continue
            took = trio.current_time() - began
            self.slowest_answer = max(self.slowest_answer, took)
            self.slow_answers += took > within(ANSWER_WITHIN)
            self.answers += 1
            if answer.rcode() != dns.rcode.NOERROR or not answer.answer:
                self._say(f"DNS answers {dns.rcode.to_text(answer.rcode())} with {len(answer.answer)} sets")
            await trio.sleep(max(0.0, _ASK_EVERY - took))

    async def _read(self, following: Following) -> None:
        async for news in following:
            for change in news.changes:
                if change.kind in ("up", "down") and change.service == _WEB and self._has_begun():
                    self._say(f"a follower is told that {change.id} is {change.kind}: {change.why}")

    def _has_begun(self) -> bool:
        # What is told before the first lookup was told while they came.
        return self.lookups > 0

    async def _observe(self, peer: duplex.Peer) -> None:
        """Note who leads with which fence: nobody may be told of two, nor of one that is lower than one before."""
        remote = peer.service(DiscoveryService, name="discovery")
        last = 0
        async with remote.watch_leader.open(_LED) as stream:
            async for news in stream:
                if news.leader is None:
                    continue
                fence, id = news.leader.fence, news.leader.id
                if fence < last:
                    self._say(f"a fence goes back from {last} to {fence}")
                last = fence
                if self.terms.setdefault(fence, id) != id:
                    self._say(f"{id} and {self.terms[fence]} both lead with the fence {fence}")

    # ---------------------------------------------------------------------------------------------- checks

    def _all_know(self) -> bool:
        return all({one.id for one in following.instances} == self._ids for following in self._followers)

    async def _agree(self, peers: Sequence[duplex.Peer]) -> None:
        """Wait until all servers say that the same instance leads, with the same fence."""
        remotes = [peer.service(DiscoveryService, name="discovery") for peer in peers]
        with trio.move_on_after(within(_BACK_WITHIN)):
            while True:
                told = [(await remote.leader(_LED)).leader for remote in remotes]
                if len({None if one is None else (one.id, one.fence) for one in told}) == 1:
                    return
                await trio.sleep(0.05)  # nobody tells that they agree
        self._say(f"they do not agree who leads: {told}")

    async def _until_written(self, peer: duplex.Peer) -> None:
        """Wait until the store takes changes again."""
        remote = peer.service(DiscoveryService, name="discovery")
        with trio.move_on_after(within(_BACK_WITHIN)):
            for number in range(10_000):
                with contextlib.suppress(duplex.RPCError):
                    kind, id = (("manual", "i0"), ("oldest", ""))[number % 2]
                    await remote.configure(_WEB, ServiceConfig(kind, id))  # type: ignore[arg-type]
                    if number > 0:
                        return
        self._say("the store takes no changes any more")

    async def _until(self, what: Callable[[], bool], seconds: float, problem: str) -> None:
        with trio.move_on_after(seconds):
            while not what():
                await trio.sleep(0.05)  # nobody tells
            return
        self._say(problem)

    def _say(self, problem: str) -> None:
        if len(self.problems) < 10:
            self.problems.append(problem)


@contextlib.asynccontextmanager
async def twice(harm: Callable[[], contextlib.AbstractAsyncContextManager[None]]) -> AsyncIterator[None]:
    """Do harm, and once more when that is over."""
    async with harm():
        pass
    async with harm():
        yield
