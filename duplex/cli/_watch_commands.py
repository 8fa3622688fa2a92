"""The commands that tell how a peer is and what it does: ``health``, ``stats`` and ``top``."""

from __future__ import annotations

import click

from duplex.cli._options import (
    DURATION,
    Duration,
    complete_endpoint,
    connect_timeout_option,
    credentials_option,
    discovery_option,
    endpoint_argument,
    output_option,
)
from duplex.cli._tls_options import tls_options


@click.command("health")
@endpoint_argument
@click.argument("service", metavar="[SERVICE]", default="")
@click.option("--wait", is_flag=True, help="Wait until it takes calls, be the peer there yet or not.")
@click.option(
    "--timeout",
    type=DURATION,
    default=30.0,
    show_default=True,
    metavar="TIME",
    help="How long to wait with --wait.",
)
@connect_timeout_option
def health_command(endpoint: str, service: str, wait: bool, timeout: float, connect_timeout: float) -> int:
    """Tell whether the peer at ENDPOINT takes calls, or its SERVICE.

    The exit code is 0 if it does, and 1 if it does not; 78 if no peer is there, and 69 if it has no such service. With
    --wait it is 0 as soon as it does, and 1 if it has not in time.
    """
    from duplex.cli._health import show_health, wait_for_health
    from duplex.cli._session import run

    if wait:
        return run(
            lambda: wait_for_health(endpoint, service, timeout=timeout, connect_timeout=connect_timeout)
        )
    return run(lambda: show_health(endpoint, service, connect_timeout=connect_timeout))


@click.command("stats")
@endpoint_argument
@output_option
@click.option("--all", "everything", is_flag=True, help="Also calls of what every peer has, duplex.*.")
@connect_timeout_option
def stats_command(endpoint: str, output: str, everything: bool, connect_timeout: float) -> int:
    """Show what the peer at ENDPOINT has counted of its calls since it was opened.

    For each method, in both directions: calls that have ended, how many of them failed, those under way, latencies,
    bytes, and how often one had to wait because the other side had not taken what was sent.
    """
    from duplex.cli._session import run
    from duplex.cli._stats import show_stats

    return run(
        lambda: show_stats(
            endpoint, connect_timeout=connect_timeout, as_json=output == "json", everything=everything
        )
    )


@click.command("top")
@click.argument("endpoints", metavar="ENDPOINT...", nargs=-1, required=True, shell_complete=complete_endpoint)
@click.option(
    "--interval",
    type=Duration(0.1),
    default=1.0,
    show_default=True,
    metavar="TIME",
    help="The pause between two looks.",
)
@click.option("--count", type=click.IntRange(min=1), help="End after so many looks.")
@click.option("--all", "everything", is_flag=True, help="Also calls of what every peer has, duplex.*.")
@connect_timeout_option
@credentials_option
@tls_options
@discovery_option
def top_command(
    endpoints: tuple[str, ...], interval: float, count: int | None, everything: bool, connect_timeout: float
) -> int:
    """Watch what the peers at ENDPOINT... do: calls per second, errors, latencies and bytes of each method.

    On a terminal one picture is drawn again and again; elsewhere each look is written below the one before. A peer that
    is gone is shown as that until it is back. discovery://NAME stands for all instances of a service, whichever there are.
    """
    from duplex.cli._session import run
    from duplex.cli._top import show_top

    return run(
        lambda: show_top(
            endpoints,
            interval=interval,
            count=count,
            connect_timeout=connect_timeout,
            everything=everything,
        )
    )
