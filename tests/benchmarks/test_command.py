"""The command: what it takes, what it refuses, and a very short run of everything."""

from __future__ import annotations

import builtins
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as command
from benchmarks.__main__ import main
from benchmarks._results import Conditions, Results, to_json
from benchmarks.peers import PEERS, entry_of
from benchmarks.peers import __main__ as process
from benchmarks.scenarios import FIGURES, SCENARIOS

ROOT = Path(__file__).parents[2]
SHORT = ["--repeat", "1", "--seconds", "0.05", "--no-files"]
#: Those that take a second or less, of the peers that need nothing but what the tests need.
SCENARIOS_RUN = ["latency", "unary", "download", "upload", "bidi", "callbacks"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "said"), [(["list"], 0, ""), (["services"], 2, "psutil is missing")]
)
def test_what_only_the_tests_need_is_not_needed(words: list[str], code: int, said: str) -> None:
    """`make bench` has an environment of its own."""
    missing = dict.fromkeys(["psutil", "pytest", "pytest_trio", "hypothesis", "kazoo", "dns"])
    program = f"import sys; sys.modules.update({missing}); from benchmarks.__main__ import main; sys.exit(main({words}))"
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == code, ran.stderr
    assert said in ran.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "peer", ["duplex", "duplex-inline", "duplex-libzmq", "duplex-tls", "pyzmq", "trio-pyzmq", "tcp"]
)
def test_scenarios_give_all_their_figures(
    peer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "report.json"
    only = [name for name in SCENARIOS_RUN if SCENARIOS[name].needs <= PEERS[peer].abilities]
    arguments = ["--peers", peer, "--only", ",".join(only), *SHORT, "--json", str(file)]
    assert main(arguments) == 0, capsys.readouterr().out
    report = json.loads(file.read_text(encoding="utf-8"))
    expected = [name for name in FIGURES if name.partition(".")[0] in only]
    assert list(report["medians"][peer]) == expected
    assert all(figure > 0 for figure in report["medians"][peer].values())
    assert report["failures"] == []
    output = capsys.readouterr()
    assert output.out.startswith("Targets\n")
    assert len(output.err.splitlines()) == len(only)


@pytest.mark.slow
def test_features_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "report.json"
    arguments = ["--peers", "duplex", "--only", "features", *SHORT, "--json", str(file)]
    assert main(arguments) == 0, capsys.readouterr().out
    report = json.loads(file.read_text(encoding="utf-8"))
    features = {f"features.{name}" for name in SCENARIOS["features"].figures}
    assert set(report["medians"]["duplex"]) == features


@pytest.mark.slow
def test_methods_and_open_loops_are_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "report.json"
    only = "open-loop,scaling-methods,scaling-channels,cli"
    arguments = ["--peers", "duplex", "--only", only, *SHORT, "--json", str(file)]
    assert main(arguments) == 0, capsys.readouterr().out
    report = json.loads(file.read_text(encoding="utf-8"))
    medians = report["medians"]["duplex"]
    assert {"open-loop.1000-p50", "open-loop.20000-p99"} <= set(medians)
    assert "open-loop.1000-p99.99" not in medians  # of 200 calls nobody knows
    assert {"scaling-methods.rate-1000", "scaling-channels.memory-1000", "cli.call"} <= set(medians)
    assert set(report["histograms"]["duplex"]) == {f"open-loop.{rate}" for rate in (1000, 5000, 20000)}


@pytest.mark.slow
def test_grpc_gives_figures(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("grpc", reason="grpcio is not installed: pip install -e '.[test]'")
    arguments = ["--peers", "grpc", "--only", "latency,upload,bidi", *SHORT]
    assert main(arguments) == 0, capsys.readouterr().out


def test_missing_peer_is_named_in_the_report_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(PEERS, "grpc", dataclasses.replace(PEERS["grpc"], modules=("no_such_module",)))
    monkeypatch.setattr(command, "_measure", lambda *arguments: Results(["pyzmq"], ["latency"]))
    assert main(["--peers", "grpc,pyzmq", *SHORT]) == 0
    output = capsys.readouterr()
    reason = "it needs the module no_such_module (make bench installs it)"
    assert output.err.splitlines()[0] == f"grpc is missing: {reason}"
    assert f"MISSING: grpc: {reason}" in output.out


def test_peer_without_its_program_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lacking = dataclasses.replace(PEERS["nats"], modules=(), program="no-such-program")
    monkeypatch.setitem(PEERS, "nats", lacking)
    assert main(["--peers", "nats", *SHORT]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "nats is missing: it needs the program no-such-program (apt-get install nats-server, and make bench)",
        "no peer is left to measure",
    ]


@pytest.mark.slow
def test_failure_is_reported_and_sets_the_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = entry_of("tests.benchmarks.broken_peers:CRASHES_AT_START")
    monkeypatch.setitem(PEERS, "broken", broken)
    assert main(["--peers", "broken", "--only", "latency", *SHORT]) == 1
    output = capsys.readouterr().out
    assert "FAILED: " in output
    assert "ArithmeticError: broken at start" in output


def test_reports_are_written_kept_shown_and_compared(
    monkeypatch: pytest.MonkeyPatch, results: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def without_matplotlib(name: str, *arguments: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return importing(name, *arguments)

    importing = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    monkeypatch.setattr(command, "_measure", lambda *arguments: results)
    monkeypatch.setattr(command, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(command, "BASELINES", tmp_path / "baselines")
    results.failures.clear()
    assert main(["--peers", "duplex,pyzmq", "--keep", "here"]) == 0
    assert "no plots: matplotlib is not installed" in capsys.readouterr().err
    assert sorted(path.suffix for path in (tmp_path / "results").iterdir()) == [".json", ".md"]
    kept = tmp_path / "baselines" / "here.json"
    assert main(["report", str(kept)]) == 0
    assert "Targets" in capsys.readouterr().out
    assert main(["report", str(kept), "--markdown", "--targets"]) == 1
    assert capsys.readouterr().out.startswith("# Benchmarks")
    assert main(["compare", str(kept), str(kept)]) == 0
    assert "duplex latency.p50" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["report", "{}"], ["compare", "{}", "{}"]])
def test_files_that_are_no_reports(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "other.json"
    file.write_text("{}", encoding="utf-8")
    assert main([argument.format(file) for argument in arguments]) == 2
    assert "not a report" in capsys.readouterr().err
    assert main([argument.format(tmp_path / "none") for argument in arguments]) == 2


def test_list_names_peers_and_scenarios(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    output = capsys.readouterr().out
    for name in (*PEERS, *SCENARIOS):
        assert name in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--peers", "duplex,carrier-pigeon"], "carrier-pigeon is not one of duplex, "),
        (["--only", "latency,z"], "z is not one of latency, "),
        (["--peers", ","], "nothing is not one of"),
        (["run", "--repeat", "0"], "'0' is not a number above 0"),
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


def test_quick_leaves_out_what_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def measure(*arguments: Any) -> Results:
        asked.append(arguments)
        return Results(["duplex"], [])

    monkeypatch.setattr(command, "_measure", measure)
    assert main(["--quick", "--peers", "duplex", "--no-files"]) == 0
    _, scenarios, repeats, seconds, pin = asked[0]
    assert "open-loop" not in scenarios
    assert "latency" in scenarios
    assert (repeats, seconds, pin) == (1, 0.3, False)


def test_json_is_that_of_the_results(results: Results, how: Conditions) -> None:
    assert json.loads(json.dumps(to_json(results, how)))["peers"] == ["duplex", "grpc", "pyzmq"]
