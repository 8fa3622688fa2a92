"""What functions of the program raise ends what they were asked about, and never the peer: be it no ``Exception``, a group, or the
cancellation of a scope that has nothing to do with it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, NoReturn

import pytest
import trio

import duplex
from tests.engine.helpers import linked, outcome, until
from tests.machine import fail_after


class Odd(BaseException):
    """An exception that is no ``Exception``, as those of some libraries for tests are not."""


def stale() -> BaseException:
    """The cancellation of another scope, which somebody has kept."""

    async def main() -> BaseException:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.sleep_forever()
            except trio.Cancelled as cancelled:
                return cancelled
        raise AssertionError

    return trio.run(main)


MAKERS: Final[dict[str, Callable[[], BaseException]]] = {
    "exit": lambda: SystemExit(3),
    "odd": Odd,
    "group": lambda: BaseExceptionGroup("several", [SystemExit(3), ValueError("one")]),
    "stale cancellation": stale,
}


@pytest.fixture(params=MAKERS)
def error(request: pytest.FixtureRequest) -> BaseException:
    return MAKERS[request.param]()


service = duplex.Service("service")


@service.rpc(idempotent=True)
async def one() -> int:
    return 1


async def lives(peer: duplex.Peer) -> None:
    """The peer takes links, and answers."""
    async with duplex.open_peer() as client:
        await client.connect(await peer.bind("memory://*"))
        await client.service("duplex.reflection").services()


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_authorizers(kind: str, error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    def plain(_identity: duplex.Identity, method: str, _call: duplex.AskedCall) -> bool:
        if method.startswith("service."):
            raise error
        return True

    async def asynchronous(identity: duplex.Identity, method: str, call: duplex.AskedCall) -> bool:
        return plain(identity, method, call)

    with fail_after(20):
        authorize = plain if kind == "plain" else asynchronous
        async with linked(service, server={"authorize": authorize}) as pair:
            failed = await outcome(pair.service("service").one())
            assert isinstance(failed, duplex.Internal)
            assert failed.message == "whether anonymous may call service.one could not be decided"
            assert failed.may_have_executed is False
            await lives(pair.server)
    assert "authorize failed for service.one" in caplog.text


async def test_observers(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    def observer(_call: duplex.UnservedCall) -> NoReturn:
        raise error

    with fail_after(20):
        async with linked(service, server={"observer": observer}) as pair:
            assert isinstance(await outcome(pair.service("service").nothing()), duplex.Unimplemented)
            await lives(pair.server)
    assert "the observer of calls failed" in caplog.text


async def test_health_probes(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    async def probe() -> NoReturn:
        raise error

    with fail_after(20):
        async with linked(service) as pair:
            pair.server.probe_health("service", probe)
            assert await pair.service("duplex.health").check("service") == "NOT_SERVING"
            await lives(pair.server)
    assert "the function that was asked failed" in caplog.text


async def test_resolvers(error: BaseException, autojump_clock: object) -> None:
    asked = 0

    class Failing:
        async def resolve(self, service: str) -> AsyncIterator[list[str]]:
            nonlocal asked
            asked += 1
            if asked == 1:
                raise error
            yield [endpoint]

    async with duplex.open_peer(services=[service]) as server, duplex.open_peer() as client:
        endpoint = await server.bind("memory://*")
        client.connect_service("service", Failing())
        assert await client.service("service").one() == 1
        assert asked == 2


@pytest.mark.parametrize("kind", ["gather", "hedged"])
async def test_middleware_around_calls_that_others_make(kind: str, error: BaseException) -> None:
    """The task that makes the call is the peer's; what it raises, who asked for the call gets."""

    async def raising(call: duplex.MadeCall, next: duplex.NextCall) -> Any:
        if call.method == "service.one":
            raise error
        return await next(call)

    async def ask(remote: duplex.ServiceProxy) -> None:
        if kind == "gather":
            [pair async for pair in remote.one.gather()]
        else:
            await remote.with_options(hedging=duplex.HedgingPolicy(delay=5)).one()

    with fail_after(20):
        async with linked(service, client={"call_middleware": [raising]}) as pair:
            with pytest.raises(type(error)) as caught:
                await ask(pair.client.service("service"))
            assert caught.value is error
            await lives(pair.client)


async def test_credentials_and_authenticators(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    def credentials(_endpoint: str) -> bytes:
        raise error

    async def authenticator(_handshake: duplex.Handshake) -> NoReturn:
        raise error

    options: list[dict[str, Any]] = [{"credentials": credentials}, {"authenticator": authenticator}]
    with fail_after(20):
        for server in options:
            async with duplex.open_peer(**server) as binding, duplex.open_peer() as client:
                with pytest.raises(duplex.HandshakeError, match=r"\(auth\)"):
                    await client.connect(await binding.bind("memory://*"))
                await until(lambda: not binding.links)
                await binding.bind("memory://*")
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 2
