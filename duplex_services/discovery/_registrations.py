"""Registrations: who keeps which instance, until when, and what is said of it."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import trio

from duplex_services.discovery._errors import BadRequest, NotAllowed, NotThere, check
from duplex_services.discovery._keeping import Keeper
from duplex_services.discovery._model import DEFAULT_TTL, Health, Mode, Record, Registration
from duplex_services.discovery._rules._catalogue import IMPORTED
from duplex_services.discovery._rules._checking import (
    check_id,
    check_note,
    check_registration,
    check_service_name,
    check_ttl,
)
from duplex_services.discovery._rules._keys import encode, instance_key
from duplex_services.discovery._rules._liveness import What
from duplex_services.discovery._rules._plans import (
    Owner,
    Plan,
    as_known,
    plan_put,
    record_of,
    with_health,
    with_mode,
    withdrawn,
)
from duplex_services.discovery._rules._view import View
from duplex_services.discovery._writing import Writer


class Session:
    """A registration that this server keeps.

    Attributes:
        service: of which service.
        id: of the instance.
        token: names the registration; what comes with another one is too late.
        ttl: seconds of silence after which it goes.
        ended: set when it is kept here no more.
        why: then, the reason.
    """

    def __init__(self, what: What, token: str, ttl: float) -> None:
        self.service = what.service
        self.id = what.id
        self.token = token
        self.ttl = ttl
        self.ended = trio.Event()
        self.why = ""

    def __repr__(self) -> str:
        return f"<Session of {self.service}/{self.id}{', ended' if self.ended.is_set() else ''}>"


class Registrations:
    """The instances of a directory, as those change them who register, check and operate them.

    Args:
        view: what is known.
        writer: how to write.
        owner: which server this is.
    """

    def __init__(self, view: View, writer: Writer, owner: Owner) -> None:
        self._view = view
        self._writer = writer
        self._owner = owner
        self._sessions: dict[What, Session] = {}
        self.keeper = Keeper(view, writer, owner, self._end)

    async def register(
        self, service: str, registration: Registration, ttl: float = DEFAULT_TTL, *, is_held: bool = False
    ) -> Session:
        """Register an instance, or register it anew: an earlier registration of it is over.

        Args:
            service: of which service.
            registration: what is said of it.
            ttl: seconds of silence after which it is gone.
            is_held: a call is open that keeps it, until :meth:`let_go` or :meth:`withdraw`. Else :meth:`beat` does.

        Raises:
            BadRequest: something makes no sense; the message says all of it.
            Full: there are too many.
            StoreAway: the store does not take it.
        """
        what, checked, seconds = self._checked(service, registration, ttl)
        session = Session(what, secrets.token_hex(8), seconds)
        revision = await self._put(what, checked, seconds)
        self._begin(session, revision, is_held=is_held)
        try:
            await self.keeper.settle_now(service)
        except BaseException:
            # The caller is gone, and never had the session to let it go.
            self.let_go(session)
            raise
        return session

    async def heartbeat(self, service: str, registration: Registration, ttl: float = DEFAULT_TTL) -> Session:
        """Register an instance if it is not, change it if it is another now, and note that it lives. Nothing is written if
        nothing has changed.

        Raises:
            BadRequest: something makes no sense; the message says all of it.
            Full: there are too many.
            StoreAway: the store does not take it.
        """
        what, checked, seconds = self._checked(service, registration, ttl)
        session = self._sessions.get(what)
        if session is None or session.ttl != seconds:
            return await self.register(service, registration, ttl)
        await self._put(what, checked, seconds)
        if session.ended.is_set():
            return await self.register(service, registration, ttl)
        self.keeper.liveness.beat(what, session.token, trio.current_time())
        return session

    def beat(self, service: str, id: str, token: str) -> None:
        """Note that an instance lives. Nothing is written.

        Raises:
            NotAllowed: the registration is over, or is not kept here: register anew.
        """
        if not self.keeper.liveness.beat(What(service, id), token, trio.current_time()):
            raise NotAllowed(
                f"{service}/{id} is not kept here by that registration; it is over, or was of another server or life of it"
            )

    def let_go(self, session: Session) -> None:
        """Note that the call that kept an instance was lost; it stays for its TTL."""
        self.keeper.liveness.let_go(What(session.service, session.id), session.token, trio.current_time())

    async def withdraw(self, session: Session, why: str = "deregistered") -> None:
        """Deregister an instance, if this registration still keeps it; else do nothing.

        Raises:
            StoreAway: the store does not take it. The instance is silent from now on.
        """
        what = What(session.service, session.id)
        life = self.keeper.liveness.get(what)
        if life is None or life.token != session.token:
            return
        self.keeper.liveness.let_go(what, session.token, trio.current_time())
        await self.keeper.delete(what, why)
        life = self.keeper.liveness.get(what)
        if life is not None and life.token == session.token:
            self.keeper.forget(what, why)
        await self.keeper.settle_now(session.service)

    async def deregister(self, service: str, id: str, *, token: str = "", why: str = "deregistered") -> None:
        """Deregister an instance, whichever server keeps it.

        Args:
            service: of which service.
            id: which.
            token: only if that registration keeps it; empty for whichever does.
            why: for those who ask.

        Raises:
            BadRequest: that is no name.
            NotThere: there is no such instance.
            NotAllowed: another registration keeps it, which came later.
            StoreAway: the store does not take it.
        """
        what = self._what(service, id)
        check(check_note, why)
        session = self._sessions.get(what)
        if token and (session is None or session.token != token):
            raise NotAllowed(
                f"{service}/{id} is not kept here by that registration: nothing was deregistered"
            )
        if session is not None:
            await self.withdraw(session, why)
            return
        held = self._view.held(service, id)
        if held is None:
            raise NotThere(f"{service} has no instance {id}")
        if held.instance.suspect:
            # It is in no store, only remembered here.
            self._view.suspects[what] = trio.current_time()
            return
        server = self._view.servers.get(held.record.server)
        if server is None or server.incarnation != held.record.incarnation:
            await self.keeper.delete(what, why)
        else:
            # Its server has to know that this is no loss, which it would make good.
            await self._change(what, lambda record: withdrawn(record, why))
        await self.keeper.settle_now(service)

    async def report(self, service: str, id: str, health: Health, note: str = "", *, token: str = "") -> None:
        """Say how an instance is. Nothing is written if it was so before.

        Args:
            service: of which service.
            id: which.
            health: how it is.
            note: why, for those who ask.
            token: only if that registration keeps it; empty for whichever does.

        Raises:
            BadRequest, NotThere, NotAllowed, StoreAway: as :meth:`deregister`.
        """
        what = self._what(service, id)
        check(check_note, note)
        if token:
            self.beat(service, id, token)
        await self._change(what, lambda record: with_health(record, health, note))
        await self.keeper.settle_now(service)

    async def set_mode(self, service: str, id: str, mode: Mode, note: str = "") -> None:
        """Say what an operator says: ``draining``, ``maintenance``, or nothing (empty) any more.

        Raises:
            BadRequest, NotThere, StoreAway: as :meth:`deregister`.
        """
        what = self._what(service, id)
        check(check_note, note)
        await self._change(what, lambda record: with_mode(record, mode, note))
        await self.keeper.settle_now(service)

    # -- inside ---------------------------------------------------------------------------------------------

    def _checked(
        self, service: str, registration: Registration, ttl: float
    ) -> tuple[What, Registration, float]:
        problems: list[str] = []
        checked, seconds = registration, ttl
        try:
            check_service_name(service)
        except ValueError as error:
            problems.append(str(error))
        try:
            checked = check_registration(registration)
        except ValueError as error:
            problems.append(str(error))
        try:
            seconds = check_ttl(ttl)
        except ValueError as error:
            problems.append(str(error))
        if problems:
            raise BadRequest("; ".join(problems))
        return What(service, registration.id), checked, seconds

    def _what(self, service: str, id: str) -> What:
        check(check_service_name, service)
        check(check_id, id)
        return What(service, id)

    async def _put(self, what: What, registration: Registration, ttl: float) -> int:
        def plan() -> Plan | None:
            held = self._view.held(*what) or self._view.withdrawn.get(what)
            if held is None:
                self._writer.check_room()
            record = record_of(registration, ttl, self._owner, None if held is None else held.record)
            return plan_put(self._view, *what, record)

        return await self._writer.write(plan)

    def _begin(self, session: Session, revision: int, *, is_held: bool) -> None:
        what = What(session.service, session.id)
        before = self._sessions.get(what)
        if before is not None:
            self._finish(before, "it was registered anew")
        self._sessions[what] = session
        now = trio.current_time()
        self.keeper.liveness.begin(what, session.token, session.ttl, now, is_held=is_held)
        self.keeper.wrote(what, revision)
        self.keeper.look_at(what)

    def _end(self, what: What, why: str) -> None:
        session = self._sessions.pop(what, None)
        if session is not None:
            self._finish(session, why)

    def _finish(self, session: Session, why: str) -> None:
        session.why = why
        session.ended.set()

    async def _change(self, what: What, change: Callable[[Record], Record]) -> None:
        """Write another record of an instance that is there."""

        def plan() -> Plan | None:
            held = self._view.held(*what)
            if held is None:
                raise NotThere(f"{what.service} has no instance {what.id}")
            record = change(held.record)
            key = instance_key(*what)
            if record == held.record:
                return None
            return Plan({key: encode(record)}, when=(as_known(self._view, key),))

        await self._writer.write(plan)

    def here(self, service: str, id: str) -> str:
        """Say what this server knows of an instance besides, for a human."""
        life = self.keeper.liveness.get((service, id))
        if life is None:
            return ""
        if life.until is None and id.startswith(IMPORTED):
            return "others have registered it with Consul; this server keeps it for as long as it is there"
        if life.until is None:
            return "this server keeps it: its registrant's call is open"
        left = life.until - trio.current_time()
        if left > 0:
            return (
                f"this server keeps it: {left:.1f} s of {life.ttl:g} s are left until the next sign of life"
            )
        return f"it is silent since {life.ttl - left:.1f} s, and is deleted as soon as the store takes that"
