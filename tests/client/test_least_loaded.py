"""Of two peers, the one where the call will be answered sooner."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import trio
import trio.testing

import duplex
from duplex._status import StatusCode
from duplex.client.balancing import Balancer, LeastLoaded, Meter, Meters, PickFirst, RoundRobin
from duplex.client.balancing._meter import DECAY, FLOOR
from tests.client.balancing_model import Worker, by_worker, choose, closed_loop, open_loop
from tests.machine import fail_after

pytestmark = pytest.mark.unmeasured("thousands of the same calls")


def balancer() -> LeastLoaded:
    return LeastLoaded(Meters())


def metered(seconds: float, *, in_flight: int = 0) -> Meter:
    """Return what is known, at time 0, of a peer whose calls took so long."""
    meter = Meter()
    meter.begin(-seconds)
    meter.end(0.0, -seconds)
    for _ in range(in_flight):
        meter.begin(0.0)
    return meter


def picks(known: dict[str, Meter], now: float = 0.0, count: int = 12, **workers: Worker) -> Counter[str]:
    """Return how often each of some workers of which something is known is chosen."""
    meters = Meters()
    meters._by_id.update(known)
    policy = LeastLoaded(meters)
    candidates = [workers.get(name) or Worker(name) for name in known]
    return Counter(choose(policy, candidates, now, seed).id for seed in range(count))


# -- the figure that decided the default -------------------------------------------------------------------

#: Three workers of 10, 10 and 200 ms.
UNEQUAL = (0.010, 0.010, 0.200)


def share_of_fast(policy: Balancer, callers: int, seed: int) -> float:
    """Return the calls per second with a slow worker beside two fast ones, as a part of what the two alone could do."""
    workers = [Worker(str(number), seconds) for number, seconds in enumerate(UNEQUAL)]
    answered = by_worker(closed_loop(policy, workers, callers, 20, seed=seed)).total()
    return answered / 20 / (callers / 0.010)


@pytest.mark.slow
@pytest.mark.parametrize("callers", [12, 24, 64])
def test_a_slow_worker_costs_little(callers: int) -> None:
    assert min(share_of_fast(balancer(), callers, seed) for seed in (1, 2, 3)) >= 0.9


@pytest.mark.slow
def test_other_policies_do_not_see_that_a_worker_is_slow() -> None:
    """So the figure above says something."""
    assert share_of_fast(RoundRobin(), 24, 1) < 0.2


# -- one decision ------------------------------------------------------------------------------------------


def test_the_one_with_fewer_calls() -> None:
    assert picks({"a": metered(0.01, in_flight=1), "b": metered(0.01)}) == {"b": 12}
    assert picks({"a": metered(0.01), "b": metered(0.01, in_flight=3)}) == {"a": 12}


def test_equal_ones_take_turns() -> None:
    policy = balancer()
    workers = [Worker("a"), Worker("b")]
    assert [choose(policy, workers).id for _ in range(6)] == ["a", "b"] * 3


@pytest.mark.parametrize("slower", [1.0, 1.5, 1.9])
def test_small_differences_are_none(slower: float) -> None:
    """Those between equal peers are chance, and to follow them would leave some out."""
    policy = balancer()
    policy.meters._by_id.update(a=metered(0.1), b=metered(0.1 * slower))
    assert Counter(choose(policy, [Worker("a"), Worker("b")]).id for _ in range(10)) == {"a": 5, "b": 5}


def test_the_product_of_calls_and_latency() -> None:
    assert picks({"fast": metered(0.010, in_flight=12), "slow": metered(0.200)}) == {"fast": 12}
    assert picks({"fast": metered(0.010, in_flight=13), "slow": metered(0.200)}) == {"slow": 12}
    assert picks({"fast": metered(0.010, in_flight=20), "slow": metered(0.200, in_flight=1)}) == {"fast": 12}


def test_the_load_that_a_peer_reports_counts() -> None:
    known = {"a": metered(0.01), "b": metered(0.01)}
    assert picks(known, a=Worker("a", delay=0.5)) == {"b": 12}
    assert picks(known, b=Worker("b", delay=0.5)) == {"a": 12}


def test_a_stranger_gets_one_call_until_that_is_answered() -> None:
    stranger = Meter()
    assert picks({"a": metered(0.001), "new": stranger}) == {"new": 12}
    stranger.begin(0.0)
    assert picks({"a": metered(0.001, in_flight=50), "new": stranger}) == {"a": 12}
    assert picks({"new": stranger, "a": metered(0.001, in_flight=50)}) == {"a": 12}
    assert picks({"new": Meter(), "a": metered(0.001)}) == {"new": 12}


def test_strangers_share() -> None:
    policy = balancer()
    workers = [Worker(name) for name in "abcd"]
    counts: Counter[str] = Counter()
    for seed in range(400):
        worker = choose(policy, workers, seed=seed)
        counts[worker.id] += 1
        policy.meters[worker.id].begin(0.0)
    assert max(counts.values()) - min(counts.values()) <= 3


def test_one_candidate() -> None:
    assert choose(balancer(), [Worker("a")]).id == "a"


def test_one_that_answers_no_more_is_not_asked_again() -> None:
    """It has stopped, with as many calls under way as the other."""
    stopped = metered(0.010, in_flight=1)
    other = metered(0.010)
    other.begin(0.99)
    assert picks({"a": other, "b": stopped}, now=1.0) == {"a": 12}
    assert picks({"b": stopped, "a": other}, now=1.0) == {"a": 12}


def test_what_was_slow_is_tried_again_in_time() -> None:
    known = {"fast": metered(0.010), "slow": metered(0.200)}
    assert picks(known, now=DECAY) == {"fast": 12}
    known["fast"].begin(3 * DECAY)
    assert picks(known, now=3 * DECAY) == {"slow": 12}


# -- what is known of one peer -----------------------------------------------------------------------------


def test_latency_rises_at_once_and_falls_with_time() -> None:
    meter = metered(0.010)
    assert meter.latency == pytest.approx(0.010 + FLOOR)
    meter.begin(0.0)
    meter.end(0.110, 0.0)
    assert meter.latency == pytest.approx(0.060 + FLOOR), "half of the way"
    meter.begin(0.110)
    meter.end(0.120, 0.110)
    assert meter.latency == pytest.approx(0.060 + FLOOR, rel=0.01), "one quick answer is not the rule"
    meter.begin(0.120 + 5 * DECAY)
    meter.end(0.130 + 5 * DECAY, 0.120 + 5 * DECAY)
    assert meter.latency == pytest.approx(0.010 + FLOOR, rel=0.05)
    assert meter.in_flight == meter.waiting == 0


def test_what_is_known_fades_while_nothing_is_asked() -> None:
    meter = metered(1.0)
    assert meter.estimate(0.0) == pytest.approx(1.0 + FLOOR)
    assert meter.estimate(DECAY) == pytest.approx((1.0 + FLOOR) / math.e)
    meter.in_flight = meter.streams = 1
    assert meter.estimate(DECAY) == pytest.approx(1.0 + FLOOR)


def test_a_call_that_waits_is_known_to_take_as_long() -> None:
    meter = metered(0.01)
    meter.begin(5.0)
    assert meter.estimate(5.0) == pytest.approx(0.01 + FLOOR)
    assert meter.estimate(8.0) == pytest.approx(3.0)
    meter.begin(8.0)
    assert meter.estimate(8.0) == pytest.approx(3.0), "another call that begins makes no difference"
    meter.end(8.0, 8.0)
    assert meter.estimate(8.0) < 3.0, "it answers"


@pytest.mark.parametrize("code", [StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED])
def test_who_turns_calls_away_is_not_quick(code: StatusCode) -> None:
    meter = metered(0.010)
    for now in (1.0, 2.0, 3.0):
        before = meter.latency
        meter.begin(now)
        meter.end_badly(now + 0.0001, now, code)
        assert meter.latency > 4 * before
    for now in range(10, 20):
        meter.begin(now)
        meter.end_badly(now + 0.0001, now, code)
    assert meter.latency <= 10 + FLOOR
    assert meter.in_flight == meter.waiting == 0


@pytest.mark.parametrize("code", [StatusCode.INTERNAL, StatusCode.DEADLINE_EXCEEDED, None])
def test_what_fails_is_no_proof_of_speed(code: StatusCode | None) -> None:
    meter = metered(1.0)
    meter.begin(10.0)
    meter.end_badly(10.001, 10.0, code)
    assert meter.latency == pytest.approx(1.0 + FLOOR)
    meter.begin(20.0)
    meter.end_badly(25.0, 20.0, code)
    assert meter.latency == pytest.approx(3.0 + FLOOR), "but it may be one of slowness"
    assert meter.in_flight == meter.waiting == 0


def test_errors_of_the_application_are_answers() -> None:
    meter = metered(1.0)
    meter.begin(100.0)
    meter.end_badly(100.1, 100.0, StatusCode.NOT_FOUND)
    assert meter.latency == pytest.approx(0.1 + FLOOR)


def test_meters_of_peers_that_are_gone_are_forgotten() -> None:
    policy = balancer()
    for number in range(1000):
        workers = [Worker(f"{number} {name}") for name in "ab"]
        choose(policy, workers)
    assert len(policy.meters) < 30
    busy = policy.meters["999 a"]
    busy.begin(0.0)
    for number in range(100):
        choose(policy, [Worker(f"later {number} {name}") for name in "ab"])
    assert policy.meters["999 a"] is busy, "its calls have not ended"


# -- many decisions ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("rate", [200, 500, 3000])
def test_equal_workers_get_equal_shares(rate: int) -> None:
    """Within a tenth, in each ten seconds, at any load."""
    workers = [Worker(str(number), 0.004) for number in range(5)]
    answered = open_loop(balancer(), workers, rate, 40)
    for first in (0, 10, 20, 30):
        counts = by_worker(answered, first, first + 10)
        assert max(counts.values()) <= 1.1 * counts.total() / 5, counts
        assert min(counts.values()) >= 0.9 * counts.total() / 5, counts


@pytest.mark.slow
def test_who_comes_gets_its_share_and_who_is_slow_gets_little_until_it_is_quick_again() -> None:
    policy = balancer()
    workers = [Worker(str(number), 0.004) for number in range(5)]

    def slow() -> list[Worker]:
        workers[0].seconds = 0.4
        return workers

    def quick() -> list[Worker]:
        workers[0].seconds = 0.004
        return workers

    def more() -> list[Worker]:
        workers.append(Worker("new", 0.004))
        return list(workers)

    answered = open_loop(policy, workers, 500, 60, events={10.0: slow, 30.0: quick, 45.0: more})
    assert by_worker(answered, 12, 30)["0"] < 0.03 * by_worker(answered, 12, 30).total()
    for first, last, count in ((34, 44, 5), (46, 56, 6)):
        counts = by_worker(answered, first, last)
        assert len(counts) == count
        assert max(counts.values()) <= 1.1 * counts.total() / count, counts
        assert min(counts.values()) >= 0.9 * counts.total() / count, counts


@pytest.mark.slow
@pytest.mark.parametrize("rate", [100, 2000])
def test_shares_follow_weights(rate: int) -> None:
    workers = [Worker("one", 0.004), Worker("two", 0.004, weight=2), Worker("five", 0.004, weight=5)]
    counts = by_worker(open_loop(balancer(), workers, rate, 30))
    for worker in workers:
        assert counts[worker.id] == pytest.approx(counts.total() * worker.weight / 8, rel=0.15), counts


def test_a_slow_one_gets_less_whatever_it_weighs() -> None:
    workers = [Worker("fast", 0.004), Worker("slow", 0.4, weight=5)]
    counts = by_worker(open_loop(balancer(), workers, 200, 10))
    assert counts["slow"] < 0.1 * counts.total()


# -- the simple policies -----------------------------------------------------------------------------------


def test_turns_by_weight_are_evenly_spread() -> None:
    policy = RoundRobin()
    workers = [Worker("a", weight=3), Worker("b")]
    assert "".join(choose(policy, workers).id for _ in range(12)) == "aabaaabaaaba"


def test_turns_by_weight_go_on_when_others_come_and_go() -> None:
    policy = RoundRobin()
    a, b, c = Worker("a", weight=2), Worker("b"), Worker("c")
    counts = Counter(choose(policy, [a, b]).id for _ in [0])
    both = [a, b]
    counts = Counter(choose(policy, both).id for _ in range(30))
    assert counts == {"a": 20, "b": 10}
    three = [a, b, c]
    counts = Counter(choose(policy, three).id for _ in range(40))
    assert counts["a"] == pytest.approx(20, abs=1)
    assert counts["c"] == pytest.approx(10, abs=1), "no burst for who was not there"
    same = [b, c]
    assert Counter(choose(policy, same).id for _ in range(10)) == {"b": 5, "c": 5}
    assert Counter(choose(policy, three).id for _ in range(40))["a"] == pytest.approx(20, abs=1)


def test_who_weighs_more_than_before_gets_its_turns_at_once() -> None:
    policy = RoundRobin()
    before = [Worker("old"), Worker("canary", weight=0.001)]
    assert Counter(choose(policy, before).id for _ in range(1000)) == {"old": 999, "canary": 1}
    for weight in (0.5, 2.0, 0.25):
        after = [Worker("old"), Worker("canary", weight=weight)]
        counts = Counter(choose(policy, after).id for _ in range(300))
        assert counts["canary"] == pytest.approx(300 * weight / (1 + weight), abs=2)


def test_the_first_one_gets_all() -> None:
    policy = PickFirst()
    a, b, c = Worker("a"), Worker("b"), Worker("c")
    assert {choose(policy, [a, b]).id for _ in range(10)} == {"a"}
    assert {choose(policy, [b, c, a]).id for _ in range(10)} == {"b"}


# -- calls of all kinds ------------------------------------------------------------------------------------


async def test_calls_of_all_kinds_are_counted_while_they_run(autojump_clock: object) -> None:
    service = duplex.Service("s")
    noted = trio.Event()

    @service.rpc
    async def work() -> None:
        await trio.sleep(2)  # of virtual time

    @service.rpc
    async def note() -> None:
        noted.set()

    with fail_after(1000):
        async with (
            duplex.open_peer(services=[service]) as one,
            duplex.open_peer(services=[service]) as other,
            duplex.open_peer() as client,
        ):
            for peer in (one, other):
                await client.connect(await peer.bind("memory://*"))
            remote = client.service("s")
            meters: dict[str, Meter] = client._callers._balanced.of("s")._balancer.meters._by_id  # type: ignore[attr-defined]
            async with remote.work.open(), remote.work.open(), trio.open_nursery() as nursery:
                assert [(meter.in_flight, meter.streams) for meter in meters.values()] == [(1, 1)] * 2
                for _ in range(4):
                    nursery.start_soon(remote.work)
                await trio.testing.wait_all_tasks_blocked()
                assert [(meter.in_flight, meter.streams) for meter in meters.values()] == [(3, 1)] * 2
            assert [(meter.in_flight, meter.streams) for meter in meters.values()] == [(0, 0)] * 2
            assert all(meter.latency == pytest.approx(2 + FLOOR, abs=0.1) for meter in meters.values())
            await remote.note.notify()
            await noted.wait()
            with pytest.raises(duplex.EncodeError):
                await remote.work.open(object()).__aenter__()
            with trio.move_on_after(1):
                await remote.work()
            assert [(meter.in_flight, meter.streams) for meter in meters.values()] == [(0, 0)] * 2
