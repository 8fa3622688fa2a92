"""A second, small implementation of ``spec/dmtp.md``, for tests to compare the real one with.

It is written from the document's words and shares nothing with the implementation: a channel here is a few
flags and not a row of a table, messages are plain lists, and there are no bytes at all. It knows two honest
ends only. What the document calls a violation cannot happen between those, so it is :exc:`Dishonest` here:
an error of whoever drives the model, or of the implementation that made the commands. Only the handshake
can go wrong between honest ends.

:class:`ModelEnd` has the methods of ``Connection`` under the same names, so that one call can go to both.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from duplex._errors import InvalidArgument, LocalProtocolError, MessageTooLarge, ResourceExhausted

END, UNARY, NOTIFY, RESULT = 1, 2, 4, 2
CANCELLED, UNAVAILABLE = 1, 14
REFUSE, ANNOUNCE, PING, PONG, GOAWAY, CREDIT, OPEN, DATA, ENDED, CLOSE, CANCEL = range(1, 12)

#: Every command in full length, with the defaults of section 3; ``HELLO`` is cut to what is compared.
FULL: Final[Mapping[int, list[Any]]] = {
    0: [0, None, None, None, None],
    REFUSE: [REFUSE, None, ""],
    ANNOUNCE: [ANNOUNCE, None],
    PING: [PING, None, 0],
    PONG: [PONG, None, 0],
    GOAWAY: [GOAWAY, None, None, ""],
    CREDIT: [CREDIT, None, None],
    OPEN: [OPEN, None, None, 0, None, 0, None, None, None, None, None],
    DATA: [DATA, None, None, 0, 0],
    ENDED: [ENDED, None],
    CLOSE: [CLOSE, None, 0, None, 0, "", None, None],
    CANCEL: [CANCEL, None, ""],
}


class Dishonest(AssertionError):
    """Something came that no honest side sends."""


class Broken(Exception):
    """The link is broken, as section 11 says."""


class Refused(Exception):
    """What a side asked for is not possible; nothing has changed. ``errors`` are those that may say so."""

    def __init__(self, errors: set[type[Exception]]) -> None:
        super().__init__(errors)
        self.errors = tuple(errors)


class _Anything:
    """Equal to everything: stands for a text for humans."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


ANYTHING: Final[Any] = _Anything()


def full(command: Sequence[Any]) -> list[Any]:
    """Return a command that came with its defaults filled in."""
    whole = FULL[command[0]]
    return [*command, *whole[len(command) :]][: len(whole)]


def cost_of(payload: bytes | None, attachments: Sequence[bytes], overhead: int = 64) -> int:
    """Section 6: the cost of a message; 0 if there is none."""
    return 0 if payload is None else len(payload) + sum(map(len, attachments)) + overhead


def size_of_metadata(metadata: Mapping[str, str | bytes] | None) -> int:
    """Section 3.2."""
    return sum(len(key) + len(value) + 32 for key, value in (metadata or {}).items())


