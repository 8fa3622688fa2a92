"""The sockets of the DNS front: queries over UDP and TCP, answered as they come."""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final

import trio

import duplex
from duplex_services._shared._addresses import open_sockets, show_address
from duplex_services._shared._background import background
from duplex_services.discovery._dns import _wire as wire
from duplex_services.discovery._dns._answers import Answers
from duplex_services.discovery._dns._limits import Budget, is_near
from duplex_services.discovery._dns._options import DnsOptions, DnsStatistics
from duplex_services.discovery._dns._recursors import Recursors, Where, find_recursors
from duplex_services.discovery._reading import Reading

_log: Final = logging.getLogger("duplex")

#: Packets that are answered before others have a turn.
_BURST: Final = 64
#: Bytes of a query; one over UDP that has more is none.
_MAX_QUERY: Final = 4096
#: Queries that wait for recursors at a time, and connections.
_MOST_RECURSING: Final = 512
_MOST_CONNECTIONS: Final = 256
#: Seconds without a query after which a connection is closed, and until an answer must be taken.
_IDLE: Final = 10.0
#: Seconds for which nobody is accepted when there is no room for a connection.
_REST: Final = 0.1
_MAX_TTL: Final = 604_800

#: Linux has them; Python names only the second one.
_IP_PKTINFO: Final = 8
_ANCILLARY: Final = 64


class DnsFront:
    """Answers names. :func:`~duplex_services.discovery.open_dns` makes it.

    Attributes:
        addresses: where it listens, over UDP and TCP: ``HOST:PORT``.
        statistics: what it has done.
    """

    def __init__(self, reading: Reading, options: DnsOptions, recursors: Sequence[Where]) -> None:
        self.addresses: tuple[str, ...] = ()
        self.statistics = DnsStatistics()
        self._answers = Answers(reading, options, self.statistics)
        self._budget = Budget(options.rate)
        self._recursors = Recursors(recursors)
        self._recursing = trio.CapacityLimiter(_MOST_RECURSING)
        self._connections = 0
        #: What connections are waited in whose clients have asked nothing, or not all of it yet, or take no answer: the one that waits
        #: longest first.
        self._waiting: dict[trio.CancelScope, None] = {}
        self._limited = 0

    def __repr__(self) -> str:
        return f"<DnsFront at {', '.join(self.addresses)}>"

    def answer(self, data: bytes, client: str, *, is_tcp: bool) -> bytes | None:
        """Return the answer to a query; ``b""`` if there is none, ``None`` if the recursors are to be asked.

        Args:
            data: the message.
            client: the address that it came from.
            is_tcp: by which way.
        """
        query = wire.read_query(data)
        if query is None:
            self.statistics.dropped += 1
            return b""
        if isinstance(query, wire.Bad):
            self.statistics.refused += 1
            return wire.error(query)
        try:
            recurses = bool(self._recursors) and is_near(client)
            return self._answers.answer(query, is_tcp=is_tcp, recurses=recurses, now=time.time())
        except Exception:
            # Whatever is wrong with one answer is nothing to the others.
            _log.exception("DNS cannot answer %r", data)
            return wire.error(wire.Bad(query.id, query.flags, wire.SERVFAIL))

    async def _recurse(self, data: bytes, *, is_tcp: bool) -> bytes:
        self.statistics.recursed += 1
        answer = await self._recursors.ask(data, is_tcp=is_tcp)
        return self._failed(data) if answer is None else answer

    def _failed(self, data: bytes) -> bytes:
        self.statistics.failed += 1
        query = wire.read_query(data)
        assert isinstance(query, wire.Query), "it was read before"
        room = wire.Room(query, wire.MAX_TCP, wire.PLAIN_UDP, recurses=True)
        return room.end(wire.SERVFAIL)

    # --------------------------------------------------------------------------------------------------- UDP

    async def serve_udp(self, sock: trio.socket.SocketType, nursery: trio.Nursery) -> None:
        """Answer what comes to a socket, until cancelled."""
        # Plain calls, as trio's would give others a turn at each packet.
        with socket.socket(fileno=sock.detach()) as plain:
            plain.setblocking(False)
            _tell_where_packets_came(plain)
            while True:
                await trio.lowlevel.wait_readable(plain)
                for _ in range(_BURST):
                    try:
                        data, ancillary, _, where = plain.recvmsg(_MAX_QUERY, _ANCILLARY)
                    except BlockingIOError:
                        break
                    except OSError:
                        # What became of an earlier answer.
                        continue
                    self._take(plain, data, ancillary, where, nursery)

    def _take(
        self, plain: socket.socket, data: bytes, ancillary: list[Any], where: Any, nursery: trio.Nursery
    ) -> None:
        client = where[0]
        if not where[1]:
            self.statistics.dropped += 1
            return
        if not self._budget.take(client, trio.current_time()):
            answer: bytes | None = self._come_by_tcp(data)
        else:
            answer = self.answer(data, client, is_tcp=False)
        if answer is not None:
            self._send(plain, answer, ancillary, where)
        elif self._recursing.available_tokens < 1:
            self._send(plain, self._failed(data), ancillary, where)
        else:
            holder = object()
            self._recursing.acquire_on_behalf_of_nowait(holder)

            async def ask() -> None:
                try:
                    found = await self._recurse(data, is_tcp=False)
                finally:
                    self._recursing.release_on_behalf_of(holder)
                self._send(plain, found, ancillary, where)

            nursery.start_soon(ask)

    def _come_by_tcp(self, data: bytes) -> bytes:
        self.statistics.limited += 1
        self._limited ^= 1
        query = wire.read_query(data) if self._limited else None
        if not isinstance(query, wire.Query):
            return b""
        room = wire.Room(query, wire.PLAIN_UDP, wire.PLAIN_UDP, recurses=bool(self._recursors))
        return room.end(wire.NOERROR, truncated=True)

    def _send(self, plain: socket.socket, answer: bytes, ancillary: list[Any], where: Any) -> None:
        if not answer:
            return
        try:
            # From the address that was asked, or the client would not take it.
            plain.sendmsg([answer], _reply_from(ancillary), 0, where)
        except OSError:
            # No room, or no way there: the client asks again.
            self.statistics.dropped += 1

    # --------------------------------------------------------------------------------------------------- TCP

    async def serve_tcp(self, listener: trio.abc.Listener[trio.SocketStream], nursery: trio.Nursery) -> None:
        """Accept connections, until cancelled."""
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                _log.warning("DNS accepts no connections for a moment: %s", error)
                await trio.sleep(_REST)
                continue
            if self._connections >= _MOST_CONNECTIONS and not self._make_room():
                self.statistics.dropped += 1
                await trio.aclose_forcefully(stream)
                continue
            self._connections += 1
            nursery.start_soon(self._serve_connection, stream)

    def _make_room(self) -> bool:
        """Have the connection end whose client has been waited for longest. Tells whether there is one."""
        longest = next(iter(self._waiting), None)
        if longest is None:
            return False
        del self._waiting[longest]
        longest.cancel()
        return True

    @contextlib.contextmanager
    def _stall(self) -> Iterator[None]:
        """Wait for a client to go on, until there are too many connections.

        Raises:
            trio.TooSlowError: it took too long, or the connection is to make room for another.
        """
        with trio.fail_after(_IDLE) as scope:
            self._waiting[scope] = None
            try:
                yield
            finally:
                self._waiting.pop(scope, None)

    async def _serve_connection(self, stream: trio.SocketStream) -> None:
        try:
            with contextlib.suppress(OSError, trio.BrokenResourceError, trio.TooSlowError):
                client = str(stream.socket.getpeername()[0])
                received = bytearray()
                while True:
                    with self._stall():
                        data = await _next_query(stream, received)
                    if data is None:
                        return
                    answer = self.answer(data, client, is_tcp=True)
                    if answer is None:
                        async with self._recursing:
                            answer = await self._recurse(data, is_tcp=True)
                    if not answer:
                        return
                    with self._stall():
                        await stream.send_all(len(answer).to_bytes(2, "big") + answer)
        finally:
            self._connections -= 1
            await trio.aclose_forcefully(stream)


