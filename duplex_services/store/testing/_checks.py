"""What every store must do while nothing happens to it. Each check is a function of a :class:`Bench`."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import trio

from duplex_services.store._model import (
    MAX_COMMIT_BYTES,
    MAX_KEY_BYTES,
    MAX_OPERATIONS,
    Condition,
    Conflict,
    Entry,
    StoreError,
    TooLarge,
    exists,
    missing,
    unchanged,
)
from duplex_services.store.testing._history import read_history, record
from duplex_services.store.testing._linear import Operation, explain_history
from duplex_services.store.testing._tools import ANY, Bench, Folded, all_at_once, count_up, error_of, fold


async def check_basic(bench: Bench) -> None:
    """Put, get, list, put again, delete; revisions grow, and entries say which made them."""
    one, two, p = bench.one, bench.two, bench.prefix
    assert await one.get(f"{p}none") is None
    first = await one.commit({f"{p}a/1": b"x", f"{p}a/2": b"\0\xff", f"{p}b": b""}, when=ANY)
    assert await two.get(f"{p}a/2") == Entry(f"{p}a/2", b"\0\xff", first, first)
    assert await one.get(f"{p}b") == Entry(f"{p}b", b"", first, first)
    listed = await two.list(f"{p}a/")
    assert [entry.key for entry in listed.entries] == [f"{p}a/1", f"{p}a/2"], listed
    assert listed.revision >= first
    assert listed.epoch
    second = await two.commit({f"{p}a/1": b"y"}, when=ANY)
    assert second > first, (first, second)
    assert await one.get(f"{p}a/1") == Entry(f"{p}a/1", b"y", first, second)
    third = await one.commit(deletes=[f"{p}a/1", f"{p}none"], when=ANY)
    assert third > second, (second, third)
    assert await two.get(f"{p}a/1") is None
    again = await two.list(f"{p}a/")
    assert [entry.key for entry in again.entries] == [f"{p}a/2"], again
    assert (again.revision >= third, again.epoch) == (True, listed.epoch), (listed, again)
    fourth = await one.commit({f"{p}a/1": b"z"}, when=ANY)
    assert await two.get(f"{p}a/1") == Entry(f"{p}a/1", b"z", fourth, fourth), (
        "made anew after it was deleted"
    )
    nothing = await one.commit(deletes=[f"{p}none"], when=ANY)
    assert nothing >= fourth, "a commit that changes nothing has a revision too"


async def check_keys(bench: Bench) -> None:
    """Keys are text; prefixes are beginnings of it, no more and no less."""
    p = bench.prefix
    odd = [
        "a",
        "a/b",
        "a/b/c",
        "ab",
        "a b",
        "a%2Fb",
        "a?b=c&d",
        "a#b",
        "ä/ö",
        "日本",
        "a\\b",
        "a'b\"c",
        "*",
        "a.b",
        "~",
    ]
    odd += [
        "..a/...",
        "a" * (MAX_KEY_BYTES - len(p.encode()) - 4) + "/end",
        "\U0001f600",
        "a:b@c",
        "[a]",
        "{a}",
        "$a",
    ]
    await bench.one.commit({p + key: key.encode() for key in odd}, when=ANY)
    listed = await bench.two.list(p)
    assert [entry.key for entry in listed.entries] == sorted(p + key for key in odd), listed
    for key in odd:
        entry = await bench.two.get(p + key)
        assert entry is not None, key
        assert entry.value == key.encode(), entry
    for prefix in ("", "a", "a/", "a/b", "ä", "a%", "日", "a b", "none"):
        found = [entry.key for entry in (await bench.two.list(p + prefix)).entries]
        assert found == sorted(p + key for key in odd if key.startswith(prefix)), (prefix, found)
    await bench.one.commit(deletes=[p + key for key in odd], when=ANY)
    assert (await bench.two.list(p)).entries == ()


async def check_values(bench: Bench) -> None:
    """Values are any bytes, and come back as they were."""
    p = bench.prefix
    values = [b"", b"\0", bytes(range(256)), b"\n", b'"', "ü".encode(), b"x" * 100_000, b"\xff" * 1000]
    await bench.one.commit({f"{p}{number}": value for number, value in enumerate(values)}, when=ANY)
    found = {entry.key: entry.value for entry in (await bench.two.list(p)).entries}
    assert found == {f"{p}{number}": value for number, value in enumerate(values)}


async def check_conflict(bench: Bench) -> None:
    """A condition that does not hold refuses all of the commit, and says what was there."""
    p = bench.prefix
    modified = await bench.one.commit({f"{p}1": b"1"}, when=[missing(f"{p}1")])
    there = Entry(f"{p}1", b"1", modified, modified)
    cases: list[tuple[list[Condition], int, Entry | None]] = [
        ([missing(f"{p}1")], 0, there),
        ([exists(f"{p}none"), missing(f"{p}2")], 0, None),
        ([unchanged(f"{p}1", modified + 7)], 0, there),
        ([exists(f"{p}1"), unchanged(f"{p}none", 3)], 1, None),
        ([missing(f"{p}2"), unchanged(f"{p}1", modified - 1)], 1, there),
        ([missing(f"{p}1"), exists(f"{p}none")], 0, there),
    ]
    for when, bad, found in cases:
        commit = bench.two.commit({f"{p}2": b"n", f"{p}3": b"n"}, when=[*when, ANY])
        conflict = await error_of(Conflict, commit)
        assert (conflict.condition, conflict.found) == (when[bad], found), (
            when,
            conflict.condition,
            conflict.found,
        )
    assert [entry.key for entry in (await bench.one.list(p)).entries] == [f"{p}1"]
    await bench.one.commit({f"{p}1x": b""}, when=ANY)
    good: list[Condition] = [unchanged(f"{p}1", modified), missing(f"{p}9"), exists(f"{p}1x")]
    second = await bench.one.commit({f"{p}1": b"2", f"{p}4": b"4"}, when=good)
    conflict = await error_of(
        Conflict, bench.two.commit(deletes=[f"{p}1"], when=[unchanged(f"{p}1", modified)])
    )
    assert conflict.found == Entry(f"{p}1", b"2", modified, second), conflict.found
    await bench.two.commit(deletes=[f"{p}1"], when=[unchanged(f"{p}1", second)])


async def check_aba(bench: Bench) -> None:
    """A key that was deleted and put again, with the same value, has changed."""
    key = f"{bench.prefix}aba"
    modified = await bench.one.commit({key: b"1"}, when=[missing(key)])
    await bench.two.commit(deletes=[key], when=[unchanged(key, modified)])
    second = await bench.two.commit({key: b"1"}, when=[missing(key)])
    conflict = await error_of(Conflict, bench.one.commit({key: b"3"}, when=[unchanged(key, modified)]))
    assert conflict.found == Entry(key, b"1", second, second), conflict.found


async def check_counter(bench: Bench) -> None:
    """Many who read, add one and write on condition lose nothing."""
    key = f"{bench.prefix}n"
    await bench.one.commit({key: b"0"}, when=[missing(key)])
    await all_at_once(
        [partial(count_up, store, key, 8) for store in (bench.one, bench.two) for _ in range(3)]
    )
    entry = await bench.two.get(key)
    assert entry is not None
    assert entry.value == b"48", entry


async def check_group(bench: Bench) -> None:
    """Of many commits at once each has its own outcome."""
    p = bench.prefix
    await bench.one.commit({f"{p}{number}": b"old" for number in range(0, 50, 2)}, when=ANY)
    outcomes: dict[int, int | StoreError] = {}

    async def create(number: int) -> None:
        try:
            outcomes[number] = await bench.one.commit(
                {f"{p}{number}": b"new", f"{p}also/{number}": b""}, when=[missing(f"{p}{number}")]
            )
        except Conflict as conflict:
            outcomes[number] = conflict

    await all_at_once([partial(create, number) for number in range(50)])
    entries = {entry.key: entry for entry in (await bench.two.list(p)).entries}
    for number, outcome in outcomes.items():
        entry = entries[f"{p}{number}"]
        if number % 2:
            assert (entry.value, entry.modified) == (b"new", outcome), (entry, outcome)
            assert entries[f"{p}also/{number}"].modified == outcome
        else:
            assert isinstance(outcome, Conflict), outcome
            assert outcome.found == entry, (outcome.found, entry)
            assert f"{p}also/{number}" not in entries


async def check_watch(bench: Bench) -> None:
    """A watch tells what is there, then every last change under its prefix, and nothing else."""
    p = bench.prefix
    await bench.one.commit({f"{p}w/0": b"0", f"{p}other": b""}, when=ANY)
    async with bench.two.watch(f"{p}w/") as watch, bench.two.watch(f"{p}none/") as empty:
        state, none = Folded(), Folded()
        first = await watch.receive()
        assert first.full
        state.take(first)
        assert state.values == {f"{p}w/0": b"0"}, first
        none.take(await empty.receive())
        assert (none.values, none.updates) == ({}, 1)
        for number in range(30):
            await bench.one.commit(
                {f"{p}w/{number % 5}": b"%d" % number, f"{p}other": b"%d" % number}, when=ANY
            )
        await bench.one.commit(deletes=[f"{p}w/0", f"{p}w/1"], when=ANY)
        last = {f"{p}w/2": b"27", f"{p}w/3": b"28", f"{p}w/4": b"29"}
        await fold(watch, state, lambda state: state.values == last, bench.slack)
        revision = await bench.two.commit({f"{p}none/1": b"!"}, when=[missing(f"{p}none/1")])
        await fold(empty, none, lambda state: bool(state.values), bench.slack)
        assert none.entries[f"{p}none/1"] == Entry(f"{p}none/1", b"!", revision, revision)
        assert none.updates == 2, "the other keys were none of its business"
    async with bench.one.watch(p) as watch:
        everything = Folded()
        everything.take(await watch.receive())
        listed = await bench.one.list(p)
        assert everything.entries == {entry.key: entry for entry in listed.entries}


async def check_watch_is_fresh(bench: Bench) -> None:
    """What was committed before a watch was opened, wherever, is in its first update."""
    key = f"{bench.prefix}x"
    async with bench.two.watch(bench.prefix) as early:
        await early.receive()
        for number in range(20):
            await bench.one.commit({key: b"%d" % number}, when=ANY)
            async with bench.two.watch(bench.prefix) as watch:
                first = await watch.receive()
                assert [entry.value for entry in first.puts] == [b"%d" % number], (number, first)
        await bench.one.commit(deletes=[key], when=ANY)
        async with bench.two.watch(bench.prefix) as watch:
            assert (await watch.receive()).puts == ()


async def check_slow_watch(bench: Bench) -> None:
    """A reader that is slow gets the last state of every key, in few updates."""
    p = bench.prefix
    async with bench.two.watch(p) as slow, bench.two.watch(p) as fast:
        behind, ahead = Folded(), Folded()
        behind.take(await slow.receive())
        for number in range(200):
            await bench.one.commit({f"{p}{number % 10}": b"%d" % number}, when=ANY)
        await bench.one.commit(deletes=[f"{p}0"], when=ANY)
        last = {f"{p}{number % 10}": b"%d" % number for number in range(191, 200)}
        await fold(fast, ahead, lambda state: state.values == last, bench.slack)
        await fold(slow, behind, lambda state: state.values == last, bench.slack)
        assert behind.updates <= 3, behind.updates
        assert behind.entries == ahead.entries


async def check_many_watchers(bench: Bench) -> None:
    """Three hundred watches of one client cost the store one, and hear of a change soon."""
    p = bench.prefix
    listings = bench.one.statistics().listings
    told = 0
    left = 300
    started = trio.Event()

    async def hear(number: int) -> None:
        nonlocal told, left
        async with bench.one.watch(p if number % 3 else f"{p}{number}/") as watch:
            state = Folded()
            state.take(await watch.receive())
            left -= 1
            if not left:
                started.set()
            if number % 3:
                await fold(watch, state, lambda state: f"{p}now" in state.values, bench.slack)
                told += 1
            else:
                await started.wait()

    async with trio.open_nursery() as nursery:
        for number in range(300):
            nursery.start_soon(hear, number)
        await started.wait()
        await bench.two.commit({f"{p}now": b""}, when=ANY)
    assert told == 200
    assert bench.one.statistics().listings <= listings + 2, "one listing serves all"


async def check_limits(bench: Bench) -> None:
    """What is within the limits is taken; what is not is refused before it can do harm."""
    p = bench.prefix
    await bench.one.commit({f"{p}{number:03}": b"v" for number in range(MAX_OPERATIONS)}, when=ANY)
    when = [exists(f"{p}{number:03}") for number in range(MAX_OPERATIONS - 1)]
    await bench.one.commit({f"{p}many": b""}, when=[*when, ANY])
    room = MAX_COMMIT_BYTES - len(f"{p}big".encode())
    big = bytes(range(256)) * (room // 256) + bytes(room % 256)
    await bench.one.commit({f"{p}big": big}, when=ANY)
    entry = await bench.two.get(f"{p}big")
    assert entry is not None
    assert entry.value == big
    for puts in ({f"{p}big": big + b"!"}, {f"{p}x{number:03}": b"" for number in range(MAX_OPERATIONS + 1)}):
        error = await error_of(TooLarge, bench.one.commit(puts, when=ANY))
        assert error.size == error.limit + 1, error
    assert len((await bench.one.list(p)).entries) == MAX_OPERATIONS + 2


async def check_history(bench: Bench) -> None:
    """What clients, and where it can be reached by URL another process, saw of one key is linearizable."""
    key = f"{bench.prefix}register"
    ours = [
        partial(record, store, key, f"{side}{task}", 25, task)
        for side, store in (("a", bench.one), ("b", bench.two))
        for task in range(2)
    ]
    history: list[Operation] = []
    if bench.url is None:
        for operations in await all_at_once(ours):
            history += operations
    else:
        async with trio.open_nursery() as nursery:
            go = trio.Event()
            nursery.start_soon(_other_process, bench.url, key, go, history)
            await go.wait()
            for operations in await all_at_once(ours):
                history += operations
        assert any(operation.client.startswith("other") for operation in history)
    problem = explain_history(history)
    assert problem is None, f"not linearizable: {problem}"


async def _other_process(url: str, key: str, go: trio.Event, history: list[Operation]) -> None:
    """Have another process make operations too, and add what it saw."""
    words = ["-m", "duplex_services.store.testing._worker", url, key, "other", "25", "7", "2"]
    process = await trio.lowlevel.open_process(
        [sys.executable, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    output = b""
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        while b"ready\n" not in output:
            piece = await process.stdout.receive_some()
            assert piece, "the other process did not come up"
            output += piece
        go.set()
        await process.stdin.send_all(b"go\n")
        async for piece in process.stdout:
            output += piece
        assert await process.wait() == 0, process.returncode
    finally:
        go.set()
        if process.returncode is None:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
    history += read_history(output)
