"""One registry, kept: what fails is done again, what is refused is not, and others do not wait for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from duplex_services._shared._background import background
from duplex_services.registration._keeping import Keeper
from duplex_services.registration._model import Entry, Service
from duplex_services.registration._rules._difference import Put
from duplex_services.registration._target import RefusedError, TargetError
from tests.services.registration.made import container, services


class Registry:
    """A registry that a test has at its will."""

    def __init__(self, name: str = "registry") -> None:
        self.name = name
        self.has: dict[str, Entry] = {}
        self.is_away = False
        self.refuses: set[str] = set()
        self.fails: set[str] = set()
        self.calls: list[str] = []
        self.woken: Callable[[], None] | None = None

    def entry_of(self, service: Service) -> Entry:
        return Entry(f"{service.name}/{service.id}", "me", service.address, service.state, service.note)

    async def run(self, woken: Callable[[], None]) -> None:
        self.woken = woken
        await trio.sleep_forever()

    async def entries(self) -> Mapping[str, Entry]:
        self.calls.append("entries")
        await trio.lowlevel.checkpoint()
        if self.is_away:
            raise TargetError(f"{self.name} is away")
        return dict(self.has)

    async def put(self, action: Put) -> None:
        self._check("put", action.entry.key)
        self.has[action.entry.key] = action.entry

    async def drop(self, entry: Entry, why: str) -> None:
        self._check("drop", entry.key)
        self.has.pop(entry.key, None)

    def _check(self, what: str, key: str) -> None:
        self.calls.append(f"{what} {key}")
        if key in self.fails:
            raise TargetError(f"{key} cannot be done")
        if key in self.refuses:
            raise RefusedError(f"{key} is nothing for us")


def key(number: int) -> str:
    return f"web/{container(number).short}-80"


async def test_it_has_what_is_wanted_and_keeps_it(autojump_clock: MockClock) -> None:
    registry = Registry()
    keeper = Keeper(registry, "me")
    async with background() as nursery:
        nursery.start_soon(keeper.run)
        await wait_all_tasks_blocked()
        assert registry.calls == []
        assert keeper.trouble == "it was not asked yet"
        keeper.want(services(container(1), container(2)), may_drop=True)
        await wait_all_tasks_blocked()
        assert registry.has.keys() == {key(1), key(2)}
        assert (keeper.trouble, keeper.statistics.writes) == ("", 2)
        keeper.want(services(container(2)), may_drop=True)
        await wait_all_tasks_blocked()
        assert registry.has.keys() == {key(2)}
        # Somebody deletes it by hand: the next look makes that good.
        registry.has.clear()
        await trio.sleep(11)
        assert registry.has.keys() == {key(2)}
        # Or at once, if the registry tells.
        registry.has.clear()
        assert registry.woken is not None
        registry.woken()
        await wait_all_tasks_blocked()
        assert registry.has.keys() == {key(2)}
        writes = keeper.statistics.writes
        await trio.sleep(100)
        assert keeper.statistics.writes == writes
        assert keeper.statistics.looks > 10


async def test_nothing_is_dropped_before_all_is_known(autojump_clock: MockClock) -> None:
    registry = Registry()
    old = registry.entry_of(services(container(1))[0])
    registry.has[old.key] = old
    keeper = Keeper(registry, "me")
    async with background() as nursery:
        nursery.start_soon(keeper.run)
        keeper.want(services(container(2)), may_drop=False)
        await wait_all_tasks_blocked()
        assert registry.has.keys() == {key(1), key(2)}
        keeper.want(services(container(2)), may_drop=True)
        await wait_all_tasks_blocked()
        assert registry.has.keys() == {key(2)}


async def test_registry_that_is_away_is_asked_again_and_others_do_not_wait(autojump_clock: MockClock) -> None:
    away, there = Registry("away"), Registry("there")
    away.is_away = True
    keepers = [Keeper(away, "me"), Keeper(there, "me")]
    async with background() as nursery:
        for keeper in keepers:
            nursery.start_soon(keeper.run)
            keeper.want(services(container(1)), may_drop=True)
        await wait_all_tasks_blocked()
        assert there.has.keys() == {key(1)}
        assert keepers[0].trouble == "away is away"
        await trio.sleep(60)
        # 0.2 s, twice that, and so on up to 5 s.
        assert 14 <= len(away.calls) <= 18
        away.is_away = False
        await trio.sleep(5.1)
        assert away.has.keys() == {key(1)}
        assert keepers[0].trouble == ""


async def test_what_fails_is_done_again_and_holds_up_nothing(autojump_clock: MockClock) -> None:
    registry = Registry()
    registry.fails = {key(1)}
    keeper = Keeper(registry, "me")
    async with background() as nursery:
        nursery.start_soon(keeper.run)
        keeper.want(services(container(1), container(2)), may_drop=True)
        await wait_all_tasks_blocked()
        assert registry.has.keys() == {key(2)}
        assert keeper.trouble == f"{key(1)} cannot be done"
        assert keeper.statistics.failures == 1
        registry.fails.clear()
        await trio.sleep(1)
        assert registry.has.keys() == {key(1), key(2)}


async def test_what_is_refused_is_asked_again_only_when_it_is_different(autojump_clock: MockClock) -> None:
    registry = Registry()
    registry.refuses = {key(1)}
    keeper = Keeper(registry, "me")
    wanted = services(container(1))
    async with background() as nursery:
        nursery.start_soon(keeper.run)
        keeper.want(wanted, may_drop=True)
        await trio.sleep(60)
        assert registry.calls.count(f"put {key(1)}") == 1
        assert keeper.refused == {("web", wanted[0].id): f"{key(1)} is nothing for us"}
        assert keeper.trouble == ""
        keeper.want([msgspec.structs.replace(wanted[0], host="192.0.2.9")], may_drop=True)
        await wait_all_tasks_blocked()
        assert registry.calls.count(f"put {key(1)}") == 2
        keeper.want([], may_drop=True)
        await wait_all_tasks_blocked()
        assert keeper.refused == {}
        # It is forgotten then.
        keeper.want(wanted, may_drop=True)
        await wait_all_tasks_blocked()
        assert registry.calls.count(f"put {key(1)}") == 3
        registry.has[key(9)] = Entry(key(9), "me", "x")
        registry.refuses.add(key(9))
        await trio.sleep(11)
        assert f"drop {key(9)}" in registry.calls
