"""Drives one scenario: performs its steps on a connection and says at which one an implementation differs."""

from __future__ import annotations

import dataclasses
import json
import math
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import trio

from duplex.conformance._commands import (
    CONNECTING,
    LIMITS,
    NUMBERS,
    MalformedError,
    read,
    shown,
)
from duplex.conformance._ledger import BrokenRuleError, Ledger
from duplex.conformance._patterns import Matcher
from duplex.conformance._scenarios import Scenario
from duplex.conformance._values import MAX_COUNT, CannotDriveError, ScenarioError, Values, pack, unpack
from duplex.conformance._wire import Wire

#: What an implementation may send at any time without an answer to anything.
UNRELATED: Final = ("PING", "ANNOUNCE", "CREDIT")

#: Messages that are sent before other scenarios have a turn.
_BATCHES_AT_ONCE: Final = 16

#: The most commands that a report shows of what came.
MAX_SHOWN: Final = 6


class FailedError(Exception):
    """The implementation does something else than the scenario says."""

    def __init__(self, expected: str, came: str) -> None:
        super().__init__(expected, came)
        self.expected = expected
        self.came = came
        #: The step, counted from 1; 0 is the handshake.
        self.step = 0


@dataclasses.dataclass(frozen=True)
class Timing:
    """How long is waited, in seconds."""

    #: For what has to come, in each step.
    step: float = 5.0
    #: For what must not come. Longer finds more; too short never fails an implementation that conforms.
    quiet: float = 0.2
    #: For the implementation to connect again, where it is the connecting side.
    connect: float = 60.0


@dataclasses.dataclass
class Received:
    """A command that came, with its name first and all its fields, and its attachments."""

    command: list[Any]
    attachments: list[bytes]

    @property
    def name(self) -> str:
        """What it is called."""
        return str(self.command[0])


