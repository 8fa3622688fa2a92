"""Where middleware is given, and what is none."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import duplex
from tests.engine.helpers import linked
from tests.engine.layered import turn_into_denial


async def name_it(call: duplex.ServedCall, next: duplex.Next) -> Any:
    return [call.method, await next(call)]


async def mark_it(call: duplex.ServedCall, next: duplex.Next) -> Any:
    return ["marked", await next(call)]


class Store:
    @duplex.rpc(middleware=[mark_it])
    async def get(self) -> int:
        return 1


@duplex.rpc(middleware=[mark_it])
async def get() -> int:
    return 1


class AsObject:
    """Middleware that is an object."""

    async def __call__(self, call: duplex.ServedCall, next: duplex.Next) -> Any:
        return await name_it(call, next)


def _exposed(peer: duplex.Peer) -> None:
    peer.expose(Store(), middleware=[name_it])


def _from_object(peer: duplex.Peer) -> None:
    peer.add_service(duplex.Service.from_object(Store(), middleware=[AsObject()]))


def _added(peer: duplex.Peer) -> None:
    service = duplex.Service("store", middleware=[name_it])
    service.add(get)
    peer.add_service(service)


def _added_with_its_own(peer: duplex.Peer) -> None:
    service = duplex.Service("store", middleware=[name_it])
    service.add(get, middleware=[mark_it])
    peer.add_service(service)


@pytest.mark.parametrize("add", [_exposed, _from_object, _added, _added_with_its_own])
async def test_ways_to_give_it(add: Callable[[duplex.Peer], None]) -> None:
    async with linked() as pair:
        add(pair.server)
        assert await pair.link.service("store").get() == ["store.get", ["marked", 1]]


async def test_decorated_middleware_may_be_left_out_when_added() -> None:
    service = duplex.Service("store")
    service.add(get, middleware=[])
    async with linked(service) as pair:
        assert await pair.service("store").get() == 1


def not_async(call: Any, next: Any) -> None: ...


async def one_argument(call: Any) -> None: ...


BAD: dict[str, tuple[Any, str]] = {
    "one function": (name_it, "middleware must be a list of functions, not <function name_it"),
    "a text": ("name_it", "middleware must be a list of functions, not 'name_it'"),
    "a number": (7, "middleware must be a list of functions, not 7"),
    "a list of others": ([7], "middleware must be a function, not 7"),
    "a plain function": ([not_async], "the middleware not_async must be an `async def`"),
    "of one argument": ([one_argument], "must take two arguments: `async def one_argument"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_middleware_is_told_at_once(what: str) -> None:
    middleware, message = BAD[what]
    with pytest.raises(duplex.ConfigurationError, match=f"service 'svc': .*{message[:20]}") as caught:
        duplex.Service("svc", middleware=middleware)
    assert message in str(caught.value)
    service = duplex.Service("svc")
    with pytest.raises(duplex.ConfigurationError, match="service 'svc': "):
        service.rpc(middleware=middleware)
    with pytest.raises(duplex.ConfigurationError, match="service 'svc': "):
        service.add(get, middleware=middleware)
    with pytest.raises(duplex.ConfigurationError, match=r"rpc\(\): "):
        duplex.rpc(middleware=middleware)


async def test_what_is_no_middleware_of_a_peer() -> None:
    with pytest.raises(duplex.ConfigurationError, match=r"open_peer\(\): .*must be an `async def`"):
        async with duplex.open_peer(middleware=[not_async]):  # type: ignore[list-item]
            raise AssertionError("opened")


def typed(call: duplex.ServedCall, next: duplex.Next) -> Coroutine[Any, Any, Any]:
    """Type checkers take it for middleware; it is tried by them alone."""
    return turn_into_denial(call, next)


TYPED: duplex.ServingMiddleware = typed
