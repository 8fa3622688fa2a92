"""The directory, served: what registrants, callers and operators reach as ``discovery``."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import trio

import duplex
from duplex_services._shared._background import background
from duplex_services.discovery._directory import Directory
from duplex_services.discovery._errors import (
    AlreadyThere,
    BadRequest,
    DirectoryError,
    Full,
    NotAllowed,
    NotThere,
    StoreAway,
)
from duplex_services.discovery._model import (
    DEFAULT_TTL,
    Batch,
    Explanation,
    Listing,
    Mode,
    Position,
    Registration,
    ServiceConfig,
    ServiceInfo,
    Status,
)
from duplex_services.discovery._registrations import Session
from duplex_services.discovery._rules._checking import check_id, check_note, check_service_name
from duplex_services.discovery._rules._selecting import NO_FILTER, Filter
from duplex_services.discovery._wire import (
    OPERATE,
    REGISTER,
    SERVICE,
    Diff,
    Granted,
    LeaderNews,
    Overview,
    Report,
)

#: Seconds after which a report is written again that the store did not take.
_REST: Final = 1.0

#: An index or a time: beyond this, numbers are not told apart any more.
_MOST_MOMENT: Final = 2.0**53

#: Seconds that withdrawing may take when a call has ended; the instance is silent by then, and goes in any case.
_WITHDRAW_WITHIN: Final = 5.0


def discovery_service(directory: Directory, *, name: str = SERVICE) -> duplex.Service:
    """Serve a directory: ``open_peer(services=[discovery_service(directory)])``.

    Who may change what is for the ``authorize`` of the peer to say, and without one nobody may: registrants need the permission
    ``discovery:register``, and who does more ``discovery:operate``. Looking up requires nothing.

    Args:
        directory: which.
        name: of the service; clients ask for this one.
    """
    return duplex.Service.from_object(_Served(directory), name=name, version="1.0.0")


class _Served:
    """Services find each other: register, look up, watch, lead."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._reading = directory.reading
        self._instances = directory.instances
        self._services = directory.services

    # ------------------------------------------------------------------------------------ registrations

    @duplex.rpc(requires=REGISTER)
    async def register(
        self,
        service: str,
        registration: Registration,
        ttl: float = DEFAULT_TTL,
        *,
        reports: duplex.ReceiveChannel[Report],
    ) -> AsyncIterator[Granted]:
        """Register an instance for as long as the call is open.

        Ended or cancelled by its caller, it withdraws the instance at once. If it is lost with its link, the instance stays for
        its TTL, for its registrant to come back. What is sent says how the instance is.
        """
        call = duplex.current_call()
        with _told():
            session = await self._instances.register(service, registration, ttl, is_held=True)
        try:
            yield self._granted(session)
            await self._hold(session, reports)
            if session.ended.is_set():
                raise duplex.Aborted(f"{service}/{registration.id}: {session.why}")
        finally:
            if call.cancelled_by in ("link", "local"):
                self._instances.let_go(session)
            else:
                with trio.move_on_after(_WITHDRAW_WITHIN, shield=True), contextlib.suppress(DirectoryError):
                    await self._instances.withdraw(session)

    async def _hold(self, session: Session, reports: duplex.ReceiveChannel[Report]) -> None:
        """Return when the caller ends its side, or the registration is over."""
        with trio.CancelScope() as holding:
            async with background() as nursery:

                async def until_ended() -> None:
                    await session.ended.wait()
                    holding.cancel()

                nursery.start_soon(until_ended)
                said, took = trio.open_memory_channel[Report](1)
                nursery.start_soon(self._report_all, session, took)
                async for report in reports:
                    with _told():
                        check_note(report.note)
                    await said.send(report)

    async def _report_all(self, session: Session, said: trio.MemoryReceiveChannel[Report]) -> None:
        """Write down what a registrant says, the last of it at least, as soon as the store takes it."""
        async for report in said:
            while True:
                with contextlib.suppress(trio.WouldBlock):
                    while True:
                        report = said.receive_nowait()
                try:
                    await self._instances.report(
                        session.service, session.id, report.health, report.note, token=session.token
                    )
                except StoreAway:
                    await trio.sleep(_REST)
                except DirectoryError:
                    break  # it is over, which its call is told
                else:
                    break

    @duplex.rpc(idempotent=True, requires=REGISTER)
    async def heartbeat(self, service: str, registration: Registration, ttl: float = DEFAULT_TTL) -> Granted:
        """Register an instance if it is not, change it if it is another now, and note that it lives."""
        with _told():
            return self._granted(await self._instances.heartbeat(service, registration, ttl))

    @duplex.rpc(inline=True, idempotent=True, requires=REGISTER)
    def beat(self, service: str, id: str, token: str) -> None:
        """Note that an instance lives. Raises FailedPrecondition if that registration is over: register anew."""
        with _told():
            self._instances.beat(service, id, token)

    @duplex.rpc(idempotent=True, requires=REGISTER)
    async def deregister(self, service: str, id: str, token: str = "", why: str = "deregistered") -> None:
        """Deregister an instance; with a token, only if that registration keeps it."""
        with _told():
            await self._instances.deregister(service, id, token=token, why=why)

    @duplex.rpc(idempotent=True, requires=REGISTER)
    async def report(self, service: str, id: str, report: Report, token: str = "") -> None:
        """Say how an instance is; with a token, only if that registration keeps it."""
        with _told():
            await self._instances.report(service, id, report.health, report.note, token=token)

    @duplex.rpc(idempotent=True, requires=OPERATE)
    async def drain(self, service: str, id: str, note: str = "", undo: bool = False) -> None:
        """Give an instance no new work; what runs may end."""
        await self._set_mode(service, id, "" if undo else "draining", note)

    @duplex.rpc(idempotent=True, requires=OPERATE)
    async def maintain(self, service: str, id: str, note: str = "", undo: bool = False) -> None:
        """Take an instance out until this is undone, also if it registers anew."""
        await self._set_mode(service, id, "" if undo else "maintenance", note)

    async def _set_mode(self, service: str, id: str, mode: Mode, note: str) -> None:
        with _told():
            await self._instances.set_mode(service, id, mode, note)

    # ------------------------------------------------------------------------------------------ lookups

    @duplex.rpc(idempotent=True)
    async def instances(self, service: str, wanted: Filter = NO_FILTER) -> Listing:
        """Return the instances of a service that serve, or all, with how good the answer is."""
        _check_service(service)
        await self._reading.turn(len(self._reading.view.all_instances(service)))
        return self._reading.listing(service, wanted)

    @duplex.rpc(idempotent=True)
    async def watch(self, service: str = "", after: Position | None = None) -> AsyncIterator[Batch]:
        """Tell what there is of a service (empty: of all), even if it has no instances, and what changes; or go on after a position."""
        if service:
            _check_service(service)
        async for batch in self._reading.watch(service, after):
            yield batch

    @duplex.rpc(inline=True, idempotent=True)
    def leader(self, service: str) -> LeaderNews:
        """Return who leads a service."""
        _check_service(service)
        return LeaderNews(service, self._reading.leader(service), self._reading.status())

    @duplex.rpc(idempotent=True)
    async def watch_leader(self, service: str) -> AsyncIterator[LeaderNews]:
        """Tell who leads a service, or that nobody does, and each change of that."""
        _check_service(service)
        is_first, last = True, None
        async for batch in self._reading.watch(service):
            leader = self._reading.leader(service)
            if leader is not None and leader.instance is None:
                # It is gone, and who comes after it is not written down yet.
                leader = last
            if is_first or leader != last:
                is_first, last = False, leader
                yield LeaderNews(service, leader, batch.status)

    @duplex.rpc(idempotent=True)
    async def services(self) -> Overview:
        """Return all services, and the servers of discovery."""
        await self._reading.turn(self._reading.view.count_of_services)
        servers = self._reading.view.servers
        return Overview(
            self._reading.services(), tuple(servers[name] for name in sorted(servers)), self._reading.status()
        )

    @duplex.rpc(inline=True, idempotent=True)
    def service(self, name: str) -> ServiceInfo:
        """Return what is known of a service. Raises NotFound."""
        _check_service(name)
        found = self._reading.service(name)
        if found is None:
            raise duplex.NotFound(f"service {name!r} not found")
        return found

    @duplex.rpc(inline=True, idempotent=True)
    def status(self) -> Status:
        """Tell how good what is known is."""
        return self._reading.status()

    @duplex.rpc(inline=True, idempotent=True)
    def explain(self, service: str, id: str, wanted: Filter = NO_FILTER) -> Explanation:
        """Say why an instance is listed to who asks with this filter, or is not."""
        with _told():
            check_service_name(service)
            check_id(id)
        return self._reading.explain(service, id, wanted)

    @duplex.rpc(idempotent=True)
    async def diff(
        self, first: float, last: float | None = None, service: str = "", times: bool = False
    ) -> Diff:
        """Tell what became different between two indexes; with ``times``, between two times in seconds since 1970.

        Raises OutOfRange if that is not remembered any more.
        """
        if service:
            _check_service(service)
        for moment in (first, last):
            if moment is not None and not abs(moment) <= _MOST_MOMENT:
                raise duplex.InvalidArgument(f"{moment:g} is neither an index nor a time")
        view = self._reading.view
        begin: int | None
        end: int | None
        if times:
            begin = view.index_at(first)
            end = view.index if last is None else view.index_at(last)
        else:
            begin, end = int(first), view.index if last is None else int(last)
        changes = None if begin is None or end is None else view.diff(service, begin, end)
        if begin is not None and end is not None and not 0 <= begin <= end <= view.index:
            raise duplex.OutOfRange(
                f"from {begin} to {end} is no time that has been: this server knows up to {view.index}, and FROM comes before TO"
            )
        if changes is None or begin is None or end is None:
            raise duplex.OutOfRange(
                "what was then is not remembered any more, or was before this server began; "
                f"this is known since index {view.remembered(service)}"
            )
        await self._reading.turn(len(changes))
        return Diff(begin, end, changes)

    # ----------------------------------------------------------------------------------------- services

    @duplex.rpc(idempotent=True, requires=OPERATE)
    async def set_leader(self, service: str, id: str) -> None:
        """Name who leads a service whose leader is named by hand."""
        with _told():
            await self._services.set_leader(service, id)

    @duplex.rpc(requires=OPERATE)
    async def add_service(self, name: str, config: ServiceConfig | None = None) -> None:
        """Have a service, with or without instances. Raises AlreadyExists."""
        with _told():
            await self._services.add(name, config)

    @duplex.rpc(idempotent=True, requires=OPERATE)
    async def configure(self, name: str, config: ServiceConfig) -> None:
        """Say how a service is to be treated."""
        with _told():
            await self._services.configure(name, config)

    @duplex.rpc(requires=OPERATE)
    async def remove_service(self, name: str) -> None:
        """Have a service no more: deregister its instances, and delete what is kept for it."""
        with _told():
            await self._services.remove(name)

    @duplex.rpc(requires=OPERATE)
    async def set_metadata(self, name: str, data: Any, index: int) -> int:
        """Keep something for a service, if it still has the index that was read (0: nothing). Returns the new index."""
        with _told():
            return await self._services.set_metadata(name, data, index)

    def _granted(self, session: Session) -> Granted:
        status = self._reading.status()
        return Granted(session.token, session.ttl, Position(status.origin, status.as_of))


def _check_service(name: str) -> None:
    with _told():
        check_service_name(name)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn what a directory raises into the outcome of a call."""
    try:
        yield
    except (BadRequest, ValueError) as error:
        raise duplex.InvalidArgument(str(error)) from error
    except NotThere as error:
        raise duplex.NotFound(error.message) from error
    except AlreadyThere as error:
        raise duplex.AlreadyExists(error.message) from error
    except NotAllowed as error:
        raise duplex.FailedPrecondition(error.message) from error
    except Full as error:
        raise duplex.ResourceExhausted(error.message) from error
    except DirectoryError as error:
        raise duplex.Unavailable(error.message) from error
