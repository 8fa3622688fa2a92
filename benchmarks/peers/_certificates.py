"""Certificates for the peers that encrypt, made anew for each run."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Certificate(NamedTuple):
    """What a server shows, and what its clients trust: files, in PEM."""

    chain: Path
    key: Path
    authority: Path


def make_certificate(directory: Path) -> Certificate:
    """Make a certificate for 127.0.0.1, and its authority, in a directory."""
    import trustme

    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    made = Certificate(*(directory / name for name in ("chain.pem", "key.pem", "authority.pem")))
    made.chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(made.key))
    authority.cert_pem.write_to_path(str(made.authority))
    return made
