"""Implementations that break one rule each: our own peer, and between it and the tool something that lies.

A mutant sees the commands in both directions, as decoded msgpack, and changes, drops or adds some. Frames
that are no batch pass as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgpack

from duplex.conformance._commands import COMMANDS
from duplex.conformance._values import pack
from duplex.conformance._wire import Sockets, Wire

HELLO, REFUSE, ANNOUNCE, PING, PONG, GOAWAY, CREDIT, OPEN, DATA, END, CLOSE, CANCEL = range(12)

Commands = list[Any]


class Mutant:
    """One connection of a mutant. The defaults change nothing."""

    def __init__(self) -> None:
        #: Batches that the mutant itself says to the tool, before anything else.
        self.said: list[Commands] = []
        #: Nothing of the peer's is passed on any more.
        self.dead = False

    def to_peer(self, commands: Commands) -> Commands:
        """Return what reaches the implementation of what the tool sent."""
        return [self.command_to_peer(command) for command in commands]

    def command_to_peer(self, command: Any) -> Any:
        """Return what one command becomes."""
        return command

    def from_peer(self, commands: Commands) -> Commands:
        """Return what reaches the tool of what the implementation sent."""
        return [self.command_from_peer(command) for command in commands]

    def command_from_peer(self, command: Any) -> Any:
        """Return what one command becomes."""
        return command

    def attachments(self, _commands: Commands, attachments: Sequence[bytes]) -> Sequence[bytes]:
        """Return the attachments that reach the implementation."""
        return attachments

    def frame(self, _frame: bytes) -> None:
        """See frame 0 as the tool sent it."""

    def break_link(self) -> None:
        """End the link as after a violation."""
        if self.dead:
            return
        self.dead = True
        self.said.append([[GOAWAY, 0, "protocol", "a mutant"]])


def is_a(command: Any, *numbers: int) -> bool:
    """Whether something is a command of one of these kinds."""
    return (
        isinstance(command, list)
        and bool(command)
        and not isinstance(command[0], bool)
        and command[0] in numbers
    )


def with_field(command: Any, index: int, value: Any) -> Any:
    """Return a command with another value in a field that it has; fields that it lacks stay missing."""
    return [*command[:index], value, *command[index + 1 :]] if len(command) > index else command


def without_limits(command: Any, *names: str) -> Any:
    """Return a HELLO without some limits, so that the defaults apply; other commands as they are."""
    if not (is_a(command, HELLO) and len(command) > 8 and isinstance(command[8], dict)):
        return command
    return with_field(command, 8, {key: value for key, value in command[8].items() if key not in names})


def cost_of(command: Any) -> int:
    """Return the credit that a command's message costs, attachments left out; 0 without a message."""
    place = {OPEN: 4, DATA: 2, CLOSE: 3}.get(command[0]) if is_a(command, OPEN, DATA, CLOSE) else None
    if place is None or len(command) <= place or not isinstance(command[place], bytes):
        return 0
    return len(command[place]) + (4096 if command[0] == OPEN and command[3] & 4 else 64)


class MutantWire(Wire):
    """A connection with a mutant in it."""

    def __init__(self, wire: Wire, mutant: Mutant) -> None:
        self._wire = wire
        self._mutant = mutant

    @property
    def endpoint(self) -> str:
        return self._wire.endpoint

    def send(self, frames: Sequence[bytes]) -> bool:
        mutant = self._mutant
        mutant.frame(frames[0])
        commands = decoded(frames[0])
        changed = None if commands is None else mutant.to_peer(commands)
        if mutant.dead:
            return True
        if commands is None or changed is None:
            return self._wire.send(frames)
        # What is not changed goes as it came, in its own encoding.
        first = frames[0] if changed == commands else pack(changed)
        return self._wire.send([first, *mutant.attachments(commands, frames[1:])])

    async def receive(self) -> list[bytes]:
        mutant = self._mutant
        while not mutant.said:
            frames = await self._wire.receive()
            commands = decoded(frames[0])
            if mutant.dead or commands is None:
                continue
            return [pack(mutant.from_peer(commands)), *frames[1:]]
        return [pack(mutant.said.pop(0))]

    def close(self) -> None:
        self._wire.close()


