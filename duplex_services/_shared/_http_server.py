"""A small HTTP/1.1 server: h11 on trio's streams, for the services' own interfaces.

Each connection is one task that reads a request, has it handled, and answers. Everything that a client decides has a bound:
bytes and seconds of a head, of a body and of an answer, connections, and what it sends ahead.
"""

from __future__ import annotations

import contextlib
import email.utils
import http
import logging
import re
import socket
import ssl
import urllib.parse
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Final, TypeAlias, TypeVar, final

import h11
import msgspec
import trio

from duplex_services._shared._addresses import open_sockets, show_address
from duplex_services._shared._background import background

_log: Final = logging.getLogger("duplex")

_T = TypeVar("_T")

#: Bytes that are read at a time, and that a client may send ahead while it is being answered.
_CHUNK: Final = 65_536
#: Fields of a query.
_MOST_FIELDS: Final = 100
#: Seconds for which what else a client sends is read after an error, as otherwise it might not get to see it.
_LINGER: Final = 1.0
#: Seconds for which nobody is accepted when this process has no room for a connection.
_REST: Final = 0.1

#: What is asked for, with or without the server's own name before it: path and query. It matches anything.
_TARGET: Final = re.compile(r"(?:[a-z][a-z0-9+.-]*://[^/?]*)?([^?]*)\??(.*)", re.IGNORECASE | re.DOTALL)

_ALLOWED_BODIES: Final = frozenset({204, 304})


class Request(msgspec.Struct, frozen=True):
    """A request, all of which is here.

    Attributes:
        method: such as ``GET``; ``HEAD`` comes as ``GET``.
        parts: of the path, decoded: ``/services/a%2Fb`` is ``("services", "a/b")``.
        query: of a field that comes several times the last.
        headers: names in lower case; of one that comes several times the last.
        body: all of it.
        client: the address that it came from.
    """

    method: str
    parts: tuple[str, ...]
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    client: str


class Response(msgspec.Struct, frozen=True):
    """An answer.

    Attributes:
        status: such as 200.
        body: all of it.
        content_type: of the body.
        headers: beside ``Content-Length``, ``Content-Type``, ``Date`` and ``Connection``.
    """

    status: int = 200
    body: bytes = b""
    content_type: str = ""
    headers: tuple[tuple[str, str], ...] = ()


class Later(msgspec.Struct, frozen=True):
    """An answer that takes its time; it is cancelled when nobody waits for it any more.

    Attributes:
        answer: waits for it.
    """

    answer: Callable[[], Awaitable[Response]]


Send: TypeAlias = Callable[[bytes], Awaitable[None]]


class Streaming(msgspec.Struct, frozen=True):
    """An answer without an end of its own; it is cancelled when nobody reads it any more.

    Attributes:
        content_type: of it.
        write: is given what sends some of it, which waits until the client takes it.
        headers: as in :class:`Response`.
    """

    content_type: str
    write: Callable[[Send], Awaitable[None]]
    headers: tuple[tuple[str, str], ...] = ()


Answer: TypeAlias = Response | Later | Streaming
Handler: TypeAlias = Callable[[Request], Awaitable[Answer]]
#: Returns what a client is told whose request was not even handled: a status, and what is wrong.
Refuse: TypeAlias = Callable[[int, str], Response]


class HttpLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a client may do.

    Attributes:
        head: bytes of a request's first line and headers.
        body: bytes of a request's body.
        connections: at a time. For more, those are closed of which something has been waited for longest: a request, all of it, or
            that an answer is taken; if there is none, who comes is told so, and closed.
        waiting: answers without an end of their own, and such that take their time, at a time to one address (/64 of IPv6); 0 is
            no limit. For more, who asks is told so.
        idle: seconds between two requests of a connection.
        head_within: seconds from the first byte of a request until its head is there.
        body_within: seconds from then until its body is there.
        send_within: seconds until the client must take what it is sent.
        close_within: seconds that requests under way may take when the server is closed.
    """

    head: int = 32_768
    body: int = 1_048_576
    connections: int = 1000
    waiting: int = 0
    idle: float = 75.0
    head_within: float = 10.0
    body_within: float = 30.0
    send_within: float = 60.0
    close_within: float = 5.0


def plain_refusal(status: int, message: str) -> Response:
    """Return an error as a line of text."""
    return Response(status, f"{message}\n".encode(), "text/plain; charset=utf-8")


class _Gone(Exception):
    """The client is not there any more, or takes nothing."""


class _Bad(Exception):
    """The request makes no sense; the connection ends with the answer to it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@final
