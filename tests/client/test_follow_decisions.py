"""Which endpoints are believed in, and which links are made and left."""

from __future__ import annotations

import math
import random

import pytest

import duplex
from duplex.client.following._decide import Belief, Plan, plan, usable


def endpoint(number: int, **attributes: str) -> duplex.Endpoint:
    return duplex.Endpoint(f"tcp://10.0.0.{number}:1", **attributes)  # type: ignore[arg-type]


A, B, C = (endpoint(number) for number in (1, 2, 3))


# -- what is believed --------------------------------------------------------------------------------------


def test_what_is_told_is_known() -> None:
    belief = Belief(30)
    belief.told((A, B), 0)
    assert belief.known(0) == (A, B)
    belief.told((B, C), 1)
    assert belief.known(1) == (B, C)
    assert belief.due == math.inf


def test_that_there_are_none_is_not_believed_at_once() -> None:
    belief = Belief(30)
    belief.told((A, B), 0)
    belief.told((), 10)
    belief.told((), 20)
    assert belief.due == 40
    assert belief.known(39.9) == (A, B)
    assert belief.known(40) == ()
    belief.told((C,), 41)
    assert belief.known(100) == (C,)


def test_that_there_are_some_again_ends_the_doubt() -> None:
    belief = Belief(30)
    belief.told((A,), 0)
    belief.told((), 10)
    belief.told((B,), 39)
    assert belief.due == math.inf
    assert belief.known(1000) == (B,)


def test_that_there_are_none_is_believed_if_nothing_else_was_known() -> None:
    belief = Belief(30)
    belief.told((), 0)
    assert belief.known(0) == ()
    assert belief.due == math.inf


@pytest.mark.parametrize(("patience", "known"), [(0, ()), (math.inf, (A,))])
def test_at_once_or_never(patience: float, known: tuple[duplex.Endpoint, ...]) -> None:
    belief = Belief(patience)
    belief.told((A,), 0)
    belief.told((), 10)
    assert belief.known(10) == known
    assert belief.known(10**9) == known


# -- which endpoints are of use ----------------------------------------------------------------------------


def test_those_of_other_services_are_left_out() -> None:
    told = [endpoint(1, service="calc"), endpoint(2, service="clock"), endpoint(3)]
    assert [one.address for one in usable(told, "calc", "")] == [A.address, C.address]


def test_each_address_once() -> None:
    assert usable([A, B, A], "calc", "") == (A, B)


def test_those_of_the_own_zone_if_there_are_any() -> None:
    told = [endpoint(1, zone="x"), endpoint(2, zone="y"), endpoint(3, zone="y")]
    assert [one.address for one in usable(told, "calc", "y")] == [B.address, C.address]
    assert len(usable(told, "calc", "z")) == 3
    assert len(usable(told, "calc", "")) == 3


# -- what is to be done ------------------------------------------------------------------------------------


def test_what_is_new_is_connected() -> None:
    assert plan(["a", "b"], [], {}, {}) == Plan(connect=("a", "b"))
    assert plan(["a", "b"], ["a"], {"a": ""}, {}) == Plan(connect=("b",))


def test_what_is_gone_is_left() -> None:
    assert plan(["b"], ["a", "b"], {"a": "1", "b": "2"}, {}) == Plan(leave=("a",))
    assert plan([], ["a"], {"a": ""}, {}) == Plan(leave=("a",)), "also before there is a link"


def test_what_the_program_has_connected_is_used_and_not_left() -> None:
    assert plan(["a"], [], {"a": "1"}, {}) == Plan()
    assert plan([], [], {"a": "1"}, {}) == Plan()


def test_what_was_disconnected_is_connected_again() -> None:
    assert plan(["a"], ["a"], {}, {}) == Plan(connect=("a",))


def test_of_two_names_for_a_peer_the_first_is_kept() -> None:
    todo = plan(["a", "b"], ["a", "b"], {"b": "1", "a": "1"}, {})
    assert todo == Plan(leave=("b",), aliases={"b": "1"})
    assert plan(["a", "b"], ["a"], {"a": "1"}, {"b": "1"}) == Plan(aliases={"b": "1"}), "and stays so"


def test_what_the_program_has_connected_itself_is_preferred() -> None:
    todo = plan(["a", "b"], ["a"], {"a": "1", "b": "1"}, {})
    assert todo == Plan(leave=("a",), aliases={"a": "1"})
    todo = plan(["a"], ["a"], {"a": "1", "mine": "1"}, {})
    assert todo == Plan(leave=("a",), aliases={"a": "1"})
    assert plan(["a"], [], {"mine": "1"}, {"a": "1"}) == Plan(aliases={"a": "1"})


def test_another_name_is_tried_when_the_link_is_gone() -> None:
    assert plan(["a", "b"], ["a"], {"a": ""}, {"b": "1"}) == Plan(connect=("b",))
    assert plan(["b"], ["a"], {"a": "1"}, {"b": "1"}) == Plan(connect=("b",), leave=("a",))


def test_other_names_that_nobody_wants_any_more_are_forgotten() -> None:
    assert plan(["a"], ["a"], {"a": "1"}, {"b": "1"}) == Plan()


def test_it_always_comes_to_rest_with_one_link_to_each_peer() -> None:
    """Whatever is named, connected and lost, and whichever peers are behind the addresses."""
    chance = random.Random(4)
    for _ in range(3000):
        addresses = "abcdef"
        behind = {address: chance.choice("12345") for address in addresses}
        foreign = {address: behind[address] for address in addresses if chance.random() < 0.2}
        connected = dict(foreign)
        ours: list[str] = []
        aliases: dict[str, str] = {}
        for _ in range(3):
            wanted = [address for address in addresses if chance.random() < 0.6]
            chance.shuffle(wanted)
            for _ in range(20):
                todo = plan(wanted, ours, connected, aliases)
                aliases = dict(todo.aliases)
                if not todo.connect and not todo.leave and all(connected.values()):
                    break
                for address in todo.leave:
                    assert address in ours, "only what was connected for services is left"
                    del connected[address]
                    ours.remove(address)
                for address in todo.connect:
                    connected[address] = ""
                    ours.append(address)
                for address in list(connected):
                    connected[address] = connected[address] or behind[address]
            else:
                pytest.fail(f"no rest: {wanted} {ours} {connected} {aliases} {behind}")
            assert {behind[address] for address in wanted} <= set(connected.values())
            for peer in "12345":
                links = [address for address in ours if connected[address] == peer]
                assert len(links) <= 1, (peer, links)
                assert not links or peer not in foreign.values()
            for address in ours:  # those that are lost, and come back
                if chance.random() < 0.3:
                    connected[address] = ""