class MutantSockets(Sockets):
    """Sockets whose connections have a mutant of some kind in them."""

    kind: type[Mutant] = Mutant

    def connect(self, endpoint: str) -> Wire:
        return MutantWire(super().connect(endpoint), self.kind())


def decoded(frame: bytes) -> Commands | None:
    """The commands of a batch, or nothing if it is none."""
    try:
        commands = msgpack.unpackb(frame, strict_map_key=False)
    except (msgpack.UnpackException, ValueError):
        return None
    return commands if isinstance(commands, list) else None


# -- the mutants -----------------------------------------------------------------------------------------


class NoPong(Mutant):
    """Never answers PING."""

    def from_peer(self, commands: Commands) -> Commands:
        return [command for command in commands if not is_a(command, PONG)]


class NoCredit(Mutant):
    """Gives no credit back."""

    def from_peer(self, commands: Commands) -> Commands:
        return [command for command in commands if not is_a(command, CREDIT)]


class EarlyCredit(Mutant):
    """Gives a little credit for every message."""

    def to_peer(self, commands: Commands) -> Commands:
        self.said += [
            [[CREDIT, command[1], 1]] for command in commands if is_a(command, DATA) and command[1] == 1
        ]
        return commands


class DeafToEnd(Mutant):
    """Overlooks END."""

    def to_peer(self, commands: Commands) -> Commands:
        return [command for command in commands if not is_a(command, END)]


class DeafToCancel(Mutant):
    """Overlooks CANCEL."""

    def to_peer(self, commands: Commands) -> Commands:
        return [command for command in commands if not is_a(command, CANCEL)]


class ClosesTwice(Mutant):
    """Sends CLOSE twice for what was cancelled."""

    def from_peer(self, commands: Commands) -> Commands:
        twice = [2 if is_a(command, CLOSE) and command[2:3] == [1] else 1 for command in commands]
        return [item for command, times in zip(commands, twice, strict=True) for item in [command] * times]


class NoParity(Mutant):
    """Does not mind whose number OPEN has: overlooks those of its own."""

    def to_peer(self, commands: Commands) -> Commands:
        return [item for item in commands if not (is_a(item, OPEN) and len(item) > 1 and item[1] == 2)]


class LosesAttachments(Mutant):
    """Does not mind attachments that no command takes."""

    def attachments(self, commands: Commands, attachments: Sequence[bytes]) -> Sequence[bytes]:
        if commands == [[PING, 1]]:
            return ()
        return attachments


class NothingLater(Mutant):
    """Takes fields of later versions for a violation."""

    def to_peer(self, commands: Commands) -> Commands:
        for command in commands:
            if is_a(command, *range(12)) and len(command) - 1 > len(COMMANDS[command[0]][1]):
                self.break_link()
        return commands


class ShortestOnly(Mutant):
    """Takes msgpack only in the shortest encoding."""

    def frame(self, frame: bytes) -> None:
        commands = decoded(frame)
        if commands is not None and pack(commands) != frame:
            self.break_link()


class AnswersNotifications(Mutant):
    """Sends CLOSE for notifications."""

    def to_peer(self, commands: Commands) -> Commands:
        for command in commands:
            if is_a(command, OPEN) and len(command) > 4 and command[3] == 5 and command[4] is not None:
                self.said.append([[CLOSE, command[1]]])
        return commands


class NoWindow(Mutant):
    """Sends whatever the windows are."""

    def command_to_peer(self, command: Any) -> Any:
        if is_a(command, OPEN):
            return with_field(command, 8, 2**40)
        if is_a(command, HELLO) and len(command) > 8 and "channel_window" in command[8]:
            limits = {key: 2**40 if key.endswith("window") else value for key, value in command[8].items()}
            return with_field(command, 8, limits)
        return command


class NoLimits(Mutant):
    """Overlooks what the other side takes in a message, in metadata and in channels."""

    def command_to_peer(self, command: Any) -> Any:
        if is_a(command, HELLO) and len(command) > 8:
            kept = {key: value for key, value in command[8].items() if key.endswith(("window", "commands"))}
            return with_field(command, 8, kept) if command[8].get("max_message", 2048) >= 1024 else command
        return command


