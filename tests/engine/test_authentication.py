"""Who a peer is linked to is found out before any call is made or served, by both sides; or there is no link."""

from __future__ import annotations

import functools
import logging
import math
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from duplex.engine.links._handshake import WITHIN
from duplex.middleware import log_calls, log_unserved
from tests.engine.authenticators import (
    BILLING,
    BILLING_OPTIONS,
    SHOP,
    SHOP_OPTIONS,
    TOKENS,
    Gate,
    Odd,
    by_token,
    offers,
    service,
    two,
)
from tests.engine.helpers import SCHEMES, endpoint_of, first_link, linked, until
from tests.engine.raw import HELLO, RawDealer, RawRouter
from tests.machine import fail_after

# ------------------------------------------------------------------------------------------ it is let in


async def test_statistics_and_log_say_who_it_is(caplog: pytest.LogCaptureFixture) -> None:
    evil = duplex.Identity("bill\ning", "token")

    async def authenticator(_handshake: duplex.Handshake) -> duplex.Identity:
        return evil

    caplog.set_level(logging.INFO)
    server = {"authenticator": authenticator, "middleware": [log_calls()], "observer": log_unserved()}
    async with linked(service(), server=server) as pair:
        told = pair.back.statistics()
        assert (told.principal, told.proof) == ("bill\ning", "token")
        told = pair.link.statistics()
        assert (told.principal, told.proof) == ("anonymous", "none")
        assert await pair.link.service("service").who() == ["bill\ning", "token"]
        with pytest.raises(duplex.Unimplemented):
            await pair.link.service("service").gone()
        await pair.link.aclose()
        await pair.back.wait_closed()
    assert r"the link to client (bill\ning) over" in caplog.text
    lines = [record for record in caplog.records if record.name == "duplex.calls"]
    assert [record.call["principal"] for record in lines] == ["bill\ning"] * 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_both_sides_know_each_other(scheme: str, tmp_path: Any) -> None:
    endpoint = endpoint_of(scheme, tmp_path)
    async with linked(
        service(), endpoint=endpoint, offers=[service()], server=SHOP_OPTIONS, client=BILLING_OPTIONS
    ) as pair:
        assert pair.link.remote == duplex.PeerInfo(pair.server.id, "server", SHOP)
        assert pair.back.remote == duplex.PeerInfo(pair.client.id, "client", BILLING)
        assert await pair.link.service("service").who() == ["billing", "token"]
        assert await pair.back.service("service").who() == ["shop", "token"]


@pytest.mark.parametrize("side", ["server", "client"])
async def test_one_side_alone_asks(side: str) -> None:
    options: dict[str, dict[str, Any]] = {
        "server": {"credentials": b"for shop"},
        "client": {"credentials": b"for billing"},
    }
    options[side] = {"authenticator": by_token}
    async with linked(service(), server=options["server"], client=options["client"]) as pair:
        link, other = (pair.back, pair.link) if side == "server" else (pair.link, pair.back)
        assert link.remote.identity in TOKENS.values()
        assert other.remote.identity.is_anonymous


async def test_what_an_authenticator_is_told() -> None:
    gate, other = Gate(), Gate(SHOP)
    gate.opened.set()
    other.opened.set()
    async with linked(
        server={"authenticator": gate}, client={"authenticator": other, "credentials": b"for billing"}
    ) as pair:
        assert gate.asked == [
            duplex.Handshake(
                peer_id=pair.client.id,
                peer_name="client",
                credentials=b"for billing",
                identity=duplex.Identity(),
                address=pair.back._inside.carrier.address,
                endpoint=pair.endpoint,
                connecting=False,
            )
        ]
        (asked,) = other.asked
        assert (asked.credentials, asked.connecting, asked.endpoint) == (None, True, pair.endpoint)
        assert "for billing" not in repr(gate.asked[0])


async def test_credentials_are_made_for_each_link() -> None:
    made: list[str] = []

    def credentials(endpoint: str) -> bytes:
        made.append(endpoint)
        return b"number %d" % len(made)

    gate = Gate()
    gate.opened.set()
    async with two({"authenticator": gate}, {"credentials": credentials}) as (server, client, endpoint):
        other = await server.bind("memory://*")
        await client.connect(endpoint)
        await client.connect(other)
        assert [asked.credentials for asked in gate.asked] == [b"number 1", b"number 2"]
        assert made == [endpoint, other]


