"""Attacks a peer in every way that is known, and prints what came of it: ``python -m tests.attacks``, or ``make attacks``."""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
from collections.abc import Callable

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


def attack_often(kind: str, runs: int, seconds: float, first: bool) -> Outcome:
    """Attack so many times; see :func:`tests.attacks.stage.attack`."""
    return median([attack(kind, seconds, first=first) for _ in range(runs)])


def judge(outcome: Outcome, again: Callable[[], Outcome] | None) -> tuple[bool, str]:
    """Tell whether an attack was borne, and what is to be said of it.

    Args:
        outcome: what came of it.
        again: attacks in the same way, the target and the honest client before all else; ``None`` if they were already.
    """
    problems = outcome.problems()
    if not problems:
        return True, "borne"
    if again is not None and not outcome.problems(timed=False):
        # Too late, and nothing else. Whose doing is it: the target's, or that of the kernel, which has three processes to run?
        try:
            first = again()
        except PermissionError:
            problems.append(
                "whether by the kernel's doing cannot be told without the right to set priorities"
            )
        else:
            if not first.problems():
                return True, (
                    f"borne by the target: {1000 * first.attacked:.0f} ms if it and the client go first; the rest is "
                    f"the kernel's"
                )
            problems += [f"and if they go first: {problem}" for problem in first.problems()]
    return False, "; ".join(problems)


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
        outcome = attack_often(kind, options.runs, options.seconds, options.first)
        again = functools.partial(attack_often, kind, options.runs, options.seconds, True)
        is_borne, verdict = judge(outcome, None if options.first else again)
        bad += not is_borne
        sys.stdout.write(
            f"{kind:14} {outcome.before / MB:9.0f} {outcome.peak / MB:6.0f} {1000 * outcome.quiet:7.1f} ms "
            f"{1000 * outcome.attacked:6.1f} ms {outcome.calls:6} {sum(outcome.failures.values()):6}  "
            f"{verdict}\n"
        )
        sys.stdout.flush()
    return bad


if __name__ == "__main__":
    sys.exit(main())