class BatchesOfAnySize(Mutant):
    """Does not count the commands of a batch."""

    def to_peer(self, commands: Commands) -> Commands:
        return commands[:64]


class NeverBegan(Mutant):
    """Drops commands for channels that never began."""

    def __init__(self) -> None:
        super().__init__()
        self._highest = [0, 0]

    def to_peer(self, commands: Commands) -> Commands:
        kept = []
        for command in commands:
            number = command[1] if isinstance(command, list) and len(command) > 1 else None
            if not isinstance(number, int):
                kept.append(command)
                continue
            if is_a(command, OPEN):
                self._note(number)
            known = number <= self._highest[number % 2] or number == 0
            if known or not is_a(command, CREDIT, DATA, END, CLOSE, CANCEL):
                kept.append(command)
        return kept

    def from_peer(self, commands: Commands) -> Commands:
        for command in commands:
            if is_a(command, OPEN):
                self._note(command[1])
        return commands

    def _note(self, channel: int) -> None:
        self._highest[channel % 2] = max(self._highest[channel % 2], channel)


class AnyCodec(Mutant):
    """Takes every codec for msgpack."""

    def command_to_peer(self, command: Any) -> Any:
        if is_a(command, OPEN) and len(command) > 10 and command[10] == "unheard-of":
            return with_field(command, 10, None)
        return command


class NoMetadata(Mutant):
    """Loses metadata."""

    def command_to_peer(self, command: Any) -> Any:
        return with_field(command, 7, None) if is_a(command, OPEN) and len(command) > 7 else command


class NoTrailers(Mutant):
    """Loses trailers."""

    def command_from_peer(self, command: Any) -> Any:
        return with_field(command, 7, None) if is_a(command, CLOSE) else command


class NoDeadline(Mutant):
    """Keeps no deadline."""

    def command_to_peer(self, command: Any) -> Any:
        return with_field(command, 6, None) if is_a(command, OPEN) else command


class NoParent(Mutant):
    """Does not say which call a channel belongs to."""

    def command_from_peer(self, command: Any) -> Any:
        return with_field(command, 9, None) if is_a(command, OPEN) else command


class NotFoundForUnimplemented(Mutant):
    """Has another status for methods that are not there."""

    def command_from_peer(self, command: Any) -> Any:
        return with_field(command, 2, 5) if is_a(command, CLOSE) and command[2:3] == [12] else command


class UnknownReasonsClose(Mutant):
    """Takes reasons of GOAWAY that it does not know for closing."""

    def command_to_peer(self, command: Any) -> Any:
        if is_a(command, GOAWAY) and command[2:3] not in (["draining"], ["closing"], ["protocol"]):
            return with_field(command, 2, "closing")
        return command


class GoawayFromBothSides(Mutant):
    """Opens nothing after GOAWAY, and takes nothing either: the rule before only the receiver was bound."""

    def __init__(self) -> None:
        super().__init__()
        self._leaving = False

    def to_peer(self, commands: Commands) -> Commands:
        kept = []
        for command in commands:
            self._leaving |= is_a(command, GOAWAY)
            if self._leaving and is_a(command, OPEN):
                self.said.append([[CLOSE, command[1], 14]])
            else:
                kept.append(command)
        return kept


class NoResultFlag(Mutant):
    """Forgets the flag RESULT."""

    def command_from_peer(self, command: Any) -> Any:
        return with_field(command, 3, command[3] & 1) if is_a(command, DATA) and len(command) > 3 else command


class Talkative(Mutant):
    """Sends the text of failures that nobody meant, and no incident."""

    def command_from_peer(self, command: Any) -> Any:
        if is_a(command, CLOSE) and command[2:3] == [13] and len(command) > 6:
            return [*command[:5], "ZeroDivisionError: the text of an unexpected failure", None]
        return command


class SilentViolations(Mutant):
    """Ends links that are broken without a word."""

    def from_peer(self, commands: Commands) -> Commands:
        return [command for command in commands if not (is_a(command, GOAWAY) and command[2] == "protocol")]


