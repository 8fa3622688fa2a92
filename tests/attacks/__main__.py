"""Attacks a peer in every way that is known, and prints what came of it: ``python -m tests.attacks``, or ``make attacks``."""

from __future__ import annotations

import argparse
import statistics
import sys

from tests.attacks.attacker import KINDS
from tests.attacks.stage import MB, Outcome, attack


def median(outcomes: list[Outcome]) -> Outcome:
    """Return one outcome for several: the worst of each figure, but of times the median."""
    first = outcomes[0]
    failures: dict[str, int] = {}
    for outcome in outcomes:
        for name, count in outcome.failures.items():
            failures[name] = failures.get(name, 0) + count
    return Outcome(
        first.kind,
        min(outcome.before for outcome in outcomes),
        max(outcome.peak for outcome in outcomes),
        statistics.median(outcome.quiet for outcome in outcomes),
        statistics.median(outcome.attacked for outcome in outcomes),
        sum(outcome.calls for outcome in outcomes),
        failures,
        all(outcome.is_alive for outcome in outcomes),
    )


def main() -> int:
    """Run what the command line asks for; return how many attacks were not borne."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks", description=__doc__)
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], help="which; all by default")
    parser.add_argument("--runs", type=int, default=5, help="of each (default: 5)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each run (default: 4)")
    parser.add_argument(
        "--first",
        action="store_true",
        help="run the target and the honest client before all else (real-time priority): on a machine that is busy",
    )
    options = parser.parse_args()
    sys.stdout.write(
        f"{'attack':14} {'MB before':>9} {'peak':>6} {'quiet p99':>10} {'attacked':>9} {'calls':>6} {'failed':>6}  verdict"
        "\n"
    )
    bad = 0
    for kind in options.kinds or KINDS:
        outcome = median([attack(kind, options.seconds, first=options.first) for _ in range(options.runs)])
        problems = outcome.problems()
        bad += bool(problems)
        sys.stdout.write(
            f"{kind:14} {outcome.before / MB:9.0f} {outcome.peak / MB:6.0f} {1000 * outcome.quiet:7.1f} ms "
            f"{1000 * outcome.attacked:6.1f} ms {outcome.calls:6} {sum(outcome.failures.values()):6}  "
            f"{'; '.join(problems) or 'borne'}\n"
        )
        sys.stdout.flush()
    return bad


if __name__ == "__main__":
    sys.exit(main())
