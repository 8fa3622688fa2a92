"""What ``duplex conformance`` does: runs scenarios and reports, as text for people or as JSON for programs."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, Final

import click

import duplex
from duplex.cli._errors import FAILED, USAGE, CommandError
from duplex.cli._output import to_json
from duplex.cli._report import STATUS_BASE, printable, tell
from duplex.conformance import (
    FAILED as WENT_WRONG,
)
from duplex.conformance import (
    NOT_TESTED,
    PASSED,
    EndpointError,
    NoPeerError,
    Offer,
    Result,
    Scenario,
    ScenarioError,
    Timing,
    load,
    run,
    select,
)
from duplex.transports import full_endpoint

_NO_PEER: Final = STATUS_BASE + int(duplex.StatusCode.UNAVAILABLE)
_COLOURS: Final = {PASSED: "green", WENT_WRONG: "red", NOT_TESTED: "yellow"}


def show_scenarios(patterns: Sequence[str], *, as_json: bool) -> None:
    """Write the scenarios to stdout without running them."""
    chosen = _chosen(patterns)
    if as_json:
        click.echo(to_json([_about(scenario) for scenario in chosen]).decode())
        return
    for section, scenarios in itertools.groupby(chosen, lambda scenario: scenario.section):
        click.secho(section, bold=True)
        for scenario in scenarios:
            click.echo(f"  {scenario.level:6} {scenario.id}: {scenario.title}")


async def try_implementation(
    endpoint: str,
    patterns: Sequence[str],
    *,
    listen: bool,
    timeout: float,
    connect_timeout: float,
    strict: bool,
    as_json: bool,
) -> None:
    """Run scenarios against the implementation at an endpoint and report to stdout.

    Args:
        endpoint: where it is bound, or, with ``listen``, what it shall connect to.
        patterns: which scenarios; all without any.
        listen: the implementation connects.
        timeout: seconds to wait in each step.
        connect_timeout: seconds to wait for the implementation.
        strict: what is not tested, and a SHOULD that is not kept, count as failures.
        as_json: the report is JSON.

    Raises:
        CommandError: there is no implementation, or it does not conform.
    """
    chosen = _chosen(patterns)
    endpoint = full_endpoint(endpoint)
    try:
        offer, results = await run(
            chosen,
            endpoint,
            listen=listen,
            timing=Timing(step=timeout),
            connect_timeout=connect_timeout,
            on_endpoint=lambda bound: tell(f"waiting for connections to {bound}"),
        )
    except EndpointError as error:
        raise CommandError(str(error)) from None
    except NoPeerError as error:
        raise CommandError(str(error), _NO_PEER) from None
    if as_json:
        click.echo(to_json(_report(offer, results)).decode())
    else:
        _show(offer, results)
    wrong = [result for result in results if _counts(result, strict=strict)]
    if wrong:
        raise CommandError(f"{len(wrong)} of {len(results)} scenarios failed", FAILED)


def _chosen(patterns: Sequence[str]) -> list[Scenario]:
    try:
        return select(load(), patterns)
    except ScenarioError as error:
        raise CommandError(str(error), USAGE) from None


def _counts(result: Result, *, strict: bool) -> bool:
    if result.outcome == PASSED:
        return False
    if strict:
        # What only the other role could show is tested by the other mode of the command.
        return result.outcome == WENT_WRONG or not result.other_role
    return result.outcome == WENT_WRONG and result.scenario.level == "MUST"


# -- as text ---------------------------------------------------------------------------------------------


def _show(offer: Offer, results: Iterable[Result]) -> None:
    results = list(results)
    click.echo(f"{printable(offer.name or offer.peer_id)}, {len(results)} scenarios\n")
    for section, of_section in itertools.groupby(results, lambda result: result.scenario.section):
        click.secho(section, bold=True)
        for result in of_section:
            _show_result(result)
    counts = collections.Counter(result.outcome for result in results)
    click.echo("\n" + ", ".join(f"{counts[outcome]} {outcome}" for outcome in _COLOURS if counts[outcome]))


def _show_result(result: Result) -> None:
    scenario = result.scenario
    mark = click.style(f"{result.outcome:10}", fg=_COLOURS[result.outcome])
    click.echo(f"  {mark} {scenario.id}: {scenario.title}")
    if result.outcome == NOT_TESTED:
        click.echo(f"             {result.reason}")
    elif result.outcome == WENT_WRONG:
        where = f"step {result.step}" if result.step else "handshake"
        click.echo(f"             {scenario.rule}")
        click.echo(f"             {where}: expected {printable(result.expected)}")
        click.echo(f"             {' ' * len(where)}  came     {printable(result.came)}")


# -- as JSON ---------------------------------------------------------------------------------------------


def _report(offer: Offer, results: Iterable[Result]) -> dict[str, Any]:
    results = list(results)
    counts = collections.Counter(result.outcome for result in results)
    return {
        "implementation": {
            "peer_id": offer.peer_id,
            "name": offer.name,
            "codecs": sorted(offer.codecs),
            "services": sorted(offer.services),
        },
        "summary": {outcome.replace(" ", "_"): counts[outcome] for outcome in _COLOURS},
        "results": [
            {
                **_about(result.scenario),
                "outcome": result.outcome,
                "reason": result.reason,
                "step": result.step,
                "expected": result.expected,
                "came": result.came,
                "seconds": round(result.seconds, 6),
            }
            for result in results
        ],
    }


def _about(scenario: Scenario) -> dict[str, Any]:
    return {
        "id": scenario.id,
        "section": scenario.section,
        "title": scenario.title,
        "level": scenario.level,
        "rule": scenario.rule,
    }
