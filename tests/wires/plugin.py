"""What makes the tests of the engine run over the wires of this directory: ``pytest --wire=NAME``.

The tests themselves do not know. They name an endpoint, and what is behind its scheme is put there for the time of a
test. All that is left to chance, the order of tasks in trio included, follows from a seed, which the header shows.

Without the option every test runs over the plain wire, and some of them over one of the others, too: always the same
ones, so that a change is what makes them fail.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.wires.elsewhere import is_about_elsewhere
from tests.wires.orders import ORDERS
from tests.wires.place import ENCRYPTED, LIBZMQ, PROCESS, SOCKETS, in_place, shuffle_tasks

#: Nothing in between.
PLAIN: Final = "plain"
#: All over the plain wire, and a sample over others.
SAMPLE: Final = "sample"

#: Where the sample is from, and one of how many it has; of these files all tests: what they are about has come in the
#: wrong order before.
SAMPLED: Final = ("tests/engine", "tests/client")
ONE_OF: Final = 4
ALL_OF: Final = ("test_channels.py", "test_channels_nested.py", "test_callbacks.py", "test_send_eof.py")

MARKERS: Final = (
    "in_memory(why): needs memory:// to be in memory",
    "without_libzmq(why): is about what libzmq cannot do",
    "plain_wire(why): says nothing over other wires, as it counts messages or turns",
    "one_process(why): needs its server in its own process",
)
#: What tests that name it need, by the wire over which they do not have it.
_NEEDED: Final = {
    SOCKETS: ("in_memory", "memory://"),
    ENCRYPTED: ("in_memory", "memory://"),
    LIBZMQ: ("without_libzmq", "sockets of Duplex's own"),
}
#: Fixtures of clocks that are not the machine's.
_CLOCKS: Final = frozenset({"autojump_clock", "mock_clock"})
#: Fixtures of what is one for each process: a clock that jumps, a log.
_OWN: Final = frozenset({"autojump_clock", "mock_clock", "caplog", "capsys"})


def add_options(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("duplex")
    group.addoption(
        "--wire",
        default=SAMPLE,
        choices=[SAMPLE, PLAIN, *ORDERS, PROCESS, SOCKETS, ENCRYPTED, LIBZMQ],
        help="how messages come to their receivers; by default a sample of tests runs over others, too",
    )
    group.addoption("--wire-seed", help="an earlier run's seed, to have it again")


def configure(config: pytest.Config) -> None:
    """Choose the seed."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    if config.option.wire_seed is None:
        config.option.wire_seed = str(random.SystemRandom().randrange(10**6))


def header(config: pytest.Config) -> str:
    """Say how to have the same again."""
    return f"wire: --wire={config.option.wire} --wire-seed={config.option.wire_seed}"


def skip_others(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what says nothing over the wire that was asked for."""
    wire = config.option.wire
    for item in items:
        reason = _why_not(wire, item) if wire in (*ORDERS, PROCESS, SOCKETS, ENCRYPTED, LIBZMQ) else None
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))


def _why_not(wire: str, item: pytest.Item) -> str | None:
    if wire in _NEEDED:
        name, what = _NEEDED[wire]
        marker = item.get_closest_marker(name)
        return None if marker is None else f"needs {what}: {marker.args[0]}"
    marker = item.get_closest_marker("plain_wire")
    if marker is not None:
        return f"over the plain wire only: {marker.args[0]}"
    if wire == PROCESS:
        marker = item.get_closest_marker("one_process")
        if marker is not None:
            return f"in one process only: {marker.args[0]}"
        if own := _OWN.intersection(getattr(item, "fixturenames", ())):
            return f"in one process only: uses {', '.join(sorted(own))}"
    return None


def skip_if_elsewhere(error: BaseException) -> None:
    """Skip a test that has failed because it looks at what is in another process."""
    why = is_about_elsewhere(error)
    if why is not None:
        pytest.skip(f"in one process only: {why}")


def sample(metafunc: pytest.Metafunc) -> None:
    """Let a test that is in the sample run twice."""
    test = metafunc.definition
    if metafunc.config.option.wire != SAMPLE or any(map(test.get_closest_marker, ("plain_wire", "slow"))):
        return
    wire = sampled(test.path.relative_to(test.config.rootpath), test.name)
    if wire != PLAIN:
        metafunc.parametrize("wire", [PLAIN, wire], indirect=True)


def sampled(path: Path, name: str) -> str:
    """Return the other wire for a test of the sample, and ``PLAIN`` for one that is not in it."""
    if not path.as_posix().startswith(SAMPLED):
        return PLAIN
    number = zlib.crc32(f"{path.name}::{name}".encode())
    if path.name not in ALL_OF and number % ONE_OF:
        return PLAIN
    return sorted(ORDERS)[number // ONE_OF % len(ORDERS)]


def use_wire(request: pytest.FixtureRequest) -> Iterator[None]:
    """Put the wire in place for one test."""
    seed = f"{request.config.option.wire_seed} {request.node.nodeid}"
    shuffle_tasks(seed)
    wire = getattr(request, "param", request.config.option.wire)
    has_clock = not _CLOCKS.isdisjoint(request.fixturenames)
    with in_place(wire, seed, request.function, has_clock=has_clock):
        yield
