"""What etcd's JSON gateway says, and how to ask it. No I/O.

Its 64-bit integers are strings, its bytes base64, and what is zero is left out.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from duplex_services.store._model import Condition, Exists, Missing, Unchanged

# Status codes of gRPC.
_INVALID_ARGUMENT: Final = 3
NOT_FOUND: Final = 5
_PERMISSION_DENIED: Final = 7
_RESOURCE_EXHAUSTED: Final = 8
_FAILED_PRECONDITION: Final = 9
_OUT_OF_RANGE: Final = 11
_UNAVAILABLE: Final = 14
_UNAUTHENTICATED: Final = 16

#: With these etcd did nothing, and would do nothing next time.
REFUSALS: Final = frozenset({_INVALID_ARGUMENT, _RESOURCE_EXHAUSTED, _FAILED_PRECONDITION, _OUT_OF_RANGE})

#: What etcd says whom it does not know, without a code that says so.
_WHO: Final = ("user name is empty", "revision of auth store is old")
_WRONG_PASSWORD: Final = "authentication failed"
_AUTH_OFF: Final = "authentication is not enabled"

#: The codes by the names that they have in the texts of watches.
_NAMES: Final = {
    "InvalidArgument": _INVALID_ARGUMENT,
    "PermissionDenied": _PERMISSION_DENIED,
    "Unauthenticated": _UNAUTHENTICATED,
}


class Header(msgspec.Struct):
    revision: int = 0


class KV(msgspec.Struct):
    key: bytes
    create_revision: int = 0
    mod_revision: int = 0
    value: bytes = b""
    lease: int = 0


class Range(msgspec.Struct):
    kvs: list[KV] = []
    count: int = 0


class Response(msgspec.Struct):
    response_range: Range | None = None
    response_txn: Txn | None = None


class Txn(msgspec.Struct):
    header: Header = msgspec.field(default_factory=Header)
    succeeded: bool = False
    responses: list[Response] = []

    @property
    def ranges(self) -> list[Range]:
        """The answers to questions, in order."""
        return [response.response_range for response in self.responses if response.response_range is not None]


class Lease(msgspec.Struct):
    ID: int
    TTL: int = 0


class LeaseLine(msgspec.Struct):
    result: Lease | None = None
    error: Any = None


class Event(msgspec.Struct):
    kv: KV
    type: str = "PUT"


class Watch(msgspec.Struct):
    header: Header = msgspec.field(default_factory=Header)
    created: bool = False
    canceled: bool = False
    compact_revision: int = 0
    cancel_reason: str = ""
    events: list[Event] = []


class WatchLine(msgspec.Struct):
    result: Watch | None = None
    error: Any = None


class Nothing(msgspec.Struct):
    """An answer of which only matters that it came."""


class _Token(msgspec.Struct):
    token: str = ""


class _Error(msgspec.Struct):
    code: int = 0
    grpc_code: int = 0
    error: str = ""
    message: str = ""


class EtcdError(Exception):
    """An error that etcd answers with.

    Attributes:
        code: a status code of gRPC's, 0 if there is none.
        message: what etcd says.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def asks_who(self) -> bool:
        """Whether etcd does not know, or not any more, who asks."""
        return self.code == _UNAUTHENTICATED or any(words in self.message for words in _WHO)

    @property
    def is_denial(self) -> bool:
        """Whether etcd will not answer us."""
        return self.code == _PERMISSION_DENIED or self.asks_who or _WRONG_PASSWORD in self.message


def error_of(status: int, body: bytes) -> EtcdError:
    """Read an answer whose status is not 200."""
    try:
        found: Any = msgspec.json.decode(body)
    except msgspec.DecodeError:
        found = None
    if isinstance(found, dict):
        return error_in(found)
    return EtcdError(0, f"status {status}: {body[:200].decode(errors='replace')}")


def error_in(found: object) -> EtcdError:
    """Read an error as it stands in a body or a line."""
    try:
        error = msgspec.convert(found, _Error, strict=False)
    except msgspec.ValidationError:
        return EtcdError(0, f"an error that makes no sense: {found!r:.200}")
    return EtcdError(error.code or error.grpc_code, error.message or error.error or "an error without words")


def code_in(reason: str) -> int:
    """Return the code in a text such as ``rpc error: code = PermissionDenied desc = …``; 0 if there is none."""
    found = re.search(r"code = (\w+)", reason)
    return _NAMES.get(found[1], 0) if found else 0


def token_in(status: int, body: bytes) -> list[tuple[str, str]]:
    """Read the answer to a user's name and password: the headers to ask with from now on.

    Raises:
        EtcdError: they are wrong, or etcd cannot say.
    """
    if status != 200:
        error = error_of(status, body)
        if _AUTH_OFF in error.message:
            return []
        raise error
    try:
        return [("Authorization", msgspec.json.decode(body, type=_Token).token)]
    except msgspec.DecodeError as error:
        raise EtcdError(0, f"a token that makes no sense: {error}") from error


def compare(condition: Condition, key: bytes) -> dict[str, Any]:
    """Return a condition as etcd compares."""
    match condition:
        case Missing():
            return {"key": key, "target": "VERSION", "result": "EQUAL", "version": 0}
        case Exists():
            return {"key": key, "target": "VERSION", "result": "GREATER", "version": 0}
        case Unchanged():
            return {"key": key, "target": "MOD", "result": "EQUAL", "mod_revision": condition.modified}


def behind(prefix: bytes) -> bytes:
    """Return the first key behind all that begin with a prefix, which is UTF-8 and so has no byte of 255."""
    return prefix[:-1] + bytes([prefix[-1] + 1])
