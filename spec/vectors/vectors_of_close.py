"""The vectors of CLOSE and CANCEL, written by hand."""

from __future__ import annotations

from typing import Any

from spec.vectors.kit import (
    ANY,
    CALLED,
    OPENED,
    Command,
    broken,
    cancelled,
    closed,
    group,
    hello,
    received,
    sent,
    vector,
)

GROUP = group("close", "CLOSE and CANCEL: dmtp.md, sections 3.4 and 5.2.")


def close(name: str, command: Command, **more: Any) -> None:
    """Add a vector of a ``CLOSE`` that ends channel 1."""
    vector(name, command, role="connecting", then=more.pop("then", CALLED), channels={"1": "OVER"}, **more)


close("CLOSE", [10, 1, 0, None], events=[closed(1)])
close("CLOSE as short as can be", [10, 1], sendable=False, events=[closed(1)])
close("CLOSE with a result", [10, 1, 0, b"\x03"], events=[closed(1, payload=b"\x03")])
close(
    "CLOSE with an error",
    [10, 1, 5, None, 0, "there is no such thing", None, None],
    events=[closed(1, 5, message="there is no such thing")],
)
close(
    "CLOSE with everything",
    [10, 1, 9, b"p", 1, "message", b"\xc0", {"k": "v", "b": b"\x00"}],
    frames=[b"a"],
    events=[
        closed(
            1,
            9,
            payload=b"p",
            attachments=[b"a"],
            message="message",
            details=b"\xc0",
            trailers={"k": "v", "b": b"\x00"},
        )
    ],
)
close(
    "CLOSE with fields that nobody knows yet",
    [10, 1, 0, None, 0, "", None, None, "more", [1]],
    sendable=False,
    events=[closed(1)],
)
close(
    "CLOSE with a status of a later version",
    [10, 1, 99, None, 0, "m", None, None],
    events=[closed(1, 99, message="m")],
)
close(
    "CLOSE after both sides' END",
    [10, 1, 0, b"r"],
    then=[*CALLED, sent([9, 1]), received([9, 1])],
    events=[closed(1, payload=b"r")],
)
close("CLOSE as the answer to CANCEL", [10, 1, 1, None], then=[*CALLED, sent([11, 1])])
close(
    "CLOSE that crosses CANCEL",
    [10, 1, 0, bytes(100)],
    then=[*CALLED, sent([11, 1])],
    sendable=False,
    mine=hello("connecting", link_window=200),
    answers=[[6, 0, 164]],
)
close(
    "a result gives its link credit back at once",
    [10, 1, 0, bytes(100)],
    mine=hello("connecting", link_window=200),
    events=[closed(1, payload=bytes(100))],
    answers=[[6, 0, 164]],
)


def bad_close(name: str, violation: str, status: int, command: Command, **more: Any) -> None:
    """Add a vector of a ``CLOSE`` that ends channel 1 with another status than it says."""
    close(
        name,
        command,
        violation=violation,
        outcome="channel broken",
        events=[closed(1, status, message=ANY)],
        **more,
    )


bad_close(
    "a result that is too large",
    "V20",
    8,
    [10, 1, 0, bytes(1025)],
    mine=hello("connecting", max_message=1024),
)
bad_close(
    "details that are too large",
    "V20",
    8,
    [10, 1, 3, None, 0, "", bytes(1025)],
    mine=hello("connecting", max_message=1024),
)
bad_close(
    "a result and details that are too large together",
    "V20",
    8,
    [10, 1, 3, bytes(1000), 0, "", bytes(25)],
    mine=hello("connecting", max_message=1024),
)
bad_close(
    "a result with too many attachments",
    "V21",
    8,
    [10, 1, 0, b"", 1],
    frames=[b"a"],
    mine=hello("connecting", max_attachments=0),
)
bad_close(
    "a result while the channel's balance is below zero",
    "V19",
    8,
    [10, 1, 0, b""],
    then=[*CALLED, received([8, 1, bytes(100)])],
    mine=hello("connecting", channel_window=100),
)
bad_close(
    "trailers that are too large",
    "V22",
    8,
    [10, 1, 0, None, 0, "", None, {"key": "v" * 66}],
    mine=hello("connecting", max_metadata=100),
)
bad_close("trailers with a bad key", "V23", 3, [10, 1, 0, None, 0, "", None, {"Key": "v"}])
bad_close("trailers with a bad value", "V23", 3, [10, 1, 0, None, 0, "", None, {"k": {}}])
for text, command in (
    ("of channel 0", [10, 0]),
    ("with a negative status", [10, 1, -1]),
    ("with text as payload", [10, 1, 0, "p"]),
):
    broken(f"CLOSE {text}", "V5", command, role="connecting", then=CALLED)
broken("CLOSE with details that are text", "V5", [10, 1, 3, None, 0, "", "d"], role="connecting", then=CALLED)
broken(
    "CLOSE with attachments but no message",
    "V7",
    [10, 1, 0, None, 1],
    frames=[b"a"],
    role="connecting",
    then=CALLED,
)
vector(
    "CLOSE by the opener",
    [10, 1],
    then=OPENED,
    violation="V18",
    outcome="channel broken",
    events=[cancelled(1, ANY, over=True)],
    answers=[[10, 1, 13, None, 0, ANY]],
    channels={"1": "OVER"},
)
vector("CANCEL", [11, 1], then=OPENED, events=[cancelled(1)], channels={"1": "CANCELLED"})
vector(
    "CANCEL with a reason",
    [11, 1, "no longer needed"],
    then=OPENED,
    events=[cancelled(1, "no longer needed")],
    channels={"1": "CANCELLED"},
)
vector(
    "CANCEL after both sides' END",
    [11, 1],
    then=[received([7, 1, "s.m", 1, None]), sent([9, 1])],
    events=[cancelled(1)],
    channels={"1": "CANCELLED"},
)
vector(
    "CANCEL gives back what was not taken",
    [11, 1],
    then=[received([7, 1, "s.m", 0, bytes(100)])],
    mine=hello("binding", link_window=200),
    sendable=True,
    events=[cancelled(1)],
    answers=[[6, 0, 164]],
    channels={"1": "CANCELLED"},
)
vector(
    "CANCEL twice",
    [11, 1],
    then=[*OPENED, received([11, 1])],
    violation="V27",
    outcome="dropped",
    channels={"1": "CANCELLED"},
    dropped=1,
)
vector(
    "CANCEL for a notification, whose handler may still run",
    [11, 1],
    then=[received([7, 1, "s.m", 5, bytes(100)])],
    mine=hello("binding", link_window=5000),
    violation="V27",
    outcome="dropped",
    channels={"1": "OVER"},
    dropped=1,
)
vector(
    "CANCEL by the responder",
    [11, 1],
    role="connecting",
    then=CALLED,
    violation="V18",
    outcome="channel broken",
    events=[closed(1, 13, message=ANY)],
    answers=[[11, 1, ANY]],
    channels={"1": "CANCELLING"},
)
broken("CANCEL with a reason that is too long", "V5", [11, 1, "t" * 8193], then=OPENED, last_channel=1)
