"""A transport whose connections have turns of their own, so that several tasks receive at the same time from one port.

It is that of ``examples/own_transport.py``, with the identities that it proves.
"""

from __future__ import annotations

import importlib.util
import os
from typing import Any, Final

import pytest
import trio

import duplex
from duplex.testing import check_transport
from tests.docs.markdown import ROOT
from tests.engine.helpers import linked, quiet, until
from tests.machine import fail_after

_SPEC: Final = importlib.util.spec_from_file_location("own_transport", ROOT / "examples" / "own_transport.py")
assert _SPEC is not None
assert _SPEC.loader is not None
own_transport: Final = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(own_transport)

OPTIONS: Final[dict[str, Any]] = {"transports": [own_transport.UnixTransport()]}

service: Final = duplex.Service("service")


@service.rpc
async def add(a: int, b: int) -> int:
    return a + b


@service.rpc
async def wait(seconds: float) -> str:
    await trio.sleep(seconds)  # so that the handler takes the task that leads
    return "waited"


@service.rpc
async def count(to: int) -> Any:
    for number in range(to):
        yield number


@service.rpc
async def ask_back(number: int) -> int:
    link = duplex.current_call().link
    return int(await link.service("client").double(number)) + 1


@service.rpc
async def total(data: bytes) -> int:
    return len(data)


offered: Final = duplex.Service("client")


@offered.rpc
async def double(number: int) -> int:
    return 2 * number


@pytest.mark.slow
async def test_it_conforms() -> None:
    await check_transport(own_transport.UnixTransport(), "unix://*")


async def test_many_clients_of_one_port() -> None:
    with fail_after(20):
        async with duplex.open_peer(services=[service], **OPTIONS) as server:
            endpoint = await server.bind("unix://*")

            async def use(number: int) -> None:
                async with duplex.open_peer(services=[offered], **OPTIONS) as client:
                    link = await client.connect(endpoint)
                    remote = client.service("service")
                    for again in range(20):
                        assert await remote.add(number, again) == number + again
                    assert await remote.ask_back(number) == 2 * number + 1
                    assert await remote.wait(0.01) == "waited"
                    async with remote.count.open(200) as numbers:
                        assert [item async for item in numbers] == list(range(200))
                    assert await remote.total(b"x" * 3_000_000) == 3_000_000
                    await quiet(link)

            async with trio.open_nursery() as nursery:
                for number in range(12):
                    nursery.start_soon(use, number)
                await until(lambda: len(server._inside.workers.leads) == 12)
                assert {lead.port.endpoint for lead in server._inside.workers.leads.values()} == {endpoint}
            await until(lambda: not server.links)
            assert not server._inside.workers.leads
            await server.unbind(endpoint)


async def test_both_sides_receive_while_they_call() -> None:
    async with linked(service, endpoint="unix://*", offers=[offered], server=OPTIONS, client=OPTIONS) as pair:
        for link, name, method, numbers in (
            (pair.link, "service", "add", (2, 3)),
            (pair.back, "client", "double", (4,)),
        ):
            inside = link._inside
            lead = inside.lead
            assert lead is not None
            assert lead is inside.engine.workers.leads[inside.turns]
            taken: list[bool] = []
            take = lead.turns.take

            def note(*, lazily: bool = False, lead: Any = lead, taken: Any = taken, take: Any = take) -> bool:
                taken.append(lead.task is None)
                return bool(take(lazily=lazily))

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(lead.turns, "take", note)
                for _ in range(50):
                    await getattr(link.service(name), method)(*numbers)
            assert sum(taken) > 20, "hardly ever by the task that called"
        await pair.settle()


async def test_everybody_is_who_the_wire_says() -> None:
    async with linked(service, endpoint="unix://*", server=OPTIONS, client=OPTIONS) as pair:
        for link in (pair.link, pair.back):
            identity = link.remote.identity
            assert (identity.principal, identity.proof) == (f"uid:{os.getuid()}", "unix socket")
            assert identity.attributes == {"pid": os.getpid()}


@pytest.mark.parametrize("welcome", [True, False])
async def test_an_authenticator_goes_by_what_the_wire_has_proved(welcome: bool) -> None:
    allowed = f"uid:{os.getuid() if welcome else os.getuid() + 1}"

    async def authenticator(handshake: duplex.Handshake) -> duplex.Identity:
        if handshake.identity.principal != allowed:
            raise duplex.PermissionDenied("this is for another user")
        return duplex.Identity("operator", handshake.identity.proof)

    with fail_after(20):
        async with (
            duplex.open_peer(services=[service], authenticator=authenticator, **OPTIONS) as server,
            duplex.open_peer(**OPTIONS) as client,
        ):
            endpoint = await server.bind("unix://*")
            if welcome:
                link = await client.connect(endpoint)
                assert await link.service("service").add(1, 2) == 3
                assert server.links[0].remote.identity == duplex.Identity("operator", "unix socket")
            else:
                with pytest.raises(duplex.HandshakeError, match="this is for another user"):
                    await client.connect(endpoint)


async def test_one_port_closes_with_all_its_connections() -> None:
    with fail_after(20):
        async with (
            duplex.open_peer(services=[service], **OPTIONS) as server,
            duplex.open_peer(**OPTIONS) as one,
            duplex.open_peer(**OPTIONS) as two,
        ):
            endpoint = await server.bind("unix://*")
            other = await server.bind("unix://*")
            links = [await client.connect(endpoint) for client in (one, two)]
            stays = await one.connect(other)
            await server.unbind(endpoint)
            for link in links:
                await link.wait_closed()
            await until(lambda: len(server._inside.workers.leads) == 1)
            assert await stays.service("service").add(1, 2) == 3
            assert not os.path.exists(endpoint.removeprefix("unix://"))
