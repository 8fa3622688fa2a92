"""A bad wire between two network namespaces: ``python -m tests.faults.wire NS_A ADDRESS_A NS_B ADDRESS_B SEED``.

A TUN device in each namespace, and one process, this one, that carries the packets between them: late, not at
all, or in one direction only. It needs nothing of the kernel but TUN, in particular no traffic control. What the
wire is like is told over standard input as to any :class:`tests.faults.stage.Child`::

    {"id": 1, "do": "set", "delay": 0.1, "jitter": 0.0, "loss": 0.05, "cut": ["ab"]}

What is left out is as on a good wire. The answer counts the packets since the last one. The process ends with
its input.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import struct
import subprocess
import sys
import threading
import time
from typing import Any, Final, final

_CLONE_NEWNET: Final = 0x40000000
_TUNSETIFF: Final = 0x400454CA
#: ``IFF_TUN | IFF_NO_PI``: whole IP packets, without a header of the device's own.
_MODE: Final = 0x1001
_DEVICE: Final = "wire0"
#: Packets taken from one side before the other has its turn.
_TURN: Final = 64
_PACKET: Final = 65_535


def open_device(namespace: str, address: str) -> int:
    """Make the device in a namespace, with an address in a network of 256, and return its descriptor."""
    box: list[int | BaseException] = []

    def make() -> None:
        # A thread of its own, as only one that is in the namespace can make a device there.
        try:
            descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(descriptor, _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"cannot enter the namespace {namespace}")
            os.close(descriptor)
            device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", _DEVICE.encode(), _MODE))
            box.append(device)
        except BaseException as error:
            box.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    found = box[0]
    if isinstance(found, BaseException):
        raise found
    for words in (["addr", "add", f"{address}/24", "dev", _DEVICE], ["link", "set", _DEVICE, "up"]):
        subprocess.run(["ip", "-n", namespace, *words], check=True)
    return found


@final
class Wire:
    """The wire between two devices."""

    def __init__(self, a: int, b: int, seed: int) -> None:
        self._random = random.Random(seed)
        #: Device to read from: the direction, and the device to write to.
        self._ways = {a: ("ab", b), b: ("ba", a)}
        #: Packets on their way: when they arrive, a number that keeps their order, direction, device, packet.
        self._flying: list[tuple[float, int, str, int, bytes]] = []
        self._number = 0
        self.set()

    def set(
        self, *, delay: float = 0.0, jitter: float = 0.0, loss: float = 0.0, cut: tuple[str, ...] = ()
    ) -> None:
        """Make the wire like this.

        Args:
            delay: seconds that every packet takes.
            jitter: up to so many seconds more, by chance, so packets may overtake each other.
            loss: the part of the packets that is lost.
            cut: the directions, ``ab`` and ``ba``, in which nothing arrives, not even what is on its way.
        """
        self._delay, self._jitter, self._loss, self._cut = delay, jitter, loss, tuple(cut)
        self.carried = 0
        self.lost = 0

    def wait(self) -> float | None:
        """Return the seconds until the next packet arrives."""
        return max(0.0, self._flying[0][0] - time.monotonic()) if self._flying else None

    def take(self, device: int) -> None:
        """Take packets from a device."""
        way, target = self._ways[device]
        for _ in range(_TURN):
            try:
                packet = os.read(device, _PACKET)
            except BlockingIOError:
                return
            if self._random.random() < self._loss:
                self.lost += 1
                continue
            self._number += 1
            arrival = time.monotonic() + self._delay + self._jitter * self._random.random()
            heapq.heappush(self._flying, (arrival, self._number, way, target, packet))

    def deliver(self) -> None:
        """Hand over the packets that have arrived."""
        now = time.monotonic()
        while self._flying and self._flying[0][0] <= now:
            _, _, way, target, packet = heapq.heappop(self._flying)
            try:
                if way in self._cut:
                    raise BlockingIOError
                os.write(target, packet)
                self.carried += 1
            except BlockingIOError:
                self.lost += 1  # cut, or more than the device takes: on a wire, that is loss too


def main(namespace_a: str, address_a: str, namespace_b: str, address_b: str, seed: str) -> None:
    """Carry packets until standard input ends."""
    a, b = open_device(namespace_a, address_a), open_device(namespace_b, address_b)
    wire = Wire(a, b, int(seed))
    control = sys.stdin.fileno()
    rest = b""
    _say({"id": 0, "result": os.getpid()})
    while True:
        ready, _, _ = select.select([a, b, control], [], [], wire.wait())
        for descriptor in ready:
            if descriptor != control:
                wire.take(descriptor)
                continue
            chunk = os.read(control, 65_536)
            if not chunk:
                return
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                _obey(wire, json.loads(line))
        wire.deliver()


def _obey(wire: Wire, command: dict[str, Any]) -> None:
    number = command.pop("id")
    command.pop("do")
    counts = {"carried": wire.carried, "lost": wire.lost}
    wire.set(**command)
    _say({"id": number, "result": counts})


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
