"""The routes, and what each does."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
import trio

import duplex
from duplex_services._shared._addresses import read_address
from duplex_services._shared._http_routes import NoRoute, Routes
from duplex_services._shared._http_server import Answer, Later, Request, Response, Send, Streaming
from duplex_services.discovery._directory import Directory
from duplex_services.discovery._errors import (
    AlreadyThere,
    BadRequest,
    DirectoryError,
    NotAllowed,
    NotThere,
)
from duplex_services.discovery._http import _events as events
from duplex_services.discovery._http import _words as words
from duplex_services.discovery._http._metrics import Metrics
from duplex_services.discovery._http._options import HttpOptions
from duplex_services.discovery._http._words import Problem, ok
from duplex_services.discovery._model import Position, ServiceConfig
from duplex_services.discovery._rules._announcing import http_peers, is_loopback
from duplex_services.discovery._rules._selecting import Filter

#: Seconds of silence after which a stream says that it is there.
SILENCE: Final = 30.0
#: Seconds that a question waits for a change, if it does not say how many, and the most.
_WAIT: Final = 60.0
_MOST_WAIT: Final = 600.0

_NO_RAFT: Final = "there is no raft here: servers of discovery are equal, and come and go by themselves; what they share is in their store"
#: What a directory refuses, as kinds of errors; whatever else it says may be otherwise later.
_CODES: Final[Mapping[type[DirectoryError], str]] = {
    BadRequest: "validation_error",
    NotThere: "object_not_found",
    AlreadyThere: "object_exists",
    NotAllowed: "precondition_failed",
}
_STREAM: Final = "text/event-stream; charset=utf-8"


class Handlers:
    """Answers requests from a directory.

    Args:
        directory: which.
        options: who may do what.
    """

    def __init__(self, directory: Directory, options: HttpOptions) -> None:
        #: Only who is on this machine gets here, and has to call it so.
        self.is_local = False
        #: What this server has counted; ``None`` while it begins.
        self.metrics: Metrics | None = None
        self._directory = directory
        self._reading = directory.reading
        self._view = directory.reading.view
        self._options = options
        self._routes = Routes()
        for method, path, handler in (
            ("GET", "/ping", self._ping),
            ("GET", "/readyz", self._ping),
            ("GET", "/.well-known/status", self._status),
            ("GET", "/metrics", self._metrics),
            ("GET", "/services", self._list),
            ("PUT", "/services/{}", self._add_service),
            ("DELETE", "/services/{}", self._remove_service),
            ("GET", "/services/{}", self._watch),
            ("PUT", "/services/{}/meta", self._set_metadata),
            ("GET", "/services/{}/meta", self._metadata),
            ("GET", "/services/{}/instances", self._instances),
            ("PUT", "/services/{}/instances/{}", self._register),
            ("GET", "/services/{}/instances/{}", self._instance),
            ("DELETE", "/services/{}/instances/{}", self._deregister),
            ("GET", "/services/{}/instances/{}/explanation", self._explain),
            ("PUT", "/services/{}/leader", self._set_leader),
            ("GET", "/services/{}/leader", self._leader),
            ("GET", "/raft/leader", self._raft_leader),
            ("GET", "/raft/peers", self._raft_peers),
            ("PUT", "/raft/peers/{}", self._no_raft),
            ("DELETE", "/raft/peers/{}", self._no_raft),
            ("POST", "/raft/promote", self._no_raft),
            ("POST", "/raft/demote", self._no_raft),
            ("POST", "/shutdown", self._no_raft),
        ):
            self._routes.add(method, path, handler)

    async def handle(self, request: Request) -> Answer:
        """Answer a request."""
        try:
            answer = await self._find(request)
        except Problem as problem:
            answer = words.problem_response(problem)
        except DirectoryError as error:
            answer = words.problem_response(_problem(error))
        return self._with_headers(answer, request)

    async def _find(self, request: Request) -> Answer:
        self._check_rights(request)
        is_v1 = request.parts[:1] == ("v1",)
        route = msgspec.structs.replace(request, parts=request.parts[1:]) if is_v1 else request
        found = self._routes.find(route)
        if isinstance(found, NoRoute):
            if not found.allowed:
                raise Problem("not_found", "there is nothing under this path")
            allowed = sorted({*found.allowed, *(["HEAD"] if "GET" in found.allowed else [])})
            raise Problem(
                "method_not_allowed",
                f"{request.method} is not for this path",
                headers=(("Allow", ", ".join(allowed)),),
            )
        handler, parts = found
        needs_view = route.parts not in {("ping",), (".well-known", "status"), ("metrics",)}
        if needs_view and not self._reading.is_known:
            raise Problem("service_unavailable", "discoverd: nothing was read from the store yet", retry=True)
        return await handler(_Asked(request, is_v1), *parts)

    def _check_rights(self, request: Request) -> None:
        options = self._options
        changes = request.method != "GET"
        if changes and "origin" in request.headers:
            # Pages of other sites could otherwise have a browser on this machine change what it may change.
            raise Problem("forbidden", "browsers may not change anything here")
        if self.is_local and not options.read_token and not _is_local_name(request.headers.get("host", "")):
            # A page may give its own name this machine's address, and have its browser read here what it reads there.
            raise Problem(
                "forbidden", "this server is of this machine alone: call it by its address, or as localhost"
            )
        tokens = [options.write_token]
        if not changes:
            if not options.read_token:
                return
            tokens.append(options.read_token)
        elif not options.write_token:
            return
        shown = request.headers.get("authorization", "")
        scheme, _, token = shown.partition(" ")
        given = token.strip().encode()
        if scheme.lower() != "bearer" or not any(
            one and secrets.compare_digest(given, one.encode()) for one in tokens
        ):
            raise Problem(
                "unauthorized",
                f"{'changes need' if changes else 'this needs'} a token: Authorization: Bearer TOKEN",
                headers=(("WWW-Authenticate", "Bearer"),),
            )

    def _with_headers(self, answer: Answer, request: Request) -> Answer:
        if isinstance(answer, Later):
            later = answer.answer

            async def with_headers() -> Response:
                try:
                    found = await later()
                except Problem as problem:
                    found = words.problem_response(problem)
                return msgspec.structs.replace(found, headers=(*found.headers, *self._headers(request)))

            return Later(with_headers)
        return msgspec.structs.replace(answer, headers=(*answer.headers, *self._headers(request)))

    def _headers(self, request: Request) -> list[tuple[str, str]]:
        status = self._reading.status()
        found = [
            ("Discoverd-Peers", ",".join(self._peers(request))),
            ("Discoverd-Index", str(status.as_of)),
            ("Discoverd-Origin", status.origin),
        ]
        if status.age is not None:
            found.append(("Discoverd-Age", f"{status.age:.3f}"))
        if status.stale:
            found.append(("Discoverd-Stale", "true"))
        return found

    def _peers(self, request: Request) -> list[str]:
        found = http_peers(self._view.servers.values(), is_here=is_loopback(request.client))
        return found or [request.headers.get("host", "")]

    # ------------------------------------------------------------------------------------------ the server

    async def _ping(self, asked: _Asked) -> Response:
        return ok()

    async def _status(self, asked: _Asked) -> Response:
        status = self._reading.status()
        is_healthy = self._reading.is_known
        data = {
            "status": "healthy" if is_healthy else "unhealthy",
            "version": duplex.__version__,
            "stale": status.stale,
            "age": status.age,
        }
        body = msgspec.json.format(msgspec.json.encode({"data": data}), indent=2) + b"\n"
        return Response(200 if is_healthy else 500, body, words.JSON)

    async def _metrics(self, asked: _Asked) -> Response:
        if self.metrics is None:
            raise Problem("service_unavailable", "discoverd: this server is only beginning", retry=True)
        try:
            text, content_type = self.metrics.text()
        except duplex.ConfigurationError as error:
            raise Problem("not_implemented", str(error)) from None
        return Response(200, text, content_type)

    async def _raft_leader(self, asked: _Asked) -> Response:
        return ok({"host": f"http://{self._peers(asked.request)[0]}"})

    async def _raft_peers(self, asked: _Asked) -> Response:
        return ok(self._peers(asked.request))

    async def _no_raft(self, asked: _Asked, peer: str = "") -> Response:
        raise Problem("not_implemented", _NO_RAFT)

    # -------------------------------------------------------------------------------------------- services

    async def _list(self, asked: _Asked) -> Response:
        await self._reading.turn(self._view.count_of_services)
        return ok(
            [
                {
                    "name": one.name,
                    "leader_type": one.config.leader_type,
                    "serving": one.serving,
                    "instances": one.instances,
                    "leader": "" if one.leader is None else one.leader.id,
                }
                for one in self._reading.services()
            ]
        )

    async def _add_service(self, asked: _Asked, service: str) -> Response:
        words.check_name(service)
        media = asked.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media != words.JSON:
            raise Problem("validation_error", "Content-Type must be application/json")
        body = words.decode(asked.request.body, words.ServiceBody, is_v1=asked.is_v1)
        config = ServiceConfig("manual" if body.leader_type == "manual" else "oldest")
        try:
            await self._directory.services.add(service, config)
        except AlreadyThere:
            raise Problem("object_exists", f'discoverd: service "{service}" already exists') from None
        return ok()

    async def _remove_service(self, asked: _Asked, service: str) -> Response:
        words.check_name(service)
        try:
            await self._directory.services.remove(service)
        except NotThere:
            raise words.not_found(service) from None
        return ok()

    async def _watch(self, asked: _Asked, service: str) -> Answer:
        words.check_name(service)
        return self._stream(asked, service, events.EVERYTHING)

    async def _set_metadata(self, asked: _Asked, service: str) -> Response:
        words.check_name(service)
        body = words.decode(asked.request.body, words.MetadataBody, is_v1=asked.is_v1)
        if service not in self._view:
            raise words.not_found(service)
        if body.leader_id and self._view.config(service).leader_type != "manual":
            raise Problem("validation_error", "service leader election type is not manual")
        try:
            index = await self._directory.services.set_metadata(service, body.data, body.index)
        except NotAllowed:
            info = self._reading.service(service)
            there = 0 if info is None or info.metadata is None else info.metadata.index
            raise _wrong_index(service, body.index, there) from None
        if body.leader_id:
            await self._directory.services.set_leader(service, body.leader_id)
        return ok({"data": body.data, "index": index})

    async def _metadata(self, asked: _Asked, service: str) -> Answer:
        words.check_name(service)

        def answer() -> Response:
            info = self._reading.service(service)
            if info is None or info.metadata is None:
                raise Problem("object_not_found", "service meta not found")
            return ok(words.metadata_words(info.metadata))

        return await self._now_or_later(asked, service, frozenset({"metadata"}), answer)

    # ------------------------------------------------------------------------------------------- instances

    async def _instances(self, asked: _Asked, service: str) -> Answer:
        words.check_name(service)
        wanted = _filter(asked.request.query)
        if asked.wants_stream:
            return self._stream(asked, service, events.OF_INSTANCES, wanted)

        def answer() -> Response:
            found = self._reading.listing(service, wanted)
            is_there = found.known if asked.is_v1 else bool(found.instances)
            if not is_there and (wanted.takes_all or not found.known):
                raise Problem("object_not_found", f'service not found: "{service}"')
            return ok([words.instance_words(one) for one in found.instances])

        return await self._now_or_later(asked, service, events.OF_INSTANCES, answer)

    async def _register(self, asked: _Asked, service: str, id: str) -> Response:
        words.check_name(service)
        body = words.decode(asked.request.body, words.InstanceBody, is_v1=asked.is_v1)
        registration = words.read_registration(id, body)
        if service not in self._view:
            raise words.not_found(service)
        await self._directory.instances.heartbeat(service, registration, body.ttl)
        return ok()

    async def _instance(self, asked: _Asked, service: str, id: str) -> Response:
        words.check_name(service)
        found = self._view.instance(service, id)
        if found is None:
            raise Problem("object_not_found", f'discoverd: instance "{id}" not found')
        return ok(words.instance_words(found))

    async def _deregister(self, asked: _Asked, service: str, id: str) -> Response:
        words.check_name(service)
        if service not in self._view:
            raise words.not_found(service)
        try:
            await self._directory.instances.deregister(service, id)
        except NotThere:
            # It is what was wanted.
            pass
        return ok()

    async def _explain(self, asked: _Asked, service: str, id: str) -> Response:
        words.check_name(service)
        return ok(self._reading.explain(service, id, _filter(asked.request.query)))

    # --------------------------------------------------------------------------------------------- leaders

    async def _set_leader(self, asked: _Asked, service: str) -> Response:
        words.check_name(service)
        body = words.decode(asked.request.body, words.LeaderBody, is_v1=asked.is_v1)
        try:
            await self._directory.services.set_leader(service, body.id)
        except NotAllowed:
            raise Problem("validation_error", "service leader election type is not manual") from None
        return ok()

    async def _leader(self, asked: _Asked, service: str) -> Answer:
        words.check_name(service)
        if asked.wants_stream:
            return self._stream(asked, service, events.OF_LEADER)

        def answer() -> Response:
            leader = self._reading.leader(service)
            if leader is None or leader.instance is None:
                raise Problem("object_not_found", "no leader found")
            return ok(
                words.leader_words(leader, leader.instance, is_v1=asked.is_v1),
                (("Discoverd-Fence", str(leader.fence)),),
            )

        return await self._now_or_later(asked, service, events.OF_LEADER, answer)

    # ------------------------------------------------------------------------------------------- following

    async def _now_or_later(
        self, asked: _Asked, service: str, kinds: frozenset[str], answer: Callable[[], Response]
    ) -> Answer:
        """Answer at once; or, with an index, when something has changed since, or the time is over."""
        query = asked.request.query

        async def in_turn() -> Response:
            of_instances = kinds is events.OF_INSTANCES
            await self._reading.turn(len(self._view.all_instances(service)) if of_instances else 0)
            return answer()

        if "index" not in query:
            return await in_turn()
        text = query["index"]
        after = events.read_position(f"{query.get('origin') or self._view.origin}:{text}")
        if after is None:
            raise Problem("validation_error", f"index is that of an earlier answer, not {text!r}")
        seconds = _seconds(query.get("wait"))

        async def wait() -> Response:
            with trio.move_on_after(seconds):
                async for batch in self._reading.watch(service, after):
                    if batch.reset or any(change.kind in kinds for change in batch.changes):
                        break
            return await in_turn()

        return Later(wait)

    def _stream(
        self, asked: _Asked, service: str, kinds: frozenset[str], wanted: Filter | None = None
    ) -> Streaming:
        text = asked.request.headers.get("last-event-id") or asked.request.query.get("after", "")
        after: Position | None = None
        if text:
            # One that is none is as good as one that is too old.
            after = events.read_position(text) or Position("", 0)
        teller = events.Teller(
            service,
            kinds,
            wanted or _filter(asked.request.query),
            is_v1=asked.is_v1,
            resumes=after is not None,
        )

        async def write(send: Send) -> None:
            watching = self._reading.watch(service, after)
            silent_until = trio.current_time() + SILENCE
            while True:
                told = events.SILENCE
                with trio.move_on_at(silent_until):
                    told = teller.tell(await watching.receive())
                if told:
                    await send(told)
                    silent_until = trio.current_time() + SILENCE

        return Streaming(_STREAM, write)


class _Asked(msgspec.Struct, frozen=True):
    """A request, and whether it is one below ``/v1``."""

    request: Request
    is_v1: bool

    @property
    def wants_stream(self) -> bool:
        """Whether the answer is to be a stream of events."""
        return "text/event-stream" in self.request.headers.get("accept", "")


def _filter(query: dict[str, str]) -> Filter:
    """Return which instances a query asks for: ``?state=all&zone=…&proto=…&meta.KEY=VALUE``."""
    metadata = {
        key.removeprefix("meta."): value or None for key, value in query.items() if key.startswith("meta.")
    }
    return Filter(metadata, query.get("zone", ""), query.get("proto", ""), query.get("state") == "all")


def _is_local_name(text: str) -> bool:
    """Whether a ``Host`` header is one that no page of another site can have: an address, or a name of this machine's."""
    if not text:
        return True
    try:
        host = read_address(text, 80)[0].lower().removesuffix(".")
    except duplex.ConfigurationError:
        return False
    if host in ("localhost", socket.gethostname().lower()) or host.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _seconds(text: str | None) -> float:
    if text is None:
        return _WAIT
    try:
        found = float(text.removesuffix("s"))
    except ValueError:
        found = -1.0
    if not 0 <= found <= _MOST_WAIT:
        raise Problem("validation_error", f"wait is from 0 to {_MOST_WAIT:g} seconds, not {text!r}")
    return found


def _wrong_index(service: str, index: int, there: int) -> Problem:
    name = f'Service metadata for "{service}"'
    if not there:
        return Problem("precondition_failed", f"{name} does not exist, use index=0 to set")
    if not index:
        return Problem("object_exists", f"{name} already exists, use index={there} to set")
    return Problem("precondition_failed", f"{name} exists, but wrong index provided")


def _problem(error: DirectoryError) -> Problem:
    code = _CODES.get(type(error))
    if code is None:
        return Problem("service_unavailable", error.message, retry=True)
    return Problem(code, error.message)
