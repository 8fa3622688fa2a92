"""The same call to every peer that offers a service: who is asked, what comes of it, and when it is enough."""

from __future__ import annotations

import contextlib
import gc
import math
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from duplex.engine.calling._gathering import Outcome, Tally
from tests.engine.helpers import quiet, until
from tests.machine import fail_after

ANN, BEN, CAT = (duplex.PeerInfo(name, name) for name in ("ann", "ben", "cat"))
LATE = duplex.Unavailable("gone")


# -- when it is enough ---------------------------------------------------------------------------------


def test_it_ends_when_all_have_answered() -> None:
    tally = Tally(2, None, None)
    tally.came(ANN, Outcome(1), 0.0)
    assert tally.ends_at == math.inf
    tally.came(BEN, Outcome(error=LATE), 1.0)
    assert tally.ends_at == -math.inf
    assert [(peer.name, outcome.error) for peer, outcome in tally.outcomes] == [("ann", None), ("ben", LATE)]


def test_it_ends_after_so_many_answers_and_a_failure_is_none() -> None:
    tally = Tally(5, 2, None)
    tally.came(ANN, Outcome(1), 0.0)
    tally.came(BEN, Outcome(error=LATE), 0.0)
    assert tally.ends_at == math.inf
    tally.came(CAT, Outcome(None), 0.0)
    assert tally.ends_at == -math.inf, "None is an answer"
    tally.came(ANN, Outcome(3), 0.0)
    assert len(tally.outcomes) == 3, "what comes later is too much"


def test_it_ends_when_no_further_answer_comes() -> None:
    tally = Tally(5, None, 2.0)
    assert tally.ends_at == math.inf, "the first answer may take its time"
    tally.came(ANN, Outcome(error=LATE), 1.0)
    assert tally.ends_at == math.inf, "a failure is no answer"
    tally.came(ANN, Outcome(1), 3.0)
    assert tally.ends_at == 5.0
    tally.came(BEN, Outcome(1), 4.0)
    assert tally.ends_at == 6.0
    tally.came(BEN, Outcome(error=LATE), 5.0)
    assert tally.ends_at == 6.0, "and puts nothing off"
    tally.came(CAT, Outcome(1), 6.0)
    assert len(tally.outcomes) == 4, "it had ended"


def test_an_outcome_gives_its_value_or_raises_its_error() -> None:
    assert Outcome(7).result() == 7
    assert Outcome(7).error is None
    assert repr(Outcome(7)) == "<Outcome 7>"
    failed: Outcome[int] = Outcome(error=LATE)
    assert failed.error is LATE
    assert repr(failed) == "<Outcome Unavailable('gone')>"
    with pytest.raises(duplex.Unavailable, match="gone"):
        failed.result()


# -- several peers -------------------------------------------------------------------------------------


class Sensor:
    """What each peer offers."""

    def __init__(self, name: str, delay: float) -> None:
        self._name = name
        self._delay = delay
        self.log: list[str] = []

    @duplex.rpc
    async def read(self, unit: str = "C") -> str:
        self.log.append("began")
        try:
            await trio.sleep(self._delay)  # by which the tests tell who answers first
        except trio.Cancelled:
            self.log.append("cancelled")
            raise
        self.log.append("ended")
        return f"{self._name} in {unit}"

    @duplex.rpc
    async def fail(self) -> str:
        if self._name == "b":
            raise duplex.NotFound("broken")
        return self._name

    @duplex.rpc
    async def seconds_left(self) -> float:
        return duplex.current_call().time_remaining

    @duplex.rpc
    async def visit(self, function: duplex.Callback[[str], str]) -> str:
        return await function(self._name)

    @duplex.rpc
    async def count(self) -> AsyncIterator[int]:
        yield 1

    @duplex.rpc
    async def header(self) -> str:
        return str(duplex.current_call().metadata["user"])


class Field:
    """A client, and peers that offer the sensor."""

    def __init__(
        self, client: duplex.Peer, servers: dict[str, duplex.Peer], sensors: dict[str, Sensor]
    ) -> None:
        self.client = client
        self.servers = servers
        self.sensors = sensors
        self.remote = client.service("sensor")

    def logs(self) -> dict[str, list[str]]:
        return {name: sensor.log for name, sensor in self.sensors.items()}


