"""What a link, and a peer, tell of themselves."""

from __future__ import annotations

import msgspec


class LinkStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of one link."""

    #: The other peer.
    peer_id: str
    peer_name: str
    #: Who it is, and how that was proved: see :class:`duplex.Identity`.
    principal: str
    proof: str
    #: The endpoint that this side bound or connected.
    endpoint: str
    #: Calls and channels that this side opened, and that the other side opened, which are not over.
    outgoing: int
    incoming: int
    #: Bytes this side may still send before the other side's application takes some.
    send_credit: int
    #: Bytes received that this side's application has not taken yet.
    unconsumed: int
    #: Commands that came for channels that were over, and channels broken by the other side.
    dropped_commands: int
    channel_violations: int
    #: Calls of the other side whose handlers run.
    running: int
    #: Seconds since the connection stands.
    age: float
    #: Seconds since anything at all came from the other side.
    silent_for: float
    #: Seconds since the oldest ping that the other side has not answered yet; ``None`` if it has answered all.
    unanswered_for: float | None
    #: The connection stands, but the other side's event loop does not answer: something blocks it.
    is_slow: bool
    #: One of the two sides takes no new calls over this link.
    is_leaving: bool
    #: Items of streams that this side dropped, because their ``overflow`` option says so.
    dropped_items: int
    #: Seconds that the latest ping took, or ``None`` before the first.
    round_trip: float | None
    #: Seconds by which the other side's event loop ran a timer late, as it said last: a large number is a
    #: peer that is busy, not one that is lost. ``None`` before it said so.
    remote_delay: float | None


class PeerStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of one peer."""

    #: Links that are open.
    links: int
    #: Handlers that run for an idempotency key.
    keys_running: int
    #: Keys that are known of calls that have ended: with their outcomes, and without.
    outcomes_remembered: int
    outcomes_forgotten: int
    #: Bytes that keys and outcomes take, as ``Idempotency.max_bytes`` counts them.
    idempotency_bytes: int
    #: Since the peer was opened: outcomes that were forgotten before their time, and calls with new keys that were
    #: refused, both for lack of room (``Idempotency.max_bytes``).
    outcomes_lost: int
    keys_refused: int
    #: Since the peer was opened: attempts that it made because another one of the same call had failed, and calls that
    #: were not tried again because too many others had failed (:class:`duplex.RetryPolicy`).
    retries: int
    retries_throttled: int
    #: Likewise: attempts that it made because another one took long (:class:`duplex.HedgingPolicy`), and how often it has
    #: given a peer no calls of a service for a while (:class:`duplex.CircuitBreaker`, :class:`duplex.OutlierDetection`).
    hedges: int
    ejections: int
