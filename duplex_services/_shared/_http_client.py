"""A small HTTP/1.1 client: h11 on trio's streams, for the few endpoints of one service.

It keeps connections, goes on to the next endpoint when one fails, and tells a request that was surely not sent from one
whose fate is unknown; more is its callers' business. It follows no redirects, reads no proxies from the environment,
and speaks no compression.

::

    HttpError
    ├─ NotSent      nothing of the request can have had an effect
    └─ NoAnswer     the request was sent, in whole or in part, and no sensible answer came in time
"""

from __future__ import annotations

import contextlib
import os
import select
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeAlias, final

import h11
import msgspec
import trio

#: Bytes that are read at a time.
_CHUNK: Final = 65_536
#: Bytes of the status line and the headers of an answer.
_MAX_HEAD: Final = 65_536
#: Seconds after which a request that is given up counts against its endpoint.
_SLOW: Final = 0.1

Headers: TypeAlias = Iterable[tuple[str, str]]


class HttpError(Exception):
    """The root of what a request raises."""


@final
class NotSent(HttpError):
    """Nobody can have read the request: it may be sent again, whatever it does."""


@final
class NoAnswer(HttpError):
    """The request was sent, at least in part, and there is no answer: it may have had its effect, or have it later."""


class Endpoint(msgspec.Struct, frozen=True):
    """Where a server listens.

    Attributes:
        host: its name or address; it is also what its certificate must be for.
        port: its TCP port.
        tls: how to check and to show certificates; ``None`` is plain HTTP.
        socket: the Unix socket to connect to instead of host and port.
    """

    host: str
    port: int = 80
    tls: ssl.SSLContext | None = None
    socket: Path | None = None

    def __str__(self) -> str:
        if self.socket is not None:
            return f"unix:{self.socket}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self.tls else ''}://{host}:{self.port}"


class Answer(msgspec.Struct, frozen=True):
    """A whole answer.

    Attributes:
        status: such as 200.
        headers: names in lower case; of one that came several times the last.
        body: all of it.
    """

    status: int
    headers: dict[str, str]
    body: bytes


