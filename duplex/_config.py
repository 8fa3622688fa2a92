"""Frozen, validated configuration. Every default is documented beside its field."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias

from duplex._errors import ConfigurationError
from duplex._numbers import LEAST_SECONDS, MOST_SECONDS, check_factor, check_seconds, check_whole

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
    #: Elements of one payload: each value in it, each key of a map, lists and maps themselves. Bytes are one, however
    #: long; an array of numpy, a callback or a channel counts as 16. What holds more is refused before it is decoded:
    #: objects take far more memory than their bytes, and while they are made nothing else runs. Not advertised.
    max_elements: int = 131_072
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
    #: Bytes of messages that are under way on one link, all its channels together.
    link_window: int = 16 * MiB
    #: Bytes that may wait on one link, received and not taken, before its window is kept back for them too: so
    #: far streams that nobody reads slow down no other.
    link_buffer: int = 64 * MiB
    #: Bytes that this side keeps of what it sends on one link, until the other side is known to have them: beyond it
    #: senders wait, whatever the other side grants. And as many of answers for which nobody waits, such as refusals:
    #: beyond half of it errors are told without their details and trailers, and calls with metadata and
    #: results with trailers wait; beyond it the link is cut.
    max_unsent: int = 16 * MiB
    #: Links that one peer holds; further handshakes are refused with reason ``limit``.
    max_links: int = 1024
    #: Handlers that run at once at this peer; further calls are refused with ``ResourceExhausted``. The first few
    #: on a link of Duplex's own services are not: they look into what runs already. Of callbacks as many may run beside
    #: them, and one of each call in any case, as the call waits for it.
    max_handlers: int = 10_000
    #: Handlers that run at once for the calls of one link.
    max_handlers_per_link: int = 4096
    #: Messages of all links together that were received and not taken; calls that come while there are more
    #: are refused with ``ResourceExhausted``. Looked at once in a number of calls.
    max_buffered: int = 256 * MiB
    #: Seconds that a connection has for its first message, which says who is there. Not advertised, nor are those that follow.
    hello_timeout: float = 5.0
    #: Bytes of that message.
    max_hello: int = 64 * KiB
    #: Connections to one bound endpoint that have not sent it. When there are more, the oldest of the same address gives way.
    max_ungreeted: int = 256
    #: Of them, those of one address, or of one network of 64 bits with IPv6. For this machine's own the number of all
    #: is the limit.
    max_ungreeted_per_address: int = 64
    #: Handshakes of TLS in a second at one bound endpoint. Who comes beyond that waits, unread, within its ``hello_timeout``.
    max_handshakes: int = 200
    #: Of them, those of one address, or network, as above.
    max_handshakes_per_address: int = 50

    def __post_init__(self) -> None:
        for field, low in _LOWEST.items():
            check_whole(f"Limits.{field}", getattr(self, field), low=low)
        check_seconds("Limits.hello_timeout", self.hello_timeout, low=LEAST_SECONDS)


_LOWEST: Final = {
    "max_message": 1 * KiB,
    "max_elements": 65_536,
    "max_attachments": 0,
    "max_commands": 1,
    "max_metadata": 0,
    "max_channels": 1,
    "channel_window": 1 * KiB,
    "link_window": 1 * KiB,
    "link_buffer": 0,
    "max_unsent": 64 * KiB,
    "max_links": 1,
    "max_handlers": 1,
    "max_handlers_per_link": 1,
    "max_buffered": 1 * KiB,
    "max_hello": 1 * KiB,
    "max_ungreeted": 1,
    "max_ungreeted_per_address": 1,
    "max_handshakes": 1,
    "max_handshakes_per_address": 1,
}


#: The longest that a link may be silent, in seconds: a week. Transports take no more than some.
LONGEST_SILENCE: Final = 7 * 24 * 3600


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Keepalive:
    """How a peer watches the other end of its links, and how long it keeps them. All times are seconds."""

    #: A sign of life is asked for when this long has passed since the last time. Up to a week. On a link on which nothing
    #: is going on, only the side that has connected asks; what it asks is a sign of life, too.
    interval: float = 5.0
    #: A link whose other side's host gives no sign of life for this long is lost. A peer whose event loop is blocked is slow, and
    #: not lost: its kernel answers, or the thread of libzmq.
    timeout: float = 15.0
    #: A link whose other side has sent nothing for this long, though its host can be reached, is lost too: its process is stopped,
    #: or its event loop does not come back; ``None``: never. Only for transports that have no thread which answers.
    max_silence: float | None = 60.0
    #: A link on which nothing was done for this long is closed, and opened again when it is needed;
    #: ``None``: never.
    max_idle: float | None = None
    #: A link this old, give or take a tenth, is replaced by another: no new calls, those that run may finish;
    #: ``None``: never.
    max_age: float | None = None
    #: How long calls may go on on a link that is too old, before they fail.
    max_age_grace: float = 30.0

    def __post_init__(self) -> None:
        for field in ("interval", "timeout", "max_silence", "max_idle", "max_age", "max_age_grace"):
            value = getattr(self, field)
            if value is None and field in ("max_silence", "max_idle", "max_age"):
                continue
            high = LONGEST_SILENCE if field in ("interval", "timeout") else MOST_SECONDS
            check_seconds(f"Keepalive.{field}", value, low=LEAST_SECONDS, high=high)
        if self.timeout <= self.interval:
            raise ConfigurationError(
                f"Keepalive.timeout ({self.timeout}) must be longer than Keepalive.interval ({self.interval})"
            )
        if self.max_silence is not None and self.max_silence < self.timeout:
            object.__setattr__(self, "max_silence", self.timeout)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Idempotency:
    """How long, and in how much room, a peer remembers calls with an idempotency key.

    A key that is known never runs its handler again. When room is short, the oldest *outcomes* are forgotten before
    their time: a call that repeats one is told that it was executed, and not how it went. When there is no room for
    more keys either, calls with new ones are refused.
    """

    #: Seconds that a key is known after its call has ended.
    ttl: float = 120.0
    #: Bytes that all keys and outcomes together may take. A small outcome counts some 800, a key without one 160: so
    #: the default is for 600 calls a second whose outcomes are kept for two minutes, and for 3000 whose keys are.
    max_bytes: int = 64 * MiB

    def __post_init__(self) -> None:
        check_seconds("Idempotency.ttl", self.ttl, low=LEAST_SECONDS)
        check_whole("Idempotency.max_bytes", self.max_bytes, low=1 * KiB)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reconnect:
    """The pauses between attempts to connect to an endpoint: they grow until a connection has lasted.

    The same between links that the other side leaves before they have lasted; the first such link is replaced at once.
    """

    #: Seconds before the second attempt, and before the first after a connection was lost.
    initial: float = 0.1
    #: Seconds that no pause exceeds; a connection that lasted this long starts afresh. Calls wait for a link for
    #: ``connect_timeout`` seconds: with pauses as long as that they fail although the other side is back.
    maximum: float = 5.0
    #: How many times longer each pause is than the one before.
    multiplier: float = 2.0
    #: Each pause is made longer or shorter by up to this part of it, at random, so that the clients of a
    #: restarted service do not come back all at once.
    jitter: float = 0.2

    def __post_init__(self) -> None:
        check_seconds("Reconnect.initial", self.initial, low=LEAST_SECONDS)
        check_seconds("Reconnect.maximum", self.maximum, low=LEAST_SECONDS)
        if self.maximum < self.initial:
            raise ConfigurationError(
                f"Reconnect.maximum ({self.maximum}) must not be shorter than Reconnect.initial ({self.initial})"
            )
        check_factor("Reconnect.multiplier", self.multiplier, low=1, high=1000)
        check_factor("Reconnect.jitter", self.jitter, low=0, high=0.99)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Advertise:
    """What a peer has others told of it, where it registers its services: see ``discovery`` of :func:`duplex.open_peer`."""

    #: Where others reach it. An endpoint, ``HOST`` or ``HOST:PORT`` is told as it is; of a network (``10.0.0.0/8``) or an interface
    #: (``eth0``) it is this machine's address there. Empty: where it is bound, which cannot be all addresses then unless the
    #: machine has one only. The first that fits an endpoint counts.
    addresses: tuple[str, ...] = ()
    #: What its instance of each service is called, for one that keeps its place over restarts; no two peers may have the same.
    #: Empty: the peer's id, another one each time.
    id: str = ""
    #: Where it is, for those who prefer what is near.
    zone: str = ""
    #: How many calls it wants, as a multiple of what others want: from 0, for when there is nobody else, to 65535.
    weight: int = 1
    #: What others may filter by; at most 8 KiB.
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    #: Seconds that it stays listed when nothing is heard of it.
    ttl: float = 10.0

    def __post_init__(self) -> None:
        addresses: Any = self.addresses
        if isinstance(addresses, str) or not isinstance(addresses, Iterable):
            addresses = (addresses,)
        addresses = tuple(addresses)
        for address in addresses:
            if not isinstance(address, str) or not address.strip():
                raise ConfigurationError(
                    f"Advertise.addresses are texts such as '10.0.0.7:7700', '10.0.0.0/8' or 'eth0', not {address!r}"
                )
        object.__setattr__(self, "addresses", addresses)
        for field in ("id", "zone"):
            if not isinstance(getattr(self, field), str):
                raise ConfigurationError(f"Advertise.{field} must be a str, not {getattr(self, field)!r}")
        check_whole("Advertise.weight", self.weight, low=0, high=65535)
        check_seconds("Advertise.ttl", self.ttl, low=0.5, high=86400)
        metadata: Any = self.metadata
        if not isinstance(metadata, Mapping) or not all(
            isinstance(word, str) for pair in metadata.items() for word in pair
        ):
            raise ConfigurationError(f"Advertise.metadata must be a dict of str to str, not {metadata!r}")
