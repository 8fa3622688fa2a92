"""Who a peer is linked to is found out before any call is made or served, by both sides; or there is no link."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import pytest
import trio
import trio.testing

import duplex
from duplex.engine.links._handshake import WITHIN, Deciding
from duplex.engine.links._inbound import Inbound
from duplex.middleware import log_calls, log_unserved
from tests.engine.helpers import SCHEMES, endpoint_of, first_link, linked, until
from tests.engine.raw import HELLO, RawDealer, RawRouter
from tests.machine import fail_after

BILLING: Final = duplex.Identity("billing", "token")
SHOP: Final = duplex.Identity("shop", "token", {"roles": ["server"]})
TOKENS: Final = {b"for billing": BILLING, b"for shop": SHOP}


async def by_token(handshake: duplex.Handshake) -> duplex.Identity:
    """Say who has a token."""
    try:
        return TOKENS[handshake.credentials or b""]
    except KeyError:
        raise duplex.Unauthenticated("there is no such token") from None


def service() -> duplex.Service:
    made = duplex.Service("service")

    @made.rpc
    async def who() -> list[str]:
        identity = duplex.current_call().peer.identity
        return [identity.principal, identity.proof]

    return made


SHOP_OPTIONS: Final[dict[str, Any]] = {"authenticator": by_token, "credentials": b"for shop"}
BILLING_OPTIONS: Final[dict[str, Any]] = {"authenticator": by_token, "credentials": b"for billing"}


def offers(link: duplex.Link, name: str) -> bool:
    return name in link.services


class Gate:
    """An authenticator that waits until it is told who everybody is."""

    def __init__(self, answer: duplex.Identity | BaseException = BILLING) -> None:
        self.answer = answer
        self.asked: list[duplex.Handshake] = []
        self.opened = trio.Event()
        self.cancelled = 0

    async def __call__(self, handshake: duplex.Handshake) -> duplex.Identity:
        self.asked.append(handshake)
        try:
            await self.opened.wait()
        except trio.Cancelled:
            self.cancelled += 1
            raise
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


@contextlib.asynccontextmanager
async def two(
    server: dict[str, Any], client: dict[str, Any], endpoint: str = "memory://*"
) -> AsyncIterator[tuple[duplex.Peer, duplex.Peer, str]]:
    """Two peers that are not linked, and where the first is bound."""
    with fail_after(20):
        async with (
            duplex.open_peer(services=[service()], name="server", **server) as serving,
            duplex.open_peer(services=[service()], name="client", **client) as calling,
        ):
            yield serving, calling, await serving.bind(endpoint)


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


class Odd(Exception):
    """An error whose text must not travel."""


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


# --------------------------------------------------------------------------------- it takes longer than it may


class Stubborn:
    """An authenticator that is not to be cancelled, as one is that waits for a thread."""

    def __init__(self) -> None:
        self.asked: list[duplex.Handshake] = []
        self.opened = trio.Event()
        self.ended = 0

    async def __call__(self, handshake: duplex.Handshake) -> duplex.Identity:
        self.asked.append(handshake)
        with trio.CancelScope(shield=True):
            await self.opened.wait()
        self.ended += 1
        return BILLING


@pytest.mark.parametrize("asks", ["server", "client"])
async def test_an_authenticator_that_ignores_its_time_limit_costs_the_link(
    asks: str, autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    stubborn = Stubborn()
    options: dict[str, dict[str, Any]] = {"server": {}, "client": {}}
    options[asks] = {"authenticator": stubborn, "keepalive": duplex.Keepalive(interval=1, timeout=3)}
    async with two(options["server"], options["client"]) as (server, client, endpoint):
        began = trio.current_time()
        with pytest.raises(duplex.HandshakeError, match=r"\(auth\).*could not be found out within 3 s"):
            await client.connect(endpoint, timeout=60)
        assert trio.current_time() - began < 6
        assert "the authenticator has not ended after 3 s" in caplog.text
        stubborn.opened.set()
        await until(lambda: stubborn.ended)
        await until(lambda: not server.links)
        assert not client.links


async def test_who_greets_late_has_all_the_time_for_it_and_so_has_the_authenticator(
    mock_clock: trio.testing.MockClock,
) -> None:
    """How long a connection may be silent, and how long it may take to find out who it is, are not one time."""
    mock_clock.rate = 0
    gate = Gate()
    keepalive = duplex.Keepalive(interval=1, timeout=3)
    async with duplex.open_peer(authenticator=gate, keepalive=keepalive) as server:
        with RawDealer(await server.bind("tcp://127.0.0.1:*")) as raw:
            raw.say()  # a batch without commands, which makes the connection known
            await until(lambda: _held(server))
            mock_clock.jump(2.5)
            await trio.testing.wait_all_tasks_blocked()
            raw.say(HELLO)
            await until(lambda: gate.asked)
            for _ in range(4):
                mock_clock.jump(0.6)
                await trio.testing.wait_all_tasks_blocked()
            assert _held(server) == 1
            gate.opened.set()
            await raw.commands(0)
            assert server.links[0].remote.identity == BILLING


def _held(peer: duplex.Peer) -> int:
    """Connections of a peer, be they links or not yet."""
    return sum(len(receiver.links) for receiver in peer._inside.ports.receivers)


async def test_how_many_are_asked_for_at_once_is_bounded(autojump_clock: object) -> None:
    gate = Gate()
    limits = duplex.Limits(max_links=3)
    async with two({"authenticator": gate, "limits": limits}, {}) as (server, client, endpoint):
        for _ in range(3):
            client.connect_soon(endpoint)
        await until(lambda: len(gate.asked) == 3)
        async with duplex.open_peer(name="one more") as more:
            with pytest.raises(duplex.HandshakeError, match="still finding out who they are") as caught:
                await more.connect(endpoint)
            assert caught.value.reason == "limit"
        assert len(gate.asked) == 3
        gate.opened.set()
        await until(lambda: len(server.links) == 3)
        await server.links[0].aclose()
        await trio.sleep(5)
        assert len(server.links) == 3, "it is connected again, so there is room"


def test_of_those_that_are_asked_for_some_are_left_for_other_addresses() -> None:
    deciding = Deciding(90)
    for _ in range(80):
        assert deciding.judge("1.1.1.1") is None
        deciding.begin("1.1.1.1")
    refused = deciding.judge("1.1.1.1")
    assert refused is not None
    assert refused[0] == "limit"
    assert "of 80 connections, 80 of them with 1.1.1.1" in refused[1]
    assert deciding.judge("2.2.2.2") is None
    deciding.end("1.1.1.1")
    assert deciding.judge("1.1.1.1") is None


# ---------------------------------------------------------------------------------- what waits is let go on


async def test_all_of_a_message_is_acted_upon_at_once_when_it_is_known_who_says_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before, one command was looked at, lest a call that came with the answer is served."""
    begun: list[Inbound] = []
    begin = Inbound._begin_backlog

    def note(inbound: Inbound) -> Any:
        begun.append(inbound)
        return begin(inbound)

    called: list[int] = []
    offered = duplex.Service("list")

    @offered.rpc
    async def note_it(number: int) -> None:
        called.append(number)

    with fail_after(20):
        async with duplex.open_peer(services=[offered], authenticator=by_token) as client:
            with RawRouter() as raw:
                client.connect_soon(raw.endpoint)
                await raw.commands(0)
                raw.say([*HELLO, ["msgpack"], [], {}, [], b"for shop"])
                await first_link(client)
                raw.say([3, 4711])
                await raw.commands(4)
                monkeypatch.setattr(Inbound, "_begin_backlog", note)
                raw.say(*([7, 2 + 2 * n, "list.note_it", 3, b"\x92\x91%c\x80" % n] for n in range(12)))
                await until(lambda: len(called) == 12)
            assert begun == []


