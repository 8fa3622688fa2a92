"""The calls of each service go, in turn, to every peer that offers it."""

from __future__ import annotations

import contextlib
import gc
import itertools
import weakref
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import duplex
from duplex.client._balanced import BalancedServices
from duplex.codec import CODECS
from duplex.engine.calling import Request
from duplex.engine.links._table import LinkTable
from tests.engine.helpers import until
from tests.machine import fail_after

REQUEST = Request("s.m", "s.m", CODECS["msgpack"])


class Link:
    """What a link is for whoever chooses one."""

    def __init__(self, peer_id: str, *offers: str) -> None:
        self.peer_id = peer_id
        self.offers = set(offers)
        self.connection = self
        self.is_open = True
        self.remote_leaving = False
        self.can_open = True
        self.is_left = False
        self.is_parted = False
        self.caller = self
        self.weight = 1.0

    def __repr__(self) -> str:
        return self.peer_id


class Dealer:
    """A peer that only chooses."""

    def __init__(self, *links: Link) -> None:
        self.table: Any = LinkTable()
        for link in links:
            self.add(link)
        self.services: Any = BalancedServices(self, "round_robin")  # type: ignore[arg-type]

    def clock(self) -> float:
        return 0.0

    def add(self, link: Link) -> None:
        self.table.add(link)

    def remove(self, link: Link) -> None:
        self.table.remove(link)

    def pick(self, service: str) -> Any:
        return self.services.of(service)._choose(REQUEST)


def _dealing(*links: Link) -> Any:
    return Dealer(*links)


def test_services_have_turns_of_their_own() -> None:
    a, b, c, d = Link("a", "s"), Link("b", "s"), Link("c", "t"), Link("d", "t")
    dealer = _dealing(a, c, b, d)
    picked = Counter(dealer.pick(service) for _ in range(10) for service in ("s", "t"))
    assert picked == {a: 5, b: 5, c: 5, d: 5}


def test_every_rhythm_of_two_services_is_fair() -> None:
    links = [Link(name, "s", "t") for name in "abc"]
    for rhythm in itertools.product("st", repeat=4):
        dealer = _dealing(*links)
        picked = Counter((service, dealer.pick(service)) for _ in range(30) for service in rhythm)
        for service in set(rhythm):
            counts = [picked[service, link] for link in links]
            assert max(counts) - min(counts) <= 1, rhythm


def test_services_that_nobody_offers_any_more_are_forgotten() -> None:
    dealer = _dealing(Link("a", "s"), Link("b", "s"), Link("c", "s"))
    assert repr(dealer.pick("s")) == "a"
    for number in range(1000):
        worker = Link(f"worker {number}", f"of {number}")
        dealer.add(worker)
        assert dealer.pick(f"of {number}") is worker
        dealer.remove(worker)
        assert dealer.pick(f"of {number}") is None
    assert len(dealer.services._services) <= 64
    assert len(dealer.table._offering) <= 1
    assert repr(dealer.pick("s")) == "b", "the turn of one that is offered goes on"


def test_who_offers_a_service_is_found_anew_only_if_that_has_changed() -> None:
    a, b = Link("a", "s"), Link("b", "s")
    dealer = _dealing(a, b)
    offering = dealer.table.offering
    found = offering("s")
    assert [remote.id for remote in found] == ["a", "b"]
    other = Link("other", "t")
    dealer.add(other)
    dealer.remove(other)
    assert offering("s") is found
    before, a.offers = a.offers, {"t"}
    dealer.table.offers_changed(a, before)
    assert [remote.id for remote in offering("s")] == ["b"]
    assert [remote.id for remote in offering("t")] == ["a"]
    before, a.offers = a.offers, {"s", "t"}
    dealer.table.offers_changed(a, before)
    assert [remote.id for remote in offering("s")] == ["a", "b"], "in the order in which they were linked"
    dealer.remove(a)
    dealer.remove(b)
    assert offering("s") == offering("t") == ()
    dealer.table.offers_changed(a, before)
    assert offering("s") == (), "what a link that is over says is nothing"
    assert not dealer.table._by_service


def test_an_announcement_makes_nothing_for_each_service() -> None:
    """What lives from one to the next, again and again, is what the garbage collector looks at everything for."""
    a, b = Link("a", "s"), Link("b", "s")
    dealer = _dealing(a, b)
    assert dealer.pick("s") is not None
    for number in range(10):
        before, a.offers = a.offers, {"s", *(f"{number} of {other}" for other in range(1000))}
        dealer.table.offers_changed(a, before)
        assert not dealer.table._by_service
        assert {repr(dealer.pick("s")) for _ in range(2)} == {"a", "b"}
        assert repr(dealer.pick(f"{number} of 7")) == "a"
        assert len(dealer.table._by_service) <= 2
    for number in range(1000):
        assert dealer.pick(f"nobody's {number}") is None
    assert len(dealer.table._by_service) <= 2


