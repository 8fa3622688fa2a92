"""What becomes of a call that comes over a link: it is run, or the caller is told why not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Protocol, final

from duplex._metadata import IDEMPOTENCY_KEY, RESUME_KEY
from duplex._status import StatusCode
from duplex.codec._base import Codec
from duplex.engine._handler import Flavor, Handler
from duplex.engine._shares import PUSH_BACK
from duplex.engine.serving._admission import Admission
from duplex.engine.serving._authorization import Authorization
from duplex.engine.serving._callbacks import Callbacks
from duplex.engine.serving._channel import OverflowingChannel, ServedChannel, can_run_inline
from duplex.engine.serving._end import ServingLink
from duplex.engine.serving._refusal import refuse
from duplex.engine.serving._who import BUILTIN
from duplex.engine.serving.idempotency import ResultCache
from duplex.protocol import ChannelOpened

if TYPE_CHECKING:
    from duplex.engine.channels import CallValues

#: Handlers that run for a link, below which Duplex's own methods are called however many run for others: whether a peer
#: is well is asked when it is full.
OWN_CALLS: Final = 8


class Handlers(Protocol):
    """What is called."""

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """By ``service.method``, those that are called without asking whether that may be."""

    @property
    def guarded(self) -> Mapping[str, Handler]:
        """Those that are called if it may be."""

    @property
    def authorization(self) -> Authorization:
        """Decides that."""

    def explain_missing(self, target: str) -> str:
        """Return why there is no handler for a method, and what there is instead."""


class Offers(Protocol):
    """What a peer offers, and on which terms."""

    @property
    def services(self) -> Handlers:
        """The services."""

    @property
    def codecs(self) -> Mapping[str, Codec]:
        """By name."""

    @property
    def admission(self) -> Admission:
        """Which calls are taken."""

    @property
    def callbacks(self) -> Callbacks:
        """Which calls of callbacks are."""

    @property
    def results(self) -> ResultCache:
        """The idempotency keys that are known."""


@final
class Reception:
    """Takes the calls that come over the links of a peer.

    Args:
        offers: what the peer offers.
    """

    def __init__(self, offers: Offers) -> None:
        self._offers = offers

    def take(self, link: ServingLink, event: ChannelOpened) -> None:
        """Take a call: run it, or refuse it."""
        offers = self._offers
        target = event.target
        owner: CallValues | None = None
        if isinstance(target, str):
            handler = offers.services.handlers.get(target)
            if handler is None:
                handler = self._authorized(link, event, target)
                if handler is None:
                    return
        else:
            found = link.values.called(event)
            if found is None:
                refuse(
                    link,
                    event,
                    StatusCode.FAILED_PRECONDITION,
                    "there is no such callback: the call that it was passed to is over, or is not the parent",
                )
                return
            handler, owner = found
        if event.timeout is not None and event.timeout <= 0:
            refuse(
                link, event, StatusCode.DEADLINE_EXCEEDED, "no time was left for the call when it was sent"
            )
            return
        codec = offers.codecs.get(event.codec)
        if codec is None:
            known = ", ".join(offers.codecs)
            refuse(
                link,
                event,
                StatusCode.INVALID_ARGUMENT,
                f"codec {event.codec!r} is not known here; known: {known}",
            )
            return
        if event.metadata and self._take_reserved(link, event, handler, codec):
            return
        is_inline = (
            handler.inline
            and handler.flavor is Flavor.SYNC
            and handler.layers is None
            and can_run_inline(link, event, handler)
        )
        if not is_inline:
            if owner is not None:
                refusal = offers.callbacks.refusal(link, owner)
            elif link.running < OWN_CALLS and handler.method.startswith(BUILTIN):
                refusal = None
            else:
                refusal = offers.admission.refusal(link, lasting=event.notify)
            if refusal is not None:
                refuse(link, event, StatusCode.RESOURCE_EXHAUSTED, refusal, retry_after=PUSH_BACK)
                return
        channel_class = ServedChannel if handler.overflow is None else OverflowingChannel
        channel = channel_class(link, event, handler, codec)
        if is_inline:
            channel.run_inline()
        else:
            channel.start(owner)

    def _authorized(self, link: ServingLink, event: ChannelOpened, target: str) -> Handler | None:
        """Return the handler of a method that is not called without asking; ``None`` if the call was refused."""
        services = self._offers.services
        handler = services.guarded.get(target)
        if handler is None:
            refuse(link, event, StatusCode.UNIMPLEMENTED, services.explain_missing(target))
            return None
        refusal = services.authorization.refusal(link, event, handler)
        if refusal is None:
            return handler
        refuse(link, event, refusal.status, refusal.message, retry_after=refusal.retry_after)
        return None

    def _take_reserved(self, link: ServingLink, event: ChannelOpened, handler: Handler, codec: Codec) -> bool:
        """Return whether a call was dealt with because of a key of the protocol's own; else it is an ordinary one."""
        metadata = event.metadata
        if RESUME_KEY in metadata and not handler.resumable:
            refuse(
                link,
                event,
                StatusCode.INVALID_ARGUMENT,
                f"{handler.method} is not resumable: call it without resume=True, or declare it with "
                f"@rpc(resumable=True)",
            )
            return True
        if IDEMPOTENCY_KEY in metadata:
            self._offers.results.admit(link, event, handler, codec, self._offers.admission)
            return True
        return False