# ---------------------------------------------------------------------------------------- it takes a while


async def test_no_call_is_made_before_the_connecting_side_knows(autojump_clock: object) -> None:
    gate = Gate(SHOP)
    async with two({}, {"authenticator": gate}) as (server, client, endpoint):
        served: list[list[str]] = []

        async def call() -> None:
            # The binding side has a link already, and calls at once.
            link = await first_link(server)
            served.append(await link.service("service").who())
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            nursery.start_soon(client.connect, endpoint)
            await until(lambda: gate.asked)
            await trio.testing.wait_all_tasks_blocked()
            assert len(server.links) == 1
            assert not client.links
            assert not served
            gate.opened.set()
        assert served == [["shop", "token"]]
        assert client.links[0].remote.identity == SHOP


async def test_connect_returns_when_both_sides_know(autojump_clock: object) -> None:
    gate = Gate(SHOP)
    async with two({}, {"authenticator": gate}) as (_, client, endpoint), trio.open_nursery() as nursery:
        links: list[duplex.Link] = []

        async def connect() -> None:
            links.append(await client.connect(endpoint))

        nursery.start_soon(connect)
        await until(lambda: gate.asked)
        await trio.testing.wait_all_tasks_blocked()
        assert not links
        gate.opened.set()
        await until(lambda: links)
        assert links[0].remote.identity == SHOP


async def test_calls_that_came_meanwhile_keep_their_order(autojump_clock: object) -> None:
    gate = Gate(SHOP)
    seen: list[int] = []
    offered = duplex.Service("list")

    @offered.rpc
    async def note(number: int) -> None:
        seen.append(number)

    async with two({}, {"authenticator": gate}) as (server, client, endpoint):
        client.add_service(offered)
        client.connect_soon(endpoint)
        link = await first_link(server)
        proxy = link.service("list")
        for number in range(100):
            await proxy.note.notify(number)
            if number % 10 == 0:
                await trio.testing.wait_all_tasks_blocked()
        assert not seen
        gate.opened.set()
        await until(lambda: len(seen) == 100)
        assert seen == list(range(100))
        await link.ping()


async def test_a_service_that_is_added_meanwhile_is_announced(autojump_clock: object) -> None:
    later = duplex.Service("later")

    @later.rpc
    async def now() -> str:
        return "now"

    for asks in ("server", "client"):
        gate = Gate()
        options: dict[str, dict[str, Any]] = {"server": {}, "client": {}}
        options[asks] = {"authenticator": gate}
        async with two(options["server"], options["client"]) as (server, client, endpoint):
            client.connect_soon(endpoint)
            await until(functools.partial(getattr, gate, "asked"))
            (server if asks == "server" else client).add_service(later)
            gate.opened.set()
            caller = client if asks == "server" else server
            link = await first_link(caller)
            await until(functools.partial(offers, link, "later"))
            assert await caller.service("later").now() == "now"


async def test_a_peer_that_drains_meanwhile_takes_no_link(autojump_clock: object) -> None:
    gate = Gate()
    async with two({"authenticator": gate}, {}) as (server, client, endpoint), trio.open_nursery() as nursery:

        async def connect() -> None:
            with pytest.raises((duplex.HandshakeError, duplex.ConnectError)):
                await client.connect(endpoint, timeout=2)

        nursery.start_soon(connect)
        await until(lambda: gate.asked)
        server._inside.is_draining = True
        gate.opened.set()
        await trio.testing.wait_all_tasks_blocked()
        assert not server.links


@pytest.mark.parametrize(
    ("asks", "why"),
    [
        ("server", "has not greeted as a Duplex peer does: it is none, or is still finding out who this is"),
        ("client", "this side's authenticator has not said yet who it is"),
    ],
)
async def test_who_does_not_wait_for_it_learns_why_there_is_no_link(
    asks: str, why: str, autojump_clock: object
) -> None:
    gate = Gate()
    options: dict[str, dict[str, Any]] = {"server": {}, "client": {}}
    options[asks] = {"authenticator": gate}
    async with two(options["server"], options["client"]) as (server, client, endpoint):
        with pytest.raises(duplex.ConnectError, match=why):
            await client.connect(endpoint, timeout=2)
        await until(lambda: gate.cancelled)
        await until(lambda: not server.links)


