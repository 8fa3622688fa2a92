"""The vectors of ``spec/vectors``, in both directions: bytes to events, and actions to bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgpack
import pytest

from duplex._errors import RemoteProtocolError
from duplex.protocol import (
    CancelReceived,
    ChannelClosed,
    ChannelOpened,
    Connection,
    CreditReceived,
    EndReceived,
    Event,
    GoawayReceived,
    Hello,
    HelloReceived,
    LimitsInfo,
    LinkOpened,
    LinkRefused,
    LinkState,
    MessageReceived,
    PingReceived,
    PongReceived,
    ServiceInfo,
    ServicesAnnounced,
)
from spec.vectors import kit, write
from tests.protocol.helpers import one_by_one

VECTORS = Path(write.__file__).parent
SPEC = VECTORS.parent


def load(names: Sequence[str]) -> list[Any]:
    return [
        pytest.param(vector, id=f"{name}: {vector['name']}")
        for name in names
        for vector in json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))["vectors"]
    ]


GROUPS = [group.name for group in write.GROUPS]
LINK_VECTORS = load(GROUPS)


def revive(value: Any) -> Any:
    """JSON as the vectors use it, with bytes as bytes."""
    if isinstance(value, dict):
        if value.keys() == {"hex"}:
            return bytes.fromhex(value["hex"])
        if value.keys() == {"int"}:
            return int(value["int"])
        if value.keys() == {"float"}:
            return float(value["float"])
        return {key: revive(item) for key, item in value.items()}
    if isinstance(value, list):
        return [revive(item) for item in value]
    return value


def hello_of(command: list[Any]) -> Hello:
    """A ``HELLO`` in full, as this library has it."""
    _, protocol, lowest, highest, peer_id, name, codecs, features, limits, services, credentials = command
    return Hello(
        protocol,
        lowest,
        highest,
        peer_id,
        name,
        tuple(codecs),
        tuple(features),
        LimitsInfo(**limits),
        tuple(ServiceInfo(**service) for service in services),
        credentials,
    )


def perform(connection: Connection, command: list[Any], frames: list[bytes]) -> None:
    """Do what makes a connection send a command."""
    number, *given = command
    fields: list[Any] = given
    if number == 0:
        if connection.connecting:
            connection.greet()
        else:
            connection.accept()
    elif number == 1:
        connection.refuse(*fields)
    elif number == 2:
        connection.announce([ServiceInfo(**service) for service in fields[0]])
    elif number == 3:
        connection.ping(0.0, fields[1] / 1e6)
    elif number == 5:
        connection.leave(*fields[1:])
    elif number == 7:
        channel, target, flags, payload, count, timeout, *rest = padded(fields, 10, None)
        metadata, window, parent, codec = rest
        opened = connection.open(
            target,
            flags=flags or 0,
            payload=payload,
            attachments=take(frames, count),
            timeout=None if timeout is None else timeout / 1000,
            metadata=metadata,
            window=window,
            parent=parent,
            codec=codec,
        )
        assert opened == channel
    elif number == 8:
        channel, payload, flags, count = padded(fields, 4, 0)
        connection.send(channel, payload, take(frames, count), flags)
    elif number == 9:
        connection.end(*fields)
    elif number == 10:
        channel, status, payload, count, message, details, trailers = padded(fields, 7, None)
        connection.close(
            channel,
            status,
            payload=payload,
            attachments=take(frames, count),
            message=message or "",
            details=details,
            trailers=trailers,
        )
    else:
        assert number == 11
        connection.cancel(*fields)


def padded(fields: list[Any], length: int, default: Any) -> list[Any]:
    return fields + [default] * (length - len(fields))


def take(frames: list[bytes], count: int | None) -> list[bytes]:
    taken = frames[: count or 0]
    del frames[: count or 0]
    return taken


def enter(connection: Connection, steps: Sequence[Mapping[str, Any]], sender: str, exact: bool) -> None:
    """Bring a connection into a vector's state; ``sender`` is the direction of what it sent itself."""
    for step in steps:
        frames = [bytes.fromhex(frame) for frame in step["frames"]]
        if step["direction"] == sender:
            for command in revive(step["commands"]):
                perform(connection, command, frames)
            messages = connection.data_to_send()
            assert not frames
            if exact:
                assert [frame.hex() for frames in messages for frame in map(bytes, frames)] == [
                    step["hex"],
                    *step["frames"],
                ]
        else:
            connection.receive([bytes.fromhex(step["hex"]), *frames], 0.0)
            assert not connection.has_data_to_send


