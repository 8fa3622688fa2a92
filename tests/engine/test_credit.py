"""How credit of a link is shared among those who wait for it."""

from __future__ import annotations

import itertools
from typing import Any

import trio
import trio.testing

from duplex.engine.channels._credit import MOST_TOLD, CreditShare
from duplex.protocol import MESSAGE_OVERHEAD


class Connection:
    """What the share looks at."""

    def __init__(self) -> None:
        self.link_credit = 0
        self.stream_credit = 0
        self.is_open = True


class Waiter:
    """Notes that it was told, and uses some credit."""

    def __init__(self, scene: Scene, number: int) -> None:
        self.scene = scene
        self.number = number

    def on_credit(self) -> None:
        self.scene.told.append(self.number)
        self.scene.connection.link_credit -= self.scene.use
        self.scene.connection.stream_credit -= self.scene.use


class Scene:
    """So many waiters of a link, each of which uses so much."""

    def __init__(self, count: int, use: int, urgent: tuple[int, ...] = ()) -> None:
        self.connection = Connection()
        connection: Any = self.connection
        self.share = CreditShare(connection)
        self.told: list[int] = []
        self.use = use
        for number in range(count):
            waiter: Any = Waiter(self, number)
            self.share.waiters[waiter] = number in urgent

    def grant(self, amount: int, *, reserved: int = 0) -> list[int]:
        """Grant more; return who is told at once."""
        self.told.clear()
        self.connection.link_credit += amount
        self.connection.stream_credit = self.connection.link_credit - reserved
        self.share.share()
        return list(self.told)


async def test_credit_for_one_is_told_one() -> None:
    scene = Scene(100, MESSAGE_OVERHEAD + 1)
    assert scene.grant(1) == [0]
    await trio.testing.wait_all_tasks_blocked()
    assert scene.told == [0], "nothing is left for another"
    assert scene.grant(MESSAGE_OVERHEAD) == []
    assert scene.grant(1) == [1], "each in its turn"


async def test_who_needs_none_leaves_it_to_the_next() -> None:
    scene = Scene(100, 0)
    assert scene.grant(1) == [0]
    await trio.testing.wait_all_tasks_blocked()
    assert scene.told == list(range(100)), "each is told once"


async def test_much_credit_is_told_a_few_in_a_pass() -> None:
    scene = Scene(100, 1)
    assert scene.grant(10**9) == list(range(MOST_TOLD))
    await trio.lowlevel.checkpoint()
    await trio.lowlevel.checkpoint()
    assert len(scene.told) < 100
    await trio.testing.wait_all_tasks_blocked()
    assert scene.told == list(range(100))


async def test_what_streams_leave_is_for_those_that_may_have_it() -> None:
    scene = Scene(100, 10, urgent=(7, 70))
    assert scene.grant(1000, reserved=1000) == [7, 70]
    scene = Scene(100, 10)
    assert scene.grant(1000, reserved=1000) == []
    assert list(scene.share.waiters.values()) == [False] * 100


async def test_nobody_is_told_once_the_link_is_over() -> None:
    scene = Scene(100, 0)
    scene.grant(1)
    scene.connection.is_open = False
    await trio.testing.wait_all_tasks_blocked()
    assert scene.told == [0]


class Passes(trio.abc.Instrument):
    """Notes how many were told in each pass of the event loop."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.seen = [0]

    def before_io_wait(self, timeout: float) -> None:
        self.seen.append(len(self.scene.told))


async def test_credit_that_comes_often_is_told_no_more_in_a_pass() -> None:
    scene = Scene(1000, 1)
    passes = Passes(scene)
    for _ in range(5):
        assert scene.grant(10**9) != []
    trio.lowlevel.add_instrument(passes)
    await trio.testing.wait_all_tasks_blocked()
    trio.lowlevel.remove_instrument(passes)
    told = [after - before for before, after in itertools.pairwise(passes.seen)]
    assert max(told[1:]) <= MOST_TOLD
    assert sorted(scene.told) == list(range(1000)), "each is told once"
