"""``duplex doctor`` says how far one gets, names what is there instead of a peer, and what to do about it."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import zmq

import duplex
from duplex.resolvers import Endpoint, Known
from tests.cli.conftest import Invoke
from tests.cli.harness import CALC, Result, serving
from tests.cli.test_probe import WAIT, free_port, listening
from tests.transports.certificates import Authority, authority, stranger
from tests.transports.zmtp.sessions import greeting

__all__ = ["free_port"]


def last(result: Result) -> list[str]:
    """The step that failed, what is said of it, and what to do."""
    lines = [line.strip() for line in result.out.splitlines()]
    return [" ".join(lines[-2].split()), lines[-1]]


def test_all_is_well(calc: str, invoke: Invoke) -> None:
    endpoint = calc
    result = invoke("doctor", endpoint)
    assert (result.code, result.err) == (0, "")
    heading, *steps = [" ".join(line.split()) for line in result.out.splitlines()]
    assert heading == endpoint
    assert [step.split()[1] for step in steps] == ["address", "connection", "ZMTP", "Duplex", "round"]
    assert steps[0] == f"ok address {endpoint}"
    assert steps[1] == f"ok connection {endpoint} accepted it"
    assert steps[2] == "ok ZMTP 3.1, NULL, ROUTER"
    assert "calc" in steps[3]
    assert "services: calc 1.0.0, duplex.health" in steps[3]
    assert steps[4].startswith("ok round trips 5: min ")


def test_in_json(calc: str, invoke: Invoke, free_port: int) -> None:
    endpoint = calc
    result = invoke("doctor", endpoint, "-o", "json", "--count", 2)
    found: dict[str, Any] = json.loads(result.out)
    assert result.code == 0
    assert found["ok"] is True
    assert {(step["endpoint"], step["ok"], step["advice"]) for step in found["steps"]} == {
        (endpoint, True, None)
    }
    assert found["steps"][-1]["step"] == "round trips"
    result = invoke("doctor", f"tcp://127.0.0.1:{free_port}", "-o", "json")
    found = json.loads(result.out)
    assert result.code == 1
    assert found["ok"] is False
    assert found["steps"][-1] == {
        "endpoint": f"tcp://127.0.0.1:{free_port}",
        "step": "connection",
        "ok": False,
        "text": f"nothing listens at tcp://127.0.0.1:{free_port}: connection refused",
        "advice": "start the server, or see on its host what listens where (ss -ltn)",
    }


@pytest.fixture(scope="module")
def encrypted() -> Iterator[str]:
    """The endpoint of the same behind TLS."""
    own = authority().issue()
    with serving(
        CALC, "--bind", "tls://127.0.0.1:*", "--tls-cert", own.certificate, "--tls-key", own.key
    ) as server:
        yield server.endpoint


def test_with_tls(encrypted: str, invoke: Invoke) -> None:
    endpoint = encrypted
    result = invoke("doctor", endpoint, "--tls-ca", authority().file)
    assert result.code == 0
    assert "TLS          TLSv1.3, TLS_AES_256_GCM_SHA384; for 127.0.0.1" in result.out
    result = invoke("call", endpoint, "calc.add", 1, 2, "--tls-ca", authority().file)
    assert result == Result(0, "3\n", "")


def test_certificates_that_are_not_trusted(encrypted: str, invoke: Invoke) -> None:
    endpoint = encrypted
    result = invoke("doctor", endpoint)
    assert result.code == 1
    assert last(result) == [
        f"failed TLS no link to {endpoint}: its certificate is not accepted: unable to get local issuer certificate",
        "name the authority that has signed it with --tls-ca FILE",
    ]
    result = invoke("doctor", endpoint, "--tls-ca", authority().file, "--tls-server-name", "other.example")
    assert "not valid for 'other.example'" in last(result)[0]
    assert "--tls-server-name" in last(result)[1]
    assert "its certificate is not accepted" in invoke("call", endpoint, "calc.add", 1, 2, *WAIT).err


def test_a_plain_peer_for_an_encrypted_one(encrypted: str, invoke: Invoke) -> None:
    plain = encrypted.replace("tls://", "tcp://")
    step, advice = last(invoke("doctor", plain))
    assert f"no link to {plain}: the other side speaks TLS, and this one does not" in step
    assert advice == "write tls:// in the place of tcp://"


@pytest.mark.parametrize("trusts", [authority, stranger])
def test_where_certificates_are_asked_for(invoke: Invoke, trusts: Callable[[], Authority]) -> None:
    own = authority().issue()
    with serving(
        CALC, "--bind", "tls://127.0.0.1:*", "--tls-cert", own.both, "--tls-client-ca", trusts().file
    ) as server:
        asking = ("doctor", server.endpoint, "--tls-ca", authority().file)
        assert (
            last(invoke(*asking))[1] == "it asks for a certificate: give --tls-cert FILE and --tls-key FILE"
        )
        result = invoke(*asking, "--tls-cert", own.certificate, "--tls-key", own.key)
    if trusts is authority:
        assert result.code == 0
    else:
        assert last(result)[1] == "its log says why; it may want another certificate (--tls-cert)"


def test_a_plain_peer_at_an_encrypted_endpoint(calc: str, invoke: Invoke) -> None:
    endpoint = calc.replace("tcp://", "tls://")
    step, advice = last(invoke("doctor", endpoint))
    assert step.startswith("failed TLS")
    assert "ZeroMQ's protocol without TLS" in step
    assert advice == "write tcp:// in the place of tls://"


def test_a_host_that_is_not_known(invoke: Invoke) -> None:
    step, advice = last(invoke("doctor", "tcp://no-such-host.invalid:7700"))
    assert step.startswith("failed address the host of tcp://no-such-host.invalid:7700 cannot be found: ")
    assert "getent hosts" in advice


def test_a_socket_that_is_not_there(tmp_path: Path, invoke: Invoke) -> None:
    assert last(invoke("doctor", f"ipc://{tmp_path}/x"))[1] == "start the server, or check the path"


def test_all_instances_are_looked_at(
    calc: str, invoke: Invoke, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = f"tcp://127.0.0.1:{free_port}"

    async def look_up(_peer: duplex.Peer, name: str) -> Known:
        assert name == "discovery://calc"
        return Known((Endpoint(calc), Endpoint(other)))

    monkeypatch.setattr(duplex.Peer, "look_up", look_up)
    result = invoke("doctor", "discovery://calc")
    assert result.code == 1
    assert [line for line in result.out.splitlines() if not line.startswith(" ")] == [calc, other]
    assert "ok      round trips" in result.out
    assert last(result)[0].startswith(f"failed connection nothing listens at {other}: connection refused")


def test_pings_that_are_not_answered(calc: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ping(_link: duplex.Link) -> float:
        await trio.sleep_forever()

    monkeypatch.setattr(duplex.Link, "ping", ping)
    result = invoke("doctor", calc, "--connect-timeout", 0.5)
    assert last(result) == [
        "failed round trips 0 of 5 pings were answered within 0.5 s",
        "its event loop is busy or stands still: see its log, or what it does (duplex top)",
    ]


HTTP = b"HTTP/1.1 400 Bad Request\r\n\r\n"


@pytest.mark.parametrize("scheme", ["tcp", "tls"])
@pytest.mark.parametrize(
    ("said", "name"), [(b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"), (HTTP, "HTTP"), (b"220 x", "SMTP or FTP")]
)
def test_other_protocols_are_named(scheme: str, said: bytes, name: str, invoke: Invoke) -> None:
    with listening(lambda connection: connection.sendall(said)) as port:
        result = invoke("doctor", f"{scheme}://127.0.0.1:{port}", "--connect-timeout", 3600)
    step, advice = last(result)
    assert f"the other side speaks {name}" in step
    assert advice == "another program has this port: check which one the server is bound to"


def test_a_web_server_with_tls_is_named(invoke: Invoke) -> None:
    own = authority().issue()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)

    def answer(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.recv(100)
            secure.sendall(HTTP)

    with listening(answer) as port:
        result = invoke("doctor", f"tls://127.0.0.1:{port}", "--tls-ca", authority().file)
    assert "ok      TLS" in result.out
    assert "the other side speaks HTTP" in last(result)[0]


@pytest.mark.parametrize("scheme", ["tcp", "tls"])
def test_silence_is_told(scheme: str, invoke: Invoke) -> None:
    with listening(lambda connection: None) as port:
        result = invoke("doctor", f"{scheme}://127.0.0.1:{port}", "--connect-timeout", 0.3)
        step, advice = last(result)
        layer = "TLS" if scheme == "tls" else "ZMTP"
        assert step == (
            f"failed {layer} {scheme}://127.0.0.1:{port} accepted the connection, but is silent: it said nothing of {layer} within "
            f"0.3 s"
        )
        assert "see what listens there" in advice


def test_one_that_goes_away_in_the_middle(invoke: Invoke) -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"\xff" + bytes(8))
        connection.shutdown(socket.SHUT_WR)

    with listening(answer) as port:
        step, advice = last(invoke("doctor", f"tcp://127.0.0.1:{port}"))
    assert step.endswith("the connection was ended in the middle of the handshake")
    assert advice.startswith("see its log")


def test_one_that_stops_in_the_middle(invoke: Invoke) -> None:
    with listening(lambda connection: connection.sendall(b"\xff" + bytes(8))) as port:
        step, _ = last(invoke("doctor", f"tcp://127.0.0.1:{port}", "--connect-timeout", 0.3))
    assert step.endswith("did not complete the handshake of ZMTP within 0.3 s")


def test_other_programs_on_zeromq(invoke: Invoke) -> None:
    with zmq.Context() as context, context.socket(zmq.PUB) as other, context.socket(zmq.ROUTER) as silent:
        port = other.bind_to_random_port("tcp://127.0.0.1")
        step, advice = last(invoke("doctor", f"tcp://127.0.0.1:{port}"))
        assert "the other side is a socket of type 'PUB'" in step
        assert advice == "it is another ZeroMQ program, and no Duplex peer"
        port = silent.bind_to_random_port("tcp://127.0.0.1")
        step, advice = last(invoke("doctor", f"zmq+tcp://127.0.0.1:{port}", "--connect-timeout", 0.5))
        assert step.startswith("failed Duplex")
        assert advice == "it is a ZeroMQ program, and no Duplex peer"


def test_encrypted_programs_on_zeromq(invoke: Invoke) -> None:
    public, secret = zmq.curve_keypair()
    with zmq.Context() as context, context.socket(zmq.ROUTER) as other:
        other.curve_server = True
        other.curve_publickey, other.curve_secretkey = public, secret
        port = other.bind_to_random_port("tcp://127.0.0.1")
        step, advice = last(invoke("doctor", f"tcp://127.0.0.1:{port}"))
    assert "the connection was ended in the middle of the handshake" in step
    assert "a ZeroMQ program with CURVE does that" in advice
    with listening(lambda connection: connection.sendall(greeting(mechanism=b"CURVE"))) as port:
        step, advice = last(invoke("doctor", f"tcp://127.0.0.1:{port}"))
    assert "wants the mechanism CURVE" in step
    assert "encrypts in its own way" in advice
