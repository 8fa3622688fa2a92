"""Discovery as a target: one link to it, on which each service of a container is a call that stays open."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final, final

import msgspec
import trio

import duplex
from duplex_services._shared._background import background
from duplex_services.discovery.client import (
    DiscoveryService,
    Following,
    Registered,
    Registration,
    follow,
    keep_registered,
    open_client,
)
from duplex_services.registration._model import Entry, Service
from duplex_services.registration._rules._difference import Put
from duplex_services.registration._rules._discovery import (
    OWNER,
    TTL,
    entry_of,
    health_of,
    mode_calls,
    registration_of,
)
from duplex_services.registration._target import RefusedError, TargetError

_log: Final = logging.getLogger("duplex")

#: Seconds that an answer may take, connecting included.
_ANSWER_WITHIN: Final = 5.0

#: Seconds until something is registered again that somebody has deregistered: two who both want it do not wear discovery out.
_AGAIN_AFTER: Final = 1.0


@final
class _Held:
    """An instance that this process keeps registered."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.registered: Registered | None = None
        self.begun = trio.Event()
        self.ends = trio.Event()
        self.left = trio.Event()
        self.problem = ""

    @property
    def is_over(self) -> bool:
        """Whether it was ended by somebody, some time ago."""
        return self.left.is_set()

    @property
    def refusal(self) -> str:
        """Why discovery refuses it now; empty if it does not."""
        refusal = None if self.registered is None else self.registered.refusal
        return "" if refusal is None else refusal.message


