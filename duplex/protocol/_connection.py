"""One end of one link, without I/O: bytes in, events out; actions in, bytes out; time is a parameter.

The owner calls :meth:`Connection.receive` with every message that came, handles the events, calls the
methods that act (``open``, ``send``, ``close`` ...), and transmits what :meth:`Connection.data_to_send`
returns. Nothing here blocks, waits, reads a clock or raises for what the *other* side did, but for one
thing: ``receive`` raises ``RemoteProtocolError`` when the link itself is beyond repair, having queued the
command that says so to the other side. What this side does wrong raises ``LocalProtocolError`` and changes
nothing.

This module is the acting half; what comes in is in :mod:`duplex.protocol._receiving`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, final

from duplex._config import Limits
from duplex._errors import LocalProtocolError, MessageTooLarge, ResourceExhausted
from duplex.protocol import _commands as c
from duplex.protocol._checks import (
    announcement,
    attachments_size,
    check_details,
    check_open_options,
    encoded_size,
    outgoing_metadata_size,
    target_size,
    text,
    unsent,
)
from duplex.protocol._commands import Hello, LimitsInfo, ServiceInfo
from duplex.protocol._flow import MESSAGE_OVERHEAD, NOTIFY_OVERHEAD, SendWindow
from duplex.protocol._outbox import COMMAND_BYTES, Buffer, ItemRun, encode
from duplex.protocol._receiving import Receiving
from duplex.protocol._records import (
    LINK_CLOSED,
    OPENER_TABLE,
    OVER,
    RECV_DATA,
    SEND_CANCEL,
    SEND_CLOSE,
    SEND_DATA,
    SEND_END,
    Statistics,
    new_record,
)
from duplex.protocol._states import DROP, ILLEGAL, ChannelState, LinkInput, LinkState

#: Pings that may be unanswered at once; older ones are forgotten.
_MAX_PINGS: Final = 64
#: Bytes that may be sent and not proven to have arrived, unless the owner says otherwise.
_MAX_UNSENT: Final = 16 * 1024 * 1024
#: What is sent is to be proven in so many parts of the most that may be unproven.
_PROOFS: Final = 4
#: Tokens of pings that prove something are from here on; others are below.
FIRST_PROOF: Final = 2**52


# Large because each command has a method, and each question that senders ask before one. They are short; what they share is
# the state of the link.
@final
class Connection(Receiving):
    """One end of one link.

    Args:
        hello: what this side says of itself; its limits are enforced on what comes in.
        connecting: ``True`` on the side that connects: it greets first, and its channels have odd numbers.
        now: the present time in seconds, of any clock that never goes back; so is every later ``now``.
        link_buffer: bytes received and not taken that the link's window does not count, so that streams which
            nobody reads do not hold up the link.
        room: gives that number instead, each time when it matters.
        max_unsent: bytes of messages that were sent and are not known to have arrived, beyond which there is no
            credit to send more; and as many of what costs no credit, beyond which the link is given up.
        proof_token: gives the token, from ``FIRST_PROOF`` on, of a ping whose answer is to prove that the other side
            has read what was sent before. So it should be one that cannot be guessed. ``None``: they are numbered.

    Raises:
        LocalProtocolError: ``hello`` is not what another peer could read.
    """

    def __init__(
        self,
        hello: Hello,
        *,
        connecting: bool,
        now: float,
        link_buffer: int = 0,
        room: Callable[[], int] | None = None,
        max_unsent: int = _MAX_UNSENT,
        proof_token: Callable[[], int] | None = None,
    ) -> None:
        self._hello_size = encoded_size(hello)
        super().__init__(
            hello,
            connecting=connecting,
            now=now,
            link_buffer=link_buffer,
            room=room,
            max_unsent=max_unsent,
        )
        self._next_token = 1
        self._max_unsent = max_unsent
        self._proof_token = proof_token or itertools.count(FIRST_PROOF).__next__
        #: The total of bytes from which on the next proof is asked for.
        self._prove_at = max_unsent // _PROOFS
        #: Why this side has given the link up, if it has: the other side does not read what it asks for.
        self.unread: str | None = None

    # -- what the owner asks ---------------------------------------------------------------------------

    @property
    def is_closed(self) -> bool:
        """Whether the link is over."""
        return self.state == LINK_CLOSED

    @property
    def free_unread(self) -> int:
        """Bytes that cost no credit, were sent or are about to be, and are not known to have arrived, generously."""
        return self._outbox.queued - self._outgoing.sent - self._free_proven

    def pending_commands(self) -> int:
        """Commands that wait in the present batch."""
        outbox = self._outbox
        run = outbox.run
        return len(outbox.commands) if run is None else len(outbox.commands) + len(run.payloads)

    @property
    def has_data_to_send(self) -> bool:
        """Whether :meth:`data_to_send` would return anything."""
        return bool(self._outbox)

    @property
    def max_message(self) -> int:
        """Bytes that the other side takes in one message, attachments included."""
        return self._remote_limits.max_message

    @property
    def max_metadata(self) -> int:
        """Bytes of metadata, or of trailers, that the other side takes."""
        return self._remote_limits.max_metadata

    @property
    def max_attachments(self) -> int:
        """Attachments that the other side takes in one message."""
        return self._remote_limits.max_attachments

    @property
    def link_credit(self) -> int:
        """Bytes this side may send on the link; a message may be sent while this is above zero."""
        if self._outbox.run is not None:
            self._outbox.settle()
        return self._outgoing.balance

    @property
    def unconsumed_total(self) -> int:
        """Bytes received on the link that the application has not taken yet."""
        return self._incoming.unconsumed

    @property
    def channels(self) -> int:
        """Channels that are not over, notifications whose handlers run included."""
        return len(self._channels) + len(self._notified)

    @property
    def channels_begun(self) -> int:
        """A number that grows with every channel that either side opens."""
        return self._next_channel + self._last_remote_channel

    @property
    def next_channel(self) -> int:
        """The number of the next channel that this side opens."""
        return self._next_channel

    def unanswered_for(self, now: float) -> float | None:
        """Return the age, in seconds, of the oldest ping without an answer; ``None`` if there is none."""
        sent = next(iter(self._pings.values()), None)
        return None if sent is None else now - sent

    @property
    def stream_credit(self) -> int:
        """Bytes that items of streams may cost on the link: its credit, but for a part that they leave to calls and results."""
        if self._outbox.run is not None:
            self._outbox.settle()
        return self._outgoing.balance - self._outgoing.reserved

    def message_cost(self, payload: bytes, attachments: Sequence[Buffer]) -> int:
        """Bytes of credit that a message is going to cost. Raises ``MessageTooLarge`` if the other side would
        not take it, ``ResourceExhausted`` if it has too many attachments."""
        limits = self._remote_limits
        size = len(payload) + attachments_size(attachments, limits.max_attachments)
        if size > limits.max_message:
            raise MessageTooLarge(size, limits.max_message)
        return size + MESSAGE_OVERHEAD

    def credit(self, channel: int) -> int:
        """Bytes this side may send on a channel; 0 if it is over."""
        if self._outbox.run is not None:
            self._outbox.settle()
        record = self._channels.get(channel)
        return 0 if record is None else record.outgoing.balance

    def has_credit(self, channel: int) -> bool:
        """Whether there is credit for a message on a channel: its own, and the link's."""
        if self._outbox.run is not None:
            self._outbox.settle()
        record = self._channels.get(channel)
        return record is not None and record.outgoing.balance > 0 and self._outgoing.balance > 0

    def can_send(self, channel: int) -> bool:
        """Whether messages may be sent on a channel, credit aside."""
        record = self._channels.get(channel)
        return record is not None and record.table[record.state][SEND_DATA] >= 0

    def unconsumed(self, channel: int) -> int:
        """Bytes received on a channel that the application has not taken yet; 0 if it is over."""
        record = self._channels.get(channel)
        return 0 if record is None else record.incoming.unconsumed

    def channel_state(self, channel: int) -> ChannelState:
        """Where a channel stands; ``OVER`` also for one that never was."""
        record = self._channels.get(channel)
        return ChannelState.OVER if record is None else ChannelState(record.state)

    @property
    def can_open(self) -> bool:
        """Whether a channel may be opened now, credit aside."""
        return (
            self.is_open and not self.remote_leaving and self._opened_here < self._remote_limits.max_channels
        )

    def statistics(self) -> Statistics:
        """Return a snapshot."""
        if self._outbox.run is not None:
            self._outbox.settle()
        return Statistics(
            state=LinkState(self.state),
            channels_opened_here=self._opened_here,
            channels_opened_there=self._opened_there,
            send_credit=self._outgoing.granted,
            unconsumed=self._incoming.unconsumed,
            dropped_commands=self._dropped,
            channel_violations=self._violations,
        )

    # -- handshake and leaving -------------------------------------------------------------------------

    def greet(self) -> None:
        """Send ``HELLO``. Connecting side, once, before anything else."""
        self._link_step(LinkInput.SEND_HELLO)
        self._push(self.local, self._hello_size)

    def accept(self) -> None:
        """Answer the other side's ``HELLO`` with ours. Binding side, after ``HelloReceived``."""
        self._link_step(LinkInput.SEND_HELLO)
        self._push(self.local, self._hello_size)

    def refuse(self, reason: str, message: str) -> None:
        """Refuse the other side's ``HELLO``: the link is closed. Binding side, after ``HelloReceived``.

        Args:
            reason: ``version``, ``codec``, ``auth``, ``limit`` or ``draining``.
            message: for the human at the other side.
        """
        command = c.Refuse(reason, text(message))
        size = encoded_size(command)
        self._link_step(LinkInput.SEND_REFUSE)
        self._push(command, size)

    def announce(self, services: Sequence[ServiceInfo]) -> None:
        """Tell the other side what this side offers from now on."""
        command = announcement(services)
        size = encoded_size(command)
        self._link_step(LinkInput.SEND_COMMAND)
        self._push(command, size)

    def leave(self, reason: str = "draining", message: str = "") -> None:
        """Send ``GOAWAY``: the other side opens no new channels, but those that belong to one that runs; those
        that run may finish. This side may still open some, because handlers that finish may have to call.

        May be said again with another reason: ``closing`` as the last thing before the link is cut.
        """
        command = c.Goaway(self._last_remote_channel, reason, text(message))
        size = encoded_size(command)
        self._link_step(LinkInput.SEND_COMMAND)
        self.leaving = True
        self._push(command, size)

    def ping(self, now: float, delay: float | None = None) -> int:
        """Send ``PING``, and return its token for :meth:`awaits_pong`. ``delay`` is this side's own event
        loop's delay in seconds, which the answers to the other side's pings say too; ``None``: as before."""
        self._link_step(LinkInput.SEND_COMMAND)
        token, self._next_token = self._next_token, self._next_token + 1
        if len(self._pings) >= _MAX_PINGS:
            del self._pings[next(iter(self._pings))]
        self._pings[token] = now
        if delay is not None:
            self.note_delay(delay)
        self._push([3, token, self._delay], COMMAND_BYTES)
        return token

    def note_delay(self, delay: float) -> None:
        """Have the answers to the other side's pings say that this side's event loop runs so many seconds late."""
        self._delay = min(c.MAX_INTEGER, max(0, round(delay * 1e6)))

    def awaits_pong(self, token: int) -> bool:
        """Whether a ping of ours has no answer yet."""
        return token in self._pings

    # -- channels --------------------------------------------------------------------------------------

    def open(
        self,
        target: str | int | None,
        *,
        payload: bytes | None = None,
        attachments: Sequence[Buffer] = (),
        flags: int = 0,
        timeout: float | None = None,
        metadata: Mapping[str, str | bytes] | None = None,
        window: int | None = None,
        parent: int | None = None,
        codec: str | None = None,
    ) -> int:
        """Open a channel and return its number.

        Args:
            target: a method's name, or the number of a callback the other side passed, or ``None``.
            payload: the first message.
            attachments: its out-of-band buffers; they must not change until they were transmitted.
            flags: any of ``END``, ``UNARY`` and ``NOTIFY`` (which needs ``END``).
            timeout: remaining time in seconds; less than a millisecond counts as one.
            metadata: headers.
            window: bytes that the other side may send before it is granted more; ``None`` for our default.
            parent: the channel of the call that this one belongs to.
            codec: the name of the channel's codec; ``None`` for msgpack.

        Raises:
            LocalProtocolError: the link is not open, the other side is leaving (unless ``parent`` runs), link
                credit is used up, or an argument is one that the other side could not read.
            InvalidArgument: the other side does not know the codec.
            ResourceExhausted: too many channels, or too much metadata for the other side.
            MessageTooLarge: the message is too large for the other side.
        """
        if not self.is_open:
            raise LocalProtocolError(f"cannot open a channel while the link is {LinkState(self.state).name}")
        if self.remote_leaving and parent not in self._channels:
            raise LocalProtocolError("cannot open a channel on a link that the other side is leaving")
        limits = self._remote_limits
        notify = flags & c.NOTIFY
        if self._opened_here >= limits.max_channels and not notify:
            raise unsent(
                f"{self._opened_here} channels are open on this link, and the peer takes no more: close some, "
                f"or raise Limits(max_channels=...) there"
            )
        if not 0 <= flags <= 7:
            raise LocalProtocolError(f"OPEN has no flags {flags}")
        size = COMMAND_BYTES + target_size(target)
        options: list[Any] | None = None
        if attachments or timeout is not None:
            options = [len(attachments), None if timeout is None else _milliseconds(timeout)]
        if metadata or window is not None or parent is not None or codec is not None:
            check_open_options(window, parent, codec, self._remote_codecs)
            if metadata:
                size += outgoing_metadata_size(metadata, limits.max_metadata)
            options = [*(options or [0, None]), c.trim(metadata), window, parent, codec]
            size += c.MAX_NAME
        cost = 0
        if payload is not None:
            if notify and not flags & c.END:
                raise LocalProtocolError("a channel opened with NOTIFY needs END")
            cost = self._pay_for(payload, attachments, None, NOTIFY_OVERHEAD if notify else MESSAGE_OVERHEAD)
        elif notify or attachments:
            raise LocalProtocolError("a channel opened with NOTIFY or attachments needs a message")
        channel = self._next_channel
        self._next_channel = channel + 2
        if not notify:
            self._channels[channel] = new_record(
                channel,
                OPENER_TABLE,
                1 if flags & c.END else 0,
                limits.channel_window - cost,
                self._limits.channel_window if window is None else window,
                0,
                parent is not None,
            )
            self._opened_here += 1
        command: list[Any] = [7, channel, target, flags, payload]
        if options is not None:
            command += options
        self._push(command, size + cost, attachments)
        return channel

    def runs(self, channel: int) -> bool:
        """Whether a channel, which either side has opened, is not over."""
        return channel in self._channels

    def send(self, channel: int, payload: bytes, attachments: Sequence[Buffer] = (), flags: int = 0) -> None:
        """Send a message.

        ``flags`` may have END, which ends this direction, and RESULT.

        Raises:
            LocalProtocolError: this direction is ended, the channel is over, or its credit or the link's
                is used up (ask :meth:`credit` and :attr:`link_credit` first).
            MessageTooLarge: the message is too large for the other side.
        """
        record = self._channels.get(channel)
        state = OVER if record is None else record.state
        if record is None or record.table[state][SEND_DATA] < 0:
            raise _illegal("a message", channel, state)
        if not 0 <= flags <= 3:
            raise LocalProtocolError(f"DATA has no flags {flags}")
        cost = self._pay_for(payload, attachments, record.outgoing)
        command: list[Any] = [8, channel, payload]
        if flags & c.END:
            record.state = record.table[state][SEND_END]
        if attachments:
            command += [flags, len(attachments)]
        elif flags:
            command.append(flags)
        self._push(command, cost, attachments)

    def begin_items(self, channel: int) -> ItemRun | None:
        """Begin a run of items, if nothing speaks against one: :meth:`~duplex.protocol.ItemRun.add` does for each
        what :meth:`send` does after :attr:`stream_credit` and :meth:`credit` were asked. ``None`` if not even one
        item may be sent now: :meth:`send` tells what is wrong, if anything but credit is.

        The run ends with whatever is done next on this connection.
        """
        if self._outbox.run is not None:
            self._outbox.settle()
        record = self._channels.get(channel)
        if record is None or not self.can_send(channel):
            return None
        window, link = record.outgoing, self._outgoing
        room = min(window.balance, link.balance - link.reserved)
        if room <= 0:
            return None
        run = ItemRun(channel, self._remote_limits.max_message, room, (window, link))
        self._outbox.begin(run)
        return run

    def end(self, channel: int) -> None:
        """Send ``END``: no more messages in this direction. Raises ``LocalProtocolError`` if that was said
        before, or the channel is over."""
        record = self._channels.get(channel)
        state = OVER if record is None else record.state
        if record is None or record.table[state][SEND_END] < 0:
            raise _illegal("END", channel, state)
        record.state = record.table[state][SEND_END]
        self._push([9, channel], COMMAND_BYTES)

    def close(
        self,
        channel: int,
        status: int = 0,
        payload: bytes | None = None,
        attachments: Sequence[Buffer] = (),
        message: str = "",
        details: bytes | None = None,
        trailers: Mapping[str, str | bytes] | None = None,
    ) -> None:
        """End a channel that the other side opened, with a status and perhaps a last message.

        Only the last message needs credit. Raises as :meth:`send` does, and ``ResourceExhausted`` if
        trailers or details are too large for the other side.
        """
        record = self._channels.get(channel)
        state = OVER if record is None else record.state
        if record is None or record.table[state][SEND_CLOSE] < 0:
            raise _illegal("CLOSE", channel, state)
        command: list[Any] = [10, channel, int(status), payload]
        size = COMMAND_BYTES
        if status and not 0 < status <= c.MAX_INTEGER:
            raise LocalProtocolError(f"a status is from 0 to {c.MAX_INTEGER}, not {status}")
        if attachments or message or details is not None or trailers:
            if attachments and payload is None:
                raise LocalProtocolError("attachments need a message to go with")
            if trailers:
                size += outgoing_metadata_size(trailers, self._remote_limits.max_metadata)
            if details is not None:
                check_details(details, payload, attachments, self._remote_limits.max_message)
                size += len(details)
            message = text(message)
            size += 4 * len(message)
            command += [len(attachments), message, details, c.trim(trailers)]
        if payload is not None:
            size += self._pay_for(payload, attachments, record.outgoing)
        self._forget(record)
        self._push(command, size, attachments)

    def finish(self, channel: int) -> None:
        """Forget a channel that the other side opened with NOTIFY, once its handler has ended. Only then
        does its message's credit go back, which bounds how many run at once."""
        cost = self._notified.pop(channel, 0)
        self._incoming.pinned -= cost
        self._consume_on_link(cost)

    def cancel(self, channel: int, reason: str = "") -> None:
        """Abandon a channel that this side opened: what came and was not taken, and what still comes, is
        dropped. Idempotent; for a channel that is over only the former is left to do."""
        record = self._channels.get(channel)
        if record is None:
            if channel % 2 == self._remote_parity or channel >= self._next_channel:
                raise LocalProtocolError(f"channel {channel} was not opened by this side")
            self._consume_on_link(self._unread.pop(channel, 0))
            return
        step = record.table[record.state][SEND_CANCEL]
        if step == ILLEGAL:
            raise _illegal("CANCEL", channel, record.state)
        if step != DROP:
            self._cancel(record, step, reason)

    def consumed(self, channel: int, cost: int) -> None:
        """Note that the application took messages of ``cost`` bytes from a channel, over or not; grants to
        the other side go out when enough has come together."""
        if not cost or not self.is_open:
            return
        record = self._channels.get(channel)
        if record is None:
            unread = self._unread.get(channel, 0)
            if unread > cost:
                self._unread[channel] = unread - cost
            elif self._unread.pop(channel, 0) == 0:
                return
            self._consume_on_link(min(cost, unread))
        elif record.incoming.unconsumed >= cost:  # if not, all was given back when the channel was cancelled
            grant = record.incoming.consume(cost)
            if grant and record.table[record.state][RECV_DATA] >= 0:
                self._push([6, channel, grant], COMMAND_BYTES)
            if grant := self._incoming.consume(cost):
                self._push([6, 0, grant], COMMAND_BYTES)

    # -- bytes out -------------------------------------------------------------------------------------

    def data_to_send(self) -> list[list[Buffer]]:
        """Return the messages to transmit now, in order, each a list of frames; empty if there is nothing.

        If :attr:`unread` is set afterwards these are the last: the link is closed.
        """
        outbox = self._outbox
        if outbox.run is not None:
            outbox.settle()
        if outbox.total + outbox.size >= self._prove_at and self.is_open:
            self._ask_for_proof()  # behind what is to be proven, and in the same message
        return outbox.take()

    def _ask_for_proof(self) -> None:
        """Have the other side prove that it receives what it is sent, or give up if it has not for too long."""
        outbox = self._outbox
        unread = self.free_unread
        if unread > self._max_unsent:
            self.unread = (
                f"{unread} bytes of answers wait for the peer to read them, over the limit of {self._max_unsent} "
                f"(Limits.max_unsent)"
            )
            self.terminate()
            self._push_last(c.Goaway(self._last_remote_channel, "closing", self.unread))
            return
        token = self._proof_token()
        paid = self._outgoing.sent
        self._proofs[token] = paid, outbox.queued - paid
        outbox.push_behind([3, token, self._delay])
        self._prove_at = outbox.queued + self._max_unsent // _PROOFS

    def _pay_for(
        self,
        payload: bytes,
        attachments: Sequence[Buffer],
        window: SendWindow | None,
        overhead: int = MESSAGE_OVERHEAD,
    ) -> int:
        """Check a message against the other side's limits and credit, pay for it, and return its cost."""
        if self._outbox.run is not None:
            self._outbox.settle()
        size = len(payload)
        limits = self._remote_limits
        try:
            if attachments:
                size += attachments_size(attachments, limits.max_attachments)
            if size > limits.max_message:
                raise MessageTooLarge(size, limits.max_message)
        except ResourceExhausted as error:
            # The message was not sent. That says that its call never began only if it was to open it.
            error.may_have_executed = window is not None
            raise
        if self._outgoing.balance <= 0:
            raise LocalProtocolError("the link's credit is used up; wait for CreditReceived(0)")
        cost = size + overhead
        if window is not None:
            if window.balance <= 0:
                raise LocalProtocolError("the channel's credit is used up; wait for CreditReceived")
            window.balance -= cost
        self._outgoing.balance -= cost
        return cost

    def _link_step(self, step_input: LinkInput) -> None:
        step = self._table[self.state][step_input]
        if step < 0:
            raise LocalProtocolError(
                f"{step_input.name} is not possible while the link is {LinkState(self.state).name}"
            )
        self._enter(step)


