"""What the other tests start and harm: it starts, it is there, and it is gone afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.error
from pathlib import Path

import pytest

from tests.machine import within
from tests.services import debian, servers
from tests.services.servers import (
    Certificates,
    ConsulServers,
    EtcdServers,
    NotReadyError,
    Place,
    Servers,
    ZooKeeperServers,
    fetch,
    loopback,
    paused,
)

pytestmark = [pytest.mark.services, pytest.mark.slow]


def test_etcd_that_is_shared(etcd: EtcdServers) -> None:
    node = etcd.nodes[0]
    etcd.ask(node, "/v3/kv/put", {"key": "YQ==", "value": "Yg=="})
    assert etcd.ask(node, "/v3/kv/range", {"key": "YQ=="})["kvs"][0]["value"] == "Yg=="
    assert etcd.leader() is node
    assert etcd.hosts == f"127.0.0.1:{node.place.port}"


def test_consul_that_is_shared(consul: ConsulServers) -> None:
    node = consul.nodes[0]
    assert fetch(node, "/v1/kv/a", b"b", method="PUT") is True
    assert fetch(node, "/v1/kv/a")[0]["Value"] == "Yg=="
    assert consul.leader() is node


def test_zookeeper_that_is_shared(zookeeper: ZooKeeperServers) -> None:
    assert zookeeper.leader() is zookeeper.nodes[0]


def test_dev_agent_that_is_replaced_has_forgotten() -> None:
    with ConsulServers(dev=True) as consul:
        node = consul.nodes[0]
        fetch(node, "/v1/kv/a", b"b", method="PUT")
        consul.restart()
        consul.wait_ready()
        with pytest.raises(urllib.error.HTTPError, match="404") as found:
            fetch(node, "/v1/kv/a")
        found.value.close()


def test_etcd_keeps_what_it_knows_until_it_is_wiped() -> None:
    with EtcdServers() as etcd:
        node = etcd.nodes[0]
        etcd.ask(node, "/v3/kv/put", {"key": "YQ==", "value": "Yg=="})
        etcd.restart()
        etcd.wait_ready()
        assert "kvs" in etcd.ask(node, "/v3/kv/range", {"key": "YQ=="})
        etcd.restart(wipe=True)
        etcd.wait_ready()
        assert "kvs" not in etcd.ask(node, "/v3/kv/range", {"key": "YQ=="})


def test_leader_of_three_is_followed_by_another() -> None:
    with EtcdServers(loopback(3, peer_ports=EtcdServers.PEER_PORTS)) as etcd:
        first = etcd.leader()
        assert etcd.follower() is not first
        first.kill()
        assert etcd.leader() is not first
        first.start()
        etcd.wait_ready()


def test_node_that_is_stopped_answers_when_it_goes_on(consul: ConsulServers) -> None:
    node = consul.nodes[0]
    with paused(node), socket.create_connection(node.endpoint) as sock:
        sock.sendall(b"GET /v1/status/leader HTTP/1.0\r\n\r\n")
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sock.recv(1)
    assert fetch(node, "/v1/status/leader")


def test_tls_with_certificates_of_both_sides(certificates: Certificates) -> None:
    with EtcdServers(certificates=certificates) as etcd:
        assert etcd.scheme == "https"
    with ZooKeeperServers(certificates=certificates) as zookeeper:
        with socket.create_connection(("127.0.0.1", zookeeper.secure_ports[0])):
            pass


def test_server_that_does_not_start_says_why() -> None:
    with pytest.raises(NotReadyError, match="error listing data dir"):
        with EtcdServers(options=["--data-dir=/dev/null/data"]):
            pass


def test_port_that_somebody_took_is_another_one_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        places = [[Place("127.0.0.1", taken.getsockname()[1], "127.0.0.1", (0, 0))], loopback()]
        monkeypatch.setattr(servers, "loopback", lambda nodes=1, *, peer_ports: places.pop(0))
        with EtcdServers() as etcd:
            assert etcd.endpoints[0][1] != taken.getsockname()[1]


def test_nothing_is_left_when_the_block_is_left() -> None:
    with EtcdServers() as etcd:
        pid = int(subprocess.check_output(["pgrep", "-f", str(etcd.folder)], text=True))
        folder = etcd.folder
    assert not Path(f"/proc/{pid}").exists()
    assert not folder.exists()


def test_nothing_is_left_by_a_run_that_is_killed(tmp_path: Path) -> None:
    script = """
        import sys
        from tests.services.servers import EtcdServers
        with EtcdServers() as etcd:
            print(etcd.folder, flush=True)
            sys.stdin.read()
    """
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    ) as run:
        assert run.stdout is not None
        folder = run.stdout.readline().strip()
        found = ["pgrep", "-f", folder]
        assert subprocess.run(found, capture_output=True).returncode == 0
        run.send_signal(signal.SIGKILL)
    until = time.monotonic() + within(5)
    while subprocess.run(found, capture_output=True).returncode == 0:
        assert time.monotonic() < until
        time.sleep(0.05)  # the kernel ends it some time after its parent


def test_waiting_has_an_end(monkeypatch: pytest.MonkeyPatch, consul: ConsulServers) -> None:
    monkeypatch.setattr(servers, "READY_WITHIN", 0.01)
    with pytest.raises(NotReadyError, match="not led"):
        consul.wait(lambda: False, "led")


# --------------------------------------------------------------------------------- where it comes from


_PARAGRAPHS = """\
Types: deb
# a comment
URIs: http://b.test/debian
Suites: bookworm-security
Components: main

