"""Callers compose: whatever can make a call can stand in the place of any other."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Never, TypeVar

import pytest
import trio

import duplex
from duplex.client import ServiceProxy
from duplex.client._balanced import Balanced
from duplex.client._options import Options
from duplex.client.balancing import Candidate, Meter, Meters
from duplex.engine.calling import Caller, Request
from tests.engine.helpers import linked, outcome, until
from tests.engine.named_service import named, serving
from tests.machine import fail_after

CandidateT = TypeVar("CandidateT", bound=Candidate)


class Noted:
    """Notes each call on its way, and how it ended."""

    def __init__(self, inner: Caller) -> None:
        self.inner = inner
        self.calls: list[tuple[str, str, str]] = []

    @contextlib.contextmanager
    def _noting(self, kind: str, request: Request) -> Any:
        try:
            yield
        except duplex.RPCError as error:
            self.calls.append((kind, request.method, error.code.name))
            raise
        self.calls.append((kind, request.method, "OK"))

    async def unary(self, request: Request, args: Sequence[Any], kwargs: Mapping[str, Any], /) -> Any:
        with self._noting("unary", request):
            return await self.inner.unary(request, args, kwargs)

    async def notify(self, request: Request, args: Sequence[Any], kwargs: Mapping[str, Any], /) -> None:
        with self._noting("notify", request):
            return await self.inner.notify(request, args, kwargs)

    @contextlib.asynccontextmanager
    async def open(
        self, request: Request, args: Sequence[Any], kwargs: Mapping[str, Any], /
    ) -> AsyncIterator[Any]:
        with self._noting("open", request):
            async with self.inner.open(request, args, kwargs) as call:
                yield call


class Sticky:
    """A policy that goes by what the call says, and notes what it was given."""

    def __init__(self) -> None:
        self.meters = Meters()
        self.seen: list[dict[str, tuple[str, float, float, int]]] = []

    def choose(
        self, candidates: Sequence[CandidateT], request: Request, now: float, chance: random.Random
    ) -> tuple[CandidateT, Meter]:
        assert now > 0
        assert 0 <= chance.random() < 1
        self.seen.append(
            {one.id: (one.place, one.weight, one.delay, self.meters[one.id].in_flight) for one in candidates}
        )
        metadata = request.metadata or {}
        wanted = request.idempotency_key or metadata.get("to", "0")
        chosen = candidates[int(str(wanted))]
        return chosen, self.meters[chosen.id]


class To:
    """A route to one caller."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def caller(self, service: str, options: Options) -> Caller:
        return self._caller

    def gathering(self, *_: Any) -> Never:
        raise NotImplementedError


def proxy(caller: Caller, peer: duplex.Peer) -> ServiceProxy:
    return ServiceProxy(To(caller), "who", Options(peer._inside.default_codec))


async def test_a_caller_around_a_balanced_service() -> None:
    async with linked(named("x")) as pair:
        noted = Noted(pair.client._callers.caller("who", Options(pair.client._inside.default_codec)))
        remote = proxy(noted, pair.client)
        assert await remote.name_() == "x"
        async with remote.name_.open() as call:
            assert await call.result() == "x"
        await remote.name_.notify()
        with pytest.raises(duplex.Unimplemented):
            await remote.nothing()
        with pytest.raises(duplex.DeadlineExceeded):
            async with remote.wait.with_options(timeout=0.01).open() as call:
                await call.result()
        assert noted.calls == [
            ("unary", "who.name_", "OK"),
            ("open", "who.name_", "OK"),
            ("notify", "who.name_", "OK"),
            ("unary", "who.nothing", "UNIMPLEMENTED"),
            ("open", "who.wait", "DEADLINE_EXCEEDED"),
        ]


async def test_a_caller_around_one_link() -> None:
    async with linked(named("x")) as pair:
        noted = Noted(pair.link._inside.caller)
        assert await proxy(noted, pair.client).name_() == "x"
        assert noted.calls == [("unary", "who.name_", "OK")]


