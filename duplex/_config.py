"""Frozen, validated configuration. Every default is documented beside its field."""

from __future__ import annotations

import dataclasses
from typing import Final, Literal, TypeAlias

from duplex._errors import ConfigurationError

#: What becomes of an item when the window of its stream is full, where senders are not to wait: the oldest
#: items that wait are dropped for it, it is dropped itself, or the stream fails with ``ResourceExhausted``.
Overflow: TypeAlias = Literal["drop_oldest", "drop_newest", "error"]

KiB: Final = 1024
MiB: Final = 1024 * KiB


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one peer is willing to receive and hold. Advertised in the handshake, so senders know it too.

    All sizes are bytes. A value out of range raises :exc:`ConfigurationError` that names the field.
    """

    #: One message: its payload and its attachments together. Streams are unlimited in total.
    max_message: int = 16 * MiB
    #: Attachments (out-of-band buffers) of one message.
    max_attachments: int = 64
    #: Commands in one batch.
    max_commands: int = 1024
    #: Metadata of one call, and its trailers; counted as ``metadata_size`` says.
    max_metadata: int = 8 * KiB
    #: Channels that the other side may have open at once on one link.
    max_channels: int = 4096
    #: Bytes of messages the other side may send on one channel before it is granted more.
    channel_window: int = 1 * MiB
    #: The same for all channels of a link together.
    link_window: int = 16 * MiB
    #: Links that one peer holds; further handshakes are refused with reason ``limit``.
    max_links: int = 1024

    def __post_init__(self) -> None:
        for field, low in _LOWEST.items():
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= _HIGHEST:
                raise ConfigurationError(
                    f"Limits.{field} must be a whole number from {low} to {_HIGHEST}, not {value!r}"
                )


_HIGHEST: Final = 2**48
_LOWEST: Final = {
    "max_message": 1 * KiB,
    "max_attachments": 0,
    "max_commands": 1,
    "max_metadata": 0,
    "max_channels": 1,
    "channel_window": 1 * KiB,
    "link_window": 1 * KiB,
    "max_links": 1,
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Keepalive:
    """How a peer watches the other end of its links. All times are seconds."""

    #: A ``PING`` is sent when this long has passed since the last one.
    interval: float = 5.0
    #: No bytes at all from the other side for this long means that the link is silent.
    timeout: float = 15.0

    def __post_init__(self) -> None:
        for field in ("interval", "timeout"):
            value = getattr(self, field)
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0:
                raise ConfigurationError(
                    f"Keepalive.{field} must be a number of seconds above 0, not {value!r}"
                )
        if self.timeout <= self.interval:
            raise ConfigurationError(
                f"Keepalive.timeout ({self.timeout}) must be longer than Keepalive.interval ({self.interval})"
            )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Idempotency:
    """How long, and how many, outcomes of calls with an idempotency key a peer remembers.

    When there is no room, the outcome that is oldest is forgotten before its time.
    """

    #: Seconds that an outcome is remembered after its call has ended.
    ttl: float = 120.0
    #: Keys that are known at once: of calls that run and of those that have ended.
    max_entries: int = 1024
    #: Bytes of all outcomes together that are remembered.
    max_bytes: int = 16 * MiB

    def __post_init__(self) -> None:
        ttl: object = self.ttl
        if not isinstance(ttl, (int, float)) or isinstance(ttl, bool) or not 0 < ttl <= _HIGHEST:
            raise ConfigurationError(
                f"Idempotency.ttl must be a number of seconds above 0 and at most {_HIGHEST}, not {ttl!r}"
            )
        for field, low in (("max_entries", 1), ("max_bytes", 1 * KiB)):
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= _HIGHEST:
                raise ConfigurationError(
                    f"Idempotency.{field} must be a whole number from {low} to {_HIGHEST}, not {value!r}"
                )
