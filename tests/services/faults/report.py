"""What came of a fault, and a table of it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """What came of a fault.

    Attributes:
        what: was done.
        came: of it, with figures.
        is_right: whether that is as it must be.
    """

    what: str
    came: str
    is_right: bool


def table(findings: Sequence[Finding]) -> str:
    """Return a table for humans."""
    width = max((len(finding.what) for finding in findings), default=0)
    lines = [
        f"{'ok  ' if finding.is_right else 'FAIL'}  {finding.what:{width}}  {finding.came}\n"
        for finding in findings
    ]
    return "".join(lines)
