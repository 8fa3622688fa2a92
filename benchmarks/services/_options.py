"""The options of ``python -m benchmarks services``, which need none of what it measures with."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

PARTS: Final = ("scale", "view", "dns", "consul", "stores")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=PARTS, help="what to measure; default all"
    )
    parser.add_argument(
        "--instances", type=int, nargs="+", default=[1000, 3000, 10_000], help="one after the other"
    )
    parser.add_argument("--holders", type=int, default=20, help="processes that hold them; default 20")
    parser.add_argument("--watchers", type=int, default=100, help="who follow all services; default 100")
    parser.add_argument("--rate", type=float, default=200.0, help="changes a second; default 200")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each phase; default 10")
    parser.add_argument("--ttl", type=float, default=5.0, help="of each instance, in seconds; default 5")
    parser.add_argument("--consul", metavar="PATH", help="the program; found by itself where it can be")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
