"""What the vectors of DMTP are made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Final

Command = list[Any]
Event = dict[str, Any]

LIMITS: Final = {
    "max_message": 16777216,
    "max_attachments": 64,
    "max_commands": 1024,
    "max_metadata": 8192,
    "max_channels": 4096,
    "channel_window": 1048576,
    "link_window": 16777216,
}


def hello(peer_id: str, **limits: int) -> Command:
    """``HELLO`` with every field written out."""
    return [0, "DMTP", 1, 1, peer_id, "", ["msgpack"], [], {**LIMITS, **limits}, [], None]


A: Final = hello("connecting")
B: Final = hello("binding")


@dataclasses.dataclass(frozen=True)
class Step:
    """A transport message that was exchanged before."""

    direction: str
    commands: list[Command]
    frames: list[bytes]


def sent(*commands: Command, frames: Sequence[bytes] = ()) -> Step:
    """The receiver of the vector sent this before."""
    return Step("sent", list(commands), list(frames))


def received(*commands: Command, frames: Sequence[bytes] = ()) -> Step:
    """The receiver of the vector received this before."""
    return Step("received", list(commands), list(frames))


@dataclasses.dataclass(frozen=True)
class Vector:
    """See ``README.md`` for the meaning of every field."""

    name: str
    role: str
    hello: Command
    state: list[Step]
    commands: list[Command] | None
    raw: bytes | None
    frames: list[bytes]
    pad_to: int | None
    sendable: bool
    violation: str | None
    outcome: str | None
    events: list[Event]
    answers: list[Command]
    after: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Group:
    """The vectors of one file."""

    name: str
    about: str
    vectors: list[Vector]


_groups: list[Group] = []

#: A text for humans, whatever it says.
ANY: Final = "*"


def group(name: str, about: str) -> Group:
    """Begin a file: the vectors that follow are its."""
    _groups.append(Group(name, about, []))
    return _groups[-1]


def vector(
    name: str,
    *commands: Command,
    role: str = "binding",
    mine: Command | None = None,
    theirs: Command | None = None,
    state: Sequence[Step] | None = None,
    then: Sequence[Step] = (),
    raw: bytes | None = None,
    frames: Sequence[bytes] = (),
    pad_to: int | None = None,
    sendable: bool | None = None,
    violation: str | None = None,
    outcome: str | None = None,
    events: Sequence[Event] = (),
    answers: Sequence[Command] = (),
    link: str = "OPEN",
    channels: dict[str, str] | None = None,
    dropped: int = 0,
) -> None:
    """Add a vector to the file begun last. Without ``state`` the link is open, and ``then`` happened on it."""
    mine = mine or (B if role == "binding" else A)
    theirs = theirs or (A if role == "binding" else B)
    if state is None:
        handshake = [received(theirs), sent(mine)] if role == "binding" else [sent(mine), received(theirs)]
        state = [*handshake, *then]
    if sendable is None:
        sendable = violation is None and raw is None and bool(commands)
    after: dict[str, Any] = {"link": link, "channels": channels or {}, "dropped": dropped}
    _groups[-1].vectors.append(
        Vector(
            name,
            role,
            mine,
            list(state),
            list(commands) if commands else None,
            raw,
            list(frames),
            pad_to,
            sendable,
            violation,
            outcome,
            list(events),
            list(answers),
            after,
        )
    )


def broken(
    name: str,
    violation: str,
    *commands: Command,
    last_channel: int = 0,
    or_last_channel: int | None = None,
    **more: Any,
) -> None:
    """Add a vector that breaks an open link. A receiver that finds it before it acts on anything may answer
    ``or_last_channel`` instead."""
    last: Any = last_channel if or_last_channel is None else {"any_of": [last_channel, or_last_channel]}
    vector(
        name,
        *commands,
        violation=violation,
        outcome="link broken",
        answers=[[5, last, "protocol", ANY]],
        link="CLOSED",
        **more,
    )


def opened(channel: int, target: Any = "s.m", **fields: Any) -> Event:
    """The event of ``OPEN``; what is not given has its default."""
    return {"event": "opened", "channel": channel, "target": target, **fields}


def message(channel: int, payload: bytes, cost: int, **fields: Any) -> Event:
    """The event of ``DATA``."""
    return {"event": "message", "channel": channel, "payload": payload, "cost": cost, **fields}


def closed(channel: int, status: int = 0, **fields: Any) -> Event:
    """The event of ``CLOSE``, and of a call that this side found broken."""
    return {"event": "closed", "channel": channel, "status": status, **fields}


def cancelled(channel: int, reason: str = "", **fields: Any) -> Event:
    """The event of ``CANCEL``, and of a channel that the opener broke."""
    return {"event": "cancelled", "channel": channel, "reason": reason, **fields}


MAX: Final = 2**53 - 1
NAME: Final = "n" * 255
#: An open channel, seen by its responder and by its opener.
OPENED: Final = [received([7, 1, "s.m", 0, None])]
CALLED: Final = [sent([7, 1, "s.m", 0, None])]
