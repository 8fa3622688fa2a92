"""ZooKeeper's commits are exact, whatever is lost on the way: over a tree that loses what a test wants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest
import trio
from kazoo import exceptions
from trio.testing import MockClock

from duplex_services.store import (
    Conflict,
    Denied,
    LeaseLost,
    Unavailable,
    Unknown,
    exists,
    missing,
    unchanged,
)
from duplex_services.store._backends import _zookeeper_words as words
from duplex_services.store._backends._zookeeper import ZooKeeperBackend
from duplex_services.store._backends._zookeeper_mirror import Mirror
from duplex_services.store._backends._zookeeper_session import Session
from duplex_services.store._model import Commit, Entry
from tests.services.store.zookeeper_tree import Tree, TreeSession


def backend_on(tree: Tree, **session: Any) -> tuple[ZooKeeperBackend, TreeSession]:
    made = TreeSession(tree, **session)
    return ZooKeeperBackend("zookeeper://tree/x", cast(Session, made), "/x"), made


async def commit(
    backend: ZooKeeperBackend, puts: dict[str, bytes], *when: Any, lease: str | None = None
) -> Any:
    (outcome,) = await backend.commit([Commit(puts, when=when, lease=lease)])
    return outcome


# -------------------------------------------------------------------------------------- one after another


@pytest.mark.parametrize("fate", ["lost", "done", "late"])
async def test_commit_whose_answer_is_lost_is_made_once(fate: str, autojump_clock: MockClock) -> None:
    tree = Tree()
    backend, session = backend_on(tree)
    first = await commit(backend, {"a": b"1"})
    session.fates = [fate, fate]
    second = await commit(backend, {"a": b"2"}, unchanged("a", first))
    assert second == first + 1
    session.arrive()
    assert await backend.get("a") == Entry("a", b"2", first, second)
    assert tree.nodes["/x/rev"].version == 2, "made once"


async def test_commit_that_was_not_sent(autojump_clock: MockClock) -> None:
    backend, session = backend_on(Tree())
    session.fates = ["not sent"]
    assert isinstance(await commit(backend, {"a": b"1"}), Unavailable)
    assert await backend.get("a") is None


async def test_commit_that_was_lost_once_is_not_given_up_while_nobody_can_be_asked(
    autojump_clock: MockClock,
) -> None:
    backend, session = backend_on(Tree())
    session.fates = ["late", "not sent", "not sent", "kept"]
    assert isinstance(await commit(backend, {"a": b"1"}), int)


async def test_conflict_that_is_found_when_the_answer_was_lost(autojump_clock: MockClock) -> None:
    """Another one came first, so the lost one cannot come true any more."""
    tree = Tree()
    backend, session = backend_on(tree)
    other, _ = backend_on(tree)
    first = await commit(backend, {"a": b"1"})
    session.fates = ["late"]
    outcomes = []

    async def lose() -> None:
        outcomes.append(await commit(backend, {"a": b"2"}, unchanged("a", first)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lose)
        await trio.sleep(0.03)
        await commit(other, {"a": b"other"}, unchanged("a", first))
    session.arrive()
    assert isinstance(outcomes[0], Conflict)
    assert outcomes[0].found is not None
    assert outcomes[0].found.value == b"other"
    assert (await other.get("a")) == outcomes[0].found


async def test_conflict_is_looked_at_anew_before_it_is_told(autojump_clock: MockClock) -> None:
    tree = Tree()
    backend, _ = backend_on(tree)
    other, _ = backend_on(tree)
    first = await commit(backend, {"a": b"1"})
    await other.commit([Commit(deletes=("a",))])
    # The mirror still has the key.
    assert isinstance(await commit(backend, {"a": b"2"}, missing("a")), int)
    assert isinstance(await commit(backend, {"a": b"3"}, unchanged("a", first)), Conflict)


async def test_group_with_one_of_each(autojump_clock: MockClock) -> None:
    backend, _ = backend_on(Tree())
    grant = await backend.grant(1)
    gone = await backend.grant(1)
    await backend.revoke(gone.id)
    await commit(backend, {"there": b""})
    outcomes = await backend.commit(
        [
            Commit({"a": b""}, lease=grant.id),
            Commit({"b": b""}, lease=gone.id),
            Commit({"c": b""}, when=(exists("none"),)),
            Commit(deletes=("none",)),
            Commit(deletes=("there",)),
        ]
    )
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds == [int, LeaseLost, Conflict, int, int]
    assert [entry.key for entry in (await backend.list("")).entries] == ["a"]


async def test_lease_that_ended_while_the_answer_was_lost(autojump_clock: MockClock) -> None:
    tree = Tree()
    backend, session = backend_on(tree)
    grant = await backend.grant(1)
    session.fates = ["late"]
    outcomes = []

    async def lose() -> None:
        outcomes.append(await commit(backend, {"a": b""}, lease=grant.id))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lose)
        await trio.sleep(0.03)
        tree.do([("delete", (f"/x/l/{grant.id}",))])
    session.arrive()
    assert isinstance(outcomes[0], LeaseLost)
    assert await backend.get("a") is None


async def test_store_that_is_emptied_while_the_answer_is_open(autojump_clock: MockClock) -> None:
    tree = Tree()
    backend, session = backend_on(tree)
    await commit(backend, {"b": b""})
    session.fates = ["late"]
    outcomes = []

    async def lose() -> None:
        outcomes.append(await commit(backend, {"a": b""}))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lose)
        await trio.sleep(0.03)
        tree.wipe()
    assert isinstance(outcomes[0], Unknown)
    assert (await backend.list("")).entries == ()
    assert isinstance(await commit(backend, {"a": b""}, missing("a")), int)


async def test_strangers_below_our_nodes(autojump_clock: MockClock) -> None:
    """The mirror does not know what came without a new head, until it is in the way."""
    tree = Tree()
    backend, _ = backend_on(tree)
    await commit(backend, {"a": b"1"})
    tree.do([("create", ("/x/k/b", words.write_entry(Entry("b", b"2", 1, 1))))])
    assert isinstance(await commit(backend, {"b": b"3"}), int)
    tree.do([("delete", ("/x/k/a",))])
    assert isinstance(await commit(backend, {"a": b"4"}), int)
    tree.do([("create", ("/x/k/c", b"nonsense"))])
    outcome = await commit(backend, {"c": b""})
    assert isinstance(outcome, Unavailable)
    assert "'c' is not a store's" in outcome.message


async def test_head_that_is_nonsense(autojump_clock: MockClock) -> None:
    tree = Tree()
    backend, _ = backend_on(tree)
    await commit(backend, {"a": b"1"})
    tree.do([("set_data", ("/x/rev", b"{}"))])
    with pytest.raises(Unavailable, match="/x/rev is not a store's"):
        await backend.get("a")


async def test_store_that_is_put_back(autojump_clock: MockClock) -> None:
    tree = Tree()
    backend, _ = backend_on(tree)
    await commit(backend, {"a": b"1"})
    old = {path: (node.data, node.version) for path, node in tree.nodes.items()}
    second = await commit(backend, {"a": b"2", "b": b""})
    assert (await backend.list("")).revision == second
    for path in [*tree.nodes]:
        if path not in old:
            del tree.nodes[path]
            continue
        tree.nodes[path].data, tree.nodes[path].version = old[path]
    listing = await backend.list("")
    assert listing.revision == second - 1
    assert [entry.value for entry in listing.entries] == [b"1"]
    assert await backend.newest(second, 2) == second - 1


async def test_right_that_is_missing(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    tree = Tree()
    backend, session = backend_on(tree)
    await commit(backend, {"a": b"1"})

    async def refuse(build: object) -> list[Any]:
        return [exceptions.NoAuthError(), exceptions.RuntimeInconsistency()]

    monkeypatch.setattr(session, "transact", refuse)
    assert isinstance(await commit(backend, {"a": b"2"}), Denied)

    async def fail(build: object) -> list[Any]:
        raise exceptions.MarshallingError

    monkeypatch.setattr(session, "transact", fail)
    outcome = await commit(backend, {"a": b"2"})
    assert isinstance(outcome, Unavailable)
    assert "MarshallingError" in outcome.message


async def test_others_who_always_come_first(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    backend, session = backend_on(Tree())

    async def late(build: object) -> list[Any]:
        return [exceptions.RolledBackError(), exceptions.BadVersionError()]

    monkeypatch.setattr(session, "transact", late)
    outcome = await commit(backend, {"a": b"1"})
    assert isinstance(outcome, Unavailable)
    assert "others came first" in outcome.message


async def test_changes_that_are_faster_than_reading(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    tree = Tree()
    backend, _ = backend_on(tree)
    other, _ = backend_on(tree)
    names = backend._reader._names

    async def and_another() -> Any:
        for number in range(150):
            await commit(other, {"a": b"%d" % number})
        return await names()

    monkeypatch.setattr(backend._reader, "_names", and_another)
    monkeypatch.setattr("duplex_services.store._backends._zookeeper_reader._ROUNDS", 2)
    with pytest.raises(Unavailable, match="changes faster"):
        await backend.get("a")


async def test_node_is_made_once_by_many(autojump_clock: MockClock) -> None:
    tree = Tree()
    backends = [backend_on(tree, seed=seed)[0] for seed in range(5)]
    async with trio.open_nursery() as nursery:
        for backend in backends:
            nursery.start_soon(backend.get, "a")
    revisions = {(await backend.list("")).revision for backend in backends}
    assert len(revisions) == 1


# ------------------------------------------------------------------------------------------ all at once


@pytest.mark.parametrize("seed", range(6))
async def test_counter_of_many_who_lose_answers(seed: int, autojump_clock: MockClock) -> None:
    """Every increment that is acknowledged was made, and made once; of the others each is known not to have been."""
    tree = Tree()
    made: list[int] = []
    backends = [backend_on(tree, seed=seed * 100 + number, loss=0.2) for number in range(4)]
    await commit(backend_on(tree)[0], {"n": b"0"})

    async def count(backend: ZooKeeperBackend) -> None:
        done = 0
        while done < 15:
            try:
                entry = await backend.get("n")
            except Unavailable:
                continue
            assert entry is not None
            value = b"%d" % (int(entry.value) + 1)
            outcome = await commit(backend, {"n": value}, unchanged("n", entry.modified))
            assert isinstance(outcome, int | Conflict | Unavailable), outcome
            if isinstance(outcome, int):
                made.append(outcome)
                done += 1

    async with trio.open_nursery() as nursery:
        for backend, _ in backends:
            nursery.start_soon(count, backend)
    for _, session in backends:
        session.arrive()
    entry = await backend_on(tree)[0].get("n")
    assert entry is not None
    assert int(entry.value) == len(made) == len(set(made)) == 60
    assert entry.modified == max(made)


@pytest.mark.parametrize("seed", range(4))
async def test_mirrors_of_many_are_equal_to_the_tree(seed: int, autojump_clock: MockClock) -> None:
    tree = Tree()
    backends = [backend_on(tree, seed=seed * 10 + number)[0] for number in range(3)]

    async def write(backend: ZooKeeperBackend, number: int) -> None:
        for step in range(30):
            await backend.commit(
                [
                    Commit({f"{(step + number) % 7}": b"%d" % step}, deletes=(f"{(step * 3) % 7}x",)),
                    Commit({f"{(step * 5) % 7}x": b"%d" % number}),
                ]
            )

    async with trio.open_nursery() as nursery:
        for number, backend in enumerate(backends):
            nursery.start_soon(write, backend, number)
    there = {
        words.key_of(path.rpartition("/")[2]): words.read_entry(
            words.key_of(path.rpartition("/")[2]), node.data
        )
        for path, node in tree.nodes.items()
        if path.startswith("/x/k/")
    }
    for backend in backends:
        assert {entry.key: entry for entry in (await backend.list("")).entries} == there


# ------------------------------------------------------------------------------------------------ words


def head_after(steps: Sequence[Sequence[str]], head: words.Head | None = None) -> words.Head:
    found = head or words.Head(100)
    for number, keys in enumerate(steps):
        found = found.after(f"m{number}", keys)
    return found


def test_head_tells_what_changed() -> None:
    head = head_after([["a", "b"], ["c"], ["a"]])
    assert head.revision == 103
    assert [head.changed_since(revision) for revision in (103, 102, 101, 100, 99, 104)] == [
        set(),
        {"a"},
        {"a", "c"},
        {"a", "b", "c"},
        None,
        None,
    ]
    assert (head.made_by({"m1", "x"}), head.made_by({"x"})) == ("m1", None)
    assert words.read_head(words.write_head(head)) == head


def test_head_forgets_what_is_too_much() -> None:
    head = head_after([[f"{number}"] for number in range(500)])
    assert len(head.steps) == 128
    assert head.changed_since(600 - 128) == {f"{number}" for number in range(372, 500)}
    assert head.changed_since(600 - 129) is None
    long = ["x" * 190 + f"{number:02}" for number in range(50)]
    head = head_after([long, ["a"], long, ["b"]])
    assert head.changed_since(103) == {"b"}
    assert head.changed_since(101) == {*long, "a", "b"}
    assert head.changed_since(100) is None, "the keys of one commit too many"
    assert head.made_by({"m0"}) == "m0", "but not that it was made"
    assert head_after([["y" * 190 + f"{number:02}" for number in range(70)]]).changed_since(100) is None
    assert len(words.write_head(head_after([long] * 200))) < 20_000


def test_first_revision_is_later_than_those_of_a_store_that_was_wiped() -> None:
    first = words.first_head()
    assert words.first_head().revision >= first.revision > 1_700_000_000_000
    assert first.changed_since(first.revision - 1) is None


@pytest.mark.parametrize("key", ["a", "a/b", "ä %2F", "..a", "日本/\U0001f600"])
def test_paths_of_keys(key: str) -> None:
    path = words.Paths("/x").of_key(key)
    assert path.isascii()
    assert path.count("/") == 3
    assert words.key_of(path.rpartition("/")[2]) == key


@pytest.mark.parametrize("value", [b"", b"\n", b"a\nb", bytes(range(256))])
def test_entries_as_they_are_written(value: bytes) -> None:
    for lease in (None, "lease"):
        entry = Entry("key", value, 3, 7, lease)
        assert words.read_entry("key", words.write_entry(entry)) == entry


@pytest.mark.parametrize("data", [b"", b"{}", b"[null, 1]\n", b"[null, 1, true]\n", b"\xff\n"])
def test_nodes_of_strangers(data: bytes) -> None:
    with pytest.raises(ValueError):
        words.read_entry("key", data)


def test_mirror_remembers_a_while() -> None:
    mirror = Mirror()
    mirror.load({"a": Entry("a", b"", 1, 1), "b": None}, words.Head(10), 0, 1)
    assert mirror.changes_since(9) is None
    for number in range(5000):
        mirror.advance({"n": Entry("n", b"%d" % number, 1, 11 + number)}, words.Head(11 + number), number)
    assert mirror.changes_since(10) is None
    assert mirror.changes_since(6000) is None
    changes = mirror.changes_since(5000)
    assert changes is not None
    assert (changes.revision, [entry.value for entry in changes.puts]) == (5010, [b"4999"])


def test_mirror_knows_the_keys_of_a_lease() -> None:
    mirror = Mirror()
    mirror.load({"a": Entry("a", b"", 1, 1, "l"), "b": Entry("b", b"", 1, 1, "l")}, words.Head(1), 0, 1)
    assert mirror.leases == {"l": {"a", "b"}}
    mirror.advance({"a": Entry("a", b"", 1, 2, "m"), "b": None}, words.Head(2), 1)
    assert mirror.leases == {"m": {"a"}}
    mirror.advance({"a": Entry("a", b"", 1, 3)}, words.Head(3), 2)
    assert mirror.leases == {}
    changes = mirror.changes_since(1)
    assert changes is not None
    assert (changes.puts, changes.deletes) == ((Entry("a", b"", 1, 3),), ("b",))


# ----------------------------------------------------------------------------------------------- leases


async def test_leases_while_nobody_answers(autojump_clock: MockClock) -> None:
    tree = Tree()
    backend, session = backend_on(tree)
    grant = await backend.grant(1)
    session.loss = 1.0
    for question in (backend.grant(1), backend.beat(grant.id), backend.revoke(grant.id)):
        with pytest.raises(Unavailable):
            await question
    session.loss = 0.0
    await backend.revoke("never granted")
    with pytest.raises(LeaseLost):
        await backend.beat(grant.id)


async def test_lease_that_is_over_is_ended_when_somebody_answers_again(autojump_clock: MockClock) -> None:
    tree = Tree()
    backend, session = backend_on(tree)
    other, _ = backend_on(tree)
    grant = await backend.grant(1)
    await commit(backend, {"a": b"", "b": b""}, lease=grant.id)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(backend.keep_leases)
        await trio.sleep(1)
        await backend.beat(grant.id)
        session.loss = 1.0
        await trio.sleep(10)
        assert len((await other.list("")).entries) == 2
        session.loss = 0.0
        await trio.sleep(5)
        assert (await other.list("")).entries == ()
        nursery.cancel_scope.cancel()


async def test_right_to_a_lease_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    backend, session = backend_on(Tree())
    grant = await backend.grant(1)

    async def refuse(questions: object) -> list[Any]:
        return [exceptions.APIError(), exceptions.APIError()]

    monkeypatch.setattr(session, "ask_all", refuse)
    with pytest.raises(Unavailable, match="APIError"):
        await backend.beat(grant.id)
