"""Every rule about what may come when, as tables.

Two machines. **Link**: one per connection. **Channel**: one per channel and side; there are two tables of
the same shape, because the opener and the responder of a channel may do different things.

Rule 1: everything that decides whether a command is legal in a state is in this file. Rule 2: this file
knows no numbers, no bytes and no credit; those are the business of the connection.

The channel, seen from one side
===============================

A channel has two directions, each of which may be ended by ``END`` (or the END flag) of its sender, and one
end: the responder's ``CLOSE``. The opener cannot close; it can only ask, with ``CANCEL``, and the responder
always answers with ``CLOSE``. So both sides agree when a channel is over, its number is never used again,
and the responder's count of open channels is the truth about how many handlers it runs.

::

                 opener                                         responder
    OPEN ── SEND_END ──▶ LOCAL_ENDED                OPEN ── RECV_END ──▶ REMOTE_ENDED
     │                       │                       │                       │
     ├─ RECV_END ─▶ REMOTE_ENDED ─▶ BOTH_ENDED       ├─ SEND_END ─▶ LOCAL_ENDED ─▶ BOTH_ENDED
     │                                               │
     ├─ SEND_CANCEL ─▶ CANCELLING ─┐                 ├─ RECV_CANCEL ─▶ CANCELLED ─┐
     └─ RECV_CLOSE ────────────────┴▶ OVER           └─ SEND_CLOSE ───────────────┴▶ OVER

What the tables say for an input in a state:

* a state: legal, and that is the next state;
* ``DROP``: legal, but too late to matter: ignored (and, if received, counted). After ``CANCEL`` or
  ``CLOSE`` were sent, what the other side had sent before it could know is not an error; and an opener
  that has cancelled, or been cancelled upon, can do no more harm to a channel that is ending anyway;
* ``ILLEGAL``: for something sent, ``LocalProtocolError``; for something received, a violation that breaks
  this channel and no other.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final


class LinkState(enum.IntEnum):
    """Where a connection stands."""

    #: Nothing was exchanged.
    IDLE = 0
    #: Connecting side: ``HELLO`` was sent, no answer yet.
    GREETED = 1
    #: Binding side: ``HELLO`` came, and has to be accepted or refused.
    ASKED = 2
    #: Channels may be opened by both sides.
    OPEN = 3
    #: Nothing is sent or received any more.
    CLOSED = 4


class LinkInput(enum.IntEnum):
    """What can happen to a link."""

    SEND_HELLO = 0
    SEND_REFUSE = 1
    SEND_COMMAND = 2
    RECV_HELLO = 3
    RECV_REFUSE = 4
    RECV_COMMAND = 5


class ChannelState(enum.IntEnum):
    """Where a channel stands, seen from one side."""

    #: Both directions are open.
    OPEN = 0
    #: This side ended its direction.
    LOCAL_ENDED = 1
    #: The other side ended its direction.
    REMOTE_ENDED = 2
    #: Both did; the responder's ``CLOSE`` is still to come.
    BOTH_ENDED = 3
    #: Opener only: ``CANCEL`` was sent, ``CLOSE`` is still to come.
    CANCELLING = 4
    #: Responder only: ``CANCEL`` came, ``CLOSE`` is still to be sent.
    CANCELLED = 5
    #: The channel is over and forgotten.
    OVER = 6


class ChannelInput(enum.IntEnum):
    """What can happen to a channel."""

    SEND_DATA = 0
    SEND_END = 1
    SEND_CLOSE = 2
    SEND_CANCEL = 3
    RECV_DATA = 4
    RECV_END = 5
    RECV_CLOSE = 6
    RECV_CANCEL = 7


#: Not a state: see above.
DROP: Final = -1
#: Not a state: see above.
ILLEGAL: Final = -2

_L, _I = LinkState, LinkInput

CONNECTING_LINK: Final[Mapping[LinkState, Mapping[LinkInput, int]]] = {
    _L.IDLE: {_I.SEND_HELLO: _L.GREETED},
    _L.GREETED: {_I.RECV_HELLO: _L.OPEN, _I.RECV_REFUSE: _L.CLOSED},
    _L.ASKED: {},
    _L.OPEN: {_I.SEND_COMMAND: _L.OPEN, _I.RECV_COMMAND: _L.OPEN},
    _L.CLOSED: {_I.RECV_HELLO: DROP, _I.RECV_REFUSE: DROP, _I.RECV_COMMAND: DROP},
}

BINDING_LINK: Final[Mapping[LinkState, Mapping[LinkInput, int]]] = {
    _L.IDLE: {_I.RECV_HELLO: _L.ASKED},
    _L.GREETED: {},
    _L.ASKED: {_I.SEND_HELLO: _L.OPEN, _I.SEND_REFUSE: _L.CLOSED},
    _L.OPEN: {_I.SEND_COMMAND: _L.OPEN, _I.RECV_COMMAND: _L.OPEN},
    _L.CLOSED: {_I.RECV_HELLO: DROP, _I.RECV_REFUSE: DROP, _I.RECV_COMMAND: DROP},
}

_S, _C = ChannelState, ChannelInput

OPENER: Final[Mapping[ChannelState, Mapping[ChannelInput, int]]] = {
    _S.OPEN: {
        _C.SEND_DATA: _S.OPEN,
        _C.SEND_END: _S.LOCAL_ENDED,
        _C.SEND_CANCEL: _S.CANCELLING,
        _C.RECV_DATA: _S.OPEN,
        _C.RECV_END: _S.REMOTE_ENDED,
        _C.RECV_CLOSE: _S.OVER,
    },
    _S.LOCAL_ENDED: {
        _C.SEND_CANCEL: _S.CANCELLING,
        _C.RECV_DATA: _S.LOCAL_ENDED,
        _C.RECV_END: _S.BOTH_ENDED,
        _C.RECV_CLOSE: _S.OVER,
    },
    _S.REMOTE_ENDED: {
        _C.SEND_DATA: _S.REMOTE_ENDED,
        _C.SEND_END: _S.BOTH_ENDED,
        _C.SEND_CANCEL: _S.CANCELLING,
        _C.RECV_CLOSE: _S.OVER,
    },
    _S.BOTH_ENDED: {
        _C.SEND_CANCEL: _S.CANCELLING,
        _C.RECV_CLOSE: _S.OVER,
    },
    _S.CANCELLING: {
        _C.SEND_CANCEL: DROP,
        _C.RECV_DATA: DROP,
        _C.RECV_END: DROP,
        _C.RECV_CLOSE: _S.OVER,
        _C.RECV_CANCEL: DROP,
    },
    _S.CANCELLED: {},
    _S.OVER: {
        _C.SEND_CANCEL: DROP,
        _C.RECV_DATA: DROP,
        _C.RECV_END: DROP,
        _C.RECV_CLOSE: DROP,
        _C.RECV_CANCEL: DROP,
    },
}

RESPONDER: Final[Mapping[ChannelState, Mapping[ChannelInput, int]]] = {
    _S.OPEN: {
        _C.SEND_DATA: _S.OPEN,
        _C.SEND_END: _S.LOCAL_ENDED,
        _C.SEND_CLOSE: _S.OVER,
        _C.RECV_DATA: _S.OPEN,
        _C.RECV_END: _S.REMOTE_ENDED,
        _C.RECV_CANCEL: _S.CANCELLED,
    },
    _S.LOCAL_ENDED: {
        _C.SEND_CLOSE: _S.OVER,
        _C.RECV_DATA: _S.LOCAL_ENDED,
        _C.RECV_END: _S.BOTH_ENDED,
        _C.RECV_CANCEL: _S.CANCELLED,
    },
    _S.REMOTE_ENDED: {
        _C.SEND_DATA: _S.REMOTE_ENDED,
        _C.SEND_END: _S.BOTH_ENDED,
        _C.SEND_CLOSE: _S.OVER,
        _C.RECV_CANCEL: _S.CANCELLED,
    },
    _S.BOTH_ENDED: {
        _C.SEND_CLOSE: _S.OVER,
        _C.RECV_CANCEL: _S.CANCELLED,
    },
    _S.CANCELLING: {},
    _S.CANCELLED: {
        _C.SEND_CLOSE: _S.OVER,
        _C.RECV_DATA: DROP,
        _C.RECV_END: DROP,
        _C.RECV_CLOSE: DROP,
        _C.RECV_CANCEL: DROP,
    },
    _S.OVER: {
        _C.RECV_DATA: DROP,
        _C.RECV_END: DROP,
        _C.RECV_CLOSE: DROP,
        _C.RECV_CANCEL: DROP,
    },
}


def compile_table(
    table: Mapping[LinkState, Mapping[LinkInput, int]] | Mapping[ChannelState, Mapping[ChannelInput, int]],
    inputs: type[LinkInput] | type[ChannelInput],
) -> tuple[tuple[int, ...], ...]:
    """Turn a table into ``rows[state][input]``, because indexing tuples is several times faster than
    hashing enum members. What a table leaves out is ``ILLEGAL``."""
    rows: dict[int, dict[int, int]] = {
        int(state): {int(k): v for k, v in row.items()} for state, row in table.items()
    }
    return tuple(tuple(int(rows[state].get(key, ILLEGAL)) for key in inputs) for state in sorted(rows))
