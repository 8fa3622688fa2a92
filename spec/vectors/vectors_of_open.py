"""The vectors of OPEN, written by hand."""

from __future__ import annotations

from typing import Any

from spec.vectors.kit import ANY, MAX, NAME, B, Command, broken, group, hello, opened, received, sent, vector

GROUP = group("open", "OPEN, with everything that it may carry: dmtp.md, sections 3.4 and 5.")
vector("OPEN without a message", [7, 1, "s.m", 0, None], events=[opened(1)], channels={"1": "OPEN"})
vector("OPEN as short as can be", [7, 1, "s.m"], sendable=False, events=[opened(1)], channels={"1": "OPEN"})
vector(
    "a unary call",
    [7, 1, "calc.add", 3, b"\x91\x92\x01\x02"],
    events=[opened(1, "calc.add", end=True, unary=True, payload=b"\x91\x92\x01\x02", cost=68)],
    channels={"1": "REMOTE_ENDED"},
)
vector(
    "OPEN by the binding side",
    [7, 2, "s.m", 0, None],
    role="connecting",
    events=[opened(2)],
    channels={"2": "OPEN"},
)
vector(
    "OPEN with an empty message",
    [7, 1, "s.m", 0, b""],
    events=[opened(1, payload=b"", cost=64)],
    channels={"1": "OPEN"},
)
vector(
    "OPEN with attachments",
    [7, 1, "s.m", 1, b"p", 2, None],
    frames=[b"one", b""],
    events=[opened(1, end=True, payload=b"p", attachments=[b"one", b""], cost=68)],
    channels={"1": "REMOTE_ENDED"},
)
vector(
    "OPEN with a timeout",
    [7, 1, "s.m", 0, None, 0, 1500],
    events=[opened(1, timeout=1500)],
    channels={"1": "OPEN"},
)
vector(
    "OPEN with no time left",
    [7, 1, "s.m", 0, None, 0, 0],
    sendable=False,
    events=[opened(1, timeout=0)],
    channels={"1": "OPEN"},
)
vector(
    "OPEN with metadata",
    [7, 1, "s.m", 0, None, 0, None, {"trace-id": "0af7", "b.l_o-b": b"\x00\xff"}, None, None, None],
    events=[opened(1, metadata={"trace-id": "0af7", "b.l_o-b": b"\x00\xff"})],
    channels={"1": "OPEN"},
)
vector(
    "OPEN with empty metadata",
    [7, 1, "s.m", 0, None, 0, None, {}],
    sendable=False,
    events=[opened(1)],
    channels={"1": "OPEN"},
)
vector(
    "OPEN with a window",
    [7, 1, "s.m", 0, None, 0, None, None, 500, None, None],
    events=[opened(1)],
    channels={"1": "OPEN"},
)
vector(
    "OPEN of a callback",
    [7, 3, 17, 3, b"\x91\x90", 0, None, None, None, 1, None],
    then=[received([7, 1, "s.m", 0, None])],
    events=[opened(3, 17, end=True, unary=True, payload=b"\x91\x90", cost=66, parent=1)],
    channels={"1": "OPEN", "3": "REMOTE_ENDED"},
)
vector(
    "OPEN of a channel that is a value",
    [7, 3, None, 1, None, 0, None, None, None, 1, None],
    then=[received([7, 1, "s.m", 0, None])],
    events=[opened(3, None, end=True, parent=1)],
    channels={"1": "OPEN", "3": "REMOTE_ENDED"},
)
vector(
    "OPEN with a codec",
    [7, 1, "s.m", 0, None, 0, None, None, None, None, "msgpack"],
    events=[opened(1)],
    channels={"1": "OPEN"},
)
vector(
    "OPEN with everything, and with fields that nobody knows yet",
    [7, 1, "s.m", 0, b"p", 1, 1, {"k": "v"}, 2, 3, "msgpack", "more", {"and": ["more"]}],
    frames=[b"a"],
    sendable=False,
    events=[opened(1, payload=b"p", attachments=[b"a"], cost=66, timeout=1, metadata={"k": "v"}, parent=3)],
    channels={"1": "OPEN"},
)
vector(
    "OPEN of the longest name",
    [7, 1, NAME, 0, None],
    events=[opened(1, NAME)],
    channels={"1": "OPEN"},
)
vector(
    "OPEN of a name in letters of many bytes",
    [7, 1, "überall.größe", 0, None],
    events=[opened(1, "überall.größe")],
    channels={"1": "OPEN"},
)
vector(
    "OPEN that skips numbers",
    [7, 9, "s.m", 0, None],
    sendable=False,
    events=[opened(9)],
    channels={"9": "OPEN"},
)
vector(
    "a notification",
    [7, 1, "s.m", 5, b"p"],
    events=[opened(1, end=True, notify=True, payload=b"p", cost=4097)],
    channels={"1": "OVER"},
)
for what, channels, more in (
    ("of the receiver's own numbers", [2], {}),
    ("of a number that was used", [1], {"then": [received([7, 1, "s.m"])], "last_channel": 1}),
    ("of a number below another", [3], {"then": [received([7, 5, "s.m"])], "last_channel": 5}),
):
    for channel in channels:
        rule = "V10" if channel == 2 else "V11"
        broken(f"OPEN {what}", rule, [7, channel, "s.m"], channels={}, **more)
