"""What is read of the directory: listings with how good they are, and watches at any pace."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from duplex_services.discovery import Batch, Filter, Position, Reading
from duplex_services.discovery._reading import MOST_CHANGES, Freshness
from duplex_services.discovery._rules._history import History
from tests.machine import fail_after
from tests.services.discovery.entries import Told, config, gone, instance, leader, server


def open_reading(**options: object) -> tuple[Told, Reading, Freshness]:
    told = Told(**options)  # type: ignore[arg-type]
    freshness = Freshness()
    return told, Reading(told.view, lambda: freshness), freshness


def brief(batch: Batch) -> tuple[bool, list[tuple[str, str]], bool, int]:
    changes: list[tuple[str, str]] = [(change.kind, change.id) for change in batch.changes]
    return batch.reset, changes, batch.current, batch.status.as_of


async def test_listings_say_how_good_they_are(autojump_clock: trio.testing.MockClock) -> None:
    told, reading, freshness = open_reading()
    nothing = reading.listing("web")
    assert (nothing.instances, nothing.known, nothing.status.stale, nothing.status.age) == (
        (),
        False,
        True,
        None,
    )
    told(
        server("here", "one", 2),
        instance("a", 3, zone="z"),
        instance("b", 4, server="gone", health="critical"),
    )
    freshness.confirmed = trio.current_time()
    freshness.stale = False
    await trio.sleep(2.5)
    found = reading.listing("web")
    assert [one.id for one in found.instances] == ["a"]
    assert (found.known, found.orphans) == (True, ())
    assert (found.status.origin, found.status.as_of, found.status.revision) == ("v", 2, 4)
    assert (found.status.age, found.status.stale, found.status.epoch) == (2.5, False, "e1")
    found = reading.listing("web", Filter(everything=True))
    assert [one.id for one in found.instances] == ["a", "b"]
    assert found.orphans == ("b",)
    assert reading.listing("web", Filter(zone="y", everything=True)).instances == ()
    told(config(5, service="empty"), leader("a", 6))
    assert reading.listing("empty").known
    assert [info.name for info in reading.services()] == ["empty", "web"]
    assert reading.service("web") == reading.services()[1]
    assert reading.service("none") is None
    found_leader = reading.leader("web")
    assert found_leader is not None
    assert found_leader.fence == 6
    assert not reading.explain("web", "b").listed
    told_here = Reading(told.view, lambda: freshness, lambda service, id: f"{service} {id} beats")
    assert told_here.explain("web", "a").reasons == ("web a beats",)


async def test_a_watch_begins_when_something_is_known() -> None:
    told, reading, _ = open_reading()
    watch = reading.watch("web")
    batches: list[Batch] = []

    async def read() -> None:
        batches.append(await watch.receive())

    with fail_after(2):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            nursery.start_soon(reading.known)
            await trio.testing.wait_all_tasks_blocked()
            assert batches == []
            assert not reading.is_known
            told()
            reading.now_known()
    assert brief(batches[0]) == (True, [], True, 0)


async def test_a_watch_tells_the_state_and_then_changes() -> None:
    told, reading, _ = open_reading()
    told(instance("a", 3), leader("a", 3))
    watch = reading.watch("web")
    assert brief(await watch.receive()) == (True, [("up", "a"), ("leader", "a")], True, 2)
    told(instance("b", 4))
    told(instance("x", 4, service="other"))
    told(deletes=gone("a"))
    assert brief(await watch.receive()) == (False, [("up", "b"), ("down", "a")], True, 5)
    with fail_after(2):
        async with trio.open_nursery() as nursery:

            async def change() -> None:
                await trio.testing.wait_all_tasks_blocked()
                # What comes to nothing is not told, nor what is of others.
                told(instance("c", 6))
                told(deletes=gone("c"))
                await trio.testing.wait_all_tasks_blocked()
                told(instance("y", 7, service="other"))
                await trio.testing.wait_all_tasks_blocked()
                told(instance("d", 8))

            nursery.start_soon(change)
            async for batch in watch:
                assert brief(batch) == (False, [("up", "d")], True, 9)
                break
    with trio.move_on_after(0.01) as scope:
        await watch.receive()
    assert scope.cancelled_caught
    told(deletes=gone("d"))
    assert brief(await watch.receive()) == (False, [("down", "d")], True, 10)


async def test_a_watch_goes_on_from_a_position() -> None:
    told, reading, _ = open_reading(history=History(most_of_one=2))
    told(instance("a", 3))
    position = Position("v", reading.status().as_of)
    # At once, be it with nothing: whoever goes on wants to know that it is current.
    assert brief(await reading.watch("web", position).receive()) == (False, [], True, 1)
    told(instance("b", 4))
    assert brief(await reading.watch("web", position).receive()) == (False, [("up", "b")], True, 2)
    told(instance("c", 5))
    told(instance("d", 6))
    state = [("up", "a"), ("up", "b"), ("up", "c"), ("up", "d")]
    assert brief(await reading.watch("web", position).receive()) == (True, state, True, 4)
    assert brief(await reading.watch("web", Position("other", 4)).receive()) == (True, state, True, 4)


async def test_watchers_are_told_when_what_is_known_gets_stale(
    autojump_clock: trio.testing.MockClock,
) -> None:
    told, reading, freshness = open_reading()
    told(instance("a", 3))
    freshness.stale = False
    quiet, waiting = reading.watch("web"), reading.watch("none")
    batches: list[Batch] = []

    async def read() -> None:
        while True:
            batches.append(await waiting.receive())

    await quiet.receive()
    with fail_after(2):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            freshness.stale = True
            reading.turned()
            await trio.sleep(0.5)
            assert [(batch.changes, batch.status.stale) for batch in batches] == [((), False), ((), True)]
            nursery.cancel_scope.cancel()
        assert brief(await quiet.receive()) == (False, [], True, 1)
        with trio.move_on_after(0.01) as scope:
            await quiet.receive()
        assert scope.cancelled_caught


async def test_a_slow_reader_is_told_in_parts_and_misses_nothing() -> None:
    told, reading, _ = open_reading()
    told(*(instance(f"i{number}", 3) for number in range(2 * MOST_CHANGES + 1)))
    watch = reading.watch()
    first = await watch.receive()
    told(instance("new", 9), deletes=gone("i0"))
    second, third, fourth = [await watch.receive() for _ in range(3)]
    assert [batch.reset for batch in (first, second, third, fourth)] == [True, False, False, False]
    assert [batch.current for batch in (first, second, third, fourth)] == [False, False, True, True]
    assert [len(batch.changes) for batch in (first, second, third)] == [MOST_CHANGES, MOST_CHANGES, 1]
    assert third.status.as_of == 2 * MOST_CHANGES + 1
    assert [(change.kind, change.id) for change in fourth.changes] == [("down", "i0"), ("up", "new")]


class Steps(trio.abc.Instrument):
    """Counts how often some tasks run."""

    def __init__(self, tasks: set[trio.lowlevel.Task]) -> None:
        self.count = 0
        self._tasks = tasks

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += task in self._tasks


async def test_nobody_wakes_for_others(autojump_clock: trio.testing.MockClock) -> None:
    # D-8, of the view: who watches something quiet, or nothing, costs nothing while others are busy.
    told, reading, _ = open_reading()
    told(instance("q", 2, service="quiet"))
    woken: list[str] = []

    async def read(service: str) -> None:
        watch = reading.watch(service)
        await watch.receive()
        woken.append((await watch.receive()).service)

    with fail_after(5):
        async with trio.open_nursery() as nursery:
            for service in ["quiet"] * 5 + ["no-such"] * 5:
                nursery.start_soon(read, service)
            await trio.testing.wait_all_tasks_blocked()
            steps = Steps(set(nursery.child_tasks))
            trio.lowlevel.add_instrument(steps)
            for number in range(100):
                told(instance(f"{number}", number + 3, service="busy"))
            await trio.testing.wait_all_tasks_blocked()
            trio.lowlevel.remove_instrument(steps)
            assert steps.count == 0
            told(instance("n", 200, service="no-such"))
            await trio.sleep(0.5)
            assert woken == ["no-such"] * 5
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("watchers", "most"), [(1, 200), (100, 30)])
async def test_many_changes_and_many_watchers_do_not_multiply(
    watchers: int, most: int, autojump_clock: trio.testing.MockClock
) -> None:
    told, reading, _ = open_reading()
    told(instance("a", 2))
    batches: list[Batch] = []

    async def read() -> None:
        watch = reading.watch("web")
        while True:
            batches.append(await watch.receive())

    async with trio.open_nursery() as nursery:
        for _ in range(watchers):
            nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        batches.clear()
        # The first one after a rest is told at once.
        await trio.sleep(1)
        told(instance("a", 3, created=2, weight=2))
        await trio.testing.wait_all_tasks_blocked()
        assert len(batches) == watchers
        batches.clear()
        for number in range(200):
            await trio.sleep(0.01)
            told(instance("a", 4 + number, created=2, weight=number))
        await trio.sleep(1)
        assert 10 * watchers < len(batches) <= most * watchers
        assert {
            batch.changes[-1].instance.weight for batch in batches[-watchers:] if batch.changes[-1].instance
        } == {199}
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("service", ["", "web"])
async def test_a_watch_costs_nothing_when_it_is_left(service: str) -> None:
    told, reading, _ = open_reading()
    told(instance("a", 3))
    for _ in range(3):
        watch = reading.watch(service)
        await watch.receive()
        with trio.move_on_after(0):
            await watch.receive()
    assert reading._news == {}


async def test_names_that_nobody_asks_for_any_more_are_forgotten(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    told, reading, _ = open_reading()
    told(instance("a", 3), instance("b", 4))
    for number in range(50):
        service = f"none-{number}"
        after = Position("v", told.view.index)
        async with trio.open_nursery() as nursery:
            # Two wait for the same, and one of them stays longer.
            first, second = (reading.watch(service, after) for _ in range(2))
            await first.receive()
            await second.receive()
            nursery.start_soon(first.receive)
            with trio.move_on_after(1):
                await second.receive()
            assert set(reading._news) == {service}
            nursery.cancel_scope.cancel()
        assert not reading._news
        assert not reading._crowds
    # Nor are positions, of which there are as many.
    monkeypatch.setattr("duplex_services.discovery._rules._view._MOST_CAUGHT_UP", 10)
    told(*(instance(f"i{number}", 10 + number) for number in range(50)))
    for index in range(2, told.view.index):
        reset, changes = told.view.catch_up("web", Position("v", index))
        assert (reset, len(list(changes))) == (False, told.view.index - index)
        assert len(told.view._caught_up) <= 10
