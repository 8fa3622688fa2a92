"""Counting bytecodes: by layer, and free of what is done once."""

from __future__ import annotations

import subprocess
import sys

import pytest

import duplex
import duplex.protocol
from benchmarks._bytecode import Cost, layer_of, total

#: In a process of its own: here the measuring of coverage uses the only trace function there is.
_PROGRAM = """
from benchmarks._bytecode import count
few, many = count("unary", 20, 60), count("unary", 20, 120)
for layer in ("trio", "duplex.engine", "duplex.protocol", "duplex.transports", "duplex.codec", "the program itself"):
    print(layer, few[layer].bytecodes, many[layer].bytecodes, many[layer].calls)
"""


def test_layers_of_a_call() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=120, check=True
    )
    rows = [line.rsplit(" ", 3) for line in ran.stdout.splitlines()]
    assert len(rows) == 6
    for layer, few, many, calls in rows:
        assert float(calls) >= 1, layer
        assert float(many) == pytest.approx(float(few), rel=0.3), f"{layer}: the same work, done more often"


def test_sums() -> None:
    assert total([Cost(1, 2), Cost(3, 4)]) == Cost(4, 6)
    assert total([]) == Cost(0, 0)


@pytest.mark.parametrize(
    ("filename", "layer"),
    [
        (duplex.__file__, "duplex"),
        (duplex.protocol.__file__, "duplex.protocol"),
        ("/x/lib/python3.11/contextlib.py", "the standard library"),
        (layer_of.__code__.co_filename, "the program itself"),
        ("/x/site-packages/trio/_core/_run.py", "trio"),
        ("/x/site-packages/outcome/_impl.py", "trio"),
        ("/x/site-packages/zmq/sugar/socket.py", "pyzmq"),
    ],
)
def test_layer_of_a_file(filename: str, layer: str) -> None:
    assert layer_of(filename) == layer
