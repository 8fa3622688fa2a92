"""What many links cost: as much as there are, and not each as much as all the others together."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import Any, Final

import pytest
import trio
import trio.testing

import duplex
from duplex.transports import Frames
from tests.engine.helpers import until
from tests.sizes import size

pytestmark = pytest.mark.unmeasured("hundreds of the same calls")

#: Links of the smaller number, and how many times as many there are of the larger one: 4000 in `make test-long`.
FEW: Final = 40
TIMES: Final = size(5, 100)
#: How many times as much work each may be where there are more.
WITHIN: Final = 1.25
MANY_LINKS: Final = duplex.Limits(max_links=10_000)


class Work:
    """The calls of functions in a block: work that can be counted."""

    def __init__(self) -> None:
        self.calls = 0

    def note(self, _frame: Any, event: str, _argument: Any) -> None:
        self.calls += event in ("call", "c_call")


@contextlib.contextmanager
def counted() -> Iterator[Work]:
    work = Work()
    before = sys.getprofile()
    sys.setprofile(work.note)
    try:
        yield work
    finally:
        sys.setprofile(before)


@contextlib.contextmanager
def deaf(link: duplex.Link) -> Iterator[None]:
    """Let what comes over a link wait, as if the event loop were blocked."""
    waiting: list[Frames] = []

    def wait(frames: Frames) -> None:
        waiting.append(frames)

    link._inside.inbound.on_frames = wait  # type: ignore[method-assign]
    yield
    del link._inside.inbound.on_frames
    for frames in waiting:
        link._inside.inbound.on_frames(frames)


async def connect_one_by_one(number: int) -> float:
    """Connect to as many peers, which come one after the other; all of this side wait from the beginning."""
    async with (
        duplex.open_peer(limits=MANY_LINKS) as client,
        duplex.open_peer(limits=MANY_LINKS) as server,
        trio.open_nursery() as nursery,
    ):
        with counted() as work:
            for place in range(number):
                nursery.start_soon(client.connect, f"memory://{place}")
            await trio.testing.wait_all_tasks_blocked()
            for place in range(number):
                await server.bind(f"memory://{place}")
                await trio.testing.wait_all_tasks_blocked()
            assert len(client.links) == number
    return work.calls / number


async def drain(number: int) -> float:
    """Wait for as many calls that end one after the other, on a link each, beside as many that nobody waits for."""
    service = duplex.Service("service")
    gates = [trio.Event() for _ in range(number)]
    results: list[int] = []

    @service.rpc
    async def wait(place: int) -> int:
        await gates[place].wait()
        return place

    async with (
        duplex.open_peer(limits=MANY_LINKS) as client,
        duplex.open_peer(limits=MANY_LINKS, services=[service]) as server,
        trio.open_nursery() as nursery,
    ):

        async def call(link: duplex.Link, place: int) -> None:
            results.append(await link.service("service").wait(place))

        async def watch(link: duplex.Link) -> None:
            async with link.service("duplex.health").watch.open() as states:
                with contextlib.suppress(duplex.RPCError):
                    async for _ in states:
                        pass

        for place in range(number):
            link = await client.connect(await server.bind(f"memory://{place}"))
            nursery.start_soon(watch, link)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(call, link, place)
        await until(lambda: server._inside.admission.running == 2 * number)
        with counted() as work:
            nursery.start_soon(server.drain, 100_000)
            await trio.testing.wait_all_tasks_blocked()
            for gate in gates:
                gate.set()
                await trio.testing.wait_all_tasks_blocked()
            await until(lambda: not client.links)
        assert results == list(range(number))
        await client.aclose()
    return work.calls / number


@pytest.mark.parametrize("act", [connect_one_by_one, drain])
async def test_each_costs_as_much_where_there_are_more(act: Any, autojump_clock: object) -> None:
    few = await act(FEW)
    many = await act(TIMES * FEW)
    assert many <= WITHIN * few


async def test_a_call_costs_as_much_beside_links_to_other_services(autojump_clock: object) -> None:
    wanted = duplex.Service("wanted")

    @wanted.rpc
    async def get() -> int:
        return 1

    costs = []

    async def offer(service: duplex.Service, *, task_status: trio.TaskStatus[str]) -> None:
        # In a task of its own: a call looks at all scopes around it for its deadline.
        async with duplex.open_peer(services=[service]) as other:
            task_status.started(await other.bind("memory://*"))
            await trio.sleep_forever()

    async with duplex.open_peer(limits=MANY_LINKS) as client, trio.open_nursery() as nursery:

        async def join(service: duplex.Service) -> None:
            await client.connect(await nursery.start(offer, service))

        await join(wanted)
        for _ in range(2):
            with counted() as work:
                for _ in range(50):
                    assert await client.service("wanted").get() == 1
            costs.append(work.calls / 50)
            for number in range(size(150, 4000)):
                await join(duplex.Service(f"other-{number}"))
        nursery.cancel_scope.cancel()
    assert costs[1] <= 1.1 * costs[0]


async def test_a_peer_that_turns_slow_is_told_once(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    """However many links lead to it; and that it answers again, once too."""
    seldom = duplex.Keepalive(interval=1000, timeout=2000)
    async with (
        duplex.open_peer(name="client", keepalive=duplex.Keepalive(interval=1, timeout=100)) as client,
        duplex.open_peer(name="server", keepalive=seldom) as server,
        duplex.open_peer(name="other", keepalive=seldom) as other,
    ):
        links = [await client.connect(await server.bind("memory://*")) for _ in range(10)]
        links.append(await client.connect(await other.bind("memory://*")))
        for _ in range(2):
            caplog.clear()
            with contextlib.ExitStack() as blocked:
                for back in [*server.links, *other.links]:
                    blocked.enter_context(deaf(back))
                await trio.sleep(10)
                assert all(link.statistics().is_slow for link in links)
            await trio.sleep(5)
            assert not any(link.statistics().is_slow for link in links)
            told = [
                (record.levelno, record.getMessage().partition(":")[0].partition(",")[0])
                for record in caplog.records
            ]
            assert sorted(told) == [
                (logging.WARNING, f"{name} {what}")
                for name in ("other", "server")
                for what in ("answers again", "is slow")
            ]
        # Of a peer whose links have ended nothing is kept.
        with deaf(server.links[0]), deaf(server.links[1]):
            await trio.sleep(10)
            assert client._inside.slow._slow
            await server.aclose()
            await until(lambda: len(client.links) == 1)
            assert not client._inside.slow._slow
