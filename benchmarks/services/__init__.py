"""The services under load: ``python -m benchmarks services``.

Discovery, as ``duplex discovery run`` over a file: how long things take with many instances and many who watch, what they
cost, how that grows; and beside a Consul agent in the same run.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.services._options import add_options as add_options


def run(options: argparse.Namespace) -> int:
    """Measure, and show what was found. Returns 1 if a bound is not kept, 2 where it cannot be measured.

    It needs what the tests need, which the environment of the other benchmarks does not have.
    """
    try:
        from benchmarks.services import _command
    except ModuleNotFoundError as error:
        print(
            f"{error.name} is missing: run this in the environment of the tests, .venv/bin/python -m benchmarks services",
            file=sys.stderr,
        )
        return 2
    return _command.run(options)