# ----------------------------------------------------------------------- credentials that cannot be had


def no_credentials(_endpoint: str) -> bytes:
    raise Odd("the password is hunter2")


@pytest.mark.parametrize("error", [Odd("oh"), SystemExit(3), BaseExceptionGroup("oh", [SystemExit(3)])])
async def test_whoever_connects_to_one_without_credentials_is_told(
    error: BaseException, autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    def credentials(_endpoint: str) -> bytes:
        raise error

    async with two({"credentials": credentials}, {}) as (server, client, endpoint):
        began = trio.current_time()
        with pytest.raises(
            duplex.HandshakeError, match=r"\(auth\): the other side cannot get at its own credentials"
        ):
            await client.connect(endpoint, timeout=60)
        assert trio.current_time() - began < 1
        assert _held(server) == _held(client) == 0
        assert "cannot be had, so there is no link" in caplog.text


async def test_credentials_that_can_be_had_later_help(autojump_clock: object) -> None:
    tokens = [b"for billing"]
    failures = [Odd("oh"), SystemExit(3)]

    def credentials(_endpoint: str) -> bytes:
        if failures:
            raise failures.pop(0)
        return tokens[0]

    async with two({"authenticator": by_token}, {"credentials": credentials}) as (_, client, endpoint):
        client.connect_soon(endpoint)
        assert await client.service("service").who() == ["billing", "token"]


async def test_who_waits_for_a_link_that_has_no_credentials_is_told_at_once(autojump_clock: object) -> None:
    async with two({}, {"credentials": no_credentials}) as (_, client, endpoint):
        began = trio.current_time()
        with pytest.raises(duplex.HandshakeError, match="its own credentials"):
            await client.connect(endpoint, timeout=60)
        assert trio.current_time() - began < 1


# ----------------------------------------------------------------------------- calls that wait for a link


async def _call(proxy: duplex.ServiceProxy, kind: str) -> None:
    if kind == "stream":
        async with proxy.who.open():
            raise NotImplementedError
    elif kind == "notify":
        await proxy.who.notify()
    elif kind == "gather":
        async for _ in proxy.who.gather():
            raise NotImplementedError
    else:
        await proxy.who()


@pytest.mark.parametrize(
    ("server", "client"),
    [
        ({"authenticator": by_token}, {"credentials": b"stolen"}),
        ({"credentials": b"stolen"}, {"authenticator": by_token}),
        ({}, {"credentials": no_credentials}),
    ],
    ids=["refused there", "refused here", "nothing to show"],
)
@pytest.mark.parametrize("kind", ["unary", "stream", "notify", "gather", "impatient"])
async def test_calls_that_wait_for_a_link_that_is_refused_are_unauthenticated(
    kind: str, server: dict[str, Any], client: dict[str, Any], autojump_clock: object
) -> None:
    async with two(server, client | {"connect_timeout": 3.0}) as (_, calling, endpoint):
        calling.connect_soon(endpoint)
        proxy = calling.service("service")
        if kind == "impatient":
            await trio.sleep(2)
            proxy = proxy.with_options(wait_for_ready=False)
        with pytest.raises(duplex.Unauthenticated, match=r"handshake refused \(auth\)") as caught:
            await _call(proxy, kind)
        assert caught.value.may_have_executed is False
        assert caught.value.method == "service.who"


async def test_who_cannot_be_reached_elsewhere_makes_them_unavailable(autojump_clock: object) -> None:
    """The service may be where nothing answers, so that it is refused here says nothing."""
    options = {"credentials": b"stolen", "connect_timeout": 3.0}
    async with two({"authenticator": by_token}, options) as (_, client, endpoint):
        client.connect_soon(endpoint)
        client.connect_soon("memory://nobody")
        with pytest.raises(duplex.Unavailable, match=r"handshake refused \(auth\)"):
            await client.service("service").who()


async def test_a_refusal_is_forgotten_when_there_is_a_link(autojump_clock: object) -> None:
    tokens = [b"stolen", b"for billing"]
    options = {"credentials": lambda _endpoint: tokens.pop(0), "connect_timeout": 2.0}
    async with two({"authenticator": by_token}, options) as (server, client, endpoint):
        client.connect_soon(endpoint)
        assert await client.service("service").who() == ["billing", "token"]
        await server.unbind(endpoint)
        with pytest.raises(duplex.Unavailable) as caught:
            await client.service("service").who()
        assert "auth" not in str(caught.value)
