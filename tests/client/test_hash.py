"""Calls with the same key go to the same peer."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import msgspec
import pytest

import duplex
from duplex.client.balancing import Hashing, Meters, Rings
from duplex.client.balancing._hash import capacity
from tests.client.balancing_model import REQUEST, Worker, choose
from tests.engine.named_service import serving
from tests.machine import fail_after

KEYS = [f"user-{number}" for number in range(2000)]


def homes(workers: list[Worker], rings: Rings | None = None) -> dict[str, str]:
    """Return where each key belongs."""
    rings = rings or Rings(Meters())
    return {key: choose(Hashing(duplex.ConsistentHash(key), rings), workers).id for key in KEYS}


def test_a_key_stays_where_it_is() -> None:
    workers = [Worker(name) for name in "abcde"]
    assert homes(workers) == homes(workers)
    elsewhere = [Worker(f"another {worker.id}", place=worker.place) for worker in reversed(workers)]
    again = homes(elsewhere)
    assert {key: home.removeprefix("another ") for key, home in again.items()} == homes(workers), (
        "after a restart, and in another order"
    )


def test_keys_are_shared_out_by_weight() -> None:
    counts = Counter(homes([Worker("a"), Worker("b"), Worker("c", weight=2)]).values())
    for name, part in (("a", 0.25), ("b", 0.25), ("c", 0.5)):
        assert counts[name] == pytest.approx(part * len(KEYS), rel=0.35)


def test_only_the_keys_of_who_goes_move() -> None:
    workers = [Worker(name) for name in "abcde"]
    before = homes(workers)
    after = homes(workers[:-1])
    for key in KEYS:
        assert after[key] == before[key] or before[key] == "e"
    moved = Counter(after[key] for key in KEYS if before[key] == "e")
    assert len(moved) == 4, "to all of the others"


def test_a_busy_one_gets_no_more_than_its_share_allows() -> None:
    workers = [Worker(name) for name in "abcd"]
    rings = Rings(Meters())
    policy = Hashing(duplex.ConsistentHash("hot", max_load=1.5), rings)
    order: list[str] = []
    for _ in range(40):
        chosen = choose(policy, workers).id
        rings.meters[chosen].begin(0.0)
        order.append(chosen)
    counts = Counter(order)
    assert counts.total() == 40
    assert max(counts.values()) <= capacity(40, 1.5, 0.25)
    assert counts[order[0]] == max(counts.values()), "the one that it belongs to has most of them"


def test_capacity() -> None:
    assert capacity(0, 1.25, 0.1) == 1
    assert capacity(99, 1.25, 0.25) == 32
    assert capacity(99, 1.0, 0.25) == 25
    for in_flight in range(50):
        shares = [0.5, 0.3, 0.2]
        assert sum(capacity(in_flight, 1.0, share) for share in shares) > in_flight, "somebody takes it"


def test_the_key_may_be_metadata() -> None:
    workers = [Worker(name) for name in "abcde"]
    rings = Rings(Meters())
    policy = Hashing(duplex.ConsistentHash(metadata="user"), rings)
    for key in KEYS[:20]:
        request = msgspec.structs.replace(REQUEST, metadata={"user": key})
        chosen, _ = policy.choose(workers, request, 0.0, random.Random(1))
        assert chosen is choose(Hashing(duplex.ConsistentHash(key), rings), workers)
        as_bytes = msgspec.structs.replace(REQUEST, metadata={"user": key.encode()})
        assert policy.choose(workers, as_bytes, 0.0, random.Random(1))[0] is chosen
    without = Counter(choose(policy, workers, seed=seed).id for seed in range(50))
    assert len(without) == 5, "calls without it go anywhere"


def test_two_of_the_same_name() -> None:
    workers = [Worker("1", place="worker"), Worker("2", place="worker")]
    assert set(homes(workers).values()) == {"1", "2"}


def test_a_ring_is_the_same_whatever_was_before() -> None:
    """Points are taken over from the ring before, if the peer has as many as it had."""
    workers = [Worker(name) for name in "abcde"]
    rings = Rings(Meters())
    for present in (workers, workers[1:], workers[:2], [*workers[:2], Worker("c", weight=3)], workers):
        assert homes(list(present), rings) == homes(list(present))


def test_very_many_peers() -> None:
    workers = [Worker(str(number)) for number in range(4000)]
    policy = Hashing(duplex.ConsistentHash("key"), Rings(Meters()))
    assert len({choose(policy, workers).id for _ in range(3)}) == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "takes either the key"),
        ({"key": "a", "metadata": "b"}, "takes either the key"),
        ({"key": 3}, "key must be a str or bytes"),
        ({"metadata": 3}, "must be the name of metadata"),
        ({"metadata": ""}, "must be the name of metadata"),
        ({"key": "a", "max_load": 0.5}, "max_load must be a number from 1"),
    ],
)
def test_wrong_policies(wrong: Any, message: str) -> None:
    with pytest.raises(duplex.ConfigurationError, match=message):
        duplex.ConsistentHash(**wrong)


async def test_calls_by_key() -> None:
    with fail_after(10):
        async with serving("a", "b", "c") as endpoints, duplex.open_peer() as client:
            for endpoint in endpoints:
                await client.connect(endpoint)
            remote = client.service("who")
            found: dict[str, set[str]] = {}
            for key in KEYS[:30] * 2:
                keyed = remote.with_options(balancer=duplex.ConsistentHash(key))
                found.setdefault(key, set()).add(await keyed.name_())
            assert all(len(names) == 1 for names in found.values())
            assert {name for names in found.values() for name in names} == {"a", "b", "c"}


async def test_wrong_balancers() -> None:
    with pytest.raises(duplex.ConfigurationError, match="'least_loaded', 'round_robin', 'pick_first' or a"):
        async with duplex.open_peer(balancer="best"):  # type: ignore[arg-type]
            pass
    async with serving("a") as (endpoint,), duplex.open_peer() as client:
        for wrong in ("best", 3, duplex.ConsistentHash):
            options: Any = {"balancer": wrong}
            with pytest.raises(duplex.ConfigurationError, match="balancer must be one of"):
                client.service("who").with_options(**options)
        link = await client.connect(endpoint)
        with pytest.raises(duplex.ConfigurationError, match="not for link"):
            link.service("who").with_options(balancer="round_robin")
        for weight in (0, -1, "2", float("nan"), True):
            bad: Any = {"weight": weight}
            with pytest.raises(
                duplex.ConfigurationError, match=r"weight must be a number from 0\.001 to 1000"
            ):
                await client.connect(endpoint, **bad)
            with pytest.raises(duplex.ConfigurationError, match="weight must be a number"):
                client.connect_soon(endpoint, **bad)
        assert len(client.links) == 1