@pytest.mark.parametrize("asks", ["server", "client"])
async def test_the_connection_ends_meanwhile(asks: str, autojump_clock: object) -> None:
    gate = Gate()
    options: dict[str, dict[str, Any]] = {"server": {}, "client": {}}
    options[asks] = {"authenticator": gate}
    async with two(options["server"], options["client"]) as (server, client, endpoint):
        client.connect_soon(endpoint)
        await until(lambda: gate.asked)
        await (client.disconnect(endpoint) if asks == "server" else server.unbind(endpoint))
        await until(lambda: gate.cancelled)
        gate.opened.set()
        await trio.testing.wait_all_tasks_blocked()
        assert not server.links
        assert not client.links


@pytest.mark.parametrize("asks", ["server", "client"])
async def test_the_peer_is_closed_meanwhile(asks: str, autojump_clock: object) -> None:
    gate = Gate()
    options: dict[str, dict[str, Any]] = {"server": {}, "client": {}}
    options[asks] = {"authenticator": gate}
    async with two(options["server"], options["client"]) as (server, client, endpoint):
        client.connect_soon(endpoint)
        await until(lambda: gate.asked)
        await (server if asks == "server" else client).aclose()
        await until(lambda: gate.cancelled)
    assert gate.cancelled == 1


async def test_it_has_so_much_time(autojump_clock: object, caplog: pytest.LogCaptureFixture) -> None:
    async with two({"authenticator": Gate()}, {}) as (_, client, endpoint):
        began = trio.current_time()
        with pytest.raises(
            duplex.HandshakeError, match=r"\(auth\): it could not be found out within 5 s"
        ) as caught:
            await client.connect(endpoint)
        assert caught.value.reason == "auth"
        assert trio.current_time() - began == pytest.approx(WITHIN, abs=0.1)
        assert "no link with client at" in caplog.text


async def test_who_waits_less_for_a_sign_of_life_decides_sooner(autojump_clock: object) -> None:
    keepalive = duplex.Keepalive(interval=0.5, timeout=1.5)
    gate = Gate()
    async with two({}, {"authenticator": gate, "keepalive": keepalive}) as (server, client, endpoint):
        began = trio.current_time()
        with pytest.raises(duplex.HandshakeError, match=r"within 1\.5 s"):
            await client.connect(endpoint)
        assert trio.current_time() - began == pytest.approx(1.5, abs=0.1)
        await until(lambda: not server.links)
        assert gate.cancelled == 1


async def test_a_slow_authenticator_is_nobody_elses_trouble(autojump_clock: object) -> None:
    gate = Gate()

    async def ask(handshake: duplex.Handshake) -> duplex.Identity:
        return await (gate(handshake) if handshake.peer_name == "slow" else by_token(handshake))

    async with two({"authenticator": ask}, BILLING_OPTIONS | {"authenticator": None}) as (
        server,
        client,
        endpoint,
    ):
        async with duplex.open_peer(name="slow") as slow:
            slow.connect_soon(endpoint)
            await until(lambda: gate.asked)
            link = await client.connect(endpoint)
            assert await link.service("service").who() == ["billing", "token"]
            assert len(server.links) == 1


