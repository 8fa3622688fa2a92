"""``duplex stats`` and ``duplex top``: what peers have counted, as tables."""

from __future__ import annotations

import json
import math
import os
import pty
import re
import signal
import subprocess
import sys
from typing import Any

import msgspec
import pytest

import duplex
from duplex.builtin import Snapshot
from duplex.cli import _stats, _top
from tests.cli.conftest import Invoke
from tests.cli.harness import CALC, finish, run, serving, start
from tests.machine import within


def snapshot(*methods: duplex.MethodStatistics, uptime: float = 10.0, peer: str = "p") -> Snapshot:
    return Snapshot(
        peer_id=peer, peer_name="calc", uptime=uptime, unknown_methods=0, methods=list(methods), links=[]
    )


def counted(method: str = "calc.add", **changes: Any) -> duplex.MethodStatistics:
    values: dict[str, Any] = {
        "method": method,
        "direction": "served",
        "calls": 100,
        "in_flight": 0,
        "errors": {},
        "seconds": 1.0,
        "latencies": [(0.001, 90), (0.1, 10)],
        "bytes_received": 1000,
        "bytes_sent": 5_000_000,
        "credit_waits": 0,
    }
    return duplex.MethodStatistics(**{**values, **changes})


# -- numbers alone ---------------------------------------------------------------------------------------


def test_a_row_of_all_that_was_counted() -> None:
    (row,) = _stats.rows(
        snapshot(counted(errors={"NOT_FOUND": 2, "ABORTED": 1}, in_flight=4, credit_waits=7))
    )
    assert row.cells(per_second=False) == (
        *("calc.add", "served", "100", "3", "4", "958 us", "95.8 ms", "1 kB", "5 MB", "7"),
    )


def test_a_row_of_what_came_since() -> None:
    before = snapshot(counted(errors={"ABORTED": 1}), uptime=10.0)
    later = counted(
        errors={"ABORTED": 3},
        latencies=[(0.001, 90), (0.1, 10), (2.0, 10)],
        bytes_received=2000,
        bytes_sent=5_000_100,
        credit_waits=2,
    )
    (row,) = _stats.rows(snapshot(later, uptime=12.0), before)
    assert row.cells(per_second=True) == (
        *("calc.add", "served", "5.0/s", "2", "", "1.92 s", "1.92 s", "500 B/s", "50 B/s", "2"),
    )


def test_another_life_of_the_peer_is_no_measure() -> None:
    for before in snapshot(counted(), peer="q"), snapshot(counted(), uptime=99.0):
        (row,) = _stats.rows(snapshot(counted()), before)
        assert row.calls == 100


def test_without_calls_there_are_no_percentiles() -> None:
    (row,) = _stats.rows(snapshot(counted()), snapshot(counted(), uptime=9.0))
    assert (row.p50, row.p99) == (None, None)
    assert _stats.text_table([], per_second=False) == ["no calls"]


def test_what_every_peer_has_is_shown_if_asked_for() -> None:
    one = snapshot(counted("duplex.health.check"), counted())
    assert [row.method for row in _stats.rows(one)] == ["calc.add"]
    assert [row.method for row in _stats.rows(one, everything=True)] == ["duplex.health.check", "calc.add"]


def test_heading() -> None:
    one = snapshot(uptime=7300.0)
    assert _stats.heading(one) == "calc  up 2 h 1 min  0 links"
    one = msgspec.structs.replace(one, peer_name="", uptime=61.0, unknown_methods=3)
    assert _stats.heading(one) == "p  up 1 min  0 links  3 calls of unknown methods"
    one = msgspec.structs.replace(one, unknown_methods=1)
    assert _stats.heading(one) == "p  up 1 min  0 links  1 call of unknown methods"


def test_statistics_that_cannot_be_understood() -> None:
    with pytest.raises(duplex.Internal, match="cannot be understood"):
        _stats.read({"peer_id": 3})
    for uptime in (math.nan, math.inf):
        with pytest.raises(duplex.Internal, match="cannot be understood: it is up for"):
            _stats.read(msgspec.to_builtins(snapshot(uptime=uptime)))


