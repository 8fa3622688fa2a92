"""TLS beneath ZMTP: a socket on which all is encrypted, which does as a socket does."""

# How it does as a socket does
# ============================
#
#  * ``send`` tells how much need not be sent again. What is encrypted cannot be taken back, so if the kernel does not take all of that,
#    the rest stays here. Somebody has to come back for it, and who sends comes back only if something is left of what is his. So the
#    last byte of what was encrypted is not counted as sent (it is *owed*) until the kernel has everything, and left out when it comes
#    again. So nobody need know that there is a buffer here; at most 64 KiB and what TLS adds are in it.
#  * ``recv`` returns less than it was asked for only if nothing more is here. The kernel does not tell of what it has handed over.
#  * What is sent before the handshake is over waits here: that is this side's greeting.
#
# The end
# =======
#
# Somebody in between can end a TCP connection. So each side says in TLS that it has ended (``close_notify``), and what ends without
# that was cut. This side says it with ``shutdown(SHUT_WR)``, and decrypts nothing any more that comes after.
#
# What strangers may do
# =====================
#
# OpenSSL bounds the messages of a handshake, and what is in none it does not: it takes updates of keys without end, at 18 us for 27
# bytes, and answers each. An honest side sends one in many millions of records. So bytes that carry no data are counted, with some
# grace for each record that carries some, and there is a bound to them. And OpenSSL, which does not stop before it has found data,
# is given no more than 16 KiB at once.

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, cast, final

from duplex.transports.zmtp import ZMTP, protocol_of

#: Bytes that are read of the socket, or encrypted, at once.
_CHUNK: Final = 64 * 1024
#: Bytes of the largest record's data.
_RECORD: Final = 16 * 1024
#: Bytes that OpenSSL is given at once.
_SLICE: Final = 16 * 1024
#: Bytes that may come without data: in a handshake, certificates among them; and then, with what has come of a record.
_MOST_IN_HANDSHAKE: Final = 64 * 1024
_MOST_WITHOUT_DATA: Final = 32 * 1024
#: Bytes of a record beside its data: 22, and some grace.
_BESIDE: Final = 32
#: Bytes that are encrypted and that the kernel does not take. Data is no more than 64 KiB of them.
_MOST_UNSENT: Final = 256 * 1024
#: What TLS begins with: a handshake, or an alert.
_BEGINNINGS: Final = (b"\x16", b"\x15")
#: An alert: fatal, protocol_version.
_NO_TLS: Final = b"\x15\x03\x03\x00\x02\x02\x46"
#: Bytes that tell what else it is.
_BEGINNING: Final = 16
_NOTHING: Final = memoryview(b"")
_ALERT: Final = "_ALERT_"
CUT: Final = "it was cut: there was no end of TLS before that of the connection"


@final
class TlsError(OSError):
    """TLS has failed, and the connection is over.

    Args:
        what: what is wrong.

    Attributes:
        kind: for counting, as errors of ZMTP have it.
    """

    kind: Final = "tls"

    def __init__(self, what: str) -> None:
        super().__init__(what)


class TlsFacts(NamedTuple):
    """What a handshake has agreed on, and whose certificate the other side has shown."""

    version: str
    cipher: str
    #: Names and addresses that the certificate is for; none if there is none, or it was not looked at.
    names: tuple[str, ...]
    #: Until when it is valid.
    expires: str


