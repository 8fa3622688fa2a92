"""The vectors of DATA, END and CREDIT, written by hand."""

from __future__ import annotations

from spec.vectors.kit import (
    ANY,
    MAX,
    OPENED,
    broken,
    cancelled,
    closed,
    group,
    hello,
    message,
    received,
    sent,
    vector,
)

GROUP = group("data", "DATA, END and CREDIT for channels: dmtp.md, sections 3.4, 5.2 and 6.")
vector("DATA", [8, 1, b"x"], then=OPENED, events=[message(1, b"x", 65)], channels={"1": "OPEN"})
vector("DATA of nothing", [8, 1, b""], then=OPENED, events=[message(1, b"", 64)], channels={"1": "OPEN"})
vector(
    "DATA from the responder",
    [8, 1, b"x"],
    role="connecting",
    then=[sent([7, 1, "s.m", 0, None])],
    events=[message(1, b"x", 65)],
    channels={"1": "OPEN"},
)
vector(
    "DATA with END",
    [8, 1, b"x", 1],
    then=OPENED,
    events=[message(1, b"x", 65), {"event": "end", "channel": 1}],
    channels={"1": "REMOTE_ENDED"},
)
vector(
    "DATA with RESULT",
    [8, 1, b"x", 2],
    role="connecting",
    then=[sent([7, 1, "s.m", 2, None])],
    events=[message(1, b"x", 65, result=True)],
    channels={"1": "OPEN"},
)
vector(
    "DATA with attachments and END",
    [8, 1, b"x", 1, 2],
    frames=[b"one", b"two"],
    then=OPENED,
    events=[message(1, b"x", 71, attachments=[b"one", b"two"]), {"event": "end", "channel": 1}],
    channels={"1": "REMOTE_ENDED"},
)
vector(
    "DATA with fields that nobody knows yet",
    [8, 1, b"x", 0, 0, "more", None],
    then=OPENED,
    sendable=False,
    events=[message(1, b"x", 65)],
    channels={"1": "OPEN"},
)
vector(
    "DATA larger than the window",
    [8, 1, bytes(2000)],
    then=OPENED,
    mine=hello("binding", channel_window=100, link_window=1000),
    events=[message(1, bytes(2000), 2064)],
    channels={"1": "OPEN"},
)
vector(
    "END",
    [9, 1],
    then=OPENED,
    events=[{"event": "end", "channel": 1}],
    channels={"1": "REMOTE_ENDED"},
)
vector(
    "END after END of this side",
    [9, 1],
    then=[*OPENED, sent([9, 1])],
    events=[{"event": "end", "channel": 1}],
    channels={"1": "BOTH_ENDED"},
)
vector(
    "CREDIT for a channel",
    [6, 1, 64],
    then=OPENED,
    sendable=False,
    events=[{"event": "credit", "channel": 1}],
    channels={"1": "OPEN"},
)
broken("DATA with undefined flags", "V12", [8, 1, b"x", 4], then=OPENED, last_channel=1)
broken("DATA without a payload", "V5", [8, 1], then=OPENED, last_channel=1)
broken("DATA with nil", "V5", [8, 1, None], then=OPENED, last_channel=1)
broken("DATA with text", "V5", [8, 1, "x"], then=OPENED, last_channel=1)
broken("END of channel 0", "V5", [9, 0], then=OPENED, last_channel=1)
broken("CREDIT for a channel that overflows", "V14", [6, 1, MAX], then=OPENED, last_channel=1)
for text, command in (
    ("CREDIT", [6, 3, 1]),
    ("DATA", [8, 3, b""]),
    ("END", [9, 3]),
    ("CLOSE", [10, 2]),
    ("CANCEL", [11, 3]),
):
    broken(f"{text} for a channel that never began", "V13", command, then=OPENED, last_channel=1)
    over = [*OPENED, sent([10, 1, 0, None])]
    vector(
        f"{text} for a channel that is over",
        [*command[:1], 1, *command[2:]],
        then=over,
        violation="V27",
        outcome="dropped",
        channels={"1": "OVER"},
        dropped=1,
    )
for text, command in (("DATA", [8, 1, b"x"]), ("END", [9, 1])):
    vector(
        f"{text} after END",
        command,
        then=[*OPENED, received([9, 1])],
        violation="V18",
        outcome="channel broken",
        events=[cancelled(1, ANY, over=True)],
        answers=[[10, 1, 13, None, 0, ANY]],
        channels={"1": "OVER"},
    )
    vector(
        f"{text} from the responder after END",
        command,
        role="connecting",
        then=[sent([7, 1, "s.m", 0, None]), received([9, 1])],
        violation="V18",
        outcome="channel broken",
        events=[closed(1, 13, message=ANY)],
        answers=[[11, 1, ANY]],
        channels={"1": "CANCELLING"},
    )
    vector(
        f"{text} after this side's CANCEL",
        command,
        role="connecting",
        then=[sent([7, 1, "s.m", 0, None]), sent([11, 1])],
        violation="V27",
        outcome="dropped",
        channels={"1": "CANCELLING"},
        dropped=1,
    )
    vector(
        f"{text} after the opener's CANCEL",
        command,
        then=[*OPENED, received([11, 1])],
        violation="V27",
        outcome="dropped",
        channels={"1": "CANCELLED"},
        dropped=1,
    )
    vector(
        f"{text} for a notification",
        command,
        then=[received([7, 1, "s.m", 5, b"p"])],
        violation="V27",
        outcome="dropped",
        channels={"1": "OVER"},
        dropped=1,
    )
vector(
    "DATA while the channel's balance is zero",
    [8, 1, b""],
    then=[*OPENED, received([8, 1, bytes(36)])],
    mine=hello("binding", channel_window=100),
    violation="V19",
    outcome="channel broken",
    events=[cancelled(1, ANY, over=True)],
    answers=[[10, 1, 8, None, 0, ANY]],
    channels={"1": "OVER"},
)
vector(
    "DATA while the channel's balance is one",
    [8, 1, bytes(500)],
    then=[*OPENED, received([8, 1, bytes(35)])],
    mine=hello("binding", channel_window=100),
    events=[message(1, bytes(500), 564)],
    channels={"1": "OPEN"},
)
broken(
    "DATA while the link's balance is zero",
    "V15",
    [8, 1, b""],
    then=[*OPENED, received([8, 1, bytes(36)])],
    mine=hello("binding", link_window=100),
    last_channel=1,
)
vector(
    "DATA that is too large",
    [8, 1, bytes(1025)],
    then=OPENED,
    mine=hello("binding", max_message=1024),
    violation="V20",
    outcome="channel broken",
    events=[cancelled(1, ANY, over=True)],
    answers=[[10, 1, 8, None, 0, ANY]],
    channels={"1": "OVER"},
)
vector(
    "DATA with too many attachments",
    [8, 1, b"", 0, 2],
    frames=[b"", b""],
    then=OPENED,
    mine=hello("binding", max_attachments=1),
    violation="V21",
    outcome="channel broken",
    events=[cancelled(1, ANY, over=True)],
    answers=[[10, 1, 8, None, 0, ANY]],
    channels={"1": "OVER"},
)
vector(
    "a dropped message gives its link credit back at once",
    [8, 1, bytes(100)],
    then=[*OPENED, sent([10, 1, 0, None])],
    mine=hello("binding", link_window=200),
    violation="V27",
    outcome="dropped",
    answers=[[6, 0, 164]],
    channels={"1": "OVER"},
    dropped=1,
)
