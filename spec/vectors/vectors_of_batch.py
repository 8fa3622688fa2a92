"""The vectors of batches, written by hand."""

from __future__ import annotations

from spec.vectors.kit import (
    ANY,
    MAX,
    OPENED,
    broken,
    cancelled,
    group,
    hello,
    message,
    opened,
    received,
    sent,
    vector,
)

GROUP = group("batch", "Batches and attachments: dmtp.md, sections 1 to 3.")
vector("an empty batch", raw=b"\x90")
vector(
    "several commands in order",
    [7, 1, "s.m", 0, None],
    [8, 1, b"1"],
    [7, 3, "s.m", 0, None],
    [9, 1],
    events=[opened(1), message(1, b"1", 65), opened(3), {"event": "end", "channel": 1}],
    channels={"1": "REMOTE_ENDED", "3": "OPEN"},
)
vector(
    "attachments go to their commands, in order",
    [7, 1, "s.m", 0, b"p", 1, None],
    [8, 1, b"q", 0, 2],
    [8, 1, b"r"],
    frames=[b"one", b"two", b"three"],
    events=[
        opened(1, payload=b"p", attachments=[b"one"], cost=68),
        message(1, b"q", 73, attachments=[b"two", b"three"]),
        message(1, b"r", 65),
    ],
    channels={"1": "OPEN"},
)
vector(
    "commands that are dropped take their attachments all the same",
    [8, 1, b"", 0, 1],
    [7, 3, "s.m", 0, b"", 1],
    then=[*OPENED, sent([10, 1, 0, None])],
    frames=[b"dropped", b"kept"],
    violation="V27",
    outcome="dropped",
    events=[opened(3, payload=b"", attachments=[b"kept"], cost=68)],
    channels={"1": "OVER", "3": "OPEN"},
    dropped=1,
)
vector(
    "the longest encodings",
    raw=bytes.fromhex(
        "dd00000001"  # array 32, 1 element
        "dc0005"  # array 16, 5 elements
        "cf0000000000000007"  # uint 64: 7
        "d30000000000000001"  # int 64: 1
        "db00000003732e6d"  # str 32: s.m
        "ce00000001"  # uint 32: 1
        "c60000000170"  # bin 32: p
    ),
    events=[opened(1, end=True, payload=b"p", cost=65)],
    channels={"1": "REMOTE_ENDED"},
)
vector(
    "a broken channel breaks no other",
    [9, 1],
    [8, 3, b"x"],
    then=[received([7, 1, "s.m", 1], [7, 3, "s.m"])],
    violation="V18",
    outcome="channel broken",
    events=[cancelled(1, ANY, over=True), message(3, b"x", 65)],
    answers=[[10, 1, 13, None, 0, ANY]],
    channels={"1": "OVER", "3": "OPEN"},
)
broken("no frames", "V1")
broken("an empty frame", "V3", raw=b"")
broken("not an array", "V3", raw=b"\x01")
broken("an array that is cut short", "V3", raw=b"\x92\x92\x09\x01")
broken("a length of four thousand million", "V3", raw=b"\xdd\xff\xff\xff\xff")
broken("something after the array", "V3", raw=b"\x90\x90")
broken("the byte that msgpack never uses", "V3", raw=b"\xc1")
broken("text that is not UTF-8", "V3", raw=b"\x91\x93\x07\x01\xa2\xc3\x28")
broken("text with an encoded surrogate", "V3", raw=b"\x91\x93\x07\x01\xa3\xed\xa0\x80")
broken("nested 5000 deep, beyond the last field", "V3", raw=b"\x91\x93\x03\x01" + b"\x91" * 5000 + b"\x90")
broken(
    "frame 0 of one byte too many",
    "V2",
    raw=b"\x90",
    pad_to=1024 + 1048576 + 1,
    mine=hello("binding", max_message=1024, max_metadata=0),
)
broken(
    "more elements than a frame 0 of its size may have",
    "V2",
    raw=bytes.fromhex(
        "91 95 03 01 00 00 dd 00100000"
    ),  # PING, and an array of 1048576 numbers that mean nothing
    pad_to=11 + 1048576,
)
vector(
    "few elements in a frame 0 of more than 1 MiB",
    raw=bytes.fromhex("91 95 03 01 00 00 c6 00100000"),  # the same with as many bytes
    pad_to=11 + 1048576,
    events=[{"event": "ping"}],
    answers=[[4, 1, 0]],
)
broken("one command too many", "V4", [3, 1], [3, 2], [3, 3], mine=hello("binding", max_commands=2))
broken("a command that is no array", "V5", raw=b"\x91\x01")
broken("a command that is a map", "V5", raw=b"\x91\x80")
broken("an empty command", "V5", [])
broken("an unknown command", "V5", [12, 1])
broken("a negative command", "V5", [-1])
broken("a command whose number is text", "V5", ["3", 1])
broken("a command whose number is a float", "V5", [3.0, 1])
broken(
    "more attachments asked for than there are",
    "V6",
    [7, 1, "s.m", 0, b"", 2],
    frames=[b"a"],
    last_channel=1,
    or_last_channel=0,
)
broken(
    "attachments left over",
    "V6",
    [7, 1, "s.m", 0, b""],
    frames=[b"a"],
    last_channel=1,
    or_last_channel=0,
    then=[],
)
broken(
    "an enormous number of attachments", "V6", [7, 1, "s.m", 0, b"", MAX], last_channel=1, or_last_channel=0
)