@final
class DiscoveryTarget:
    """Discovery.

    Args:
        servers: its endpoints.
        owner: whose instances these are.
        credentials: what proves to the servers who this is; ``None`` for nothing.
        tls: which of their certificates are trusted, and which one is shown.

    Attributes:
        name: for people.
    """

    def __init__(
        self,
        servers: tuple[str, ...],
        owner: str,
        credentials: bytes | None = None,
        tls: duplex.TLS | None = None,
    ) -> None:
        self.name = "discovery"
        self._servers = servers
        self._owner = owner
        self._credentials = credentials
        self._tls = tls
        self._held: dict[str, _Held] = {}
        #: Calls that are open, among them those that were followed by another of the same key.
        self._open: set[_Held] = set()
        self._peer: duplex.Peer | None = None
        self._following: Following | None = None
        self._nursery: trio.Nursery | None = None
        self._woken: Callable[[], None] = _nothing
        self._news = trio.Event()

    def entry_of(self, service: Service) -> Entry:
        """Return what discovery is to have of a service.

        Raises:
            ValueError: it cannot have it, and why.
        """
        return entry_of(service, self._owner)

    async def run(self, woken: Callable[[], None]) -> None:
        """Be linked until cancelled. What is registered then goes after its TTL, or is adopted by who has this owner's id next."""
        self._woken = woken
        async with (
            open_client(
                *self._servers, name="registrar", credentials=self._credentials, tls=self._tls
            ) as peer,
            follow(peer) as following,
            background() as nursery,
        ):
            self._peer, self._following, self._nursery = peer, following, nursery
            try:
                async for _ in following:
                    self._news.set()
                    self._news = trio.Event()
                    woken()
            finally:
                self._peer = self._following = self._nursery = None
                # The containers go on: whose link is lost stays listed, whose call is ended does not.
                with trio.CancelScope(shield=True):
                    await peer.aclose()
                for held in list(self._open):
                    held.ends.set()
                self._held.clear()

    async def entries(self) -> Mapping[str, Entry]:
        """Return all that discovery has.

        Raises:
            TargetError: no server of it answers.
        """
        with trio.move_on_after(_ANSWER_WITHIN):
            while self._told() is None:
                await self._news.wait()
        following = self._told()
        if following is None:
            refusal = None if self._following is None else self._following.refusal
            raise TargetError(self._nobody() if refusal is None else refusal.message)
        found: dict[str, Entry] = {}
        for instance in following.instances:
            key = f"{instance.service}/{instance.id}"
            owner = instance.metadata.get(OWNER, "")
            # An instance of this owner's that is not kept here is of an earlier run: it is taken over, and so it is different.
            found[key] = Entry(key, owner, "", instance.state, instance.note)
        for key, held in self._held.items():
            if held.is_over or held.refusal:
                continue
            if key not in found or found[key].owner == self._owner:
                found[key] = held.entry
        return found

    def _told(self) -> Following | None:
        following = self._following
        is_told = following is not None and following.is_known and following.status is not None
        return following if is_told else None

    async def put(self, action: Put) -> None:
        """Register a service, or change what is said of it.

        Raises:
            TargetError: nobody answers; it is registered as soon as somebody does.
            RefusedError: discovery does not take it.
        """
        key = action.entry.key
        held = self._held.get(key)
        if held is None or held.is_over or held.entry.value != action.entry.value:
            held = await self._register(action, held)
        elif held.refusal:
            raise TargetError(held.refusal)
        remote = self._remote()
        assert held.registered is not None
        if health_of(action.entry) != health_of(held.entry) or action.entry.state == "critical":
            held.registered.report(health_of(action.entry), action.entry.note)
        name, _, id = key.partition("/")
        for method, note, undo in mode_calls(action.before, action.entry):
            await self._ask(getattr(remote, method)(name, id, note, undo))
        held.entry = action.entry

    async def drop(self, entry: Entry, why: str) -> None:
        """Withdraw an instance.

        Raises:
            TargetError: nobody answers.
            RefusedError: discovery does not take it.
        """
        held = self._held.pop(entry.key, None)
        if held is not None and not held.is_over:
            held.ends.set()
            await held.left.wait()
            return
        name, _, id = entry.key.partition("/")
        try:
            await self._ask(self._remote().deregister(name, id, "", why))
        except RefusedError as error:
            if not isinstance(error.__cause__, duplex.NotFound):
                raise

    async def _register(self, action: Put, before: _Held | None) -> _Held:
        if self._nursery is None or self._peer is None:
            raise TargetError(self._nobody())
        # It has no mode yet, whatever it is to have: until that is said as well it is different.
        held = _Held(
            action.entry
            if action.entry.state in ("passing", "critical")
            else msgspec.structs.replace(action.entry, state="passing", note="")
        )
        self._open.add(held)
        self._held[action.entry.key] = held
        registration = msgspec.structs.replace(
            registration_of(action.service, self._owner), health=health_of(action.entry)
        )
        self._nursery.start_soon(self._hold, self._peer, held, registration, action.service.ttl or TTL)
        try:
            with trio.move_on_after(_ANSWER_WITHIN):
                await held.begun.wait()
                if held.registered is not None:
                    await held.registered.answered()
        finally:
            if before is not None:
                # It was taken over, and so withdraws nothing.
                before.ends.set()
        if held.problem:
            self._held.pop(action.entry.key, None)
            raise RefusedError(held.problem)
        if held.registered is None or not held.registered.is_registered:
            raise TargetError(held.refusal or self._nobody())
        return held

    async def _hold(self, peer: duplex.Peer, held: _Held, registration: Registration, ttl: float) -> None:
        name = held.entry.key.partition("/")[0]
        try:
            # Cancelled, it would wait in vain for its call to be ended in order; so it is told to end.
            with trio.CancelScope(shield=True):
                async with (
                    keep_registered(peer, name, registration, ttl=ttl) as registered,
                    background() as nursery,
                ):
                    held.registered = registered
                    held.begun.set()
                    nursery.start_soon(self._rest_when_over, held, registered)
                    await held.ends.wait()
        except duplex.InvalidArgument as error:
            held.problem = error.message
        finally:
            self._open.discard(held)
            held.begun.set()
            held.left.set()

    async def _rest_when_over(self, held: _Held, registered: Registered) -> None:
        await registered.over.wait()
        if not held.ends.is_set():
            _log.info("%s was ended: %s", held.entry.key, registered.why)
            await trio.sleep(_AGAIN_AFTER)
        held.ends.set()
        held.left.set()
        self._woken()

    def _remote(self) -> DiscoveryService:
        if self._peer is None:
            raise TargetError(self._nobody())
        return self._peer.service(DiscoveryService, name="discovery")

    async def _ask(self, call: object) -> None:
        with trio.move_on_after(_ANSWER_WITHIN):
            try:
                await call  # type: ignore[misc]
            except (duplex.InvalidArgument, duplex.NotFound, duplex.PermissionDenied) as error:
                raise RefusedError(error.message) from error
            except duplex.RPCError as error:
                raise TargetError(error.message) from error
            return
        raise TargetError(self._nobody())

    def _nobody(self) -> str:
        return (
            f"no server of discovery answers at {', '.join(self._servers)}: start one with `duplex discovery run`, "
            "or say where it is with --discovery or DUPLEX_DISCOVERY"
        )


def _nothing() -> None:
    """Nobody has asked yet to be told."""
