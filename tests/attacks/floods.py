"""Floods of what costs an attacker little and a peer more: of each feature the cheapest way to have much of it done."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any, Final

import msgpack
import zmq

from tests.attacks.wire import LARGEST, Attacker, Context, positional, until

#: Commands of a flood in one message.
_BATCH: Final = 500


def _in_flight(one: Attacker, most: int, make: Callable[[], list[Any]], together: int = 50) -> None:
    """Keep so many calls unanswered."""
    while one.asked - one.answered < most and one.say(
        *[command for _ in range(together) for command in make()]
    ):
        one.asked += together


def _flood(
    context: Context,
    endpoint: str,
    end: float,
    make: Callable[[Attacker], list[Any]],
    *,
    links: int = 1,
    most: int = 2000,
    together: int = 50,
) -> None:
    """Keep so many calls of each link unanswered, which ``make`` says the commands of."""
    everybody = [Attacker(context, endpoint) for _ in range(links)]
    for _ in until(end):
        for one in everybody:
            _in_flight(one, most, lambda one=one: make(one), together)  # type: ignore[misc]
            one.read(0.001)


def crowd(context: Context, endpoint: str, end: float) -> None:
    """A hundred links from one address, each with calls in messages of their own."""
    _flood(context, endpoint, end, lambda one: [one.opened("add", 1, 2)], links=100, most=40, together=1)


def crowded_threads(context: Context, endpoint: str, end: float) -> None:
    """Ten links with plain functions that take no time."""
    _flood(context, endpoint, end, lambda one: [one.opened("hold", 0.0)], links=10, most=200, together=5)


def callbacks(context: Context, endpoint: str, end: float) -> None:
    """Calls that call back, many times each, and are answered at once."""
    one = Attacker(context, endpoint)
    asked = 0
    for _ in until(end):
        while asked - one.answered < 200:
            channel = next(one.channels)
            question = msgpack.packb([[msgpack.ExtType(3, b"\x01"), 100]], use_bin_type=True)
            if one.say([7, channel, "target.ask_often", 2], [8, channel, question, 1]):
                asked += 1
        answers = [[10, command[1], 0, b"\xc0"] for command in one.read(0.01) if command[0] == 7]
        for start in range(0, len(answers), _BATCH):
            one.say(*answers[start : start + _BATCH])


def channels(context: Context, endpoint: str, end: float) -> None:
    """Calls with channels as values, which are closed at once."""

    def make(one: Attacker) -> list[Any]:
        call, sink, source = (next(one.channels) for _ in range(3))
        values = [msgpack.ExtType(code, msgpack.packb(number)) for code, number in ((4, sink), (5, source))]
        payload = msgpack.packb([values], use_bin_type=True)
        return [
            [7, call, "target.join", 2],
            [7, sink, None, 1, None, 0, None, None, None, call],
            [7, source, None, 0, None, 0, None, None, None, call],
            [8, call, payload, 1],
            [9, source],
        ]

    _flood(context, endpoint, end, make, most=500, together=50)


def storms(context: Context, endpoint: str, end: float) -> None:
    """Calls of a plain function, a generator and a stream that are cancelled at once."""

    def make(one: Attacker) -> list[Any]:
        calls = [one.opened("hold", 0.01), one.opened("count", 5, flags=1), one.opened("tick", flags=1)]
        return [command for call in calls for command in (call, [11, call[1]])]

    one = Attacker(context, endpoint)
    for _ in until(end):
        one.say(*[command for _ in range(100) for command in make(one)])
        one.read(0.02)


def headers(context: Context, endpoint: str, end: float) -> None:
    """Cheap calls with as much metadata as is taken."""
    entries = {f"{number:03}": "v" * 85 for number in range(64)}
    _flood(context, endpoint, end, lambda one: [one.opened("add", 1, 2, metadata=entries)])


def flaps(context: Context, endpoint: str, end: float) -> None:
    """Links that are made and said goodbye to, thirty at once."""
    services = [{"name": f"{number:04}"} for number in range(200)]
    for _ in until(end):
        links = [Attacker(context, endpoint) for _ in range(30)]
        for one in links:
            one.say([2, services], *[one.opened("nap", 60) for _ in range(20)], [5, 0, "draining", "bye"])
            one.say([5, 0, "closing", ""])
        for one in links:
            one.read(0.001)
            one.socket.close()


def attachments(context: Context, endpoint: str, end: float) -> None:
    """Calls with as many large attachments as a message may have, which do not fit the method."""
    one = Attacker(context, endpoint)
    parts = [bytes(100_000)] * 60
    body = [msgpack.ExtType(2, msgpack.packb(number)) for number in range(60)]
    payload = msgpack.packb([[body, 1]], use_bin_type=True)
    cost = sum(map(len, parts)) + len(payload) + 64
    for _ in until(end):
        one.read(0.001)
        call = [7, next(one.channels), "target.add", 3, payload, 60]
        if one.credit > cost and one.say(call, attachments=parts):
            one.credit -= cost


def resumptions(context: Context, endpoint: str, end: float) -> None:
    """Resumable streams that are given up and opened again."""

    def make(one: Attacker) -> list[Any]:
        call = one.opened("follow", flags=1, metadata={"duplex-resume": ""})
        return [call, [6, call[1], 100], [11, call[1]]]

    _flood(context, endpoint, end, make, most=1000)


def keys(context: Context, endpoint: str, end: float) -> None:
    """Calls with idempotency keys, each with one of its own."""
    numbers = itertools.count()
    _flood(
        context,
        endpoint,
        end,
        lambda one: [one.opened("add", 1, 2, metadata={"duplex-idempotency-key": f"{next(numbers)}"})],
    )


def attempts(context: Context, endpoint: str, end: float) -> None:
    """Calls that wait for the result of one with the same idempotency key."""
    one = Attacker(context, endpoint)
    numbers = itertools.count()
    for _ in until(end):
        key = {"duplex-idempotency-key": f"{next(numbers)}"}
        for _ in range(8):
            one.say(*[one.opened("nap", 0.1, metadata=key) for _ in range(_BATCH)])
        one.read(0.2)


def watches(context: Context, endpoint: str, end: float) -> None:
    """As many watches of a peer's health as there may be, given up and begun again."""

    def make(one: Attacker) -> list[Any]:
        call = one.opened("duplex.health.watch", flags=1)
        return [call, [11, call[1]]]

    _flood(context, endpoint, end, make, most=1000)


