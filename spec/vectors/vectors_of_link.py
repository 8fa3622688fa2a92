"""The vectors of commands for the link, written by hand."""

from __future__ import annotations

from spec.vectors.kit import ANY, MAX, broken, closed, group, received, sent, vector

GROUP = group(
    "link", "ANNOUNCE, PING, PONG, GOAWAY and CREDIT for the link: dmtp.md, sections 3.3, 6, 7 and 8."
)
vector(
    "ANNOUNCE",
    [2, [{"name": "calc", "version": "1.0.0"}]],
    events=[{"event": "services", "services": [{"name": "calc", "version": "1.0.0"}]}],
)
vector("ANNOUNCE of nothing", [2, []], events=[{"event": "services", "services": []}])
broken("ANNOUNCE without services", "V5", [2])
broken("ANNOUNCE of nil", "V5", [2, None])
broken("ANNOUNCE of a service with an empty name", "V5", [2, [{"name": "", "version": "1"}]])
vector("PING", [3, 1, 250000], events=[{"event": "ping", "delay": 250000}], answers=[[4, 1, 0]])
vector("PING with a delay left out", [3, 7], sendable=False, events=[{"event": "ping"}], answers=[[4, 7, 0]])
vector(
    "PING with the largest token",
    [3, MAX, 0],
    sendable=False,
    events=[{"event": "ping"}],
    answers=[[4, MAX, 0]],
)
vector(
    "PONG",
    [4, 1, 1000],
    then=[sent([3, 1, 0])],
    sendable=False,
    events=[{"event": "pong", "delay": 1000}],
)
vector("PONG that nobody waits for", [4, 99, 0], violation="V28", outcome="dropped", dropped=1)
broken("PING without a token", "V5", [3])
broken("PING with a negative token", "V5", [3, -1])
broken("PING with a token above 2^53 - 1", "V5", [3, MAX + 1])
broken("PING with a float", "V5", [3, 1.0])
broken("PING with a boolean", "V5", [3, True])
broken("PONG without a token", "V5", [4])
vector(
    "GOAWAY lets running channels finish",
    [5, 1, "draining", "maintenance"],
    role="connecting",
    then=[sent([7, 1, "s.m", 0, None])],
    sendable=False,
    events=[{"event": "goaway", "reason": "draining", "message": "maintenance"}],
    channels={"1": "OPEN"},
)
vector(
    "GOAWAY says which channels never began",
    [5, 1, "draining", ""],
    role="connecting",
    then=[sent([7, 1, "s.m", 0, None], [7, 3, "s.m", 0, None], [7, 5, "s.m", 0, None])],
    sendable=False,
    events=[
        {"event": "goaway", "reason": "draining"},
        closed(3, 14, message=ANY, may_have_executed=False),
        closed(5, 14, message=ANY, may_have_executed=False),
    ],
    channels={"1": "OPEN", "3": "OVER", "5": "OVER"},
)
vector(
    "GOAWAY does not concern nested channels and those of its sender",
    [5, 1, "draining", ""],
    role="connecting",
    then=[
        sent([7, 1, "s.m", 0, None]),
        received([7, 2, 1, 0, None, 0, None, None, None, 1]),
        sent([7, 3, None, 0, None, 0, None, None, None, 1, None]),
    ],
    sendable=False,
    events=[{"event": "goaway", "reason": "draining"}],
    channels={"1": "OPEN", "2": "OPEN", "3": "OPEN"},
)
vector(
    "GOAWAY for a channel that was cancelled: nobody waits for its end any more",
    [5, 0, "draining", ""],
    role="connecting",
    then=[sent([7, 1, "s.m", 0, None]), sent([11, 1])],
    sendable=False,
    events=[{"event": "goaway", "reason": "draining"}],
    channels={"1": "OVER"},
)
vector(
    "GOAWAY before anything was opened",
    [5, 0, "closing", ""],
    events=[{"event": "goaway", "reason": "closing"}],
)
vector(
    "GOAWAY of a connecting side that has found out whom it is linked to: calls never began",
    [5, 0, "auth", "no shops here"],
    then=[sent([7, 2, "s.m", 0, None])],
    sendable=False,
    events=[
        {"event": "goaway", "reason": "auth", "message": "no shops here"},
        closed(2, 14, message=ANY, may_have_executed=False),
    ],
    channels={"2": "OVER"},
)
vector(
    "GOAWAY because of idleness",
    [5, 0, "idle", ""],
    events=[{"event": "goaway", "reason": "idle"}],
)
vector(
    "GOAWAY with a reason of a later version",
    [5, 0, "bored", ""],
    events=[{"event": "goaway", "reason": "bored"}],
)
vector(
    "GOAWAY protocol ends the link at once",
    [5, 0, "protocol", "you broke it"],
    sendable=False,
    events=[{"event": "goaway", "reason": "protocol", "message": "you broke it"}],
    link="CLOSED",
)
vector(
    "what comes after the end of the link is dropped",
    [3, 1, 0],
    then=[received([5, 0, "protocol", ""])],
    violation="V29",
    outcome="dropped",
    link="CLOSED",
    dropped=1,
)
broken("GOAWAY without a reason", "V5", [5, 0])
broken("GOAWAY with an empty reason", "V5", [5, 0, ""])
broken("GOAWAY with a text that is too long", "V5", [5, 0, "closing", "t" * 8193])
vector("CREDIT for the link", [6, 0, 1000], sendable=False, events=[{"event": "credit", "channel": 0}])
broken("CREDIT of nothing", "V5", [6, 0, 0])
broken("CREDIT without an amount", "V5", [6, 0])
broken("CREDIT that overflows", "V14", [6, 0, MAX])