@contextlib.asynccontextmanager
async def field(check: bool = True, **delays: float) -> AsyncIterator[Field]:
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(fail_after(60))
        client = await stack.enter_async_context(duplex.open_peer(name="client"))
        servers, sensors = {}, {}
        for name, delay in delays.items():
            server = await stack.enter_async_context(duplex.open_peer(name=name))
            sensors[name] = Sensor(name, delay)
            server.expose(sensors[name])
            await client.connect(await server.bind("memory://*"))
            servers[name] = server
        yield Field(client, servers, sensors)
        if check:
            for link in client.links:
                ends = [back for server in servers.values() for back in server.links]
                await quiet(link, *(back for back in ends if back.endpoint == link.endpoint))


async def gathered(gathering: duplex.Gathering[Any]) -> dict[str, Any]:
    """Return who has answered what, in the order in which that was told."""
    return {peer.name: outcome.error or outcome.result() async for peer, outcome in gathering}


async def test_all_are_asked_and_told_as_they_answer(autojump_clock: object) -> None:
    async with field(a=3, b=1, c=2) as it:
        found = await gathered(it.remote.read.gather("F"))
        assert list(found.items()) == [("b", "b in F"), ("c", "c in F"), ("a", "a in F")]
        assert trio.current_time() == pytest.approx(3, abs=0.1), "all at once"


async def test_who_it_was_is_told_by_id_too(autojump_clock: object) -> None:
    async with field(a=0, b=0) as it:
        async for peer, _ in it.remote.read.gather():
            assert peer.id == it.servers[peer.name].id


async def test_a_failure_is_the_outcome_of_the_peer_that_failed(autojump_clock: object) -> None:
    async with field(a=0, b=0, c=0) as it:
        found = await gathered(it.remote.fail.gather())
        error = found.pop("b")
        assert found == {"a": "a", "c": "c"}
        assert isinstance(error, duplex.NotFound)
        assert (error.peer, error.method) == ("b", "sensor.fail")


async def test_nobody_offers_it(autojump_clock: object) -> None:
    async with field(a=0) as it:
        for remote in (it.client.service("other"), it.client.service("other").with_options(timeout=5)):
            with pytest.raises(
                duplex.NoPeers, match=r"nobody offers the service 'other': a offers sensor"
            ) as info:
                await gathered(remote.read.gather())
            assert info.value.code is duplex.StatusCode.UNAVAILABLE
            assert not info.value.may_have_executed
            assert info.value.method == "other.read"
        assert trio.current_time() < 0.1, "at once"


async def test_a_peer_that_is_bound_does_not_wait_for_others_to_come(autojump_clock: object) -> None:
    async with duplex.open_peer() as peer:
        await peer.bind("memory://*")
        with pytest.raises(duplex.NoPeers):
            await gathered(peer.service("sensor").read.gather())
        assert trio.current_time() == 0


async def test_it_waits_for_connections_that_are_being_made(autojump_clock: object) -> None:
    async with duplex.open_peer() as peer, trio.open_nursery() as nursery:
        peer.connect_soon("memory://later")
        with pytest.raises(duplex.NoPeers):
            await gathered(peer.service("sensor").with_options(wait_for_ready=False).read.gather())
        with pytest.raises(duplex.DeadlineExceeded):
            await gathered(peer.service("sensor").with_options(timeout=1).read.gather())
        with pytest.raises(duplex.NoPeers, match="memory://later"):
            await gathered(peer.service("sensor").read.gather())
        assert trio.current_time() >= peer.connect_timeout

        async def come() -> None:
            async with duplex.open_peer(name="late") as late:
                late.expose(Sensor("late", 0))
                await late.bind("memory://later")
                await trio.sleep_forever()

        nursery.start_soon(come)
        assert await gathered(peer.service("sensor").read.gather()) == {"late": "late in C"}
        nursery.cancel_scope.cancel()


