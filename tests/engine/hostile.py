"""What hostile peers send: by name, as lists of frames."""

from __future__ import annotations

import random
from typing import Final

import msgpack

from tests.engine.raw import HELLO, batch

#: Arguments ``[[1]]``, encoded.
ONE: Final = b"\x91\x91\x01"
#: No arguments.
NONE: Final = b"\x91\x90"
LARGEST: Final = 2**53 - 1


def _random(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def _almost(seed: int) -> bytes:
    """A valid batch with a few bytes changed."""
    source = random.Random(seed)
    data = bytearray(batch([7, 1, "svc.victim", 3, ONE], [3, 1], [8, 1, b"x"], [11, 1]))
    for _ in range(3):
        data[source.randrange(len(data))] = source.randrange(256)
    return bytes(data)


#: Frame 0 that is no batch of commands at all. Whenever it comes, the link ends.
GARBAGE: Final[dict[str, list[bytes]]] = {
    "empty": [b""],
    "never used byte": [b"\xc1"],
    "text": [b"GET / HTTP/1.1\r\n\r\n"],
    "nil": [b"\xc0"],
    "number": [b"\x01"],
    "map": [b"\x81\x01\x02"],
    "array of numbers": [b"\x92\x01\x02"],
    "empty command": [b"\x91\x90"],
    "unknown command": [batch([99])],
    "negative command": [batch([-1])],
    "command as text": [batch(["OPEN", 1])],
    "command as map": [batch({"op": 7})],
    "command in a command": [batch([[7, 1, "svc.victim"]])],
    "truncated": [batch([7, 1, "svc.victim", 3, ONE])[:-2]],
    "trailing bytes": [batch([3, 1]) + b"\x00"],
    "array of four billion": [b"\xdd\xff\xff\xff\xff"],
    "map of four billion": [b"\x91\x92\x07\xdf\xff\xff\xff\xff"],
    "text of four gigabytes": [b"\x91\x93\x07\x01\xdb\xff\xff\xff\xff"],
    "bytes of four gigabytes": [b"\x91\x95\x07\x01\xa1x\x03\xc6\xff\xff\xff\xff"],
    "extension of four gigabytes": [b"\x91\x93\x07\x01\xc9\xff\xff\xff\xff\x01"],
    "deep arrays": [b"\x91" * 100_000 + b"\xc0"],
    "deep maps": [b"\x81\x01" * 100_000 + b"\xc0"],
    "deep metadata": [b"\x91\x97\x07\x01\xa1x\x00\xc0\xc0\x81\xa1k" + b"\x91" * 50_000 + b"\xc0"],
    "name that is not utf-8": [b"\x91\x93\x07\x01\xa2\xff\xfe"],
    "channel as a float": [batch([7, 1.0, "svc.victim"])],
    "channel zero": [batch([7, 0, "svc.victim"])],
    "channel too large": [batch([7, 2**53 + 1, "svc.victim"])],
    "negative channel": [batch([7, -1, "svc.victim"])],
    "name of 256 bytes": [batch([7, 1, "x" * 256])],
    "empty name": [batch([7, 1, ""])],
    "payload as text": [batch([7, 1, "svc.victim", 3, "text"])],
    "negative timeout": [batch([7, 1, "svc.victim", 3, ONE, 0, -5])],
    "metadata as list": [batch([7, 1, "svc.victim", 3, ONE, 0, None, ["a", "b"]])],
    "metadata of 257 entries": [
        batch([7, 1, "svc.victim", 3, ONE, 0, None, {f"k{n}": "v" for n in range(257)}])
    ],
    "too many commands": [batch(*[[3, n] for n in range(1025)])],
    **{f"random {seed}": [_random(seed, 1 + seed * 7)] for seed in range(8)},
    **{f"random {seed} with attachments": [_random(seed, 40), b"a", b""] for seed in range(20, 22)},
}

#: Well-formed, but not what comes first. The link never comes about.
NO_GREETING: Final[dict[str, list[bytes]]] = {
    "open first": [batch([7, 1, "svc.victim", 3, ONE])],
    "ping first": [batch([3, 1])],
    "announce first": [batch([2, [{"name": "x"}]])],
    "goaway first": [batch([5, 0, "closing"])],
    "refuse first": [batch([1, "auth", "no"])],
    "close first": [batch([10, 1])],
    "greeting and open at once": [batch(HELLO, [7, 1, "svc.victim", 3, ONE])],
    "two greetings at once": [batch(HELLO, HELLO)],
    "another protocol": [batch([0, "HTTP", 1, 1, "id"])],
    "another version": [batch([0, "DMTP", 7, 9, "id"])],
    "no version": [batch([0, "DMTP"])],
    "version as text": [batch([0, "DMTP", "1", "1", "id"])],
    "no codec": [batch([*HELLO, []])],
    "unknown codec": [batch([*HELLO, ["pickle"]])],
    "33 codecs": [batch([*HELLO, ["msgpack"] * 33])],
    "limits of zero": [batch([*HELLO, ["msgpack"], [], {"max_message": 0}])],
    "limits as list": [batch([*HELLO, ["msgpack"], [], [1, 2]])],
    "huge limits": [batch([*HELLO, ["msgpack"], [], {"link_window": 2**60}])],
    "1025 services": [batch([*HELLO, ["msgpack"], [], {}, [{"name": f"s{n}"} for n in range(1025)]])],
    "empty peer id": [batch([0, "DMTP", 1, 1, ""])],
    "long peer id": [batch([0, "DMTP", 1, 1, "x" * 256])],
    "large credentials": [batch([*HELLO, ["msgpack"], [], {}, [], b"x" * 9000])],
    "greeting with an attachment": [batch(HELLO), b"attachment"],
}

#: Well-formed, but against the rules of a link that is open. The link ends.
BREAKS_LINK: Final[dict[str, list[bytes]]] = {
    "second greeting": [batch(HELLO)],
    "refuse": [batch([1, "auth", "no"])],
    "number of the other side": [batch([7, 2, "svc.victim", 3, ONE])],
    "number used twice": [batch([7, 1, "svc.gone", 3, ONE], [7, 1, "svc.victim", 3, ONE])],
    "number that goes back": [batch([7, 5, "svc.gone", 3, ONE], [7, 3, "svc.victim", 3, ONE])],
    "unknown flags": [batch([7, 1, "svc.victim", 8, ONE])],
    "notify without end": [batch([7, 1, "svc.victim", 4, ONE])],
    "notify without message": [batch([7, 1, "svc.victim", 5])],
    "data flags": [batch([7, 1, "svc.gone"], [8, 1, b"x", 4])],
    "data on an unknown channel": [batch([8, 1, b"x"])],
    "data on an unknown channel of the other side": [batch([8, 2, b"x"])],
    "end of an unknown channel": [batch([9, 7])],
    "close of an unknown channel": [batch([10, 7])],
    "close of an unknown channel of the other side": [batch([10, 2])],
    "cancel of an unknown channel": [batch([11, 7])],
    "credit for an unknown channel": [batch([6, 7, 1])],
    "credit of zero": [batch([6, 0, 0])],
    "credit that overflows": [batch([6, 0, LARGEST], [6, 0, LARGEST])],
    "attachments that did not come": [batch([7, 1, "svc.victim", 3, ONE, 3])],
    "attachments that nobody asked for": [batch([3, 1]), b"a", b"b"],
    "attachments without a message": [batch([7, 1, "svc.victim", 0, None, 1]), b"a"],
    "1000 attachments of nothing": [batch([3, 1]), *[b""] * 1000],
    "1025 services": [batch([2, [{"name": f"s{n}"} for n in range(1025)]])],
    "text too long": [batch([7, 1, "svc.gone"], [11, 1, "x" * 8193])],
    "flood of notifications": [batch(*[[7, 1 + 2 * n, "svc.gone", 5, bytes(1000)] for n in range(200)])],
    "more on the link than its window": [
        batch(*[[7, 1 + 2 * n, "svc.sleep", 0, bytes(15_000)] for n in range(20)])
    ],
}


def _ext(code: int, number: int) -> bytes:
    """Arguments that hold an extension type."""
    return bytes(msgpack.packb([[msgpack.ExtType(code, msgpack.packb(number))]]))


#: Against the rules of one channel: it is refused or closed with the status. The link goes on.
BREAKS_CHANNEL: Final[dict[str, tuple[int, list[bytes]]]] = {
    "unknown service": (12, [batch([7, 1, "nobody.home", 3, ONE])]),
    "unknown method": (12, [batch([7, 1, "svc.gone", 3, ONE])]),
    "no service": (12, [batch([7, 1, "victim", 3, ONE])]),
    "private method": (12, [batch([7, 1, "svc.__init__", 3, ONE])]),
    "unknown callback": (9, [batch([7, 1, 1, 3, ONE])]),
    "largest callback": (9, [batch([7, 1, LARGEST, 3, ONE])]),
    "value without a call": (9, [batch([7, 1, None, 0, None, 0, None, None, None, 77])]),
    "value without a parent": (9, [batch([7, 1, None])]),
    "value with a message": (9, [batch([7, 1, None, 0, ONE, 0, None, None, None, 1])]),
    "unknown codec": (3, [batch([7, 1, "svc.victim", 3, ONE, 0, None, None, None, None, "pickle"])]),
    "metadata key": (3, [batch([7, 1, "svc.victim", 3, ONE, 0, None, {"UPPER": "x"}])]),
    "metadata value": (3, [batch([7, 1, "svc.victim", 3, ONE, 0, None, {"a": [1]}])]),
    "metadata too large": (8, [batch([7, 1, "svc.victim", 3, ONE, 0, None, {"a": "x" * 9000}])]),
    "1000 attachments": (8, [batch([7, 1, "svc.victim", 3, ONE, 1000]), *[b"x"] * 1000]),
    "message too large": (8, [batch([7, 1, "svc.victim", 3, bytes(200_000)])]),
    "attachment too large": (8, [batch([7, 1, "svc.victim", 3, ONE, 1]), bytes(200_000)]),
    "no arguments": (3, [batch([7, 1, "svc.victim", 1])]),
    "arguments: nothing": (3, [batch([7, 1, "svc.victim", 3, b""])]),
    "arguments: nil": (3, [batch([7, 1, "svc.victim", 3, b"\xc0"])]),
    "arguments: a map": (3, [batch([7, 1, "svc.victim", 3, b"\x80"])]),
    "arguments: three parts": (3, [batch([7, 1, "svc.victim", 3, b"\x93\x90\x80\x01"])]),
    "arguments: keyword as list": (3, [batch([7, 1, "svc.victim", 3, b"\x92\x90\x90"])]),
    "arguments: keyword by number": (3, [batch([7, 1, "svc.victim", 3, b"\x92\x90\x81\x01\x01"])]),
    "arguments: wrong type": (3, [batch([7, 1, "svc.victim", 3, b"\x91\x91\xa1x"])]),
    "arguments: trailing bytes": (3, [batch([7, 1, "svc.victim", 3, ONE + b"\x01"])]),
    "arguments: deep": (3, [batch([7, 1, "svc.victim", 3, b"\x91" * 50_000 + b"\xc0"])]),
    "arguments: four billion": (3, [batch([7, 1, "svc.victim", 3, b"\xdd\xff\xff\xff\xff"])]),
    "arguments: not utf-8": (3, [batch([7, 1, "svc.victim", 3, b"\x91\x91\xa2\xff\xfe"])]),
    "arguments: unknown extension": (3, [batch([7, 1, "svc.victim", 3, _ext(99, 1)])]),
    "arguments: unknown buffer": (3, [batch([7, 1, "svc.victim", 3, _ext(2, 5)])]),
    "arguments: callback for a number": (3, [batch([7, 1, "svc.victim", 3, _ext(3, 5)])]),
    "arguments: channel that is not there": (3, [batch([7, 1, "svc.listen", 3, _ext(5, 5)])]),
    "arguments: unused attachment": (3, [batch([7, 1, "svc.victim", 3, ONE, 1]), b"attachment"]),
    "unary call of a generator": (3, [batch([7, 1, "svc.numbers", 3, NONE])]),
    "unary call of a stream": (3, [batch([7, 1, "svc.listen", 3, NONE])]),
    # More than a channel's window, less than that of the link.
    "credit of the channel used up": (
        8,
        [batch([7, 1, "svc.sleep", 0, NONE], *[[8, 1, bytes(8000)] for _ in range(5)])],
    ),
    "message after the end": (13, [batch([7, 1, "svc.sleep", 1, NONE], [8, 1, b"x"])]),
    "end twice": (13, [batch([7, 1, "svc.sleep", 0, NONE], [9, 1], [9, 1])]),
    "end twice of a channel that is refused": (13, [batch([7, 1, "svc.gone", 0, NONE], [9, 1], [9, 1])]),
    "end twice of a value without a call": (13, [batch([7, 1, None], [9, 1], [9, 1])]),
    "close by the opener": (13, [batch([7, 1, "svc.sleep", 1, NONE], [10, 1])]),
    "streamed item of a wrong type": (3, [batch([7, 1, "svc.listen", 0, NONE], [8, 1, b"\xa1x"])]),
    "streamed garbage": (3, [batch([7, 1, "svc.listen", 0, NONE], [8, 1, b"\xc1"])]),
    "streamed item too large": (8, [batch([7, 1, "svc.sleep", 0, NONE], [8, 1, bytes(200_000)])]),
}

#: Valid batches with a few bytes changed: whatever becomes of them.
MUTATIONS: Final = {f"mutation {seed}": [_almost(seed)] for seed in range(40)}
