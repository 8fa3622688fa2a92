"""What OpenSSL has to know of certificates, kept for all connections, and read again when the files have changed."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import time
import weakref
from collections.abc import Callable
from typing import Final, NoReturn, TypeAlias, final

from duplex._errors import ConfigurationError
from duplex.transports._tls import TLS
from duplex.transports.streams._tls import TlsWire

logger = logging.getLogger("duplex")

#: What a protocol is called where several share a port (ALPN).
PROTOCOL: Final = "dmtp/1"
#: Seconds between two looks at whether files have changed.
_PAUSE: Final = 1.0
#: What tells that a file has changed; ``None`` where there is none.
_Stamp: TypeAlias = tuple[int, int, int] | None


def _stamp(path: str) -> _Stamp:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


@final
class Current:
    """A context that is made anew when one of its files has changed.

    Args:
        files: their paths.
        make: makes it. Raises ``ConfigurationError``.
        clock: the time in seconds.
    """

    def __init__(
        self,
        files: tuple[str, ...],
        make: Callable[[], ssl.SSLContext],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._files = files
        self._make = make
        self._clock = clock
        # Before they are read: what changes meanwhile is read again.
        self._seen = self._stamps()
        self._context = make()
        self._look_at = clock() + _PAUSE

    def _stamps(self) -> tuple[_Stamp, ...]:
        return tuple(map(_stamp, self._files))

    def get(self) -> ssl.SSLContext:
        """Return it."""
        now = self._clock()
        if self._files and now >= self._look_at:
            self._look_at = now + _PAUSE
            stamps = self._stamps()
            if stamps != self._seen:
                self._seen = stamps
                try:
                    self._context = self._make()
                except ConfigurationError as error:
                    logger.warning("%s; TLS goes on with what was read before", error)
        return self._context


@final
class Contexts:
    """The contexts of one :class:`duplex.TLS`, each made when it is first asked for.

    Args:
        tls: what they are made from.
    """

    def __init__(self, tls: TLS) -> None:
        self._tls = tls
        self._server: Current | None = None
        self._client: Current | None = None

    def secured(self, wire: socket.socket, host: str) -> TlsWire:
        """Return the client's end of TLS on a connected socket.

        Args:
            wire: the socket.
            host: that of the endpoint.
        """
        name = self._tls.server_name or host.partition("%")[0].removesuffix(".")
        return TlsWire(wire, self.client(), name)

    def accepted(self, wire: socket.socket) -> TlsWire:
        """Return the server's end."""
        return TlsWire(wire, self.server(), None)

    def server(self) -> ssl.SSLContext:
        """Return the one of bound endpoints.

        Raises:
            ConfigurationError: there is no certificate, or a file cannot be read. Not after the first time.
        """
        if self._server is None:
            tls = self._tls
            given = tls.server_context
            if given is not None:
                self._server = Current((), lambda: given)
            else:
                self._server = Current(
                    _files(tls.certificate, tls.key, tls.client_ca), lambda: _server_context(tls)
                )
        return self._server.get()

    def client(self) -> ssl.SSLContext:
        """Return the one for connecting.

        Raises:
            ConfigurationError: a file cannot be read. Not after the first time.
        """
        if self._client is None:
            tls = self._tls
            given = tls.client_context
            if given is not None:
                self._client = Current((), lambda: given)
            else:
                self._client = Current(_files(tls.certificate, tls.key, tls.ca), lambda: _client_context(tls))
        return self._client.get()


#: Those in use: the authorities of a system are a megabyte, and take milliseconds to read.
_known: Final[weakref.WeakValueDictionary[TLS, Contexts]] = weakref.WeakValueDictionary()


def contexts_of(tls: TLS | None) -> Contexts:
    """Return the contexts of some settings; those of equal ones are shared as long as somebody has them.

    Args:
        tls: the settings; ``None`` for what holds by default: the authorities of this system, and no certificate.
    """
    key = tls or TLS()
    found = _known.get(key)
    if found is None:
        _known[key] = found = Contexts(key)
    return found


def _files(*paths: object) -> tuple[str, ...]:
    return tuple(str(path) for path in paths if path is not None)


def _server_context(tls: TLS) -> ssl.SSLContext:
    if tls.certificate is None:
        raise ConfigurationError(
            "to bind tls:// needs a certificate: open_peer(tls=duplex.TLS(certificate=..., key=...)), or duplex serve --tls-cert "
            "and --tls-key"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # Nobody resumes a session: links last. And tickets are two kilobytes for each that connects.
    context.num_tickets = 0
    context.set_alpn_protocols([PROTOCOL])
    _load_certificate(context, tls)
    if tls.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        _load_authorities(context, str(tls.client_ca), "client_ca")
    return context


def _client_context(tls: TLS) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([PROTOCOL])
    if tls.ca is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        _load_authorities(context, str(tls.ca), "ca")
    if tls.certificate is not None:
        _load_certificate(context, tls)
    return context


def _load_certificate(context: ssl.SSLContext, tls: TLS) -> None:
    def no_password() -> NoReturn:
        # Else OpenSSL asks for one at the terminal, and waits.
        raise ConfigurationError(
            f"the private key in {tls.key or tls.certificate} is encrypted: give one that is not, or TLS.server_context and "
            f"TLS.client_context of your own"
        )

    for path in _files(tls.certificate, tls.key):
        _check_readable(path)
    try:
        context.load_cert_chain(str(tls.certificate), None if tls.key is None else str(tls.key), no_password)
    except OSError as error:
        if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
            why = f"the private key in {tls.key or tls.certificate} is none of this certificate"
        elif tls.key is None:
            why = "it has to hold a certificate and its private key, in PEM"
        else:
            why = f"it has to hold a certificate, and {tls.key} the private key of that, in PEM"
        raise ConfigurationError(f"the TLS certificate {tls.certificate} cannot be used: {why}") from error


def _load_authorities(context: ssl.SSLContext, path: str, field: str) -> None:
    try:
        if os.path.isdir(path):
            context.load_verify_locations(capath=path)
            return
        _check_readable(path)
        context.load_verify_locations(path)
    except OSError as error:
        raise ConfigurationError(f"{path}, TLS.{field}, holds no certificate in PEM") from error


def _check_readable(path: str) -> None:
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise ConfigurationError(f"{path}, which TLS needs, cannot be read: {error.strerror}") from None
