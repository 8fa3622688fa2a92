"""Checking by gRPC's health protocol: one call over HTTP/2, spoken through h2."""

from __future__ import annotations

from typing import Final

import h2.connection
import h2.events
import h2.exceptions
import trio

from duplex_services.discovery._model import Check
from duplex_services.discovery._probes._tcp import reason_of
from duplex_services.discovery._rules._monitor import Result
from duplex_services.discovery._rules._targets import split_address

_CHUNK: Final = 65_536
#: Bytes of a health answer; it has seven.
_MOST_BODY: Final = 4096
_ENDS: Final = (h2.events.StreamEnded, h2.events.StreamReset, h2.events.ConnectionTerminated)
_STATUSES: Final = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")


async def probe(check: Check, target: str) -> Result:
    """Ask ``grpc.health.v1.Health/Check`` at ``host:port``, without TLS."""
    what = f"{target}: {check.service or 'the server'}"
    try:
        stream = await trio.open_tcp_stream(*split_address(target))
    except OSError as error:
        return Result("critical", f"{target}: {reason_of(error)}")
    try:
        async with stream:
            status, body = await _call(stream, target, check.service)
    except (OSError, trio.BrokenResourceError) as error:
        return Result("critical", f"{what}: {reason_of(error)}")
    if status not in ("", "0"):
        return Result("critical", f"{what}: gRPC status {status}")
    found = read_status(body)
    if found == "SERVING":
        return Result("passing", f"{what} is SERVING")
    return Result("critical", f"{what} is {found}" if found else f"{what}: no answer that makes sense")


async def _call(stream: trio.SocketStream, target: str, service: str) -> tuple[str, bytes]:
    """Make the call; return the status of gRPC's, and the body."""
    connection = h2.connection.H2Connection()
    connection.initiate_connection()
    stream_id = connection.get_next_available_stream_id()
    connection.send_headers(
        stream_id,
        [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", target),
            (":path", "/grpc.health.v1.Health/Check"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ],
    )
    connection.send_data(stream_id, request_body(service), end_stream=True)
    await stream.send_all(connection.data_to_send())
    status, body = "", bytearray()
    while True:
        chunk = await stream.receive_some(_CHUNK)
        if not chunk:
            return status or "missing", bytes(body)
        try:
            happened = connection.receive_data(chunk)
        except h2.exceptions.ProtocolError as error:
            return f"missing: {error}", b""
        for event in happened:
            headers = getattr(event, "headers", None) or ()
            for name, value in headers:
                if name in (b"grpc-status", "grpc-status"):
                    status = value.decode() if isinstance(value, bytes) else value
            if isinstance(event, h2.events.DataReceived):
                body += event.data
                if len(body) > _MOST_BODY:
                    return "missing: too much of it", b""
            if isinstance(event, _ENDS):
                return status or ("" if body else "missing"), bytes(body)
        if data := connection.data_to_send():
            await stream.send_all(data)


def request_body(service: str) -> bytes:
    """Return a ``HealthCheckRequest`` as gRPC frames it."""
    name = service.encode()
    # Field 1, of bytes, with its length as a varint.
    message = b"" if not name else b"\x0a" + _varint(len(name)) + name
    return b"\0" + len(message).to_bytes(4, "big") + message


def read_status(body: bytes) -> str:
    """Return the status that a framed ``HealthCheckResponse`` has; empty if it makes no sense."""
    if len(body) < 5 or body[0] != 0:
        return ""
    message = body[5 : 5 + int.from_bytes(body[1:5], "big")]
    if not message:
        return _STATUSES[0]
    if len(message) != 2 or message[0] != 0x08 or message[1] >= len(_STATUSES):
        return ""
    return _STATUSES[message[1]]


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