def test_the_busiest_method_comes_first() -> None:
    watched = _top.Watched("tcp://h:1")
    assert watched.title == "tcp://h:1: not linked yet"
    assert watched.rows(everything=False) == []
    idle, busy = counted("a.idle"), counted("a.busy")
    watched.note(snapshot(idle, busy))
    assert watched.rows(everything=False) == [], "there is nothing to compare with yet"
    more = [(0.001, 190), (0.1, 10)]
    watched.note(
        snapshot(
            idle,
            msgspec.structs.replace(busy, latencies=more),
            counted("a.hangs", latencies=[], in_flight=1),
            uptime=11.0,
        )
    )
    names = [row.method for row in watched.rows(everything=False)]
    assert names == ["a.busy", "a.hangs"], "what does nothing is left out"


# -- the commands ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_stats() -> None:
    with serving(CALC) as server:
        for _ in range(2):
            assert run("call", server.endpoint, "calc.add", 1, 2).code == 0
        assert run("call", server.endpoint, "calc.divide", 1, 0).code != 0
        result = run("stats", server.endpoint)
        assert (result.code, result.err) == (0, "")
        heading, columns, *lines = result.out.splitlines()
        assert re.fullmatch(r"calc  up \d+ s  (1 link|\d+ links)", heading)
        assert columns.split()[:4] == ["method", "direction", "calls", "errors"]
        assert [line.split()[:3] for line in lines] == [
            ["calc.add", "served", "2"],
            ["calc.divide", "served", "1"],
        ]
        assert lines[1].split()[3] == "1"
        everything = run("stats", server.endpoint, "--all").out
        assert "duplex.reflection.describe" in everything
        told = json.loads(run("stats", server.endpoint, "-o", "json").out)
        (add,) = (one for one in told["methods"] if one["method"] == "calc.add")
        assert (add["calls"], add["errors"]) == (2, {})


def test_a_peer_that_counts_nothing(invoke: Invoke, tmp_path: Any) -> None:
    script = tmp_path / "quiet.py"
    script.write_text(
        "import duplex, trio\n"
        "async def main():\n"
        "    async with duplex.open_peer(stats=False, name='quiet') as peer:\n"
        "        print(await peer.bind('tcp://127.0.0.1:*'), flush=True)\n"
        "        await trio.sleep_forever()\n"
        "trio.run(main)\n"
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            endpoint = process.stdout.readline().strip()
            result = invoke("stats", endpoint)
            assert result.code == 64 + duplex.StatusCode.UNIMPLEMENTED
            assert "quiet does not tell what it counts" in result.err
        finally:
            process.kill()


@pytest.mark.slow
def test_top_without_a_terminal() -> None:
    with serving(CALC) as server:
        with start("top", server.endpoint, "tcp://127.0.0.1:9", "--interval", "0.3", "--count", "400") as top:
            assert top.stdout is not None
            load = start("bench", server.endpoint, "calc.add", 1, 2, "--duration", "60s", "--warmup", "0")
            with load:
                seen = gone = ""
                while not (seen and gone):
                    line = top.stdout.readline()
                    assert line, "the looks have ended before a call was seen"
                    if "calc.add" in line:
                        seen = line
                    elif "tcp://127.0.0.1:9: nothing listens" in line:
                        gone = line
                load.send_signal(signal.SIGINT)
                finish(load)
            top.send_signal(signal.SIGINT)
            result = finish(top)
        assert seen.split()[:2] == ["calc.add", "served"]
        assert float(seen.split()[2].removesuffix("/s")) > 0
        assert result.code == 128 + signal.SIGINT


@pytest.mark.slow
def test_top_on_a_terminal() -> None:
    with serving(CALC) as server:
        leader, follower = pty.openpty()
        try:
            with start("top", server.endpoint, "--interval", "0.2", "--count", "4", stdout=follower) as top:
                os.close(follower)
                drawn = b""
                while True:
                    try:
                        part = os.read(leader, 65536)
                    except OSError:  # the command has closed its end
                        break
                    if not part:
                        break
                    drawn += part
                assert top.wait(within(60)) == 0
        finally:
            os.close(leader)
    assert b"calc  up" in drawn
    assert b"\x1b[" in drawn, "it is drawn over what was there before"


def test_top_needs_an_endpoint(invoke: Invoke) -> None:
    assert invoke("top").code == 2
    assert invoke("top", ":1", "--interval", "0.01").code == 2
