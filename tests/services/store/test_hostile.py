"""What nobody would give: to a commit, and as a file. The answer is an error that says what, and nothing has changed."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from duplex_services.store import (
    OpenError,
    TooLarge,
    exists,
    last_writer_wins,
    missing,
    open_store,
    unchanged,
)
from duplex_services.store._backends._database import Database
from duplex_services.store._model import MAX_COMMIT_BYTES, MAX_KEY_BYTES, MAX_OPERATIONS
from duplex_services.store._rules._commits import check_commit
from duplex_services.store._rules._keys import check_key, check_prefix
from tests.sizes import size

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.builds(object),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=5,
)
#: What is nearly right is refused less easily.
KEYS = st.text() | st.sampled_from(["a", "a/b", "_x", "a" * 300, "/", "..", "\ud800", ""]) | ANYTHING
CONDITIONS = st.one_of(
    st.builds(missing, KEYS),
    st.builds(exists, KEYS),
    st.builds(unchanged, KEYS, ANYTHING),
    st.just(last_writer_wins),
)


@given(
    ANYTHING | st.dictionaries(st.text(max_size=3), ANYTHING | st.binary()),
    ANYTHING | st.lists(KEYS, max_size=4),
    ANYTHING | st.lists(CONDITIONS | ANYTHING, max_size=4),
)
def test_whatever_is_given_is_a_commit_or_a_clear_error(puts: Any, deletes: Any, when: Any) -> None:
    try:
        commit = check_commit(puts, deletes, when, None)
    except (TypeError, ValueError, TooLarge) as error:
        assert str(error)  # noqa: PT017
        return
    assert commit.puts or commit.deletes
    assert len(commit.puts) + len(commit.deletes) + len(commit.when) <= MAX_OPERATIONS
    assert sum(len(value) for value in commit.puts.values()) <= MAX_COMMIT_BYTES
    for key in (*commit.puts, *commit.deletes):
        assert check_key(key) == key
        assert len(key.encode()) <= MAX_KEY_BYTES


@given(KEYS)
def test_whatever_is_given_is_a_key_or_a_clear_error(key: Any) -> None:
    for check in (check_key, check_prefix):
        with contextlib.suppress(TypeError, ValueError, TooLarge):
            assert check(key) == key


@pytest.mark.slow
async def test_a_file_of_which_any_byte_may_be_another(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with open_store(f"sqlite:{path}") as store:
        for number in range(40):
            await store.commit({f"k{number}": b"%d" % number * 20, f"l{number}": b""}, when=last_writer_wins)
    good = path.read_bytes()
    chance = random.Random(3)
    refused = 0
    for _ in range(size(60, 2000)):
        harmed = bytearray(good)
        for _ in range(chance.choice([1, 1, 4, 64])):
            harmed[chance.randrange(len(harmed))] = chance.randrange(256)
        if chance.random() < 0.2:
            del harmed[chance.randrange(len(harmed)) :]
        for old in tmp_path.iterdir():
            old.unlink()
        path.write_bytes(harmed)
        try:
            # In a thread of its own, as sqlite's connections want it.
            await trio.to_thread.run_sync(_open_and_close, path)
        except OpenError as error:
            assert str(path) in str(error)  # noqa: PT017
            refused += 1
    assert refused > 10


def _open_and_close(path: Path) -> None:
    Database(path).close()
