"""Texts of others are escaped, bounded and counted by a filter of one logger; records of its children pass it by."""

from __future__ import annotations

import re
from typing import Final

import pytest

from tests.docs.markdown import ROOT

#: Loggers of other names, and why no text of another peer comes over them as it is.
OTHERS: Final = {
    "duplex.calls": "quotes what it writes itself",
    "duplex.store.kazoo": "is of a library, and tells of connections to servers that the user has named",
}
NAMED: Final = re.compile(r"""getLogger\((.*?)\)""")


@pytest.mark.parametrize("package", ["duplex", "duplex_services"])
def test_what_is_logged_passes_the_filter(package: str) -> None:
    names = {
        name.strip("\"'")
        for path in sorted((ROOT / package).rglob("*.py"))
        for name in NAMED.findall(path.read_text(encoding="utf-8"))
    }
    assert "duplex" in names
    assert names - OTHERS.keys() == {"duplex"}
