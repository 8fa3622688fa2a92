"""How calls are made, apart from their arguments."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar, cast, final, get_args

from duplex._balancing import Balancing, check_balancing
from duplex._config import Overflow
from duplex._errors import ConfigurationError
from duplex._metadata import IDEMPOTENCY_KEY, MAX_IDEMPOTENCY_KEY, RESERVED_PREFIX, Metadata, check_metadata
from duplex._numbers import check_seconds, check_whole
from duplex._policies import HedgingPolicy, RetryPolicy
from duplex.codec import Codec, get_codec
from duplex.engine.serving import checked_middleware

PolicyT = TypeVar("PolicyT")


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """How calls are made, apart from their arguments; see :meth:`ServiceProxy.with_options`."""

    codec: Codec
    timeout: float | None = None
    metadata: Metadata | None = None
    wait_for_ready: bool = True
    idempotency_key: str | None = None
    overflow: Overflow | None = None
    resume: bool = False
    idempotent: bool | None = None
    retry: RetryPolicy | None = None
    hedging: HedgingPolicy | None = None
    balancer: Balancing | None = None
    max_answers: int | None = None
    stall: float | None = None
    middleware: tuple[Any, ...] = ()

    def replace(self, **changes: Any) -> Options:
        """Return these options with some changed.

        Raises:
            ConfigurationError: an option is unknown or its value is wrong.
        """
        unknown = changes.keys() - _CHECKS.keys()
        if unknown:
            raise ConfigurationError(
                f"unknown option {', '.join(sorted(unknown))}; the options of a call are {', '.join(_CHECKS)}"
            )
        for name, value in changes.items():
            changes[name] = _CHECKS[name](value)
        for one, other in (("retry", "hedging"), ("hedging", "retry")):
            if changes.get(one) is not None and changes.get(other, getattr(self, other)) is not None:
                raise ConfigurationError("calls have either retry= or hedging=; set the other one to None")
        if changes.get("metadata") is not None:
            changes["metadata"] = {**(self.metadata or {}), **changes["metadata"]}
        if "middleware" in changes:
            changes["middleware"] = (*self.middleware, *changes["middleware"])
        return dataclasses.replace(self, **changes)

    @property
    def all_metadata(self) -> Metadata | None:
        """The metadata of calls, with the protocol's own."""
        metadata = self.metadata or None
        if self.idempotency_key is None:
            return metadata
        return {**(metadata or {}), IDEMPOTENCY_KEY: self.idempotency_key}


def _codec(value: Any) -> Codec:
    if isinstance(value, str):
        return get_codec(value)
    if not isinstance(getattr(value, "name", None), str):
        raise ConfigurationError(f"codec must be a name or a codec, not {value!r}")
    return cast("Codec", value)


def checked_timeout(value: Any) -> float | None:
    """Return the time limit of a call as it was given.

    Raises:
        ConfigurationError: it is neither a number of seconds nor ``None``.
    """
    if value is None:
        return None
    return cast("float", check_seconds("timeout", value, hint=", and None is for no limit"))


def _max_answers(value: Any) -> int | None:
    if value is not None:
        check_whole("max_answers", value, low=1)
    return cast("int | None", value)


def _stall(value: Any) -> float | None:
    if value is None:
        return None
    return cast("float", check_seconds("stall", value, hint=", and None is for no limit"))


def _flag(name: str) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        if not isinstance(value, bool):
            raise ConfigurationError(f"{name} must be True or False, not {value!r}")
        return value

    return check


def _flag_or_none(name: str) -> Callable[[Any], bool | None]:
    def check(value: Any) -> bool | None:
        if value is not None and not isinstance(value, bool):
            raise ConfigurationError(f"{name} must be True, False or None, not {value!r}")
        return value

    return check


def _policy(name: str, kind: type[PolicyT]) -> Callable[[Any], PolicyT | None]:
    def check(value: Any) -> PolicyT | None:
        if value is not None and not isinstance(value, kind):
            raise ConfigurationError(f"{name} must be a duplex.{kind.__name__} or None, not {value!r}")
        return value

    return check


def _balancer(value: Any) -> Balancing | None:
    return None if value is None else check_balancing(value)


def _middleware(value: Any) -> tuple[Any, ...]:
    return checked_middleware(value, "with_options()")


def _idempotency_key(value: Any) -> str | None:
    try:
        size = len(value.encode()) if isinstance(value, str) else 0
    except UnicodeEncodeError:  # a lone surrogate
        size = 0
    if value is not None and not 0 < size <= MAX_IDEMPOTENCY_KEY:
        raise ConfigurationError(
            f"idempotency_key must be a text of 1 to {MAX_IDEMPOTENCY_KEY} bytes or None, not {value!r}"
        )
    return cast("str | None", value)


def _overflow(value: Any) -> Overflow | None:
    if value is not None and value not in get_args(Overflow):
        raise ConfigurationError(
            f"overflow must be one of {', '.join(map(repr, get_args(Overflow)))} or None, not {value!r}"
        )
    return cast("Overflow | None", value)


def _metadata(value: Any) -> Metadata | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"metadata must be a dict or another mapping or None, not {value!r}")
    return checked_metadata(value)


#: The options by name, with what checks and converts their values.
_CHECKS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "codec": _codec,
    "timeout": checked_timeout,
    "metadata": _metadata,
    "wait_for_ready": _flag("wait_for_ready"),
    "idempotency_key": _idempotency_key,
    "overflow": _overflow,
    "resume": _flag("resume"),
    "idempotent": _flag_or_none("idempotent"),
    "retry": _policy("retry", RetryPolicy),
    "hedging": _policy("hedging", HedgingPolicy),
    "balancer": _balancer,
    "max_answers": _max_answers,
    "stall": _stall,
    "middleware": _middleware,
}


def checked_metadata(metadata: Mapping[str, str | bytes]) -> Mapping[str, str | bytes]:
    """Return headers that a program may set. Raises ``ConfigurationError`` for others."""
    problem = check_metadata(metadata)
    if problem is None:
        reserved = [key for key in metadata if key.startswith(RESERVED_PREFIX)]
        if not reserved:
            return metadata
        problem = (
            f"metadata key {reserved[0]!r} is reserved: keys with {RESERVED_PREFIX!r} belong to the protocol"
        )
    raise ConfigurationError(problem)