class ForgivingHello(Mutant):
    """Takes every HELLO."""

    def command_to_peer(self, command: Any) -> Any:
        if is_a(command, HELLO) and len(command) >= 5:
            return [HELLO, "DMTP", 1, 1, command[4]]
        return command


class BigBatches(Mutant):
    """Puts into a batch as many commands as it likes."""

    def command_to_peer(self, command: Any) -> Any:
        return without_limits(command, "max_commands")


class LargeItems(Mutant):
    """Keeps the other side's max_message in results, and in nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self._most = 2**24

    def command_to_peer(self, command: Any) -> Any:
        if is_a(command, HELLO) and len(command) > 8:
            self._most = command[8].get("max_message", self._most)
        return without_limits(command, "max_message")

    def command_from_peer(self, command: Any) -> Any:
        if is_a(command, CLOSE) and len(command) > 3 and len(command[3] or b"") > self._most:
            return [CLOSE, command[1], 8, None, 0, "too large"]
        return command


class LinkOverrun(Mutant):
    """Sends results whatever the link's credit is, but no items and no calls."""

    def __init__(self) -> None:
        super().__init__()
        self._balance = 2**24
        self._held: Commands = []

    def command_to_peer(self, command: Any) -> Any:
        if is_a(command, HELLO) and len(command) > 8:
            self._balance = command[8].get("link_window", self._balance)
            return without_limits(command, "link_window")
        if is_a(command, CREDIT) and command[1] == 0:
            self._balance += command[2]
            free = self._pass(self._held)
            if free:
                self.said.append(free)
        return command

    def from_peer(self, commands: Commands) -> Commands:
        return self._pass([*self._held, *commands])

    def _pass(self, commands: Commands) -> Commands:
        passed: Commands = []
        self._held = []
        for command in commands:
            if is_a(command, DATA, OPEN) and self._balance <= 0:
                self._held.append(command)
                continue
            self._balance -= cost_of(command)
            passed.append(command)
        return passed


class KeepsCreditOfBroken(Mutant):
    """Gives no link credit back for a message that breaks its channel."""

    def __init__(self) -> None:
        super().__init__()
        self._ended: set[int] = set()

    def command_to_peer(self, command: Any) -> Any:
        if is_a(command, END) and len(command) > 1:
            self._ended.add(command[1])
        if is_a(command, DATA) and command[1] in self._ended:
            return with_field(command, 2, b"")
        return command


class OnlyHalfWindows(Mutant):
    """Gives link credit at half of the window alone, and counts nothing as consumed that nobody took."""

    def __init__(self) -> None:
        super().__init__()
        self._window = 0
        self._consumed = 0
        self._stalled: dict[int, int] = {}

    def command_to_peer(self, command: Any) -> Any:
        if is_a(command, OPEN) and command[2:3] == ["conformance.stall"]:
            self._stalled[command[1]] = 0
        if is_a(command, CANCEL) and len(command) > 1:
            self._consumed += self._stalled.pop(command[1], 0)
        cost = cost_of(command)
        if cost and command[1] in self._stalled:
            self._stalled[command[1]] += cost
        else:
            self._consumed += cost
        if self._window and self._consumed >= self._window // 2:
            self.said.append([[CREDIT, 0, self._consumed]])
            self._consumed = 0
        return command

    def from_peer(self, commands: Commands) -> Commands:
        for command in commands:
            if is_a(command, HELLO):
                self._window = command[8].get("link_window", 2**24) if len(command) > 8 else 2**24
            if is_a(command, CLOSE):
                self._consumed += self._stalled.pop(command[1], 0)
        return [command for command in commands if not (is_a(command, CREDIT) and command[1] == 0)]


class CreditAfterEnd(Mutant):
    """Gives channel credit back for directions that have ended."""

    def to_peer(self, commands: Commands) -> Commands:
        given = {command[1]: cost_of(command) for command in commands if is_a(command, DATA)}
        self.said += [
            [[CREDIT, command[1], given[command[1]]]]
            for command in commands
            if is_a(command, END) and command[1:2] and command[1] in given
        ]
        return commands


