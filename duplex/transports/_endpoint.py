"""Endpoints of sockets: taken apart, and checked."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import re
import tempfile
import uuid
from typing import Final

from duplex._errors import BindError, ConfigurationError

#: What is in front of the schemes of sockets that are libzmq's.
ZMQ: Final = "zmq+"
_EXAMPLES: Final = {
    "tcp": "tcp://host:port",
    "tls": "tls://host:port",
    "ipc": "ipc://path",
    "zmq+tcp": "zmq+tcp://host:port",
    "zmq+ipc": "zmq+ipc://path",
    "inproc": "inproc://name",
}
#: Bytes of a path at which a Unix socket can be, on Linux: ``sun_path`` of ``struct sockaddr_un``, less the byte that ends it.
LONGEST_PATH: Final = 107


@dataclasses.dataclass(frozen=True, slots=True)
class Endpoint:
    """A parsed endpoint. ``scheme`` is ``tcp``, ``tls``, ``ipc`` or ``inproc``, and ``prefix`` is what is in front of it, ``zmq+`` or
    nothing. ``host`` and ``port`` belong to tcp and tls (an IPv6 host is without its brackets; port 0 and ``*`` both read as 0), ``name``
    to ipc (a path; with ``@`` in front one of Linux's abstract names) and inproc."""

    scheme: str
    host: str = ""
    port: int = 0
    name: str = ""
    prefix: str = ""

    def __str__(self) -> str:
        return f"{self.prefix}{self.plain}"

    @property
    def plain(self) -> str:
        """The endpoint without its prefix, as libzmq writes it."""
        if not self.has_host:
            return f"{self.scheme}://{self.name}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port or '*'}"

    @property
    def has_host(self) -> bool:
        """Whether it is a host and a port, and no name."""
        return self.scheme in ("tcp", "tls")


def parse_endpoint(endpoint: str, *, binding: bool, schemes: frozenset[str]) -> Endpoint:
    """Take an endpoint apart and check it.

    Args:
        endpoint: such as ``tcp://host:port``, ``ipc://path`` or ``inproc://name``.
        binding: wildcards (``tcp://*:port``, ``tcp://host:*``, ``ipc://*``, ``inproc://*``) are for
            binding only; ``ipc://*`` and ``inproc://*`` get a unique name here.
        schemes: those that the transport has.

    Raises:
        ConfigurationError: with what is wrong and an example of what is right.
        BindError: there is no directory for ``ipc://*``.
    """
    scheme, separator, rest = endpoint.partition("://")
    if not separator or scheme not in schemes:
        *others, last = (example for known, example in _EXAMPLES.items() if known in schemes)
        raise ConfigurationError(
            f"{endpoint!r} is not an endpoint of this transport; write {', '.join(others)} or {last}"
        )
    prefix = ZMQ if scheme.startswith(ZMQ) else ""
    scheme = scheme.removeprefix(ZMQ)
    if scheme in ("tcp", "tls"):
        return _parse_tcp(endpoint, scheme, rest, binding, prefix)
    if not rest:
        example = f"{prefix}ipc:///run/app.sock" if scheme == "ipc" else "inproc://name"
        raise ConfigurationError(
            f"{endpoint!r} has nothing after {prefix}{scheme}://; write for example {example}"
        )
    if "\0" in rest:
        raise ConfigurationError(f"{endpoint!r} contains a NUL character, which no name may")
    if any("\ud800" <= character <= "\udfff" for character in endpoint):
        raise ConfigurationError(f"{endpoint!r} contains half a surrogate pair, which is no character")
    if rest == "*":
        if not binding:
            raise ConfigurationError(
                f"{endpoint!r} is for binding; connect to the endpoint that the port got"
            )
        name = f"duplex-{uuid.uuid4().hex}"
        if scheme == "ipc":
            # libzmq's own wildcard makes a directory, in the current one unless TMPDIR is set.
            name = os.path.join(_temporary_directory(), f"{name}.sock")
        return Endpoint(scheme, name=name, prefix=prefix)
    limit = LONGEST_PATH if scheme == "ipc" else 255
    size = len(os.fsencode(rest))
    if size > limit:
        raise ConfigurationError(
            f"{endpoint!r}: the name is {size} bytes long, and at most {limit} are possible; use a shorter path"
        )
    return Endpoint(scheme, name=rest, prefix=prefix)


def _temporary_directory() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:  # it tries each by making a file, and does not say what came of that
        raise BindError(
            "cannot bind ipc://*: no temporary directory can be used, or no descriptor is left to try one; set "
            "TMPDIR, or bind a path"
        ) from None


_HOST: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")


def _parse_tcp(endpoint: str, scheme: str, rest: str, binding: bool, prefix: str) -> Endpoint:
    def wrong(why: str) -> ConfigurationError:
        return ConfigurationError(f"{endpoint!r}: {why}; write for example {example}")

    example = f"{prefix}{scheme}://127.0.0.1:5555, or {prefix}{scheme}://[::1]:5555"
    host, separator, port_text = rest.rpartition(":")
    if not separator:
        raise wrong("the port is missing")
    if port_text == "*":
        port = 0
    elif port_text.isascii() and port_text.isdigit() and int(port_text) <= 65535:
        port = int(port_text)
    else:
        raise wrong(f"the port {port_text!r} is not a number from 0 to 65535")
    if port == 0 and not binding:
        raise wrong("a wildcard port is for binding, and connecting needs a real one")
    if host.startswith("[") or host.endswith("]"):
        bare = host[1:-1]
        try:
            ipaddress.IPv6Address(bare if host == f"[{bare}]" else "")
        except ValueError:
            raise wrong(f"{host!r} is not an IPv6 address in brackets") from None
        return Endpoint(scheme, bare, port, prefix=prefix)
    if host == "*":
        if not binding:
            raise wrong("the host * is for binding, and connecting needs a real one")
    elif ":" in host:
        raise wrong("an IPv6 address needs brackets")
    elif not host:
        raise wrong("the host is missing")
    elif not _HOST.fullmatch(host):
        raise wrong(f"{host!r} is not a host name or an address")
    return Endpoint(scheme, host, port, prefix=prefix)
