"""What the rules allow an implementation to send, after all that was exchanged: the tool is a strict receiver.

One ledger for each connection keeps accounts of its own: of credit both ways, of the numbers and ends of channels, of
the limits that the tool advertised. Whatever a scenario is about, what comes has to fit them. What the tool itself
sends is only noted, because scenarios break rules on purpose.

Some rules depend on what the implementation had received when it sent. They count only from when it is sure to have:
what it sends in ignorance is no fault.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from duplex.conformance._commands import (
    LIMITS,
    NOTIFY,
    NOTIFY_OVERHEAD,
    NUMBERS,
    OVERHEAD,
    shown,
)

#: Bits of ``flags``; ``END`` is the same in ``OPEN`` and in ``DATA``.
_END: Final = 1
_ALL_OF_OPEN: Final = 7
_ALL_OF_DATA: Final = 3

#: What frame 0 may have beside the largest message and the largest metadata.
_FRAME_ROOM: Final = 1048576
_MAX_BALANCE: Final = 2**53 - 1

_KEY: Final = re.compile(r"[a-z0-9._-]+", re.ASCII)

#: After these the sender has nothing more to say.
_LAST_WORDS: Final = ("closing", "protocol")


class BrokenRuleError(Exception):
    """What came breaks a rule; the message says which, by its number in dmtp.md, section 11, if it has one."""


@dataclasses.dataclass
class _Channel:
    """A channel that has begun, over or not."""

    #: The tool opened it.
    ours: bool
    #: What the implementation may send, and how much of it may be given at most.
    incoming: int
    #: What the tool may send, and the most that this may be; nothing before ``HELLO`` has come.
    outgoing: int
    window: int
    #: The implementation said that it sends nothing more in its direction, or on the channel at all.
    ended: bool = False
    finished: bool = False
    #: The tool has closed it.
    closed: bool = False


class Ledger:
    """The accounts of one connection.

    Args:
        own_first: the first number of the tool's channels, 1 or 2.
    """

    def __init__(self, own_first: int) -> None:
        self._own_parity = own_first % 2
        #: What the tool advertised, and what the implementation did.
        self._limits = dict(LIMITS)
        self._codecs: Sequence[str] = ("msgpack",)
        self._remote: Mapping[str, int] | None = None
        self._incoming = 0
        self._outgoing = 0
        self._channels: dict[int, _Channel] = {}
        #: The highest number of either side's channels, by parity.
        self._highest = [0, 0]
        #: Tokens of pings that have no answer, and whether they were sent after ``GOAWAY``.
        self._pings: list[tuple[int, bool]] = []
        self._left = False
        #: The implementation has seen that the tool leaves.
        self._is_told = False
        self._refused = False
        self._last_channel = 0
        #: Either side has said its last word.
        self._over = False

    def balance(self, number: int) -> int | None:
        """What the tool may send on one of its channels, or on the link, which is 0. ``None`` before the handshake, and if there
        is no such channel."""
        if self._remote is None:
            return None
        if not number:
            return self._outgoing
        channel = self._channels.get(number)
        return channel.outgoing if channel is not None and channel.ours else None

    # -- what the tool sends -------------------------------------------------------------------------------

    def sent(self, commands: Sequence[Any], attachments: Sequence[bytes] = ()) -> None:
        """Note what the tool sends, well-formed or not."""
        left = list(attachments)
        for command in commands:
            match command:
                case [0, str(), int(), int(), str(), *rest]:
                    self._note_own_hello(rest)
                case [3, int(token), *_]:
                    self._pings.append((token, self._left))
                case [5, int(), str(reason), *_]:
                    self._left = True
                    self._over |= reason in _LAST_WORDS
                case [6, int(number), int(amount), *_]:
                    self._give(number, amount)
                case [7, int(number), _, *rest]:
                    self._note_open(number, rest, left)
                case [8, int(number), bytes(payload), *rest]:
                    self._pay(number, len(payload) + OVERHEAD + _take(left, rest, 1))
                case [10, int(number), *rest]:
                    cost = _take(left, rest, 2)
                    if len(rest) > 1 and isinstance(rest[1], bytes):
                        self._pay(0, cost + len(rest[1]) + OVERHEAD)
                    if number in self._channels and not self._channels[number].ours:
                        self._channels[number].closed = True

    def _note_own_hello(self, rest: Sequence[Any]) -> None:
        if len(rest) > 1 and isinstance(rest[1], list):
            self._codecs = rest[1]
        if len(rest) > 3 and isinstance(rest[3], dict):
            self._limits.update({name: value for name, value in rest[3].items() if isinstance(value, int)})
        self._incoming = self._limits["link_window"]

    def _give(self, number: int, amount: int) -> None:
        if number == 0:
            self._incoming += amount
        elif number in self._channels:
            self._channels[number].incoming += amount

    def _note_open(self, number: int, rest: Sequence[Any], left: list[bytes]) -> None:
        flags, payload = [*rest, *[0, None][len(rest) :]][:2]
        notify = isinstance(flags, int) and flags & NOTIFY
        cost = _take(left, rest, 2)
        if isinstance(payload, bytes):
            cost += len(payload) + (NOTIFY_OVERHEAD if notify else OVERHEAD)
            self._pay(0, cost)
        parity = number % 2
        if parity != self._own_parity or number <= self._highest[parity]:
            return
        self._highest[parity] = number
        if notify:
            return
        granted = rest[5] if len(rest) > 5 and isinstance(rest[5], int) else self._limits["channel_window"]
        window = 0 if self._remote is None else self._remote["channel_window"]
        self._channels[number] = _Channel(True, granted, window - cost, window)

    def _pay(self, number: int, cost: int) -> None:
        self._outgoing -= cost
        if number in self._channels:
            self._channels[number].outgoing -= cost

    # -- what comes ----------------------------------------------------------------------------------------

    def check_batch(self, frame: bytes, commands: Sequence[Any]) -> None:
        """Check a batch as a whole.

        Raises:
            BrokenRuleError: it is larger than the tool takes.
        """
        most = self._limits["max_message"] + self._limits["max_metadata"] + _FRAME_ROOM
        _rule(len(frame) <= most, f"V2: frame 0 has {len(frame)} bytes, and at most {most} are taken")
        most = self._limits["max_commands"]
        _rule(len(commands) <= most, f"V4: a batch of {len(commands)} commands, and max_commands is {most}")

    def came(self, command: Sequence[Any], attachments: Sequence[bytes]) -> None:
        """Check a command, with all its fields and its name first, and note it.

        Raises:
            BrokenRuleError: the implementation must not have sent it.
        """
        name = command[0]
        if name == "REFUSE":
            # Of a link that is over, a transport may say so once more.
            _rule(self._remote is None or self._over, f"V8: {shown(command)} on an open link")
            self._over = True
            return
        if name == "HELLO":
            self._note_hello(command)
            return
        _rule(self._remote is not None, f"V8: {shown(command)} before HELLO")
        _CHECKS.get(name, _nothing)(self, command, attachments)

    def _note_hello(self, command: Sequence[Any]) -> None:
        _rule(self._remote is None, "V8: a second HELLO")
        self._remote = {**LIMITS, **{key: value for key, value in command[8].items() if key in LIMITS}}
        self._outgoing += self._remote["link_window"]
        for channel in self._channels.values():
            channel.window = self._remote["channel_window"]
            channel.outgoing += channel.window

    def _pong(self, command: Sequence[Any], _attachments: Sequence[bytes]) -> None:
        found = next((ping for ping in self._pings if ping[0] == command[1]), None)
        _rule(found is not None, f"{shown(command)} without a PING of this token")
        assert found is not None
        self._pings.remove(found)
        self._is_told |= found[1]

    def _goaway(self, command: Sequence[Any], _attachments: Sequence[bytes]) -> None:
        last, reason = command[1:3]
        highest = self._highest[self._own_parity]
        _rule(last <= highest, f"{shown(command)}, and the highest channel is {highest}")
        _rule(last >= self._last_channel, f"{shown(command)} after one with {self._last_channel}")
        self._last_channel = last
        self._over |= reason in _LAST_WORDS

    def _credit(self, command: Sequence[Any], _attachments: Sequence[bytes]) -> None:
        number, amount = command[1:3]
        assert self._remote is not None
        if number == 0:
            self._outgoing += amount
            balance, window = self._outgoing, self._remote["link_window"]
        else:
            channel = self._begun(command)
            channel.outgoing += amount
            balance, window = channel.outgoing, channel.window
        _rule(balance <= _MAX_BALANCE, f"V14: {shown(command)} makes the balance {balance}")
        _rule(balance <= window, f"{shown(command)} gives back more than was sent: {balance} of {window}")

    def _open(self, command: Sequence[Any], attachments: Sequence[bytes]) -> None:
        number, _, flags, payload, _, timeout, metadata, window, parent, codec = command[1:11]
        what = shown(command)
        _rule(number % 2 != self._own_parity, f"V10: {what} has a number of the other side's")
        highest = self._highest[number % 2]
        _rule(number > highest, f"V11: {what} after channel {highest}")
        _rule(flags <= _ALL_OF_OPEN, f"V12: {what} has unknown flags")
        notify = bool(flags & NOTIFY)
        if notify:
            _rule(flags & _END and payload is not None, f"V12: {what} is NOTIFY without END or a message")
        self._highest[number % 2] = number
        running = sum(not channel.ours and not channel.closed for channel in self._channels.values())
        most = self._limits["max_channels"]
        _rule(notify or running < most, f"V24: {what}, and {running} channels of at most {most} are open")
        if self._is_told:
            _rule(parent is not None, f"V25: {what} after GOAWAY, and it belongs to no channel")
        _rule(timeout != 0, f"{what} leaves no time for the call, and a timeout is at least 1")
        _rule(codec is None or codec in self._codecs, f"V26: {what} has a codec that is not in HELLO")
        self._check_metadata(metadata, what)
        cost = self._charge(payload, attachments, what, NOTIFY_OVERHEAD if notify else OVERHEAD)
        assert self._remote is not None
        if not notify:
            granted = self._remote["channel_window"] if window is None else window
            left = self._limits["channel_window"] - cost
            self._channels[number] = _Channel(False, left, granted, granted, ended=bool(flags & _END))

    def _data(self, command: Sequence[Any], attachments: Sequence[bytes]) -> None:
        payload, flags = command[2:4]
        what = shown(command)
        channel = self._speaking(command)
        _rule(flags <= _ALL_OF_DATA, f"V12: {what} has unknown flags")
        before = channel.incoming
        channel.incoming -= self._charge(payload, attachments, what)
        _rule(before > 0, f"V19: {what} while the channel's balance is {before}")
        channel.ended = bool(flags & _END)

    def _end(self, command: Sequence[Any], _attachments: Sequence[bytes]) -> None:
        self._speaking(command).ended = True

    def _close(self, command: Sequence[Any], attachments: Sequence[bytes]) -> None:
        _, _, payload, _, _, details, trailers = command[1:8]
        what = shown(command)
        channel = self._begun(command)
        _rule(channel.ours, f"V18: {what} from the opener")
        _rule(not channel.finished, f"V18: {what}, and CLOSE came before")
        before = channel.incoming
        channel.incoming -= self._charge(payload, attachments, what, details=details)
        _rule(payload is None or before > 0, f"V19: {what} while the channel's balance is {before}")
        self._check_metadata(trailers, what)
        channel.finished = True

    def _cancel(self, command: Sequence[Any], _attachments: Sequence[bytes]) -> None:
        channel = self._begun(command)
        _rule(not channel.ours, f"V18: {shown(command)} from the responder")
        _rule(not channel.finished, f"V18: {shown(command)}, and CANCEL came before")
        channel.finished = True

    def _begun(self, command: Sequence[Any]) -> _Channel:
        number = command[1]
        # Of those that are over without a record, notifications, nothing may come but what was on the way.
        _rule(number <= self._highest[number % 2], f"V13: {shown(command)}, and that channel never began")
        found = self._channels.get(number)
        _rule(found is not None, f"V27: {shown(command)}, and that channel was over from the beginning")
        assert found is not None
        return found

    def _speaking(self, command: Sequence[Any]) -> _Channel:
        channel = self._begun(command)
        end = "CLOSE" if channel.ours else "CANCEL"
        _rule(not channel.finished, f"V18: {shown(command)} after {end}")
        _rule(not channel.ended, f"V18: {shown(command)} after END")
        return channel

    def _charge(
        self,
        payload: bytes | None,
        attachments: Sequence[bytes],
        what: str,
        overhead: int = OVERHEAD,
        details: bytes | None = None,
    ) -> int:
        """Take a message from the link's account, and return its cost; 0 if there is none."""
        size = len(payload or b"") + sum(map(len, attachments))
        most = self._limits["max_message"]
        full = size + len(details or b"")
        _rule(full <= most, f"V20: {what} has {full} bytes, and max_message is {most}")
        if payload is None:
            _rule(not attachments, f"V7: {what} has attachments and no message")
            return 0
        most = self._limits["max_attachments"]
        _rule(len(attachments) <= most, f"V21: {what}, and max_attachments is {most}")
        before = self._incoming
        self._incoming -= size + overhead
        _rule(before > 0, f"V15: {what} while the link's balance is {before}")
        return size + overhead

    def _check_metadata(self, metadata: Mapping[Any, Any] | None, what: str) -> None:
        size = 0
        for key, value in (metadata or {}).items():
            _rule(_KEY.fullmatch(key), f"V23: {what} has the key {key!r}")
            _rule(isinstance(value, (str, bytes)), f"V23: {what} has {value!r} as the value of {key!r}")
            size += len(key) + len(value.encode() if isinstance(value, str) else value) + 32
        most = self._limits["max_metadata"]
        _rule(size <= most, f"V22: {what} has metadata of {size} bytes, and max_metadata is {most}")


def _nothing(_ledger: Ledger, _command: Sequence[Any], _attachments: Sequence[bytes]) -> None:
    """PING and ANNOUNCE, which are well-formed or not, and no more."""


_CHECKS: Final = {
    "PONG": Ledger._pong,
    "GOAWAY": Ledger._goaway,
    "CREDIT": Ledger._credit,
    "OPEN": Ledger._open,
    "DATA": Ledger._data,
    "END": Ledger._end,
    "CLOSE": Ledger._close,
    "CANCEL": Ledger._cancel,
}
assert _CHECKS.keys() <= NUMBERS.keys()


def _rule(kept: object, otherwise: str) -> None:
    if not kept:
        raise BrokenRuleError(otherwise)


def _take(left: list[bytes], rest: Sequence[Any], place: int) -> int:
    """Take the attachments that a command of the tool's asks for, and return their bytes."""
    asked = rest[place] if len(rest) > place and isinstance(rest[place], int) else 0
    taken, left[:] = left[: max(0, asked)], left[max(0, asked) :]
    return sum(map(len, taken))