def described(event: Event) -> dict[str, Any]:
    """An event as the vectors have it, with every field."""
    match event:
        case HelloReceived() | LinkOpened():
            remote = event.remote
            kind = "hello" if isinstance(event, HelloReceived) else "link_opened"
            return {
                "event": kind,
                "peer_id": remote.peer_id,
                "name": remote.name,
                "lowest_version": remote.lowest_version,
                "highest_version": remote.highest_version,
                "codecs": list(remote.codecs),
                "features": list(remote.features),
                "limits": {name: getattr(remote.limits, name) for name in kit.LIMITS},
                "services": [{"name": s.name, "version": s.version} for s in remote.services],
                "credentials": remote.credentials,
            }
        case LinkRefused():
            return {"event": "refused", "reason": event.reason, "message": event.message}
        case ServicesAnnounced():
            services = [{"name": s.name, "version": s.version} for s in event.services]
            return {"event": "services", "services": services}
        case PingReceived() | PongReceived():
            kind = "ping" if isinstance(event, PingReceived) else "pong"
            return {"event": kind, "delay": round(event.delay * 1e6)}
        case GoawayReceived():
            return {"event": "goaway", "reason": event.reason, "message": event.message}
        case CreditReceived():
            return {"event": "credit", "channel": event.channel}
        case EndReceived():
            return {"event": "end", "channel": event.channel}
        case CancelReceived():
            return {
                "event": "cancelled",
                "channel": event.channel,
                "reason": event.reason,
                "over": event.closed,
            }
    kind = {ChannelOpened: "opened", MessageReceived: "message", ChannelClosed: "closed"}[type(event)]
    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    fields["attachments"] = [bytes(frame) for frame in fields["attachments"]]
    if kind == "opened":
        fields["timeout"] = None if fields["timeout"] is None else round(fields["timeout"] * 1000)
    return {"event": kind, **fields}


INTRODUCTION = {
    "name": "",
    "lowest_version": 1,
    "highest_version": 1,
    "codecs": ["msgpack"],
    "features": [],
    "limits": {},
    "services": [],
    "credentials": None,
}
#: The table of ``spec/vectors/README.md``.
DEFAULTS: dict[str, dict[str, Any]] = {
    "hello": INTRODUCTION,
    "link_opened": INTRODUCTION,
    "refused": {"message": ""},
    "services": {},
    "ping": {"delay": 0},
    "pong": {"delay": 0},
    "goaway": {"message": ""},
    "credit": {},
    "opened": {
        "end": False,
        "unary": False,
        "notify": False,
        "payload": None,
        "attachments": [],
        "cost": 0,
        "timeout": None,
        "metadata": {},
        "parent": None,
        "codec": "msgpack",
    },
    "message": {"attachments": [], "result": False},
    "end": {},
    "closed": {
        "payload": None,
        "attachments": [],
        "message": "",
        "details": None,
        "trailers": {},
        "may_have_executed": True,
    },
    "cancelled": {"reason": "", "over": False},
}


def expected(event: dict[str, Any]) -> dict[str, Any]:
    """An event of a vector, with its defaults filled in."""
    full = {**DEFAULTS[event["event"]], **event}
    if "limits" in full:
        full["limits"] = {**kit.LIMITS, **full["limits"]}
        full["services"] = [{"version": "0.0.0", **service} for service in full["services"]]
    return full


def same(actual: Any, wanted: Any) -> bool:
    """Whether two values are equal but for texts for humans."""
    if wanted == "*":
        return isinstance(actual, str) and actual != ""
    if isinstance(wanted, dict) and wanted.keys() == {"any_of"}:
        return any(same(actual, one) for one in wanted["any_of"])
    if isinstance(wanted, dict):
        return (
            isinstance(actual, dict)
            and actual.keys() == wanted.keys()
            and all(same(actual[key], value) for key, value in wanted.items())
        )
    if isinstance(wanted, list):
        return (
            isinstance(actual, list)
            and len(actual) == len(wanted)
            and all(same(a, w) for a, w in zip(actual, wanted, strict=True))
        )
    return type(actual) is type(wanted) and bool(actual == wanted)


def subject_of(vector: Mapping[str, Any]) -> Connection:
    state = vector["state"]
    connection = Connection(
        hello_of(revive(state["hello"])), connecting=state["role"] == "connecting", now=0.0
    )
    enter(connection, state["messages"], "sent", exact=True)
    return connection


