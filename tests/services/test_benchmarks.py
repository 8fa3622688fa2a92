"""Discovery under load, measured small: that every figure is there, and those that hold on any machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.services import _command, _stores
from tests.services import servers

pytestmark = pytest.mark.unmeasured("registers and calls much of what the others try once")

SMALL = ["--holders", "2", "--watchers", "3", "--rate", "20", "--seconds", "1", "--ttl", "1.5"]


@pytest.mark.slow
def test_discovery_under_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "figures.json"
    main(["services", "--only", "scale", "view", "dns", "--instances", "30", *SMALL, "--json", str(file)])
    found = json.loads(file.read_text())
    scale, alone = found["discovery"]["30"], found["in one process"]["30"]
    assert scale["store writes at rest"] == 0
    assert scale["half killed: s beyond the TTL"] > -0.1
    assert 0 < scale["a change at a watcher, ms, p50"] <= scale["a change at a watcher, ms, p99"]
    assert alone["DNS answers a second of CPU, kept"] > alone["DNS answers a second of CPU, made"] / 2
    assert all(value >= 0 for name, value in (scale | alone).items() if "memory" not in name)
    assert "half killed: all know, s" in capsys.readouterr().out


@pytest.mark.slow
def test_discovery_beside_consul(tmp_path: Path) -> None:
    program = servers.program("consul", "consul")
    file = tmp_path / "figures.json"
    words = ["--only", "consul", "--instances", "20", "--consul", program, *SMALL, "--json", str(file)]
    assert main(["services", *words]) == 0
    found = json.loads(file.read_text())[_command.BESIDE]
    assert list(found) == ["discovery", "Consul"]
    assert found["discovery"]["lookups/s, Duplex, 8 at a time"] > 0
    for figures in found.values():
        assert 0 < figures["a change at a watcher, HTTP, ms, p50"] < 60_000
        assert figures["lookups/s, HTTP, 1 at a time"] > 0


@pytest.mark.slow
def test_stores_beside_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_stores, "KINDS", ("memory", "sqlite", "duplex", "etcd"))
    file = tmp_path / "figures.json"
    assert main(["services", "--only", "stores", "--seconds", "0.2", "--json", str(file)]) == 0
    found = json.loads(file.read_text())[_command.STORES]
    assert list(found)[:3] == ["memory", "sqlite", "duplex"]
    for figures in found.values():
        assert figures["commits a second, 32 at a time"] > 0
        assert all(value > 0 for value in figures.values())
    assert "a commit at a watch, ms, p50" in capsys.readouterr().out


def test_a_store_whose_program_is_not_here_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> str:
        pytest.skip("it is not installed")

    monkeypatch.setattr(_stores, "KINDS", ("etcd",))
    monkeypatch.setattr(servers, "program", missing)
    said: list[str] = []
    assert _stores.stores(0.1, said.append) == {}
    assert said == ["etcd", "etcd is not here"]


def test_bounds_that_are_not_kept_are_told() -> None:
    good = {"a lookup in process, us": 1.0, "DNS answers a second of CPU, made": 2500.0}
    assert _command._missed({"10": good}) == []
    bad = {"a lookup in process, us": 6.0, "DNS answers a second of CPU, made": 2000.0}
    assert _command._missed({"10": bad}) == [
        "a lookup in process, us: 6 with 10 instances, not 5",
        "DNS answers a second of CPU, made: 2 000 with 10 instances, not 2 500",
    ]


def test_growth_is_told() -> None:
    columns = {"10": {"x": 1.0}, "100": {"x": 10.0, "y": 1.0}, "1000": {"x": 100.0}}
    table = _command._table("t", columns, is_growth=True)
    assert list(table.header)[-1] == "grows as n to the"
    assert table.rows == [["x", "1", "10.0", "100.0", "1.00"], ["y", "", "1", "", ""]]
