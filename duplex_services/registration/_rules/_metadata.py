"""``SERVICE_…`` in labels and the environment: what they say of one port."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

_PREFIX: Final = "SERVICE_"

#: What Go's ``strconv.Atoi`` takes for an integer.
_INTEGER: Final = re.compile(r"[+-]?[0-9]+")

#: What is not meant by ``SERVICE_IGNORE``; Registrator took any text for yes.
_NO: Final = frozenset({"", "0", "false", "no", "off"})


class Metadata(msgspec.Struct, frozen=True):
    """What is said of a port.

    Attributes:
        values: by key in lower case, without ``SERVICE_`` and the port.
        own: keys that were said of this port, not of all.
    """

    values: dict[str, str]
    own: frozenset[str]

    def get(self, key: str) -> str:
        """What is said under a key; empty if nothing is."""
        return self.values.get(key, "")

    @property
    def has_own_name(self) -> bool:
        """Whether this port has a name that was said of it alone."""
        return "name" in self.own and self.get("name") != ""

    def ignores(self, *, compat: bool) -> bool:
        """Whether the port is not to be listed."""
        value = self.get("ignore")
        return value != "" if compat else value.strip().lower() not in _NO


def read_metadata(environment: Iterable[str], labels: Mapping[str, str], port: int) -> Metadata:
    """Return what the environment and the labels say of a port.

    Labels win over the environment, and what is said of the port alone wins over what is said of all.

    Args:
        environment: ``KEY=VALUE`` each; what has no ``=`` is no variable.
        labels: by name.
        port: the exposed one.
    """
    values: dict[str, str] = {}
    own: set[str] = set()
    for key, value in _said(environment, labels):
        head, line, tail = key.partition("_")
        if line and _INTEGER.fullmatch(head):
            if head == str(port):
                values[tail] = value
                own.add(tail)
        elif key not in own:
            values[key] = value
    return Metadata(values, frozenset(own))


def labelled_ports(environment: Iterable[str], labels: Mapping[str, str]) -> frozenset[int]:
    """Return the ports that some ``SERVICE_<port>_…`` speaks of."""
    heads = (key.partition("_") for key, _ in _said(environment, labels))
    return frozenset(int(head) for head, line, _ in heads if line and head.isascii() and head.isdecimal())


def _said(environment: Iterable[str], labels: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    lines = [*environment, *(f"{key}={value}" for key, value in labels.items())]
    for key, equals, value in (line.partition("=") for line in lines):
        if equals and key.startswith(_PREFIX):
            yield key.removeprefix(_PREFIX).lower(), value