def _illegal(what: str, channel: int, state: int) -> LocalProtocolError:
    return LocalProtocolError(f"cannot send {what} on channel {channel}: it is {ChannelState(state).name}")


def _milliseconds(seconds: float) -> int:
    # Up, or the other side would end the call before this one does; but not for the last digits of a product of floats.
    milliseconds = seconds * 1000 - 1e-6
    return max(1, math.ceil(milliseconds)) if milliseconds < c.MAX_INTEGER else c.MAX_INTEGER


def is_short(hello: Hello) -> bool:
    """Whether a ``HELLO`` is taken from the connecting side, for which a frame 0 has :data:`MAX_HELLO` bytes at most."""
    return len(encode([hello])) <= c.MAX_HELLO


def refusal(reason: str, message: str) -> bytes:
    """Return frame 0 of a ``REFUSE``, for those whose ``HELLO`` no :class:`Connection` has to look at.

    Args:
        reason: such as ``protocol``.
        message: for the human at the other side.
    """
    return encode([c.Refuse(reason, text(message))])


def limits_info(limits: Limits) -> LimitsInfo:
    """Return the part of the limits that is advertised in ``HELLO``."""
    return LimitsInfo(
        max_message=limits.max_message,
        max_attachments=limits.max_attachments,
        max_commands=limits.max_commands,
        max_metadata=limits.max_metadata,
        max_channels=limits.max_channels,
        channel_window=limits.channel_window,
        link_window=limits.link_window,
    )
