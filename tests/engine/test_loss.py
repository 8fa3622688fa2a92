"""Peers that go away: closed, killed, restarted, or silent. Nobody waits for them in vain."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from duplex.transports import Carrier, Frames
from tests.engine.helpers import collect, linked, made, outcome, process, until
from tests.engine.serve_loss import loss
from tests.machine import fail_after, within

#: Seconds within which a loss is to be noticed. In practice it takes milliseconds.
PROMPT = 1.0


class Calls:
    """One call of every kind under way on a link, and how each ends."""

    def __init__(self, remote: duplex.ServiceProxy) -> None:
        self.remote = remote
        self.outcomes: dict[str, Any] = {}
        self.under_way: set[str] = set()

    async def unary(self) -> Any:
        self.under_way.add("unary")
        return await self.remote.hang()

    async def streaming(self) -> Any:
        async with self.remote.ticks.open() as call:
            assert await call.receive() == 1
            self.under_way.add("streaming")
            return await collect(call)

    async def sending(self) -> Any:
        def note() -> None:
            self.under_way.add("sending")

        async with self.remote.hold.open(note) as call:
            while True:
                await call.send(b"x" * 10_000)

    async def waiting(self) -> Any:
        def note() -> None:
            self.under_way.add("waiting")

        async with self.remote.hold.open(note) as call:
            return await call.result()

    async def _note(self, kind: str) -> None:
        self.outcomes[kind] = await outcome(getattr(self, kind)())

    @contextlib.asynccontextmanager
    async def made(self) -> AsyncIterator[None]:
        """Within, all calls are under way; afterwards all have ended, within the time."""
        kinds = ["unary", "streaming", "sending", "waiting"]
        async with trio.open_nursery() as nursery:
            for kind in kinds:
                nursery.start_soon(self._note, kind)
            await until(lambda: self.under_way == set(kinds))
            assert await self.remote.good() == 1  # no call begins before one that came earlier
            yield
            nursery.cancel_scope.deadline = trio.current_time() + within(PROMPT)
        assert self.outcomes.keys() == set(kinds), "a call went on"

    def check(self, name: str) -> None:
        """Every call has ended because the peer was lost, and says so."""
        for kind, error in self.outcomes.items():
            assert type(error) is duplex.PeerLost, (kind, error)
            assert isinstance(error, duplex.Unavailable)
            assert error.method in ("loss.hang", "loss.ticks", "loss.hold")
            assert error.peer == name
            assert error.may_have_executed is True


async def test_server_closes_during_calls(endpoint: str) -> None:
    async with linked(loss, endpoint=endpoint, check=False) as pair:
        calls = Calls(pair.link.service("loss"))
        async with calls.made():
            await pair.server.aclose()
        calls.check("server")
        assert not pair.link.is_open
        assert pair.client.links == []
        assert pair.link._inside.channels.users == {}


async def test_errors_say_what_cut_the_call_short() -> None:
    async with linked(loss, check=False) as pair:
        results: list[Any] = []

        async def call() -> None:
            results.append(await outcome(pair.link.service("loss").hang()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await pair.settle()
            await pair.server.aclose()
        assert results[0].cancelled_by == "link"


async def test_link_is_closed_by_the_side_that_calls(endpoint: str) -> None:
    async with linked(loss, endpoint=endpoint, check=False) as pair:
        calls = Calls(pair.link.service("loss"))
        async with calls.made():
            await pair.link.aclose()
        calls.check("server")
        await pair.back.wait_closed()
        await until(lambda: not pair.back._inside.channels.users)


async def test_server_leaves_its_block_during_calls() -> None:
    leave = trio.Event()

    async def serve(task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        async with duplex.open_peer(services=[loss], name="server") as server:
            task_status.started(await server.bind("tcp://127.0.0.1:*"))
            await leave.wait()

    with fail_after(10):
        async with trio.open_nursery() as nursery, duplex.open_peer() as client:
            link = await client.connect(await nursery.start(serve))
            calls = Calls(link.service("loss"))
            async with calls.made():
                leave.set()
            calls.check("server")


async def test_client_closes_while_handlers_run(endpoint: str) -> None:
    """The other way round: nobody is left to answer, so the handlers are cancelled."""
    begun: list[str] = []
    ended: list[str] = []
    service = duplex.Service("service")

    @service.rpc
    async def hang() -> None:
        begun.append("async")
        try:
            await trio.sleep_forever()
        finally:
            ended.append("async")

    @service.rpc
    async def stream() -> AsyncIterator[bytes]:
        begun.append("stream")
        try:
            while True:
                yield bytes(10_000)
        finally:
            ended.append("stream")

    async with linked(service, endpoint=endpoint, check=False) as pair:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outcome, pair.link.service("service").hang())
            opened = pair.link.service("service").stream.open()
            await opened.__aenter__()
            await until(lambda: len(begun) == 2)
            await pair.client.aclose()
        await until(lambda: len(ended) == 2)
        await until(lambda: not pair.server.links)
        await opened.__aexit__(None, None, None)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["tcp", "ipc"])
async def test_killed_server(scheme: str, tmp_path: Any) -> None:
    endpoint = "tcp://127.0.0.1:*" if scheme == "tcp" else f"ipc://{tmp_path}/s"
    with process("tests.engine.serve_loss", endpoint) as (server, address), fail_after(10):
        async with duplex.open_peer() as client:
            link = await client.connect(address)
            calls = Calls(link.service("loss"))
            async with calls.made():
                server.send_signal(signal.SIGKILL)
            calls.check("loss")
            assert client.links == []


@pytest.mark.slow
async def test_killed_client() -> None:
    """A server notices that a client was killed, and cancels what ran for it."""
    ended = trio.Event()
    service = duplex.Service("service")

    @service.rpc
    async def hang() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    with fail_after(10):
        async with duplex.open_peer(services=[service]) as server:
            endpoint = await server.bind("tcp://127.0.0.1:*")
            with process("tests.engine.call_forever", endpoint) as (client, _):
                await until(lambda: server.links and server.links[0].statistics().incoming)
                client.send_signal(signal.SIGKILL)
                with fail_after(PROMPT):
                    await ended.wait()
                    await until(lambda: not server.links)


@pytest.mark.slow
async def test_restarted_server() -> None:
    """Another process at the same port is another peer: a new link, and new calls work."""
    with fail_after(10):
        async with duplex.open_peer() as client:
            with process("tests.engine.serve_loss", "tcp://127.0.0.1:*") as (server, endpoint):
                first = await client.connect(endpoint)
                assert await client.service("loss").good() == 1
                server.send_signal(signal.SIGKILL)
                await first.wait_closed()
            with process("tests.engine.serve_loss", endpoint):
                assert await client.service("loss").good() == 1
                (second,) = client.links
                assert second is not first
                assert second.peer_id != first.peer_id
                assert not first.is_open
                with pytest.raises(duplex.PeerLost):
                    await first.service("loss").good()


@pytest.mark.parametrize("scheme", ["tcp", "memory"])
async def test_connecting_side_connects_again(scheme: str) -> None:
    endpoint = "tcp://127.0.0.1:*" if scheme == "tcp" else "memory://again"
    with fail_after(10):
        async with duplex.open_peer() as client:
            async with duplex.open_peer(services=[loss], name="one") as one:
                endpoint = await one.bind(endpoint)
                first = await client.connect(endpoint)
            await first.wait_closed()
            async with duplex.open_peer(services=[loss], name="two") as two:
                assert await two.bind(endpoint) == endpoint
                assert await client.service("loss").good() == 1
                assert client.links[0].peer_name == "two"


async def test_disconnect_stops_connecting_again(autojump_clock: object) -> None:
    async with duplex.open_peer() as client:
        async with duplex.open_peer(services=[loss]) as one:
            endpoint = await one.bind("memory://again")
            link = await client.connect(endpoint)
        await link.wait_closed()
        await client.disconnect(endpoint)
        async with duplex.open_peer(services=[loss]) as two:
            await two.bind(endpoint)
            await trio.sleep(100)
            assert two.links == []


@pytest.mark.slow
async def test_stopped_process_is_not_lost_but_slow() -> None:
    """A process that does not run for a moment answers later; its link is not given up."""
    with process("tests.engine.serve_loss", "tcp://127.0.0.1:*") as (server, endpoint), fail_after(10):
        async with duplex.open_peer() as client:
            link = await client.connect(endpoint)
            os.kill(server.pid, signal.SIGSTOP)
            try:
                with trio.move_on_after(0.2) as scope:
                    await client.service("loss").good()
                assert scope.cancelled_caught
            finally:
                os.kill(server.pid, signal.SIGCONT)
            assert await client.service("loss").good() == 1
            assert client.links == [link]


async def test_loss_wakes_whoever_waits_for_credit_of_the_link(endpoint: str) -> None:
    """Calls that have not begun, for want of credit, never ran; they say so."""
    limits = duplex.Limits(link_window=4096, channel_window=4096, link_buffer=0)
    outcomes: dict[str, Any] = {}

    async with linked(loss, endpoint=endpoint, check=False, server={"limits": limits}) as pair:
        remote = pair.link.service("loss")
        filling = remote.hold.open(lambda: None)
        call = await filling.__aenter__()
        await call.send(bytes(8000))
        assert pair.link.statistics().send_credit <= 0

        async def note(kind: str, awaitable: Any) -> None:
            outcomes[kind] = await outcome(awaitable)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(note, "unary", remote.good())
            nursery.start_soon(note, "opened", remote.ticks.open().__aenter__())
            nursery.start_soon(note, "notified", remote.good.notify())
            await trio.testing.wait_all_tasks_blocked(0.005)
            assert outcomes == {}
            await pair.server.aclose()
            nursery.cancel_scope.deadline = trio.current_time() + within(PROMPT)
        await filling.__aexit__(None, None, None)
        assert outcomes.keys() == {"unary", "opened", "notified"}, "a call waits in vain"
        for error in outcomes.values():
            assert type(error) is duplex.PeerLost
            assert error.may_have_executed is False


async def test_refused_while_waiting_for_credit() -> None:
    """OPEN goes ahead of the arguments when these hold a function; its refusal must not be missed."""
    limits = duplex.Limits(link_window=4096, channel_window=4096, link_buffer=0)
    async with linked(loss, server={"limits": limits}) as pair:
        remote = pair.link.service("loss")
        async with remote.hold.open(lambda: None) as call:
            await call.send(bytes(8000))
            assert pair.link.statistics().send_credit <= 0
            with fail_after(1):
                for opened in (False, True):
                    with pytest.raises(duplex.Unimplemented):
                        await made(remote.gone, lambda: 1, opened=opened)


async def test_goodbye_of_a_peer_that_never_began_a_call() -> None:
    """GOAWAY names the last call that was begun; whoever waits for a later one may safely try again."""
    from tests.engine.raw import RawRouter

    with fail_after(10):
        with RawRouter() as router:
            async with duplex.open_peer() as client, trio.open_nursery() as nursery:
                nursery.start_soon(client.connect, router.endpoint)
                await router.shake_hands(services=["raw"])
                await until(lambda: client.links)
                (link,) = client.links
                outcomes: list[Any] = []

                async def call() -> None:
                    outcomes.append(await outcome(link.service("raw").method()))

                nursery.start_soon(call)
                (opened,) = await router.commands(7)
                router.say([5, 0, "closing", "bye"])
                await until(lambda: outcomes)
                assert opened[1] == 1
                assert isinstance(outcomes[0], duplex.Unavailable)
                assert outcomes[0].may_have_executed is False


async def test_draining_peer_is_left_alone() -> None:
    """After GOAWAY(draining) calls that run go on, and new ones are not made."""
    from tests.engine.raw import RawRouter

    with fail_after(10):
        with RawRouter() as router:
            async with duplex.open_peer() as client, trio.open_nursery() as nursery:
                nursery.start_soon(client.connect, router.endpoint)
                await router.shake_hands(services=["raw"])
                await until(lambda: client.links)
                (link,) = client.links
                outcomes: list[Any] = []

                async def call() -> None:
                    outcomes.append(await outcome(link.service("raw").method()))

                nursery.start_soon(call)
                nursery.start_soon(call)
                opened = await router.commands(7, 2)
                router.say([5, opened[0][1], "draining"])
                await until(lambda: outcomes)
                assert isinstance(outcomes[0], duplex.Unavailable)
                assert outcomes[0].may_have_executed is False
                with pytest.raises(duplex.Unavailable) as caught:
                    await link.service("raw").method()
                assert caught.value.may_have_executed is False
                router.say([10, opened[0][1], 0, b"\x2a"])
                await until(lambda: len(outcomes) == 2)
                assert outcomes[1] == 42


class Deaf:
    """A carrier that delivers nothing, and says so to nobody."""

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self.address = carrier.address
        self.identity = carrier.identity
        self.turns = carrier.turns

    def send(self, frames: Frames) -> None:
        pass

    def close(self) -> None:
        self._carrier.close()


async def test_silent_peer_does_not_hold_a_call_with_a_timeout(autojump_clock: object) -> None:
    async with linked(loss, within=100, check=False) as pair:
        pair.link._inside.outbound.carrier = Deaf(pair.link._inside.carrier)
        started = trio.current_time()
        with pytest.raises(duplex.DeadlineExceeded):
            await pair.link.service("loss").with_options(timeout=3).good()
        assert trio.current_time() - started == pytest.approx(3)


@pytest.mark.parametrize("side", ["server", "client"])
async def test_port_that_is_gone_without_a_goodbye(endpoint: str, side: str) -> None:
    """As when an event loop ends in the middle of everything; inproc notices it with the next ping."""
    keepalive = duplex.Keepalive(interval=0.05, timeout=1)
    options = {"keepalive": keepalive}
    async with linked(loss, endpoint=endpoint, check=False, server=options, client=options) as pair:
        peer, other = (pair.server, pair.link) if side == "server" else (pair.client, pair.back)
        for receiver in peer._inside.ports.receivers:
            receiver.port.close()
        with fail_after(PROMPT):
            await other.wait_closed()


async def test_links_are_pinged(autojump_clock: object) -> None:
    async with linked(loss, within=100) as pair:
        assert pair.link.statistics().round_trip is None
        await trio.sleep(20)
        assert pair.link.statistics().round_trip is not None
        assert pair.back.statistics().round_trip is not None


@pytest.mark.parametrize("how", ["value", "function", "error", "status"])
async def test_handler_that_ends_after_the_link(how: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody hears what it returns; an unexpected error is in the log all the same."""
    service = duplex.Service("service")
    started, go, ended = trio.Event(), trio.Event(), trio.Event()

    @service.rpc
    async def late() -> Any:
        started.set()
        try:
            with trio.CancelScope(shield=True):
                await go.wait()
            if how == "error":
                raise ValueError("the secret of the handler")
            if how == "status":
                raise duplex.NotFound("too late")
            return (lambda: 1) if how == "function" else 1
        finally:
            ended.set()

    async with linked(service, check=False) as pair:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outcome, pair.link.service("service").late())
            await started.wait()
            await pair.link.aclose()
            await pair.back.wait_closed()
            go.set()
            await ended.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert ("the secret of the handler" in caplog.text) is (how == "error")
        assert not pair.back._inside.channels.users
        assert await pair.service("duplex.health").check() == "SERVING", "the peer goes on"