@final
class HttpClient:
    """Requests to endpoints that are as good as each other.

    Args:
        endpoints: at least one. The first is asked until it fails, then the next, and so on around.
        connect_within: seconds until a connection must stand, TLS included.
        answer_within: seconds from then until the whole answer must be there.
        connections: the most at a time to one endpoint, streams not counted; more requests wait.
        max_body: bytes of an answer's body.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        *,
        connect_within: float = 1.0,
        answer_within: float = 2.0,
        connections: int = 8,
        max_body: int = 64 * 1024 * 1024,
    ) -> None:
        self._pools = [_Pool(endpoint, connections, connect_within) for endpoint in endpoints]
        self._answer_within = answer_within
        self._connect_within = connect_within
        self._max_body = max_body
        self._at = 0

    @property
    def endpoints(self) -> list[Endpoint]:
        """All, in the order in which they would be asked now."""
        return [pool.endpoint for pool in self._in_order()]

    def pass_over(self, endpoint: Endpoint) -> None:
        """Ask another endpoint first from now on, if this one is first: somebody found that it is no good."""
        if self._pools[self._at].endpoint is endpoint:
            self._at = (self._at + 1) % len(self._pools)

    def _in_order(self) -> list[_Pool]:
        return self._pools[self._at :] + self._pools[: self._at]

    async def request(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        *,
        headers: Headers = (),
        repeatable: bool = True,
        answer_within: float | None = None,
    ) -> Answer:
        """Send a request and return the whole answer.

        Each endpoint is tried once: the next one always if the request was not sent, and if it is repeatable also when
        there was no answer or one with a status of 500 or more.

        Args:
            method: such as ``"PUT"``.
            target: the path with its query, percent-encoded.
            body: sent with its length.
            headers: beside ``Content-Length``; a ``Host`` among them is sent instead of the endpoint's.
            repeatable: it does no harm if the request has its effect twice, or late.
            answer_within: instead of the client's.

        Raises:
            NotSent: at no endpoint. Cancellation leaves it open whether the request had its effect.
            NoAnswer: the request may have had its effect.
        """
        within = self._answer_within if answer_within is None else answer_within
        failure: HttpError | None = None
        answer: Answer | None = None
        for pool in self._in_order():
            began = trio.current_time()
            try:
                answer = await pool.request(method, target, body, headers, within, self._max_body)
                if answer.status < 500:
                    return answer
            except NotSent as error:
                failure = failure or error
            except NoAnswer as error:
                failure = error
            except trio.Cancelled:
                # The caller has less patience than we, and must not meet the same endpoint again.
                if trio.current_time() - began > _SLOW:
                    self.pass_over(pool.endpoint)
                raise
            self.pass_over(pool.endpoint)
            if not repeatable and (answer is not None or isinstance(failure, NoAnswer)):
                break
        if answer is not None:
            return answer
        assert failure is not None, "there is at least one endpoint"
        raise failure

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        *,
        headers: Headers = (),
        answer_within: float | None = None,
    ) -> AsyncIterator[Stream]:
        """Send a request to the first endpoint, over a connection of its own, and give the answer while it comes.

        The connection is closed when the block is left. A caller that finds the endpoint no good calls :meth:`pass_over`.

        Args:
            method: such as ``"POST"``.
            target: the path with its query, percent-encoded.
            body: sent with its length.
            headers: beside ``Content-Length``; a ``Host`` among them is sent instead of the endpoint's.
            answer_within: seconds until the headers of the answer must be there, instead of the client's.

        Raises:
            NotSent: the endpoint cannot be reached.
            NoAnswer: no headers came; or later, from the stream, the connection was lost.
        """
        within = self._answer_within if answer_within is None else answer_within
        endpoint = self._pools[self._at].endpoint
        try:
            connection = await _connect(endpoint, self._connect_within)
            try:
                with _in_time(endpoint, within):
                    head = await connection.ask(method, target, body, headers)
                yield Stream(connection, head)
            finally:
                await connection.aclose()
        except HttpError:
            self.pass_over(endpoint)
            raise

    async def aclose(self) -> None:
        """Close all connections that nobody uses. Those of requests under way close when these end."""
        for pool in self._pools:
            await pool.aclose()


@final
class Stream:
    """An answer while it comes; for one task.

    Attributes:
        endpoint: who answers.
        status: such as 200.
        headers: names in lower case.
    """

    def __init__(self, connection: _Connection, head: h11.Response) -> None:
        self._connection = connection
        self._rest = bytearray()
        self.endpoint = connection.endpoint
        self.status = head.status_code
        self.headers = _headers(head)

    async def chunk(self) -> bytes:
        """Return some more of the body, ``b""`` at its end.

        Cancellation loses nothing.

        Raises:
            NoAnswer: the connection was lost before the end.
        """
        return await self._connection.data()

    async def line(self, limit: int) -> bytes | None:
        """Return the next line without its end, ``None`` after the last one.

        Cancellation loses nothing.

        Args:
            limit: bytes that the line may have.

        Raises:
            NoAnswer: the connection was lost, or the line is too long.
        """
        searched = 0
        while True:
            end = self._rest.find(b"\n", searched)
            if end >= 0:
                found = bytes(self._rest[:end])
                del self._rest[: end + 1]
                return found
            searched = len(self._rest)
            if searched > limit:
                raise NoAnswer(f"{self.endpoint} sent a line of more than {limit} bytes")
            chunk = await self.chunk()
            if not chunk:
                found, self._rest = bytes(self._rest), bytearray()
                return found or None
            self._rest += chunk


# ------------------------------------------------------------------------------------------- connections


@final
class _Pool:
    """The connections to one endpoint: those that are idle, the last one used first, and how many there may be."""

    def __init__(self, endpoint: Endpoint, connections: int, connect_within: float) -> None:
        self.endpoint = endpoint
        self._idle: list[_Connection] = []
        self._slots = trio.Semaphore(connections)
        self._connect_within = connect_within
        self._closed = False

    async def request(
        self, method: str, target: str, body: bytes, headers: Headers, within: float, max_body: int
    ) -> Answer:
        waited = False
        with trio.move_on_after(within):
            await self._slots.acquire()
            waited = True
        if not waited:
            raise NotSent(f"{self.endpoint} still has other requests to answer after {within:g} s")
        connection = None
        try:
            connection = await self._connection()
            with _in_time(self.endpoint, within):
                head = await connection.ask(method, target, body, headers)
                content = bytearray()
                while chunk := await connection.data():
                    content += chunk
                    if len(content) > max_body:
                        raise NoAnswer(f"{self.endpoint} answered with more than {max_body} bytes")
            if connection.renew() and not self._closed:
                self._idle.append(connection)
                connection = None
            return Answer(head.status_code, _headers(head), bytes(content))
        finally:
            self._slots.release()
            if connection is not None:
                await connection.aclose()

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_fresh():
                return connection
            await connection.aclose()
        return await _connect(self.endpoint, self._connect_within)

    async def aclose(self) -> None:
        self._closed = True
        while self._idle:
            await self._idle.pop().aclose()


async def _connect(endpoint: Endpoint, within: float) -> _Connection:
    stream: trio.abc.Stream | None = None
    try:
        with trio.fail_after(within):
            if endpoint.socket is not None:
                stream = raw = await trio.open_unix_socket(endpoint.socket)
            else:
                stream = raw = await trio.open_tcp_stream(endpoint.host, endpoint.port)
            if endpoint.tls is not None:
                stream = secure = trio.SSLStream(
                    raw, endpoint.tls, server_hostname=endpoint.host, https_compatible=True
                )
                await secure.do_handshake()
    except BaseException as error:
        if stream is not None:
            await _close(stream)
        if isinstance(error, OSError | trio.BrokenResourceError | trio.TooSlowError):
            raise NotSent(f"{endpoint}: {_why(error, within)}") from error
        raise
    return _Connection(stream, raw.socket, endpoint)


def _why(error: BaseException, within: float) -> str:
    if isinstance(error, trio.TooSlowError):
        return f"cannot connect within {within:g} s"
    # trio says of a handshake only that the stream is broken, and of addresses only that none answers; the reasons are behind it.
    reasons = dict.fromkeys(map(_reason, _leaves(error.__cause__ or error)))
    return "; ".join(reason for reason in reasons if reason) or "cannot connect"


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error


def _reason(error: BaseException) -> str:
    # trio's own words name the address once more, as Python writes it; names that are not found have numbers below 0.
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and (error.errno or 0) > 0:
        return os.strerror(error.errno or 0)
    return str(error)


@contextlib.contextmanager
def _in_time(endpoint: Endpoint, within: float) -> Iterator[None]:
    try:
        with trio.fail_after(within):
            yield
    except trio.TooSlowError:
        raise NoAnswer(f"{endpoint} does not answer within {within:g} s") from None


@final
class _Connection:
    """One connection, for one request at a time."""

    def __init__(self, stream: trio.abc.Stream, socket: trio.socket.SocketType, endpoint: Endpoint) -> None:
        self._stream = stream
        self._socket = socket
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)
        #: Whether the server has said anything yet.
        self._heard = False
        #: Whether the answer has come to its end.
        self._ended = False
        self.endpoint = endpoint

    async def ask(self, method: str, target: str, body: bytes, headers: Headers) -> h11.Response:
        """Send a request and return the head of the answer."""
        host = f"[{self.endpoint.host}]" if ":" in self.endpoint.host else self.endpoint.host
        http = self._http
        head = [("Content-Length", str(len(body))), *headers]
        if not any(name.lower() == "host" for name, _ in head):
            head.insert(0, ("Host", f"{host}:{self.endpoint.port}"))
        try:
            words = http.send(h11.Request(method=method, target=target, headers=head))
        except (h11.LocalProtocolError, UnicodeEncodeError) as error:
            raise NotSent(f"{self.endpoint} cannot be asked for {target!r}: {error}") from error
        if body:
            words += http.send(h11.Data(body))
        words += http.send(h11.EndOfMessage())
        try:
            await self._stream.send_all(words)
        except trio.BrokenResourceError:
            # It may have answered before it went, and read the request before that.
            pass
        while True:
            event = await self._event()
            if isinstance(event, h11.Response):
                return event

    async def data(self) -> bytes:
        """Return some of the body, ``b""`` at its end."""
        if not self._ended:
            event = await self._event()
            if isinstance(event, h11.Data):
                return bytes(event.data)
            self._ended = True
        return b""

    async def _event(self) -> h11.Event:
        received = None
        while True:
            try:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    received = bytes(await self._stream.receive_some(_CHUNK))
                    self._heard = self._heard or bool(received)
                    self._http.receive_data(received)
                    continue
            except h11.RemoteProtocolError as error:
                if received == b"":
                    raise NoAnswer(f"{self.endpoint} has closed the connection: {error}") from error
                raise NoAnswer(f"{self.endpoint} does not speak HTTP as we know it: {error}") from error
            except trio.BrokenResourceError as error:
                if isinstance(error.__cause__, ssl.SSLError) and not self._heard:
                    # With TLS 1.3 our certificate is refused when we believe the handshake to be over.
                    raise NotSent(f"{self.endpoint}: {error.__cause__}") from error
                raise NoAnswer(f"{self.endpoint} has closed the connection: {error.__cause__}") from error
            if not isinstance(event, h11.InformationalResponse):
                assert isinstance(event, h11.Event)
                return event

    def renew(self) -> bool:
        """Make ready for another request; tell whether there can be one."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        self._ended = False
        return True

    def is_fresh(self) -> bool:
        """Whether the server has not closed it meanwhile, and said nothing that nobody asked for."""
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        return not poll.poll(0) and not self._http.trailing_data[0]

    async def aclose(self) -> None:
        await _close(self._stream)


async def _close(stream: trio.abc.Stream) -> None:
    """Close at once, cancelled or not; the other side learns it from TCP."""
    with trio.CancelScope(shield=True):
        await trio.aclose_forcefully(stream)


def _headers(head: h11.Response) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