async def test_max_answers(autojump_clock: object) -> None:
    async with field(a=1, b=2, c=3) as it:
        found = await gathered(it.remote.with_options(max_answers=2).read.gather())
        assert list(found) == ["a", "b"]
        await until(lambda: it.sensors["c"].log == ["began", "cancelled"])
        assert trio.current_time() < 2.5


async def test_stall(autojump_clock: object) -> None:
    async with field(a=1, b=1.5, c=3) as it:
        found = await gathered(it.remote.read.with_options(stall=1).gather())
        assert list(found) == ["a", "b"]
        assert trio.current_time() == pytest.approx(2.5, abs=0.1)
        await until(lambda: it.sensors["c"].log == ["began", "cancelled"])


async def test_stall_is_the_peers_time_and_not_that_of_the_loop(autojump_clock: object) -> None:
    async with field(a=1, b=1.5, c=3) as it:
        found = []
        async for peer, _ in it.remote.read.with_options(stall=1).gather():
            found.append(peer.name)
            await trio.sleep(10)  # a loop that takes long
        assert found == ["a", "b"], "what came in time is told, and what came too late is not"
        assert it.sensors["c"].log == ["began", "cancelled"]


async def test_a_timeout_is_for_all_and_the_outcome_of_those_that_had_no_more_time(
    autojump_clock: object,
) -> None:
    async with field(a=1, b=5, c=6) as it:
        found = await gathered(it.remote.with_options(timeout=2).read.gather())
        assert found["a"] == "a in C"
        assert [type(found[name]) for name in "bc"] == [duplex.DeadlineExceeded] * 2
        assert trio.current_time() == pytest.approx(2, abs=0.1)


async def test_the_deadline_of_the_scopes_travels(autojump_clock: object) -> None:
    async with field(a=0, b=0) as it:
        with trio.move_on_after(7):
            found = await gathered(it.remote.seconds_left.gather())
        assert all(6.5 < left <= 7 for left in found.values())
        with trio.move_on_after(7):
            found = await gathered(it.remote.with_options(timeout=3).seconds_left.gather())
        assert all(2.5 < left <= 3 for left in found.values())


async def test_the_time_that_only_the_first_wait_has_is_that_of_the_calls(autojump_clock: object) -> None:
    async with field(a=1, b=5) as it:
        gathering = it.remote.read.gather()
        with trio.fail_after(2):
            peer, _ = await anext(gathering)
        assert peer.name == "a"
        peer, outcome = await anext(gathering)
        assert isinstance(outcome.error, duplex.DeadlineExceeded)
        assert outcome.error.peer == peer.name == "b"
        with pytest.raises(StopAsyncIteration):
            await anext(gathering)


# -- leaving it ----------------------------------------------------------------------------------------


async def _leave(it: Field, how: str) -> None:
    gathering = it.remote.read.gather()
    if how == "aclose":
        await anext(gathering)
        await gathering.aclose()
        await gathering.aclose()
        return
    if how == "cancelled":
        with trio.move_on_after(2):
            async for _ in gathering:
                pass
        return
    async for _ in it.remote.read.gather():
        if how == "break":
            break
        if how == "return":
            return
        raise KeyError


@pytest.mark.parametrize("how", ["break", "return", "raise", "cancelled", "aclose"])
async def test_leaving_the_loop_cancels_what_still_runs(how: str, autojump_clock: object) -> None:
    async with field(a=1, b=100) as it:
        with pytest.raises(KeyError) if how == "raise" else contextlib.nullcontext():
            await _leave(it, how)
        await until(lambda: it.sensors["b"].log == ["began", "cancelled"])
        assert trio.current_time() < 3


async def test_a_gathering_that_garbage_holds_is_cancelled_when_it_is_collected(
    autojump_clock: object,
) -> None:
    async with field(a=1, b=100) as it:
        gathering = it.remote.read.gather()
        await anext(gathering)
        circle: list[Any] = [gathering]
        circle.append(circle)
        del gathering, circle
        collector = threading.Thread(target=gc.collect)
        collector.start()
        collector.join()
        await until(lambda: it.sensors["b"].log == ["began", "cancelled"])
        assert trio.current_time() < 3


