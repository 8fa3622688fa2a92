"""What is done to Python's garbage collector while many handlers run."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import trio

import duplex
from duplex.engine.serving import _collector
from duplex.engine.serving._admission import CALLS_PER_LOOK, Admission
from duplex.engine.serving._collector import FEW, MANY, OFTEN, Collector
from tests.engine.helpers import linked, until

pytestmark = pytest.mark.plain_wire("looks into the server's process")


class Peer:
    """Whose handlers run."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    assert not gc.get_freeze_count()
    collector = Collector()
    yield collector
    if collector._is_active:
        collector._switch()
    gc.unfreeze()


def test_what_a_collection_has_looked_at_is_not_looked_at_again(collector: Collector) -> None:
    peer = Peer()
    collector.note(peer, MANY)
    kept = [[number] for number in range(1000)]
    gc.collect()
    assert not any(thing is kept for thing in gc.get_objects()), "it is frozen"
    assert kept == [[number] for number in range(1000)]
    collector.note(peer, FEW - 1)
    assert not gc.get_freeze_count()
    gc.collect()
    assert any(thing is kept for thing in gc.get_objects())


def test_few_handlers_change_nothing(collector: Collector) -> None:
    peer = Peer()
    for handlers in (0, FEW, MANY - 1):
        collector.note(peer, handlers)
        gc.collect()
        assert not gc.get_freeze_count()


def test_a_peer_that_is_behind_with_its_calls_is_as_one_with_many_handlers() -> None:
    peer: Any = SimpleNamespace(limits=duplex.Limits(), links=[], is_behind=False, left_behind=[])
    link: Any = SimpleNamespace(running=1, seen_buffered=0, connection=SimpleNamespace(unconsumed_total=0))
    admission = Admission(peer)

    def call() -> None:
        for _ in range(CALLS_PER_LOOK):
            assert admission.refusal(link) is None

    call()
    assert not gc.get_freeze_count()
    peer.is_behind = True
    call()
    assert gc.get_freeze_count()
    admission.note_handlers()
    assert gc.get_freeze_count()
    peer.is_behind = False
    admission.note_handlers()
    assert not gc.get_freeze_count()


def test_few_more_or_less_change_nothing_either(collector: Collector) -> None:
    peer, other = Peer(), Peer()
    collector.note(peer, MANY)
    collector.note(other, 2 * MANY)
    collector.note(peer, 0)
    assert gc.get_freeze_count()
    collector.note(other, FEW)
    assert gc.get_freeze_count()
    collector.note(other, FEW - 1)
    assert not gc.get_freeze_count()
    collector.note(other, MANY - 1)
    assert not gc.get_freeze_count()


def test_what_is_frozen_grows_with_the_handlers(collector: Collector) -> None:
    peer, other = Peer(), Peer()
    collector.note(peer, MANY)
    kept = [[number] for number in range(1000)]
    collector.note(peer, 2 * MANY - 1)
    assert any(thing is kept for thing in gc.get_objects())
    collector.note(other, MANY)
    assert not any(thing is kept for thing in gc.get_objects())
    again: list[object] = [[]]
    collector.note(other, MANY + FEW)
    assert any(thing is again for thing in gc.get_objects())
    collector.note(peer, MANY)
    collector.note(peer, 2 * MANY)
    assert not any(thing is again for thing in gc.get_objects()), "so many have gone, and come"


def test_older_generations_are_collected_more_often(collector: Collector) -> None:
    youngest, middle, oldest = gc.get_threshold()
    assert middle > OFTEN[0]
    peer = Peer()
    collector.note(peer, MANY)
    assert gc.get_threshold() == (youngest, *OFTEN)
    collector.note(peer, 0)
    assert gc.get_threshold() == (youngest, middle, oldest)


def test_thresholds_of_the_application_stay(collector: Collector) -> None:
    before = gc.get_threshold()
    peer = Peer()
    try:
        gc.set_threshold(500, 0, 0)
        collector.note(peer, MANY)
        assert gc.get_threshold() == (500, 0, 0)
        gc.set_threshold(600, 5, 5)
        collector.note(peer, 0)
        assert gc.get_threshold() == (600, 5, 5)
    finally:
        gc.set_threshold(*before)


