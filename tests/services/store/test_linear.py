"""The checker of histories says yes to what a store can have done, and no to what it cannot."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duplex_services.store.testing import Operation, explain_history


def get(called: float, returned: float, value: str | None) -> Operation:
    return Operation("get", called, returned, "ok", value)


def put(
    called: float, returned: float, expected: str | None, value: str | None, outcome: str = "ok"
) -> Operation:
    return Operation("set", called, returned, outcome, value, expected)  # type: ignore[arg-type]


GOOD = {
    "nothing": [],
    "one after the other": [put(0, 1, None, "a"), get(2, 3, "a"), put(4, 5, "a", "b"), get(6, 7, "b")],
    "a read during a write may see either": [put(0, 10, None, "a"), get(1, 2, None), get(3, 4, "a")],
    "two at once, in the order that fits": [put(0, 10, "b", "a"), put(0, 10, None, "b"), get(11, 12, "a")],
    "a conflict while another writes": [put(0, 10, None, "a"), put(1, 9, None, "b", "conflict")],
    "an unknown that happened": [put(0, 1, None, "a", "unknown"), get(2, 3, "a")],
    "an unknown that did not": [
        put(0, 1, None, "a", "unknown"),
        get(2, 3, None),
        put(4, 5, None, "b"),
        get(6, 7, "b"),
    ],
    "an unknown that happened late": [put(0, 1, None, "a", "unknown"), get(2, 3, None), get(4, 5, "a")],
    "deleted and made again": [
        put(0, 1, None, "a"),
        put(2, 3, "a", None),
        get(4, 5, None),
        put(6, 7, None, "b"),
    ],
    "a read of which nothing is known": [Operation("get", 0, math.inf, "unknown", "z")],
}

BAD = {
    "a value of nowhere": [get(0, 1, "a")],
    "a stale read": [put(0, 1, None, "a"), put(2, 3, "a", "b"), get(4, 5, "a")],
    "a read that goes back": [put(0, 10, None, "a"), get(1, 2, "a"), get(3, 4, None)],
    "two that both won": [put(0, 1, None, "a"), put(2, 3, None, "b")],
    "two that both won at once": [put(0, 5, None, "a"), put(0, 5, None, "b"), get(6, 7, "b")],
    "a lost write": [put(0, 1, None, "a"), get(2, 3, None)],
    "a conflict with nobody": [put(0, 1, None, "a", "conflict")],
    "an unknown that overwrote": [
        put(0, 1, None, "a", "unknown"),
        put(2, 3, None, "b"),
        get(4, 5, "b"),
        get(6, 7, "a"),
    ],
    "a conflict that changed something": [
        put(0, 1, None, "x"),
        put(2, 3, None, "a", "conflict"),
        get(4, 5, "a"),
    ],
    "seen before it was called": [get(0, 1, "a"), put(2, 3, None, "a")],
}


@pytest.mark.parametrize("name", GOOD)
def test_it_can_have_been(name: str) -> None:
    assert explain_history(GOOD[name]) is None


@pytest.mark.parametrize("name", BAD)
def test_it_cannot_have_been(name: str) -> None:
    problem = explain_history(BAD[name])
    assert problem is not None
    assert "operations fit together; then none of these can come next:\n" in problem


def test_what_was_there_before() -> None:
    assert explain_history([get(0, 1, "a")], "a") is None
    assert explain_history([get(0, 1, None)], "a") is not None


def history_of(seed: int, clients: int = 4, length: int = 40, unknown: float = 0.2) -> list[Operation]:
    """What clients of a store that does one thing at a time see; each operation takes effect somewhere within its time."""
    chance = random.Random(seed)
    state: str | None = None
    history = []
    clock = [0.0] * clients
    moments = sorted((chance.random() * length, number % clients) for number in range(length))
    for number, (moment, client) in enumerate(moments):
        called = max(clock[client], moment - chance.random() * 3)
        following = [other for other, who in moments[number + 1 :] if who == client]
        returned = min([moment + chance.random() * 3, *following[:1]])
        clock[client] = returned
        if chance.random() < 0.4:
            history.append(get(called, returned, state))
            continue
        expected = state if chance.random() < 0.7 else "stale"
        value = None if chance.random() < 0.2 else f"v{number}"
        if chance.random() < unknown:
            if chance.random() < 0.5 and expected == state:
                state = value
            history.append(put(called, math.inf, expected, value, "unknown"))
        elif expected == state:
            state = value
            history.append(put(called, returned, expected, value))
        else:
            history.append(put(called, returned, expected, value, "conflict"))
    return history


@given(st.integers(0, 10_000))
def test_what_a_store_did_is_found_possible(seed: int) -> None:
    assert explain_history(history_of(seed)) is None


@given(st.integers(0, 10_000))
def test_a_read_of_what_was_overwritten_is_found_out(seed: int) -> None:
    history = [one for one in history_of(seed, unknown=0.0) if one.outcome != "unknown"]
    end = max(one.returned for one in history) + 1
    values = {None, *(one.value for one in history if one.kind == "set" and one.outcome == "ok")}
    possible = [value for value in values if explain_history([*history, get(end, end + 1, value)]) is None]
    # Which of two writes at once was last may be open; but nobody reads one value and then the other.
    assert possible
    for one in possible:
        for other in values - {one}:
            twice = [*history, get(end, end + 1, one), get(end + 2, end + 3, other)]
            assert explain_history(twice) is not None
