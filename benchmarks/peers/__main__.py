"""One process of one peer; started by the driver, or by hand under a profiler.

Standard output has one line: the server's address, or the client's figures as JSON. The process ends when its
standard input does, so that it never outlives the process that started it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from typing import Any

from benchmarks._model import Session
from benchmarks.peers import Entry, entry_of
from benchmarks.scenarios import SCENARIOS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve, and print the address")
    run = commands.add_parser("run", help="measure one scenario, and print the figures")
    for command in (serve, run):
        command.add_argument("peer", help="a name, or module:attribute")
        command.add_argument("--core", type=int, help="the core that the process is tied to")
    run.add_argument("scenario", choices=SCENARIOS)
    run.add_argument("address")
    run.add_argument("seconds", type=float)
    run.add_argument("--server-pid", type=int, default=0, help="needed to measure memory and cores")
    options = parser.parse_args()
    try:
        entry = entry_of(options.peer)
    except KeyError:
        parser.error(f"there is no peer {options.peer!r}")
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    if options.command == "serve":
        entry.load().serve(lambda address: print(address, flush=True))
    else:
        result = _measure(entry, options.scenario, options.address, options.seconds, options.server_pid)
        print(json.dumps(result), flush=True)
        # Some peers keep threads that would be waited for, or complain of what the end interrupts.
        sys.stderr.flush()
        os._exit(0)


def _measure(entry: Entry, scenario: str, address: str, seconds: float, server_pid: int) -> dict[str, Any]:
    peer = entry.load()
    runtime = peer.runtime

    async def measure() -> dict[str, Any]:
        async with peer.connect(address) as client:
            session = Session(
                peer, runtime, client, address, seconds, server_pid, entry.location, entry.abilities
            )
            figures = await SCENARIOS[scenario].run(session)
            histograms = {name: histogram.to_json() for name, histogram in session.histograms.items()}
            return {"figures": figures, "histograms": histograms}

    return runtime.run(measure)


def _end_with_stdin() -> None:
    # Not sys.stdin: its lock, held here, would abort the interpreter's shutdown.
    while os.read(0, 4096):
        pass
    sys.stderr.flush()
    os._exit(1)


if __name__ == "__main__":
    main()
