"""The calls that this side makes: what is called, over which link, until when, and what comes of it.

Whatever makes calls is a :class:`Caller`, and takes a :class:`Request`. Here is what makes them over one link; what is around
it, such as the choice of a link, is in :mod:`duplex.client`.
"""

from __future__ import annotations

from duplex.engine.calling._callback import RemoteCallback as RemoteCallback
from duplex.engine.calling._caller import Caller as Caller
from duplex.engine.calling._caller import Opening as Opening
from duplex.engine.calling._counts import CallCounts as CallCounts
from duplex.engine.calling._gathering import Gathering as Gathering
from duplex.engine.calling._gathering import Outcome as Outcome
from duplex.engine.calling._gathering import gathering as gathering
from duplex.engine.calling._host import CallOwner as CallOwner
from duplex.engine.calling._link_caller import LinkCaller as LinkCaller
from duplex.engine.calling._opening import LimitedOpening as LimitedOpening
from duplex.engine.calling._opening import Relayed as Relayed
from duplex.engine.calling._outcome import blame as blame
from duplex.engine.calling._outcome import never_began as never_began
from duplex.engine.calling._outgoing import OutgoingCall as OutgoingCall
from duplex.engine.calling._outgoing import ending_of as ending_of
from duplex.engine.calling._outgoing import with_retry as with_retry
from duplex.engine.calling._request import Request as Request
from duplex.engine.calling._request import begun as begun
from duplex.engine.calling._request import bounded as bounded
from duplex.engine.calling._request import in_time as in_time
from duplex.engine.calling._resolution import Resolution as Resolution
from duplex.engine.calling._resolution import Situation as Situation
from duplex.engine.calling._resolution import resolve as resolve
from duplex.engine.calling._timers import Timers as Timers
from duplex.engine.calling._types import CallOptions as CallOptions
from duplex.engine.calling._types import OtherOptions as OtherOptions
from duplex.engine.calling._types import Streaming as Streaming
from duplex.engine.calling._types import Unary as Unary

__all__ = (
    "ending_of",
    "gathering",
    "with_retry",
    "CallOwner",
    "CallCounts",
    "CallOptions",
    "Caller",
    "Gathering",
    "LimitedOpening",
    "LinkCaller",
    "Opening",
    "Outcome",
    "OtherOptions",
    "OutgoingCall",
    "Relayed",
    "RemoteCallback",
    "Request",
    "Resolution",
    "Situation",
    "Streaming",
    "Timers",
    "Unary",
    "begun",
    "blame",
    "bounded",
    "in_time",
    "never_began",
    "resolve",
)
