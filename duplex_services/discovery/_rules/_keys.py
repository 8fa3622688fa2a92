"""Where things are in the store, and what is found there."""

from __future__ import annotations

import sys
from typing import Final, Literal, NamedTuple, TypeAlias, TypeVar

import msgspec

from duplex_services.discovery._model import LeaderRecord, Record, ServerInfo, ServiceConfig
from duplex_services.discovery._rules._checking import LEAST_TTL, MOST_TTL, check_id, check_service_name

_T = TypeVar("_T")

#: All that is discovery's. A store may be others' too.
PREFIX: Final = "discovery/"

#: What is kept under ``discovery/PLACE/…``.
Place: TypeAlias = Literal["instance", "config", "metadata", "leader", "server"]

_LETTERS: Final[dict[str, Place]] = {
    "i": "instance",
    "s": "config",
    "m": "metadata",
    "l": "leader",
    "n": "server",
}


class Where(NamedTuple):
    """What a key means."""

    place: Place
    #: The service, or the name of the server.
    name: str
    #: Of an instance.
    id: str = ""


def instance_key(service: str, id: str) -> str:
    """Return the key of an instance."""
    return f"{PREFIX}i/{service}/{id}"


def config_key(service: str) -> str:
    """Return the key of how a service is treated."""
    return f"{PREFIX}s/{service}"


def metadata_key(service: str) -> str:
    """Return the key of what somebody keeps for a service."""
    return f"{PREFIX}m/{service}"


def leader_key(service: str) -> str:
    """Return the key of who leads a service."""
    return f"{PREFIX}l/{service}"


def server_key(name: str) -> str:
    """Return the key of a server of discovery."""
    return f"{PREFIX}n/{name}"


def read_key(key: str) -> Where:
    """Tell what a key means.

    Raises:
        ValueError: it is none of discovery's.
    """
    letter, _, rest = key.removeprefix(PREFIX).partition("/")
    place = _LETTERS.get(letter)
    if place is None or not key.startswith(PREFIX):
        raise ValueError(f"{key!r} is no key of discovery's")
    if place == "instance":
        name, _, id = rest.partition("/")
        return Where(place, sys.intern(check_service_name(name)), check_id(id))
    if place == "server":
        return Where(place, check_id(rest))
    return Where(place, check_service_name(rest))


_COMMON: Final = ("server", "incarnation", "protocol", "zone")

_RECORDS: Final = msgspec.json.Decoder(Record)
_CONFIGS: Final = msgspec.json.Decoder(ServiceConfig)
_LEADERS: Final = msgspec.json.Decoder(LeaderRecord)
_SERVERS: Final = msgspec.json.Decoder(ServerInfo)
_ENCODER: Final = msgspec.json.Encoder()


def encode(value: Record | ServiceConfig | LeaderRecord | ServerInfo) -> bytes:
    """Return what is kept for a value."""
    return _ENCODER.encode(value)


def _decode(decoder: msgspec.json.Decoder[_T], value: bytes) -> _T:
    try:
        return decoder.decode(value)
    except RecursionError as error:
        raise ValueError(f"it is too deep: {error}") from None


def read_record(value: bytes) -> Record:
    """Return an instance. Raises ``ValueError`` if it is none."""
    record = _decode(_RECORDS, value)
    # Others can write anything there, and one record that cannot be told would spoil the answers with all others.
    for name, number, least, most in (
        ("port", record.port, 0, 65535),
        ("weight", record.weight, 0, 65535),
        ("ttl", record.ttl, LEAST_TTL, MOST_TTL),
    ):
        if not least <= number <= most:
            raise ValueError(f"its {name} is from {least:g} to {most:g}, not {number}")
    # Thousands of records say the same of themselves; each text of it is kept once.
    for name in _COMMON:
        msgspec.structs.force_setattr(record, name, sys.intern(getattr(record, name)))
    return record


def read_config(value: bytes) -> ServiceConfig:
    """Return how a service is treated. Raises ``ValueError`` if that is unreadable."""
    return _decode(_CONFIGS, value)


def read_leader(value: bytes) -> LeaderRecord:
    """Return who leads. Raises ``ValueError`` if that is unreadable."""
    return _decode(_LEADERS, value)


def read_server(value: bytes) -> ServerInfo:
    """Return a server of discovery. Raises ``ValueError`` if it is none."""
    return _decode(_SERVERS, value)
