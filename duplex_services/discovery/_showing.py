"""How the commands show what they are told: in columns, or as JSON."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from duplex.cli.live import columns, line
from duplex_services.discovery.client import (
    Change,
    Diff,
    Explanation,
    Instance,
    LeaderNews,
    Listing,
    Overview,
    ServiceInfo,
    Status,
)


def _table(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(columns(rows))


def show_overview(overview: Overview) -> str:
    """Return all services, and the servers."""
    rows = [("SERVICE", "SERVING", "ALL", "LEADER")]
    rows += [
        (info.name, f"{info.serving}", f"{info.instances}", "" if info.leader is None else info.leader.id)
        for info in overview.services
    ]
    servers = ", ".join(server.name for server in overview.servers) or "none"
    return "\n".join([_table(rows), "", line(f"servers: {servers}"), show_status(overview.status)])


def show_instances(listing: Listing) -> str:
    """Return the instances of a service."""
    if not listing.instances:
        what = "no instance is listed" if listing.known else "there is no such service"
        return f"{line(listing.service)}: {what}\n{show_status(listing.status)}"
    rows = [("ID", "ADDRESS", "STATE", "WEIGHT", "ZONE", "METADATA", "")]
    for one in listing.instances:
        marks = ["suspect"] if one.suspect else []
        marks += ["orphan"] if one.id in listing.orphans else []
        marks += [one.note] if one.note else []
        rows.append(
            (
                one.id,
                address_of(one),
                one.state,
                f"{one.weight}",
                one.zone,
                _pairs(one.metadata),
                "; ".join(marks),
            )
        )
    return f"{_table(rows)}\n\n{show_status(listing.status)}"


def show_instance(one: Instance) -> str:
    """Return all that is known of an instance."""
    fields = msgspec.structs.asdict(one) | {
        "metadata": _pairs(one.metadata),
        "suspect": "yes" if one.suspect else "",
    }
    return _table([(name, f"{value}") for name, value in fields.items() if value not in ("", None)])


def show_service(info: ServiceInfo) -> str:
    """Return what is kept for a service."""
    leader = "nobody" if info.leader is None else f"{info.leader.id} (fence {info.leader.fence})"
    rows = [
        ("service", info.name),
        ("serving", f"{info.serving} of {info.instances}"),
        ("leader", leader),
        ("leader type", info.config.leader_type + (f" ({info.config.leader})" if info.config.leader else "")),
    ]
    if info.metadata is not None:
        rows.append((f"metadata {info.metadata.index}", msgspec.json.encode(info.metadata.data).decode()))
    return _table(rows)


def show_leader(news: LeaderNews) -> str:
    """Return who leads."""
    leader = news.leader
    if leader is None:
        return line(f"{news.service}: nobody leads")
    address = "" if leader.instance is None else f" at {address_of(leader.instance)}"
    return line(f"{news.service}: {leader.id}{address}, fence {leader.fence}")


def show_change(change: Change) -> str:
    """Return a change, in a line."""
    what = f"{change.service}/{change.id}" if change.id else change.service
    detail = ""
    if change.kind in ("up", "update") and change.instance is not None:
        detail = f"{address_of(change.instance)} {change.instance.state}"
        detail += " suspect" if change.instance.suspect else ""
        detail += f" ({change.instance.note})" if change.instance.note else ""
    elif change.kind == "down":
        detail = change.why
    elif change.kind == "leader" and change.leader is not None:
        detail = f"fence {change.leader.fence}"
    elif change.kind == "leader":
        detail = "nobody"
    elif change.kind == "config" and change.config is not None:
        detail = f"leader {change.config.leader_type}"
    elif change.kind == "metadata" and change.metadata is not None:
        detail = msgspec.json.encode(change.metadata.data).decode()
    at = time.strftime("%H:%M:%S", time.localtime(change.at))
    return line(f"{at}  {change.kind:<8}  {what}  {detail}".rstrip())


def show_diff(diff: Diff) -> str:
    """Return what became different."""
    return "\n".join(
        [f"from {diff.first} to {diff.last}:", *(show_change(change) for change in diff.changes)]
    )


def show_explanation(found: Explanation) -> str:
    """Return why an instance is listed, or not."""
    lines = [line(f"{found.service}/{found.id} is {'listed' if found.listed else 'not listed'}")]
    lines += [line(f"- {reason}") for reason in found.reasons]
    if found.server:
        lines.append(line(f"- kept by {found.server}{', which is gone' if found.orphan else ''}"))
    if found.changes:
        lines += ["last changes:", *(f"  {show_change(change)}" for change in found.changes)]
    return "\n".join(lines)


def show_status(status: Status) -> str:
    """Return how good an answer is."""
    age = "of unknown age" if status.age is None else f"{status.age:.1f} s old"
    stale = f", stale: {status.trouble or 'the store is away'}" if status.stale else ""
    return line(f"as of {status.as_of}, {age}{stale}")


def address_of(one: Instance) -> str:
    return one.endpoint or one.address


def _pairs(metadata: dict[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in sorted(metadata.items()))