@final
class TlsWire:
    """See :class:`Wire`.

    Args:
        wire: a connected socket that does not block.
        context: what OpenSSL goes by.
        server_name: which name or IP address the certificate of the server has to be for; ``None`` at the server.
    """

    __slots__ = (
        "_early",
        "_first",
        "_has_ended",
        "_has_more",
        "_in",
        "_is_told",
        "_out",
        "_owed",
        "_problem",
        "_rest",
        "_sealed",
        "_socket",
        "_tls",
        "_without_data",
        "is_ready",
    )

    def __init__(self, wire: socket.socket, context: ssl.SSLContext, server_name: str | None) -> None:
        self._socket = wire
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._in, self._out, server_side=server_name is None, server_hostname=server_name
        )
        #: The handshake is over, and nothing has failed.
        self.is_ready = False
        #: What this side has said before the handshake was over.
        self._early = b""
        #: How the other side began; empty once the handshake is over.
        self._first = b""
        #: What is encrypted and not taken by the kernel; and whether its last byte is owed.
        self._sealed = _NOTHING
        self._owed = 0
        #: Some of what has come is not read yet; and what of it OpenSSL has not been given.
        self._has_more = False
        self._rest = _NOTHING
        #: Bytes that have come without any data for them.
        self._without_data = 0
        #: What has failed, and whether who receives has been told.
        self._problem: TlsError | None = None
        self._is_told = False
        #: This side has said that it has ended.
        self._has_ended = False
        if server_name is not None:
            with contextlib.suppress(ssl.SSLWantReadError):
                self._tls.do_handshake()
            self._push()

    # -- what is the socket's ------------------------------------------------------------------------------

    @property
    def family(self) -> int:
        return self._socket.family

    def fileno(self) -> int:
        return self._socket.fileno()

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        return self._socket.getsockopt(level, option, size)

    def close(self) -> None:
        self._socket.close()

    # -- what is known of TLS ------------------------------------------------------------------------------

    @property
    def has_heard(self) -> bool:
        """Whether something has come from the other side."""
        return self.is_ready or bool(self._first)

    def facts(self) -> TlsFacts:
        """Return what the handshake has come to, once it is over."""
        cipher = self._tls.cipher()
        certificate: dict[str, Any] = self._tls.getpeercert() or {}
        names = tuple(str(name) for _, name in certificate.get("subjectAltName", ()))
        return TlsFacts(
            self._tls.version() or "",
            "" if cipher is None else cipher[0],
            names,
            str(certificate.get("notAfter", "")),
        )

    # -- sending -------------------------------------------------------------------------------------------

    def send(self, data: bytes, /) -> int:
        """See :class:`ByteStream`."""
        if not self.is_ready or self._sealed or self._owed or len(data) > _RECORD:
            return self.sendmsg((data,))
        try:
            self._tls.write(data)
        except ssl.SSLError as error:
            raise self._fail(error) from None
        sealed = self._out.read()
        try:
            sent = self._socket.send(sealed)
        except BlockingIOError:
            sent = 0
        if sent == len(sealed):
            return len(data)
        self._sealed = memoryview(sealed)[sent:]
        return self._owe(len(data))

    def sendmsg(self, buffers: Iterable[bytes | bytearray | memoryview], /) -> int:
        """See :class:`ByteStream`."""
        if self._problem is not None:
            raise self._problem
        if not self.is_ready:
            data = b"".join(buffers)
            self._early += data
            return len(data)
        if self._sealed and not self._push():
            raise BlockingIOError
        skip, self._owed = self._owed, 0
        taken = room = 0
        # Record by record, as a BIO keeps the room that it has once had.
        sealed: list[bytes] = []
        for buffer in buffers:
            part = memoryview(buffer)
            if skip and part:
                # It was encrypted before; the kernel has it now.
                part, skip, taken = part[1:], 0, taken + 1
            while part:
                try:
                    count = self._tls.write(part[:_RECORD])
                except ssl.SSLError as error:
                    raise self._fail(error) from None
                sealed.append(self._out.read())
                part = part[count:]
                taken += count
                room += count
                if room >= _CHUNK:
                    if not self._hand_over(sealed):
                        return self._owe(taken)
                    room, sealed = 0, []
        return taken if self._hand_over(sealed) else self._owe(taken)

    def _owe(self, taken: int) -> int:
        self._owed = 1
        return taken - 1

    def _hand_over(self, sealed: list[bytes]) -> bool:
        """Hand records to the kernel, before which nothing waits; tell whether it has taken all."""
        try:
            sent = self._socket.sendmsg(sealed) if sealed else 0
        except BlockingIOError:
            sent = 0
        if sent == sum(map(len, sealed)):
            return True
        self._sealed = memoryview(b"".join(sealed))[sent:]
        return self._push()

    def _push(self) -> bool:
        """Hand what is encrypted to the kernel; tell whether it has taken all."""
        while True:
            if not self._sealed:
                if not self._out.pending:
                    return True
                self._sealed = memoryview(self._out.read())
            try:
                sent = self._socket.send(self._sealed)
            except BlockingIOError:
                return False
            # An empty view of it would keep all of it.
            self._sealed = self._sealed[sent:] if sent < len(self._sealed) else _NOTHING

    # -- receiving -----------------------------------------------------------------------------------------

    def recv(self, size: int, /) -> bytes:
        """See :class:`ByteStream`."""
        if not self._take_in():
            return self._socket.recv(size)
        parts = [self._read(size)]
        left = size - len(parts[0])
        try:
            while self._has_more and left and parts[-1]:
                parts.append(self._read(left))
                left -= len(parts[-1])
        except OSError as error:
            self._put_off(error)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def recv_into(self, buffer: memoryview, /) -> int:
        """See :class:`ByteStream`."""
        if not self._take_in():
            return self._socket.recv_into(buffer)
        filled = self._read_into(buffer)
        try:
            while self._has_more and filled < len(buffer):
                count = self._read_into(buffer[filled:])
                if not count:
                    break
                filled += count
        except OSError as error:
            self._put_off(error)
        return filled

    def _put_off(self, error: OSError) -> None:
        """Something stands before an error: who receives gets that, and the error the next time."""
        if isinstance(error, TlsError):
            self._is_told = False
            # Nothing need come any more, so what makes the next time come is that there is nothing more to come.
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RD)

    def _take_in(self) -> bool:
        """Have something to decrypt. Raises ``OSError``.

        Returns:
            ``False`` if nothing is decrypted any more, and what comes is to be thrown away.
        """
        if self._has_ended or self._is_told:
            return False
        if self._problem is not None:
            self._is_told = True
            raise self._problem
        if not self._has_more:
            self._fill()
        if not self.is_ready:
            self._shake_hands()
        return True

    def _fill(self) -> None:
        """Read from the socket."""
        sealed = self._socket.recv(_CHUNK)
        if not sealed:
            self._in.write_eof()
        else:
            if not self._first and not self.is_ready:
                self._first = sealed[:_BEGINNING]
            self._without_data += len(sealed)
            if len(sealed) > _SLICE:
                self._rest = memoryview(sealed)
                self._feed()
            else:
                self._in.write(sealed)
        self._has_more = True

    def _feed(self) -> None:
        self._in.write(self._rest[:_SLICE])
        self._rest = self._rest[_SLICE:] if len(self._rest) > _SLICE else _NOTHING

    def _read(self, size: int) -> bytes:
        """Decrypt something."""
        while True:
            try:
                data = self._tls.read(size)
            except ssl.SSLError as error:
                self._go_on(error)
            else:
                self._note_read(len(data))
                return data

    def _read_into(self, buffer: memoryview) -> int:
        """Decrypt something, into a buffer."""
        while True:
            try:
                # What is known of it to type checkers is narrower than what it takes and returns.
                count = cast("int", self._tls.read(len(buffer), cast("bytearray", buffer)))
            except ssl.SSLError as error:
                self._go_on(error)
            else:
                self._note_read(count)
                return count

    def _note_read(self, count: int) -> None:
        left = self._without_data - count - _BESIDE
        self._without_data = max(0, left)
        self._has_more = bool(self._in.pending or self._rest or self._tls.pending())
        if self._out.pending:
            self._answer()

    def _answer(self) -> None:
        """Send what TLS has to say itself: its part of the handshake, and answers to updates of keys."""
        if not self._push() and len(self._sealed) + self._out.pending > _MOST_UNSENT:
            raise self._told(TlsError("it asks for answers of TLS, and does not read them"))

    def _go_on(self, error: ssl.SSLError) -> None:
        """OpenSSL wants more of what has come; or else raise what is to be told."""
        if isinstance(error, ssl.SSLWantReadError):
            if self._out.pending:
                self._answer()
            count = self._without_data - len(self._rest)
            if count > (_MOST_WITHOUT_DATA if self.is_ready else _MOST_IN_HANDSHAKE):
                raise self._told(TlsError(f"it has sent {count} bytes of TLS without any data in them"))
            if self._rest:
                self._feed()
                return
            self._has_more = False
            raise BlockingIOError from None
        self._has_more = False
        if isinstance(error, ssl.SSLEOFError):
            raise OSError(CUT) from None
        raise self._told(self._fail(error)) from None

    def _shake_hands(self) -> None:
        if self._first and not self._first.startswith(_BEGINNINGS):
            # OpenSSL says nothing to those who do not speak TLS. Some know an alert when they see one.
            with contextlib.suppress(OSError):
                self._socket.send(_NO_TLS)
            raise self._told(TlsError(_what_it_speaks(self._first)))
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLEOFError:
                said = "in the middle of the TLS handshake" if self._first else "without a word of TLS"
                raise self._told(TlsError(f"the other side has ended the connection {said}")) from None
            except ssl.SSLError as error:
                self._go_on(error)
            else:
                break
        version = self._tls.version()
        if version != "TLSv1.3":
            raise self._told(
                TlsError(f"the other side speaks {version}, and TLSv1.3 is the only one that is spoken here")
            )
        self._first = b""
        self._without_data = len(self._rest)
        self.is_ready = True
        early, self._early = self._early, b""
        if early:
            self._tls.write(early)
        self._push()

    # -- what goes wrong -----------------------------------------------------------------------------------

    def _fail(self, error: ssl.SSLError) -> TlsError:
        """TLS has failed: tell the other side, if it can be told."""
        self.is_ready = False
        self._problem = problem = TlsError(_what_failed(error))
        with contextlib.suppress(OSError):
            self._push()
        return problem

    def _told(self, problem: TlsError) -> TlsError:
        """Return an error that who receives is told now."""
        self.is_ready = False
        self._problem = problem
        self._is_told = True
        return problem

    # -- the end -------------------------------------------------------------------------------------------

    def shutdown(self, how: int, /) -> None:
        """Shut the socket down; to send no more (``SHUT_WR``) is to say so in TLS before."""
        if how == socket.SHUT_WR and self.is_ready and not self._has_ended:
            self._has_ended = True
            # It waits for the other side to say the same, which nobody waits for.
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()
            self._push()
        self._socket.shutdown(how)


_REASONS: Final = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it has shown no certificate, and needs one here",
    "UNSUPPORTED_PROTOCOL": "it speaks no TLS 1.3, which is the only one that is spoken here",
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": "what came was changed on its way",
}


def _what_it_speaks(beginning: bytes) -> str:
    name = protocol_of(beginning)
    if name == ZMTP:
        return "the other side speaks ZeroMQ's protocol without TLS: both need tls://, or both tcp://"
    if name is not None:
        return (
            f"the other side speaks {name}, and this is an endpoint with TLS: one of the two is the wrong one"
        )
    return f"the other side does not speak TLS: it begins with {beginning!r}"


def _what_failed(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message.rstrip('.')}"
    reason = error.reason or "unknown"
    if _ALERT in reason:
        return f"the other side refuses, by an alert of TLS: {_words(reason.partition(_ALERT)[2])}"
    return _REASONS.get(reason) or f"TLS has failed: {_words(reason)}"


def _words(reason: str) -> str:
    return reason.replace("_", " ").lower()