@pytest.mark.parametrize("vector", LINK_VECTORS)
def test_bytes_to_events(vector: dict[str, Any]) -> None:
    connection = subject_of(vector)
    frames = (
        []
        if vector["hex"] is None
        else [bytes.fromhex(frame) for frame in (vector["hex"], *vector["frames"])]
    )
    if "pad_to" in vector:
        frames[0] = frames[0].ljust(vector["pad_to"], b"\x00")
    if vector.get("outcome") == "link broken":
        with pytest.raises(RemoteProtocolError):
            connection.receive(frames, 0.0)
    else:
        events = [described(event) for event in one_by_one(connection.receive(frames, 0.0))]
        wanted = [expected(event) for event in revive(vector["events"])]
        assert same(events, wanted), f"{events} != {wanted}"
    answers = [command for sent in connection.data_to_send() for command in msgpack.unpackb(sent[0])]
    assert same(answers, revive(vector["answers"])), f"{answers} != {vector['answers']}"
    after = vector["after"]
    assert LinkState(connection.state).name == after["link"]
    for channel, state in after["channels"].items():
        assert connection.channel_state(int(channel)).name == state
    assert connection.statistics().dropped_commands == after["dropped"]


@pytest.mark.parametrize("vector", [case for case in LINK_VECTORS if case.values[0].get("sendable")])
def test_actions_to_bytes(vector: dict[str, Any]) -> None:
    state = vector["state"]
    commands = revive(vector["commands"])
    introductions = [
        command
        for step in state["messages"]
        if step["direction"] == "received"
        for command in revive(step["commands"])
        if command[0] == 0
    ]
    introductions += [command for command in commands if command[0] == 0]
    mine = introductions[0] if introductions else kit.B
    connection = Connection(hello_of(mine), connecting=state["role"] != "connecting", now=0.0)
    enter(connection, state["messages"], "received", exact=False)
    frames = [bytes.fromhex(frame) for frame in vector["frames"]]
    for command in commands:
        perform(connection, command, frames)
    assert not frames
    (message,) = connection.data_to_send()
    assert [bytes(frame).hex() for frame in message] == [vector["hex"], *vector["frames"]]


@pytest.mark.parametrize("vector", [case for case in LINK_VECTORS if "commands" in case.values[0]])
def test_commands_are_what_the_bytes_say(vector: dict[str, Any]) -> None:
    commands = msgpack.unpackb(bytes.fromhex(vector["hex"]), strict_map_key=False)
    assert json.loads(json.dumps(write.plain(commands))) == vector["commands"]


def test_the_files_are_what_the_writer_writes() -> None:
    written = dict(write.files())
    assert sorted(written) == sorted(VECTORS.glob("*.json"))
    for path, text in written.items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run `python -m spec.vectors.write`"


def test_names_are_unique() -> None:
    for name in GROUPS:
        names = [case.values[0]["name"] for case in load([name])]
        assert len(names) == len(set(names)), name


def test_every_violation_has_a_vector_and_the_outcome_that_the_document_says() -> None:
    document = (SPEC / "dmtp.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (V\d+) \| .* \| ([^|]+) \|$", document, re.MULTILINE)
    outcomes = {number: outcome.partition(",")[0] for number, outcome in rows}
    assert list(outcomes) == [f"V{number}" for number in range(1, 31)]
    statuses = {number: outcome.partition("`")[2].rstrip("`") for number, outcome in rows}
    seen = set()
    for case in LINK_VECTORS:
        vector = case.values[0]
        if "violation" in vector:
            seen.add(vector["violation"])
            assert vector["outcome"] == outcomes[vector["violation"]], vector["name"]
            if vector["outcome"] == "channel broken":
                check_status(vector, statuses[vector["violation"]])
    assert seen == set(outcomes)


def check_status(vector: Mapping[str, Any], name: str) -> None:
    numbers = {"INTERNAL": 13, "RESOURCE_EXHAUSTED": 8, "INVALID_ARGUMENT": 3, "UNAVAILABLE": 14}
    told = [answer[2] for answer in vector["answers"] if answer[0] == 10]
    told += [event["status"] for event in vector["events"] if event["event"] == "closed"]
    assert numbers[name] in told, vector["name"]


def test_every_command_has_valid_and_invalid_vectors() -> None:
    fine: set[int] = set()
    wrong: set[int] = set()
    for case in LINK_VECTORS:
        vector = case.values[0]
        for command in revive(vector.get("commands", [])):
            if command:
                (wrong if "violation" in vector else fine).add(command[0])
    assert fine == set(range(12))
    assert wrong >= set(range(12))
