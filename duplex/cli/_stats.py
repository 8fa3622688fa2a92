"""What ``duplex stats`` shows, and the table that ``duplex top`` draws: what peers have counted of their calls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click
import msgspec

import duplex
from duplex.builtin import Snapshot
from duplex.cli._output import to_json
from duplex.cli._report import printable
from duplex.cli._session import linked
from duplex.cli.live import columns

STATS: Final = "duplex.stats"
_BUILT_IN: Final = "duplex."
NO_CALLS: Final = "no calls"
#: So many columns, from the first, are texts; the others numbers.
TEXTS: Final = 2
HEADINGS: Final = (
    "method",
    "direction",
    "calls",
    "errors",
    "in flight",
    "p50",
    "p99",
    "received",
    "sent",
    "waits",
)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table."""

    method: str
    direction: str
    #: Calls, or calls per second.
    calls: float
    errors: int
    in_flight: int
    #: Seconds; ``None`` without calls.
    p50: float | None
    p99: float | None
    received: float
    sent: float
    credit_waits: int

    def cells(self, *, per_second: bool) -> tuple[str, ...]:
        """Return the texts under :data:`HEADINGS`."""
        rate = "/s" if per_second else ""
        return (
            printable(self.method),
            self.direction,
            f"{self.calls:.1f}{rate}" if per_second else f"{self.calls:.0f}",
            str(self.errors) if self.errors else "",
            str(self.in_flight) if self.in_flight else "",
            _time(self.p50),
            _time(self.p99),
            f"{_bytes(self.received)}{rate}",
            f"{_bytes(self.sent)}{rate}",
            str(self.credit_waits) if self.credit_waits else "",
        )


def stats_of(link: duplex.Link) -> duplex.ServiceProxy:
    """Return the service that tells what a peer has counted.

    Raises:
        Unimplemented: it counts nothing.
    """
    if STATS not in link.services:
        raise duplex.Unimplemented(
            f"{link.peer_name} does not tell what it counts: it was opened with stats=False, or knows no such service"
        )
    return link.service(STATS)


def read(answer: Any) -> Snapshot:
    """Return what a peer has told.

    Raises:
        Internal: it cannot be understood.
    """
    try:
        found = msgspec.convert(answer, Snapshot)
    except msgspec.ValidationError as error:
        raise duplex.Internal(f"the peer's statistics cannot be understood: {error}") from None
    if not math.isfinite(found.uptime):
        raise duplex.Internal(f"the peer's statistics cannot be understood: it is up for {found.uptime} s")
    return found


async def show_stats(endpoint: str, *, connect_timeout: float, as_json: bool, everything: bool) -> None:
    """Write what a peer has counted since it was opened to stdout."""
    async with linked(endpoint, connect_timeout) as link:
        answer = await stats_of(link).with_options(timeout=connect_timeout).snapshot()
    if as_json:
        click.echo(to_json(answer, pretty=True).decode())
        return
    snapshot = read(answer)
    click.echo(click.style(printable(heading(snapshot)), bold=True))
    for line in text_table(rows(snapshot, everything=everything), per_second=False):
        click.echo(line)


def heading(snapshot: Snapshot) -> str:
    """Return a line about the peer as a whole."""
    name = snapshot.peer_name or snapshot.peer_id
    parts = [name, f"up {_span(snapshot.uptime)}", _counted(len(snapshot.links), "link")]
    if unknown := snapshot.unknown_methods:
        parts.append(f"{_counted(unknown, 'call')} of unknown methods")
    return "  ".join(parts)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def rows(snapshot: Snapshot, before: Snapshot | None = None, *, everything: bool = False) -> list[Row]:
    """Return the lines for a snapshot: of all that was counted, or of what came since another snapshot, per second.

    Args:
        snapshot: the later one.
        before: the other one. One of another life of the peer counts as none.
        everything: also what belongs to the peer itself, ``duplex.*``.
    """
    if before is not None and (before.peer_id != snapshot.peer_id or before.uptime >= snapshot.uptime):
        before = None
    seconds = 1.0 if before is None else snapshot.uptime - before.uptime
    known = {} if before is None else {(one.method, one.direction): one for one in before.methods}
    found = []
    for now in snapshot.methods:
        if not everything and now.method.startswith(_BUILT_IN):
            continue
        then = known.get((now.method, now.direction))
        latencies = now.latencies if then is None else _since(now.latencies, dict(then.latencies))
        calls = sum(count for _, count in latencies)
        of_them = msgspec.structs.replace(now, latencies=latencies)
        found.append(
            Row(
                method=now.method,
                direction=now.direction,
                calls=calls / seconds,
                errors=_total(now.errors) - (0 if then is None else _total(then.errors)),
                in_flight=now.in_flight,
                p50=of_them.percentile(0.5) if calls else None,
                p99=of_them.percentile(0.99) if calls else None,
                received=(now.bytes_received - (0 if then is None else then.bytes_received)) / seconds,
                sent=(now.bytes_sent - (0 if then is None else then.bytes_sent)) / seconds,
                credit_waits=now.credit_waits - (0 if then is None else then.credit_waits),
            )
        )
    return found


def _since(latencies: Sequence[tuple[float, int]], before: Mapping[float, int]) -> list[tuple[float, int]]:
    left = [(bound, count - before.get(bound, 0)) for bound, count in latencies]
    return [(bound, count) for bound, count in left if count > 0]


def _total(errors: Mapping[str, int]) -> int:
    return sum(errors.values())


def text_table(lines: Sequence[Row], *, per_second: bool) -> list[str]:
    """Return the table as lines of text."""
    if not lines:
        return [NO_CALLS]
    return columns([HEADINGS, *(row.cells(per_second=per_second) for row in lines)], TEXTS)


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def _bytes(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"


def _span(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