async def test_callbacks_are_calls_like_any_other() -> None:
    service = duplex.Service("service")

    @service.rpc
    async def apply(function: duplex.Callback[[int], int]) -> int:
        return await function(20)

    async def double(value: int) -> int:
        return 2 * value

    async with linked(service) as pair:
        link: Any = pair.back._inside
        link.caller = noted = Noted(link.caller)
        assert await pair.service("service").apply(double) == 40
        assert noted.calls == [("unary", "callback 1", "OK")]


async def test_a_policy_is_told_of_the_call_and_of_the_candidates() -> None:
    with fail_after(10):
        async with serving("a", "b") as endpoints, duplex.open_peer() as client:
            ids = []
            for weight, endpoint in enumerate(endpoints, start=1):
                link = await client.connect(endpoint, weight=weight)
                ids.append(link.peer_id)
            await client.links[0].ping()
            sticky = Sticky()
            caller = Balanced(client._inside, "who", sticky, random.Random())
            remote = proxy(caller, client)
            to_b = remote.with_options(metadata={"to": "1"})
            keyed = remote.with_options(idempotency_key="1")
            assert [await one.name_() for one in (remote, to_b, keyed, to_b)] == ["a", "b", "b", "b"]
            async with to_b.wait.open(), trio.open_nursery() as nursery:
                nursery.start_soon(outcome, to_b.wait())
                await until(lambda: client.links[1].statistics().outgoing == 2)
                await remote.name_.notify()
                assert sticky.meters[ids[1]].waiting == 1
                nursery.cancel_scope.cancel()
            assert sticky.seen[0] == {
                ids[0]: (endpoints[0], 1.0, pytest.approx(0, abs=5), 0),
                ids[1]: (endpoints[1], 2.0, 0.0, 0),
            }
            assert [seen[ids[1]][-1] for seen in sticky.seen[-2:]] == [1, 2]
            assert sticky.meters[ids[1]].in_flight == sticky.meters[ids[1]].waiting == 0
            assert sticky.meters[ids[0]].latency > 0


# -- one time limit, whatever the kind of call ------------------------------------------------------------


async def test_time_that_is_over_before_the_call(autojump_clock: object) -> None:
    async with linked(named("x")) as pair:
        for remote in (pair.service("who"), pair.link.service("who")):
            method = remote.name_.with_options(timeout=0)
            for call in (method(), method.open().__aenter__(), method.notify()):
                with pytest.raises(duplex.DeadlineExceeded, match="0 s, and was not sent") as caught:
                    await call
                assert caught.value.method == "who.name_"
                assert caught.value.may_have_executed is False
                assert caught.value.cancelled_by == "deadline"


async def test_a_notification_tells_its_time_limit() -> None:
    """As every call does; it used to travel without."""
    remaining: list[float] = []
    service = duplex.Service("service")

    @service.rpc
    async def note() -> None:
        remaining.append(duplex.current_call().time_remaining)

    async with linked(service) as pair:
        await pair.service("service").with_options(timeout=5).note.notify()
        await until(lambda: remaining)
        with trio.fail_after(3):
            await pair.service("service").with_options(timeout=50).note.notify()
        await until(lambda: len(remaining) == 2)
    assert 0 < remaining[0] <= 5
    assert 0 < remaining[1] <= 3


async def test_a_notification_of_a_handlers_thread_inherits_the_deadline() -> None:
    remaining: list[float] = []
    service = duplex.Service("service")

    @service.rpc
    async def note() -> None:
        remaining.append(duplex.current_call().time_remaining)

    async with linked(service) as pair:
        again = duplex.Service("again")

        @again.rpc
        def relay() -> None:
            trio.from_thread.run(pair.service("service").note.notify)

        pair.server.add_service(again)
        await until(lambda: "again" in pair.link.services)
        await pair.service("again").with_options(timeout=5).relay()
        await until(lambda: remaining)
    assert 0 < remaining[0] <= 5


async def test_a_notification_that_waits_for_a_link_is_bounded(autojump_clock: object) -> None:
    async with duplex.open_peer() as client:
        client.connect_soon("memory://nowhere")
        began = trio.current_time()
        with pytest.raises(duplex.DeadlineExceeded, match="2 s, and was not sent"):
            await client.service("who").with_options(timeout=2).name_.notify()
        assert trio.current_time() - began == pytest.approx(2)
