"""Our own peer passes every scenario, whichever side of the link it is."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio

import duplex
from duplex.conformance import FAILED, NOT_TESTED, PASSED, Result, run, select
from tests.conformance.helpers import LIMITS, SCENARIOS, connect_for_ever, own_peer, patient, results_of
from tests.conformance.situation import Standstill, situation

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured("runs the scenarios once more")]


@pytest.fixture(autouse=True)
def quiet(caplog: Any) -> None:
    """The peer logs every violation."""
    caplog.set_level(logging.CRITICAL, "duplex")


def told(results: dict[str, Result]) -> str:
    return "\n".join(
        f"{name}: step {result.step}: expected {result.expected}, came {result.came}{result.reason}"
        for name, result in results.items()
        if result.outcome != PASSED and not result.other_role
    )


@pytest.mark.parametrize("limits", [LIMITS, duplex.Limits()], ids=["small limits", "default limits"])
async def test_as_the_binding_side(limits: duplex.Limits) -> None:
    situations: list[str] = []

    def note(result: Result) -> None:
        if result.outcome == FAILED and not situations:
            situations.append(f"when {result.scenario.id} failed:\n{situation(peer)}")

    async with own_peer(limits=limits) as (peer, endpoint):
        with Standstill() as standstill:
            results = await results_of(endpoint, list(SCENARIOS.values()), on_result=note)
    failed = {name: result for name, result in results.items() if result.outcome == FAILED}
    assert not failed, "\n".join([told(failed), str(standstill), *situations])
    untested = {
        name: result
        for name, result in results.items()
        if result.outcome == NOT_TESTED and not result.other_role
    }
    # 4096 notifications that run at once are more than the default link window allows, and so on.
    few = set() if limits is LIMITS else {"dmtp/5.4/does-not-count", "dmtp/11/V15", "dmtp/11/order-of-V24"}
    assert untested.keys() == {*few, "drpc/9.1/without-keys"}, told(untested)


async def test_as_the_connecting_side() -> None:
    chosen = [
        *(scenario for scenario in SCENARIOS.values() if scenario.role == "connecting"),
        *select(
            SCENARIOS.values(), ["dmtp/1", "dmtp/5.1", "dmtp/7", "dmtp/8", "dmtp/11/V1*", "drpc/6", "drpc/7"]
        ),
    ]
    scenarios = list({scenario.id: scenario for scenario in chosen}.values())
    async with trio.open_nursery() as nursery:
        offer, results = await run(
            scenarios,
            "tcp://127.0.0.1:*",
            listen=True,
            timing=patient(),
            connect_timeout=20,
            on_endpoint=lambda endpoint: nursery.start_soon(connect_for_ever, endpoint),
        )
        nursery.cancel_scope.cancel()
    by_id = {result.scenario.id: result for result in results}
    assert not told(by_id), told(by_id)
    assert sum(result.outcome == PASSED for result in results) > 50
    assert "echo" in offer.methods
