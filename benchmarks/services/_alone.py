"""What one process does by itself: a lookup, the memory of a view, and answers of DNS for each second of processor."""

from __future__ import annotations

import itertools
import socket
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from benchmarks.services._names import OF_ONE, service_of
from benchmarks.services._processes import Discovery, Process, discovery, holding

_A: Final = 1
_SRV: Final = 33
#: Queries that are under way.
_WINDOW: Final = 32
_WITHIN: Final = 5.0


def view(instances: int) -> dict[str, float]:
    """Measure lookups in a view of so many instances, and its memory."""
    with Process.part("view", instances) as process:
        memory, lookup = map(float, process.line().split())
    return {"memory of the view, MB": memory, "a lookup in process, us": lookup}


def dns(instances: int, seconds: float) -> dict[str, float]:
    """Measure answers of DNS: those that are kept, and those that are made anew."""
    with discovery() as server, holding(server, instances, 4, 60.0):
        services = [f"{service_of(number)}.discoverd" for number in range(0, instances, OF_ONE)]
        kept = [_query(name, kind) for name in services[:50] for kind in (_A, _SRV)]
        # Each of these once: nothing of it is kept yet.
        fresh = [
            _query(f"i{number}.{service_of(number)}._i.discoverd", kind)
            for kind in (_A, _SRV)
            for number in range(instances)
        ]
        made = _per_second(server, fresh, seconds)
        _per_second(server, kept, 0.5)
        again = _per_second(server, itertools.cycle(kept), seconds)
    return {
        "DNS answers a second of CPU, kept": again[0],
        "DNS answers a second of CPU, made": made[0],
        "DNS answers a second, kept": again[1],
    }


def _per_second(server: Discovery, queries: Iterable[bytes], seconds: float) -> tuple[float, float]:
    host, _, port = server.dns.rpartition(":")
    answered = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect((host, int(port)))
        client.settimeout(_WITHIN)
        begin, before = time.monotonic(), server.process.cpu()
        for window in _windows(queries):
            for query in window:
                client.send(query)
            for _ in window:
                answer = client.recv(4096)
                if answer[3] & 0x0F or not answer[7]:
                    raise RuntimeError(f"an answer without records: {answer!r}")
                answered += 1
            if time.monotonic() - begin > seconds:
                break
        took, cpu = time.monotonic() - begin, server.process.cpu() - before
    # Linux counts processor time in hundredths of a second.
    return answered / max(cpu, 0.01), answered / took


def _windows(queries: Iterable[bytes]) -> Iterator[Sequence[bytes]]:
    remaining = iter(queries)
    while window := list(itertools.islice(remaining, _WINDOW)):
        yield window


def _query(name: str, kind: int) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, 1)
