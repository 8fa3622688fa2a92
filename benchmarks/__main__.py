"""The command: ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import re
import statistics
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

import trio
from rich.console import Console

from benchmarks import _bytecode, _check, services
from benchmarks._compare import comparison, differences, missing_in_one
from benchmarks._driver import run_all
from benchmarks._instructions import CannotCountError, count_all, in_references
from benchmarks._micro import PROGRAMS
from benchmarks._plots import plot_all
from benchmarks._report import BASES, Table, markdown, number, show, show_table
from benchmarks._results import Results, conditions, load, to_json
from benchmarks._targets import TARGETS
from benchmarks.peers import ABILITIES, PEERS, Entry
from benchmarks.scenarios import SCENARIOS

RESULTS: Final = Path(__file__).parent / "results"
BASELINES: Final = Path(__file__).parent / "baselines"
COMMANDS: Final = ("run", "compare", "report", "check", "baseline", "bytecode", "services", "list")
#: Of one figure.
_SECONDS: Final = 0.5
_QUICK_SECONDS: Final = 0.3
#: What happens now and then, not with every call, is left out below this.
_NO_BYTECODES: Final = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for and return the exit status: 1 if a figure is missing or worse."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] not in (*COMMANDS, "-h", "--help"):
        given.insert(0, "run")
    options = _parser().parse_args(given)
    status: int = options.command(options)
    return status


# -- run ---------------------------------------------------------------------------------------------------


def _run(options: argparse.Namespace) -> int:
    scenarios = options.only or [
        name for name, scenario in SCENARIOS.items() if scenario.quick or not options.quick
    ]
    repeats = options.repeat or (1 if options.quick else 3)
    seconds = options.seconds or (_QUICK_SECONDS if options.quick else _SECONDS)
    peers, missing = _present(options.peers)
    if not peers:
        _say("no peer is left to measure")
        return 1
    how = conditions((entry.name for entry in peers), repeats=repeats, seconds=seconds, pinned=options.pin)
    results = _measure(peers, scenarios, repeats, seconds, options.pin)
    results.missing.update(missing)
    bases = [base for base in options.bases if base in results.peers]
    show(results, how, _console(), bases)
    report = json.dumps(to_json(results, how), ensure_ascii=False)
    if not options.no_files:
        RESULTS.mkdir(exist_ok=True)
        stem = re.sub(r"\D", "", how.when[:19])
        path = RESULTS / f"{stem}.json"
        path.write_text(report + "\n", encoding="utf-8")
        path.with_suffix(".md").write_text(markdown(results, how, bases), encoding="utf-8")
        _say(f"written: {path}, {path.with_suffix('.md').name}")
        for plot in _plots(results, stem):
            _say(f"written: {plot}")
    if options.json is not None:
        options.json.write_text(report + "\n", encoding="utf-8")
    if options.keep is not None:
        BASELINES.mkdir(exist_ok=True)
        kept = to_json(results, how)
        kept["histograms"] = {}  # they are most of the file, and nothing is compared with them
        path = BASELINES / f"{options.keep}.json"
        path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        _say(f"kept: {path}")
    return 1 if results.failures else 0


def _present(names: Sequence[str]) -> tuple[list[Entry], dict[str, str]]:
    """Return the peers that can run here, and of the others what they lack."""
    peers, missing = [], {}
    for name in names:
        reason = PEERS[name].missing
        if reason:
            _say(f"{name} is missing: {reason}")
            missing[name] = reason
        else:
            peers.append(PEERS[name])
    return peers, missing


def _measure(
    peers: Sequence[Entry], scenarios: Sequence[str], repeats: float, seconds: float, pin: bool
) -> Results:
    run = functools.partial(
        run_all, peers, scenarios, repeats=int(repeats), seconds=seconds, pin=pin, progress=_say
    )
    return trio.run(run)


def _plots(results: Results, stem: str) -> list[Path]:
    try:
        return plot_all(results, RESULTS, stem)
    except ImportError:
        _say("no plots: matplotlib is not installed (make bench installs it)")
        return []


# -- what has been measured --------------------------------------------------------------------------------


def _compare(options: argparse.Namespace) -> int:
    try:
        (before, one), (after, other) = load(options.before), load(options.after)
    except (OSError, ValueError) as error:
        _say(str(error))
        return 2
    table = comparison(before, after)
    notes = [*table.notes, *missing_in_one(before, after), *differences(one, other)]
    show_table(dataclasses.replace(table, notes=notes), _console())
    return 0


def _report(options: argparse.Namespace) -> int:
    try:
        results, how = load(options.file)
    except (OSError, ValueError) as error:
        _say(str(error))
        return 2
    bases = [base for base in options.bases if base in results.peers]
    if options.markdown:
        print(markdown(results, how, bases), end="")
    else:
        show(results, how, _console(), bases)
    if options.targets and any(target.state(results)[1] != "met" for target in TARGETS):
        return 1
    return 0


def _list(_options: argparse.Namespace) -> int:
    console = _console()
    peers = [
        [entry.name, entry.title, entry.missing and f"missing: {entry.missing}"] for entry in PEERS.values()
    ]
    show_table(Table("Peers", ["peer", "what it is", ""], peers), console)
    scenarios = [[name, scenario.title, ", ".join(scenario.needs)] for name, scenario in SCENARIOS.items()]
    notes = [f"{name}: {title}" for name, title in ABILITIES.items()]
    show_table(Table("Scenarios", ["scenario", "what is measured", "needs"], scenarios, notes), console)
    return 0


# -- against a baseline --------------------------------------------------------------------------------------


def _count(repeats: int) -> dict[str, list[float]] | None:
    try:
        return in_references(count_all(repeats, _say))
    except CannotCountError as error:
        _say(f"cannot count instructions: {error}")
        return None


def _ratios_run(options: argparse.Namespace) -> Results:
    peers, _ = _present([_check.PEER, *dict.fromkeys(_check.RATIOS.values())])
    return _measure(peers, _check.SCENARIOS, options.repeat, options.seconds, pin=True)


def _check_command(options: argparse.Namespace) -> int:
    try:
        baseline = _check.Baseline.load(options.file)
    except (OSError, ValueError) as error:
        _say(f"no baseline: {error}; make bench-baseline makes one")
        return 2
    counts = _count(options.counts)
    if counts is None:
        return 2
    results = None if options.instructions else _ratios_run(options)
    findings = list(_check.compare_instructions(baseline, counts))
    if results is not None:
        findings += _check.compare_ratios(baseline, results)
    rows = [
        [
            finding.what,
            number(finding.before),
            number(finding.now),
            f"{finding.worse:.3f}",
            f"{finding.allowed:.2f}",
            "" if finding.spread is None else f"±{finding.spread / 2:.1%}",
            "REGRESSED" if finding.regressed else "",
        ]
        for finding in findings
    ]
    header = ["figure", "baseline", "now", "times worse", "allowed", "spread", ""]
    show_table(Table("Against the baseline", header, rows), _console())
    here = conditions([_check.PEER], repeats=1, seconds=1, pinned=True)
    if (here.python, dict(here.versions)) != (baseline.python, dict(baseline.versions)):
        _say(
            f"the baseline is of {baseline.python}, {dict(baseline.versions)}; here is {here.python}, "
            f"{dict(here.versions)}: where only that explains a difference, renew it with make bench-baseline"
        )
    failures = [] if results is None else results.failures
    failed = bool(failures) or any(finding.regressed for finding in findings)
    for failure in failures:
        _say(f"{failure.peer} {failure.scenario}: {failure.what}\n{failure.stderr}")
    return 1 if failed else 0


def _baseline(options: argparse.Namespace) -> int:
    kept: Mapping[str, float] = {}
    if options.instructions:
        try:
            kept = _check.Baseline.load(options.file).ratios
        except (OSError, ValueError) as error:
            _say(f"no baseline whose ratios could be kept: {error}")
            return 2
    counts = _count(options.counts)
    if counts is None:
        return 2
    results = None if options.instructions else _ratios_run(options)
    if results is not None and results.failures:
        _say("something failed, and no baseline was written")
        return 1
    here = conditions([_check.PEER], repeats=1, seconds=1, pinned=True)
    medians = {name: round(statistics.median(values), 4) for name, values in counts.items()}
    if results is not None:
        kept = {name: round(ratio, 4) for name, ratio in _check.ratios(results).items()}
    baseline = _check.Baseline(medians, kept, here.python, here.versions)
    options.file.parent.mkdir(exist_ok=True)
    options.file.write_text(baseline.to_json(), encoding="utf-8")
    for name, values in counts.items():
        _say(f"{name}: counts {(max(values) - min(values)) / medians[name]:.2%} apart")
    _say(f"written: {options.file}")
    print(json.dumps(dataclasses.asdict(baseline), indent=2))
    return 0


# -- where it goes ---------------------------------------------------------------------------------------------


def _bytecode_command(options: argparse.Namespace) -> int:
    for program in options.programs:
        layers = _bytecode.count(program, functions=options.functions)
        whole = _bytecode.total(layers.values())
        rows = [
            [layer, number(cost.bytecodes), f"{cost.bytecodes / whole.bytecodes:.0%}", number(cost.calls)]
            for layer, cost in (*layers.items(), ("together", whole))
            if cost.bytecodes >= _NO_BYTECODES
        ]
        header = ["layer", "bytecodes", "", "Python functions called"]
        show_table(Table(f"{program}: one call or item, both sides", header, rows), _console())
    return 0


# -- the command line ----------------------------------------------------------------------------------------


def _console() -> Console:
    console = Console()
    # In a file or a pipe lines are as long as they need to be.
    return console if console.is_terminal else Console(width=200)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure Duplex beside other RPC stacks, in one run, on this machine.",
        epilog="Without a command: run. `list` tells the peers and the scenarios.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="measure and report")
    run.set_defaults(command=_run)
    run.add_argument("--peers", type=_names_from(PEERS), default=list(PEERS), help="comma-separated")
    run.add_argument("--only", type=_names_from(SCENARIOS), help="scenarios, comma-separated; default all")
    run.add_argument("--repeat", type=_positive(int), help="of everything; default 3, 1 with --quick")
    run.add_argument(
        "--seconds",
        type=_positive(float),
        help=f"for one figure; default {_SECONDS}, {_QUICK_SECONDS} with --quick",
    )
    run.add_argument("--quick", action="store_true", help="short, and without the long scenarios")
    run.add_argument(
        "--pin", action="store_true", help="tie servers to one core and clients to another: less spread"
    )
    run.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    run.add_argument("--keep", metavar="NAME", help="keep the figures as benchmarks/baselines/NAME.json")
    run.add_argument("--no-files", action="store_true", help="write nothing to benchmarks/results/")
    _add_bases(run)

    compare = commands.add_parser("compare", help="two reports beside each other")
    compare.set_defaults(command=_compare)
    compare.add_argument("before", type=Path)
    compare.add_argument("after", type=Path)

    report = commands.add_parser("report", help="show a report again")
    report.set_defaults(command=_report)
    report.add_argument("file", type=Path)
    report.add_argument("--markdown", action="store_true")
    report.add_argument("--targets", action="store_true", help="exit with 1 unless all targets are met")
    _add_bases(report)

    for name, function, text in (
        ("check", _check_command, "fail on a regression against the kept baseline"),
        ("baseline", _baseline, "renew that baseline"),
    ):
        command = commands.add_parser(name, help=text)
        command.set_defaults(command=function)
        command.add_argument("--file", type=Path, default=_check.FILE)
        command.add_argument("--counts", type=_positive(int), default=2, help="of instructions; default 2")
        command.add_argument("--repeat", type=_positive(int), default=3, help="of ratios; default 3")
        command.add_argument("--seconds", type=_positive(float), default=0.5, help="a figure; default 0.5")
        command.add_argument(
            "--instructions",
            action="store_true",
            help="nothing but instructions, on which other programs have no influence; a baseline keeps its ratios",
        )

    bytecode = commands.add_parser("bytecode", help="count what Python executes for a call, by layer")
    bytecode.set_defaults(command=_bytecode_command)
    bytecode.add_argument(
        "programs",
        nargs="?",
        type=_names_from(PROGRAMS),
        default=["unary", "unary-16", "download", "upload"],
        metavar="PROGRAM,...",
        help=f"any of {', '.join(PROGRAMS)}",
    )
    bytecode.add_argument("--functions", action="store_true", help="tell the functions of a layer apart")

    under_load = commands.add_parser("services", help="measure discovery under load, and beside Consul")
    under_load.set_defaults(command=services.run)
    services.add_options(under_load)

    commands.add_parser("list", help="tell the peers and the scenarios").set_defaults(command=_list)
    return parser


def _add_bases(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bases",
        type=_names_from(PEERS),
        default=list(BASES),
        help=f"peers that the others are compared with; default {','.join(BASES)}",
    )


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
    def number_above_0(value: str) -> float:
        try:
            result = kind(value)
        except ValueError:
            result = 0
        if not 0 < result < 1e6:
            raise argparse.ArgumentTypeError(f"{value!r} is not a number above 0")
        return result

    return number_above_0


if __name__ == "__main__":
    sys.exit(main())
