"""Calls to a service, each over one of the links that offer it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol, final

import msgspec
import trio

from duplex._balancing import Balancing, ConsistentHash
from duplex._errors import NoPeers, RPCError, Unauthenticated, Unavailable, Unimplemented
from duplex._policies import CircuitBreaker, OutlierDetection
from duplex.client._health import Health
from duplex.client.balancing import (
    Balancer,
    Candidate,
    Hashing,
    Meter,
    Metered,
    Meters,
    PickFirst,
    Rings,
    RoundRobin,
)
from duplex.engine._peer_info import PeerInfo
from duplex.engine._runs import check_run
from duplex.engine._signal import Signal
from duplex.engine.calling import (
    CallCounts,
    Caller,
    Opening,
    Relayed,
    Request,
    Resolution,
    Situation,
    begun,
    blame,
    in_time,
    never_began,
    resolve,
)

#: Seconds between looks at whether a first attempt to connect has failed.
_LOOK: Final = 0.02
#: Services whose turns are remembered before those that nobody offers are forgotten.
_MOST_UNUSED: Final = 64


class Remote(Candidate, Protocol):
    """A peer that offers the service."""

    @property
    def name(self) -> str:
        """What it calls itself."""

    @property
    def info(self) -> PeerInfo:
        """Who it is."""

    def takes(self, service: str) -> bool:
        """Whether it takes a call to a service now."""

    def caller_for(self, service: str) -> Caller | None:
        """Return what makes a call there; ``None`` if it takes none now."""

    def any_caller(self, service: str) -> Caller | None:
        """Return the same, or what is told why, if it takes none now; ``None`` if it offers the service no more."""


class Table(Protocol):
    """Who is linked and offers what."""

    @property
    def changed(self) -> Signal:
        """Is notified when that has changed."""

    def offering(self, service: str) -> tuple[Remote, ...]:
        """Return those that offer a service; the same tuple until something changes."""

    def full_caller(self, service: str) -> Caller | None:
        """Return what makes a call to somebody who offers a service and takes no call now, to be told why."""

    def wait_for(self, service: str) -> AbstractContextManager[None]:
        """Note that a call waits for a service."""


class Host(Protocol):
    """What calls to services have to know of the peer that makes them."""

    @property
    def connect_timeout(self) -> float:
        """Seconds that a call waits for a link."""

    @property
    def table(self) -> Table:
        """Who is linked and offers what."""

    @property
    def call_counts(self) -> CallCounts:
        """What is counted of its calls."""

    @property
    def clock(self) -> Callable[[], float]:
        """Tells the time, as :func:`trio.current_time` does."""

    def check_thread(self) -> None:
        """Raise ``RuntimeError`` in any other thread than the peer's."""

    def wake(self) -> None:
        """Connect again what has been idle."""

    def situation(self, service: str) -> Situation:
        """Return what is known of a service to which no link takes a call at once."""

    def explain(self) -> str:
        """Say who is linked and offers what, and which endpoints are not linked, and why."""


