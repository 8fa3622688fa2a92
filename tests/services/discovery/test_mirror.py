"""What a follower knows, whichever servers it hears and whenever it loses them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from duplex_services.discovery._model import Batch, Change, Instance, Status
from duplex_services.discovery._rules._mirror import Mirror
from tests.services.discovery.entries import Told, config, gone, instance, leader, metadata


def batches(told: Told, mirror: Mirror) -> list[Batch]:
    """What a server tells a follower; a state in two parts."""
    view = told.view
    reset, found = view.catch_up("", mirror.position)
    changes = tuple(found)
    parts = [changes[:1], changes[1:]] if reset else [changes]
    status = Status(view.origin, view.index, view.epoch, view.revision, 0.0, False)
    return [
        Batch("", reset and not number, part, number == len(parts) - 1, status)
        for number, part in enumerate(parts)
    ]


def kinds(changes: list[Change]) -> list[tuple[str, str]]:
    return [(change.kind, change.id) for change in changes]


def test_another_server_that_knows_the_same_changes_nothing() -> None:
    first, second, mirror = Told("one"), Told("two"), Mirror()
    entries = [instance("a", 3), instance("b", 4), config(4), metadata(1, 4), leader("a", 4)]
    for told in (first, second):
        told(*entries)
    changes = [change for batch in batches(first, mirror) for change in mirror.take(batch)]
    assert kinds(changes) == [("config", ""), ("up", "a"), ("up", "b"), ("leader", "a"), ("metadata", "")]
    assert mirror.position is not None
    assert mirror.position.origin == "one"
    for batch in batches(second, mirror):
        assert mirror.take(batch) == []
    assert mirror.position.origin == "two"


def test_what_another_server_knows_is_told_as_changes() -> None:
    first, second, mirror = Told("one"), Told("two"), Mirror()
    first(instance("a", 3), instance("b", 4), config(4, leader_type="manual"), metadata(1, 4), leader("a", 4))
    second(instance("b", 9, created=4, weight=7), instance("c", 8), metadata(2, 9), leader("b", 9))
    for batch in batches(first, mirror):
        mirror.take(batch)
    found = [change for batch in batches(second, mirror) for change in mirror.take(batch)]
    assert kinds(found) == [
        ("config", ""),
        ("down", "a"),
        ("update", "b"),
        ("up", "c"),
        ("leader", "b"),
        ("metadata", ""),
    ]
    # A service that nobody configures is as any other.
    assert found[0].config is not None
    assert found[0].config.leader_type == "oldest"


def test_half_a_state_is_none() -> None:
    first, second, mirror = Told("one"), Told("two"), Mirror()
    first(instance("a", 3), instance("b", 4))
    second(instance("b", 4), instance("c", 5))
    for batch in batches(first, mirror):
        mirror.take(batch)
    half, rest = batches(second, mirror)
    assert mirror.take(half) == []
    mirror.lost()
    assert {id for _, id in mirror.instances} == {"a", "b"}
    assert mirror.position is not None
    assert mirror.position.origin == "one"
    # It begins anew, and all of it counts.
    assert mirror.take(half) == []
    assert kinds(mirror.take(rest)) == [("down", "a"), ("up", "c")]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "delete", "read", "lose"]), st.sampled_from("abc"), st.integers(0, 1)
        )
    )
)
def test_a_follower_ends_with_the_state_of_whom_it_hears(script: list[tuple[str, str, int]]) -> None:
    servers, mirror = [Told("one"), Told("two")], Mirror()
    state: dict[tuple[str, str], Instance] = {}
    for told in servers:
        told()

    def hear(told: Told) -> None:
        for batch in batches(told, mirror):
            for change in mirror.take(batch):
                key = change.service, change.id
                assert state.get(key) == change.before
                if change.instance is None:
                    del state[key]
                else:
                    state[key] = change.instance

    for number, (word, id, which) in enumerate(script, 2):
        if word == "put":
            servers[which](instance(id, number, created=2, weight=number))
        elif word == "delete":
            servers[which](deletes=gone(id), revision=number)
        elif word == "lose":
            for batch in batches(servers[which], mirror)[:-1]:
                mirror.take(batch)
            mirror.lost()
        else:
            hear(servers[which])
    for told in servers:
        hear(told)
        assert mirror.instances == state
        assert state == {(one.service, one.id): one for one in told.view.all_instances("web")}
