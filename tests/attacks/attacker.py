"""What attackers do, each for so many seconds: ``python -m tests.attacks.attacker KIND ENDPOINT SECONDS``.

They speak the wire by hand, and keep its rules but where a kind says otherwise: what is within the rules is what a peer
has to bear.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import msgpack
import zmq

from tests.attacks.floods import FLOODS
from tests.attacks.strangers import STRANGERS
from tests.attacks.wire import LARGEST, Attacker, Context, until

#: Commands of a flood in one message.
_BATCH: Final = 500


def window(context: Context, endpoint: str, end: float) -> None:
    """The largest windows that can be said, one download, and nothing is read."""
    one = Attacker(context, endpoint, reads=False, limits={"link_window": LARGEST, "channel_window": LARGEST})
    one.say(one.opened("download", 10**15, flags=1))
    for _ in until(end):
        one.say()
        time.sleep(0.5)  # it only has to show signs of life


def grant(context: Context, endpoint: str, end: float) -> None:
    """The same by CREDIT."""
    one = Attacker(context, endpoint, reads=False)
    one.say(one.opened("download", 10**15, flags=1), [6, 0, 2**52], [6, 1, 2**52])
    for _ in until(end):
        one.say()
        time.sleep(0.5)  # it only has to show signs of life


def _unread(context: Context, endpoint: str, end: float, make: Callable[[Attacker], Any]) -> None:
    one = Attacker(context, endpoint, reads=False)
    for _ in until(end):
        if not one.say(*[make(one) for _ in range(_BATCH)]):
            time.sleep(0.01)  # the queue of the socket is full


def refusals(context: Context, endpoint: str, end: float) -> None:
    """Calls of methods that are not there, whose answers nobody reads."""
    _unread(context, endpoint, end, lambda one: [7, next(one.channels), "target.x"])


def pongs(context: Context, endpoint: str, end: float) -> None:
    """Pings, whose answers nobody reads."""
    _unread(context, endpoint, end, lambda one: [3, 1])


def _flood(
    context: Context, endpoint: str, end: float, make: Callable[[Attacker], list[Any]], wait: float = 1.0
) -> None:
    one = Attacker(context, endpoint)
    for _ in until(end):
        one.say(*[command for _ in range(_BATCH) for command in make(one)])
        one.read(wait)


def cancels(context: Context, endpoint: str, end: float) -> None:
    """Calls that are cancelled at once: "rapid reset"."""

    def make(one: Attacker) -> list[Any]:
        call = one.opened("nap", 60)
        return [call, [11, call[1]]]

    _flood(context, endpoint, end, make)


def arguments(context: Context, endpoint: str, end: float) -> None:
    """Calls with arguments of a wrong type."""
    _flood(context, endpoint, end, lambda one: [one.opened("add", "a" * 50, 1)])


def singles(context: Context, endpoint: str, end: float) -> None:
    """Calls with arguments of a wrong type, each in a message of its own."""
    one = Attacker(context, endpoint)
    for _ in until(end):
        for _ in range(50):
            one.say(one.opened("add", "a" * 50, 1))
        one.read(0.0)


def plain(context: Context, endpoint: str, end: float) -> None:
    """Calls of a plain function that takes no time."""
    one = Attacker(context, endpoint)
    asked = 0
    for _ in until(end):
        while asked - one.answered < 2000 and one.say(*[one.opened("hold", 0.0) for _ in range(100)]):
            asked += 100
        one.read(1.0)


def descriptions(context: Context, endpoint: str, end: float) -> None:
    """Questions what there is to call, which is much."""
    one = Attacker(context, endpoint, limits={"link_window": LARGEST, "channel_window": LARGEST})
    asked = 0
    for _ in until(end):
        while asked - one.answered < 64:
            if one.say(*[one.opened("duplex.reflection.describe", "target") for _ in range(8)]):
                asked += 8
        one.read(1.0)


def notifications(context: Context, endpoint: str, end: float) -> None:
    """Notifications to a method that is not there, as fast as they go."""
    _flood(context, endpoint, end, lambda one: [one.opened("nothing", flags=5)], wait=0.0)


def pings(context: Context, endpoint: str, end: float) -> None:
    """Pings, whose answers are read."""
    _flood(context, endpoint, end, lambda one: [[3, 1], [3, 2]])


def calls(context: Context, endpoint: str, end: float) -> None:
    """Cheap calls, 40 000 of them in flight, most of which are over the limit of channels."""
    one = Attacker(context, endpoint)
    asked = 0
    for _ in until(end):
        while asked - one.answered < 40_000 and one.say(*[one.opened("add", 1, 2) for _ in range(1000)]):
            asked += 1000
        one.read(1.0)


def uploads(context: Context, endpoint: str, end: float) -> None:
    """Twenty links with uploads that nobody takes, as far as credit goes."""
    links = [Attacker(context, endpoint) for _ in range(20)]
    rooms: list[dict[int, int]] = [{} for _ in links]
    for _ in until(end):
        for one, room in zip(links, rooms, strict=True):
            one.read()
            if len(room) < 90:
                call = one.opened("sink", flags=0)
                one.say(call)
                room[call[1]] = 1024 * 1024 - 66
            channel = next((number for number, left in room.items() if left > 0), None)
            if channel is not None and one.credit > 3 * 1024 * 1024 and one.say([8, channel, bytes(200_000)]):
                room[channel] -= 200_064
                one.credit -= 200_064


def handlers(context: Context, endpoint: str, end: float) -> None:
    """Three links with as many handlers as they can get."""
    links = [Attacker(context, endpoint) for _ in range(3)]
    for one in links:
        for _ in range(9):
            one.say(*[one.opened("nap", 3600) for _ in range(_BATCH)])
    for _ in until(end):
        for one in links:
            one.read(0.05)


def threads(context: Context, endpoint: str, end: float) -> None:
    """900 calls of a plain function that takes long."""
    one = Attacker(context, endpoint)
    one.say(*[one.opened("hold", 2.0) for _ in range(900)])
    for _ in until(end):
        one.read(0.1)


def generators(context: Context, endpoint: str, end: float) -> None:
    """As many plain generators as one link can get, which are given no credit for their items."""
    one = Attacker(context, endpoint, limits={"channel_window": 1})
    for _ in range(8):
        one.say(*[one.opened("count", 1000, flags=1) for _ in range(_BATCH)])
    for _ in until(end):
        one.read(0.1)


def questions(context: Context, endpoint: str, end: float) -> None:
    """Plain functions that call back, and no answer."""
    one = Attacker(context, endpoint)
    for _ in range(900):
        channel = next(one.channels)
        question = msgpack.packb([[msgpack.ExtType(3, b"\x01")]], use_bin_type=True)
        one.say([7, channel, "target.ask", 2], [8, channel, question, 1])
    for _ in until(end):
        one.read(0.1)


def dribble(context: Context, endpoint: str, end: float) -> None:
    """Credit byte by byte, for which as many streams wait as one link may have."""
    one = Attacker(context, endpoint, limits={"link_window": 1})
    for _ in range(9):
        one.say(*[one.opened("tick", flags=1) for _ in range(_BATCH)])
    for _ in until(end):
        if not one.say(*[[6, 0, 1] for _ in range(1000)]):
            one.read(0.01)


def announcements(context: Context, endpoint: str, end: float) -> None:
    """As many services as there may be, announced again and again, in batches whose elements nobody counts."""
    one = Attacker(context, endpoint)
    services = [{"name": f"{number:04}"} for number in range(1024)]
    for _ in until(end):
        if not one.say(*[[2, services] for _ in range(80)]):
            one.read(0.01)


def metadata(context: Context, endpoint: str, end: float) -> None:
    """Calls with more metadata than is taken, in as many entries as there may be."""
    one = Attacker(context, endpoint)
    entries = {f"{number:03}": "" for number in range(256)}
    for _ in until(end):
        calls = [[7, next(one.channels), "target.x", 3, None, 0, None, entries] for _ in range(_BATCH)]
        if not one.say(*calls):
            one.read(0.01)


def reconnects(context: Context, endpoint: str, end: float) -> None:
    """Notifications whose handlers go on when their links are gone."""
    for _ in until(end):
        one = Attacker(context, endpoint)
        for _ in range(9):
            one.say(*[one.opened("nap", 3600, flags=5) for _ in range(_BATCH)])
        one.read(0.2)
        one.read(0.2)
        one.socket.close()


def disconnects(context: Context, endpoint: str, end: float) -> None:
    """As many calls as there may be, whose link ends while they run."""
    for _ in until(end):
        one = Attacker(context, endpoint)
        for _ in range(8):
            one.say(*[one.opened("nap", 3600) for _ in range(_BATCH)])
        one.read(0.3)
        one.read(0.3)
        one.socket.close()


def mixture(context: Context, endpoint: str, end: float) -> None:
    """Several kinds at once."""
    kinds = (calls, plain, generators, dribble, cancels)
    threads = [threading.Thread(target=kind, args=(context, endpoint, end), daemon=True) for kind in kinds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


KINDS: Final[dict[str, Callable[[Context, str, float], None]]] = {
    function.__name__: function
    for function in (
        window,
        grant,
        refusals,
        pongs,
        cancels,
        arguments,
        singles,
        plain,
        descriptions,
        notifications,
        pings,
        calls,
        uploads,
        handlers,
        threads,
        generators,
        questions,
        dribble,
        announcements,
        metadata,
        reconnects,
        disconnects,
        mixture,
        *FLOODS,
        *STRANGERS,
    )
}


def main() -> None:
    """Attack."""
    kind, endpoint, seconds = sys.argv[1:]
    sys.stdout.write("now\n")
    sys.stdout.flush()
    KINDS[kind](zmq.Context(), endpoint, time.monotonic() + float(seconds))


if __name__ == "__main__":
    main()
