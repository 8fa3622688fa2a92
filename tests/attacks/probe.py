"""An honest client, which calls every few milliseconds: ``python -m tests.attacks.probe ENDPOINT``.

For each line of its standard input, a number of seconds, it calls for so long, and prints what it saw, as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Final

import trio

import duplex

#: Seconds between two calls, and that one may take.
_PAUSE: Final = 0.01
_PATIENCE: Final = 2.0


async def _call_for(seconds: float, remote: duplex.ServiceProxy) -> dict[str, object]:
    taken: list[float] = []
    failures: dict[str, int] = {}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        try:
            if await remote.add(1, 2) != 3:
                failures["wrong"] = failures.get("wrong", 0) + 1
            await remote.hold(0.0)  # in a thread
            async with remote.count.open(2) as call:  # in a thread of its own
                if [number async for number in call] != [0, 1]:
                    failures["wrong"] = failures.get("wrong", 0) + 1
        except duplex.DuplexError as error:
            name = type(error).__name__
            failures[name] = failures.get(name, 0) + 1
        taken.append(time.monotonic() - began)
        await trio.sleep(_PAUSE)
    taken.sort()
    return {"calls": len(taken), "p99": taken[int(len(taken) * 0.99)], "failures": failures}


async def main() -> None:
    """Be the client."""
    async with duplex.open_peer(name="probe") as peer:
        link = await peer.connect(sys.argv[1])
        remote = link.service("target").with_options(timeout=_PATIENCE)
        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            sys.stdout.write(json.dumps(await _call_for(float(line), remote)) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    trio.run(main)
