"""Staying registered: over lost links, servers of discovery that restart, and stores that are wiped."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import AsyncIterator
from typing import Final, final

import trio

import duplex
from duplex_services._shared._background import background
from duplex_services.discovery._model import DEFAULT_TTL, Check, Health, Registration
from duplex_services.discovery._monitoring import monitor
from duplex_services.discovery._protocol import DiscoveryService
from duplex_services.discovery._rules._monitor import Result
from duplex_services.discovery._rules._plans import NOT_CHECKED
from duplex_services.discovery._rules._retrying import next_pause, refusal_of
from duplex_services.discovery._wire import SERVICE, Granted, Report

_log: Final = logging.getLogger("duplex")

#: Seconds that leaving may take; the instance goes after its TTL in any case.
_LEAVE_WITHIN: Final = 2.0


@final
class Registered:
    """What :func:`keep_registered` gives.

    Attributes:
        service: of which service.
        registration: what was said.
        grants: how often it was registered: more than once means that a server of discovery, or the way to it, was lost.
        over: set when it is not registered any more and will not be: somebody deregistered it, or registered the same id
            elsewhere.
        why: then, the reason.
        refusal: why a server has refused it last; ``None`` if it is registered, or no server was there. It is tried again.
    """

    def __init__(self, service: str, registration: Registration) -> None:
        self.service = service
        self.registration = registration
        self.grants = 0
        self.over = trio.Event()
        self.why = ""
        self.refusal: duplex.RPCError | None = None
        self._granted: Granted | None = None
        self._changed = trio.Event()
        self._report = Report(registration.health)
        self._is_reported = False
        self._is_leaving = False
        self._is_asking = False
        self._attempt = trio.CancelScope()

    def __repr__(self) -> str:
        state = "over" if self.over.is_set() else "registered" if self.is_registered else "not registered now"
        return f"<{self.service}/{self.registration.id}: {state}>"

    @property
    def is_registered(self) -> bool:
        """Whether a server of discovery keeps it at the moment, as far as is known."""
        return self._granted is not None

    async def registered(self) -> None:
        """Wait until it is registered, or over."""
        while self._granted is None and not self.over.is_set():
            await self._changed.wait()

    async def answered(self, known: str = "") -> None:
        """Wait until it is registered, or over, or a server has refused it.

        Args:
            known: the message of a refusal that does not count.
        """
        while self.refusal is None or self.refusal.message == known:
            if self.is_registered or self.over.is_set():
                return
            await self._changed.wait()

    def report(self, health: Health, note: str = "") -> None:
        """Say how it is, now and after each new registration."""
        self._report, self._is_reported = Report(health, note), True
        self._change()

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _run(self, remote: DiscoveryService, ttl: float) -> None:
        pause = 0.0
        while not self._is_leaving:
            grants = self.grants
            self._attempt = trio.CancelScope()
            try:
                with self._attempt:
                    await self._be_registered(remote, ttl)
            except duplex.Aborted as error:
                self.why = error.message
                break
            except duplex.InvalidArgument:
                raise
            except duplex.RPCError as error:
                self.refusal = refusal_of(error)
                _log.info("%r: %s", self, error.message)
            finally:
                self._granted = None
                self._is_asking = False
                self._change()
            pause = next_pause(0.0 if self.grants > grants else pause)
            with trio.move_on_after(pause):
                while not self._is_leaving:
                    await self._changed.wait()
        self.over.set()
        self._change()

    async def _be_registered(self, remote: DiscoveryService, ttl: float) -> None:
        async with remote.register.open(self.service, self.registration, ttl) as call:
            self._is_asking = True
            self._granted = await call.receive()
            self.refusal = None
            self.grants += 1
            self._change()
            async with background() as nursery:
                nursery.start_soon(self._send_reports, call)
                async for _ in call:
                    pass

    async def _send_reports(self, call: duplex.OutgoingCall[Report, Granted]) -> None:
        sent: Report | None = None
        with contextlib.suppress(duplex.RPCError, trio.BrokenResourceError, trio.ClosedResourceError):
            while not self._is_leaving:
                report = self._report
                if self._is_reported and report != sent:
                    await call.send(report)
                    sent = report
                elif not self._is_leaving:
                    await self._changed.wait()
            await call.send_eof()
        await trio.sleep_forever()

    def _leave(self) -> None:
        self._is_leaving = True
        if not self._is_asking:
            self._attempt.cancel()  # no server was found yet that could have it
        self._change()


@contextlib.asynccontextmanager
async def keep_registered(
    peer: duplex.Peer,
    service: str,
    registration: Registration,
    *,
    ttl: float = DEFAULT_TTL,
    check: Check | None = None,
    name: str = SERVICE,
    tls: duplex.TLS | None = None,
) -> AsyncIterator[Registered]:
    """Be registered in the block: ``async with keep_registered(peer, "calc", Registration(...)) as registered``.

    It begins at once and registers in the background, over any link of the peer to a server of discovery: connect the peer to
    all of them. Whatever is lost, it registers anew. Leaving the block withdraws the instance.

    Args:
        peer: which has links to servers of discovery, or will.
        service: of which service.
        registration: what to say. Its id stays the same: a program that restarts takes its place again.
        ttl: seconds that it stays listed if nothing is heard of it.
        check: how this process finds out about its health, and reports it; it is critical until the first success. For
            discovery to do that, put the check into the registration instead.
        name: of the service that is asked.
        tls: for ``check``, where it asks at ``tls://``.

    Raises:
        InvalidArgument: the registration makes no sense, as its message says. The block is cancelled.
    """
    registered = Registered(service, registration)
    async with background() as nursery:

        async def run() -> None:
            await registered._run(peer.service(DiscoveryService, name=name), ttl)

        async def report(found: Result) -> None:
            registered.report(found.health, found.note)

        if check is not None:
            registered.report("critical", NOT_CHECKED)
            nursery.start_soon(functools.partial(monitor, tls=tls), check, registration, None, report)
        nursery.start_soon(run)
        try:
            yield registered
        finally:
            registered._leave()
            with trio.move_on_after(_LEAVE_WITHIN, shield=True):
                await registered.over.wait()
