"""Certificates for tests of TLS, made anew in each run."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import tempfile
from pathlib import Path
from typing import Any, Final

import trustme

from duplex import TLS

#: Who servers are in tests: what ``tls://127.0.0.1`` and ``tls://localhost`` have to prove.
NAMES: Final = ("127.0.0.1", "::1", "localhost")


#: Removed when the process ends.
_FOLDER: Final = tempfile.TemporaryDirectory(prefix="duplex-certificates-")
_numbers: Final = itertools.count()


@dataclasses.dataclass(frozen=True)
class Pair:
    """A certificate and its key, in files; and both in one."""

    certificate: Path
    key: Path
    both: Path


class Authority:
    """Signs certificates, and is trusted with its file."""

    def __init__(self) -> None:
        self._ca = trustme.CA()
        self.file: Final = Path(_FOLDER.name) / f"ca-{next(_numbers)}.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def issue(self, *names: str, folder: Path | None = None, **options: Any) -> Pair:
        issued = self._ca.issue_cert(*(names or NAMES), **options)
        number = next(_numbers)
        place = folder or Path(_FOLDER.name)
        pair = Pair(place / f"{number}.pem", place / f"{number}.key", place / f"{number}-both.pem")
        pair.certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(pair.key)
        issued.private_key_and_cert_chain_pem.write_to_path(pair.both)
        return pair


@functools.cache
def authority() -> Authority:
    """The one that tests trust."""
    return Authority()


@functools.cache
def stranger() -> Authority:
    """One that nobody trusts."""
    return Authority()


@functools.cache
def tls() -> TLS:
    """What both ends of a test's connection have: a certificate, and trust in it."""
    pair = authority().issue()
    return TLS(certificate=pair.certificate, key=pair.key, ca=authority().file)