@final
class Balanced:
    """Calls one service: each call goes to one of the peers that offer it, as a policy chooses.

    A call that finds nobody waits, for as long as somebody may still come. One that turns out, before anything of it
    began, to have taken a link which takes calls no more is made once more.

    Args:
        host: the peer that makes the calls.
        service: the name of the service.
        balancer: chooses.
        chance: for what it leaves to chance.
        health: says who gets calls at present; ``None``: all who offer the service.
    """

    def __init__(
        self,
        host: Host,
        service: str,
        balancer: Balancer,
        chance: random.Random,
        health: Health | None = None,
    ) -> None:
        self._host = host
        self._table = host.table
        self._service = service
        self._balancer = balancer
        self._chance = chance
        self._health = health

    async def unary(self, request: Request, positional: Sequence[Any], keyword: Mapping[str, Any], /) -> Any:
        """See :meth:`Caller.unary`."""
        if request.timeout is not None:
            request = begun(request)
        caller = self._choose(request) or await self._wait(request)
        try:
            return await caller.unary(request, positional, keyword)
        except Unavailable as error:
            if not never_began(error):
                raise
        caller = self._choose(request) or await self._wait(request)
        return await caller.unary(request, positional, keyword)

    def open(self, request: Request, positional: Sequence[Any], keyword: Mapping[str, Any], /) -> Relayed:
        """See :meth:`Caller.open`."""
        return Relayed(lambda: self._begin(begun(request), positional, keyword))

    async def _begin(
        self, request: Request, positional: Sequence[Any], keyword: Mapping[str, Any]
    ) -> tuple[Opening, Any]:
        caller = self._choose(request) or await self._wait(request)
        opening = caller.open(request, positional, keyword)
        try:
            return opening, await opening.__aenter__()
        except Unavailable as error:
            if not never_began(error):
                raise
        caller = self._choose(request) or await self._wait(request)
        opening = caller.open(request, positional, keyword)
        return opening, await opening.__aenter__()

    async def notify(
        self, request: Request, positional: Sequence[Any], keyword: Mapping[str, Any], /
    ) -> None:
        """See :meth:`Caller.notify`."""
        request = begun(request)
        caller = self._choose(request) or await self._wait(request)
        try:
            return await caller.notify(request, positional, keyword)
        except Unavailable as error:
            if not never_began(error):
                raise
        caller = self._choose(request) or await self._wait(request)
        return await caller.notify(request, positional, keyword)

    async def everybody(self, request: Request) -> list[tuple[PeerInfo, Caller]]:
        """Return all who offer the service, and what makes a call there, for what asks all of them.

        Waits if there is nobody yet, and this peer connects to somebody; not for those who may connect to it.

        Raises:
            NoPeers: there is nobody.
            Unauthenticated: the same, because all links are refused for want of a proof.
            DeadlineExceeded: the call's own time limit has passed.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        with in_time(begun(request)), self._table.wait_for(self._service):
            with trio.move_on_after(self._host.connect_timeout):
                while not (found := self._everybody()):
                    self._host.wake()
                    situation = msgspec.structs.replace(
                        self._host.situation(self._service), is_bound=False, is_full=False
                    )
                    if resolve(situation, wait_for_ready=request.wait_for_ready) is not Resolution.WAIT:
                        break
                    with trio.move_on_after(math.inf if request.wait_for_ready else _LOOK):
                        await self._table.changed.wait()
                else:
                    return found
        kind = Unauthenticated if self._is_unauthenticated() else NoPeers
        error = kind(f"nobody offers the service {self._service!r}: {self._host.explain()}")
        error.may_have_executed = False
        raise blame(error, request.method, None)

    def _everybody(self) -> list[tuple[PeerInfo, Caller]]:
        return [
            (remote.info, caller)
            for remote in self._table.offering(self._service)
            if (caller := remote.any_caller(self._service)) is not None
        ]

    # -- whom to ask -----------------------------------------------------------------------------------

    def _choose(self, request: Request) -> Caller | None:
        """Return what makes the call, if anybody takes it at once."""
        remotes = self._table.offering(self._service)
        if self._health is not None:
            return self._choose_watched(self._health, remotes, request)
        if len(remotes) == 1:
            return remotes[0].caller_for(self._service)
        if not remotes:
            return None
        remote, meter = self._balancer.choose(remotes, request, self._host.clock(), self._chance)
        caller = remote.caller_for(self._service)
        if caller is None:
            free = tuple(remote for remote in remotes if remote.takes(self._service))
            if not free:
                return None
            remote, meter = self._balancer.choose(free, request, self._host.clock(), self._chance)
            caller = remote.caller_for(self._service)
        if meter is None or caller is None:
            return caller
        found = meter.metered
        return found if found is not None and found.caller is caller else self._metered(caller, meter)

    def _metered(self, caller: Caller, meter: Meter) -> Caller:
        """Return what makes calls with a caller and notes how they go, the same for the same caller."""
        found = meter.metered
        if found is None or found.caller is not caller:
            found = meter.metered = Metered(caller, meter, self._host.clock)
        return found

    def _choose_watched(self, health: Health, remotes: tuple[Remote, ...], request: Request) -> Caller | None:
        """Return what makes the call, if anybody takes it at once of those who get calls at present; how it goes says who gets more."""
        admitted = health.admitted(remotes, self._host.clock())
        while admitted:
            remote, meter = self._balancer.choose(admitted, request, self._host.clock(), self._chance)
            caller = remote.caller_for(self._service)
            if caller is not None:
                if meter is not None:
                    caller = self._metered(caller, meter)
                return health.watching(caller, remote.id)
            admitted = tuple(one for one in admitted if one is not remote and one.takes(self._service))
        return None

    async def _wait(self, request: Request) -> Caller:
        """Wait until somebody takes the call.

        Raises:
            Unavailable: nobody does in time, or nobody will; the message says who is linked and offers what, which
                endpoints are not linked, and why.
            Unauthenticated: the same, because all links that could have been made are refused for want of a proof.
            Unimplemented: all who could be linked are, and nobody offers the service.
            DeadlineExceeded: the call's own time limit has passed.
        """
        host = self._host
        host.check_thread()
        check_run()
        with in_time(begun(request)), self._table.wait_for(self._service):
            with trio.move_on_after(host.connect_timeout):
                return await self._wait_for_anybody(request)
            problem = f"no link offers it within {host.connect_timeout:g} s; {host.explain()}"
            raise blame(self._unavailable(problem), request.method, None)

    async def _wait_for_anybody(self, request: Request) -> Caller:
        host = self._host
        while True:
            caller = self._choose(request)
            if caller is not None:
                return caller
            host.wake()
            situation = host.situation(self._service)
            if self._is_broken():
                situation = msgspec.structs.replace(situation, is_broken=True)
            resolution = resolve(situation, wait_for_ready=request.wait_for_ready)
            if resolution is Resolution.FULL and (full := self._table.full_caller(self._service)) is not None:
                return full
            if resolution is not Resolution.WAIT:
                await trio.lowlevel.checkpoint()
                raise blame(self._refusal(resolution), request.method, None)
            # A first attempt that fails is not announced, so a call that waits for no second one looks.
            with trio.move_on_after(math.inf if request.wait_for_ready else _LOOK):
                await self._table.changed.wait()

    def _is_broken(self) -> bool:
        """Whether peers offer the service, and none of them gets calls at present."""
        remotes = self._table.offering(self._service)
        return (
            self._health is not None
            and bool(remotes)
            and not self._health.admitted(remotes, self._host.clock())
        )

    def _refusal(self, resolution: Resolution) -> RPCError:
        if resolution is Resolution.NOT_OFFERED:
            error = Unimplemented(
                f"there is no service {self._service!r} at any linked peer: {self._host.explain()}"
            )
            error.may_have_executed = False
            return error
        return self._unavailable(
            {
                Resolution.BROKEN: "the calls to all who offer it have failed lately, and it is not asked again yet",
                Resolution.CLOSED: "this peer is closed",
                Resolution.DRAINING: "this peer is draining and takes no new links",
                Resolution.ALONE: "this peer has not connected or bound anywhere: await peer.connect(...) first",
                Resolution.NOT_READY: f"no link offers it now, and wait_for_ready is False; {self._host.explain()}",
            }[resolution]
        )

    def _is_unauthenticated(self) -> bool:
        return self._host.situation(self._service).is_unauthenticated

    def _unavailable(self, problem: str) -> RPCError:
        kind = Unauthenticated if self._is_unauthenticated() else Unavailable
        error = kind(f"service {self._service!r} is not available: {problem}")
        error.may_have_executed = False
        return error


@final
class _Service:
    """One service, for all who call it.

    Args:
        host: the peer that makes the calls.
        name: of the service.
        chance: for what is left to chance.
        health: says who gets calls at present; ``None``: all who offer the service.
    """

    def __init__(self, host: Host, name: str, chance: random.Random, health: Health | None) -> None:
        self._host = host
        self._name = name
        self._chance = chance
        self._health = health
        self._rings = Rings(Meters())
        #: By policy. Those with a key are made for each key, and remember nothing of their own.
        self._balanced: dict[Balancing, Balanced] = {}

    def by(self, policy: Balancing) -> Balanced:
        """Return what makes the calls, with a policy."""
        found = self._balanced.get(policy)
        if found is None:
            balancer = self._balancer(policy)
            found = Balanced(self._host, self._name, balancer, self._chance, self._health)
            if isinstance(policy, str):
                self._balanced[policy] = found
        return found

    def _balancer(self, policy: Balancing) -> Balancer:
        if isinstance(policy, ConsistentHash):
            return Hashing(policy, self._rings)
        if policy == "round_robin":
            return RoundRobin()
        if policy == "pick_first":
            return PickFirst()
        return self._rings.rest


@final
class BalancedServices:
    """The services that one peer calls. What is remembered of each is the same for all who call it with one policy.

    Args:
        host: the peer.
        policy: that of calls that ask for no other.
        breaker: see :class:`Callers`.
        detection: see :class:`Callers`.
    """

    def __init__(
        self,
        host: Host,
        policy: Balancing,
        breaker: CircuitBreaker | None = None,
        detection: OutlierDetection | None = None,
    ) -> None:
        self._host = host
        self._policy = policy
        self._breaker = breaker
        self._detection = detection
        self._chance = random.Random()
        self._services: dict[str, _Service] = {}
        self._sweep_at = _MOST_UNUSED

    def of(self, service: str, policy: Balancing | None = None) -> Balanced:
        """Return what makes the calls of a service.

        Args:
            service: its name.
            policy: whom it chooses; ``None`` for that of the peer.
        """
        found = self._services.get(service)
        if found is None:
            if len(self._services) >= self._sweep_at:
                self._sweep()
            found = _Service(self._host, service, self._chance, self._health_of(service))
            self._services[service] = found
        return found.by(policy or self._policy)

    def _health_of(self, service: str) -> Health | None:
        if self._breaker is None and self._detection is None:
            return None
        host = self._host
        return Health(service, self._breaker, self._detection, self._chance, host.call_counts, host.clock())

    def _sweep(self) -> None:
        """Forget services that nobody offers, or a program that calls ever other ones would remember them all."""
        offering = self._host.table.offering
        self._services = {name: found for name, found in self._services.items() if offering(name)}
        self._sweep_at = max(_MOST_UNUSED, 2 * len(self._services))
