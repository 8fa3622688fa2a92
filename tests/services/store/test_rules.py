"""The decisions: which keys there are, what a commit may hold and does, who goes together, when a lease is lost."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duplex_services.store import Entry, TooLarge, exists, last_writer_wins, missing, unchanged
from duplex_services.store._model import MAX_COMMIT_BYTES, Commit, Missing, Unchanged
from duplex_services.store._rules._clocks import LeaseClock, WatchClock, next_pause
from duplex_services.store._rules._commits import (
    changes_of,
    check_commit,
    first_conflict,
    take_group,
    with_writer,
)
from duplex_services.store._rules._elections import leader_key, still_leads
from duplex_services.store._rules._keys import check_key, check_prefix, is_shown
from duplex_services.store._rules._numbers import check_seconds
from duplex_services.store._rules._views import difference, to_tell

# --------------------------------------------------------------------------------------------------- keys


@pytest.mark.parametrize("key", ["a", "a/b", "ä", "a b", "...", "a" * 200, "é" * 100, "-", "a_/_b", "0"])
def test_a_key(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("", "not empty"),
        ("/a", "a part of it is empty"),
        ("a/", "a part of it is empty"),
        ("a//b", "a part of it is empty"),
        ("a/./b", "'.' is no part"),
        ("..", "'..' is no part"),
        ("_a", "the store's own"),
        ("a\nb", "control characters"),
        ("a\0", "control characters"),
        ("a\x7f", "control characters"),
        ("\x85", "control characters"),
        ("\ud800", "surrogates"),
    ],
)
def test_no_key(key: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_key(key)


@pytest.mark.parametrize("key", [None, 1, b"a", ["a"], ("a", "b")])
def test_a_key_is_text(key: object) -> None:
    with pytest.raises(TypeError, match="a key is a str, not"):
        check_key(key)


@pytest.mark.parametrize("key", ["a" * 201, "é" * 101])
def test_a_key_is_short(key: str) -> None:
    with pytest.raises(TooLarge) as error:
        check_key(key)
    assert error.value.limit == 200
    assert error.value.size == len(key.encode())


@pytest.mark.parametrize("prefix", ["", "a", "a/", "/", "_", "_lead/", "a/."])
def test_a_prefix(prefix: str) -> None:
    assert check_prefix(prefix) == prefix


def test_the_stores_own_keys_are_shown_to_who_asks_for_them() -> None:
    assert is_shown("a/b", "a/")
    assert not is_shown("b", "a")
    assert not is_shown("_epoch", "")
    assert is_shown("_epoch", "_")


# ------------------------------------------------------------------------------------------------ commits


def test_a_commit() -> None:
    given: Any = {"a": bytearray(b"1")}
    commit = check_commit(given, ["b"], [missing("a"), last_writer_wins], "lease")
    assert commit == Commit({"a": b"1"}, ("b",), (Missing("a"),), "lease")
    assert type(commit.puts["a"]) is bytes


NO_TYPE: list[tuple[Any, Any, Any]] = [
    ("a", (), last_writer_wins),
    ([("a", b"")], (), last_writer_wins),
    ({"a": "text"}, (), last_writer_wins),
    ({"a": None}, (), last_writer_wins),
    ({1: b""}, (), last_writer_wins),
    ({}, "key", last_writer_wins),
    ({}, 5, last_writer_wins),
    ({}, [b"key"], last_writer_wins),
    ({"a": b""}, (), missing("a")),
    ({"a": b""}, (), None),
    ({"a": b""}, (), ["missing"]),
    ({"a": b""}, (), [Unchanged("a", "1")]),  # type: ignore[arg-type]
    ({"a": b""}, (), [Unchanged("a", True)]),
    ({"a": b""}, (), [Missing(5)]),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("puts", "deletes", "when"), NO_TYPE)
def test_what_is_of_a_wrong_type(puts: Any, deletes: Any, when: Any) -> None:
    with pytest.raises(TypeError):
        check_commit(puts, deletes, when, None)


@pytest.mark.parametrize(
    ("puts", "deletes", "when", "reason"),
    [
        ({}, (), last_writer_wins, "changes nothing"),
        ({}, (), [missing("a")], "changes nothing"),
        ({"a": b""}, ("a",), last_writer_wins, "put and deleted"),
        ({}, ("a", "b", "a"), last_writer_wins, "'a' is deleted twice"),
        ({"a": b""}, (), [missing("a"), exists("a")], "named in conditions twice"),
        ({"_a": b""}, (), last_writer_wins, "the store's own"),
        ({}, ("_epoch",), last_writer_wins, "the store's own"),
        ({"a": b""}, (), [missing("a//b")], "no key"),
        ({"a": b""}, (), (), "no condition protects"),
        ({"a": b""}, (), [missing("b")], "no condition protects"),
        ({"a": b""}, (), [exists("a")], "no condition protects"),
        ({"a": b""}, (), [unchanged("_epoch", 1)], "no condition protects"),
        ({"a": b""}, (), [missing("_lead/x")], "no condition protects"),
    ],
)
def test_what_makes_no_sense(puts: Any, deletes: Any, when: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_commit(puts, deletes, when, None)


@pytest.mark.parametrize(
    "when",
    [
        [missing("a")],
        [unchanged("a", 3)],
        [exists("b"), unchanged("d", 3)],
        [unchanged("_lead/x", 3)],
        [last_writer_wins],
    ],
)
def test_what_protects(when: Any) -> None:
    assert check_commit({"a": b""}, ["d"], when, None).puts == {"a": b""}


def test_limits_of_a_commit() -> None:
    full = {f"{number}": b"" for number in range(30)}
    when = [missing(f"x{number}") for number in range(29)]
    check_commit(full, ["d"], [*when, last_writer_wins], None)
    with pytest.raises(TooLarge, match="61, more than 60"):
        check_commit(full, ["d", "e"], [*when, last_writer_wins], None)
    check_commit({"kéy": bytes(MAX_COMMIT_BYTES - 4)}, (), last_writer_wins, None)
    with pytest.raises(TooLarge) as error:
        check_commit({"kéy": bytes(MAX_COMMIT_BYTES - 4)}, ["d"], last_writer_wins, None)
    assert (error.value.size, error.value.limit) == (MAX_COMMIT_BYTES + 1, MAX_COMMIT_BYTES)
    with pytest.raises(TooLarge):
        check_commit({"k": bytes(MAX_COMMIT_BYTES - 1)}, (), [missing("x"), last_writer_wins], None)


def test_the_first_conflict_is_told() -> None:
    there = {"a": Entry("a", b"", 1, 2)}
    assert first_conflict([exists("a"), unchanged("a", 2), missing("b")], there.get) is None
    conflict = first_conflict([exists("a"), unchanged("a", 1), missing("a")], there.get)
    assert conflict is not None
    assert (conflict.condition, conflict.found) == (unchanged("a", 1), there["a"])
    assert str(conflict) == "'a' was changed: put by revision 2, not 1"
    gone = first_conflict([unchanged("b", 1)], there.get)
    assert str(gone) == "'b' is not there"
    assert str(first_conflict([missing("a")], there.get)) == "'a' is there, put by revision 2"


def test_what_a_commit_makes() -> None:
    there = {"a": Entry("a", b"", 1, 2, "lease"), "b": Entry("b", b"", 1, 1)}
    commit = Commit({"a": b"x", "c": b"y"}, ("b", "d"))
    assert changes_of(commit, there.get, 9) == {
        "a": Entry("a", b"x", 1, 9),
        "c": Entry("c", b"y", 9, 9),
        "b": None,
    }


def test_the_writers_key_is_first() -> None:
    commit = Commit({"a": b"x"}, (), (missing("a"),), "lease")
    assert with_writer(commit, "_w/x/0", None, b"1") == Commit(
        {"a": b"x", "_w/x/0": b"1"}, (), (missing("_w/x/0"), missing("a")), "lease"
    )
    assert with_writer(commit, "_w/x/0", 7, b"1").when[0] == unchanged("_w/x/0", 7)


# ------------------------------------------------------------------------------------------------- groups

KEYS = st.sampled_from("abcdef")
COMMITS = st.builds(
    lambda puts, deletes, when: Commit(
        dict.fromkeys(puts, b""), tuple(deletes - puts), tuple(Missing(key) for key in when)
    ),
    st.frozensets(KEYS, min_size=1, max_size=2),
    st.frozensets(KEYS, max_size=1),
    st.frozensets(KEYS, max_size=2),
)


def _named(commit: Commit) -> set[str]:
    return _changed(commit) | {condition.key for condition in commit.when}


def _changed(commit: Commit) -> set[str]:
    return {*commit.puts, *commit.deletes}


@given(st.lists(COMMITS, min_size=1, max_size=8), st.integers(1, 5))
def test_a_group(waiting: list[Commit], limit: int) -> None:
    taken = take_group(waiting, limit)
    assert taken[0] == 0
    assert len(taken) <= limit
    assert taken == sorted(set(taken))
    for index in taken:
        others = [waiting[other] for other in range(len(waiting)) if other in taken and other != index]
        assert all(_named(waiting[index]).isdisjoint(_changed(other)) for other in others)
        # Nobody overtakes who waits before and touches the same.
        passed_over = [waiting[other] for other in range(index) if other not in taken]
        assert all(_named(waiting[index]).isdisjoint(_changed(other)) for other in passed_over)
        assert all(_changed(waiting[index]).isdisjoint(_named(other)) for other in passed_over)


def test_those_who_touch_nothing_of_each_other_go_together() -> None:
    waiting = [
        Commit({"a": b""}),
        Commit({"b": b""}, when=(Missing("x"),)),
        Commit({"c": b""}, when=(Missing("x"),)),
    ]
    assert take_group(waiting, 9) == [0, 1, 2]
    assert take_group(waiting, 2) == [0, 1]
    assert take_group([Commit({"x": b""}), *waiting], 9) == [0, 1]


# -------------------------------------------------------------------------------------------------- views

MAYBE = st.none() | st.integers(1, 3)
STATES = st.dictionaries(KEYS, st.integers(1, 3)).map(
    lambda made: {key: Entry(key, b"%d" % number, 1, number) for key, number in made.items()}
)


@given(STATES, STATES)
def test_a_difference_makes_one_of_the_other(known: dict[str, Entry], now: dict[str, Entry]) -> None:
    changes = difference(known, now.values())
    after = {**known, **{key: entry for key, entry in changes.items() if entry is not None}}
    for key, entry in changes.items():
        if entry is None:
            del after[key]
    assert after == now
    assert all(known.get(key) != entry for key, entry in changes.items())


@given(st.lists(STATES, min_size=1, max_size=5))
def test_what_is_told_late_is_how_it_ended(states: list[dict[str, Entry]]) -> None:
    told = states[0]
    heard: dict[str, int | None] = {}
    for before, after in itertools.pairwise(states):
        for key in difference(before, after.values()):
            heard.setdefault(key, before[key].modified if key in before else None)
    puts, deletes = to_tell(heard, states[-1])
    made = {key: entry for key, entry in told.items() if key not in deletes} | {
        entry.key: entry for entry in puts
    }
    assert made == states[-1]
    assert all(key in told for key in deletes)
    assert all(told.get(entry.key) != entry for entry in puts)


# ------------------------------------------------------------------------------------------------- clocks


def test_a_lease_is_lost_from_when_its_beat_was_sent() -> None:
    clock = LeaseClock(6.0, 100.0)
    assert (clock.beat_at, clock.lost_at) == (102.0, 106.0)
    assert clock.patience(102.0) == 1.0
    assert clock.patience(105.5) == 0.5
    assert clock.patience(107.0) == 0.0
    confirmed = clock.confirmed(102.0)
    assert (confirmed.beat_at, confirmed.lost_at) == (104.0, 108.0)
    missed = confirmed.missed(105.0)
    assert (missed.beat_at, missed.lost_at) == (105.2, 108.0)
    assert missed.confirmed(105.2) == LeaseClock(6.0, 105.2)
    # An answer that comes after a later one changes nothing.
    assert confirmed.confirmed(101.0).lost_at == 108.0


@given(st.floats(0.1, 100), st.floats(0, 1000))
def test_a_beat_is_never_waited_for_beyond_the_lease(ttl: float, after: float) -> None:
    clock = LeaseClock(ttl, 0.0)
    assert 0 <= clock.patience(after) <= max(0, clock.lost_at - after)
    assert clock.beat_at < clock.lost_at
    assert clock.missed(after).beat_at > after or clock.missed(after).beat_at == clock.beat_at


def test_a_watch_asks_in_time() -> None:
    clock = WatchClock(5.0, 2.0, opened=10.0)
    assert (clock.since, clock.ask_at, clock.stale_at) == (10.0, 10.0, 15.0)
    assert not clock.is_stale(14.9)
    assert clock.is_stale(15.0)
    confirmed = WatchClock(5.0, 2.0, 10.0, 11.0)
    assert (confirmed.since, confirmed.ask_at, confirmed.stale_at) == (11.0, 14.0, 16.0)
    assert WatchClock(1.0, 2.0, 10.0, 11.0).ask_at == 11.5


def test_pauses_grow() -> None:
    pauses = [0.0]
    for _ in range(6):
        pauses.append(next_pause(pauses[-1], first=0.1, longest=1.0))
    assert pauses == [0.0, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


# ---------------------------------------------------------------------------------------------- elections


def test_the_key_of_an_election() -> None:
    assert leader_key("a/b") == "_lead/a/b"
    for name in ("", "_x", "a//b"):
        with pytest.raises(ValueError, match="key"):
            leader_key(name)
    with pytest.raises(TooLarge):
        leader_key("a" * 195)


def test_a_term_goes_on_while_its_key_is_as_it_was_put() -> None:
    assert still_leads(Entry("_lead/x", b"", 1, 7), 7)
    assert not still_leads(Entry("_lead/x", b"", 1, 8), 7)
    assert not still_leads(None, 7)


@pytest.mark.parametrize("value", [0, -1, True, "5", None, 86401, float("nan"), float("inf")])
def test_no_time(value: object) -> None:
    with pytest.raises(ValueError, match="ttl is a number of seconds"):
        check_seconds("ttl", value)
