"""What functions of the program raise ends what they were asked about, and never the peer: be it no ``Exception``, a group, or the
cancellation of a scope that has nothing to do with it."""

from __future__ import annotations

import datetime as dt
import logging
import math
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


UNDECIDED: Final = "whether anonymous may call service.one could not be decided"


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


@pytest.mark.parametrize("kind", ["plain", "async"])
@pytest.mark.parametrize(
    ("attribute", "value", "told"),
    [
        ("retry_after", dt.timedelta(seconds=2), (duplex.Unauthenticated, "come", 2.0)),
        ("retry_after", -1, (duplex.Unauthenticated, "come", 0.0)),
        ("retry_after", math.inf, (duplex.Unauthenticated, "come", 1e11)),
        ("retry_after", math.nan, (duplex.Unauthenticated, "come", None)),
        ("retry_after", "soon", (duplex.Unauthenticated, "come", None)),
        ("retry_after", object(), (duplex.Unauthenticated, "come", None)),
        ("code", duplex.StatusCode.OK, (duplex.Internal, UNDECIDED, None)),
        ("code", "none", (duplex.Internal, UNDECIDED, None)),
        ("message", "x" * 1_000_000, (duplex.Unauthenticated, "x" * 1000, None)),
        ("message", "\ud800", (duplex.Unauthenticated, "?", None)),
        ("message", 7, (duplex.Unauthenticated, "7", None)),
    ],
)
async def test_authorizers_whose_errors_are_odd(
    kind: str, attribute: str, value: object, told: tuple[type[duplex.RPCError], str, float | None]
) -> None:
    """They cost their call, and not the link that it came over; and are never taken for a result."""
    odd = duplex.Unauthenticated("come")
    setattr(odd, attribute, value)

    def plain(_identity: duplex.Identity, method: str, _call: duplex.AskedCall) -> bool:
        if method.startswith("service."):
            raise odd
        return True

    async def asynchronous(identity: duplex.Identity, method: str, call: duplex.AskedCall) -> bool:
        return plain(identity, method, call)

    with fail_after(20):
        async with linked(service, server={"authorize": plain if kind == "plain" else asynchronous}) as pair:
            failed = await outcome(pair.service("service").one())
            assert (type(failed), failed.message[:1000], failed.retry_after) == told
            assert len(failed.message) <= 8192
            assert failed.may_have_executed is False
            await pair.link.ping()
            assert len(pair.server.links) == 1


@pytest.mark.parametrize("asks", ["server", "client"])
@pytest.mark.parametrize(
    ("attribute", "value", "told"),
    [
        ("message", "x" * 1_000_000, "x" * 1000 + "... (1000000 characters)"),
        ("message", "\ud800 \x1b[31m", r"\ud800 \x1b[31m"),
        ("message", "", "UNAUTHENTICATED"),
        ("message", None, "None"),
        ("code", "none", "come"),
    ],
)
async def test_authenticators_whose_errors_are_odd(
    asks: str, attribute: str, value: object, told: str
) -> None:
    odd = duplex.Unauthenticated("come")
    setattr(odd, attribute, value)

    async def authenticator(_handshake: duplex.Handshake) -> NoReturn:
        raise odd

    options: dict[str, Any] = {"server": {}, "client": {}, asks: {"authenticator": authenticator}}
    with fail_after(20):
        async with (
            duplex.open_peer(**options["server"]) as server,
            duplex.open_peer(**options["client"]) as client,
        ):
            with pytest.raises(duplex.HandshakeError) as caught:
                await client.connect(await server.bind("memory://*"))
            assert str(caught.value).endswith(f": {told}")
            assert await server.bind("memory://*")
            assert await client.bind("memory://*")


async def test_an_error_without_a_text_whose_code_is_none() -> None:
    odd = duplex.PermissionDenied()
    odd.code = "none"  # type: ignore[assignment]

    async def authenticator(_handshake: duplex.Handshake) -> NoReturn:
        raise odd

    with fail_after(20):
        async with duplex.open_peer(authenticator=authenticator) as server, duplex.open_peer() as client:
            with pytest.raises(duplex.HandshakeError, match="PERMISSION_DENIED"):
                await client.connect(await server.bind("memory://*"))
            assert await server.bind("memory://*")


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
