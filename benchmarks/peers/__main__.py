"""One process of one peer; started by the driver, or by hand under a profiler.

Standard output has one line: the server's address, or the client's figure. The process ends when its
standard input does, so that it never outlives whoever started it.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading

from benchmarks.peers import entry_of
from benchmarks.scenarios import SCENARIOS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve, and print the address")
    run = commands.add_parser("run", help="measure one scenario, and print the figure")
    for command in (serve, run):
        command.add_argument("peer", help="a name, or module:attribute")
    run.add_argument("scenario", choices=SCENARIOS)
    run.add_argument("address")
    run.add_argument("seconds", type=float)
    options = parser.parse_args()
    try:
        entry = entry_of(options.peer)
    except KeyError:
        parser.error(f"there is no peer {options.peer!r}")
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    peer = entry.load()
    if options.command == "serve":
        peer.serve(lambda address: print(address, flush=True))
    else:
        print(peer.run(options.scenario, options.address, options.seconds), flush=True)


def _end_with_stdin() -> None:
    # Not sys.stdin: its lock, held here, would abort the interpreter's shutdown.
    while os.read(0, 4096):
        pass
    sys.stderr.flush()
    os._exit(1)


if __name__ == "__main__":
    main()
