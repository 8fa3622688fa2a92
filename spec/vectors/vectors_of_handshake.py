"""The vectors of HELLO and REFUSE, written by hand."""

from __future__ import annotations

from typing import Any

from spec.vectors.kit import ANY, LIMITS, NAME, A, B, Command, broken, group, opened, received, sent, vector

GROUP = group("handshake", "HELLO and REFUSE: dmtp.md, section 4.")
vector(
    "HELLO in full",
    [
        0,
        "DMTP",
        1,
        3,
        "0123456789abcdef",
        "left",
        ["json", "msgpack"],
        ["some-feature"],
        {**LIMITS, "max_message": 1024, "link_window": 1},
        [{"name": "calc", "version": "1.2.3"}, {"name": "clock", "version": "0.0.0"}],
        b"secret",
    ],
    state=[],
    events=[
        {
            "event": "hello",
            "peer_id": "0123456789abcdef",
            "name": "left",
            "lowest_version": 1,
            "highest_version": 3,
            "codecs": ["json", "msgpack"],
            "features": ["some-feature"],
            "limits": {"max_message": 1024, "link_window": 1},
            "services": [{"name": "calc", "version": "1.2.3"}, {"name": "clock"}],
            "credentials": b"secret",
        }
    ],
    link="ASKED",
)
vector(
    "HELLO as short as can be",
    [0, "DMTP", 1, 1, "p"],
    state=[],
    sendable=False,
    events=[{"event": "hello", "peer_id": "p"}],
    link="ASKED",
)
vector(
    "HELLO of a later version, with fields and entries that nobody knows yet",
    [
        0,
        "DMTP",
        1,
        9,
        "p",
        "",
        ["msgpack"],
        ["flying"],
        {"max_message": 2048, "max_altitude": [1, 2]},
        [{"name": "calc", "version": "2.0.0", "colour": {"red": 1}}],
        None,
        {"more": [1, 2, 3]},
        42,
    ],
    state=[],
    sendable=False,
    events=[
        {
            "event": "hello",
            "peer_id": "p",
            "highest_version": 9,
            "features": ["flying"],
            "limits": {"max_message": 2048},
            "services": [{"name": "calc", "version": "2.0.0"}],
        }
    ],
    link="ASKED",
)
vector(
    "the answer opens the link",
    B,
    role="connecting",
    state=[sent(A)],
    events=[{"event": "link_opened", "peer_id": "binding"}],
)
vector(
    "commands in the same batch as the answer",
    B,
    [7, 2, "s.m"],
    role="connecting",
    state=[sent(A)],
    sendable=False,
    events=[{"event": "link_opened", "peer_id": "binding"}, opened(2)],
    channels={"2": "OPEN"},
)
for reason in ("auth", "limit", "draining", "a-word-of-a-later-version"):
    vector(
        f"REFUSE: {reason}",
        [1, reason, "some reason"],
        role="connecting",
        state=[sent(A)],
        events=[{"event": "refused", "reason": reason, "message": "some reason"}],
        link="CLOSED",
    )
vector(
    "REFUSE without a message",
    [1, "auth"],
    role="connecting",
    state=[sent(A)],
    sendable=False,
    events=[{"event": "refused", "reason": "auth"}],
    link="CLOSED",
)
vector(
    "no common version",
    [0, "DMTP", 2, 3, "p"],
    state=[],
    violation="V16",
    outcome="refused",
    events=[{"event": "refused", "reason": "version", "message": ANY}],
    answers=[[1, "version", ANY]],
    link="CLOSED",
)
vector(
    "no common codec",
    [0, "DMTP", 1, 1, "p", "", ["json", "yaml"]],
    state=[],
    violation="V17",
    outcome="refused",
    events=[{"event": "refused", "reason": "codec", "message": ANY}],
    answers=[[1, "codec", ANY]],
    link="CLOSED",
)
vector(
    "no common version, found by the connecting side",
    [0, "DMTP", 2, 3, "p"],
    role="connecting",
    state=[sent(A)],
    violation="V16",
    outcome="refused",
    events=[{"event": "refused", "reason": "version", "message": ANY}],
    answers=[[5, 0, "protocol", ANY]],
    link="CLOSED",
)


def bad_hello(name: str, violation: str, *commands: Command, **more: Any) -> None:
    """Add a vector that breaks the link before it is one."""
    vector(
        name,
        *commands,
        state=more.pop("state", []),
        violation=violation,
        outcome="link broken",
        answers=[[1, "protocol", ANY]],
        link="CLOSED",
        **more,
    )


bad_hello("another protocol", "V9", [0, "HTTP", 1, 1, "p"])
bad_hello("OPEN before HELLO", "V8", [7, 1, "s.m"])
bad_hello("REFUSE before HELLO", "V8", [1, "auth", ""])
bad_hello("HELLO twice before the answer", "V8", A, A)
bad_hello("OPEN before the answer", "V8", [7, 1, "s.m"], state=[received(A)])
bad_hello("something that is not msgpack", "V3", raw=b"GET / HTTP/1.1\r\n\r\n")
bad_hello("HELLO without a peer id", "V5", [0, "DMTP", 1, 1])
bad_hello("HELLO with an empty peer id", "V5", [0, "DMTP", 1, 1, ""])
bad_hello("HELLO with a peer id that is too long", "V5", [0, "DMTP", 1, 1, NAME + "n"])
bad_hello("HELLO without codecs", "V5", [0, "DMTP", 1, 1, "p", "", []])
bad_hello("HELLO with 33 codecs", "V5", [0, "DMTP", 1, 1, "p", "", ["msgpack"] * 33])
bad_hello("HELLO with 65 features", "V5", [0, "DMTP", 1, 1, "p", "", ["msgpack"], ["f"] * 65])
bad_hello(
    "HELLO with a limit that is too low",
    "V5",
    [0, "DMTP", 1, 1, "p", "", ["msgpack"], [], {"max_message": 1023}],
)
bad_hello(
    "HELLO with a window of nothing", "V5", [0, "DMTP", 1, 1, "p", "", ["msgpack"], [], {"link_window": 0}]
)
bad_hello("HELLO with a service without a name", "V5", [0, "DMTP", 1, 1, "p", "", ["msgpack"], [], {}, [{}]])
bad_hello(
    "HELLO with credentials that are too long",
    "V5",
    [0, "DMTP", 1, 1, "p", "", ["msgpack"], [], {}, [], bytes(8193)],
)
for text, command in (("HELLO", B), ("REFUSE", [1, "auth", ""])):
    broken(f"{text} on an open link", "V8", command)
broken("HELLO from the binding side before anybody asked", "V8", B, role="connecting", state=[])
broken("OPEN instead of the answer", "V8", [7, 2, "s.m"], role="connecting", state=[sent(A)])
broken("GOAWAY instead of the answer", "V8", [5, 0, "draining"], role="connecting", state=[sent(A)])