class HttpServer:
    """Serves HTTP. :func:`open_http_server` makes it.

    Attributes:
        addresses: where it listens: ``HOST:PORT``.
        connections: that are open.
        requests: that were answered.
    """

    def __init__(
        self, handler: Handler, refuse: Refuse, limits: HttpLimits, tls: ssl.SSLContext | None
    ) -> None:
        self.addresses: tuple[str, ...] = ()
        self.connections = 0
        self.requests = 0
        self.handler = handler
        self.refuse = refuse
        self.limits = limits
        self.is_closing = False
        #: What is waited in that ends when the server is closed: for requests, and in answers without an end.
        self.waits: set[trio.CancelScope] = set()
        #: What is waited in for clients to go on, with a request or with taking an answer: the one that waits longest first.
        self.stalls: dict[trio.CancelScope, None] = {}
        self._tls = tls
        self._ended = trio.Event()
        self._waiting: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<HttpServer at {', '.join(self.addresses)}>"

    async def accept(self, listener: trio.abc.Listener[trio.SocketStream], nursery: trio.Nursery) -> None:
        """Accept connections until the listener is closed."""
        while True:
            try:
                stream = await listener.accept()
            except trio.ClosedResourceError:
                return
            except OSError as error:
                _log.warning("HTTP accepts no connections for a moment: %s", error)
                await trio.sleep(_REST)
                continue
            self.connections += 1
            nursery.start_soon(self._serve, stream)

    async def _serve(self, raw: trio.SocketStream) -> None:
        stream: trio.abc.Stream = raw
        try:
            with contextlib.suppress(OSError, trio.BrokenResourceError, trio.TooSlowError, _Gone):
                client = str(raw.socket.getpeername()[0])
                if self._tls is not None:
                    stream = secure = trio.SSLStream(raw, self._tls, server_side=True, https_compatible=True)
                    with trio.fail_after(self.limits.head_within):
                        await secure.do_handshake()
                await _Connection(self, stream, client).run(
                    is_welcome=self.connections <= self.limits.connections or self._make_room()
                )
        except Exception:
            # Whatever is wrong with one connection is nothing to the others.
            _log.exception("a connection of HTTP's failed")
        finally:
            await trio.aclose_forcefully(stream)
            self.connections -= 1
            if not self.connections:
                self._ended.set()

    def _make_room(self) -> bool:
        """Have the connection end whose client has been waited for longest. Tells whether there is one."""
        longest = next(iter(self.stalls), None)
        if longest is None:
            return False
        del self.stalls[longest]
        longest.cancel()
        return True

    @contextlib.contextmanager
    def stall(self, seconds: float) -> Iterator[trio.CancelScope]:
        """Wait for a client to go on, for so many seconds, or until there are too many connections.

        Raises:
            _Gone: the connection is to make room for another.
        """
        stays = False
        with trio.move_on_after(seconds) as scope:
            self.stalls[scope] = None
            try:
                yield scope
            finally:
                stays = scope in self.stalls
                self.stalls.pop(scope, None)
        if scope.cancelled_caught and not stays:
            raise _Gone

    @contextlib.contextmanager
    def waiting(self, client: str) -> Iterator[bool]:
        """Count an answer that is waited for. Gives whether the address may have another one."""
        network = _network(client)
        self._waiting[network] += 1
        try:
            yield not self.limits.waiting or self._waiting[network] <= self.limits.waiting
        finally:
            self._waiting[network] -= 1
            if not self._waiting[network]:
                del self._waiting[network]

    async def close(self) -> None:
        """Have all connections end when what they are asked is answered."""
        self.is_closing = True
        self._ended = trio.Event()
        for scope in list(self.waits):
            scope.cancel()
        if self.connections:
            await self._ended.wait()


