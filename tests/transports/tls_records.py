"""A TLS 1.3 client that sends what OpenSSL never would: it makes records by itself, from the secrets of a handshake."""

from __future__ import annotations

import hashlib
import hmac
import socket
import ssl
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.transports.certificates import authority

_DATA: Final = 23
_HANDSHAKE: Final = 22
_SIZES: Final = {"TLS_AES_256_GCM_SHA384": (32, "sha384"), "TLS_AES_128_GCM_SHA256": (16, "sha256")}


class Records:
    """A connection after its handshake.

    Args:
        wire: a connected socket that does not block.
        keys: where OpenSSL writes its secrets to.
        other: has the other side go on.
    """

    def __init__(self, wire: socket.socket, keys: Path, other: Callable[[], object]) -> None:
        self._wire = wire
        context = ssl.create_default_context(cafile=str(authority().file))
        context.keylog_filename = str(keys)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                wire.send(outgoing.read())
                other()
                incoming.write(wire.recv(100_000))
            else:
                break
        wire.send(outgoing.read())
        other()
        cipher = tls.cipher()
        assert cipher is not None
        self._size, self._hash = _SIZES[cipher[0]]
        (secret,) = (
            line.split()[2]
            for line in keys.read_text().splitlines()
            if line.startswith("CLIENT_TRAFFIC_SECRET_0")
        )
        self._use(bytes.fromhex(secret))

    def _use(self, secret: bytes) -> None:
        self._secret = secret
        self._key = AESGCM(self._expand("key", self._size))
        self._iv = int.from_bytes(self._expand("iv", 12), "big")
        self._number = 0

    def _expand(self, label: str, size: int) -> bytes:
        """HKDF-Expand-Label of RFC 8446, for what one block of the hash is enough."""
        name = f"tls13 {label}".encode()
        info = struct.pack(">HB", size, len(name)) + name + b"\0"
        return hmac.new(self._secret, info + b"\x01", self._hash).digest()[:size]

    def _send(self, kind: int, content: bytes) -> int:
        inner = content + bytes((kind,))
        head = b"\x17\x03\x03" + (len(inner) + 16).to_bytes(2, "big")
        nonce = (self._iv ^ self._number).to_bytes(12, "big")
        self._number += 1
        record = head + self._key.encrypt(nonce, inner, head)
        self._wire.send(record)
        return len(record)

    def send_data(self, data: bytes) -> int:
        """Send some data in a record; return the bytes that it took."""
        return self._send(_DATA, data)

    def update_key(self, *, asks: bool) -> int:
        """Say that another key is used from now on, and ask the other side for the same."""
        sent = self._send(_HANDSHAKE, b"\x18\0\0\x01" + bytes((asks,)))
        self._use(self._expand("traffic upd", hashlib.new(self._hash).digest_size))
        return sent
