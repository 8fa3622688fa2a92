"""Proxies: what makes a remote method look like a function, and what keeps it from looking like more."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable, Container, Iterable
from typing import Any, Protocol

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


class Store(Protocol):
    async def get(self, key: str) -> str: ...


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
        remote: Any = pair.service("store")
        for name in ("_private", "__len__", "__wrapped__", "__class_getitem__"):
            with pytest.raises(AttributeError, match="not the name of a remote method"):
                getattr(remote, name)
        assert not hasattr(remote, "__call__")  # noqa: B004
        assert not isinstance(remote, Iterable | Container)


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


_NO_SEQUENCE: list[Callable[[Any], Any]] = [
    iter,
    len,
    list,
    sorted,
    reversed,
    dict,
    lambda proxy: "get" in proxy,
    lambda proxy: [*proxy],
    lambda proxy: proxy[0],
    lambda proxy: proxy[1:],
    lambda proxy: proxy[None],
    lambda proxy: dict(zip(proxy, proxy, strict=False)),
]


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # dict() calls the method `keys`
@pytest.mark.parametrize("what", _NO_SEQUENCE)
async def test_proxy_is_no_sequence(what: Callable[[Any], Any]) -> None:
    """Each of these would look through one that has no end."""
    async with linked(service) as pair:
        for remote in (pair.service("store"), pair.link.service("store"), pair.client.service(Store)):
            with pytest.raises(TypeError):
                what(remote)
            with pytest.raises(TypeError):
                what(remote.get)


async def test_proxy_is_nothing_to_wait_for() -> None:
    async with linked(service) as pair:
        remote: Any = pair.service("store")
        for proxy in (remote, remote.get):
            with pytest.raises(TypeError, match="'await' expression"):
                await proxy
            with pytest.raises(TypeError, match="'async for' requires"):
                [item async for item in proxy]
            with pytest.raises(TypeError, match="context manager"):
                async with proxy:
                    pass
        assert isinstance(hash(remote), int)
        assert bool(remote) is bool(remote.get) is True
        assert remote != pair.service("store")


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, pickle.dumps])
async def test_what_belongs_to_a_peer_cannot_be_copied(how: Callable[[Any], Any]) -> None:
    async with linked(service) as pair:
        remote = pair.service("store")
        for thing in (remote, remote.get, pair.client.service(Store), pair.client, pair.link):
            with pytest.raises(TypeError, match="neither copied nor pickled"):
                how(thing)
        assert await remote.get("a") == "a"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metadata": 3}, "metadata must be a dict or another mapping or None, not 3"),
        ({"metadata": [("a", "b")]}, "metadata must be a dict or another mapping"),
        ({"codec": 5}, "codec must be a name or a codec, not 5"),
        ({"idempotency_key": "\ud800"}, "idempotency_key must be a text of 1 to 255 bytes"),
    ],
)
async def test_options_of_the_wrong_type(options: dict[str, Any], message: str) -> None:
    async with linked(service) as pair:
        with pytest.raises(duplex.ConfigurationError, match=message):
            pair.service("store").with_options(**options)