class Driver:
    """One run of one scenario.

    Args:
        open_wire: begins a connection, or waits for one.
        role: which side of the link the implementation is.
        timing: how long to wait.
        hello: fields of this side's ``HELLO`` that differ from the usual ones.
    """

    def __init__(
        self,
        open_wire: Callable[[], Awaitable[Wire]],
        role: str,
        timing: Timing,
        hello: Mapping[str, Any] | None = None,
    ) -> None:
        self._open_wire = open_wire
        self._peer_connects = role == CONNECTING
        self._timing = timing
        unique = secrets.token_hex(8)
        self._values = Values(own_first=2 if self._peer_connects else 1, unique=unique, balance=self._balance)
        self._matcher = Matcher(self._values)
        fields: dict[str, Any] = {
            "protocol": "DMTP",
            "lowest_version": 1,
            "highest_version": 1,
            "peer_id": f"conformance-{unique}",
            "name": "duplex conformance",
            "codecs": ["msgpack", "json", "raw"],
            "features": [],
            "limits": {},
            "services": [],
            "credentials": None,
        }
        fields.update(self._values.build(dict(hello or {})))
        self._values.names["hello"] = [0, *fields.values()]
        self._wire: Wire | None = None
        self._ledger = Ledger(self._values.channel("@1"))
        self._waiting: list[Received] = []
        self._broken = False
        #: Fields of the implementation's ``HELLO``, after the handshake.
        self.peer: list[Any] = []

    # -- the whole -------------------------------------------------------------------------------------

    async def run(self, scenario: Scenario) -> None:
        """Perform a scenario.

        Raises:
            FailedError: the implementation differs.
            CannotDriveError: this implementation cannot be brought into the situation.
            ScenarioError: the scenario is malformed.
        """
        step = 0
        try:
            await self.open()
            if scenario.handshake:
                await self.shake_hands()
                self._check_possible(scenario)
            for step, what in enumerate(scenario.steps, 1):  # noqa: B007 - of which the error tells
                await self._step(what)
            await self._read_all()
        except FailedError as error:
            error.step = step
            raise
        finally:
            self.close()

    def _check_possible(self, scenario: Scenario) -> None:
        for low, high in scenario.at_most:
            if self._values.number(low) > self._values.number(high):
                raise CannotDriveError(
                    f"the implementation's limits do not allow it: {_plain(low)} is more than {_plain(high)}"
                )

    async def open(self) -> None:
        """Begin a connection."""
        self._wire = await self._open_wire()
        self._ledger = Ledger(self._values.channel("@1"))
        self._waiting = []
        self._broken = False
        self.peer = []

    def close(self) -> None:
        """End the connection."""
        if self._wire is not None:
            self._wire.close()

    async def shake_hands(self) -> None:
        """Become a link."""
        hello = self._values.names["hello"]
        if not self._peer_connects:
            self._transmit([hello])
        expected = "a connection, and HELLO on it" if self._peer_connects else "HELLO in answer to HELLO"
        answer = await self._next(expected, ())
        if answer.name != "HELLO":
            raise FailedError(expected, shown(answer.command))
        if self._peer_connects:
            self._transmit([hello])
        self._note_hello(answer.command)

    async def call(self, method: str) -> Any:
        """Call a method without arguments on a link that just began, and return its result; ``None`` if it fails."""
        self._transmit([[NUMBERS["OPEN"], self._values.channel("@1"), method, 3, pack([[]])]])
        answer = await self._next("CLOSE", UNRELATED)
        if answer.name != "CLOSE" or answer.command[2] != 0 or answer.command[3] is None:
            return None
        try:
            return unpack(answer.command[3])
        except ValueError as error:
            raise FailedError(f"a result of {method}", str(error)) from None

    def _note_hello(self, hello: list[Any]) -> None:
        self.peer = hello
        self._values.names.update({**LIMITS, **{key: hello[8][key] for key in LIMITS if key in hello[8]}})

    # -- steps -----------------------------------------------------------------------------------------

    async def _step(self, step: Mapping[str, Any]) -> None:
        if "send" in step:
            await self._send(step)
        elif "frames" in step:
            self._send_frames([self._values.build(frame) for frame in step["frames"]])
        elif "expect" in step:
            await self._expect(step)
        elif "nothing" in step:
            await self._expect_nothing(step.get("ignoring", UNRELATED))
        elif "alive" in step:
            await self._expect_alive()
        elif "broken" in step:
            await self._expect_broken()
        elif "refused" in step:
            await self._expect_refused(step["refused"])
        elif "over" in step:
            await self._expect_silence("GOAWAY")
        elif "holds" in step:
            self._check_numbers(step["holds"])
        else:
            self.close()
            await self.open()
            if step["reconnect"] != "by hand":
                await self.shake_hands()

    def _check_numbers(self, pairs: Sequence[Sequence[Any]]) -> None:
        for low, high in pairs:
            if self._values.number(low) > self._values.number(high):
                came = f"{self._values.number(low)} and {self._values.number(high)}"
                raise FailedError(f"{_plain(low)} is at most {_plain(high)}", came)

    async def _send(self, step: Mapping[str, Any]) -> None:
        names = self._values.names
        for batch in range(self._values.number(step.get("batches", 1), MAX_COUNT)):
            commands = []
            for repetition in range(self._values.number(step.get("repeat", 1), MAX_COUNT)):
                names["i"] = batch + repetition
                commands += [self._build(command) for command in step["send"]]
            self._transmit(commands, self._values.build(step.get("attachments", [])))
            if batch % _BATCHES_AT_ONCE == _BATCHES_AT_ONCE - 1:
                await trio.lowlevel.checkpoint()  # other scenarios wait for answers meanwhile

    def _build(self, command: Any) -> Any:
        built = self._values.build(command)
        if isinstance(built, list) and built and isinstance(built[0], str) and built[0] in NUMBERS:
            built[0] = NUMBERS[built[0]]
        return built

    def _transmit(self, commands: Sequence[Any], attachments: Sequence[bytes] = ()) -> None:
        self._send_frames([pack(list(commands)), *attachments])

    def _send_frames(self, frames: Sequence[bytes]) -> None:
        assert self._wire is not None
        try:
            commands = unpack(frames[0], "replace") if frames else None
        except ValueError:
            commands = None  # as a scenario wants it
        if isinstance(commands, list):
            self._ledger.sent(commands, frames[1:])
        self._wire.send(frames)

    def _balance(self, place: int) -> int | None:
        """What may be sent on the first of the tool's channels, the second, and so on, or, for 0, on the link."""
        return self._ledger.balance(self._values.channel(f"@{place}") if place else 0)

    async def _expect(self, step: Mapping[str, Any]) -> None:
        ignoring = step.get("ignoring", UNRELATED)
        for repetition in range(self._values.number(step.get("repeat", 1), MAX_COUNT)):
            self._values.names["i"] = repetition
            left = list(step["expect"])
            while left:
                candidates = left if step.get("in_any_order") else left[:1]
                wanted = " or ".join(_pattern_shown(pattern) for pattern in candidates)
                came = await self._next(wanted, ignoring, candidates)
                matched = self._matching(candidates, came)
                if matched is None:
                    raise FailedError(wanted, shown(came.command))
                left.remove(matched)

    def _matching(self, patterns: Sequence[Any], came: Received) -> Any:
        return next(
            (item for item in patterns if self._matcher.matches(item, came.command, came.attachments)), None
        )

    async def _expect_nothing(self, ignoring: Sequence[str]) -> None:
        with trio.move_on_after(self._timing.quiet):
            while True:
                came = await self._next("nothing", ignoring, forever=True)
                raise FailedError("nothing", shown(came.command))

    async def _expect_alive(self) -> None:
        token = secrets.randbelow(2**53)
        self._transmit([[NUMBERS["PING"], token]])
        expected = f"the link goes on: PONG({token}) in answer to PING"
        passed: list[Received] = []
        until = trio.current_time() + self._timing.step
        while True:
            came = await self._next(expected, (), also_passed=passed, until=until)
            if came.name == "PONG" and came.command[1] == token:
                break
            if came.name in ("GOAWAY", "REFUSE"):
                raise FailedError(expected, shown(came.command))
            passed.append(came)
        self._waiting = [*passed, *self._waiting]

    async def _expect_broken(self) -> None:
        reason = "protocol"
        before_hello = not self.peer and not self._peer_connects
        expected = f"the link is broken: {'REFUSE' if before_hello else 'GOAWAY'}({reason!r})"
        passed: list[Received] = []
        until = trio.current_time() + self._timing.step
        while True:
            came = await self._next(expected, (), also_passed=passed, until=until)
            if came.name == "REFUSE" and came.command[1] == reason and before_hello:
                break
            if came.name == "GOAWAY" and came.command[2] == reason and not before_hello:
                break
            passed.append(came)
        await self._expect_silence()

    async def _expect_refused(self, reason: str) -> None:
        if self._peer_connects:
            expected = f"GOAWAY('protocol') with a message that begins with {reason!r}"
            came = await self._next(expected, UNRELATED)
            fits = (
                came.name == "GOAWAY" and came.command[2] == "protocol" and came.command[3].startswith(reason)
            )
        else:
            expected = f"REFUSE({reason!r})"
            came = await self._next(expected, ())
            fits = came.name == "REFUSE" and came.command[1] == reason
        if not fits:
            raise FailedError(expected, shown(came.command))
        await self._expect_silence()

    async def _expect_silence(self, *ignoring: str) -> None:
        """The link is over at the implementation: it takes nothing more and says nothing more."""
        self._broken = True
        self._transmit([[NUMBERS["PING"], 1]])
        expected = "nothing more after the end of the link, not even PONG"
        # Where a transport cannot end one connection of several, it may be told once more that it is over.
        ignoring = (*ignoring, "REFUSE")
        with trio.move_on_after(self._timing.quiet):
            came = await self._next(expected, ignoring, forever=True)
            raise FailedError(expected, shown(came.command))

    # -- receiving -------------------------------------------------------------------------------------

    async def _next(
        self,
        expected: str,
        ignoring: Sequence[str],
        wanted: Sequence[Any] = (),
        *,
        also_passed: Sequence[Received] = (),
        until: float | None = None,
        forever: bool = False,
    ) -> Received:
        """Return the next command that is not to be ignored, or is wanted all the same.

        Args:
            expected: what is waited for, in words.
            ignoring: the names of commands that do not matter.
            wanted: patterns of those that matter all the same.
            also_passed: what came before, for the report.
            until: when the whole step has to be over, as trio counts; another command is no more time.
            forever: something around it ends the wait.

        Raises:
            FailedError: nothing came in time, or what came is no command.
        """
        ignored: list[Received] = list(also_passed)
        # Until it has connected there is nobody whose speed a step could measure.
        waits = self._peer_connects and not self.peer
        patience = self._timing.connect if waits else self._timing.step
        if until is None:
            until = trio.current_time() + (math.inf if forever else patience)
        # At the end of the time once more without waiting: it may be this side that was late, and not what came.
        for end in (until, -math.inf):
            with trio.move_on_at(end):
                while True:
                    if not self._waiting:
                        await self._read()
                        continue
                    came = self._waiting.pop(0)
                    if came.name not in ignoring or self._matching(wanted, came) is not None:
                        return came
                    ignored.append(came)
        what = ", ".join(shown(item.command) for item in ignored[:MAX_SHOWN])
        more = f" and {len(ignored) - MAX_SHOWN} more" if len(ignored) > MAX_SHOWN else ""
        raise FailedError(expected, f"nothing within {patience:g} s" + (f" but {what}{more}" if what else ""))

    async def _read_all(self) -> None:
        """Take what has come already, which has to keep the rules, whatever it is."""
        with trio.move_on_after(0):
            while True:
                await self._read()

    async def _read(self) -> None:
        assert self._wire is not None
        frames = await self._wire.receive()
        try:
            commands = unpack(frames[0])
            if not isinstance(commands, list):
                raise MalformedError(f"frame 0 is no array but {commands!r}")
            self._ledger.check_batch(frames[0], commands)
            attachments = frames[1:]
            for command in map(read, commands):
                taken = _attachments_of(command)
                if taken > len(attachments):
                    raise MalformedError(f"{shown(command)} with only {len(attachments)} attachments left")
                self._ledger.came(command, attachments[:taken])
                self._take(Received(command, attachments[:taken]))
                attachments = attachments[taken:]
            if attachments:
                raise MalformedError(f"{len(attachments)} attachments that no command takes")
        except (ValueError, MalformedError) as error:
            raise FailedError("a batch of commands", f"something malformed: {error}") from None
        except BrokenRuleError as error:
            raise FailedError("a peer that keeps the rules", str(error)) from None

    def _take(self, came: Received) -> None:
        if came.name == "HELLO":
            self._note_hello(came.command)
        elif came.name == "PING" and not self._broken:
            self._transmit([[NUMBERS["PONG"], came.command[1]]])
        self._waiting.append(came)


def _attachments_of(command: Sequence[Any]) -> int:
    place = {"OPEN": 5, "DATA": 4, "CLOSE": 4}.get(command[0])
    return 0 if place is None else int(command[place])


def _pattern_shown(pattern: Any) -> str:
    if not isinstance(pattern, list) or not pattern:
        raise ScenarioError(f"{pattern!r} is no pattern of a command")
    fields = ", ".join(json.dumps(field, ensure_ascii=False) for field in pattern[1:])
    return f"{pattern[0]}({fields})"


def _plain(expression: Any) -> str:
    return str(expression).removeprefix("=")
