"""Proxies: what makes a remote method look like a function, and what keeps it from looking like more."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import duplex
from tests.engine.helpers import linked
from tests.machine import fail_after

service = duplex.Service("store")


@service.rpc
async def get(key: str) -> str:
    return key


@service.rpc(name="with_options")
async def awkward() -> str:
    return "a method whose name the proxy has taken"


@service.rpc(name="not-an-identifier")
async def dashed() -> str:
    return "dashed"


@service.rpc
async def echo(self: Any, timeout: Any = None, metadata: Any = None) -> list[Any]:
    """Parameters with names that options have."""
    return [self, timeout, metadata]


async def test_any_name_is_a_method() -> None:
    async with linked(service) as pair:
        remote = pair.service("store")
        assert await remote.get("a") == "a"
        assert await remote["get"]("b") == "b"
        assert await remote["with_options"]() == "a method whose name the proxy has taken"
        assert await remote["not-an-identifier"]() == "dashed"
        assert remote.get is remote.get, "made once"
        with pytest.raises(duplex.Unimplemented):
            await remote.anything()


async def test_private_names_are_not_methods() -> None:
    """So that whoever looks for a special attribute, as copy and pickle do, does not get a remote call."""
    async with linked(service) as pair:
        remote = pair.service("store")
        for name in ("_private", "__len__", "__wrapped__", "__class_getitem__"):
            with pytest.raises(AttributeError, match="not the name of a remote method"):
                getattr(remote, name)
        assert not hasattr(remote, "__call__")  # noqa: B004
        assert not hasattr(remote, "__iter__")


async def test_representation() -> None:
    async with linked(service) as pair:
        assert repr(pair.service("store")) == "<remote service store>"
        assert repr(pair.service("store").get) == "<remote method store.get>"
        assert isinstance(pair.service("store"), duplex.ServiceProxy)
        assert isinstance(pair.service("store").get, duplex.MethodProxy)


async def test_options_stay_out_of_the_arguments() -> None:
    async with linked(service) as pair:
        remote = pair.service("store").with_options(timeout=5, metadata={"a": "b"})
        assert await remote.echo(1, timeout=2, metadata=3) == [1, 2, 3]
        assert await remote.echo(self=1) == [1, None, None]


async def test_making_a_proxy_talks_to_nobody() -> None:
    async with duplex.open_peer() as peer:
        remote = peer.service("store").with_options(timeout=1)
        call = remote.get("x")
        assert inspect.iscoroutine(call)
        call.close()
        remote.get.open("x")


async def test_proxy_outlives_links() -> None:
    with fail_after(5):
        async with duplex.open_peer() as client:
            remote = client.service("store")
            for _ in range(3):
                async with duplex.open_peer(services=[service]) as server:
                    endpoint = await server.bind("memory://store")
                    link = await client.connect(endpoint)
                    assert await remote.get("x") == "x"
                    await client.disconnect(endpoint)
                    assert not link.is_open


async def test_proxy_of_a_link_stays_with_it() -> None:
    async with linked(service, check=False) as pair:
        remote = pair.link.service("store")
        assert await remote.get("x") == "x"
        assert await pair.link.service(service).get("y") == "y"
        await pair.link.aclose()
        assert await pair.client.service("store").get("z") == "z", "the peer has connected again"
        for call in (remote.get("x"), remote.get.notify("x"), remote.get.open("x").__aenter__()):
            with pytest.raises(duplex.PeerLost) as caught:
                await call
            assert caught.value.may_have_executed is False
