"""What becomes of a call to a service that no link takes at once: it waits, or it fails, and how."""

from __future__ import annotations

import enum
from typing import final

import msgspec


@final
class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """What a peer knows of a service to which no link takes a call at once."""

    #: The peer is closed.
    is_closed: bool = False
    #: The peer is draining, and takes no new links.
    is_draining: bool = False
    #: Those who offer the service get no calls at present, because their calls have failed.
    is_broken: bool = False
    #: A link offers the service, and has as many calls as it may.
    is_full: bool = False
    #: Somebody is finding out where the service is: see :meth:`duplex.Peer.resolving`.
    is_resolving: bool = False
    #: Somebody is told wherever the service is: see :meth:`duplex.Peer.connect_service`.
    is_followed: bool = False
    #: The peer connects to an endpoint to which there is no link now, and at which the service may be.
    is_connecting: bool = False
    #: No attempt at that has failed so far.
    is_hopeful: bool = False
    #: It connects, and all that is to be linked refuses that, or is refused, as it is not proved who somebody is.
    is_unauthenticated: bool = False
    #: The peer is bound, so a peer that offers the service may connect to it.
    is_bound: bool = False
    #: There are links.
    is_linked: bool = False


@enum.unique
class Resolution(enum.Enum):
    """What becomes of the call."""

    #: It goes to a link that is full, and is told which limit that is.
    FULL = enum.auto()
    #: It waits for a link that offers the service.
    WAIT = enum.auto()
    #: ``Unavailable``: it would have to wait, and is not to.
    NOT_READY = enum.auto()
    #: ``Unimplemented``: all who could be linked are, and nobody offers the service.
    NOT_OFFERED = enum.auto()
    #: ``Unavailable``: those who offer the service have failed, and are not asked again yet.
    BROKEN = enum.auto()
    #: ``Unavailable``: the peer is draining.
    DRAINING = enum.auto()
    #: ``Unavailable``: the peer is closed.
    CLOSED = enum.auto()
    #: ``Unavailable``: there is nobody, and nobody can come.
    ALONE = enum.auto()


def resolve(situation: Situation, *, wait_for_ready: bool) -> Resolution:
    """Decide what becomes of a call.

    Which other services the linked peers offer makes no difference: whether a call waits depends on whether somebody
    may still come who offers its own.

    Args:
        situation: what is known of the service.
        wait_for_ready: whether the call is to wait, even after attempts to connect have failed.
    """
    if situation.is_closed:
        return Resolution.CLOSED
    if situation.is_broken:
        return Resolution.BROKEN
    if situation.is_full:
        return Resolution.FULL
    # Who drains takes no new links and makes none, but for those that take the place of others.
    is_resolving = situation.is_resolving and not situation.is_draining
    may_come = (situation.is_bound or situation.is_followed) and not situation.is_draining
    if is_resolving or situation.is_connecting or may_come:
        hopeful = is_resolving or situation.is_hopeful
        return Resolution.WAIT if wait_for_ready or hopeful else Resolution.NOT_READY
    if situation.is_draining:
        return Resolution.DRAINING
    return Resolution.NOT_OFFERED if situation.is_linked else Resolution.ALONE
