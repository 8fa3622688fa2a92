"""How a peer encrypts, and whom it trusts, at endpoints that have TLS."""

from __future__ import annotations

import dataclasses
import os
import ssl
from typing import Final, TypeAlias

from duplex._errors import ConfigurationError

#: A file, in PEM.
PemFile: TypeAlias = str | os.PathLike[str]

_FILES: Final = ("certificate", "key", "ca", "client_ca")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TLS:
    """How a peer encrypts what goes over ``tls://`` endpoints, and whom it trusts there. TLS 1.3, and nothing older.

    ``TLS(certificate="server.pem", key="server.key")`` for a peer that binds, ``TLS(ca="ca.pem")`` for one that connects; a peer
    that does both has all of them. All files are in PEM. They are read when an endpoint is bound or connected, and again when they
    have changed: connections that are made from then on go by what is in them now, and those there are stay. What cannot be read
    then is logged, and they go by what was read before.
    """

    #: The certificate of this peer, those that lead from it to an authority behind it. A bound endpoint shows it to all who connect;
    #: and this peer, connecting, to servers that ask for one. What binds needs one.
    certificate: PemFile | None = None
    #: The private key of it, not encrypted; ``None``: it is in the file of the certificate.
    key: PemFile | None = None
    #: The authorities that this peer trusts to say who a server is: a file, or a directory as OpenSSL has them; ``None``: those of
    #: this system.
    ca: PemFile | None = None
    #: The authorities of which those who connect need a certificate; ``None``: they need none.
    client_ca: PemFile | None = None
    #: Which name or IP address a server's certificate has to be for; ``None``: the host of the endpoint that is connected. For
    #: addresses that were looked up, in which the name of the certificate does not stand.
    server_name: str | None = None
    #: All that a bound endpoint goes by, in the place of ``certificate``, ``key`` and ``client_ca``. Not read again.
    server_context: ssl.SSLContext | None = None
    #: All that connecting goes by, in the place of ``certificate``, ``key`` and ``ca``. Not read again.
    client_context: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        for field in _FILES:
            value: object = getattr(self, field)
            if value is None:
                continue
            if not isinstance(value, str | os.PathLike):
                raise ConfigurationError(f"TLS.{field} must be the path of a file in PEM, not {value!r}")
            path: object = os.fspath(value)
            if not isinstance(path, str) or not path:
                raise ConfigurationError(f"TLS.{field} must be the path of a file in PEM, not {value!r}")
            object.__setattr__(self, field, path)
        name: object = self.server_name
        if name is not None and (not isinstance(name, str) or not name or name.startswith(".")):
            raise ConfigurationError(f"TLS.server_name must be a name or an IP address, not {name!r}")
        self._check_contexts()
        if self.key is not None and self.certificate is None:
            raise ConfigurationError("TLS.key needs TLS.certificate, which it belongs to")

    def _check_contexts(self) -> None:
        for field, replaced, protocol in (
            ("server_context", "client_ca", ssl.PROTOCOL_TLS_SERVER),
            ("client_context", "ca", ssl.PROTOCOL_TLS_CLIENT),
        ):
            context: object = getattr(self, field)
            if context is None:
                continue
            if not isinstance(context, ssl.SSLContext) or context.protocol != protocol:
                raise ConfigurationError(
                    f"TLS.{field} must be an ssl.SSLContext(ssl.{protocol.name}), not {context!r}"
                )
            if getattr(self, replaced) is not None:
                raise ConfigurationError(
                    f"TLS.{field} says all that TLS.{replaced} says: give one of the two"
                )
