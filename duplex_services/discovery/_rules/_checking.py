"""Which names, registrations and configurations make sense. All that is wrong with one is told at once."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from duplex_services.discovery._model import Check, Registration

#: What a label of a domain may have, since services are asked for by DNS too.
_SERVICE: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,99}")
_PROTOCOL: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_HOST: Final = re.compile(
    r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*"
)
_ENDPOINT: Final = re.compile(r"(tcp|tls|ipc|ws|wss|inproc)://\S{1,300}")
_TCP: Final = re.compile(r"(?:tcp|tls)://(?:\[(?P<six>[^\]]+)\]|(?P<host>[^:\[\]]+)):(?P<port>[0-9]{1,5})")

#: Characters of the metadata of an instance, keys and values together; and of a service's, as JSON.
MAX_METADATA: Final = 8 * 1024
MAX_SERVICE_METADATA: Final = 64 * 1024

#: Lists and maps that may be in each other there: all that carry it on can carry so many.
MAX_DEPTH: Final = 100

#: Characters.
MAX_NOTE: Final = 2000

#: Seconds. A shorter TTL ends with the first pause of a process.
LEAST_TTL: Final = 0.5
MOST_TTL: Final = 86400.0


def check_service_name(name: object) -> str:
    """Return the name of a service as it is.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(name, str) or not _SERVICE.fullmatch(name):
        raise ValueError(
            f"service {_shown(name)} is no name: up to 63 lower-case letters, digits and dashes, as DNS has them, "
            "and no dash at either end"
        )
    return name


def check_id(id: object) -> str:
    """Return the id of an instance as it is.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(id, str) or not _ID.fullmatch(id):
        raise ValueError(
            f"id {_shown(id)} is none: up to 100 letters, digits and . _ : @ -, of which the first is a letter or digit"
        )
    return id


def check_ttl(ttl: object) -> float:
    """Return a TTL in seconds.

    Raises:
        ValueError: it is none.
    """
    if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not LEAST_TTL <= ttl <= MOST_TTL:
        raise ValueError(f"ttl is from {LEAST_TTL:g} s up to a day, not {_shown(ttl)}")
    return float(ttl)


def check_note(note: object) -> str:
    """Return why something is as it is, as somebody says it.

    Raises:
        ValueError: it is no text, or too long.
    """
    if not isinstance(note, str) or len(note) > MAX_NOTE or not _is_text(note):
        raise ValueError(f"a note is text of up to {MAX_NOTE} characters, not {_shown(note)}")
    return note


def encode_service_metadata(data: object) -> bytes:
    """Return what is kept of a service's metadata.

    Raises:
        ValueError: it is not what JSON can say, or too much, or too deep.
    """
    try:
        value = msgspec.json.encode(data)
        packed = msgspec.msgpack.encode(data)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"data is not what JSON can say: {error}") from None
    if len(value) > MAX_SERVICE_METADATA:
        raise ValueError(f"data has {len(value)} bytes, more than {MAX_SERVICE_METADATA}")
    if msgspec.msgpack.encode(read_service_metadata(value)) != packed:
        raise ValueError(
            "data is not what JSON can say: it has a number that is none, bytes, or keys that are no text"
        )
    return value


def read_service_metadata(value: bytes) -> Any:
    """Return a service's metadata, from what is kept of it: JSON, and what a message of Duplex's can carry too.

    Raises:
        ValueError: it is not, or too deep.
    """
    try:
        data = msgspec.json.decode(value)
        msgspec.msgpack.encode(data)
    except OverflowError:
        raise ValueError("it has a number of more than 64 bits") from None
    except RecursionError as error:
        raise ValueError(f"data is too deep: {error}") from None
    level = [data]
    for _ in range(MAX_DEPTH + 1):
        level = [inner for outer in level for inner in _inside(outer)]
    if level:
        raise ValueError(f"data has more than {MAX_DEPTH} lists and maps in each other")
    return data


def _inside(data: Any) -> Iterable[Any]:
    if isinstance(data, dict):
        return data.values()
    return data if isinstance(data, list) else ()


def check_registration(registration: Registration) -> Registration:
    """Return a registration with its host and port, if it makes sense.

    Raises:
        ValueError: all that is wrong with it.
    """
    problems: list[str] = []
    host, port = registration.host, registration.port
    try:
        check_id(registration.id)
    except ValueError as error:
        problems.append(str(error))
    if registration.endpoint and not (
        _ENDPOINT.fullmatch(registration.endpoint) and registration.endpoint.isprintable()
    ):
        problems.append(
            f"endpoint {_shown(registration.endpoint)} is none: tcp://HOST:PORT, tls://HOST:PORT or ipc:///PATH"
        )
    elif match := _TCP.fullmatch(registration.endpoint):
        own = match["six"] or match["host"], int(match["port"])
        host, port = host or own[0], port or own[1]
        if own != (host, port):
            problems += _address_problems(*own, has_endpoint=True)
    elif registration.endpoint.startswith(("tcp:", "tls:")):
        scheme = registration.endpoint.partition(":")[0]
        problems.append(
            f"endpoint {_shown(registration.endpoint)} has no host and port: {scheme}://HOST:PORT"
        )
    problems += _address_problems(host, port, has_endpoint=bool(registration.endpoint))
    if not _PROTOCOL.fullmatch(registration.protocol):
        problems.append(
            f"protocol {_shown(registration.protocol)} is none: lower-case letters, digits and dashes"
        )
    problems += _metadata_problems(registration.metadata)
    if not 0 <= registration.weight <= 65535:
        problems.append(f"weight is from 0 to 65535, not {registration.weight}")
    if not _is_plain(registration.zone, 63):
        problems.append(f"zone {_shown(registration.zone)} has control characters, or more than 63")
    if registration.check is not None:
        problems += _check_problems(registration.check)
    if problems:
        raise ValueError("; ".join(problems))
    return msgspec.structs.replace(registration, host=host, port=port)


def _address_problems(host: str, port: int, *, has_endpoint: bool) -> Iterable[str]:
    if not host and not port:
        if not has_endpoint:
            yield "there is neither an endpoint nor a host and port: nobody would find it"
        return
    if not host:
        yield f"port {port} has no host"
    elif host == "*" or ((address := _address_of(host)) is not None and address.is_unspecified):
        yield f"host {host} is every address and so none: say where others reach it"
    elif address is None and not _is_name(host):
        yield f"host {_shown(host)} is neither an address nor a name"
    if not 0 < port < 65536:
        yield f"port is from 1 to 65535, not {port}"


def _address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a host is; ``None`` for a name. One with a zone is of its own machine alone, so it is none."""
    try:
        return None if "%" in host else ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_name(host: str) -> bool:
    labels = host.split(".")
    return (
        len(host) <= 253
        and max(map(len, labels)) <= 63
        and _HOST.fullmatch(host) is not None
        and not labels[-1].isdigit()
    )


