"""The network between the two sides fails, wholly or in part."""

from __future__ import annotations

import pytest

from tests.faults.checks import KEEPALIVE
from tests.faults.fault_network import PATIENT, SPARING, bad_wire, blip, cut

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("namespaces")]


@pytest.mark.parametrize("ways", [("ab", "ba"), ("ab",), ("ba",)], ids=["both", "to client", "to server"])
async def test_cut_and_mended(ways: tuple[str, ...]) -> None:
    (await cut(ways)).assert_good()


async def test_timeout_holds_however_seldom_pings_are() -> None:
    (await cut(("ab", "ba"), SPARING)).assert_good()


async def test_cut_that_is_shorter_than_the_timeout() -> None:
    (await blip(0.7)).assert_good()


async def test_delay() -> None:
    report = await bad_wire("delay", KEEPALIVE, tasks=3, length=5, times=2, least=0.2, delay=0.1)
    report.assert_good()


async def test_loss() -> None:
    (await bad_wire("loss", PATIENT, tasks=3, length=30, times=3, loss=0.05)).assert_good()
