"""What requests and answers carry, as discoverd has it: bodies, errors, and what it has no word for beside them."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final, TypeVar

import msgspec

from duplex_services._shared._http_server import Response
from duplex_services.discovery._model import (
    DEFAULT_TTL,
    Check,
    Health,
    Instance,
    Leader,
    Metadata,
    Registration,
)
from duplex_services.discovery._rules._checking import check_service_name

_T = TypeVar("_T")

#: Statuses of the kinds of errors.
STATUSES: Final = {
    "not_found": 404,
    "object_not_found": 404,
    "method_not_allowed": 405,
    "object_exists": 409,
    "conflict": 409,
    "syntax_error": 400,
    "validation_error": 400,
    "request_body_too_big": 400,
    "precondition_failed": 412,
    "unauthorized": 401,
    "forbidden": 403,
    "ratelimited": 429,
    "service_unavailable": 503,
    "not_implemented": 501,
    "unknown_error": 500,
}

#: What a server of HTTP finds wrong, as such a kind.
_CODES: Final = {
    413: "request_body_too_big",
    429: "ratelimited",
    503: "service_unavailable",
    500: "unknown_error",
    501: "not_implemented",
}

_PROTOCOL: Final = re.compile(r"[a-z0-9]+")

JSON: Final = "application/json"


class Problem(Exception):
    """A request that is refused.

    Args:
        code: of which kind the error is.
        message: what is wrong.
        retry: whether the same request may succeed later.
        headers: for the answer.
    """

    def __init__(
        self, code: str, message: str, *, retry: bool = False, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry = retry
        self.headers = headers


def problem_response(problem: Problem) -> Response:
    """Return the answer for a request that is refused."""
    return _error(STATUSES[problem.code], problem.code, problem.message, problem.headers, retry=problem.retry)


def refusal(status: int, message: str) -> Response:
    """Return the answer for a request that could not even be read."""
    code = _CODES.get(status, "syntax_error")
    # The kinds have statuses of their own.
    return _error(STATUSES[code], code, message, retry=status in {429, 503})


def _error(
    status: int, code: str, message: str, headers: tuple[tuple[str, str], ...] = (), *, retry: bool
) -> Response:
    body = msgspec.json.encode({"code": code, "message": message, "retry": retry})
    return Response(status, body, JSON, headers)


def ok(value: Any = None, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """Return an answer with JSON, or an empty one."""
    if value is None:
        return Response(200, headers=headers)
    return Response(200, msgspec.json.encode(value), JSON, headers)


# ----------------------------------------------------------------------------------------------- requests


class ServiceBody(msgspec.Struct):
    """How a service is treated; any other leader than ``manual`` is the oldest."""

    leader_type: str = ""


class MetadataBody(msgspec.Struct):
    """What to keep for a service, with the index of what was read."""

    data: Any = None
    index: int = 0
    leader_id: str = ""


class LeaderBody(msgspec.Struct):
    """Who is to lead."""

    id: str = ""


class InstanceBody(msgspec.Struct):
    """An instance; what comes after ``meta`` discoverd did not have."""

    id: str = ""
    addr: str = ""
    proto: str = ""
    meta: dict[str, str] | None = None
    ttl: float = DEFAULT_TTL
    endpoint: str = ""
    weight: int = 1
    zone: str = ""
    health: Health = "passing"
    check: Check | None = None


def decode(body: bytes, kind: type[_T], *, is_v1: bool) -> _T:
    """Return what a body says.

    Raises:
        Problem: it says nothing that makes sense.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise Problem(
            "syntax_error" if not is_v1 else "validation_error", f"the body makes no sense: {error}"
        ) from None
    except (msgspec.DecodeError, RecursionError) as error:
        if not is_v1 and "truncated" in str(error):
            # So says discoverd, and only to this.
            raise Problem("unknown_error", "Something went wrong") from None
        raise Problem("syntax_error", f"the body is no JSON: {error}") from None


def check_name(service: str) -> str:
    """Return the name of a service.

    Raises:
        Problem: it is none.
    """
    try:
        return check_service_name(service)
    except ValueError:
        raise Problem(
            "validation_error", "discoverd: service must be lowercase alphanumeric plus dash"
        ) from None


def not_found(service: str) -> Problem:
    """Return what is said when there is no such service."""
    return Problem("object_not_found", f'discoverd: service "{service}" not found')


def read_registration(id: str, body: InstanceBody) -> Registration:
    """Return the registration that a body asks for.

    An instance has the id that discoverd gives it, a hash of protocol and address; if the body has none, that of the path.

    Raises:
        Problem: something makes no sense.
    """
    if not body.proto:
        raise Problem("validation_error", "discoverd: proto must be set")
    if not _PROTOCOL.fullmatch(body.proto):
        raise Problem("validation_error", "discoverd: proto must be lowercase alphanumeric")
    host, port = _split(body.addr)
    expected = hashlib.md5(f"{body.proto}-{body.addr}".encode(), usedforsecurity=False).hexdigest()
    if body.id and body.id != expected:
        raise Problem("validation_error", f"discoverd: instance id is incorrect, expected {expected}")
    if body.id and body.id != id:
        raise Problem(
            "validation_error", f"discoverd: instance id is {id} in the path and {body.id} in the body"
        )
    if body.check is not None and body.check.kind == "command":
        raise Problem(
            "validation_error", "check.kind command has to be run by the registrant, not by a server"
        )
    return Registration(
        id,
        body.endpoint,
        host,
        port,
        body.proto,
        body.meta or {},
        body.weight,
        body.zone,
        body.health,
        body.check,
    )


def _split(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or port.endswith("]"):
        raise Problem("validation_error", f"address {address}: missing port in address")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise Problem("validation_error", f"address {address}: too many colons in address")
    if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
        raise Problem("validation_error", f"address {address}: invalid port")
    return host, int(port)


# ------------------------------------------------------------------------------------------------ answers


def instance_words(instance: Instance) -> dict[str, Any]:
    """Return an instance as discoverd tells it; what it did not have only if it is not as it would be there."""
    words: dict[str, Any] = {"id": instance.id, "addr": instance.address, "proto": instance.protocol}
    if instance.metadata:
        words["meta"] = instance.metadata
    if instance.index:
        words["index"] = instance.index
    more = (
        ("state", instance.state, "passing"),
        ("note", instance.note, ""),
        ("weight", instance.weight, 1),
        ("zone", instance.zone, ""),
        ("endpoint", instance.endpoint, ""),
        ("ttl", instance.ttl, DEFAULT_TTL),
        ("suspect", instance.suspect, False),
    )
    return {**words, **{name: value for name, value, usual in more if value != usual}}


def leader_words(leader: Leader, instance: Instance, *, is_v1: bool) -> dict[str, Any]:
    """Return who leads."""
    words = instance_words(instance)
    return {**words, "fence": leader.fence, "epoch": leader.epoch} if is_v1 else words


def metadata_words(metadata: Metadata) -> dict[str, Any]:
    """Return what is kept for a service."""
    return {"data": metadata.data, "index": metadata.index}