def _metadata_problems(metadata: dict[str, str]) -> Iterable[str]:
    size = sum(len(key) + len(value) for key, value in metadata.items())
    if size > MAX_METADATA:
        yield f"metadata has {size} characters, more than {MAX_METADATA}"
        return
    for key, value in metadata.items():
        if not key or not _is_plain(key, 128):
            yield f"metadata key {_shown(key)} is empty, has control characters, or more than 128"
        if not _is_text(value):
            yield f"metadata of {_shown(key)} has surrogates, which are no text"


def _check_problems(check: Check) -> Iterable[str]:
    for name, seconds in (("interval", check.interval), ("timeout", check.timeout)):
        if not 0.05 <= seconds <= 3600:
            yield f"check.{name} is from 0.05 s to an hour, not {seconds:g}"
    if not 1 <= check.threshold <= 100:
        yield f"check.threshold is from 1 to 100, not {check.threshold}"
    if not 100 <= check.status <= 599:
        yield f"check.status is that of an HTTP answer, not {check.status}"
    if check.kind == "command" and not check.target:
        yield "check.target is empty: a command is what to run"
    for name, value in (("target", check.target), ("host", check.host), ("service", check.service)):
        if not _is_plain(value, 1000):
            yield f"check.{name} has control characters, or more than 1000"
    if not _is_text(check.contains):
        yield "check.contains has surrogates, which are no text"


def _is_plain(text: str, most: int) -> bool:
    return len(text) <= most and text.isprintable()


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: object) -> str:
    return ascii(value) if len(ascii(value)) <= 80 else f"{ascii(value)[:80]}…"