def lists(context: Context, endpoint: str, end: float) -> None:
    """Questions of Duplex's own services that are answered inline."""
    _flood(context, endpoint, end, lambda one: [one.opened("duplex.health.list")], together=500)


def summaries(context: Context, endpoint: str, end: float) -> None:
    """Questions which services there are."""
    _flood(context, endpoint, end, lambda one: [one.opened("duplex.reflection.services")], together=100)


def deadlines(context: Context, endpoint: str, end: float) -> None:
    """Calls whose time runs out a moment after they came."""
    _flood(context, endpoint, end, lambda one: [one.opened("nap", 60, timeout=20)], most=4000, together=500)


def items(context: Context, endpoint: str, end: float) -> None:
    """A stream of the smallest items, each in a message of its own, and one of many in each message."""
    one = Attacker(context, endpoint)
    calls = [one.opened("count_all", flags=0) for _ in range(2)]
    for call in calls:
        one.say([7, call[1], call[2], 2])
    room = {call[1]: 1024 * 1024 for call in calls}
    single, many = room
    for _ in until(end):
        for command in one.read(0.0005):
            if command[0] == 6:
                room[command[1]] += command[2]
        for _ in range(200):
            if room[single] > 65 and one.credit > 65 and one.say([8, single, b"\x01"]):
                room[single] -= 65
                one.credit -= 65
        cost = 65 * _BATCH
        if min(room[many], one.credit) > cost and one.say(*[[8, many, b"\x01"] for _ in range(_BATCH)]):
            room[many] -= cost
            one.credit -= cost


def downloads(context: Context, endpoint: str, end: float) -> None:
    """Fifty downloads, read as fast as they come."""
    one = Attacker(context, endpoint, limits={"link_window": LARGEST, "channel_window": LARGEST})
    one.say(*[one.opened("download", 10**12, flags=1) for _ in range(50)])
    for _ in until(end):
        one.socket.poll(100)
        while one.socket.poll(0):
            one.socket.recv_multipart(copy=False)


def handshakes(context: Context, endpoint: str, end: float) -> None:
    """Connections on which nothing is said, or nothing that is understood."""
    sockets: list[zmq.Socket[bytes]] = []
    for _ in until(end):
        for _ in range(20):
            one = context.socket(zmq.DEALER)
            one.set(zmq.LINGER, 0)
            one.connect(endpoint)
            if len(sockets) % 2:
                one.send(b"GET / HTTP/1.1\r\n\r\n")
            sockets.append(one)
        time.sleep(0.01)  # more of them would be the kernel's business
        while len(sockets) > 400:
            sockets.pop(0).close()


def empty(context: Context, endpoint: str, end: float) -> None:
    """Messages with nothing in them, as fast as they go."""
    one = Attacker(context, endpoint)
    payload = msgpack.packb([])
    for _ in until(end):
        for _ in range(100):
            one.socket.send(payload)


def deep(context: Context, endpoint: str, end: float) -> None:
    """Arguments of as many elements as there may be."""
    one = Attacker(context, endpoint)
    payload = positional([[]] * 131_000)
    cost = len(payload) + 64
    for _ in until(end):
        one.read(0.001)
        if one.credit > cost and one.say([7, next(one.channels), "target.swallow", 3, payload]):
            one.credit -= cost


FLOODS: Final = (
    crowd,
    crowded_threads,
    callbacks,
    channels,
    storms,
    headers,
    flaps,
    attachments,
    resumptions,
    keys,
    attempts,
    watches,
    lists,
    summaries,
    deadlines,
    items,
    downloads,
    handshakes,
    empty,
    deep,
)
