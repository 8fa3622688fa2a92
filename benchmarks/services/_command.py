"""The command ``python -m benchmarks services``: what it measures, and its tables."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from rich.console import Console

from benchmarks._fits import fit
from benchmarks._report import Table, number, show_table
from benchmarks.services import _consul
from benchmarks.services._alone import dns, view
from benchmarks.services._scale import Load, scale
from benchmarks.services._stores import stores

#: Figure, the bound, and whether it is the least.
TARGETS: Final[Mapping[str, tuple[float, bool]]] = {
    "a lookup in process, us": (5.0, False),
    "memory of the view, MB": (10.0, False),
    "store writes at rest": (0.0, False),
    "DNS answers a second of CPU, made": (2500.0, True),
    "DNS answers a second of CPU, kept": (5000.0, True),
}


def run(options: argparse.Namespace) -> int:
    """Measure, and show what was found. Returns 1 if a bound is not kept."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for instances in options.instances:
        column = f"{instances}"

        def say(what: str, column: str = column) -> None:
            print(f"{column} instances: {what}", file=sys.stderr, flush=True)

        def put(name: str, figures: dict[str, float], column: str = column) -> None:
            found.setdefault(name, {}).setdefault(column, {}).update(figures)

        if "scale" in options.only:
            load = Load(
                instances, options.holders, options.watchers, options.rate, options.seconds, options.ttl
            )
            put("discovery", scale(load, say))
        if "view" in options.only:
            put("in one process", view(instances))
        if "dns" in options.only:
            put("in one process", dns(instances, options.seconds))
    if "consul" in options.only:
        _beside_consul(options, found)
    if "stores" in options.only:
        found[STORES] = stores(
            min(options.seconds, _STORE_SECONDS),
            lambda what: print(f"stores: {what}", file=sys.stderr, flush=True),
        )
    tables = [
        _table(name, columns, is_growth=name not in (BESIDE, STORES)) for name, columns in found.items()
    ]
    for table in tables:
        show_table(table, Console() if sys.stdout.isatty() else Console(width=200))
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    missed = [
        text for name, columns in found.items() if name not in (BESIDE, STORES) for text in _missed(columns)
    ]
    for text in missed:
        print(f"NOT MET: {text}", file=sys.stderr)
    return 1 if missed else 0


BESIDE: Final = "beside a Consul agent"
STORES: Final = "stores"

#: Seconds of each phase of a store, at most: it is steady after one.
_STORE_SECONDS: Final = 3.0


def _beside_consul(options: argparse.Namespace, found: dict[str, dict[str, dict[str, float]]]) -> None:
    program = options.consul or _consul.find()
    instances = min(options.instances)
    measured: dict[str, Callable[[], dict[str, float]]] = {
        "discovery": lambda: _consul.of_discovery(instances, options.watchers, options.seconds)
    }
    if program is None:
        print("there is no Consul here: discovery is measured alone (--consul PATH)", file=sys.stderr)
    else:
        measured["Consul"] = lambda: _consul.of_consul(program, instances, options.watchers, options.seconds)
    for name, measure in measured.items():
        print(f"beside each other: {name}", file=sys.stderr, flush=True)
        found.setdefault(BESIDE, {})[name] = measure()


def _table(title: str, columns: Mapping[str, Mapping[str, float]], *, is_growth: bool) -> Table:
    names = list(dict.fromkeys(name for figures in columns.values() for name in figures))
    rows = []
    for name in names:
        cells = [number(figures[name]) if name in figures else "" for figures in columns.values()]
        if is_growth:
            cells.append(_exponent(name, columns))
        rows.append([name, *cells])
    header: Sequence[str] = ["", *columns, *(["grows as n to the"] if is_growth else [])]
    return Table(title, header, rows)


def _exponent(name: str, columns: Mapping[str, Mapping[str, float]]) -> str:
    found = fit((float(column), figures[name]) for column, figures in columns.items() if name in figures)
    return "" if found is None else f"{found.exponent:.2f}"


def _missed(columns: Mapping[str, Mapping[str, float]]) -> list[str]:
    texts = []
    for column, figures in columns.items():
        for name, (bound, is_least) in TARGETS.items():
            value = figures.get(name)
            if value is not None and (value < bound if is_least else value > bound):
                texts.append(f"{name}: {number(value)} with {column} instances, not {number(bound)}")
    return texts