broken("OPEN of channel 0", "V5", [7, 0, "s.m"])
broken("OPEN above 2^53 - 1", "V5", [7, MAX + 2, "s.m"])
broken("OPEN without a target", "V5", [7, 1])
broken("OPEN of an empty name", "V5", [7, 1, ""])
broken("OPEN of a name that is too long", "V5", [7, 1, NAME + "n"])
broken("OPEN of bytes", "V5", [7, 1, b"s.m"])
broken("OPEN of a negative number", "V5", [7, 1, -1])
broken("OPEN with a payload that is text", "V5", [7, 1, "s.m", 0, "p"])
broken("OPEN with metadata that is an array", "V5", [7, 1, "s.m", 0, None, 0, None, []])
broken("OPEN with a key that is no text", "V5", [7, 1, "s.m", 0, None, 0, None, {1: "v"}])
broken(
    "OPEN with 257 entries of metadata",
    "V5",
    [7, 1, "s.m", 0, None, 0, None, {f"k{n}": "" for n in range(257)}],
)
broken("OPEN with a parent of 0", "V5", [7, 1, "s.m", 0, None, 0, None, None, None, 0])
broken("OPEN with an empty codec", "V5", [7, 1, "s.m", 0, None, 0, None, None, None, None, ""])
broken("OPEN with undefined flags", "V12", [7, 1, "s.m", 8, None])
broken("a notification without END", "V12", [7, 1, "s.m", 4, b"p"])
broken("a notification without a message", "V12", [7, 1, "s.m", 5, None])
broken(
    "OPEN with attachments but no message",
    "V7",
    [7, 1, "s.m", 0, None, 1],
    frames=[b"a"],
    last_channel=1,
    or_last_channel=0,
)


def refused(name: str, violation: str, status: int, command: Command, **more: Any) -> None:
    """Add a vector of an ``OPEN`` that its responder does not take."""
    channel = command[1]
    vector(
        name,
        command,
        violation=violation,
        outcome="channel broken",
        answers=[[10, channel, status, None, 0, ANY, None, {"duplex-refused": "1"}]],
        channels={str(channel): "OVER", **more.pop("channels", {})},
        **more,
    )


refused(
    "OPEN with a message that is too large",
    "V20",
    8,
    [7, 1, "s.m", 0, bytes(1025)],
    mine=hello("binding", max_message=1024),
)
refused(
    "OPEN with a payload and an attachment that are too large together",
    "V20",
    8,
    [7, 1, "s.m", 0, bytes(1000), 1],
    frames=[bytes(25)],
    mine=hello("binding", max_message=1024),
)
refused(
    "OPEN with too many attachments",
    "V21",
    8,
    [7, 1, "s.m", 0, b"", 2],
    frames=[b"a", b"b"],
    mine=hello("binding", max_attachments=1),
)
refused(
    "OPEN with metadata that is too large",
    "V22",
    8,
    [7, 1, "s.m", 0, b"p", 0, None, {"key": "v" * 66}],
    mine=hello("binding", max_metadata=100),
)
for what, metadata in (
    ("an upper-case letter in a key", {"Key": "v"}),
    ("an empty key", {"": "v"}),
    ("a key beyond ASCII", {"schlüssel": "v"}),
    ("a value that is a number", {"k": 1}),
    ("a value that is nil", {"k": None}),
    ("a value that is an array", {"k": ["v"]}),
):
    refused(f"OPEN with {what}", "V23", 3, [7, 1, "s.m", 0, None, 0, None, metadata])
vector(
    "OPEN with a value of metadata that is not UTF-8",
    raw=b"\x91\x98\x07\x01\xa3s.m\x00\xc0\x00\xc0\x81\xa1k\xa1\xff",
    violation="V23",
    outcome="channel broken",
    answers=[[10, 1, 3, None, 0, ANY, None, {"duplex-refused": "1"}]],
    channels={"1": "OVER"},
)
refused(
    "OPEN of one channel too many",
    "V24",
    8,
    [7, 3, "s.m", 0, b"p"],
    then=[received([7, 1, "s.m"])],
    mine=hello("binding", max_channels=1),
    channels={"1": "OPEN"},
)
refused(
    "OPEN after GOAWAY",
    "V25",
    14,
    [7, 3, "s.m"],
    then=[received([7, 1, "s.m"]), sent([5, 1, "draining", ""])],
    channels={"1": "OPEN"},
)
refused(
    "OPEN after GOAWAY with a parent that is over",
    "V25",
    14,
    [7, 3, None, 0, None, 0, None, None, None, 1],
    then=[received([7, 1, "s.m"]), sent([5, 1, "draining", ""]), sent([10, 1, 0, None])],
    channels={"1": "OVER"},
)
vector(
    "OPEN after GOAWAY with a parent that runs",
    [7, 3, None, 0, None, 0, None, None, None, 1, None],
    then=[received([7, 1, "s.m", 0, None]), sent([5, 1, "draining", ""])],
    events=[opened(3, None, parent=1)],
    channels={"1": "OPEN", "3": "OPEN"},
)
refused(
    "OPEN with a codec that is not known", "V26", 3, [7, 1, "s.m", 0, None, 0, None, None, None, None, "json"]
)
for what, mine, command in (
    ("with a message that is too large", hello("binding", max_message=1024), [7, 1, "s.m", 5, bytes(1025)]),
    ("with bad metadata", B, [7, 1, "s.m", 5, b"p", 0, None, {"K": "v"}]),
):
    vector(
        f"a notification {what}",
        command,
        mine=mine,
        violation="V30",
        outcome="dropped",
        channels={"1": "OVER"},
        dropped=1,
    )
