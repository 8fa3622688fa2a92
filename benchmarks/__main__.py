"""The command: ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import trio

from benchmarks._driver import run_all
from benchmarks._report import conditions, json_report, text_report
from benchmarks.peers import PEERS, Entry
from benchmarks.scenarios import SCENARIOS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks, print the report, and return the exit status: 1 if a figure is missing."""
    options = _parser().parse_args(arguments)
    peers = []
    for name in options.peers:
        entry = PEERS[name]
        if entry.is_missing:
            _say(f"{name} is left out: it needs the module {entry.requires} ({entry.hint})")
        else:
            peers.append(entry)
    if not peers:
        _say("no peer is left to measure")
        return 1
    return _measure(peers, options)


def _measure(peers: Sequence[Entry], options: argparse.Namespace) -> int:
    how = conditions((entry.name for entry in peers), repeats=options.repeats, seconds=options.seconds)
    run = functools.partial(
        run_all, peers, options.scenarios, repeats=options.repeats, seconds=options.seconds, progress=_say
    )
    results = trio.run(run)
    print(text_report(results, how), end="")
    if options.json is not None:
        text = json.dumps(json_report(results, how), indent=2, ensure_ascii=False)
        options.json.write_text(text + "\n", encoding="utf-8")
    return 1 if results.failures else 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure Duplex beside other RPC stacks, in one run, on this machine.",
        epilog="; ".join(f"{entry.name}: {entry.title}" for entry in PEERS.values()),
    )
    parser.add_argument("--peers", type=_names_from(PEERS), default=list(PEERS), help=", ".join(PEERS))
    parser.add_argument(
        "--scenarios", type=_names_from(SCENARIOS), default=list(SCENARIOS), help=", ".join(SCENARIOS)
    )
    parser.add_argument("--repeats", type=_positive(int), default=3, help="of everything; default 3")
    parser.add_argument("--seconds", type=_positive(float), default=2.0, help="for one figure; default 2")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there too")
    return parser


def _names_from(known: Collection[str]) -> Callable[[str], list[str]]:
    def names(value: str) -> list[str]:
        chosen = list(dict.fromkeys(name.strip() for name in value.split(",") if name.strip()))
        unknown = [name for name in chosen if name not in known]
        if unknown or not chosen:
            raise argparse.ArgumentTypeError(
                f"{', '.join(unknown) or 'nothing'} is not one of {', '.join(known)}"
            )
        return chosen

    return names


def _positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    def number(value: str) -> float:
        try:
            result = kind(value)
        except ValueError:
            result = 0
        if not 0 < result < 1e6:
            raise argparse.ArgumentTypeError(f"{value!r} is not a number above 0")
        return result

    return number


if __name__ == "__main__":
    sys.exit(main())
