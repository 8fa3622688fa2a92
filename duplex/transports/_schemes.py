"""Which transport an endpoint belongs to: that of its scheme, among those that a peer was opened with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, final

from duplex._errors import ConfigurationError
from duplex.transports._base import Transport

_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*")
#: A host, which may be missing, and a port.
_SHORT: Final = re.compile(r"(\[[^]/]+\]|[^]\[:/\s]*):(\d+|\*)")


def full_endpoint(endpoint: str) -> str:
    """Return an endpoint with its scheme: ``127.0.0.1:7700`` is short for ``tcp://127.0.0.1:7700``, and so is
    ``:7700``, for a peer that connects and for one that binds. All else stays as it is."""
    short = _SHORT.fullmatch(endpoint)
    return endpoint if short is None else f"tcp://{short[1] or '127.0.0.1'}:{short[2]}"


def scheme_of(endpoint: str) -> str:
    """Return the scheme of an endpoint.

    Raises:
        ConfigurationError: it has none.
    """
    scheme, separator, _ = endpoint.partition("://")
    if not separator or not _SCHEME.fullmatch(scheme):
        raise ConfigurationError(
            f"{endpoint!r} does not begin with a scheme, such as tcp://, and HOST:PORT is short for that"
        )
    return scheme


def _checked(transports: Any) -> Iterable[Transport]:
    if isinstance(transports, str) or not isinstance(transports, Iterable):
        raise ConfigurationError(f"transports must be a list of transports, not {transports!r}")
    return transports


@final
class Transports:
    """Transports, by the schemes of their endpoints; iterating gives each once.

    Args:
        transports: those there are.

    Raises:
        ConfigurationError: there is none, one is no transport, or two have the same scheme.
    """

    def __init__(self, transports: Iterable[Transport]) -> None:
        self._by_scheme: dict[str, Transport] = {}
        for transport in _checked(transports):
            self._add(transport)
        if not self._by_scheme:
            raise ConfigurationError("transports must not be empty: a peer without any is linked to nobody")

    def _add(self, transport: Transport) -> None:
        schemes = getattr(transport, "schemes", None)
        if isinstance(transport, type) or not isinstance(schemes, frozenset) or not schemes:
            raise ConfigurationError(
                f"{transport!r} is no transport: it needs schemes, a frozenset of names such as 'tcp', bind() and connect()"
            )
        for scheme in sorted(schemes):
            if not isinstance(scheme, str) or not _SCHEME.fullmatch(scheme):
                raise ConfigurationError(
                    f"{transport!r} has the scheme {scheme!r}, which is none: it begins with a small letter, followed by "
                    f"those, digits, '+', '-' and '.'"
                )
            other = self._by_scheme.setdefault(scheme, transport)
            if other is not transport:
                raise ConfigurationError(f"{other!r} and {transport!r} both have the scheme {scheme}://")

    def __iter__(self) -> Iterator[Transport]:
        return iter(dict.fromkeys(self._by_scheme.values()))

    def has(self, scheme: str) -> bool:
        """Whether there is a transport for a scheme."""
        return scheme in self._by_scheme

    def transport_for(self, endpoint: str) -> Transport:
        """Return the transport of an endpoint's scheme.

        Raises:
            ConfigurationError: there is none; the message lists those there are.
        """
        scheme, separator, _ = endpoint.partition("://")
        transport = self._by_scheme.get(scheme) if separator else None
        if transport is None:
            known = ", ".join(f"{name}://" for name in sorted(self._by_scheme))
            short = ", and HOST:PORT is short for tcp://" if "tcp" in self._by_scheme else ""
            raise ConfigurationError(
                f"{endpoint!r} does not begin with a known scheme; there are {known}{short}"
            )
        return transport
