"""Every input of the corpus, again; and that what the fuzzers rely on does what they think it does."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from duplex_services.discovery._dns._server import DnsFront
from tests.fuzz import doors, live
from tests.fuzz.inputs import HELLO, Message, Mutator, join, pack, split, unpack
from tests.fuzz.seeds import CORPUS, LONGEST, seeds
from tests.fuzz.targets import TARGETS

#: The corpus is part of every checkout.
MOST_BYTES = 300 * 1024


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_corpus(target: str) -> None:
    inputs = sorted((CORPUS / target).iterdir())
    assert len(inputs) > 50
    for path in inputs:
        TARGETS[target](path.read_bytes())


def test_the_corpus_is_small_and_has_the_vectors() -> None:
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} == set(TARGETS)
    assert sum(path.stat().st_size for path in files) < MOST_BYTES
    kept = {(path.parent.name, path.read_bytes()) for path in files}
    assert {seed for seed in seeds() if len(seed[1]) <= LONGEST} <= kept, "run `python -m tests.fuzz.seeds`"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_changed_inputs(seed: int) -> None:
    """A little fuzzing without guidance, the same every time."""
    mutator = Mutator(random.Random(seed))
    paths: list[Path] = sorted((CORPUS / "connection").iterdir())
    for _ in range(300):
        data = mutator.random.choice(paths).read_bytes()
        for _ in range(4):
            data = mutator.change(data)
            TARGETS["connection"](data)


def test_inputs_can_be_taken_apart() -> None:
    messages = [Message(7, [b"one", b"", b"three"]), Message(63, [b""])]
    assert split(join(5, messages)) == (5, messages)
    assert split(b"") == (0, [])
    assert split(b"\x01\x02\x00\x09abc") == (1, [Message(0, [b"abc", b"", b""])])


def test_most_changed_commands_can_still_be_read() -> None:
    """Otherwise nothing behind the decoder would be reached."""
    mutator = Mutator(random.Random(1))
    frames = [mutator.change_frames([pack([HELLO])])[0] for _ in range(200)]
    assert sum(isinstance(unpack(frame), list) for frame in frames) > 120


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["tcp", "ipc"])
def test_live_peer(scheme: str) -> None:
    result = live.run(scheme, 600, seed=1)
    assert result.findings == []
    assert result.inputs == 600
    assert result.broken_zmtp == 30
    assert result.calls >= 3


@pytest.mark.slow
@pytest.mark.parametrize(("door", "inputs"), [("dns", 1500), ("http", 600)])
def test_doors(door: str, inputs: int) -> None:
    assert doors.run(door, inputs, seed=1) == (inputs, [])


def test_a_door_that_fails_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DnsFront, "answer", lambda *args, **options: b"\xff" * 20)
    count, [found, *_] = doors.run("dns", 10, seed=1)
    assert count == 1
    assert "it fails" in found or "it answers" in found