class LastEighth(Mutant):
    """Lets streams use the link's credit to the end."""

    def command_to_peer(self, command: Any) -> Any:
        if is_a(command, HELLO) and len(command) > 8 and command[8].get("link_window") == 1000:
            return with_field(command, 8, {**command[8], "link_window": 1000 + 1000 // 7})
        return command


class OwnChannelsStay(Mutant):
    """Leaves nested channels that it opened alone when their call is over."""

    def __init__(self) -> None:
        super().__init__()
        self._nested: set[int] = set()

    def from_peer(self, commands: Commands) -> Commands:
        self._nested |= {command[1] for command in commands if is_a(command, OPEN) and command[2] is None}
        return [command for command in commands if not (is_a(command, CANCEL) and command[1] in self._nested)]


class AnyParent(Mutant):
    """Lets a callback be called from whatever call, and from none."""

    def __init__(self) -> None:
        super().__init__()
        self._owners: dict[bytes, int] = {}

    def command_from_peer(self, command: Any) -> Any:
        if is_a(command, DATA) and command[2][:2] == b"\xd4\x03":
            self._owners[command[2][2:]] = command[1]
        return command

    def command_to_peer(self, command: Any) -> Any:
        if is_a(command, OPEN) and len(command) > 2 and isinstance(command[2], int):
            owner = self._owners.get(pack(command[2]))
            return [*command[:9], *[None] * (9 - len(command)), owner, *command[10:]]
        return command


class CodecFirst(Mutant):
    """Finds an unknown codec before it counts channels."""

    def __init__(self) -> None:
        super().__init__()
        self._odd: set[int] = set()

    def command_to_peer(self, command: Any) -> Any:
        if is_a(command, OPEN) and len(command) > 10 and command[10] == "unheard-of":
            self._odd.add(command[1])
        return command

    def command_from_peer(self, command: Any) -> Any:
        return with_field(command, 2, 3) if is_a(command, CLOSE) and command[1] in self._odd else command


class RoundsDown(Mutant):
    """Rounds timeouts down, to 0 too."""

    def command_from_peer(self, command: Any) -> Any:
        if is_a(command, OPEN) and len(command) > 6 and command[6] is not None:
            return with_field(command, 6, command[6] - 1)
        return command


class ClosesDrainedLate(Mutant):
    """Closes a receive-channel with its call and not before."""

    def __init__(self) -> None:
        super().__init__()
        self._parents: dict[int, int] = {}
        self._late: Commands = []

    def command_to_peer(self, command: Any) -> Any:
        if is_a(command, OPEN) and len(command) > 9 and command[2] is None and command[9] is not None:
            self._parents[command[1]] = command[9]
        return command

    def from_peer(self, commands: Commands) -> Commands:
        passed: Commands = []
        for command in commands:
            if is_a(command, CLOSE) and command[1] in self._parents:
                self._late.append(command)
                continue
            if is_a(command, CLOSE):
                passed += [late for late in self._late if self._parents[late[1]] == command[1]]
                self._late = [late for late in self._late if self._parents[late[1]] != command[1]]
            passed.append(command)
        return passed


class ManyAttachments(Mutant):
    """Sends attachments to whoever takes none."""

    def command_to_peer(self, command: Any) -> Any:
        return without_limits(command, "max_attachments")


class RunsWithoutTime(Mutant):
    """Runs a call for which there is no time left."""

    def command_to_peer(self, command: Any) -> Any:
        return with_field(command, 6, None) if is_a(command, OPEN) and command[6:7] == [0] else command


class DeafToEndOfOpen(Mutant):
    """Overlooks that a nested channel's OPEN had END."""

    def command_to_peer(self, command: Any) -> Any:
        if is_a(command, OPEN) and len(command) > 3 and command[2] is None and command[3] == 1:
            return with_field(command, 3, 0)
        return command


class TooMuchCredit(Mutant):
    """Gives back more than it received."""

    def command_from_peer(self, command: Any) -> Any:
        return with_field(command, 2, command[2] + 2**30) if is_a(command, CREDIT) else command


class Unasked(Mutant):
    """Answers pings that nobody sent."""

    def from_peer(self, commands: Commands) -> Commands:
        extra = [[PONG, command[1] + 1] for command in commands if is_a(command, PONG)]
        return [*commands, *extra]


class SpeaksAfterClose(Mutant):
    """Ends its direction of a channel that it has closed."""

    def from_peer(self, commands: Commands) -> Commands:
        extra = [[END, command[1]] for command in commands if is_a(command, CLOSE) and command[2:3] == [14]]
        return [*commands, *extra]


class ReusesNumbers(Mutant):
    """Opens channels whose numbers do not grow."""

    def __init__(self) -> None:
        super().__init__()
        self._given = 0

    def command_from_peer(self, command: Any) -> Any:
        if is_a(command, OPEN):
            self._given = self._given or command[1]
            return with_field(command, 1, self._given)
        return command


class SilentRefusals(Mutant):
    """Does not say that a call was refused."""

    def command_from_peer(self, command: Any) -> Any:
        if is_a(command, CLOSE) and len(command) > 7 and command[7]:
            return with_field(
                command, 7, {key: value for key, value in command[7].items() if key != "duplex-refused"}
            )
        return command


class AlwaysRefused(Mutant):
    """Says of every call that fails that it was refused."""

    def command_from_peer(self, command: Any) -> Any:
        if is_a(command, CLOSE) and command[2:3] not in ([], [0]):
            full = [*command, *[0, None, 0, "", None, None][len(command) - 2 :]]
            return with_field(full, 7, {**(full[7] or {}), "duplex-refused": "1"})
        return command


class ReservedTrailers(Mutant):
    """Lets handlers set any trailer."""

    def __init__(self) -> None:
        super().__init__()
        self._asked: set[int] = set()

    def command_to_peer(self, command: Any) -> Any:
        if (
            is_a(command, OPEN)
            and command[2:3] == ["conformance.trailers"]
            and b"duplex-refused" in command[4]
        ):
            self._asked.add(command[1])
        return command

    def command_from_peer(self, command: Any) -> Any:
        if is_a(command, CLOSE) and command[1] in self._asked:
            return [*command[:3], None, 0, "", None, {"duplex-refused": "x"}]
        return command


class LosesOnCancel(Mutant):
    """Throws away what had come on a nested channel when it is cancelled."""

    def to_peer(self, commands: Commands) -> Commands:
        nested = {command[1] for command in commands if is_a(command, OPEN) and command[2:3] == [None]}
        gone = nested & {command[1] for command in commands if is_a(command, CANCEL)}
        return [command for command in commands if not (is_a(command, DATA) and command[1] in gone)]


class OrderlyCancel(Mutant):
    """Takes CANCEL of a nested channel for its orderly end."""

    def to_peer(self, commands: Commands) -> Commands:
        nested = {command[1] for command in commands if is_a(command, OPEN) and command[2:3] == [None]}
        ended = {command[1] for command in commands if is_a(command, END)}
        passed: Commands = []
        for command in commands:
            if is_a(command, CANCEL) and command[1] in nested - ended:
                passed.append([END, command[1]])
            passed.append(command)
        return passed


class FreeAttachments(Mutant):
    """Finds nothing wrong with a message after attachments that used up the channel's credit."""

    def __init__(self) -> None:
        super().__init__()
        self._full: set[int] = set()

    def to_peer(self, commands: Commands) -> Commands:
        kept = [command for command in commands if not (is_a(command, DATA) and command[1] in self._full)]
        self._full |= {command[1] for command in commands if is_a(command, DATA) and command[4:5] == [1]}
        return kept


class AnyClose(Mutant):
    """Takes whatever details and trailers CLOSE has."""

    def command_to_peer(self, command: Any) -> Any:
        if is_a(command, CLOSE) and len(command) > 6 and len(command[6] or b"") > 1000:
            command = with_field(command, 6, None)
        if is_a(command, CLOSE) and len(command) > 7 and "Bad Key" in (command[7] or {}):
            command = with_field(command, 7, None)
        return command
