"""Two runs beside each other."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks._compare import Change, changes, comparison, differences, missing_in_one
from benchmarks._results import Conditions, Failure, Outcome, Results


def run_with(duplex: float, grpc: float, aiozmq: float, *, repeats: int = 1) -> Results:
    results = Results(["duplex", "grpc", "aiozmq"], ["latency", "unary"])
    for peer, figure in (("duplex", duplex), ("grpc", grpc), ("aiozmq", aiozmq)):
        for _ in range(repeats):
            results.add(peer, "latency", Outcome({"p50": figure}))
    return results


def change_of(before: Results, after: Results, peer: str = "duplex") -> Change:
    return next(change for change in changes(before, after) if change.peer == peer)


@pytest.mark.parametrize(
    ("after", "relative", "verdict"),
    [
        ((100, 400, 200), 1.0, "same"),
        ((200, 800, 400), 1.0, "same"),  # the machine was slower, for all
        ((120, 400, 200), 1.2, "same"),  # that is noise
        ((150, 400, 200), 1.5, "worse"),
        ((60, 400, 200), 0.6, "better"),
        ((100, 200, 100), 2.0, "worse"),  # it did not gain where others did
    ],
)
def test_changes_are_seen_beside_the_others(
    after: tuple[float, float, float], relative: float, verdict: str
) -> None:
    change = change_of(run_with(100, 400, 200), run_with(*after))
    assert change.relative == pytest.approx(relative)
    assert change.verdict == verdict


def test_higher_is_better_for_rates() -> None:
    before, after = Results(["duplex"], ["unary"]), Results(["duplex"], ["unary"])
    before.add("duplex", "unary", Outcome({"64": 1000.0}))
    after.add("duplex", "unary", Outcome({"64": 2000.0}))
    change = change_of(before, after)
    assert change.drift is None
    assert change.verdict == "better"
    assert change_of(after, before).verdict == "worse"


def test_what_repeats_differ_by_is_noise() -> None:
    before, after = run_with(100, 400, 200), run_with(150, 400, 200)
    after.add("duplex", "latency", Outcome({"p50": 100.0}))
    after.add("duplex", "latency", Outcome({"p50": 200.0}))
    change = change_of(before, after)
    assert change.noise == pytest.approx(100 / 150)
    assert change.verdict == "same"


def test_table_has_duplex_first_and_only_what_both_have() -> None:
    before, after = run_with(100, 400, 200), run_with(150, 400, 200)
    before.peers.insert(0, "rpyc")
    before.add("rpyc", "latency", Outcome({"p50": 1.0}))
    table = comparison(before, after)
    assert [row[0] for row in table.rows] == ["duplex latency.p50", "grpc latency.p50", "aiozmq latency.p50"]
    assert list(table.rows[0][1:]) == ["100.0", "150.0", "1.50", "1.50", "±0%", "worse"]


def test_what_only_one_run_has_is_told() -> None:
    before, after = run_with(100, 400, 200), run_with(150, 400, 200)
    before.peers.append("rpyc")
    before.add("rpyc", "latency", Outcome({"p50": 1.0}))
    after.add("grpc", "latency", Outcome({"p99": 1.0}))
    after.failures.append(Failure("aiozmq", "latency", "the server ended", ""))
    assert list(missing_in_one(before, after)) == [
        "only before: aiozmq: all 1 figures",
        "only before: rpyc: all 1 figures",
        "only after: grpc: latency.p99",
        "failed after: aiozmq in latency: the server ended",
    ]
    assert not list(missing_in_one(before, before))


def test_other_conditions_are_told(how: Conditions) -> None:
    other = dataclasses.replace(how, when="later", load=9.0, pinned=True)
    assert list(differences(how, other)) == ["not the same conditions: pinned was False, then True"]