@dataclasses.dataclass
class Account:
    """What a receiver knows of one direction: the sender's balance, and what has not gone back to it."""

    window: int
    balance: int = 0
    held: int = 0
    consumed: int = 0

    def __post_init__(self) -> None:
        self.balance = self.window

    def receive(self, cost: int) -> None:
        if cost and self.balance <= 0:
            raise Dishonest("a message that nobody was granted")
        self.balance -= cost
        self.held += cost

    def consume(self, cost: int) -> int:
        """Return the credit to give back now."""
        self.held -= cost
        self.consumed += cost
        return self.grant()

    def grant(self) -> int:
        """Return the credit to give back now: half of the window, or more."""
        return self._grant(self.consumed >= self.half)

    @property
    def half(self) -> int:
        return max(1, self.window // 2)

    def _grant(self, due: bool) -> int:
        if not due:
            return 0
        grant, self.consumed = self.consumed, 0
        self.balance += grant
        return grant


class LinkAccount(Account):
    """The same for a link, where half of what nobody holds is enough; nothing is parked here."""

    def grant(self) -> int:
        return self._grant(0 < self.consumed >= min(self.half, self.balance))


@dataclasses.dataclass
class Channel:
    """A channel that is not over, at one of its ends."""

    mine: bool
    may_send: int
    account: Account
    nested: bool = False
    local_ended: bool = False
    remote_ended: bool = False
    cancelled: bool = False

    @property
    def state(self) -> str:
        if self.cancelled:
            return "CANCELLING" if self.mine else "CANCELLED"
        if self.local_ended:
            return "BOTH_ENDED" if self.remote_ended else "LOCAL_ENDED"
        return "REMOTE_ENDED" if self.remote_ended else "OPEN"


@dataclasses.dataclass
class Terms:
    """What an end says of itself in ``HELLO``."""

    peer_id: str
    limits: Mapping[str, int]
    protocol: str = "DMTP"
    lowest: int = 1
    highest: int = 1
    codecs: Sequence[str] = ("msgpack",)


class ModelEnd:
    """One end of a link."""

    def __init__(self, terms: Terms, *, connecting: bool) -> None:
        self.terms = terms
        self.connecting = connecting
        self.state = "IDLE"
        self.remote: Terms | None = None
        self.channels: dict[int, Channel] = {}
        self.unread: dict[int, int] = {}
        self.notified: dict[int, int] = {}
        self.may_send = 0
        self.account = LinkAccount(terms.limits["link_window"])
        self.next_channel = 1 if connecting else 2
        self.last_remote = 0
        self.leaving = self.remote_leaving = False
        self.delay = 0
        self.tokens: list[int] = []
        self.next_token = 1
        self.dropped = 0
        #: Commands that wait to be sent, with their attachments.
        self.out: list[tuple[list[Any], tuple[bytes, ...]]] = []

    # -- questions ---------------------------------------------------------------------------------------

    def opened(self, *, here: bool) -> int:
        """How many channels that count this side, or the other, has open."""
        return sum(channel.mine is here for channel in self.channels.values())

    def may_begin(self, parent: int | None) -> bool:
        """Section 8: whether a channel may be opened for all that was said of leaving."""
        if self.remote_leaving:
            return parent in self.channels
        return True

    @property
    def can_open(self) -> bool:
        return (
            self.state == "OPEN"
            and self.may_begin(None)
            and self.opened(here=True) < self.their_limits["max_channels"]
        )

    @property
    def their_limits(self) -> Mapping[str, int]:
        assert self.remote is not None
        return self.remote.limits

    def _require(self, *states: str) -> None:
        if self.state not in states:
            raise Refused({LocalProtocolError})

    def _say(self, *command: Any, attachments: Sequence[bytes] = ()) -> None:
        self.out.append((full(command), tuple(attachments)))

    # -- handshake and leaving ---------------------------------------------------------------------------

    def greet(self) -> None:
        self._require("IDLE" if self.connecting else "ASKED")
        self.state = "GREETED" if self.connecting else "OPEN"
        terms = self.terms
        self._say(0, terms.protocol, terms.lowest, terms.highest, terms.peer_id)

    #: Each is the other's word for the same; which side may say it when is up to the state.
    accept = greet

    def refuse(self, reason: str, message: str) -> None:
        self._require("ASKED")
        self.state = "CLOSED"
        self._say(REFUSE, reason, message)

    def announce(self, services: Sequence[Any]) -> None:
        self._require("OPEN")
        self._say(ANNOUNCE, [{"name": service.name, "version": service.version} for service in services])

    def leave(self, reason: str, message: str) -> None:
        self._require("OPEN")
        self.leaving = True
        self._say(GOAWAY, self.last_remote, reason, message)

    def ping(self, now: float, delay: float) -> int:
        self._require("OPEN")
        self.delay = round(delay * 1e6)
        token, self.next_token = self.next_token, self.next_token + 1
        self.tokens.append(token)
        self._say(PING, token, self.delay)
        return token

    def terminate(self) -> None:
        self.state = "CLOSED"
        self.channels.clear()
        self.unread.clear()
        self.notified.clear()

    # -- channels ----------------------------------------------------------------------------------------

    def _check_message(
        self, payload: bytes | None, attachments: Sequence[bytes], *balances: int
    ) -> set[type[Exception]]:
        limits = self.their_limits
        problems: set[type[Exception]] = set()
        if payload is not None:
            if len(attachments) > limits["max_attachments"]:
                problems.add(ResourceExhausted)
            if cost_of(payload, attachments, 0) > limits["max_message"]:
                problems.add(MessageTooLarge)
            if any(balance <= 0 for balance in (self.may_send, *balances)):
                problems.add(LocalProtocolError)
        elif attachments:
            problems.add(LocalProtocolError)
        return problems

    def open(
        self,
        target: str | int | None,
        *,
        payload: bytes | None,
        attachments: Sequence[bytes],
        flags: int,
        timeout: float | None,
        metadata: Mapping[str, str | bytes] | None,
        window: int | None,
        parent: int | None,
        codec: str | None,
    ) -> int:
        self._require("OPEN")
        remote, notify = self.remote, bool(flags & NOTIFY)
        assert remote is not None
        problems = self._check_message(payload, attachments)
        if not self.may_begin(parent) or (notify and (payload is None or not flags & END)):
            problems.add(LocalProtocolError)
        if not notify and self.opened(here=True) >= remote.limits["max_channels"]:
            problems.add(ResourceExhausted)
        if codec is not None and codec not in remote.codecs:
            problems.add(InvalidArgument)
        if size_of_metadata(metadata) > remote.limits["max_metadata"]:
            problems.add(ResourceExhausted)
        if problems:
            raise Refused(problems)
        number, self.next_channel = self.next_channel, self.next_channel + 2
        cost = cost_of(payload, attachments, 4096 if notify else 64)
        self.may_send -= cost
        if not notify:
            self.channels[number] = Channel(
                mine=True,
                may_send=remote.limits["channel_window"] - cost,
                account=Account(self.terms.limits["channel_window"] if window is None else window),
                nested=parent is not None,
                local_ended=bool(flags & END),
            )
        milliseconds = None if timeout is None else max(1, math.ceil(timeout * 1000 - 1e-6))
        rest = (milliseconds, metadata or None, window, parent, codec)
        self._say(OPEN, number, target, flags, payload, len(attachments), *rest, attachments=attachments)
        return number

    def _sending(self, number: int) -> Channel:
        channel = self.channels.get(number)
        if channel is None or channel.cancelled or channel.local_ended:
            raise Refused({LocalProtocolError})
        return channel

    def send(self, number: int, payload: bytes, attachments: Sequence[bytes], flags: int) -> None:
        channel = self._sending(number)
        problems = self._check_message(payload, attachments, channel.may_send)
        if problems:
            raise Refused(problems)
        cost = cost_of(payload, attachments)
        self.may_send -= cost
        channel.may_send -= cost
        if flags & END:
            channel.local_ended = True
        self._say(DATA, number, payload, flags, len(attachments), attachments=attachments)

    def end(self, number: int) -> None:
        self._sending(number).local_ended = True
        self._say(ENDED, number)

    def close(
        self,
        number: int,
        status: int,
        *,
        payload: bytes | None,
        attachments: Sequence[bytes],
        message: str,
        details: bytes | None,
        trailers: Mapping[str, str | bytes] | None,
    ) -> None:
        channel = self.channels.get(number)
        if channel is None or channel.mine:
            raise Refused({LocalProtocolError})
        problems = self._check_message(payload, attachments, channel.may_send)
        limits = self.their_limits
        if len(details or b"") + cost_of(payload, attachments, 0) > limits["max_message"]:
            problems.add(MessageTooLarge)
        if size_of_metadata(trailers) > limits["max_metadata"]:
            problems.add(ResourceExhausted)
        if problems:
            raise Refused(problems)
        self.may_send -= cost_of(payload, attachments)
        self._forget(number)
        rest = (len(attachments), message, details, trailers or None)
        self._say(CLOSE, number, status, payload, *rest, attachments=attachments)

    def cancel(self, number: int, reason: str) -> None:
        channel = self.channels.get(number)
        if channel is None:
            if number % 2 != self.connecting or number >= self.next_channel:
                raise Refused({LocalProtocolError})
            self._consume_on_link(self.unread.pop(number, 0))
        elif not channel.mine:
            raise Refused({LocalProtocolError})
        elif not channel.cancelled:
            channel.cancelled = True
            self._give_up(channel)
            self._say(CANCEL, number, reason)

    def consumed(self, number: int, cost: int) -> None:
        if self.state != "OPEN":
            return
        channel = self.channels.get(number)
        if channel is None:
            # What is left of it is all that can still be taken.
            cost = min(cost, self.unread.get(number, 0))
            if cost:
                self.unread[number] -= cost
                if not self.unread[number]:
                    del self.unread[number]
                self._consume_on_link(cost)
        elif channel.account.held >= cost > 0:
            grant = channel.account.consume(cost)
            if grant and not channel.remote_ended and not channel.cancelled:
                self._say(CREDIT, number, grant)
            self._consume_on_link(cost)

    def finish(self, number: int) -> None:
        self._consume_on_link(self.notified.pop(number, 0))

    def _consume_on_link(self, cost: int) -> None:
        if cost:
            self._grant_link(self.account.consume(cost))

    def batch_ended(self) -> None:
        """All commands of a batch were received: what came may have made of what was consumed enough to give."""
        if self.state == "OPEN" and self.account.balance < self.account.half:
            self._grant_link(self.account.grant())

    def _grant_link(self, grant: int) -> None:
        if grant:
            self._say(CREDIT, 0, grant)

    def _give_up(self, channel: Channel) -> None:
        held, channel.account.held = channel.account.held, 0
        self._consume_on_link(held)

    def _forget(self, number: int) -> Channel:
        channel = self.channels.pop(number)
        self._give_up(channel)
        return channel

    # -- what comes --------------------------------------------------------------------------------------

    def receive(self, command: list[Any], attachments: tuple[bytes, ...], other: Terms) -> list[Any]:
        """Take one command; ``other`` are the terms of whoever sent it. Returns the events."""
        op = command[0]
        if self.state == "CLOSED":
            self.dropped += 1
            return []
        if op in (0, REFUSE):
            if self.state != ("GREETED" if self.connecting else "IDLE") or (op and not self.connecting):
                raise Dishonest(f"{command} in {self.state}")
            if op:
                self.state = "CLOSED"
                return [("refused", command[1])]
            return self._on_hello(other)
        if self.state != "OPEN":
            raise Dishonest(f"{command} in {self.state}")
        arguments = [*command[1:], attachments] if op in (OPEN, DATA, CLOSE) else command[1:]
        return list(getattr(self, f"_on_{op}")(*arguments))

    def _on_hello(self, other: Terms) -> list[Any]:
        if other.protocol != "DMTP":
            self.state = "CLOSED"
            self._say(*([GOAWAY, 0] if self.connecting else [REFUSE]), "protocol", ANYTHING)
            raise Broken
        reason = ""
        if other.highest < self.terms.lowest or other.lowest > self.terms.highest:
            reason = "version"
        elif not set(other.codecs) & set(self.terms.codecs):
            reason = "codec"
        if reason:
            self.state = "CLOSED"
            self._say(*([GOAWAY, 0, "protocol"] if self.connecting else [REFUSE, reason]), ANYTHING)
            return [("refused", reason)]
        self.remote = other
        self.may_send = other.limits["link_window"]
        self.state = "OPEN" if self.connecting else "ASKED"
        return [("greeted", other.peer_id)]

    def _on_2(self, services: list[Any]) -> list[Any]:
        return [("services", services)]

    def _on_3(self, token: int, delay: int) -> list[Any]:
        self._say(PONG, token, self.delay)
        return [("ping", delay)]

    def _on_4(self, token: int, delay: int) -> list[Any]:
        self.tokens.remove(token)
        return [("pong", delay)]

    def _on_5(self, last: int, reason: str, message: str) -> list[Any]:
        self.remote_leaving = True
        if reason == "protocol":
            self.terminate()
            return [("goaway", reason, message)]
        events: list[Any] = [("goaway", reason, message)]
        for number, channel in list(self.channels.items()):
            if channel.mine and number > last and not channel.nested:
                self._forget(number)
                if not channel.cancelled:
                    events.append(("close", number, UNAVAILABLE, None, (), ANYTHING, None, {}, False))
        return events

    def _on_6(self, number: int, amount: int) -> list[Any]:
        if number == 0:
            self.may_send += amount
        elif self._known(number):
            self.channels[number].may_send += amount
        else:
            return []
        return [("credit", number)]

    def _on_7(
        self,
        number: int,
        target: str | int | None,
        flags: int,
        payload: bytes | None,
        count: int,
        timeout: int | None,
        metadata: Mapping[str, str | bytes] | None,
        window: int | None,
        parent: int | None,
        codec: str | None,
        attachments: tuple[bytes, ...],
    ) -> list[Any]:
        if number % 2 == self.connecting or number <= self.last_remote:
            raise Dishonest(f"OPEN of {number}")
        self.last_remote = number
        notify = bool(flags & NOTIFY)
        cost = cost_of(payload, attachments, 4096 if notify else 64)
        self.account.receive(cost)
        if not notify and self.opened(here=False) >= self.terms.limits["max_channels"]:
            raise Dishonest("too many channels")
        if self.leaving and parent not in self.channels:
            self._consume_on_link(cost)
            if notify:
                self.dropped += 1
            else:
                # 47 bytes are what it counts for that the call never began.
                told = [None, {"duplex-refused": "1"}] if self.their_limits["max_metadata"] >= 47 else []
                self._say(CLOSE, number, UNAVAILABLE, None, 0, ANYTHING, *told)
            return []
        if notify:
            self.notified[number] = cost
        else:
            channel = self.channels[number] = Channel(
                mine=False,
                may_send=self.their_limits["channel_window"] if window is None else window,
                account=Account(self.terms.limits["channel_window"]),
                remote_ended=bool(flags & END),
            )
            channel.account.receive(cost)
        seconds = None if timeout is None else timeout / 1000
        rest = (seconds, metadata or {}, parent, codec or "msgpack")
        return [("open", number, target, flags, payload, attachments, cost, *rest)]

    def _known(self, number: int) -> bool:
        """Whether a channel is not over; what came for one that is over is counted."""
        if number in self.channels:
            return True
        highest = self.next_channel - 2 if number % 2 == self.connecting else self.last_remote
        if number > highest:
            raise Dishonest(f"channel {number} never began")
        self.dropped += 1
        return False

    def _taken(self, number: int) -> Channel | None:
        """Return the channel of DATA or END; ``None``, and counted, if it is too late for it."""
        if not self._known(number):
            return None
        channel = self.channels[number]
        if channel.cancelled:
            self.dropped += 1
            return None
        if channel.remote_ended:
            raise Dishonest(f"more on channel {number} after its end")
        return channel

    def _on_8(
        self, number: int, payload: bytes, flags: int, count: int, attachments: tuple[bytes, ...]
    ) -> list[Any]:
        cost = cost_of(payload, attachments)
        self.account.receive(cost)
        channel = self._taken(number)
        if channel is None:
            self._consume_on_link(cost)
            return []
        channel.account.receive(cost)
        events: list[Any] = [("message", number, payload, attachments, cost, bool(flags & RESULT))]
        if flags & END:
            channel.remote_ended = True
            events.append(("end", number))
        return events

    def _on_9(self, number: int) -> list[Any]:
        channel = self._taken(number)
        if channel is None:
            return []
        channel.remote_ended = True
        return [("end", number)]

    def _on_10(
        self,
        number: int,
        status: int,
        payload: bytes | None,
        count: int,
        message: str,
        details: bytes | None,
        trailers: Mapping[str, str | bytes] | None,
        attachments: tuple[bytes, ...],
    ) -> list[Any]:
        cost = cost_of(payload, attachments)
        self.account.receive(cost)
        self._consume_on_link(cost)
        if not self._known(number):
            return []
        channel = self.channels.pop(number)
        if not channel.mine:
            raise Dishonest("CLOSE by the opener")
        if cost and channel.account.balance <= 0:
            raise Dishonest("a last message that nobody was granted")
        if channel.account.held:
            self.unread[number] = channel.account.held
        if channel.cancelled:
            return []
        return [("close", number, status, payload, attachments, message, details, trailers or {}, True)]

    def _on_11(self, number: int, reason: str) -> list[Any]:
        if not self._known(number):
            return []
        channel = self.channels[number]
        if channel.mine or channel.cancelled:
            raise Dishonest("CANCEL by the responder, or twice")
        channel.cancelled = True
        self._give_up(channel)
        return [("cancel", number, reason, False)]
