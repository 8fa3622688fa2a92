"""Runs scenarios against an implementation: what it offers first, then each on a connection of its own."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

import trio

from duplex.conformance._commands import BINDING, CONNECTING
from duplex.conformance._drive import Driver, FailedError, Timing
from duplex.conformance._scenarios import Scenario
from duplex.conformance._values import CannotDriveError
from duplex.conformance._wire import EndpointError, Sockets, Wire

SERVICE: Final = "conformance"
PASSED: Final = "passed"
FAILED: Final = "failed"
NOT_TESTED: Final = "not tested"

#: Scenarios that run at once against a bound implementation; their links have nothing to do with each other.
JOBS: Final = 8

#: Between two attempts to reach an implementation that may just be starting.
_RETRY: Final = 0.1

#: How long the endpoint that the last scenario used may stay in use.
_REBIND: Final = 2.0

OpenWire: TypeAlias = Callable[[], Awaitable[Wire]]


class NoPeerError(Exception):
    """There is no implementation to try; the message says what happened."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What came of a scenario.

    Attributes:
        scenario: which one.
        outcome: ``passed``, ``failed`` or ``not tested``.
        reason: why it was not tested.
        other_role: it was not tested because it is about the other side of a link.
        step: where it failed, counted from 1; 0 is the handshake.
        expected: what should have come there.
        came: what came.
        seconds: how long it took.
    """

    scenario: Scenario
    outcome: str
    reason: str = ""
    step: int = 0
    expected: str = ""
    came: str = ""
    seconds: float = 0.0
    other_role: bool = False


@dataclasses.dataclass(frozen=True)
class Offer:
    """What an implementation said that it can do."""

    peer_id: str
    name: str
    codecs: frozenset[str]
    features: frozenset[str]
    services: frozenset[str]
    methods: frozenset[str]

    def lacks(self, need: str) -> bool:
        """Whether it does not offer what a scenario needs."""
        kind, colon, name = need.partition(":")
        if not colon:
            return need not in self.methods
        if kind == "without":
            return name in self.features
        return name not in {"codec": self.codecs, "feature": self.features, "service": self.services}[kind]


async def run(
    scenarios: Sequence[Scenario],
    endpoint: str,
    *,
    listen: bool = False,
    timing: Timing | None = None,
    connect_timeout: float = 5.0,
    jobs: int = JOBS,
    on_endpoint: Callable[[str], None] = lambda _endpoint: None,
    on_result: Callable[[Result], None] = lambda _result: None,
) -> tuple[Offer, list[Result]]:
    """Run scenarios against an implementation, and return what it offers and the results in the same order.

    Args:
        scenarios: which ones.
        endpoint: where it is bound, or, with ``listen``, what it shall connect to, again after every scenario.
        listen: the implementation connects. Scenarios then run one after the other.
        timing: how long to wait within scenarios.
        connect_timeout: seconds to wait for the implementation, before the first scenario.
        jobs: how many scenarios run at once.
        on_endpoint: told the endpoint that was bound, with ``listen``.
        on_result: told every result as it is known.

    Raises:
        NoPeerError: there is no implementation.
        EndpointError: the endpoint is malformed, or cannot be bound.
    """
    timing = timing or Timing()
    role = CONNECTING if listen else BINDING
    results: dict[str, Result] = {}
    with Sockets() as sockets:
        if listen:
            endpoint = _free_endpoint(sockets, endpoint)
            on_endpoint(endpoint)
        open_wire = _opener(sockets, endpoint, listen=listen)
        offer = await _offer(open_wire, role, timing, connect_timeout, endpoint)
        limiter = trio.CapacityLimiter(1 if listen else jobs)

        async def run_one(scenario: Scenario) -> None:
            async with limiter:
                result = await _run_one(scenario, offer, open_wire, role, timing)
            results[scenario.id] = result
            on_result(result)

        if listen:
            for scenario in scenarios:
                await run_one(scenario)
        else:
            async with trio.open_nursery() as nursery:
                for scenario in scenarios:
                    nursery.start_soon(run_one, scenario)
    return offer, [results[scenario.id] for scenario in scenarios]


def _opener(sockets: Sockets, endpoint: str, *, listen: bool) -> OpenWire:
    async def bind() -> Wire:
        # libzmq closes sockets behind our back, so the last scenario's may still hold the address.
        deadline = trio.current_time() + _REBIND
        while True:
            try:
                return sockets.bind(endpoint)
            except EndpointError:
                if trio.current_time() > deadline:
                    raise
            await trio.sleep(_REBIND / 1000)

    async def connect() -> Wire:
        return sockets.connect(endpoint)

    return bind if listen else connect


def _free_endpoint(sockets: Sockets, endpoint: str) -> str:
    """Find the real port of ``tcp://...:*``, which every scenario then binds again."""
    wire = sockets.bind(endpoint)
    try:
        return wire.endpoint
    finally:
        wire.close()


async def _offer(
    open_wire: OpenWire, role: str, timing: Timing, connect_timeout: float, endpoint: str
) -> Offer:
    """Ask the implementation what it offers, on a link for this alone."""
    patience = min(connect_timeout, _RETRY * 10)
    refusal = ""
    with trio.move_on_after(connect_timeout):
        while True:
            driver = Driver(
                open_wire, role, dataclasses.replace(timing, step=patience, connect=connect_timeout)
            )
            try:
                await driver.open()
                await driver.shake_hands()
                return await _offer_of(driver)
            except FailedError as error:
                refusal = error.came
            finally:
                driver.close()
            await trio.sleep(_RETRY)
    where = f"nobody connected to {endpoint}" if role == CONNECTING else f"no peer answered at {endpoint}"
    raise NoPeerError(f"{where} within {connect_timeout:g} s" + (f": {refusal}" if refusal else ""))


async def _offer_of(driver: Driver) -> Offer:
    peer = driver.peer
    services = frozenset(str(service.get("name")) for service in peer[9])
    methods: Any = await driver.call(f"{SERVICE}.methods") if SERVICE in services else None
    return Offer(
        peer_id=peer[4],
        name=peer[5],
        codecs=frozenset(peer[6]),
        features=frozenset(peer[7]),
        services=services,
        methods=frozenset(map(str, methods) if isinstance(methods, list) else ()),
    )


async def _run_one(
    scenario: Scenario, offer: Offer, open_wire: OpenWire, role: str, timing: Timing
) -> Result:
    if scenario.role not in ("either", role):
        reason = f"the implementation has to be the {scenario.role} side"
        return Result(scenario, NOT_TESTED, reason, other_role=True)
    missing = [need for need in scenario.needs if offer.lacks(need)]
    if missing:
        reason = f"the implementation does not offer {', '.join(missing)}"
        if missing[0].startswith("without:"):
            reason = f"the implementation has the feature {missing[0].partition(':')[2]}"
        return Result(scenario, NOT_TESTED, reason)
    started = time.perf_counter()
    try:
        await Driver(open_wire, role, timing, scenario.hello).run(scenario)
    except FailedError as error:
        return Result(
            scenario,
            FAILED,
            step=error.step,
            expected=error.expected,
            came=error.came,
            seconds=time.perf_counter() - started,
        )
    except CannotDriveError as error:
        return Result(scenario, NOT_TESTED, str(error))
    return Result(scenario, PASSED, seconds=time.perf_counter() - started)
