"""``consul:`` keeps the contract, on a real Consul."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.services.servers import ConsulServers
from tests.services.store.servers_checked import BY_FAULT, WITHOUT_FAULT, check, faults_of

pytestmark = [pytest.mark.services, pytest.mark.slow]

#: Seconds of the shortest session.
TTL = 10.0


@pytest.fixture
def own() -> Iterator[ConsulServers]:
    """One that a test may harm, and that keeps what it knows."""
    with ConsulServers() as servers:
        yield servers


@pytest.mark.parametrize("name", WITHOUT_FAULT)
async def test_check(name: str, consul: ConsulServers) -> None:
    await check(name, f"consul://{consul.hosts}/checked", ttl=TTL)


# Consul's leases are long, so what takes half a minute is left to `make faults-services`.
_SHORT = [name for name in BY_FAULT["stall"] if name != "stall_lease"]


@pytest.mark.parametrize("name", _SHORT + BY_FAULT["restart"] + BY_FAULT["replace"])
async def test_check_with_a_fault(name: str, own: ConsulServers) -> None:
    await check(name, f"consul://{own.hosts}/checked", ttl=TTL, faults=faults_of(own))


@pytest.mark.parametrize("name", BY_FAULT["replace"])
async def test_dev_agent_that_is_replaced(name: str) -> None:
    with ConsulServers(dev=True) as servers:
        await check(name, f"consul://{servers.hosts}/checked", ttl=TTL, faults=faults_of(servers))
