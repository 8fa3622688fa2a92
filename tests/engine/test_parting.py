"""``link.leave()``: no new calls over a link, and its end when those that run have ended."""

from __future__ import annotations

from typing import Any

import pytest
import trio

import duplex
from tests.engine.helpers import linked, outcome, until
from tests.engine.named_service import named, serving
from tests.machine import fail_after


def slow() -> duplex.Service:
    service = duplex.Service("slow")

    @service.rpc
    async def work(seconds: float) -> str:
        await trio.sleep(seconds)
        return "done"

    @service.rpc
    async def count(upto: int) -> Any:
        for number in range(upto):
            await trio.sleep(1)  # of virtual time
            yield number

    @service.rpc
    async def ask(question: duplex.Callback[[], str]) -> str:
        await trio.sleep(1)  # of virtual time
        return await question()

    return service


@pytest.mark.parametrize("side", ["link", "back"])
async def test_running_calls_end_and_then_the_link_does(side: str, autojump_clock: object) -> None:
    """Whichever side leaves; also those that take longer than links that are too old give them."""
    results: list[Any] = []
    async with linked(slow(), within=10_000, check=False) as pair, trio.open_nursery() as nursery:
        remote = pair.link.service("slow")

        async def call() -> None:
            results.append(await outcome(remote.work(100)))

        async def stream() -> None:
            async with remote.count.open(50) as call:
                results.append([number async for number in call])

        async def question() -> None:
            async def answer() -> str:
                return "asked"

            results.append(await remote.ask(answer))

        for start in (call, stream, question):
            nursery.start_soon(start)
        await until(lambda: len(pair.server.calls()) == 3)
        began = trio.current_time()
        leaving: duplex.Link = getattr(pair, side)
        leaving.leave()
        leaving.leave()
        assert leaving.is_open
        await leaving.wait_closed()
        await until(lambda: len(results) == 3)
        assert trio.current_time() - began == pytest.approx(100, abs=3), "and no keepalive later"
        assert results == ["asked", list(range(50)), "done"]
        assert not leaving.is_open


async def test_no_new_calls_over_it(autojump_clock: object) -> None:
    async with linked(slow(), within=1000, check=False) as pair, trio.open_nursery() as nursery:
        nursery.start_soon(outcome, pair.link.service("slow").work(5))
        await until(lambda: pair.server.calls())
        pair.link.leave()
        for remote in (pair.link.service("slow"), pair.back.service("slow")):
            error = await outcome(remote.work(1))
            assert type(error) is duplex.Unavailable, error
            assert error.may_have_executed is False
            await trio.sleep(0.1)  # of virtual time: what was said has come to the other side
        assert type(await outcome(pair.client.service("slow").work(1))) is duplex.Unavailable
        assert pair.client.links == [pair.link], "it is there until its call has ended"
        await pair.link.wait_closed()
        assert pair.client.links == []
        await trio.sleep(60)  # of virtual time
        assert pair.client.links == [], "and does not come back"
        pair.link.leave()


async def test_calls_go_elsewhere(autojump_clock: object) -> None:
    with fail_after(100):
        async with serving("a", "b") as endpoints, duplex.open_peer() as client:
            for endpoint in endpoints:
                await client.connect(endpoint)
            remote = client.service("who").with_options(balancer="round_robin")
            assert {await remote.name_() for _ in range(4)} == {"a", "b"}
            async with remote.wait.open(), remote.wait.open():
                (left,) = [link for link in client.links if link.peer_name == "a"]
                left.leave()
                assert {await remote.name_() for _ in range(4)} == {"b"}
                assert left.is_open
            await left.wait_closed()
            again = await client.connect(endpoints[0])
            assert again.is_open
            assert {await remote.name_() for _ in range(4)} == {"a", "b"}


async def test_who_connected_connects_again_if_the_other_side_leaves(autojump_clock: object) -> None:
    async with linked(slow(), within=1000, check=False) as pair:
        pair.back.leave()
        await pair.link.wait_closed()
        await until(lambda: pair.client.links)
        assert await pair.client.service("slow").work(1) == "done"


async def test_of_two_links_to_a_peer_one_is_left(autojump_clock: object) -> None:
    async with linked(slow(), within=1000, check=False) as pair:
        other = await pair.client.connect(pair.endpoint)
        pair.link.leave()
        assert await pair.client.service("slow").work(1) == "done"
        await pair.link.wait_closed()
        assert pair.client.links == [other]
        other.leave()
        await other.wait_closed()
        assert pair.client.links == []


async def test_a_link_that_is_lost_while_it_is_left(autojump_clock: object) -> None:
    async with linked(slow(), within=1000, check=False) as pair, trio.open_nursery() as nursery:
        results: list[Any] = []

        async def call() -> None:
            results.append(await outcome(pair.link.service("slow").work(50)))

        nursery.start_soon(call)
        await until(lambda: pair.server.calls())
        pair.link.leave()
        await pair.server.aclose()
        await until(lambda: results)
        assert type(results[0]) is duplex.PeerLost
        await pair.link.wait_closed()
        assert not pair.client._inside.ports.receivers


# -- what connect() waits for ------------------------------------------------------------------------------


async def test_connect_waits_for_services(autojump_clock: object) -> None:
    with fail_after(1000):
        async with duplex.open_peer(services=[named("a")], name="a") as server, duplex.open_peer() as client:
            endpoint = await server.bind("memory://*")
            link = await client.connect(endpoint, wait="who")
            assert "who" in link.services
            with pytest.raises(duplex.ConnectError, match="a is linked, and offers no late") as caught:
                await client.connect(endpoint, wait=["who", "late"], timeout=5)
            assert "within 5 s" in str(caught.value)
            assert client.links == [link]

            async def later() -> None:
                await trio.sleep(3)  # of virtual time
                server.add_service(duplex.Service("late"))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(later)
                began = trio.current_time()
                second = await client.connect(endpoint, wait=["who", "late"], timeout=5)
                assert trio.current_time() - began == pytest.approx(3)
            assert "late" in second.services


async def test_connect_waits_for_who_comes_after_one_that_drains(autojump_clock: object) -> None:
    found: list[duplex.Link] = []
    with fail_after(1000):
        async with duplex.open_peer() as client, trio.open_nursery() as nursery:
            async with duplex.open_peer(name="old") as old:
                await old.bind("memory://place")

                async def connect() -> None:
                    found.append(await client.connect("memory://place", wait="who", timeout=60))

                nursery.start_soon(connect)
                await until(lambda: client.links)
                await old.drain(1)
            async with duplex.open_peer(services=[named("new")], name="new") as new:
                await new.bind("memory://place")
                await trio.sleep(30)  # of virtual time
                assert found[0].peer_name == "new"
                assert client.links == found


@pytest.mark.parametrize("wait", [3, "", ["a", 3], [""], None])
async def test_wrong_services_to_wait_for(wait: Any) -> None:
    async with duplex.open_peer() as client:
        with pytest.raises(duplex.ConfigurationError, match="wait must be the name of a service"):
            await client.connect("memory://nowhere", wait=wait)
        assert not client._inside.ports.receivers
