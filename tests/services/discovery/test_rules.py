"""The decisions: who is silent, who leads, who sweeps, what is written."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from duplex_services.discovery._model import Check, Registration, ServiceConfig
from duplex_services.discovery._rules._keys import instance_key, leader_key, read_leader, read_record
from duplex_services.discovery._rules._leaders import due_leader, plan_leader
from duplex_services.discovery._rules._liveness import Liveness, What, rank_of, sweep_at
from duplex_services.discovery._rules._plans import (
    NOT_CHECKED,
    Owner,
    as_known,
    plan_delete,
    plan_put,
    record_of,
    with_health,
    with_mode,
    withdrawn,
)
from duplex_services.store import Entry, exists, missing, unchanged
from tests.services.discovery.entries import RECORD, Told, config, gone, instance, leader, metadata

A, B = What("web", "a"), What("web", "b")


def known(lives: Liveness, what: What) -> tuple[str, float, float | None]:
    """The registration that keeps an instance, its TTL, and until when it is not silent."""
    life = lives.get(what)
    assert life is not None
    return life.token, life.ttl, life.until


# ------------------------------------------------------------------------------------------ liveness


def test_heartbeats_keep_an_instance() -> None:
    lives = Liveness(0.0)
    lives.begin(A, "t1", 10.0, 0.0, is_held=False)
    for beat in range(1, 20):
        now = beat * 5.0
        lives.silent(now - 0.5)
        assert lives.beat(A, "t1", now)
        assert lives.silent(now) == []
    now = 95.0
    for _ in range(19):
        now += 0.5
        assert lives.silent(now) == []
    assert lives.silent(now + 0.5) == [A]
    assert A in lives
    # It speaks again before that could be written.
    assert lives.beat(A, "t1", now + 0.6)
    assert lives.silent(now + 0.7) == []
    assert len(lives) == 1


def test_an_open_call_keeps_an_instance_until_it_is_lost() -> None:
    lives = Liveness(0.0)
    lives.begin(A, "t1", 2.0, 0.0, is_held=True)
    assert known(lives, A) == ("t1", 2.0, None)
    for now in range(1, 100):
        assert lives.silent(float(now)) == []
    assert lives.beat(A, "t1", 99.0)
    assert known(lives, A) == ("t1", 2.0, None)
    lives.let_go(A, "t1", 99.0)
    assert lives.silent(100.0) == []
    assert lives.silent(101.0) == [A]


def test_what_an_earlier_registration_says_changes_nothing() -> None:
    lives = Liveness(0.0)
    lives.begin(A, "t1", 2.0, 0.0, is_held=True)
    lives.begin(A, "t2", 3.0, 1.0, is_held=True)
    assert not lives.beat(A, "t1", 1.0)
    lives.let_go(A, "t1", 1.0)
    assert not lives.end(A, "t1")
    assert known(lives, A) == ("t2", 3.0, None)
    assert lives.end(A, "t2")
    assert A not in lives
    assert not lives.end(A)
    assert not lives.beat(A, "t2", 1.0)
    lives.let_go(A, "t2", 1.0)
    assert lives.get(A) is None


def test_who_was_stopped_itself_blames_nobody() -> None:
    lives = Liveness(0.0)
    lives.begin(A, "t", 2.0, 0.0, is_held=False)
    lives.begin(B, "t", 2.0, 0.0, is_held=True)
    assert lives.silent(0.5) == []
    # SIGSTOP for twelve seconds.
    assert lives.silent(12.5) == []
    assert known(lives, A) == ("t", 2.0, 14.0)
    assert known(lives, B) == ("t", 2.0, None)
    assert lives.silent(13.4) == []
    assert lives.silent(14.1) == [A]


def test_orphans_are_swept_in_turn() -> None:
    assert sweep_at(100.0, 10.0, 0) == 120.0
    assert sweep_at(100.0, 10.0, 2) == 122.0
    assert sweep_at(100.0, 0.5, 0) == 103.0
    assert rank_of("b", ["c", "a", "b"]) == 1
    assert rank_of("a", ["c", "a", "b"]) == 0
    # Who does not live, as far as the store knows, is the last.
    assert rank_of("0", ["c", "a", "b"]) == 3


# ------------------------------------------------------------------------------------------ leaders


@pytest.mark.parametrize(
    ("settings", "current", "due"),
    [
        ({}, "", "a"),
        ({}, "b", "b"),
        ({}, "sick", "a"),
        ({}, "gone", "a"),
        ({"leader_type": "manual"}, "a", ""),
        ({"leader_type": "manual", "leader": "b"}, "a", "b"),
        ({"leader_type": "manual", "leader": "sick"}, "a", "sick"),
        ({"leader_type": "manual", "leader": "gone"}, "a", ""),
    ],
)
def test_who_is_to_lead(settings: dict[str, Any], current: str, due: str) -> None:
    told = Told()
    told(
        instance("sick", 2, health="critical"),
        instance("leaving", 3, mode="draining"),
        instance("a", 4),
        instance("b", 5, health="warning"),
    )
    assert due_leader(ServiceConfig(**settings), current, told.view.all_instances("web")) == due


def test_nobody_leads_who_may_be_gone() -> None:
    told = Told()
    told(instance("a", 2), instance("b", 3))
    told(instance("b", 2), deletes=gone("a"), epoch="e2", full=True)
    assert due_leader(ServiceConfig(), "a", told.view.all_instances("web")) == "b"
    told(deletes=gone("b"), epoch="e3", full=True)
    assert due_leader(ServiceConfig(), "b", told.view.all_instances("web")) == ""
    manual = ServiceConfig("manual", "b")
    assert due_leader(manual, "b", told.view.all_instances("web")) == ""


def test_writing_a_leader_down() -> None:
    key = leader_key("web")
    plan = plan_leader("web", 0, "a")
    assert plan.when == (missing(key), exists(instance_key("web", "a")))
    assert read_leader(plan.puts[key]).id == "a"
    plan = plan_leader("web", 7, "b")
    assert plan.when == (unchanged(key, 7), exists(instance_key("web", "b")))
    plan = plan_leader("web", 7, "")
    assert (plan.puts, plan.deletes, plan.when) == ({}, (key,), (unchanged(key, 7),))


# -------------------------------------------------------------------------------------------- plans

HERE = Owner("here", "one")
SAID = Registration("a", host="127.0.0.1", port=80)


def test_the_record_of_a_registration() -> None:
    assert record_of(SAID, 10.0, HERE, None) == RECORD
    assert record_of(SAID, 5.0, HERE, RECORD) == msgspec.structs.replace(RECORD, ttl=5.0)
    noted = with_health(RECORD, "passing", "all well")
    assert record_of(SAID, 10.0, HERE, noted) == noted
    sick = msgspec.structs.replace(SAID, health="critical")
    assert record_of(sick, 10.0, HERE, noted) == with_health(RECORD, "critical", "")


def test_maintenance_outlives_a_registration_and_draining_does_not() -> None:
    off = with_mode(RECORD, "maintenance", "new disk")
    assert record_of(SAID, 10.0, HERE, off) == off
    assert record_of(SAID, 10.0, HERE, with_mode(RECORD, "draining", "leaving")) == RECORD
    assert record_of(SAID, 10.0, HERE, withdrawn(off, "gone")) == RECORD
    assert with_mode(off, "", "ignored") == RECORD


def test_who_is_checked_is_critical_until_then() -> None:
    check = Check("tcp")
    said = msgspec.structs.replace(SAID, check=check)
    fresh = record_of(said, 10.0, HERE, None)
    assert (fresh.health, fresh.note, fresh.check) == ("critical", NOT_CHECKED, check)
    well = with_health(fresh, "passing", "connected")
    assert record_of(said, 10.0, HERE, well) == well
    assert record_of(said, 10.0, HERE, withdrawn(well, "x")).health == "critical"
    other = msgspec.structs.replace(said, check=Check("http"))
    assert record_of(other, 10.0, HERE, well).note == NOT_CHECKED
    assert record_of(said, 10.0, HERE, RECORD).health == "critical"


def test_what_is_there_is_not_written_again() -> None:
    told = Told()
    key = instance_key("web", "a")
    plan = plan_put(told.view, "web", "a", RECORD)
    assert plan is not None
    assert plan.when == (missing(key),)
    assert read_record(plan.puts[key]) == RECORD
    told(instance("a", 5))
    assert plan_put(told.view, "web", "a", RECORD) is None
    plan = plan_put(told.view, "web", "a", with_health(RECORD, "warning", "slow"))
    assert plan is not None
    assert plan.when == (unchanged(key, 5),)
    # What vanished is put back as it was.
    told(deletes=gone("a"), epoch="e2", full=True)
    plan = plan_put(told.view, "web", "a", RECORD)
    assert plan is not None
    assert plan.when == (missing(key),)


def test_what_is_not_there_is_not_deleted() -> None:
    told = Told()
    assert plan_delete(told.view, "web", "a") is None
    told(instance("a", 5))
    plan = plan_delete(told.view, "web", "a")
    assert plan is not None
    assert (plan.deletes, plan.when) == (
        (instance_key("web", "a"),),
        (unchanged(instance_key("web", "a"), 5),),
    )
    told(deletes=gone("a"), epoch="e2", full=True)
    assert plan_delete(told.view, "web", "a") is None


def test_conditions_are_of_what_is_known() -> None:
    told = Told()
    told(instance("a", 3), config(4), metadata(1, 5), leader("a", 6), instance("w", 7, withdrawn=True))
    keys = ["i/web/a", "s/web", "m/web", "l/web", "i/web/w"]
    for number, key in enumerate(keys, 3):
        assert as_known(told.view, f"discovery/{key}") == unchanged(f"discovery/{key}", number)
    told(*(Entry(f"discovery/{key}", b"?", 9, 9) for key in keys))
    for key in keys:
        assert as_known(told.view, f"discovery/{key}") == unchanged(f"discovery/{key}", 9)
    for key in ("i/web/x", "i/none/x", "s/none", "m/none", "l/none"):
        assert as_known(told.view, f"discovery/{key}") == missing(f"discovery/{key}")
    # What makes no sense is overwritten by whoever knows better.
    assert plan_put(told.view, "web", "a", RECORD) is not None
