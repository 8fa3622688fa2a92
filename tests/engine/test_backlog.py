"""What a link keeps for later turns: in order, in little memory, and not without end."""

from __future__ import annotations

import random
import tracemalloc
from typing import Final

import pytest

from duplex import Limits
from duplex.engine.links._backlog import Backlog
from duplex.transports import Frames

#: Messages of sizes around those from which on they are kept in another manner, and of several frames.
SIZES: Final = (0, 1, 80, 1023, 1024, 1025, 70_000)


def _message(source: random.Random) -> list[bytes]:
    frames = 1 if source.random() < 0.8 else source.randint(2, 3)
    return [source.randbytes(source.choice(SIZES)) for _ in range(frames)]


@pytest.mark.parametrize("seed", range(5))
def test_messages_come_out_as_they_went_in(seed: int) -> None:
    source = random.Random(seed)
    backlog = Backlog(Limits())
    expected: list[list[bytes]] = []
    taken: list[Frames] = []
    for _ in range(2000):
        if backlog.messages and source.random() < 0.4:
            taken.append(backlog.take())
        else:
            message = _message(source)
            expected.append(message)
            backlog.add(message)
    assert backlog.size == sum(64 + sum(map(len, frames)) for frames in expected[len(taken) :])
    while backlog.messages:
        taken.append(backlog.take())
    assert [list(frames) for frames in taken] == expected
    assert backlog.size == 0


def test_what_was_received_into_other_buffers_is_kept_as_bytes() -> None:
    backlog = Backlog(Limits())
    buffer = bytearray(b"one")
    backlog.add([memoryview(buffer)])
    buffer[:] = b"two"
    assert backlog.take() == (b"one",)


def test_small_messages_take_no_more_memory_than_they_count_for() -> None:
    backlog = Backlog(Limits())
    tracemalloc.start()
    try:
        for number in range(50_000):
            backlog.add([b"%080d" % number])
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken < backlog.size == 50_000 * 144


def test_how_much_is_kept() -> None:
    """A window, a message more, and the metadata of all calls that there may be; or another window, if that is more."""
    for metadata, most in ((1000, 50_000), (4000, 70_000)):
        limits = Limits(link_window=20_000, max_message=10_000, max_channels=10, max_metadata=metadata)
        backlog = Backlog(limits)
        backlog.add([bytes(most - 64)])
        assert not backlog.is_too_much
        backlog.add([b""])
        assert backlog.is_too_much