async def test_nothing_is_called_before_the_loop_begins(autojump_clock: object) -> None:
    async with field(a=0) as it:
        gathering = it.remote.read.gather()
        await it.client.links[0].ping()
        await gathering.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(gathering)
        del gathering
        it.remote.read.gather()
        await it.client.links[0].ping()
        assert it.logs() == {"a": []}


async def test_a_gathering_that_has_ended_gives_no_more(autojump_clock: object) -> None:
    async with field(a=0, b=0) as it:
        gathering = it.remote.read.gather()
        assert len(await gathered(gathering)) == 2
        assert await gathered(gathering) == {}
        assert [len(log) for log in it.logs().values()] == [2, 2]


# -- peers that come and go ----------------------------------------------------------------------------


async def test_a_peer_that_is_lost_meanwhile_has_an_outcome_too(autojump_clock: object) -> None:
    async with field(a=1, b=100, check=False) as it:
        found = {}
        async for peer, outcome in it.remote.read.gather():
            found[peer.name] = outcome.error or outcome.result()
            await it.servers["b"].aclose()
        assert found["a"] == "a in C"
        assert isinstance(found["b"], duplex.PeerLost)
        assert found["b"].may_have_executed


async def test_a_peer_that_comes_meanwhile_is_asked_the_next_time(autojump_clock: object) -> None:
    async with field(a=1) as it, duplex.open_peer(name="new") as new:
        new.expose(Sensor("new", 0))
        found: list[str] = []
        gathering = it.remote.read.gather()
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                found.extend(await gathered(gathering))

            nursery.start_soon(ask)
            await until(lambda: it.sensors["a"].log)
            await it.client.connect(await new.bind("memory://*"))
        assert found == ["a"]
        assert await gathered(it.remote.read.gather()) == {"a": "a in C", "new": "new in C"}


async def test_a_peer_to_which_there_are_two_links_is_asked_once(autojump_clock: object) -> None:
    async with field(a=0) as it:
        await it.client.connect(await it.servers["a"].bind("memory://*"))
        assert len(it.client.links) == 2
        assert await gathered(it.remote.read.gather()) == {"a": "a in C"}
        assert it.logs() == {"a": ["began", "ended"]}


async def test_a_peer_that_takes_no_more_calls_has_an_outcome_too(autojump_clock: object) -> None:
    async with (
        duplex.open_peer(name="full", limits=duplex.Limits(max_channels=1)) as full,
        duplex.open_peer() as client,
    ):
        full.expose(Sensor("full", 5))
        await client.connect(await full.bind("memory://*"))
        remote = client.service("sensor")
        async with remote.read.open() as call:
            found = await gathered(remote.read.gather())
            assert isinstance(found["full"], duplex.ResourceExhausted)
            assert await call.result() == "full in C"


async def test_the_peer_that_asks_is_closed_meanwhile(autojump_clock: object) -> None:
    async with field(a=100, check=False) as it, trio.open_nursery() as nursery:
        found: dict[str, Any] = {}

        async def ask() -> None:
            found.update(await gathered(it.remote.read.gather()))

        nursery.start_soon(ask)
        await until(lambda: it.sensors["a"].log)
        await it.client.aclose()
        await until(lambda: found)
        assert isinstance(found["a"], duplex.Unavailable)


async def test_a_loop_outlives_the_block_of_its_peer(autojump_clock: object) -> None:
    async with field(a=100, check=False) as it, duplex.open_peer() as client:
        await client.connect(it.servers["a"].endpoints[0])
        gathering = client.service("sensor").read.gather()
        with trio.move_on_after(1):
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as nursery:
                    problems: list[duplex.RPCError] = []

                    async def ask() -> None:
                        try:
                            await gathered(gathering)
                        except duplex.Unavailable as error:
                            problems.append(error)

                    nursery.start_soon(ask)
                    await until(lambda: it.sensors["a"].log)
                    client._inside.home.nursery.cancel_scope.cancel()
        assert [type(problem) for problem in problems] == [duplex.Unavailable]
        assert "closed meanwhile" in problems[0].message


# -- what else calls have ------------------------------------------------------------------------------


