"""One task looks after many connections: each at its time, whoever comes and goes meanwhile."""

from __future__ import annotations

import gc
import itertools
import math
import weakref

import trio
import trio.testing

from duplex.transports.streams._lookout import Lookout


class Port:
    """Has a connection that is to be looked after every so many seconds."""

    def __init__(self, home: trio.Nursery, every: float) -> None:
        self.home: trio.Nursery | None = home
        self.every = every
        self.looks: list[float] = []

    def look(self, now: float) -> float:
        self.looks.append(now)
        return now + self.every


async def test_each_is_looked_after_at_its_time(autojump_clock: trio.testing.MockClock) -> None:
    lookout = Lookout()
    async with trio.open_nursery() as nursery:
        began = trio.current_time()
        ports = [Port(nursery, every) for every in (3, 5, 7)]
        for port in ports:
            lookout.add(port, began + port.every)
        await trio.sleep(21.5)
        assert [[round(look - began) for look in port.looks] for port in ports] == [
            [3, 6, 9, 12, 15, 18, 21],
            [5, 10, 15, 20],
            [7, 14, 21],
        ]
        for port in ports:
            lookout.remove(port)


async def test_those_whose_times_are_near_are_looked_after_together(
    autojump_clock: trio.testing.MockClock,
) -> None:
    lookout = Lookout()
    async with trio.open_nursery() as nursery:
        began = trio.current_time()
        ports = [Port(nursery, 100) for _ in range(100)]
        for number, port in enumerate(ports):
            lookout.add(port, began + 100 + number)
        await trio.sleep(1000)
        looks = [look - began for port in ports for look in port.looks]
        for port in ports:
            assert all(94.9 <= later - sooner <= 100.1 for sooner, later in itertools.pairwise(port.looks))
        assert len({look for look in looks if look < 200}) == 100, "the first time of each is as it was told"
        assert len({look for look in looks if look >= 900}) <= 21, "those within a twentieth are one"
        for port in ports:
            lookout.remove(port)


async def test_a_later_word_about_the_time_holds(autojump_clock: trio.testing.MockClock) -> None:
    lookout = Lookout()
    async with trio.open_nursery() as nursery:
        began = trio.current_time()
        sooner, later = Port(nursery, math.inf), Port(nursery, math.inf)
        lookout.add(sooner, began + 10)
        lookout.add(later, began + 1)
        await trio.testing.wait_all_tasks_blocked()
        lookout.add(sooner, began + 2)
        lookout.add(later, began + 20)
        await trio.sleep(30)
        assert [round(look - began) for look in sooner.looks + later.looks] == [2, 20]
        lookout.remove(sooner)
        lookout.remove(later)


async def test_the_rest_is_looked_after_when_the_one_that_has_the_task_is_gone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    lookout = Lookout()
    async with trio.open_nursery() as nursery, trio.open_nursery() as other:
        first, second = Port(other, 1), Port(nursery, 1)
        for port in (first, second):
            lookout.add(port, trio.current_time() + 1)
        await trio.sleep(1.5)
        lookout.remove(first)
        other.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.sleep(3)
        assert len(first.looks) == 1
        assert len(second.looks) == 4
        lookout.remove(second)


async def test_nobody_who_is_gone_is_kept(autojump_clock: trio.testing.MockClock) -> None:
    lookout = Lookout()
    async with trio.open_nursery() as nursery:
        staying = Port(nursery, 3600)
        lookout.add(staying, trio.current_time() + 3600)
        gone: list[weakref.ref[Port]] = []
        for due in [3600, math.inf] * 500:
            port = Port(nursery, 1)
            gone.append(weakref.ref(port))
            lookout.add(port, trio.current_time() + due)
            lookout.remove(port)
            del port
        gc.collect()
        assert sum(one() is not None for one in gone) <= 20
        lookout.remove(staying)
