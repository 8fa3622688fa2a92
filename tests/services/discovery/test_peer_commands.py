"""How a command chooses among the instances of a service."""

from __future__ import annotations

import random
from collections import Counter

import pytest

import duplex
from duplex.cli._probe import connect, in_turn
from duplex.resolvers import Known
from duplex_services.discovery import open_directory, open_server
from duplex_services.discovery.client import DiscoveryService, Registration, open_client
from tests.engine.named_service import named
from tests.machine import fail_after


def test_those_of_greater_weight_come_first_as_often_as_it_says() -> None:
    known = Known((duplex.Endpoint("tcp://a:1", weight=3), duplex.Endpoint("tcp://b:1", weight=1)))
    chance = random.Random(1)
    first = Counter(in_turn(known, chance)[0] for _ in range(4000))
    assert 2800 < first["tcp://a:1"] < 3200
    assert sorted(in_turn(known, chance)) == ["tcp://a:1", "tcp://b:1"]


async def test_another_instance_is_tried_where_one_is_gone(capsys: pytest.CaptureFixture[str]) -> None:
    with fail_after(30):
        async with (
            open_directory("memory:") as directory,
            open_server(directory, ["memory://*"]) as (_, ends),
            open_client(*ends) as registrar,
            duplex.open_peer(services=[named("a")], name="a") as worker,
            duplex.open_peer(discovery=ends, connect_timeout=5) as client,
        ):
            remote = registrar.service(DiscoveryService, name="discovery")
            dead = [
                Registration(f"dead-{n}", endpoint=f"tcp://127.0.0.1:{n}", protocol="duplex") for n in (1, 2)
            ]
            await remote.heartbeat("who", dead[0], 60.0)
            with pytest.raises(duplex.ConnectError, match=r"^nothing listens at tcp://127\.0\.0\.1:1"):
                await connect(client, "discovery://who")
            await remote.heartbeat("who", dead[1], 60.0)
            with pytest.raises(
                duplex.ConnectError, match="none of the 2 instances of discovery://who is linked"
            ):
                await connect(client, "discovery://who")
            endpoint = await worker.bind("tcp://127.0.0.1:*")
            await remote.heartbeat("who", Registration("alive", endpoint=endpoint, protocol="duplex"), 60.0)
            assert (await connect(client, "discovery://who")).peer_name == "a"
    assert capsys.readouterr().err == ""