@final
class _Connection:
    """One connection, which has one request after the other."""

    def __init__(self, server: HttpServer, stream: trio.abc.Stream, client: str) -> None:
        self._server = server
        self._limits = server.limits
        self._stream = stream
        self._client = client
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=server.limits.head)
        self._is_head = False
        #: A part of what was sent may be missing.
        self._is_cut = False

    async def run(self, *, is_welcome: bool) -> None:
        try:
            if not is_welcome:
                raise _Bad(503, "there are too many connections")
            while (head := await self._next_head()) is not None:
                await self._answer(await self._request(head))
                if not self._may_go_on():
                    return
                self._http.start_next_cycle()
        except _Bad as bad:
            await self._refuse(bad)

    def _may_go_on(self) -> bool:
        is_done = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        return is_done and not self._server.is_closing

    # ------------------------------------------------------------------------------------------ requests

    async def _next_head(self) -> h11.Request | None:
        """Return the head of the next request; ``None`` if there is none, and no more to wait for."""
        limits = self._limits
        self._is_head = False
        event: object = h11.NEED_DATA
        with self._server.stall(limits.idle) as scope:
            self._server.waits.add(scope)
            if self._server.is_closing:
                scope.cancel()
            has_begun = bool(self._http.trailing_data[0])
            try:
                while (event := self._next_event()) is h11.NEED_DATA:
                    data = await self._receive()
                    if not has_begun and data:
                        has_begun = True
                        self._server.waits.discard(scope)
                        scope.deadline = trio.current_time() + limits.head_within
            finally:
                self._server.waits.discard(scope)
        if event is h11.NEED_DATA and has_begun:
            raise _Bad(408, f"the request's head was not there after {limits.head_within:g} s")
        return event if isinstance(event, h11.Request) else None

    def _next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise _Bad(error.error_status_hint, f"that is no request: {error}") from error

    async def _receive(self) -> bytes:
        data = bytes(await self._stream.receive_some(_CHUNK))
        self._http.receive_data(data)
        return data

    async def _request(self, head: h11.Request) -> Request:
        method = head.method.decode("latin-1")
        self._is_head = method == "HEAD"
        if head.http_version not in {b"1.0", b"1.1"}:
            raise _Bad(505, "this is HTTP/1.1")
        if len(head.target) + sum(len(name) + len(value) for name, value in head.headers) > self._limits.head:
            # What comes in one piece is parsed whatever its size.
            raise _Bad(431, f"a request's head has at most {self._limits.head} bytes")
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
        if "transfer-encoding" in headers and ("content-length" in headers or head.http_version == b"1.0"):
            # Who is between here and the client may read it otherwise, and take the rest for another request.
            raise _Bad(400, "a body has either Content-Length or, in HTTP/1.1, Transfer-Encoding")
        limit = self._limits.body
        if int(headers.get("content-length", "0")) > limit:
            raise _Bad(413, f"a body has at most {limit} bytes")
        if self._http.they_are_waiting_for_100_continue:
            await self._send(h11.InformationalResponse(status_code=100, headers=[]))
        body = bytearray()
        with self._server.stall(self._limits.body_within) as scope:
            while True:
                event = self._next_event()
                if event is h11.NEED_DATA:
                    await self._receive()
                elif isinstance(event, h11.Data):
                    body += event.data
                    if len(body) > limit:
                        raise _Bad(413, f"a body has at most {limit} bytes")
                else:
                    break
        if scope.cancelled_caught:
            raise _Bad(408, f"the request's body was not there after {self._limits.body_within:g} s")
        target = _TARGET.fullmatch(head.target.decode("latin-1"))
        assert target is not None, "it matches anything"
        path, query = target.groups()
        try:
            fields = urllib.parse.parse_qsl(query, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
        except ValueError as error:
            raise _Bad(400, f"the query makes no sense: {error}") from error
        parts = [urllib.parse.unquote(part) for part in path.strip("/").split("/")]
        parts = [] if parts == [""] else parts
        method = "GET" if self._is_head else method
        return Request(method, tuple(parts), dict(fields), headers, bytes(body), self._client)

    # ------------------------------------------------------------------------------------------- answers

    async def _answer(self, request: Request) -> None:
        self._server.requests += 1
        try:
            answer = await self._server.handler(request)
            if not isinstance(answer, Response):
                with self._server.waiting(request.client) as is_one_of_few:
                    found = await self._wait_out(answer) if is_one_of_few else self._too_many()
                if found is None:
                    return
                answer = found
        except _Gone:
            raise
        except Exception as error:
            _log.exception("%s /%s failed", request.method, "/".join(request.parts))
            if self._http.our_state is not h11.SEND_RESPONSE:
                raise _Gone from error
            answer = self._server.refuse(500, "Something went wrong")
        await self._respond(answer)

    async def _wait_out(self, answer: Later | Streaming) -> Response | None:
        """Return what an answer that takes its time is in the end; ``None`` if it was sent while it came."""
        if isinstance(answer, Streaming):
            await self._stream_out(answer)
            return None
        found = await self._while_there(answer.answer)
        return self._server.refuse(503, "this server is leaving") if found is None else found

    def _too_many(self) -> Response:
        return self._server.refuse(
            429,
            f"this address has {self._limits.waiting} streams and questions that wait already: end one of them",
        )

    async def _respond(self, response: Response, *, ends: bool = False) -> None:
        headers = [("Date", email.utils.formatdate(usegmt=True)), *response.headers]
        if response.status not in _ALLOWED_BODIES:
            headers.append(("Content-Length", str(len(response.body))))
        if response.content_type:
            headers.append(("Content-Type", response.content_type))
        if ends or self._server.is_closing:
            headers.append(("Connection", "close"))
        reason = http.HTTPStatus(response.status).phrase
        events: list[h11.Event] = [
            h11.Response(status_code=response.status, headers=_encoded(headers), reason=reason)
        ]
        if response.body and not self._is_head:
            events.append(h11.Data(response.body))
        await self._send(*events, h11.EndOfMessage())

    async def _stream_out(self, answer: Streaming) -> None:
        headers = [
            ("Date", email.utils.formatdate(usegmt=True)),
            ("Content-Type", answer.content_type),
            ("Cache-Control", "no-store"),
            *answer.headers,
        ]
        await self._send(h11.Response(status_code=200, headers=_encoded(headers), reason="OK"))
        if not self._is_head:

            async def write() -> bool:
                await answer.write(lambda data: self._send(h11.Data(data)))
                return True

            await self._while_there(write)
        await self._send(h11.EndOfMessage())

    async def _send(self, *events: h11.Event) -> None:
        if self._is_cut:
            raise _Gone
        data = b"".join(self._http.send(event) or b"" for event in events)
        self._is_cut = True
        with self._server.stall(self._limits.send_within):
            try:
                await self._stream.send_all(data)
            except trio.BrokenResourceError:
                raise _Gone from None
            self._is_cut = False
        if self._is_cut:
            raise _Gone

    async def _while_there(self, run: Callable[[], Awaitable[_T]]) -> _T | None:
        """Run something while the client is there; ``None`` if the server is closed meanwhile.

        Raises:
            _Gone: the client went away.
        """
        is_gone = False
        with trio.CancelScope() as scope:
            self._server.waits.add(scope)
            if self._server.is_closing:
                scope.cancel()

            async def watch() -> None:
                nonlocal is_gone
                await self._until_gone()
                is_gone = True
                scope.cancel()

            try:
                async with background() as nursery:
                    nursery.start_soon(watch)
                    return await run()
            finally:
                self._server.waits.discard(scope)
        if is_gone:
            raise _Gone
        return None

    async def _until_gone(self) -> None:
        ahead = 0
        with contextlib.suppress(trio.BrokenResourceError):
            while data := await self._stream.receive_some(_CHUNK):
                ahead += len(data)
                if ahead > _CHUNK:
                    return
                self._http.receive_data(bytes(data))

    async def _refuse(self, bad: _Bad) -> None:
        """Say what is wrong, and end the connection."""
        if self._http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            return
        await self._respond(self._server.refuse(bad.status, bad.message), ends=True)
        with trio.move_on_after(_LINGER):
            if isinstance(self._stream, trio.SocketStream):
                await self._stream.send_eof()
            while await self._stream.receive_some(_CHUNK):
                pass


def _network(client: str) -> str:
    """Return an address, or of IPv6 the /64 that one customer has."""
    if ":" not in client:
        return client
    return socket.inet_pton(socket.AF_INET6, client.partition("%")[0])[:8].hex()


def _encoded(headers: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Return headers as bytes: what came from a client may be any that HTTP has."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


@contextlib.asynccontextmanager
async def open_http_server(
    handler: Handler,
    bind: str,
    *,
    refuse: Refuse = plain_refusal,
    limits: HttpLimits | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[HttpServer]:
    """Serve HTTP while the block runs; when it is left, what is being answered may end.

    Args:
        handler: answers a request. An error that it raises is logged, and answered with 500.
        bind: ``HOST:PORT``; ``:PORT`` is every address of this machine, port 0 a free one.
        refuse: what a client is told whose request cannot be handled.
        limits: what a client may do.
        tls: has the certificate; ``None`` is plain HTTP.

    Raises:
        duplex.ConfigurationError: nobody can listen there.
    """
    sockets, _ = await open_sockets(bind)
    server = HttpServer(handler, refuse, limits or HttpLimits(), tls)
    server.addresses = tuple(show_address(*sock.getsockname()[:2]) for sock in sockets)
    listeners = [trio.SocketListener(sock) for sock in sockets]
    try:
        async with background() as nursery:
            for listener in listeners:
                nursery.start_soon(server.accept, listener, nursery)
            try:
                yield server
            finally:
                with trio.move_on_after(server.limits.close_within, shield=True):
                    for listener in listeners:
                        await listener.aclose()
                    await server.close()
    finally:
        for sock in sockets:
            sock.close()
