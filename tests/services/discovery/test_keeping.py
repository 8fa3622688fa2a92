"""The loop that keeps the store as it should be, where time passes while something is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest
import trio

from duplex_services.discovery._keeping import Keeper
from duplex_services.discovery._rules._keys import instance_key
from duplex_services.discovery._rules._liveness import What
from duplex_services.discovery._rules._plans import Owner, Plan
from duplex_services.discovery._rules._view import View
from duplex_services.discovery._writing import Writer
from tests.services.discovery.entries import instance, server, update

A = What("web", "a")


class SlowWriter:
    """Commits everything, and has something happen while it does."""

    def __init__(self, view: View, meanwhile: Callable[[], None]) -> None:
        self._view = view
        self._meanwhile = meanwhile
        self.deleted: list[str] = []

    async def write(self, plan: Callable[[], Plan | None]) -> int:
        await trio.lowlevel.checkpoint()
        step = plan()
        if step is None:
            return 0
        self._meanwhile()
        self.deleted += step.deletes
        self._view.apply(update(deletes=step.deletes, revision=9), trio.current_time(), 0.0)
        return 9


async def silent_keeper(meanwhile: Callable[[Keeper], None]) -> tuple[Keeper, SlowWriter, list[What]]:
    """A keeper that has just found that an instance is silent, and deletes it."""
    view = View("v")
    view.apply(update(server("here", "one", 1), instance("a", 2), full=True), 0.0, 0.0)
    ended: list[What] = []
    writer = SlowWriter(view, lambda: meanwhile(keeper))
    keeper = Keeper(view, cast("Writer", writer), Owner("here", "one"), lambda what, why: ended.append(what))
    keeper.liveness.begin(A, "t", 2.0, trio.current_time() - 2.0, is_held=False)
    keeper.look_at(A)
    assert keeper.liveness.silent(trio.current_time()) == [A]
    await keeper._drop_silent(A)
    return keeper, writer, ended


async def test_who_was_silent_is_gone_also_if_this_process_stood_still_meanwhile(
    autojump_clock: None,
) -> None:
    """Whoever is not heard of for a time in which this process did nothing is given that time; what is deleted is deleted."""
    keeper, writer, ended = await silent_keeper(
        lambda keeper: (keeper.liveness.silent(trio.current_time() + 5.0), None)[1]
    )
    assert writer.deleted == [instance_key(*A)]
    assert ended == [A]
    assert A not in keeper.liveness
    assert [key for key, _ in keeper._due(trio.current_time(), is_fresh=True) if key[0] == "lost"] == []


@pytest.mark.parametrize("is_new", [False, True])
async def test_who_speaks_while_it_is_deleted_is_put_back(is_new: bool, autojump_clock: None) -> None:
    def speak(keeper: Keeper) -> None:
        now = trio.current_time() + 0.5
        if is_new:
            keeper.liveness.begin(A, "t2", 2.0, now, is_held=True)
        else:
            assert keeper.liveness.beat(A, "t", now)

    keeper, writer, ended = await silent_keeper(speak)
    assert writer.deleted == [instance_key(*A)]
    assert ended == []
    assert [key for key, _ in keeper._due(trio.current_time(), is_fresh=True) if key[0] == "lost"] == [
        ("lost", *A)
    ]
