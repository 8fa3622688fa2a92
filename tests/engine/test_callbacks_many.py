"""Callbacks that are called very often at once: they have a share of their own, and no nesting stands still in it."""

from __future__ import annotations

from typing import Any

import pytest
import trio

import duplex
from duplex.engine.serving._callbacks import Callbacks
from tests.engine.helpers import linked, outcome, until
from tests.engine.raw import RawRouter
from tests.machine import fail_after

LIMITS = duplex.Limits(max_handlers=20, max_handlers_per_link=10)


class Held:
    """A callback that runs until it is let go, and a service."""

    def __init__(self) -> None:
        self.go = trio.Event()
        self.running = 0
        self.most = 0
        self.service = service = duplex.Service("held")

        @service.rpc
        async def work() -> str:
            return "done"

    async def callback(self) -> str:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.go.wait()
        finally:
            self.running -= 1
        return "done"


def storm() -> duplex.Service:
    service = duplex.Service("storm")

    @service.rpc
    async def call(function: duplex.Callback[[], str], times: int) -> list[str]:
        results: list[str] = []

        async def once() -> None:
            answer = await outcome(function())
            results.append(answer if isinstance(answer, str) else f"{type(answer).__name__}: {answer}")

        async with trio.open_nursery() as nursery:
            for _ in range(times):
                nursery.start_soon(once)
        return results

    return service


async def test_callbacks_beyond_the_limit_are_refused() -> None:
    held = Held()
    async with linked(storm(), offers=[held.service], client={"limits": LIMITS}) as pair:
        results: list[str] = []

        async def call() -> None:
            results.extend(await pair.service("storm").call(held.callback, 50))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await until(lambda: held.running == 10)
            await pair.settle()
            assert held.most == 10
            assert pair.client._inside.callbacks.running == 10
            assert pair.link.statistics().running == 10
            assert pair.client._inside.admission.running == 0, "they take nothing of what calls have"
            assert await pair.back.service("held").work() == "done"
            held.go.set()
        assert sorted(results)[40:] == ["done"] * 10
        refused = sorted(results)[:40]
        assert all(text.startswith("ResourceExhausted: ") for text in refused)
        assert all("10 callbacks run for this link" in text for text in refused)
        assert all("Limits.max_handlers_per_link" in text for text in refused)
        assert pair.client._inside.callbacks.running == 0
        assert await pair.service("storm").call(held.callback, 10) == ["done"] * 10, "and there is room again"


async def test_the_callbacks_of_all_links_are_limited_together() -> None:
    held = Held()
    limits = duplex.Limits(max_handlers=10)
    async with (
        duplex.open_peer(limits=limits) as client,
        duplex.open_peer(services=[storm()]) as first,
        duplex.open_peer(services=[storm()]) as second,
        trio.open_nursery() as nursery,
    ):
        for server in (first, second):
            link = await client.connect(await server.bind("memory://*"))
            nursery.start_soon(link.service("storm").call, held.callback, 30)
        await until(lambda: held.running >= 10)
        await trio.testing.wait_all_tasks_blocked()
        assert held.most <= 11, "the second link's first one is taken in any case"
        held.go.set()


async def test_each_call_has_one_callback_however_many_run() -> None:
    """What it waits for is its own."""
    held = Held()
    async with linked(storm(), client={"limits": LIMITS}) as pair, trio.open_nursery() as nursery:
        nursery.start_soon(pair.service("storm").call, held.callback, 50)
        await until(lambda: held.running == 10)
        await pair.settle()

        async def answer() -> str:
            return "at once"

        for _ in range(5):
            assert await pair.service("storm").call(answer, 1) == ["at once"]
        results: list[Any] = []

        async def call() -> None:
            results.append(await pair.service("storm").call(held.callback, 1))

        for _ in range(5):
            nursery.start_soon(call)
        await until(lambda: held.running == 15)
        held.go.set()
        await until(lambda: len(results) == 5)
        assert results == [["done"]] * 5


@pytest.mark.parametrize("depth", [1, 2, 30])
async def test_calls_that_wait_for_each_other_do_not_stand_still(depth: int) -> None:
    """A handler waits for a callback, which waits for a handler, which waits for a callback, and so on."""
    service = duplex.Service("service")

    @service.rpc
    async def ask(function: duplex.Callback[[int], int], level: int) -> int:
        return await function(level)

    async with linked(
        service,
        client={"limits": duplex.Limits(max_handlers=1)},
        server={"limits": duplex.Limits(max_handlers=2 * depth)},
    ) as pair:

        async def answer(level: int) -> int:
            if level == depth:
                return level
            found: int = await pair.service("service").ask(answer, level + 1)
            return found

        assert await pair.service("service").ask(answer, 1) == depth


async def test_a_server_that_calls_a_callback_without_end() -> None:
    """As calls, and as notifications, which count for no limit of channels."""
    held = Held()
    with fail_after(20), RawRouter() as router:
        async with duplex.open_peer(limits=LIMITS) as client, trio.open_nursery() as nursery:
            nursery.start_soon(client.connect, router.endpoint)
            await router.shake_hands(services=["raw"])
            await until(lambda: client.links)
            results: list[Any] = []

            async def call() -> None:
                results.append(await outcome(client.service("raw").method(held.callback)))

            nursery.start_soon(call)
            await router.commands(8)
            numbers = iter(range(2, 1_000_000, 2))
            for flags in (3, 5):  # END with UNARY, and with NOTIFY
                for _ in range(10):
                    fields = [1, flags, b"\x91\x90", 0, None, None, None, 1]
                    router.say(*[[7, next(numbers), *fields] for _ in range(500)])
            router.say([3, 7])
            await router.commands(4)
            assert held.most == 10
            refused = [command for command in router.received if command[0] == 10]
            assert len(refused) == 5000 - 10
            assert {command[2] for command in refused} == {8}
            assert (
                len([task for task in client._inside.home.nursery.child_tasks if "worker" in task.name]) <= 12
            )
            held.go.set()
            router.say([10, 1, 0, b"\x2a"])
            await until(lambda: results)
            assert results == [42]


class FakeLink:
    """What is counted of a link."""

    callbacks = 0


def test_a_call_has_its_callback_as_long_as_one_of_them_runs() -> None:
    callbacks = Callbacks(duplex.Limits(max_handlers_per_link=1))
    link, call = FakeLink(), object()
    one: Any = call
    for _ in range(3):
        callbacks.begin(link, one)
    for left in (2, 1):
        callbacks.end(link, one)
        assert link.callbacks == callbacks.running == left
        why = callbacks.refusal(link, one)
        assert why is not None
        assert why.startswith(f"{left} callbacks run for this link, the limit")
    callbacks.end(link, one)
    assert link.callbacks == callbacks.running == 0
    other: Any = object()
    callbacks.begin(link, other)
    assert callbacks.refusal(link, other) is not None
    assert callbacks.refusal(link, one) is None, (
        "the first one of a call is taken in any case, and so is the next first"
    )
