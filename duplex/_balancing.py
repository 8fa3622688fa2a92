"""How the calls of a service are shared out among the peers that offer it: what users choose from."""

from __future__ import annotations

import dataclasses
from typing import Any, Final, Literal, TypeAlias, cast, get_args

from duplex._errors import ConfigurationError
from duplex._numbers import check_factor

#: See :class:`duplex.Peer.service` for what each of them does.
PolicyName: TypeAlias = Literal["least_loaded", "round_robin", "pick_first"]


@dataclasses.dataclass(frozen=True, slots=True)
class ConsistentHash:
    """Calls with the same key go to the same peer: ``remote.with_options(balancer=duplex.ConsistentHash("user-17"))``.

    When peers come or go, only the keys of those change their peer. A peer that has far more calls under way than the
    others gets none more meanwhile: the next one on the ring does. Where each key belongs follows from the endpoints that
    were connected, and from the names of peers that connected here, so it is the same in every process and after restarts.

    Give either the key, or the metadata that has it.
    """

    #: What belongs together.
    key: str | bytes | None = None
    #: The name of the metadata whose value is the key. Calls without it go to the least loaded peer.
    metadata: str | None = None
    #: How many times as many calls as the average may be under way at one peer.
    max_load: float = 1.25

    def __post_init__(self) -> None:
        if (self.key is None) == (self.metadata is None):
            raise ConfigurationError(
                "ConsistentHash takes either the key, as in ConsistentHash('user-17'), or the name of the metadata that "
                "has it, as in ConsistentHash(metadata='user')"
            )
        if not isinstance(self.key, str | bytes | None):
            raise ConfigurationError(f"ConsistentHash.key must be a str or bytes, not {self.key!r}")
        if self.metadata is not None and not _is_name(self.metadata):
            raise ConfigurationError(
                f"ConsistentHash.metadata must be the name of metadata, not {self.metadata!r}"
            )
        check_factor("ConsistentHash.max_load", self.max_load, low=1, high=1000)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value != ""


Balancing: TypeAlias = PolicyName | ConsistentHash

_NAMES: Final[tuple[str, ...]] = get_args(PolicyName)

#: A weight is no more than this many times another one.
_LEAST_WEIGHT: Final = 0.001
_MOST_WEIGHT: Final = 1000.0


def check_balancing(value: Any) -> Balancing:
    """Return a policy if it is one; else raise ``ConfigurationError``."""
    if isinstance(value, ConsistentHash) or (isinstance(value, str) and value in _NAMES):
        return cast("Balancing", value)
    raise ConfigurationError(
        f"balancer must be one of {', '.join(map(repr, _NAMES))} or a duplex.ConsistentHash, not {value!r}"
    )


def check_weight(name: str, value: Any) -> float:
    """Return a weight if it is one; else raise ``ConfigurationError``."""
    return float(check_factor(name, value, low=_LEAST_WEIGHT, high=_MOST_WEIGHT))