def test_no_collection_has_much_to_look_at_where_objects_take_the_place_of_others(
    collector: Collector,
) -> None:
    """Python counts how many there are more than before, and so lets those that are young become many."""
    kept = [[number] for number in range(100_000)]
    more = []
    looked_at: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start" and info["generation"]:
            looked_at.append(sum(len(gc.get_objects(number)) for number in range(info["generation"] + 1)))

    peer = Peer()
    collector.note(peer, MANY)
    gc.callbacks.append(note)
    try:
        for number in range(len(kept)):
            kept[number] = [number]
            if number % 10 == 0:
                more.append([number])
    finally:
        gc.callbacks.remove(note)
    assert looked_at
    assert max(looked_at) < 50_000


def test_a_peer_that_is_gone_has_no_handlers(collector: Collector) -> None:
    peer, other = Peer(), Peer()
    collector.note(peer, MANY)
    del peer
    gc.collect()
    collector.note(other, MANY)
    collector.note(other, 0)
    assert not gc.get_freeze_count()


def test_what_the_application_has_frozen_stays_frozen(collector: Collector) -> None:
    gc.freeze()
    frozen = gc.get_freeze_count()
    peer = Peer()
    collector.note(peer, MANY)
    kept: list[object] = [[]]
    gc.collect()
    assert any(thing is kept for thing in gc.get_objects())
    collector.note(peer, 0)
    assert gc.get_freeze_count() > frozen / 2


class Cycle:
    """Which nothing but the collector frees."""

    def __init__(self) -> None:
        self.itself = self


@pytest.mark.parametrize("is_much", [False, True])
def test_cycles_are_kept_until_much_is_frozen(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, is_much: bool
) -> None:
    monkeypatch.setattr(_collector, "PER_HANDLER", 0)
    monkeypatch.setattr(_collector, "PAUSE", 0.0)
    peer = Peer()
    collector.note(peer, MANY)
    cycle = Cycle()
    gone = weakref.ref(cycle)
    gc.collect()
    del cycle
    gc.collect()
    assert gone() is not None, "it is frozen"
    assert collector._alive
    if is_much:
        collector._alive //= 3
    gc.collect()
    gc.collect()
    assert (gone() is None) is is_much
    assert gc.get_freeze_count(), "what has been looked at then is frozen again"
    assert collector._alive


def test_memory_is_not_counted_in_every_collection(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes as long as there is much of it."""
    counted = 0

    def count() -> int:
        nonlocal counted
        counted += 1
        return 1000

    monkeypatch.setattr(_collector, "sys", SimpleNamespace(getallocatedblocks=count))
    monkeypatch.setattr(_collector, "PAUSE", 3600.0)
    peer = Peer()
    collector.note(peer, MANY)
    kept = [[number] for number in range(1000)]
    for _ in range(5):
        gc.collect()
    assert counted == 2
    assert not any(thing is kept for thing in gc.get_objects()), "it is frozen"


@pytest.mark.slow
async def test_a_peer_with_many_handlers_freezes_what_waits(autojump_clock: object) -> None:
    service = duplex.Service("svc")
    go = trio.Event()

    @service.rpc
    async def wait() -> None:
        await go.wait()

    assert not gc.get_freeze_count()
    async with linked(service, within=100) as pair, trio.open_nursery() as nursery:
        for _ in range(2 * MANY):
            nursery.start_soon(pair.service("svc").wait)
        await until(lambda: pair.back._inside.running == 2 * MANY)
        assert gc.get_freeze_count()
        go.set()
        await until(lambda: not pair.back._inside.running)
        # Nobody calls any more, so it is found out when the peer looks after its links.
        await trio.sleep(pair.server._inside.keepalive.interval + 1)
        assert not gc.get_freeze_count()


@pytest.mark.slow
async def test_a_peer_that_ends_leaves_nothing_frozen() -> None:
    service = duplex.Service("svc")

    @service.rpc
    async def wait() -> None:
        await trio.sleep_forever()

    async with linked(service, check=False) as pair, trio.open_nursery() as nursery:
        for _ in range(2 * MANY):
            nursery.start_soon(pair.service("svc").wait)
        await until(lambda: pair.back._inside.running == 2 * MANY)
        assert gc.get_freeze_count()
        nursery.cancel_scope.cancel()
    assert not gc.get_freeze_count()


async def test_a_peer_whose_handlers_have_ended_says_so_though_nothing_calls_it(
    autojump_clock: object,
) -> None:
    async with duplex.open_peer() as peer:
        _collector.collector.note(peer._inside.admission, MANY)
        assert gc.get_freeze_count()
        await trio.sleep(2 * duplex.Keepalive().interval)  # the peer looks after its links meanwhile
        assert not gc.get_freeze_count()
