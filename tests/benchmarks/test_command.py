"""The command: what it takes, what it refuses, and a very short run of everything."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.peers import PEERS, entry_of
from benchmarks.peers import __main__ as process
from benchmarks.scenarios import SCENARIOS

SHORT = ["--repeats", "1", "--seconds", "0.05"]


@pytest.mark.slow
@pytest.mark.parametrize("peer", ["duplex", "duplex-inline", "pyzmq"])
def test_every_scenario_gives_a_figure(peer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "report.json"
    assert main(["--peers", peer, *SHORT, "--json", str(file)]) == 0, capsys.readouterr().out
    report = json.loads(file.read_text(encoding="utf-8"))
    assert list(report["figures"][peer]) == list(SCENARIOS) == ["a", "b", "c", "d"]
    for cell in report["figures"][peer].values():
        assert len(cell["repeats"]) == 1
        assert cell["median"] > 0
    assert report["failures"] == []
    output = capsys.readouterr()
    assert output.out.startswith("a = ")
    assert "failed" not in output.out
    assert len(output.err.splitlines()) == len(SCENARIOS)


@pytest.mark.slow
def test_grpc_gives_a_figure(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("grpc", reason="grpcio is not installed: pip install -e '.[bench]'")
    assert main(["--peers", "grpc", *SHORT]) == 0, capsys.readouterr().out


def test_missing_peer_is_named_and_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = dataclasses.replace(PEERS["grpc"], requires="no_such_module")
    monkeypatch.setitem(PEERS, "grpc", missing)
    assert main(["--peers", "grpc", *SHORT]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "grpc is left out: it needs the module no_such_module (pip install -e '.[bench]')",
        "no peer is left to measure",
    ]


@pytest.mark.slow
def test_failure_is_reported_and_sets_the_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = entry_of("tests.benchmarks.broken_peers:CRASHES_AT_START")
    monkeypatch.setitem(PEERS, "broken", broken)
    assert main(["--peers", "broken", "--scenarios", "a", *SHORT]) == 1
    output = capsys.readouterr().out
    assert "FAILED: " in output
    assert "ArithmeticError: broken at start" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--peers", "duplex,carrier-pigeon"], "carrier-pigeon is not one of duplex, "),
        (["--scenarios", "a,z"], "z is not one of a, b, c, d"),
        (["--peers", ","], "nothing is not one of"),
        (["--repeats", "0"], "'0' is not a number above 0"),
        (["--seconds", "soon"], "'soon' is not a number above 0"),
        (["--seconds", "nan"], "'nan' is not a number above 0"),
    ],
)
def test_wrong_arguments_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_process_refuses_an_unknown_peer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["peers", "serve", "carrier-pigeon"])
    with pytest.raises(SystemExit):
        process.main()
    assert "there is no peer 'carrier-pigeon'" in capsys.readouterr().err
