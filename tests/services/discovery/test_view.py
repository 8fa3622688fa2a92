"""The view: what lookups return after whatever the store said, and what of that is told as a change."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duplex_services.discovery._model import Change, Instance, Position
from duplex_services.discovery._rules._explaining import explain
from duplex_services.discovery._rules._history import History, net
from duplex_services.discovery._rules._keys import (
    config_key,
    encode,
    instance_key,
    metadata_key,
    server_key,
)
from duplex_services.discovery._rules._selecting import Filter, misses, select
from duplex_services.store import Entry, Update
from tests.services.discovery.entries import (
    RECORD,
    Told,
    config,
    gone,
    instance,
    leader,
    metadata,
    server,
    update,
)

# -------------------------------------------------------------------------------------------- lookups


def ids(instances: tuple[Instance, ...]) -> list[str]:
    return [instance.id for instance in instances]


def test_nothing_is_known_at_first() -> None:
    told = Told()
    assert told(epoch="") == []
    assert told.view.instances("web") == told.view.all_instances("web") == ()
    assert told.view.instance("web", "a") is None
    assert told.view.service("web") is None
    assert told.view.leader("web") is None
    assert told.view.services() == ()
    assert len(told.view) == told.view.index == 0


def test_instances_are_listed_by_age_and_only_those_that_serve() -> None:
    told = Told()
    told(
        instance("young", 9),
        instance("old", 3, health="warning", note="slow"),
        instance("sick", 5, health="critical", note="refused"),
        instance("leaving", 6, mode="draining"),
        instance("off", 7, mode="maintenance", mode_note="new disk"),
    )
    assert ids(told.view.instances("web")) == ["old", "young"]
    assert ids(told.view.all_instances("web")) == ["old", "sick", "leaving", "off", "young"]
    states = {one.id: (one.state, one.note) for one in told.view.all_instances("web")}
    assert states["sick"] == ("critical", "refused")
    assert states["off"] == ("maintenance", "new disk")
    assert states["old"] == ("warning", "slow")
    assert told.view.services() == ("web",)
    assert len(told.view) == 5


def test_age_outlives_changes() -> None:
    told = Told()
    told(instance("a", 3), instance("b", 4))
    assert told(instance("a", 9, created=3, weight=5)) == [("update", "a")]
    assert ids(told.view.instances("web")) == ["a", "b"]
    assert told.view.all_instances("web")[0].weight == 5
    told(deletes=gone("a"))
    told(instance("a", 12))
    assert ids(told.view.instances("web")) == ["b", "a"]


def test_what_others_do_not_see_is_no_change() -> None:
    told = Told()
    told(instance("a", 3))
    before = told.view.instance("web", "a")
    assert told(instance("a", 4, created=3, server="there", incarnation="two")) == []
    assert told.view.instance("web", "a") is before
    held = told.view.held("web", "a")
    assert held is not None
    assert (held.record.server, held.modified) == ("there", 4)


def test_services_are_known_while_there_is_something_of_them() -> None:
    told = Told()
    assert told(config(3, leader_type="manual", leader="x"), metadata({"a": [1]}, 4)) == [
        ("config", ""),
        ("metadata", ""),
    ]
    info = told.view.service("web")
    assert info is not None
    assert (info.config.leader_type, info.config.leader, info.config_index) == ("manual", "x", 3)
    assert info.metadata is not None
    assert (info.metadata.data, info.metadata.index) == ({"a": [1]}, 4)
    assert (info.serving, info.instances, info.leader) == (0, 0, None)
    assert "web" in told.view
    assert told(deletes=[config_key("web")]) == [("config", "")]
    info = told.view.service("web")
    assert info is not None
    assert (info.config.leader_type, info.config_index) == ("oldest", 0)
    assert told(deletes=[metadata_key("web")]) == [("metadata", "")]
    assert told.view.service("web") is None


def test_leaders() -> None:
    told = Told()
    assert told(leader("a", 4), instance("a", 4)) == [("up", "a"), ("leader", "a")]
    found = told.view.leader("web")
    assert found is not None
    assert (found.id, found.fence, found.epoch, found.instance) == (
        "a",
        4,
        "e1",
        told.view.instance("web", "a"),
    )
    assert told(leader("b", 7)) == [("leader", "b")]
    found = told.view.leader("web")
    assert found is not None
    assert (found.id, found.fence, found.instance) == ("b", 7, None)
    assert told(deletes=["discovery/l/web"]) == [("leader", "")]
    assert told.view.leader("web") is None


def test_what_makes_no_sense_changes_nothing_and_is_remembered() -> None:
    told = Told()
    told(instance("a", 3), config(3, leader_type="manual"), metadata(5, 3), leader("a", 3))
    index = told.view.index
    bad = {
        "discovery/i/web/a": b'{"server": 5}',
        "discovery/i/web/b": b"\xff",
        "discovery/i/web/c": encode(msgspec.structs.replace(RECORD, weight=65536)),
        "discovery/i/web/d": encode(msgspec.structs.replace(RECORD, weight=-1)),
        "discovery/i/web/e": encode(msgspec.structs.replace(RECORD, port=65536)),
        "discovery/i/web/f": encode(msgspec.structs.replace(RECORD, ttl=1e300)),
        "discovery/i/web/g": encode(msgspec.structs.replace(RECORD, ttl=0.0)),
        "discovery/i/Web/b": b"{}",
        "discovery/i/web": b"{}",
        "discovery/s/web": b'{"leader_type": "youngest"}',
        "discovery/m/web": b"18446744073709551616000",
        "discovery/m/deep": b"[" * 102 + b"]" * 102,
        "discovery/m/deeper": b"[" * 100_000 + b"]" * 100_000,
        "discovery/l/deep": b'{"id": "a", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "discovery/l/web": b"{}",
        "discovery/n/here": b"[]",
        "discovery/other/x": b"",
        "discovery/": b"",
    }
    assert told(*(Entry(key, value, 5, 5) for key, value in bad.items())) == []
    assert set(told.view.unreadable) == set(bad)
    assert told.view.index == index
    assert ids(told.view.instances("web")) == ["a"]
    info = told.view.service("web")
    assert info is not None
    assert info.config.leader_type == "manual"
    assert info.metadata is not None
    assert info.metadata.data == 5
    # What is put right, or goes, is forgotten.
    told(instance("a", 6, created=3), deletes=[key for key in bad if key != "discovery/i/web/a"])
    assert told.view.unreadable == {}


# ------------------------------------------------------------------------------- what may not be gone


def test_single_deletions_are_believed() -> None:
    told = Told()
    told(*(instance(f"{number}", 3) for number in range(3)))
    assert told(deletes=gone("0", "1", "2"), revision=9) == [("down", "0"), ("down", "1"), ("down", "2")]
    assert told.view.services() == ()


def test_less_than_half_is_believed_even_of_a_listing() -> None:
    told = Told()
    told(*(instance(f"{number}", 3) for number in range(5)))
    assert told(deletes=gone("0", "1"), full=True) == [("down", "0"), ("down", "1")]


def test_most_at_once_is_suspect_for_two_ttls() -> None:
    told = Told()
    told(*(instance(f"{number}", 3, ttl=5.0) for number in range(5)))
    assert told(deletes=gone("0", "1", "2"), full=True) == [("update", "0"), ("update", "1"), ("update", "2")]
    assert ids(told.view.instances("web")) == ["0", "1", "2", "3", "4"]
    assert [one.suspect for one in told.view.instances("web")] == [True, True, True, False, False]
    assert told.later(9.9) == []
    assert told(instance("1", 20)) == [("update", "1")]
    assert told.later(0.2) == [("down", "0"), ("down", "2")]
    assert ids(told.view.instances("web")) == ["3", "4", "1"]
    assert told.view.suspects == {}


def test_what_this_server_deletes_is_never_suspect() -> None:
    told = Told()
    told(*(instance(f"{number}", 3) for number in range(4)))
    for id in ("0", "1", "2"):
        told.view.expect("web", id, "silent for 10 s")
    told.view.expect("web", "3", "not done in the end")
    told.view.forgo("web", "3")
    assert told(deletes=gone("0", "1", "2", "3"), full=True) == [
        ("down", "0"),
        ("down", "1"),
        ("down", "2"),
        ("update", "3"),
    ]
    assert told.view.last_changes("web", "0")[-1].why == "silent for 10 s"


def test_a_store_that_was_replaced_kills_nobody_at_once() -> None:
    # D-5: an index that goes back, one of three instances there.
    told = Told()
    told(*(instance(id, 120, ttl=2.0) for id in "abc"), leader("a", 120))
    position = Position("v", told.view.index)
    kinds = told(
        instance("b", 10, ttl=2.0), deletes=[*gone("a", "c"), "discovery/l/web"], epoch="e2", full=True
    )
    assert kinds == [("update", "a"), ("update", "c"), ("update", "b"), ("leader", "")]
    assert told.view.revision == 10
    assert [(one.id, one.suspect) for one in told.view.instances("web")] == [
        ("b", False),
        ("a", True),
        ("c", True),
    ]
    told.later(4.1)
    reset, changes = told.view.catch_up("web", position)
    assert not reset
    assert [(change.kind, change.id) for change in changes if change.kind != "leader"] == [
        ("update", "b"),
        ("down", "a"),
        ("down", "c"),
    ]


def test_an_instance_that_others_deregistered_waits_for_its_server() -> None:
    told = Told()
    told(instance("a", 3), instance("b", 3))
    assert told(instance("a", 5, created=3, withdrawn=True, note="not needed")) == [("down", "a")]
    assert told.view.last_changes("web", "a")[-1].why == "not needed"
    assert told.view.withdrawn["web", "a"].modified == 5
    assert ids(told.view.all_instances("web")) == ["b"]
    assert told(deletes=gone("a")) == []
    assert told.view.withdrawn == {}
    told(instance("b", 6, withdrawn=True))
    assert told(instance("b", 7)) == [("up", "b")]
    assert told.view.withdrawn == {}


def test_orphans_are_those_whose_server_lives_no_more() -> None:
    told = Told()
    told(server("here", "one", 2), instance("a", 3), instance("b", 3, server="there"))
    assert told.view.orphans == {("web", "b"): 100.0}
    assert told.view.orphans_of(told.view.instances("web")) == ("b",)
    told.later(1)
    assert told(server("here", "two", 4), server("there", "one", 4)) == []
    assert told.view.orphans == {("web", "a"): 101.0}
    told(instance("a", 5, created=3, incarnation="two"))
    assert told.view.orphans == {}
    assert told.view.orphans_of(told.view.instances("web")) == ()
    told(deletes=[server_key("here"), *gone("b")])
    assert told.view.orphans == {("web", "a"): 101.0}
    told(deletes=gone("a"))
    assert told.view.orphans == {}


# --------------------------------------------------------------------------------- what changed since


def kinds(found: tuple[bool, object]) -> tuple[bool, list[tuple[str, str]]]:
    reset, changes = found
    return reset, [(change.kind, change.id) for change in changes]  # type: ignore[attr-defined]


def test_catching_up() -> None:
    told = Told()
    told(instance("a", 3), instance("b", 4), config(4), metadata(1, 4), leader("a", 4))
    view = told.view
    start = Position("v", view.index)
    state = [("config", ""), ("up", "a"), ("up", "b"), ("leader", "a"), ("metadata", "")]
    assert kinds(view.catch_up("web", None)) == (True, state)
    assert kinds(view.catch_up("", None)) == (True, state)
    assert kinds(view.catch_up("none", None)) == (True, [])
    assert kinds(view.catch_up("web", start)) == (False, [])
    # What came before the first answer of the store is no change.
    assert kinds(view.catch_up("web", Position("v", start.index - 1))) == (True, state)
    assert kinds(view.catch_up("web", Position("other", start.index))) == (True, state)
    assert kinds(view.catch_up("web", Position("v", start.index + 1))) == (True, state)
    told(instance("c", 5), instance("d", 5, service="other"))
    told(deletes=gone("a"))
    told(instance("c", 7, created=5, weight=3))
    assert kinds(view.catch_up("web", start)) == (False, [("down", "a"), ("up", "c")])
    assert kinds(view.catch_up("other", start)) == (False, [("up", "d")])
    assert kinds(view.catch_up("", start)) == (False, [("up", "d"), ("down", "a"), ("up", "c")])
    assert kinds((False, view.diff("", start.index, start.index + 2))) == (False, [("up", "c"), ("up", "d")])
    assert view.diff("", start.index - 1, start.index) is None


def test_the_state_is_of_one_moment() -> None:
    told = Told()
    told(instance("a", 3), instance("b", 4))
    _, changes = told.view.catch_up("web", None)
    told(deletes=gone("a"))
    told(instance("c", 7))
    assert [change.id for change in changes] == ["a", "b"]


def test_a_quiet_service_is_not_forgotten_for_a_busy_one() -> None:
    told = Told(history=History(most=50, most_of_one=20))
    told(instance("q", 2, service="quiet"), instance("b", 2, service="busy"))
    start = Position("v", told.view.index)
    told(instance("q", 3, service="quiet", created=2, weight=2))
    for number in range(60):
        told(instance("b", 4 + number, service="busy", created=2, weight=number + 2))
    told(instance("q", 100, service="quiet", created=2, weight=3))
    assert kinds(told.view.catch_up("quiet", start)) == (False, [("update", "q")])
    assert kinds(told.view.catch_up("busy", start)) == (True, [("up", "b")])
    assert kinds(told.view.catch_up("", start)) == (True, [("up", "b"), ("up", "q")])
    near = Position("v", told.view.index - 15)
    assert kinds(told.view.catch_up("busy", near)) == (False, [("update", "b")])


def test_very_many_changes_are_told_as_the_state() -> None:
    told = Told()
    told(instance("x", 2))
    start = Position("v", told.view.index)
    told(*(instance(f"i{number}", 3) for number in range(2001)))
    reset, changes = told.view.catch_up("", start)
    assert reset
    assert len(list(changes)) == 2002


def test_services_that_are_gone_are_forgotten_when_they_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duplex_services.discovery._rules._history._MANY", 5)
    told = Told()
    told(instance("x", 2, service="kept"))
    start = Position("v", told.view.index)
    for number in range(8):
        told(instance("a", 3 + number, service=f"s{number}"))
        told(deletes=gone("a", service=f"s{number}"))
    assert len(told.view._history._of) <= 5
    assert kinds(told.view.catch_up("s0", start)) == (True, [])
    told(instance("b", 90, service="s0"))
    assert kinds(told.view.catch_up("s0", start)) == (True, [("up", "b")])


def test_times_have_indexes() -> None:
    told = Told(history=History(most=3))
    told(instance("a", 2))
    began, index = told.at, told.view.index
    told.later(10)
    told(instance("b", 3))
    told.later(10)
    told(instance("c", 4))
    view = told.view
    assert view.index_at(began - 1) is None
    assert view.index_at(began) == index
    assert view.index_at(began + 10) == index + 1
    assert view.index_at(began + 15) == index + 1
    assert view.index_at(began + 1e6) == index + 2
    # The clock is put back: times of changes are not.
    told.at -= 1000
    told(instance("d", 5))
    assert view.last_changes("web", "d")[-1].at == began + 20
    told(instance("e", 6))
    assert view.index_at(began + 5) is None


def test_net_changes() -> None:
    told = Told()
    told(instance("a", 2), instance("b", 2))
    start = told.view.index
    told(instance("a", 3, created=2, weight=2))
    told(instance("a", 4, created=2))
    told(deletes=gone("b"))
    told(instance("b", 5))
    told(instance("c", 6))
    told(deletes=gone("c"))
    told(leader("a", 7), config(7))
    told(leader("b", 8))
    changes = told.view.diff("web", start, told.view.index)
    assert changes is not None
    found = [(change.kind, change.id, change.before is not None) for change in changes]
    assert found == [("update", "b", True), ("config", "", False), ("leader", "b", False)]


# ------------------------------------------------------------------------------------------ filters


def test_filters() -> None:
    told = Told()
    told(
        instance("a", 2, zone="z1", metadata={"v": "1", "x": ""}),
        instance("b", 3, zone="z2", metadata={"v": "2"}, protocol="http"),
    )
    every = told.view.instances("web")
    for wanted, found in (
        (Filter(), ["a", "b"]),
        (Filter(zone="z1"), ["a"]),
        (Filter(zone="z3"), []),
        (Filter(protocol="http"), ["b"]),
        (Filter(metadata={"v": "1"}), ["a"]),
        (Filter(metadata={"v": None}), ["a", "b"]),
        (Filter(metadata={"x": ""}), ["a"]),
        (Filter(metadata={"x": None}, zone="z2"), []),
    ):
        assert ids(select(every, wanted)) == found, wanted
        # What is left out has a reason, and nothing else.
        assert [one.id for one in every if not list(misses(one, wanted))] == found


# ------------------------------------------------------------------------------------------ explain


def why(told: Told, id: str, wanted: Filter | None = None, service: str = "web") -> tuple[bool, str]:
    found = explain(told.view, service, id, told.now, wanted or Filter())
    return found.listed, "; ".join(found.reasons)


def test_explaining() -> None:
    told = Told()
    assert why(told, "a") == (False, "nothing is known yet: the store has not answered")
    told(
        server("here", "one", 1),
        instance("a", 2, zone="z1", metadata={"v": "1"}),
        instance("w", 2, health="warning", note="slow"),
        instance("c", 2, health="critical", note="connection refused"),
        instance("d", 2, mode="draining", health="critical"),
        instance("o", 2, server="gone"),
    )
    assert why(told, "a") == (True, "")
    assert why(told, "a", Filter(zone="z2", protocol="http", metadata={"v": "2", "x": None})) == (
        False,
        (
            "its zone is 'z1', not 'z2'; its protocol is 'tcp', not 'http'; its metadata has v='1', not '2'; "
            "its metadata has no 'x'"
        ),
    )
    assert why(told, "w") == (True, "it is listed, with a warning: slow")
    assert why(told, "c") == (False, "it is critical: connection refused")
    assert why(told, "c", Filter(everything=True)) == (True, "")
    assert why(told, "d") == (False, "it is draining (its health is critical)")
    told.now += 3
    assert why(told, "o") == (
        True,
        "the server gone that kept it is gone for 3.0 s; it has not registered at another one yet",
    )
    assert why(told, "x") == (False, "web has no such instance, and none that is remembered")
    assert why(told, "x", service="none") == (False, "there is no service none")
    told(deletes=gone("c"))
    assert why(told, "c") == (False, f"it is gone since index {told.view.index}: deleted from the store")
    told(instance("w", 5, withdrawn=True, note="by hand"))
    assert why(told, "w") == (
        False,
        "it was deregistered, and waits for its server to delete it: by hand",
    )
    told(Entry(instance_key("web", "a"), b"?", 2, 9), Entry(instance_key("web", "n"), b"?", 9, 9))
    assert why(told, "a")[0]
    assert "makes no sense, so this is what was there before" in why(told, "a")[1]
    assert "what is in the store makes no sense" in why(told, "n")[1]
    told(deletes=gone("a", "d", "o"), epoch="e2", full=True)
    assert "it stays for 20.0 s more" in why(told, "a")[1]
    found = explain(told.view, "web", "o", told.now, here="no link")
    assert (found.server, found.orphan, found.reasons[-1]) == ("gone", True, "no link")
    assert [change.kind for change in found.changes] == ["update"]


# --------------------------------------------------------------------------- whatever the store says

IDS = st.sampled_from("abc")
SERVICES = st.sampled_from(["s", "t"])


@st.composite
def scripts(draw: st.DrawFn) -> list[tuple[str, str, str, int]]:
    word = st.sampled_from(["put", "put", "delete", "withdraw", "relist", "replace", "later", "read"])
    return draw(st.lists(st.tuples(word, SERVICES, IDS, st.integers(1, 3)), max_size=30))


@given(scripts())
def test_a_reader_at_any_pace_ends_with_the_state(script: list[tuple[str, str, str, int]]) -> None:
    told = Told(history=History(most=8, most_of_one=4))
    told()
    store: dict[str, Entry] = {}
    epoch, revision = 1, 10
    readers = {service: (Position("v", 0), dict[tuple[str, str], Instance]()) for service in ("", "s", "t")}

    def read(service: str) -> None:
        position, state = readers[service]
        reset, changes = told.view.catch_up(service, position)
        if reset:
            state.clear()
        for change in changes:
            key = change.service, change.id
            if change.kind == "down":
                assert state.pop(key) == change.before
            elif change.kind in ("up", "update"):
                assert state.get(key) == (None if reset else change.before)
                assert change.instance is not None
                state[key] = change.instance
        readers[service] = Position("v", told.view.index), state

    for word, service, id, weight in script:
        revision += 1
        key = instance_key(service, id)
        if word in ("put", "withdraw"):
            old = store.get(key)
            entry = instance(
                id,
                revision,
                service,
                created=old.created if old else revision,
                weight=weight,
                withdrawn=word == "withdraw",
            )
            store[key] = entry
            told(entry, epoch=f"{epoch}")
        elif word == "delete" and key in store:
            del store[key]
            told(deletes=[key], epoch=f"{epoch}", revision=revision)
        elif word in ("relist", "replace"):
            # One of what there was is left, and all are gone that were not.
            left = {key: entry for key, entry in store.items() if key == instance_key(service, id)}
            epoch += word == "replace"
            lost = [key for key in store if key not in left]
            told(*left.values(), deletes=lost, epoch=f"{epoch}", full=True, revision=revision)
            store = left
        elif word == "later":
            told.later(15)
        elif word == "read":
            read("" if weight == 3 else service)
    told.later(30)
    for service in readers:
        read(service)
        expected = {
            (one.service, one.id): one
            for name in ("s", "t")
            if service in ("", name)
            for one in told.view.all_instances(name)
        }
        assert readers[service][1] == expected
    # All that is in the store is known, and nothing else.
    shown = {key for key, entry in store.items() if b"withdrawn" not in entry.value}
    known = {
        instance_key(one.service, one.id) for name in ("s", "t") for one in told.view.all_instances(name)
    }
    assert known == shown
    assert told.view.suspects == {}


@given(scripts())
def test_net_changes_are_what_all_changes_come_to(script: list[tuple[str, str, str, int]]) -> None:
    told = Told()
    told()
    every: list[Change] = []
    told.view.on_changes = every.extend
    for number, (word, service, id, weight) in enumerate(script):
        if word in ("put", "read"):
            told(instance(id, number + 2, service, created=weight, weight=weight))
        else:
            told(deletes=gone(id, service=service), revision=number + 2)

    def result(changes: tuple[Change, ...] | list[Change]) -> dict[tuple[str, str], Instance]:
        state: dict[tuple[str, str], Instance] = {}
        for change in changes:
            if change.instance is None:
                del state[change.service, change.id]
            else:
                state[change.service, change.id] = change.instance
        return state

    merged = net(every)
    assert result(merged) == result(every)
    assert len({(change.service, change.id) for change in merged}) == len(merged)
    assert sorted(change.index for change in merged) == [change.index for change in merged]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = (
    st.sampled_from(["i/web/a", "i/web/b", "i/web", "s/web", "m/web", "l/web", "n/here", "x/y", ""])
    | st.text()
)


@given(st.lists(st.tuples(KEYS, st.binary(max_size=8) | JSON.map(msgspec.json.encode), st.booleans())))
def test_whatever_is_in_the_store_harms_nobody(entries: list[tuple[str, bytes, bool]]) -> None:
    told = Told()
    told(instance("kept", 2, service="kept"))
    for number, (key, value, is_deleted) in enumerate(entries, 3):
        full = f"discovery/{key}"
        if is_deleted:
            told(deletes=[full], revision=number)
        else:
            told(Entry(full, value, number, number))
    assert ids(told.view.instances("kept")) == ["kept"]
    for name in told.view.services():
        info = told.view.service(name)
        assert info is not None
        msgspec.msgpack.encode(info)
        msgspec.msgpack.encode(tuple(told.view.state(name)))


# ------------------------------------------------------------------------------------------- figures


def many(count: int, services: int) -> Update:
    entries = [server("here", "one", 1)]
    for number in range(count):
        fields: dict[str, Any] = {
            "host": f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}",
            "endpoint": f"tcp://10.{number >> 16}.{number >> 8 & 255}.{number & 255}:7700",
            "port": 7700,
            "protocol": "duplex",
            "zone": f"zone-{number % 3}",
            "metadata": {"version": "1.2.3", "host": f"host-{number % 50}"},
        }
        entries.append(
            instance(f"{number:032x}", number + 2, service=f"service-{number % services}", **fields)
        )
    return update(*entries)


def test_ten_thousand_instances_take_ten_megabytes() -> None:
    told = Told()
    everything = many(10_000, 500)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    try:
        told.view.apply(everything, 0.0, 0.0)
        for name in told.view.services():
            told.view.instances(name)
        size = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(told.view) == 10_000
    assert size < 10_000_000


def test_records_take_no_more_than_what_they_say() -> None:
    assert msgspec.json.decode(msgspec.json.encode(RECORD)) == {
        "server": "here",
        "incarnation": "one",
        "host": "127.0.0.1",
        "port": 80,
    }
