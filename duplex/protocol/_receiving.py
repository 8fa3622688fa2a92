"""Bytes in, events out: what each command of the other side does.

Strategy for errors: a command of the wrong shape, or one that only a confused peer sends, breaks the link. A
well-formed command that is wrong for its channel breaks that channel. A command for a channel that is over
is dropped and counted, because the other side may not have known yet. ``spec/dmtp.md`` numbers every case.
"""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from operator import length_hint
from typing import Annotated, Any, Final

import msgspec

from duplex._elements import holds_more
from duplex._errors import RemoteProtocolError
from duplex._metadata import REFUSED, metadata_size
from duplex._status import StatusCode
from duplex.protocol import _commands as c
from duplex.protocol import _events as e
from duplex.protocol._checks import read_metadata, read_services, text
from duplex.protocol._commands import END, NO_ENTRIES, NOTIFY, UNARY, Data, Hello, LimitsInfo
from duplex.protocol._events import ItemsReceived, MessageReceived
from duplex.protocol._flow import (
    MESSAGE_OVERHEAD,
    NOTIFY_OVERHEAD,
    LinkReceiveWindow,
    LinkSendWindow,
)
from duplex.protocol._outbox import BATCH_BYTES, COMMAND_BYTES, Buffer, Outbox, max_frame
from duplex.protocol._records import (
    BINDING_TABLE,
    CANCELLING,
    CONNECTING_TABLE,
    LINK_CLOSED,
    LINK_OPEN,
    OPENER_TABLE,
    RECV_CANCEL,
    RECV_CLOSE,
    RECV_DATA,
    RECV_END,
    RESPONDER_TABLE,
    SEND_CANCEL,
    ChannelRecord,
    new_record,
)
from duplex.protocol._states import DROP, ILLEGAL, ChannelState, LinkInput, LinkState


@functools.lru_cache(maxsize=16)
def _decoder(max_commands: int) -> Callable[[Buffer], list[c.Command]]:
    """Return the decoder of frame 0. It counts the commands before it makes them."""
    batch: Any = Annotated[list[c.LaterCommand], msgspec.Meta(max_length=max_commands)]
    return msgspec.msgpack.Decoder(batch).decode


@functools.lru_cache(maxsize=16)
def _first_decoder(max_commands: int) -> Callable[[Buffer], list[msgspec.Raw]]:
    """Return the decoder of frame 0 of a link that is not open: it leaves each command for its turn, as there may be
    a thousand that are not to be there, and much in each."""
    batch: Any = Annotated[list[msgspec.Raw], msgspec.Meta(max_length=max_commands)]
    return msgspec.msgpack.Decoder(batch).decode


_decode_command: Final = msgspec.msgpack.Decoder(c.Command).decode
#: Services that are as much to do as any other command.
_SERVICES_OF_A_COMMAND: Final = 64
_MORE_THAN_GRANTED: Final = "the peer sent more on the link than the window it was granted"


class Violation(Exception):
    """The other side broke the link; becomes ``RemoteProtocolError`` at the single entry point."""


