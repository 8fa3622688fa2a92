"""``etcd:`` keeps the contract, on a real etcd."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.services.servers import EtcdServers
from tests.services.store.servers_checked import BY_FAULT, WITHOUT_FAULT, check, faults_of

pytestmark = [pytest.mark.services, pytest.mark.slow]


@pytest.fixture
def own() -> Iterator[EtcdServers]:
    """One that a test may harm."""
    with EtcdServers() as servers:
        yield servers


@pytest.mark.parametrize("name", WITHOUT_FAULT)
async def test_check(name: str, etcd: EtcdServers) -> None:
    await check(name, f"etcd://{etcd.hosts}/checked")


@pytest.mark.parametrize("name", BY_FAULT["stall"] + BY_FAULT["restart"] + BY_FAULT["replace"])
async def test_check_with_a_fault(name: str, own: EtcdServers) -> None:
    await check(name, f"etcd://{own.hosts}/checked", faults=faults_of(own))
