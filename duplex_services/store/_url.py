"""``scheme://user:password@host:port,host:port/path?option=value``: which store, and where. No I/O."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Collection
from pathlib import Path
from typing import Final

import msgspec

import duplex

_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*")

_EXAMPLES: Final = (
    "memory:, sqlite:///var/lib/duplex/store.db, consul://host:8500/prefix, etcd://a,b,c/prefix, "
    "zookeeper://a,b,c/prefix, duplex+tcp://host:7711 or duplex+ipc:///run/duplex/store.sock"
)


class StoreURL(msgspec.Struct, frozen=True):
    """A store's URL in parts.

    Attributes:
        scheme: which kind of store.
        hosts: what stands between ``//`` and the path, at the commas.
        path: the rest before ``?``, percent-encoding undone; of a file ``/var/lib/x``, of a server ``/prefix``.
        user: before ``@``, or empty.
        password: behind ``user:``, or empty.
        options: what stands behind ``?``.
    """

    scheme: str
    hosts: tuple[str, ...] = ()
    path: str = ""
    user: str = ""
    password: str = ""
    options: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"StoreURL({self.address!r})"

    @property
    def address(self) -> str:
        """The URL without what must stay secret: for messages and logs."""
        authority = ",".join(self.hosts)
        return f"{self.scheme}:{'//' if authority or self.path.startswith('/') else ''}{authority}{self.path}"

    def endpoints(self, port: int) -> list[tuple[str, int]]:
        """Take the hosts apart.

        Args:
            port: for those that have none.

        Returns:
            Host and port of each; IPv6 addresses without their brackets.

        Raises:
            ConfigurationError: if there is no host, or one makes no sense.
        """
        if not self.hosts:
            raise duplex.ConfigurationError(f"{self.address} has no host: {self.scheme}://HOST:{port}/")
        return [_endpoint(host, port, self.address) for host in self.hosts]

    def check_options(self, known: Collection[str]) -> None:
        """Refuse options that nobody would read.

        Raises:
            ConfigurationError: which one, and which there are.
        """
        for name in self.options:
            if name not in known:
                there = ", ".join(sorted(known)) or "none"
                raise duplex.ConfigurationError(f"{self.address} has no option {name!r}; known: {there}")


def parse_url(url: str) -> StoreURL:
    """Take a store's URL apart.

    Raises:
        ConfigurationError: what is wrong about it. The message does not repeat what may be a password.
    """
    scheme, colon, rest = url.partition(":")
    if not colon or not _SCHEME.fullmatch(scheme):
        raise duplex.ConfigurationError(
            f"a store's URL begins with what kind of store it is, such as {_EXAMPLES}"
        )
    rest, _, query = rest.partition("?")
    authority = user = password = ""
    if rest.startswith("//"):
        authority, slash, rest = rest[2:].partition("/")
        rest = slash + rest
    if "@" in authority:
        secret, _, authority = authority.rpartition("@")
        user, _, password = secret.partition(":")
    hosts = tuple(authority.split(",")) if authority else ()
    if "" in hosts:
        raise duplex.ConfigurationError(f"an empty host between the commas of {scheme}://{authority}")
    found = StoreURL(
        scheme,
        hosts,
        _decoded(rest, scheme),
        _decoded(user, scheme),
        _decoded(password, scheme),
        _options(query, scheme),
    )
    if any(ord(letter) < 32 for letter in authority + found.path):
        raise duplex.ConfigurationError(f"control characters in the URL of a {scheme} store")
    return found


def file_of(url: StoreURL) -> Path:
    """Return the file that the URL of a sqlite store names, wherever this process may go later.

    Raises:
        ConfigurationError: it names none.
    """
    url.check_options(())
    if url.hosts or url.user or not url.path:
        raise duplex.ConfigurationError(
            f"{url.address} names no file: sqlite:///var/lib/store.db, or sqlite:store.db for one in this folder"
        )
    return Path(url.path).absolute()


def _options(query: str, scheme: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in query.split("&") if query else ():
        name, equals, value = part.partition("=")
        if not name or not equals:
            raise duplex.ConfigurationError(
                f"an option of a {scheme} store is NAME=VALUE, several are joined by &"
            )
        if name in found:
            raise duplex.ConfigurationError(f"the option {name!r} of a {scheme} store is there twice")
        found[name] = _decoded(value, scheme)
    return found


def _decoded(text: str, scheme: str) -> str:
    try:
        return urllib.parse.unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise duplex.ConfigurationError(
            f"percent-encoding that is no UTF-8 in the URL of a {scheme} store"
        ) from None


def _endpoint(host: str, port: int, address: str) -> tuple[str, int]:
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:/@\s]+))(?::([0-9]{1,5}))?", host)
    number = int(found[3]) if found is not None and found[3] else port
    if found is None or not 0 < number < 65536:
        raise duplex.ConfigurationError(
            f"{host!r} in {address} is not HOST or HOST:PORT; an IPv6 address stands in brackets"
        )
    return found[1] or found[2], number