def test_who_comes_is_last_of_the_round() -> None:
    a, b, c = (Link(name, "s") for name in "abc")
    dealer = _dealing(a, b)
    assert dealer.pick("s") is a
    dealer.add(c)
    assert [dealer.pick("s") for _ in range(4)] == [b, c, a, b]


def test_nobody_is_left_out_when_another_goes() -> None:
    links = [Link(name, "s") for name in "abcd"]
    for gone in links:
        dealer = _dealing(*links)
        first = [dealer.pick("s") for _ in range(2)]
        dealer.remove(gone)
        rest = [link for link in links if link is not gone]
        after = [link for link in rest if link not in first]
        assert [dealer.pick("s") for _ in range(2)] == after[:2] + [link for link in rest if link in first][
            : 2 - len(after)
        ]


def test_who_flaps_does_not_take_the_turns_of_others() -> None:
    """A link that is lost and comes back between any two calls."""
    steady = [Link("a", "s"), Link("b", "s")]
    flaps = Link("c", "s")
    dealer = _dealing(*steady)
    picked: Counter[Link] = Counter()
    for _ in range(30):
        dealer.add(flaps)
        picked[dealer.pick("s")] += 1
        dealer.remove(flaps)
    assert picked[steady[0]] == picked[steady[1]] >= picked[flaps]


def test_several_links_to_a_peer_have_one_share() -> None:
    a, again, b = Link("a", "s"), Link("a", "s"), Link("b", "s")
    dealer = _dealing(a, b, again)
    assert Counter(dealer.pick("s") for _ in range(20)) == {a: 5, again: 5, b: 10}
    dealer.remove(a)
    assert Counter(dealer.pick("s") for _ in range(20)) == {again: 10, b: 10}


def test_a_link_at_its_limit_is_passed_over() -> None:
    a, again, b = Link("a", "s"), Link("a", "s"), Link("b", "s")
    dealer = _dealing(a, again, b)
    a.can_open = False
    assert Counter(dealer.pick("s") for _ in range(10)) == {again: 5, b: 5}
    again.can_open = b.can_open = False
    assert dealer.pick("s") is None


def test_a_link_that_this_side_leaves_is_the_last_resort() -> None:
    a, again, b = Link("a", "s"), Link("a", "s"), Link("b", "s")
    dealer = _dealing(a, again, b)
    a.is_left = True
    dealer.table.note_change(a)
    assert Counter(dealer.pick("s") for _ in range(10)) == {again: 5, b: 5}
    again.is_left = b.is_left = True
    dealer.table.note_change(b)
    assert dealer.pick("s") in (a, again, b)
    assert dealer.pick("other") is None


def test_nothing_is_remembered_of_links_that_are_over() -> None:
    a, b = Link("a", "s"), Link("b", "s")
    dealer = _dealing(a, b)
    dealer.pick("s")
    for link in (a, b):
        dealer.remove(link)
    assert dealer.pick("s") is None
    gone = weakref.ref(a)
    del a, link
    gc.collect()
    assert gone() is None


@contextlib.asynccontextmanager
async def _server(name: str, service: str, calls: Counter[str]) -> AsyncIterator[duplex.Peer]:
    offered = duplex.Service(service)

    @offered.rpc
    async def hit() -> None:
        calls[name] += 1

    async with duplex.open_peer(services=[offered], name=name) as peer:
        yield peer


async def test_a_gateway_that_calls_two_services_alternately() -> None:
    calls: Counter[str] = Counter()
    with fail_after(10):
        async with (
            _server("a", "s1", calls) as a,
            _server("b", "s1", calls) as b,
            _server("c", "s2", calls) as c,
            duplex.open_peer(balancer="round_robin") as gateway,
        ):
            for peer in (a, b, c):
                await gateway.connect(await peer.bind("memory://*"))
            for _ in range(10):
                await gateway.service("s1").hit()
                await gateway.service("s2").hit()
    assert calls == {"a": 5, "b": 5, "c": 10}


async def test_peers_that_connected_to_each_other_have_one_share() -> None:
    calls: Counter[str] = Counter()
    with fail_after(10):
        async with (
            _server("a", "s", calls) as a,
            _server("b", "s", calls) as b,
            duplex.open_peer(balancer="round_robin") as gateway,
        ):
            for peer in (a, b):
                await gateway.connect(await peer.bind("memory://*"))
            await a.connect(await gateway.bind("memory://*"))
            await until(lambda: len(gateway.links) == 3)
            for _ in range(10):
                await gateway.service("s").hit()
            assert calls == {"a": 5, "b": 5}
            (first, *_) = gateway.links
            await first.aclose()
            for _ in range(10):
                await gateway.service("s").hit()
            assert calls == {"a": 10, "b": 10}
