"""Finding out who others are has bounds, in time and in number; and what becomes of those who are not let in."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

import duplex
from duplex.engine.links._handshake import Deciding
from duplex.engine.links._inbound import Inbound
from tests.engine.authenticators import BILLING, Gate, Odd, by_token, two
from tests.engine.helpers import first_link, until
from tests.engine.raw import HELLO, RawDealer, RawRouter
from tests.machine import fail_after

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


async def test_who_waits_already_is_told_too(autojump_clock: object) -> None:
    async with duplex.open_peer() as server, duplex.open_peer(credentials=no_credentials) as client:
        async with trio.open_nursery() as nursery:

            async def connect() -> None:
                with pytest.raises(duplex.HandshakeError, match="its own credentials"):
                    await client.connect("memory://bound-later", timeout=60)

            nursery.start_soon(connect)
            await trio.testing.wait_all_tasks_blocked()
            await server.bind("memory://bound-later")
            began = trio.current_time()
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
    """What is missing later is missing for other reasons."""
    asked = 0

    async def authenticator(_handshake: duplex.Handshake) -> duplex.Identity:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise duplex.Unauthenticated("not yet")
        if asked > 2:
            await trio.sleep_forever()
        return BILLING

    async with two({"authenticator": authenticator}, {"connect_timeout": 2.0}) as (server, client, endpoint):
        client.connect_soon(endpoint)
        assert await client.service("service").who() == ["billing", "token"]
        await server.links[0].aclose()
        with pytest.raises(duplex.Unavailable) as caught:
            await client.service("service").who()
        assert "not yet" not in str(caught.value)
