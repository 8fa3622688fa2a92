"""Calls to a service that nobody offers yet: they wait while somebody may come, and fail at once if nobody can."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

import duplex
from tests.engine.helpers import linked, made, outcome, until
from tests.engine.named_service import named
from tests.machine import fail_after

pytestmark = pytest.mark.parametrize("opened", [False, True], ids=["unary", "opened"])


async def _ask(peer: duplex.Peer, *, opened: bool, **options: Any) -> Any:
    return await outcome(made(peer.service("who").with_options(**options).name_, opened=opened))


@contextlib.asynccontextmanager
async def _client(kind: str) -> AsyncIterator[duplex.Peer]:
    """A peer that could call, if it knew whom."""
    async with duplex.open_peer(name="registry") as registry, duplex.open_peer() as client:
        if "bound" in kind:
            await client.bind("memory://*")
        if "linked" in kind:
            await client.connect(await registry.bind("memory://*"))
        yield client


@pytest.mark.parametrize("kind", ["alone", "bound", "linked", "bound and linked"])
async def test_a_call_waits_while_its_service_is_being_resolved(
    kind: str, opened: bool, autojump_clock: object
) -> None:
    """Whatever else the peer is linked to."""
    results: list[Any] = []
    with fail_after(100):
        async with duplex.open_peer(services=[named("found")]) as server, _client(kind) as client:
            endpoint = await server.bind("memory://*")

            async def call() -> None:
                results.append((await _ask(client, opened=opened), trio.current_time()))

            async with trio.open_nursery() as nursery:
                with client.resolving("who"):
                    began = trio.current_time()
                    nursery.start_soon(call)
                    await trio.sleep(3)
                    assert results == []
                    assert [waiting.method for waiting in client.calls()] == ["who"]
                    await client.connect(endpoint)
            assert results == [("found", pytest.approx(began + 3))]
            assert await _ask(client, opened=opened) == "found"


async def test_a_service_that_could_not_be_resolved(opened: bool, autojump_clock: object) -> None:
    """Whoever waits is told as soon as that is known."""
    results: list[Any] = []
    async with _client("linked") as client:

        async def call() -> None:
            results.append(await _ask(client, opened=opened))

        async with trio.open_nursery() as nursery:
            with client.resolving("who"), client.resolving("who"):
                nursery.start_soon(call)
                await trio.sleep(1)
                with client.resolving("another"):
                    pass
                await trio.sleep(1)
                assert results == []
            await until(lambda: results)
        (error,) = results
        assert type(error) is duplex.Unimplemented
        assert error.message == "there is no service 'who' at any linked peer: registry offers nothing"
        assert error.method == "who.name_"
        assert error.may_have_executed is False
        assert client.calls() == []


async def test_resolving_is_bounded_like_any_wait(opened: bool, autojump_clock: object) -> None:
    async with duplex.open_peer(connect_timeout=7) as client:
        with client.resolving("who"):
            began = trio.current_time()
            error = await _ask(client, opened=opened)
            assert type(error) is duplex.Unavailable
            assert "within 7 s" in error.message
            assert trio.current_time() - began == pytest.approx(7)
            late = await _ask(client, opened=opened, timeout=2)
            assert type(late) is duplex.DeadlineExceeded
            assert "2 s, and was not sent" in late.message
            assert late.may_have_executed is False
            assert trio.current_time() - began == pytest.approx(9)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("alone", duplex.Unavailable),
        ("linked", duplex.Unimplemented),
        ("bound", duplex.Unavailable),
        ("bound and linked", duplex.Unavailable),
    ],
)
async def test_nobody_offers_it_and_nobody_resolves_it(
    kind: str, error: type[duplex.RPCError], opened: bool, autojump_clock: object
) -> None:
    """Not answered by whoever happens to be linked: where others may still connect, the call waits for them."""
    async with _client(kind) as client:
        began = trio.current_time()
        found = await _ask(client, opened=opened)
        assert type(found) is error
        assert found.peer is None
        assert found.may_have_executed is False
        assert trio.current_time() - began == pytest.approx(10 if "bound" in kind else 0)
        at_once = await _ask(client, opened=opened, wait_for_ready=False)
        assert type(at_once) is error
        assert trio.current_time() - began == pytest.approx(10 if "bound" in kind else 0, abs=0.1)


async def test_it_is_not_asked_of_a_peer_that_does_not_offer_it(opened: bool) -> None:
    """Nothing is sent."""
    async with linked() as pair:
        opened_before = pair.link._inside.connection.next_channel
        assert type(await _ask(pair.client, opened=opened)) is duplex.Unimplemented
        assert pair.link._inside.connection.next_channel == opened_before
        answered = await outcome(made(pair.link.service("who").name_, opened=opened))
        assert type(answered) is duplex.Unimplemented
        assert answered.peer == "server"


async def test_a_waiting_call_hears_that_all_are_linked_and_none_offers_it(
    opened: bool, autojump_clock: object
) -> None:
    """It waited for a connection; that has come, and with it the answer."""
    results: list[Any] = []
    async with (
        duplex.open_peer() as client,
        duplex.open_peer(name="other") as other,
        trio.open_nursery() as nursery,
    ):
        client.connect_soon("memory://later")

        async def call() -> None:
            results.append(await _ask(client, opened=opened))

        nursery.start_soon(call)
        await trio.sleep(1)
        assert results == []
        await other.bind("memory://later")
        await until(lambda: results)
    assert type(results[0]) is duplex.Unimplemented
    assert "other offers" in results[0].message


async def test_what_is_said_of_many_links_is_short(opened: bool) -> None:
    services = [duplex.Service(f"service-{number}") for number in range(100)]
    async with linked(*services) as pair:
        for _ in range(20):
            await pair.client.connect(pair.endpoint)
        error = await _ask(pair.client, opened=opened)
        assert "13 more are linked" in error.message
        assert "others" in error.message
        assert len(error.message) < 2000


async def test_a_link_that_takes_no_more_calls_is_not_the_last_word(
    opened: bool, autojump_clock: object
) -> None:
    """The server has gone and comes back; meanwhile another one is linked."""
    results: list[Any] = []
    with fail_after(100):
        async with _client("linked") as client:
            async with duplex.open_peer(services=[named("first")]) as server:
                await server.bind("memory://who")
                await client.connect("memory://who")
                assert await _ask(client, opened=opened) == "first"

            async def call() -> None:
                results.append(await _ask(client, opened=opened))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(call)
                await trio.sleep(2)
                assert results == []
                async with duplex.open_peer(services=[named("second")]) as server:
                    await server.bind("memory://who")
                    await until(lambda: results)
    assert results == ["second"]
