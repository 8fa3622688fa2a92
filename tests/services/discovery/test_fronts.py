"""HTTP and DNS from a shell: ``duplex discovery run --http … --dns …``."""

from __future__ import annotations

import http.client
import json
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.query
import pytest

from tests.machine import within
from tests.services.servers import Certificates
from tests.services.shell import Shell

pytestmark = pytest.mark.slow


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with Shell(tmp_path, "discovery") as shell:
        yield shell


def test_fronts_from_a_shell(shell: Shell, certificates: Certificates) -> None:
    server = shell.start(
        *(
            "run",
            "--store",
            "memory:",
            "--no-socket",
            "--bind",
            shell.endpoint,
            "--state",
            str(shell.folder / "s"),
        ),
        *(
            "--http",
            "localhost:0",
            "--http-certificate",
            str(certificates.server),
            "--dns-zone",
            "svc.example",
        ),
        *("--dns-ttl", "9", "--dns-negative-ttl", "3"),
        DUPLEX_DISCOVERY_HTTP_WRITE_TOKEN="secret",
        DUPLEX_DISCOVERY_DNS="127.0.0.1:0",
    )
    assert server.stdout is not None
    lines: list[str] = []
    while not (lines and lines[-1].startswith("dns://")):
        line = server.stdout.readline().strip()
        assert line, server.communicate()
        lines.append(line)
    assert lines[0] == shell.endpoint
    assert lines[1].startswith("https://")
    connection = http.client.HTTPSConnection(
        "localhost",
        int(lines[1].rpartition(":")[2]),
        timeout=within(10),
        context=ssl.create_default_context(cafile=str(certificates.authority)),
    )

    def send(method: str, path: str, body: object, token: str) -> int:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        connection.request(method, path, json.dumps(body), headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status

    assert send("PUT", "/services/web", {}, "wrong") == 401
    assert send("PUT", "/services/web", {}, "secret") == 200
    words = {"addr": "10.0.0.1:80", "proto": "http"}
    assert send("PUT", "/v1/services/web/instances/a", words, "secret") == 200
    connection.close()
    port = int(lines[-1].rpartition(":")[2])
    for name, ttl, count in (("web", 9, 1), ("none", 3, 0)):
        query = dns.message.make_query(f"{name}.svc.example.", "A")
        found = dns.query.udp(query, "127.0.0.1", port=port, timeout=within(5))
        assert len(found.answer) == count
        assert (found.answer or found.authority)[0].ttl == ttl
    assert "10.0.0.1" in shell.until("a", "ls", "web")
    server.send_signal(signal.SIGTERM)
    assert server.wait(timeout=within(20)) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--http", "0.0.0.0:0"], "everyone who reaches it could register"),
        (["--http", "127.0.0.1:0", "--http-certificate", "/none"], "--http-certificate /none"),
        (["--dns", "nowhere"], "no address to use"),
        (["--dns", "127.0.0.1:0", "--dns-ttl", "-1"], "ttl is from 0"),
    ],
)
def test_what_makes_no_sense(words: list[str], message: str, shell: Shell) -> None:
    code, out, err = shell.run(
        "run", "--store", "memory:", "--no-socket", "--bind", shell.endpoint, "--name", "here", *words
    )
    assert code != 0
    assert out == ""
    assert message in err
    assert "Traceback" not in err