async def test_closing_at_the_bound_side_blames_nobody(
    endpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What was still on its way when the link was closed is not a fault of whoever sent it."""
    service = duplex.Service("service")

    @service.rpc
    async def swallow(items: duplex.ReceiveChannel[bytes]) -> None:
        async for _ in items:
            pass

    async with linked(service, endpoint=endpoint, check=False) as pair, trio.open_nursery() as nursery:
        sent = 0

        async def flood() -> None:
            nonlocal sent
            async with pair.link.service("service").swallow.open() as call:
                while True:
                    await call.send(bytes(1000))
                    sent += 1

        for _ in range(5):
            nursery.start_soon(outcome, flood())
        await until(lambda: sent > 500)
        await pair.back.aclose()
    assert caplog.text == ""


@pytest.mark.parametrize("count", [2, 4])
async def test_items_that_came_before_the_loss_are_still_received(count: int) -> None:
    """Then comes the error. Nothing is owed to anybody any more."""
    service = duplex.Service("service")
    seen: list[Any] = []
    go = trio.Event()

    @service.rpc
    async def late(items: duplex.ReceiveChannel[int]) -> None:
        with trio.CancelScope(shield=True):
            await go.wait()
            while len(seen) < count:
                seen.append(await outcome(items.receive()))

    async with linked(service, check=False) as pair:
        async with pair.link.service("service").late.open() as call:
            for number in range(3):
                await call.send(number)
            await pair.settle()
            await pair.link.aclose()
            await pair.back.wait_closed()
            go.set()
            await until(lambda: len(seen) == count)
        if count == 2:
            assert seen == [0, 1]
        else:
            assert seen[:3] == [0, 1, 2]
            assert type(seen[3]) is duplex.PeerLost
        await trio.testing.wait_all_tasks_blocked()
        assert not pair.back._inside.returns.pending
