"""Real servers, one of each in every process that runs tests: a test has a prefix of its own there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from tests.services.servers import Certificates, ConsulServers, EtcdServers, ZooKeeperServers


@pytest.fixture(scope="session")
def etcd() -> Iterator[EtcdServers]:
    with EtcdServers() as servers:
        yield servers


@pytest.fixture(scope="session")
def consul() -> Iterator[ConsulServers]:
    with ConsulServers(dev=True) as servers:
        yield servers


@pytest.fixture(scope="session")
def zookeeper() -> Iterator[ZooKeeperServers]:
    with ZooKeeperServers() as servers:
        yield servers


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Of one authority: a server's for 127.0.0.1 and a client's for ``client``."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    found = Certificates(folder / "authority.pem", folder / "server.pem", folder / "client.pem")
    authority.cert_pem.write_to_path(found.authority)
    server = authority.issue_cert("127.0.0.1", "localhost", common_name="server")
    client = authority.issue_cert("client", common_name="client")
    for path, issued in ((found.server, server), (found.client, client)):
        _write(path, issued)
    return found


def _write(path: Path, issued: trustme.LeafCert) -> None:
    # Java reads a key only in this form.
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(key + b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    path.chmod(0o600)
