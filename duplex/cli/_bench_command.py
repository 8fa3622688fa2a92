"""The options of ``duplex bench``. What it does is imported when it is asked for, and costs other commands nothing."""

from __future__ import annotations

import functools
import math
import os

import click

from duplex._numbers import check_factor
from duplex.cli._errors import CommandError
from duplex.cli._options import (
    DURATION,
    CallCommand,
    Number,
    check_method_name,
    connect_timeout_option,
    data_option,
    endpoint_argument,
    metadata_option,
    output_option,
    read_size,
    timeout_option,
)

_DURATION = 10.0
_CLOSED = 1
_OPEN = 1000


@click.command("bench", cls=CallCommand, context_settings={"ignore_unknown_options": True})
@endpoint_argument
@click.argument("method", metavar="METHOD")
@click.argument("words", metavar="[WORD]...", nargs=-1, type=click.UNPROCESSED)
@data_option
@click.option(
    "--payload", type=read_size, metavar="SIZE", help="Random bytes as the argument, or as every item."
)
@click.option("--items", type=click.IntRange(min=0), metavar="N", help="Items that each call streams in.")
@click.option("--item", metavar="WORD", help="What each of these items is.")
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"Calls at once; with --rate, at most.  [default: {_CLOSED}; with --rate {_OPEN}]",
)
@click.option(
    "--rate",
    type=Number("calls/s", functools.partial(check_factor, low=0.001, high=1e7)),
    metavar="CALLS/S",
    help="Make calls at this rate whatever the answers do, and count latencies from when they were due.",
)
@click.option(
    "--duration",
    type=DURATION,
    metavar="TIME",
    help=f"How long to make calls.  [default: {_DURATION:g}s, or until --count]",
)
@click.option(
    "--warmup",
    type=DURATION,
    default="1s",
    show_default=True,
    metavar="TIME",
    help="Make calls for this long before, and leave them out of the figures.",
)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after so many calls.")
@click.option(
    "--links",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Take turns on N links.",
)
@timeout_option
@connect_timeout_option
@metadata_option
@click.option("--compare", metavar="FILE", help="Show what changed since the run whose JSON is in FILE.")
@output_option
def bench_command(
    endpoint: str,
    method: str,
    words: tuple[str, ...],
    data: str | None,
    payload: int | None,
    items: int | None,
    item: str | None,
    concurrency: int | None,
    rate: float | None,
    duration: float | None,
    warmup: float,
    count: int | None,
    links: int,
    timeout: float | None,
    connect_timeout: float,
    metadata: dict[str, str],
    compare: str | None,
    output: str,
) -> int:
    """Measure METHOD, which is service.method, of the peer at ENDPOINT.

    Arguments are given as for `duplex call`. Without --rate, each of --concurrency callers makes its next call
    when its last one has ended, which shows what a service can do at most. With --rate, calls are due at
    regular times and their latencies count from then, so a service that stalls cannot hide it: this shows what
    users would see. TIME is 10s, 500ms or 2m; SIZE is 100, 64KiB or 1MiB.

    This client is one Python process, and may be slower than the service: the share of a core that it used and
    how late its event loop was are in the report, and are pointed out when they are large. Run several clients
    then.

    Ctrl-C ends it early, with a report of what was measured so far. Exit codes are those of `duplex call`; if
    calls failed, that of the most frequent failure.

    \b
    Examples:
      duplex bench tcp://127.0.0.1:7700 calc.add 1 2 --concurrency 16
      duplex bench tcp://127.0.0.1:7700 calc.add 1 2 --rate 500 --duration 30s
      duplex bench tcp://127.0.0.1:7700 calc.total --items 1000 --item 1 -o json > before.json
    """
    check_method_name(method)
    if sum((data is not None, bool(words), payload is not None and items is None)) > 1:
        raise CommandError("arguments are given in words, with --data or with --payload, not in several ways")
    if item is not None and payload is not None:
        raise CommandError("items are given with --item or with --payload, not both")
    if item is not None and items is None:
        raise CommandError("--item needs --items, which says how many")

    from duplex.cli._bench import Benchmark, run_benchmark
    from duplex.cli._load import Plan
    from duplex.cli._session import run
    from duplex.cli._shots import Ammunition
    from duplex.cli._words import read_data

    if duration is None:
        duration = _DURATION if count is None else math.inf
    benchmark = Benchmark(
        endpoint=endpoint,
        ammunition=Ammunition(
            target=method,
            words=words,
            data=None if data is None else read_data(data),
            payload=None if payload is None else os.urandom(payload),
            items=items,
            item=item,
            timeout=timeout,
            metadata=metadata,
        ),
        plan=Plan(
            concurrency=concurrency or (_CLOSED if rate is None else _OPEN),
            rate=rate,
            duration=duration,
            warmup=warmup,
            count=count,
        ),
        links=links,
        connect_timeout=connect_timeout,
        as_json=output == "json",
        compare=compare,
    )
    return run(lambda: run_benchmark(benchmark))