Types: deb-src
URIs: http://c.test/debian
Suites: bookworm
Components: main

Types: deb deb-src
URIs: http://a.test/debian
Suites: bookworm
 bookworm-updates
Components: main
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "sources.list",
            "# deb http://no.test/debian bookworm main\ndeb http://a.test/debian bookworm main contrib\n",
        ),
        (
            "sources.list.d/b.list",
            "deb [arch=amd64 signed-by=/k] http://a.test/debian bookworm contrib main\n",
        ),
        (
            "sources.list.d/debian.sources",
            _PARAGRAPHS,
        ),
    ],
)
def test_mirror_is_the_machines(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    (path.parent / "ignored.save").write_text("deb http://d.test/debian bookworm main\n")
    assert debian._mirror("bookworm", tmp_path) == "http://a.test/debian"


def test_machine_without_a_mirror(tmp_path: Path) -> None:
    with pytest.raises(debian.CannotInstallError, match="no source of packages of bookworm"):
        debian._mirror("bookworm", tmp_path)


def test_package_that_nobody_has(tmp_path: Path) -> None:
    if shutil.which("apt-get") is None:
        pytest.skip("this is not Debian")
    apt = debian._Apt(tmp_path / "apt", f"file:{tmp_path}")
    (tmp_path / "new").mkdir()
    with pytest.raises(debian.CannotInstallError, match="apt-get"):
        apt.unpack("no-such-package", "", tmp_path / "new")
    assert not (tmp_path / "new" / "tree").exists()


def test_servers_are_skipped_where_they_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def unpacked(name: str, package: str, *, only: str = "") -> Path:
        raise debian.CannotInstallError("this is not Debian")

    monkeypatch.setattr(servers, "unpacked", unpacked)
    monkeypatch.setattr(shutil, "which", lambda name, **_: None)
    servers._folder.cache_clear()
    monkeypatch.delenv("DUPLEX_REQUIRE_SERVICES", raising=False)
    with pytest.raises(
        pytest.skip.Exception, match="etcd is not installed, and cannot be: this is not Debian"
    ):
        EtcdServers()
    monkeypatch.setenv("DUPLEX_REQUIRE_SERVICES", "1")
    kinds: list[type[Servers]] = [EtcdServers, ConsulServers]
    for kind in kinds:
        with pytest.raises(pytest.fail.Exception, match="DUPLEX_REQUIRE_SERVICES=1 asks for it"):
            kind()