# Large because it is the state of one link, all of which one command may change: which message is looked at, how far, what
# it has cost, who has how much credit. What can be told apart is (flow, outbox, states, checks); the rest is asked for each
# command, and another object between would cost each of them a call.
class Receiving:
    """The receiving half of a :class:`~duplex.protocol.Connection`, and the state that both halves share."""

    def __init__(
        self,
        hello: Hello,
        *,
        connecting: bool,
        now: float,
        link_buffer: int,
        room: Callable[[], int] | None,
        max_unsent: int,
    ) -> None:
        self.local = hello
        #: What the other side said of itself, once it has.
        self.remote: Hello | None = None
        self.connecting = connecting
        self._enter(int(LinkState.IDLE))
        #: When the other side was last heard of.
        self.last_received = now
        #: This side said goodbye, the other side did.
        self.leaving = False
        self.remote_leaving = False
        #: The highest ``last_channel`` of the other side's GOAWAY.
        self._goaway_channel = 0
        self._table = CONNECTING_TABLE if connecting else BINDING_TABLE
        self._channels: dict[int, ChannelRecord] = {}
        # Channels opened with NOTIFY whose handlers have not ended (bytes to give back then, by channel).
        self._notified: dict[int, int] = {}
        # Messages of channels that are over which the application has not taken yet (bytes, by channel).
        self._unread: dict[int, int] = {}
        self._next_channel = 1 if connecting else 2
        self._last_remote_channel = 0
        self._remote_parity = 0 if connecting else 1
        self._opened_here = 0
        self._opened_there = 0
        self._limits = hello.limits
        self._max_frame = max_frame(hello.limits)
        self._remote_limits = LimitsInfo()
        self._remote_codecs: Sequence[str] = ()
        self._outgoing = LinkSendWindow(max_unsent)
        #: Pings that are to prove what has arrived: what had been paid for before each, and what had cost nothing.
        self._proofs: dict[int, tuple[int, int]] = {}
        #: What cost no credit and is proven to have arrived.
        self._free_proven = 0
        self._incoming = LinkReceiveWindow(hello.limits.link_window, link_buffer)
        self._room = room
        self._outbox = Outbox(self._remote_limits.max_commands)
        self._push = self._outbox.push
        self._pings: dict[int, float] = {}
        self._delay = 0
        self._dropped = 0
        self._violations = 0
        self._decode = _decoder(hello.limits.max_commands)
        self._decode_first = _first_decoder(hello.limits.max_commands)
        self._attachments: Sequence[Buffer] = ()
        self._attachment_index = 0
        #: The commands of the present message that are not looked at yet, and one that comes before these.
        self._commands: Iterator[Any] = iter(())
        self._next_command: Any = None
        #: A message is only looked at in part; :meth:`go_on` is to follow, and no other message before.
        self.is_unfinished = False
        #: The commands that were looked at in the latest part of a message.
        self.looked_at = 0
        #: Take a command; return the next one if that was looked at too and is another's, else ``None``.
        self._handlers: dict[type, Callable[[Any, list[e.Event], float], Any]] = {
            c.Ping: self._on_ping,
            c.Pong: self._on_pong,
            c.Credit: self._on_credit,
            c.Open: self._on_open,
            Data: self._on_data,
            c.End: self._on_end,
            c.Close: self._on_close,
            c.Cancel: self._on_cancel,
            c.Goaway: self._on_goaway,
        }

    def _enter(self, state: int) -> None:
        self.state = state
        #: The handshake is done, and the link not closed.
        self.is_open = state == LINK_OPEN

    def receive(self, frames: Sequence[Buffer] | None, now: float, most: int = sys.maxsize) -> list[e.Event]:
        """Take one message and return what it means, in order.

        Args:
            frames: frame 0 and the attachments. Attachments are passed on as they are. ``None`` is for :meth:`go_on`.
            now: the present time.
            most: events, or commands that are none, after which it is enough for now, and one at least: what follows
                in the message is left for :meth:`go_on`, and :attr:`is_unfinished` set. So a message may mean much,
                and nobody has to act on all of it at once. It is then as if it had been several messages.

        Raises:
            RemoteProtocolError: the link is beyond repair and now closed; handle its events, and transmit
                :meth:`~duplex.protocol.Connection.data_to_send` once more, which tells the other side why.
        """
        events: list[e.Event] = []
        if self.state == LINK_CLOSED:
            self._dropped += 1
            return events
        self.last_received = now
        if self._outbox.run is not None:
            self._outbox.settle()
        try:
            self._receive(frames, events, now, most)
        except Violation as violation:
            raise self._broken(str(violation), events) from None
        except msgspec.ValidationError as error:
            raise self._broken(f"malformed command: {error}", events) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._broken(f"frame 0 is not a msgpack array of commands: {error}", events) from None
        finally:
            if not self.is_unfinished:
                self._attachments = ()
        return events

    def go_on(self, now: float, most: int = sys.maxsize) -> list[e.Event]:
        """Return what more a message means that :meth:`receive` was not through with. Raises as that does."""
        self.is_unfinished = False
        if self.state == LINK_CLOSED:
            self._attachments = ()
            self._commands = iter(())
            return []
        return self.receive(None, now, most)

    def terminate(self) -> None:
        """Note that the link is over, for whatever reason: nothing more is received, and nothing more can
        be sent but what is queued already. Idempotent."""
        self._outbox.settle()
        self._enter(LINK_CLOSED)
        self._channels.clear()
        self._notified.clear()
        self._unread.clear()
        self._opened_here = self._opened_there = 0

    def _receive(self, frames: Sequence[Buffer] | None, events: list[e.Event], now: float, most: int) -> None:
        if frames is None:
            commands = self._commands
            if self._next_command is not None:
                commands = itertools.chain((self._next_command,), commands)
                self._next_command = None
        else:
            if not frames:
                raise Violation("a message without frames")
            if len(frames[0]) > self._max_frame:
                raise Violation(f"frame 0 has {len(frames[0])} bytes, over the limit of {self._max_frame}")
            if len(frames[0]) > BATCH_BYTES and holds_more(frames[0], c.MAX_ELEMENTS):
                raise Violation(
                    f"frame 0 has {len(frames[0])} bytes, and more than the {c.MAX_ELEMENTS} elements that one of "
                    f"more than {BATCH_BYTES} bytes may have"
                )
            if self.state == LINK_OPEN:
                commands = iter(self._decode(frames[0]))
            else:
                commands = map(_decode_command, self._decode_first(frames[0]))
            self._commands = commands
            self._attachments = frames
            self._attachment_index = 1
        handlers = self._handlers
        left = most
        for command in commands:
            while command is not None:
                if not self.is_open:
                    self._handshake(command, events)
                    command = None
                elif (handler := handlers.get(type(command))) is None:
                    left -= self._on_other(command, events)
                    command = None
                else:
                    command = handler(command, events, now)
                left -= 1
                if left <= 0 or len(events) >= most:
                    if command is None and not length_hint(commands, 1):
                        break  # that was the last one
                    self._next_command = command
                    self.is_unfinished = True
                    self.looked_at = most - left
                    return
        self.looked_at = most - left
        came = len(self._attachments)
        if self._attachment_index != came and self.state != LINK_CLOSED:
            raise Violation(f"{came - 1} attachments came, but the commands use {self._attachment_index - 1}")
        window = self._incoming
        if window.balance < window.threshold and self.state == LINK_OPEN:
            if self._room is not None:
                # Never less than what is parked: its credit was given back.
                window.buffer = max(window.parked, self._room())
            grant = window.park()
            if grant:
                self._push([6, 0, grant], COMMAND_BYTES)

    # -- the link --------------------------------------------------------------------------------------

    def _handshake(self, command: Any, events: list[e.Event]) -> None:
        if type(command) is Hello:
            step = self._table[self.state][LinkInput.RECV_HELLO]
        elif type(command) is c.Refuse:
            step = self._table[self.state][LinkInput.RECV_REFUSE]
        else:
            step = self._table[self.state][LinkInput.RECV_COMMAND]
        if step == DROP:
            self._dropped += 1
            return
        if step == ILLEGAL:
            raise Violation(
                f"{type(command).__name__.upper()} while the link is {LinkState(self.state).name}"
                + ("; HELLO must come first" if self.state == LinkState.IDLE else "")
            )
        if type(command) is c.Refuse:
            self.terminate()
            events.append(e.LinkRefused(command.reason, command.message))
            return
        self._take_hello(command, events, step)

    def _take_hello(self, hello: Hello, events: list[e.Event], step: int) -> None:
        if hello.protocol != c.PROTOCOL_NAME:
            raise Violation(f"the peer speaks {hello.protocol!r}, not {c.PROTOCOL_NAME!r}")
        reason = None
        mine = self.local
        if hello.highest_version < mine.lowest_version or hello.lowest_version > mine.highest_version:
            reason = "version"
            message = (
                f"versions {mine.lowest_version} to {mine.highest_version} are spoken here, "
                f"{hello.lowest_version} to {hello.highest_version} there"
            )
        elif not set(hello.codecs) & set(mine.codecs):
            reason = "codec"
            message = text(f"codecs {', '.join(mine.codecs)} are known here, {', '.join(hello.codecs)} there")
        if reason is not None:
            self.terminate()
            if self.connecting:  # the other side has accepted already
                self._push_last(c.Goaway(0, "protocol", text(f"{reason}: {message}")))
            else:
                self._push_last(c.Refuse(reason, message))
            events.append(e.LinkRefused(reason, message))
            return
        self.remote = hello
        self._remote_limits = hello.limits
        self._remote_codecs = hello.codecs
        self._outbox.max_commands = hello.limits.max_commands
        self._outgoing.open(hello.limits.link_window)
        self._enter(step)
        events.append(e.LinkOpened(hello) if self.connecting else e.HelloReceived(hello))

    def _on_ping(self, command: c.Ping, events: list[e.Event], _now: float) -> None:
        self._push([4, command.token, self._delay], COMMAND_BYTES)
        events.append(e.PingReceived(command.delay / 1e6))

    def _on_pong(self, command: c.Pong, events: list[e.Event], now: float) -> None:
        token = command.token
        sent = self._pings.pop(token, None)
        if sent is not None:
            events.append(e.PongReceived(now - sent, command.delay / 1e6))
        elif token in self._proofs:
            known = paid = -1
            while known != token:  # it proves what those before it would
                known = next(iter(self._proofs))
                paid, self._free_proven = self._proofs.pop(known)
            self._outgoing.prove(paid)
            events.append(e.CreditReceived(0))
        else:
            self._dropped += 1

    def _on_other(self, command: Any, events: list[e.Event]) -> int:
        """Take one of the commands that are rare; return as how many others it counts beside itself."""
        if type(command) is not c.Announce:
            raise Violation(f"{'REFUSE' if type(command) is c.Refuse else 'HELLO'} after the handshake")
        services = read_services(command.services)
        events.append(e.ServicesAnnounced(services))
        return len(services) // _SERVICES_OF_A_COMMAND

    def _on_goaway(self, command: c.Goaway, events: list[e.Event], _now: float) -> None:
        self.remote_leaving = True
        # What was taken note of once stays so: a lower number is no word on calls that may have run meanwhile.
        last_channel = self._goaway_channel = max(self._goaway_channel, command.last_channel)
        events.append(e.GoawayReceived(command.reason, command.message))
        if command.reason == "protocol":
            self.terminate()
            return
        for record in [
            record
            for channel, record in self._channels.items()
            if channel > last_channel and record.table is OPENER_TABLE and not record.nested
        ]:
            told = record.state == CANCELLING
            self._forget(record)
            if not told:
                message = (
                    f"the peer is leaving ({command.reason}) and did not begin the call; it is safe to retry"
                )
                events.append(
                    self._closed(record.id, StatusCode.UNAVAILABLE, message, may_have_executed=False)
                )

    def _on_credit(self, command: c.Credit, events: list[e.Event], _now: float) -> None:
        if command.channel == 0:
            link = self._outgoing
            if link.granted + command.amount > c.MAX_INTEGER:
                raise Violation("CREDIT for channel 0 overflows")
            link.grant(command.amount)
        else:
            record = self._channels.get(command.channel)
            if record is None:
                self._check_known(command.channel, "CREDIT")
                self._dropped += 1
                return
            window = record.outgoing
            if window.balance + command.amount > c.MAX_INTEGER:
                raise Violation(f"CREDIT for channel {command.channel} overflows")
            window.balance += command.amount
        events.append(e.CreditReceived(command.channel))

    # -- channels --------------------------------------------------------------------------------------

    def _on_open(self, command: c.Open, events: list[e.Event], _now: float) -> None:
        channel = command.channel
        if channel % 2 != self._remote_parity:
            raise Violation(f"OPEN of channel {channel}, a number that belongs to this side")
        if channel <= self._last_remote_channel:
            raise Violation(f"OPEN of channel {channel} after channel {self._last_remote_channel}")
        flags = command.flags
        payload = command.payload
        notify = flags & NOTIFY != 0
        if flags > 7 or (notify and (not flags & END or payload is None)):
            raise Violation(f"OPEN of channel {channel} with flags {flags}")
        metadata = e.NO_METADATA
        refusal: tuple[int, str] | None = None
        if command.metadata is not NO_ENTRIES:
            metadata, refusal = read_metadata(command.metadata, self._limits.max_metadata)
        self._last_remote_channel = channel
        attachments: Sequence[Buffer] = ()
        cost = overhead = 0
        if payload is not None:
            if command.attachments:
                attachments = self._take_attachments(command.attachments)
            overhead = NOTIFY_OVERHEAD if notify else MESSAGE_OVERHEAD
            cost = self._charge_link(payload, attachments, overhead)
        elif command.attachments:
            raise Violation(f"OPEN of channel {channel} with attachments but no message")
        limits = self._limits
        if self._opened_there >= limits.max_channels and not notify:
            refusal = (
                StatusCode.RESOURCE_EXHAUSTED,
                f"{limits.max_channels} channels are open on this link, the limit (Limits.max_channels)",
            )
        elif self.leaving and command.parent not in self._channels:
            refusal = (
                StatusCode.UNAVAILABLE,
                "this peer is leaving; the call never began, so it is safe to retry",
            )
        elif command.codec is not None and command.codec not in self.local.codecs:
            refusal = (
                StatusCode.INVALID_ARGUMENT,
                f"the codec {command.codec!r} is not known here, only {', '.join(self.local.codecs)}",
            )
        if refusal is None and (attachments or cost - overhead > limits.max_message):
            refusal = self._refuse_size(cost - overhead, len(attachments))
        if refusal is not None:
            self._consume_on_link(cost)
            if notify:
                self._dropped += 1
            else:
                self._push_refusal(channel, *refusal)
            return
        if notify:
            self._notified[channel] = cost
            self._incoming.pinned += cost
        else:
            window = command.window
            self._channels[channel] = new_record(
                channel,
                RESPONDER_TABLE,
                2 if flags & END else 0,
                self._remote_limits.channel_window if window is None else window,
                limits.channel_window,
                cost,
            )
            self._opened_there += 1
        events.append(
            e.ChannelOpened(
                channel,
                command.target,
                flags & END != 0,
                flags & UNARY != 0,
                notify,
                payload,
                attachments,
                cost,
                None if command.timeout is None else command.timeout / 1000,
                metadata,
                command.parent,
                "msgpack" if command.codec is None else command.codec,
            )
        )

    def _on_data(self, command: Data, events: list[e.Event], now: float) -> Any:
        # The usual items of a stream, as many as there are one after the other, in one pass: nothing of them may be
        # wrong or out of the ordinary. Everything else is looked at rule by rule.
        channel = command.channel
        record = self._channels.get(channel)
        if record is None or record.table[record.state][RECV_DATA] < 0:
            self._on_other_data(command, events, now)
            return None
        window = self._incoming
        incoming = record.incoming
        credit = min(window.balance, incoming.balance)
        longest = self._limits.max_message
        total = 0
        payloads: list[bytes] = []
        append = payloads.append
        item: Any
        for item in itertools.chain((command,), self._commands):
            if type(item) is not Data or item.channel != channel:
                break
            payload = item.payload
            size = len(payload)
            if item.flags or item.attachments or size > longest or total >= credit:
                break
            total += size + MESSAGE_OVERHEAD
            append(payload)
        else:
            item = None
        if item is command:
            self._on_other_data(command, events, now)
            return None
        if len(payloads) == 1:
            events.append(MessageReceived(channel, payloads[0], (), total))
        else:
            events.append(ItemsReceived(channel, payloads, total))
        window.balance -= total
        window.unconsumed += total
        incoming.balance -= total
        incoming.unconsumed += total
        return item

    def _on_other_data(self, command: Data, events: list[e.Event], _now: float) -> None:
        channel = command.channel
        if command.flags > (END | c.RESULT):
            raise Violation(f"DATA on channel {channel} with flags {command.flags}")
        attachments = self._take_attachments(command.attachments) if command.attachments else ()
        cost = self._charge_link(command.payload, attachments)
        record = self._channels.get(channel)
        if record is None:
            self._check_known(channel, "DATA")
            self._dropped += 1
            self._consume_on_link(cost)
            return
        step = record.table[record.state][RECV_DATA]
        if step < 0:
            self._consume_on_link(cost)
            self._wrong(record, step, "DATA", events)
            return
        incoming = record.incoming
        refusal = self._refuse_size(cost - MESSAGE_OVERHEAD, len(attachments))
        if refusal is None and incoming.balance <= 0:
            refusal = _overrun(channel)
        if refusal is not None:
            self._consume_on_link(cost)
            self._break_channel(record, *refusal, events)
            return
        incoming.balance -= cost
        incoming.unconsumed += cost
        events.append(
            MessageReceived(channel, command.payload, attachments, cost, bool(command.flags & c.RESULT))
        )
        if command.flags & END:
            record.state = record.table[record.state][RECV_END]
            events.append(e.EndReceived(channel))

    def _on_end(self, command: c.End, events: list[e.Event], _now: float) -> None:
        record = self._channels.get(command.channel)
        if record is None:
            self._check_known(command.channel, "END")
            self._dropped += 1
            return
        step = record.table[record.state][RECV_END]
        if step < 0:
            self._wrong(record, step, "END", events)
            return
        record.state = step
        events.append(e.EndReceived(command.channel))

    def _on_close(self, command: c.Close, events: list[e.Event], _now: float) -> None:
        channel = command.channel
        attachments: Sequence[Buffer] = ()
        cost = size = 0
        if command.payload is not None:
            if command.attachments:
                attachments = self._take_attachments(command.attachments)
            # The application of an opener waits for this message, so its credit goes back at once.
            cost = self._pass_on_link(command.payload, attachments)
            size = cost - MESSAGE_OVERHEAD
        elif command.attachments:
            raise Violation(f"CLOSE of channel {channel} with attachments but no message")
        trailers = e.NO_METADATA
        bad_trailers: tuple[int, str] | None = None
        if command.trailers is not NO_ENTRIES:
            trailers, bad_trailers = read_metadata(command.trailers, self._limits.max_metadata)
        record = self._channels.get(channel)
        if record is None:
            self._check_known(channel, "CLOSE")
            self._dropped += 1
            return
        state = record.state
        step = record.table[state][RECV_CLOSE]
        if step < 0:
            self._wrong(record, step, "CLOSE", events)
            return
        incoming = record.incoming
        if incoming.unconsumed:
            # The application still holds messages that came before; consumed() gives them back.
            self._unread[channel] = incoming.unconsumed
            incoming.unconsumed = 0
        self._forget(record)
        if state == CANCELLING:
            return
        if command.details is not None:
            size += len(command.details)
        refusal = None
        if attachments or size > self._limits.max_message:
            refusal = self._refuse_size(size, len(attachments))
        if refusal is None and cost and incoming.balance <= 0:
            refusal = _overrun(channel)
        if refusal is None:
            refusal = bad_trailers
        if refusal is not None:
            self._violations += 1
            events.append(self._closed(channel, *refusal))
            return
        events.append(
            e.ChannelClosed(
                channel,
                command.status,
                command.payload,
                attachments,
                command.message,
                command.details,
                trailers,
            )
        )

    def _on_cancel(self, command: c.Cancel, events: list[e.Event], _now: float) -> None:
        record = self._channels.get(command.channel)
        if record is None:
            self._check_known(command.channel, "CANCEL")
            self._dropped += 1
            return
        step = record.table[record.state][RECV_CANCEL]
        if step < 0:
            self._wrong(record, step, "CANCEL", events)
            return
        record.state = step
        self._return_unconsumed(record)
        events.append(e.CancelReceived(command.channel, command.reason))

    # -- credit and limits -----------------------------------------------------------------------------

    def _take_attachments(self, count: int) -> Sequence[Buffer]:
        start = self._attachment_index
        end = start + count
        if end > len(self._attachments):
            raise Violation(f"commands use {end - 1} attachments, but {len(self._attachments) - 1} came")
        self._attachment_index = end
        return self._attachments[start:end]

    def _charge_link(
        self, payload: bytes, attachments: Sequence[Buffer], overhead: int = MESSAGE_OVERHEAD
    ) -> int:
        cost = len(payload) + overhead
        for buffer in attachments:
            cost += len(buffer)
        window = self._incoming
        if window.balance <= 0:
            raise Violation(_MORE_THAN_GRANTED)
        window.balance -= cost
        window.unconsumed += cost
        return cost

    def _pass_on_link(self, payload: bytes, attachments: Sequence[Buffer]) -> int:
        """Do what :meth:`_charge_link` and :meth:`_consume_on_link` do for a message that is taken as it comes."""
        cost = len(payload) + MESSAGE_OVERHEAD
        for buffer in attachments:
            cost += len(buffer)
        window = self._incoming
        if window.balance <= 0:
            raise Violation(_MORE_THAN_GRANTED)
        if grant := window.pass_through(cost):
            self._push([6, 0, grant], COMMAND_BYTES)
        return cost

    def _consume_on_link(self, cost: int) -> None:
        if cost and (grant := self._incoming.consume(cost)):
            self._push([6, 0, grant], COMMAND_BYTES)

    def _return_unconsumed(self, record: ChannelRecord) -> None:
        unconsumed, record.incoming.unconsumed = record.incoming.unconsumed, 0
        self._consume_on_link(unconsumed)

    def _refuse_size(self, size: int, attachments: int) -> tuple[int, str] | None:
        limits = self._limits
        if size > limits.max_message:
            return (
                StatusCode.RESOURCE_EXHAUSTED,
                f"a message of {size} bytes is over the limit of {limits.max_message} (Limits.max_message)",
            )
        if attachments > limits.max_attachments:
            return (
                StatusCode.RESOURCE_EXHAUSTED,
                f"{attachments} attachments are over the limit of {limits.max_attachments} (Limits.max_attachments)",
            )
        return None

    # -- when something is wrong -----------------------------------------------------------------------

    def _check_known(self, channel: int, command: str) -> None:
        """A channel without a record must be one that is over."""
        if channel % 2 == self._remote_parity:
            known = channel <= self._last_remote_channel
        else:
            known = channel < self._next_channel
        if not known:
            raise Violation(f"{command} for channel {channel}, which was never opened")

    def _wrong(self, record: ChannelRecord, step: int, command: str, events: list[e.Event]) -> None:
        if step == DROP:
            self._dropped += 1
            return
        message = (
            f"the peer broke the protocol: {command} on channel {record.id} in state "
            f"{ChannelState(record.state).name}"
        )
        self._break_channel(record, StatusCode.INTERNAL, message, events)

    def _break_channel(self, record: ChannelRecord, status: int, message: str, events: list[e.Event]) -> None:
        self._violations += 1
        if record.table is RESPONDER_TABLE:
            self._forget(record)
            self._push_close(record.id, status, message)
            events.append(e.CancelReceived(record.id, message, closed=True))
        else:
            self._cancel(record, record.table[record.state][SEND_CANCEL], message)
            events.append(self._closed(record.id, status, message))

    def _broken(self, message: str, events: list[e.Event]) -> RemoteProtocolError:
        self._break_link(message)
        return RemoteProtocolError(message, events)

    def _break_link(self, message: str) -> None:
        was_open = self.state == LINK_OPEN
        self.terminate()
        if was_open or self.connecting:
            self._push_last(c.Goaway(self._last_remote_channel, "protocol", text(message)))
        else:
            self._push_last(c.Refuse("protocol", text(message)))

    def _push_last(self, command: c.Goaway | c.Refuse) -> None:
        self._push(command, COMMAND_BYTES + 4 * len(command.message))

    def _push_close(self, channel: int, status: int, message: str) -> None:
        self._push([10, channel, int(status), None, 0, message], COMMAND_BYTES + 4 * len(message))

    def _push_refusal(self, channel: int, status: int, message: str) -> None:
        """Close a channel whose call never began, and say so, if the other side takes as much."""
        if self._remote_limits.max_metadata < _REFUSED_SIZE:
            self._push_close(channel, status, message)
            return
        size = COMMAND_BYTES + 4 * len(message) + _REFUSED_SIZE
        self._push([10, channel, int(status), None, 0, message, None, _REFUSED_TRAILERS], size)

    def _cancel(self, record: ChannelRecord, step: int, reason: str) -> None:
        reason = text(reason)
        record.state = step
        self._return_unconsumed(record)
        self._push([11, record.id, reason] if reason else [11, record.id], COMMAND_BYTES + 4 * len(reason))

    def _forget(self, record: ChannelRecord) -> None:
        if record.incoming.unconsumed:
            self._return_unconsumed(record)
        del self._channels[record.id]
        if record.table is OPENER_TABLE:
            self._opened_here -= 1
        else:
            self._opened_there -= 1

    def _closed(
        self, channel: int, status: int, message: str, *, may_have_executed: bool = True
    ) -> e.ChannelClosed:
        return e.ChannelClosed(
            channel,
            int(status),
            None,
            (),
            message,
            None,
            e.NO_METADATA,
            may_have_executed=may_have_executed,
        )


#: What tells the opener that its call never began.
_REFUSED_TRAILERS: Final = {REFUSED: "1"}
_REFUSED_SIZE: Final = metadata_size(_REFUSED_TRAILERS)


def _overrun(channel: int) -> tuple[int, str]:
    return (
        StatusCode.RESOURCE_EXHAUSTED,
        f"the peer sent more on channel {channel} than the window it was granted",
    )