async def test_what_is_a_mistake_of_the_caller_is_raised(autojump_clock: object) -> None:
    async with field(a=0, b=0) as it:
        with pytest.raises(duplex.EncodeError):
            await gathered(it.remote.read.gather(object()))
        found = await gathered(it.remote.count.gather())
        assert {type(found[name]) for name in "ab"} == {duplex.InvalidArgument}


async def test_a_function_is_called_back_by_all(autojump_clock: object) -> None:
    async with field(a=0, b=0) as it:

        async def shout(name: str) -> str:
            return name.upper()

        assert await gathered(it.remote.visit.gather(shout)) == {"a": "A", "b": "B"}


async def test_middleware_is_around_each_call(autojump_clock: object) -> None:
    async with field(a=0, b=0) as it:
        seen = []

        async def signed(call: duplex.MadeCall, next: duplex.NextCall) -> Any:
            seen.append(call.kind)
            call.metadata = {"user": "ann"}
            return await next(call)

        remote = it.remote.with_options(middleware=[signed])
        assert await gathered(remote.header.gather()) == {"a": "ann", "b": "ann"}
        assert seen == ["unary", "unary"]


async def test_calls_that_fail_are_made_again(autojump_clock: object) -> None:
    refusals = {"a": 2, "b": 0}

    async def refuse(call: duplex.ServedCall, next: duplex.Next) -> Any:
        name = call.link.peer.name
        if refusals[name]:
            refusals[name] -= 1
            raise duplex.Unavailable("not now")
        return await next(call)

    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(duplex.open_peer())
        for name in refusals:
            server = await stack.enter_async_context(duplex.open_peer(name=name))
            server.expose(Sensor(name, 0), middleware=[refuse])
            await client.connect(await server.bind("memory://*"))
        remote = client.service("sensor").with_options(retry=duplex.RetryPolicy(max_attempts=4))
        assert await gathered(remote.read.gather()) == {"b": "b in C", "a": "a in C"}


async def test_a_typed_proxy_checks_results(autojump_clock: object) -> None:
    class Wrong:
        @duplex.rpc(name="read")
        async def read(self) -> int:
            raise NotImplementedError

    async with field(a=0) as it:
        remote = it.client.service(Wrong, name="sensor")
        ((_, outcome),) = [pair async for pair in remote.read.gather()]
        assert isinstance(outcome.error, duplex.Internal)


async def test_plain_handlers_gather_from_their_threads() -> None:
    # In real time: a clock that jumps would not wait for the thread.
    outer = duplex.Service("outer")

    async with field(a=0, b=0) as it:

        @outer.rpc
        def ask() -> list[str]:
            async def all_of_them() -> dict[str, Any]:
                return await gathered(it.remote.read.gather())

            return sorted(trio.from_thread.run(all_of_them))

        it.client.add_service(outer)
        assert await it.servers["a"].service("outer").ask() == ["a", "b"]
        threads = it.client._inside.threads
        assert threads.calling == 0


async def test_options_and_places_that_do_not_go_with_it(autojump_clock: object) -> None:
    async with field(a=0) as it:
        with pytest.raises(duplex.ConfigurationError, match="resume= has no meaning"):
            it.remote.with_options(resume=True).read.gather()
        with pytest.raises(duplex.ConfigurationError, match="balancer= has no meaning"):
            it.remote.with_options(balancer="pick_first").read.gather()
        with pytest.raises(duplex.ConfigurationError, match=r"for peer\.service\(...\)"):
            it.client.links[0].service("sensor").read.gather()
        for wrong in ({"max_answers": 0}, {"max_answers": 1.5}, {"stall": -1}, {"stall": "1"}):
            with pytest.raises(duplex.ConfigurationError, match=next(iter(wrong))):
                it.remote.with_options(**wrong)
        it.remote.with_options(max_answers=None, stall=None)
        with pytest.raises(TypeError, match=r"remote\.method\.gather"):
            duplex.Gathering()  # type: ignore[call-arg]


def test_outside_of_trio() -> None:
    async def main() -> duplex.MethodProxy:
        async with duplex.open_peer() as peer:
            return peer.service("sensor").read

    method = trio.run(main)
    with pytest.raises(RuntimeError, match="Duplex runs on trio"):
        method.gather().__anext__().send(None)