# ------------------------------------------------------------------------------------------- it is refused


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_the_binding_side_refuses(scheme: str, tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    client_options = {"credentials": b"stolen"}
    async with two({"authenticator": by_token}, client_options, endpoint_of(scheme, tmp_path)) as (
        server,
        client,
        endpoint,
    ):
        with pytest.raises(
            duplex.HandshakeError, match=r"refused \(auth\): there is no such token"
        ) as caught:
            await client.connect(endpoint)
        assert caught.value.reason == "auth"
        assert not server.links
        assert not client.links
        (record,) = [record for record in caplog.records if "no link with" in record.message]
        assert "no link with client at" in record.message
        assert record.message.endswith("there is no such token")
        assert "stolen" not in caplog.text


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_the_connecting_side_refuses(scheme: str, tmp_path: Any) -> None:
    async with two({"credentials": b"stolen"}, BILLING_OPTIONS, endpoint_of(scheme, tmp_path)) as (
        server,
        client,
        endpoint,
    ):
        with pytest.raises(
            duplex.HandshakeError, match=r"\(auth\): by this side.*there is no such token"
        ) as caught:
            await client.connect(endpoint)
        assert caught.value.reason == "auth"
        await until(lambda: not server.links)
        assert not client.links


async def test_what_the_binding_side_hears_of_a_refusal(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    """Its calls over the link that was not to be have certainly not been executed."""
    gate = Gate(duplex.PermissionDenied("no shops here"))
    caplog.set_level(logging.INFO)
    async with two({}, {"authenticator": gate}) as (server, client, endpoint):
        client.connect_soon(endpoint)
        link = await first_link(server)

        async def call() -> None:
            with pytest.raises(duplex.Unavailable) as caught:
                await link.service("service").who()
            assert caught.value.may_have_executed is False

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await trio.testing.wait_all_tasks_blocked()
            gate.opened.set()
        await link.wait_closed()
        assert "it said goodbye (auth: no shops here)" in caplog.text


async def test_new_credentials_help(autojump_clock: object) -> None:
    tokens = [b"stolen", b"for billing"]

    def credentials(_endpoint: str) -> bytes:
        return tokens.pop(0)

    async with two({"authenticator": by_token}, {"credentials": credentials}) as (_, client, endpoint):
        client.connect_soon(endpoint)
        assert await client.service("service").who() == ["billing", "token"]


async def raise_odd() -> None:
    raise Odd("the password is hunter2")


async def raise_group() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(raise_odd)


async def return_nothing() -> None:
    await trio.lowlevel.checkpoint()


async def raise_exit() -> None:
    raise SystemExit("the password is hunter2")


async def raise_other_error() -> None:
    raise duplex.NotFound("the password is hunter2")


@pytest.mark.parametrize("asks", ["server", "client"])
@pytest.mark.parametrize(
    ("fails", "logged"),
    [
        (raise_odd, "hunter2"),
        (raise_group, "hunter2"),
        (return_nothing, r"returned a NoneType, which is no duplex\.Identity"),
        (raise_exit, "hunter2"),
        (raise_other_error, "hunter2"),
    ],
)
async def test_a_failure_is_a_refusal_and_stays_here(
    asks: str,
    fails: Callable[[], Awaitable[None]],
    logged: str,
    autojump_clock: object,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def authenticator(_handshake: duplex.Handshake) -> Any:
        return await fails()

    options: dict[str, dict[str, Any]] = {"server": {}, "client": {}}
    options[asks] = {"authenticator": authenticator}
    caplog.set_level(logging.INFO)
    async with two(options["server"], options["client"]) as (server, client, endpoint):
        with pytest.raises(duplex.HandshakeError) as caught:
            await client.connect(endpoint)
        assert caught.value.reason == "auth"
        incident = re.search(r"the log of this one has it as incident ([0-9a-f]{12})$", str(caught.value))
        assert incident is not None
        assert "hunter2" not in str(caught.value)
        failures = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert [incident[1] in record.getMessage() for record in failures] == [True]
        assert re.search(logged, caplog.text)
        goodbyes = [
            record.getMessage() for record in caplog.records if "it said goodbye" in record.getMessage()
        ]
        assert not any("hunter2" in goodbye for goodbye in goodbyes)
        # The peer goes on.
        assert await server.bind("memory://*")
        await until(lambda: not server.links)


async def test_plain_functions_are_told_as_failures(caplog: pytest.LogCaptureFixture) -> None:
    def plain(_handshake: duplex.Handshake) -> duplex.Identity:
        return BILLING

    wrong: Any = plain
    async with two({"authenticator": wrong}, {}) as (_, client, endpoint):
        with pytest.raises(duplex.HandshakeError, match="incident"):
            await client.connect(endpoint)
        assert "the authenticator failed" in caplog.text


@pytest.mark.parametrize("asks", ["server", "client"])
async def test_credentials_that_cannot_be_had(
    asks: str, autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    def credentials(_endpoint: str) -> bytes:
        raise Odd("the password is hunter2")

    options: dict[str, dict[str, Any]] = {"server": {}, "client": {}}
    options[asks] = {"credentials": credentials}
    async with two(options["server"], options["client"]) as (_, client, endpoint):
        with pytest.raises((duplex.HandshakeError, duplex.ConnectError)) as caught:
            await client.connect(endpoint, timeout=2)
        assert "hunter2" not in str(caught.value)
        assert "cannot be had, so there is no link" in caplog.text
        if asks == "client":
            assert isinstance(caught.value, duplex.HandshakeError)
            assert "this side cannot get at its own credentials" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"authenticator": 5}, "authenticator must be an async function, not 5"),
        ({"credentials": "text"}, "credentials must be bytes, or a function that returns some, not a str"),
        ({"credentials": bytes(8193)}, "credentials of 8193 bytes are over the limit of 8192"),
    ],
)
async def test_wrong_options(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(duplex.ConfigurationError, match=complaint):
        async with duplex.open_peer(**options):
            pytest.fail("the peer opened")


# ---------------------------------------------------------------------------------------- it is an attacker


async def test_nothing_is_served_before_it_is_known_who_calls() -> None:
    """Whoever calls without having been let in breaks the protocol, and the authenticator is called off."""
    gate = Gate()
    called: list[int] = []
    offered = duplex.Service("list")

    @offered.rpc
    async def note(number: int) -> None:
        called.append(number)

    with fail_after(20):
        async with duplex.open_peer(services=[offered], authenticator=gate) as server:
            with RawDealer(await server.bind("tcp://127.0.0.1:*")) as raw:
                raw.say(HELLO)
                await until(lambda: gate.asked)
                raw.say([7, 1, "list.note", 3, b"\x91\x91\x01"])
                assert (await raw.hears_the_end())[:2] == [1, "protocol"]
                await until(lambda: gate.cancelled)
            assert not called
            assert not server.links


async def test_what_comes_with_the_answer_waits_as_well() -> None:
    """A server that calls in the same message in which it lets a client in, and pings it."""
    gate = Gate(SHOP)
    called: list[int] = []
    offered = duplex.Service("list")

    @offered.rpc
    async def note(number: int) -> int:
        called.append(number)
        return number

    with fail_after(20):
        async with duplex.open_peer(services=[offered], authenticator=gate) as client:
            with RawRouter() as raw:
                client.connect_soon(raw.endpoint)
                await raw.commands(0)
                raw.say(HELLO, [7, 2, "list.note", 3, b"\x92\x91\x07\x80"], [3, 4711])
                await until(lambda: gate.asked)
                raw.say([3, 4712])
                with trio.move_on_after(0.1):
                    await raw.more()
                    pytest.fail("an answer, to nobody knows whom")
                assert not called
                gate.opened.set()
                assert [pong[1] for pong in await raw.commands(4, 2)] == [4711, 4712]
                assert (await raw.commands(10))[0][1] == 2
            assert called == [7]


async def test_what_is_held_back_is_bounded() -> None:
    """A server that floods whoever is still finding out who it is, is cut."""
    limits = duplex.Limits(link_window=2**16, max_message=2**14, max_channels=4, max_metadata=2**12)
    gate = Gate()
    with fail_after(20):
        async with duplex.open_peer(authenticator=gate, limits=limits) as client:
            with RawRouter() as raw:
                client.connect_soon(raw.endpoint)
                await raw.commands(0)
                raw.say(HELLO)
                await until(lambda: gate.asked)
                for _ in range(100):
                    raw.say([2, [{"name": "x" * 200, "version": "y" * 200} for _ in range(40)]])
                assert (await raw.hears_the_end())[:3] == [5, 0, "closing"]
                await until(lambda: gate.cancelled)
            assert not client.links


def test_the_time_it_has_is_less_than_others_wait() -> None:
    assert WITHIN < duplex.Keepalive().timeout < math.inf
