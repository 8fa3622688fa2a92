"""``zookeeper:`` keeps the contract, on a real ZooKeeper."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.services.servers import ZooKeeperServers
from tests.services.store.servers_checked import BY_FAULT, WITHOUT_FAULT, check, faults_of

pytestmark = [pytest.mark.services, pytest.mark.slow]

#: The tests' servers take sessions of a second and more.
OPTIONS = "session=4"


@pytest.fixture
def own() -> Iterator[ZooKeeperServers]:
    """One that a test may harm."""
    with ZooKeeperServers() as servers:
        yield servers


@pytest.mark.parametrize("name", WITHOUT_FAULT)
async def test_check(name: str, zookeeper: ZooKeeperServers) -> None:
    await check(name, f"zookeeper://{zookeeper.hosts}/checked?{OPTIONS}")


@pytest.mark.parametrize("name", BY_FAULT["stall"] + BY_FAULT["restart"] + BY_FAULT["replace"])
async def test_check_with_a_fault(name: str, own: ZooKeeperServers) -> None:
    await check(name, f"zookeeper://{own.hosts}/checked?{OPTIONS}", faults=faults_of(own))
