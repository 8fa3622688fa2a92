"""Peers that fail more often than the others of a service get no calls for a while."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
import trio

import duplex
from duplex._policies import OutlierDetection
from duplex.client._outliers import Outliers
from tests.client.test_breaker import Server, served
from tests.engine.helpers import outcome

PEERS = [f"peer {number}" for number in range(10)]


class Compared:
    """Ten peers, whose calls end as they are told."""

    def __init__(self, **policy: Any) -> None:
        self.outliers = Outliers(OutlierDetection(**policy), random.Random(1), 0.0)
        self.now = 0.0

    def interval(self, failed: dict[int, int] | None = None, calls: int = 100, peers: int = 10) -> list[str]:
        """Let so many calls to each end, so many of them failed; return who is ejected after the interval."""
        for number in range(peers):
            for call in range(calls):
                self.outliers.note(PEERS[number], has_failed=call < (failed or {}).get(number, 0))
        self.now += 10.0
        return self.outliers.compare(PEERS[:peers], self.now)

    @property
    def ejected(self) -> list[str]:
        return [peer for peer in PEERS if self.outliers.is_ejected(peer)]


def test_who_succeeds_less_often_than_the_others_is_ejected() -> None:
    compared = Compared()
    assert compared.interval({3: 30, 4: 2}) == ["peer 3"]
    assert compared.ejected == ["peer 3"]


def test_nobody_is_ejected_where_all_are_alike() -> None:
    compared = Compared()
    assert compared.interval(dict.fromkeys(range(10), 50)) == []
    assert compared.interval({number: 40 + number for number in range(10)}) == []


def test_the_rate_has_to_be_far_below_the_mean() -> None:
    """One of ten that is off by anything is three deviations away; of two that are, each is two."""
    compared = Compared(max_ejection_percent=100, failure_percentage_enforcement=0)
    assert compared.interval({0: 20, 1: 20}) == ["peer 0", "peer 1"]
    compared = Compared(max_ejection_percent=100, success_rate_stdev_factor=2100)
    assert compared.interval({0: 20, 1: 20}) == []


def test_few_calls_and_few_peers_say_nothing() -> None:
    assert Compared().interval({0: 99}, calls=99, peers=5) == ["peer 0"], "by its failures alone"
    assert Compared().interval({0: 49}, calls=49) == []
    assert Compared().interval({0: 100}, peers=4) == []
    assert Compared(success_rate_enforcement=0, failure_percentage_enforcement=0).interval({0: 100}) == []


def test_who_fails_nearly_always_is_ejected_whatever_the_others_do() -> None:
    compared = Compared(success_rate_enforcement=0, max_ejection_percent=100)
    assert compared.interval({number: 85 + number for number in range(10)}) == PEERS[1:]


def test_a_tenth_is_ejected_at_most_and_one_at_least() -> None:
    bad = dict.fromkeys(range(5), 100)
    assert Compared().interval(bad) == ["peer 0"]
    assert Compared(max_ejection_percent=30).interval(bad) == PEERS[:3]
    assert Compared(max_ejection_percent=0).interval(bad) == []
    assert Compared().interval({0: 100}, peers=5) == ["peer 0"]


def test_enforcement_is_a_matter_of_chance() -> None:
    policy = {"success_rate_enforcement": 0, "failure_percentage_enforcement": 25}
    found = Counter(len(_with_chance(seed, **policy).interval({0: 100})) for seed in range(400))
    assert 60 < found[1] < 140


def _with_chance(seed: int, **policy: Any) -> Compared:
    compared = Compared(**policy)
    compared.outliers._chance = random.Random(seed)
    return compared


def test_it_comes_back_after_a_time_that_grows_with_every_time() -> None:
    compared = Compared()
    times = []
    for _ in range(3):
        assert compared.interval({0: 100}) == ["peer 0"]
        began = compared.now
        while compared.ejected:
            compared.interval()
        times.append(compared.now - began)
    assert times == [30, 60, 90]
    for _ in range(20):
        compared.interval()
    assert compared.interval({0: 100}) == ["peer 0"]
    began = compared.now
    while compared.ejected:
        compared.interval()
    assert compared.now - began == 30, "who is well for long has been well always"


def test_the_longest_time() -> None:
    compared = Compared(base_ejection_time=30, max_ejection_time=40)
    for expected in (30, 40, 40):
        compared.interval({0: 100})
        began = compared.now
        while compared.ejected:
            compared.interval()
        assert compared.now - began == expected


def test_between_intervals_nothing_is_compared() -> None:
    compared = Compared()
    for call in range(100):
        for peer in PEERS:
            compared.outliers.note(peer, has_failed=peer == "peer 0" and call < 100)
    assert compared.outliers.compare(PEERS, 9.9) == []
    assert compared.outliers.compare(PEERS, 10.0) == ["peer 0"]
    assert compared.outliers.due == 20.0


def test_what_is_remembered_is_bounded() -> None:
    compared = Compared()
    for number in range(1000):
        compared.outliers.note(f"passing {number}", has_failed=True)
        compared.now += 10
        compared.outliers.compare([], compared.now)
    assert len(compared.outliers._peers) <= 1


async def test_an_outlier_gets_no_calls(autojump_clock: object) -> None:
    servers = [Server(f"server {number}") for number in range(5)]
    servers[2].fails = duplex.Internal
    policy = OutlierDetection(failure_percentage_request_volume=10, success_rate_request_volume=10)
    async with served(*servers, outlier_detection=policy) as client:
        remote = client.service("s")
        for _ in range(100):
            await outcome(remote.get())
        assert [server.calls for server in servers] == [20] * 5
        await trio.sleep(10)
        for _ in range(100):
            await outcome(remote.get())
        assert [server.calls for server in servers] == [45, 45, 20, 45, 45]
        assert client.statistics().ejections == 1
        servers[2].fails = None
        await trio.sleep(30)
        for _ in range(100):
            await outcome(remote.get())
        assert servers[2].calls == 40


@pytest.mark.parametrize("kind", [duplex.NotFound, duplex.InvalidArgument])
async def test_answers_are_no_failures(kind: type[duplex.RPCError], autojump_clock: object) -> None:
    servers = [Server(f"server {number}") for number in range(5)]
    servers[0].fails = kind
    policy = OutlierDetection(failure_percentage_request_volume=10, success_rate_request_volume=10)
    async with served(*servers, outlier_detection=policy) as client:
        for _ in range(200):
            await outcome(client.service("s").get())
            await trio.sleep(0.2)
        assert client.statistics().ejections == 0