async def _next_query(stream: trio.SocketStream, received: bytearray) -> bytes | None:
    """Return the next query of a connection, ``None`` at its end."""
    while True:
        size = int.from_bytes(received[:2], "big")
        if size > _MAX_QUERY:
            return None
        if len(received) >= 2 + size and len(received) >= 2:
            query = bytes(received[2 : 2 + size])
            del received[: 2 + size]
            return query
        chunk = await stream.receive_some(_MAX_QUERY)
        if not chunk:
            return None
        received += chunk


def _tell_where_packets_came(plain: socket.socket) -> None:
    if plain.family == socket.AF_INET6:
        plain.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        plain.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)


def _reply_from(ancillary: list[Any]) -> list[Any]:
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            _, local, _ = struct.unpack("=I4s4s", data)
            return [(level, kind, struct.pack("=I4s4s", 0, local, b"\0\0\0\0"))]
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            return [(level, kind, data)]
    return []


@contextlib.asynccontextmanager
async def open_front(reading: Reading, bind: str, options: DnsOptions) -> AsyncIterator[DnsFront]:
    """Answer names while the block runs; see :func:`~duplex_services.discovery.open_dns`."""
    _check(options)
    recursors = await find_recursors(options.recursors)
    front = DnsFront(reading, options, recursors)
    tcp, udp = await open_sockets(bind, with_udp=True)
    front.addresses = tuple(show_address(*sock.getsockname()[:2]) for sock in tcp)
    async with contextlib.AsyncExitStack() as stack:
        for sock in udp:
            stack.callback(sock.close)
        listeners = [await stack.enter_async_context(trio.SocketListener(sock)) for sock in tcp]
        for sock in udp:
            _check_recursors(recursors, sock.getsockname())
        nursery = await stack.enter_async_context(background())
        for sock in udp:
            nursery.start_soon(front.serve_udp, sock, nursery)
        for listener in listeners:
            nursery.start_soon(front.serve_tcp, listener, nursery)
        yield front


def _check_recursors(recursors: Sequence[Where], own: tuple[str, int]) -> None:
    """Check that none of the recursors is this server itself, which would ask itself again and again."""
    for host, port in recursors:
        is_ours = host == own[0] or (own[0] in {"0.0.0.0", "::"} and _is_here(host))
        if port == own[1] and is_ours:
            raise duplex.ConfigurationError(
                f"recursor {show_address(host, port)} is this server itself, which would ask itself again and again"
            )


def _is_here(host: str) -> bool:
    """Whether an address is one of this machine's."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as trying:
        try:
            trying.bind((host, 0))
        except OSError:
            return False
    return True


def _check(options: DnsOptions) -> None:
    for name, value, most in (
        ("ttl", options.ttl, _MAX_TTL),
        ("negative_ttl", options.negative_ttl, _MAX_TTL),
        ("rate", options.rate, 1_000_000_000),
    ):
        if not 0 <= value <= most:
            raise duplex.ConfigurationError(f"dns {name} is from 0 to {most}, not {value}")
    if not wire.PLAIN_UDP <= options.max_udp <= _MAX_QUERY:
        raise duplex.ConfigurationError(
            f"dns max_udp is from {wire.PLAIN_UDP} to {_MAX_QUERY} bytes, not {options.max_udp}"
        )
