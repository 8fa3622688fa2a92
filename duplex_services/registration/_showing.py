"""What commands of the registrator print."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from duplex.cli.live import columns, line
from duplex_services.registration._model import Container, Finding, Service
from duplex_services.registration._rules._difference import Difference, Drop


def show_services(services: Sequence[Service]) -> str:
    """Return a table of services."""
    if not services:
        return "nothing is to be listed; `duplex registrator explain` says why"
    rows = [("SERVICE", "ID", "ADDRESS", "STATE", "CONTAINER", "TAGS")]
    rows += [
        (one.name, one.id, one.address, one.state, one.container_name, ",".join(one.tags)) for one in services
    ]
    return "\n".join(columns(rows))


def show_findings(container: Container, findings: Iterable[Finding]) -> str:
    """Return what became of each port of a container."""
    lines = [f"{container.name} ({container.short}), {container.image}, {container.status}"]
    for one in findings:
        where = one.port or "all of it"
        if one.service:
            note = f": {one.why}" if one.why else ""
            lines.append(f"- {where} is listed as {one.service} {one.id}{note}")
        else:
            lines.append(f"- {where} is not listed: {one.why}")
    return "\n".join(map(line, lines))


def show_plan(name: str, found: Difference) -> str:
    """Return what would be done to a registry."""
    lines = [f"{name}: {'nothing to do' if not found.actions else f'{len(found.actions)} to do'}"]
    for action in found.actions:
        if isinstance(action, Drop):
            lines.append(f"- drop {action.entry.key}: {action.why}")
        else:
            what = "put" if action.before is None else "change"
            lines.append(f"- {what} {action.entry.key} at {action.service.address}, {action.entry.state}")
    lines += [
        f"- refuse {refusal.service.name} {refusal.service.id}: {refusal.why}" for refusal in found.refusals
    ]
    return "\n".join(map(line, lines))
