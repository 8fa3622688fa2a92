"""Does harm to real stores, at full size, and prints what came of it: ``python -m tests.services.faults``.

``make faults-services`` runs it; ``python -m tests.services.faults sqlite`` runs one group. A small size of each is in
``make test``.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from tests.services.faults.cluster import KINDS, cluster_faults
from tests.services.faults.report import Finding, table
from tests.services.faults.served import served_faults
from tests.services.faults.sqlite import full_disk, kills

#: Does something, at a size, and says what came of it.
Fault: TypeAlias = Callable[[float], Iterator[Finding]]

GROUPS: Final[dict[str, tuple[Fault, ...]]] = {
    "sqlite": (kills, full_disk),
    "served": (served_faults,),
    **{kind: (functools.partial(cluster_faults, kind),) for kind in KINDS},
    "directory": tuple(functools.partial(cluster_faults, kind, directory=True) for kind in KINDS),
}


def main() -> None:
    """Read the command line, and run what it names."""
    parser = argparse.ArgumentParser(prog="python -m tests.services.faults", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)}; all by default")
    parser.add_argument("--size", type=float, default=1.0, help="how much of everything; 0.1 for a tenth")
    options = parser.parse_args()
    if unknown := set(options.groups) - GROUPS.keys():
        parser.error(f"no group {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    findings = []
    for group in options.groups or GROUPS:
        for fault in GROUPS[group]:
            began = time.monotonic()
            for finding in fault(options.size):
                findings.append(finding)
                sys.stderr.write(
                    f"{group}: {finding.what}: {finding.came} ({time.monotonic() - began:.0f} s)\n"
                )
                began = time.monotonic()
    sys.stdout.write(table(findings))
    sys.exit(not all(finding.is_right for finding in findings))


if __name__ == "__main__":
    main()
