"""``tls://``: who is let in, who is not, and what each side is told of it."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import trio

from duplex import TLS, ConfigurationError
from duplex.transports import CarrierDown, TransportOptions
from duplex.transports.streams import _contexts
from duplex.transports.streams._contexts import Current, contexts_of
from tests.machine import fail_after, within
from tests.transports.certificates import authority, stranger, tls
from tests.transports.helpers import Ports, Recorder
from tests.transports.streams import CLOSED, KiB, MiB, dial, hears, opened, with_options
from tests.transports.zmtp.sessions import OPENING, message

ANYWHERE = "tls://127.0.0.1:*"


def trusting(**changes: Any) -> TransportOptions:
    return with_options(tls=TLS(**{"ca": authority().file, **changes}))


async def why_not(ports: Ports, endpoint: str, options: TransportOptions) -> str:
    """Why there is no connection."""
    recorder = ports.connect(endpoint, options)
    with fail_after(10):
        while recorder.port.last_error is None:
            await trio.sleep(0.005)  # nothing tells of an attempt that failed
    found = recorder.port.last_error
    recorder.port.close()
    assert not recorder.ups
    return found


# -- what it moves ---------------------------------------------------------------------------------------------


async def test_large_messages_and_many_small_ones() -> None:
    async with opened() as ports:
        bound, connecting = await ports.pair(ANYWHERE)
        assert bound.port.endpoint.startswith("tls://127.0.0.1:")
        assert bound.ups[0].address == "tls://127.0.0.1"
        for one, other in ((bound, connecting), (connecting, bound)):
            for number in range(2000):
                one.send(one.ups[0], b"%d" % number, b"x" * (number % 300))
            large = bytes(range(256)) * (20 * KiB)
            one.send(one.ups[0], b"large", large, b"", large[:70_000])
            messages = await other.received(2001)
            assert messages[:2000] == [[b"%d" % number, b"x" * (number % 300)] for number in range(2000)]
            assert messages[2000] == [b"large", large, b"", large[:70_000]]


async def test_the_wire_tells_nothing() -> None:
    """Neither what is said, nor ZMTP's own greeting."""
    with socket.create_server(("127.0.0.1", 0)) as between:
        async with opened() as ports:
            bound = ports.bind(ANYWHERE)
            connecting = ports.connect(f"tls://127.0.0.1:{between.getsockname()[1]}")
            near = _stream((await trio.to_thread.run_sync(between.accept))[0])
            far = _stream(dial(bound.port.endpoint.replace("tls", "tcp")))
            seen = bytearray()

            async def pass_on(one: trio.SocketStream, other: trio.SocketStream) -> None:
                async for data in one:
                    seen.extend(data)
                    await other.send_all(data)

            async with near, far, trio.open_nursery() as nursery:
                nursery.start_soon(pass_on, near, far)
                nursery.start_soon(pass_on, far, near)
                connecting.send(await connecting.up(), b"a secret")
                assert await bound.received() == [[b"a secret"]]
                nursery.cancel_scope.cancel()
            assert len(seen) > 500
            for word in (b"a secret", b"NULL", b"DEALER", b"\xff\0\0\0\0\0\0\0\1\x7f"):
                assert word not in seen


def _stream(wire: socket.socket) -> trio.SocketStream:
    wire.setblocking(False)
    return trio.SocketStream(trio.socket.from_stdlib_socket(wire))


# -- who is let in ---------------------------------------------------------------------------------------------


async def test_whom_a_client_trusts(caplog: pytest.LogCaptureFixture) -> None:
    other, gone = authority().issue("other.example"), authority().issue(not_after=_yesterday())
    async with opened() as ports:
        bound = ports.bind(ANYWHERE)
        endpoint = bound.port.endpoint
        assert "its certificate is not accepted: unable to get local issuer" in await why_not(
            ports, endpoint, trusting(ca=stranger().file)
        )
        assert "its certificate is not accepted" in await why_not(ports, endpoint, with_options(tls=None))
        assert "certificate is not valid for 'other.example'" in await why_not(
            ports, endpoint, trusting(server_name="other.example")
        )
        named = ports.bind(ANYWHERE, with_options(tls=TLS(certificate=other.both)))
        assert "certificate is not valid for '127.0.0.1'" in await why_not(
            ports, named.port.endpoint, trusting()
        )
        good = ports.connect(named.port.endpoint, trusting(server_name="other.example"))
        good.send(await good.up(), b"HELLO")
        await named.received()
        late = ports.bind(ANYWHERE, with_options(tls=TLS(certificate=gone.both)))
        assert "certificate has expired" in await why_not(ports, late.port.endpoint, trusting())
    assert "the other side refuses, by an alert of TLS: unknown ca" in caplog.text


def _yesterday() -> dt.datetime:
    return dt.datetime.now(dt.UTC) - dt.timedelta(days=1)


async def test_whom_a_server_asks_for_a_certificate(caplog: pytest.LogCaptureFixture) -> None:
    asking = with_options(tls=TLS(certificate=tls().certificate, key=tls().key, client_ca=authority().file))
    mine, theirs = authority().issue("client"), stranger().issue("client")
    async with opened() as ports:
        bound = ports.bind(ANYWHERE, asking)
        assert "an alert of TLS: certificate required" in await why_not(
            ports, bound.port.endpoint, trusting()
        )
        assert "an alert of TLS: unknown ca" in await why_not(
            ports, bound.port.endpoint, trusting(certificate=theirs.both)
        )
        good = ports.connect(bound.port.endpoint, trusting(certificate=mine.certificate, key=mine.key))
        good.send(await good.up(), b"HELLO")
        assert await bound.received() == [[b"HELLO"]]
        assert len(bound.ups) == 1
    assert "it has shown no certificate, and needs one here" in caplog.text


async def test_contexts_of_ones_own() -> None:
    serving, calling = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    serving.load_cert_chain(str(tls().certificate), str(tls().key))
    calling.load_verify_locations(authority().file)
    async with opened() as ports:
        options = with_options(tls=TLS(server_context=serving, client_context=calling))
        bound, connecting = await ports.pair(ANYWHERE, options)
        # Tickets, which such a server sends, are nothing to the client.
        connecting.send(connecting.ups[0], b"x")
        assert await bound.received() == [[b"x"]]


async def test_new_certificates_are_taken_without_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_contexts, "_PAUSE", 0.0)
    first, second = authority().issue(), stranger().issue()
    chain, key, trusted = tmp_path / "chain.pem", tmp_path / "key.pem", tmp_path / "ca.pem"
    chain.write_bytes(first.certificate.read_bytes())
    key.write_bytes(first.key.read_bytes())
    trusted.write_bytes(authority().file.read_bytes())
    async with opened() as ports:
        options = with_options(tls=TLS(certificate=chain, key=key, ca=trusted))
        bound, connecting = await ports.pair(ANYWHERE, options)
        # Between the two the key is none of the certificate.
        chain.write_bytes(second.certificate.read_bytes())
        again = ports.connect(bound.port.endpoint, options)
        again.send(await again.up(), b"HELLO")
        await bound.received()
        assert "is none of this certificate; TLS goes on with what was read before" in caplog.text
        key.write_bytes(second.key.read_bytes())
        assert "is not accepted" in await why_not(ports, bound.port.endpoint, options)
        trusted.write_bytes(stranger().file.read_bytes())
        new = ports.connect(bound.port.endpoint, options)
        new.send(await new.up(), b"HELLO")
        await bound.received(2)
        connecting.send(connecting.ups[0], b"still there")
        assert (await bound.received(3))[2] == [b"still there"]


def test_files_are_looked_at_once_a_second(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "file"
    file.write_text("a")
    made, now = [], [0.0]

    def make() -> Any:
        if not file.exists():
            raise ConfigurationError("there is no file")
        made.append(file.read_text())
        return made[-1]

    current: Any = Current((str(file),), make, lambda: now[0])
    assert current.get() == "a"
    file.write_text("bb")
    now[0] = 0.9
    assert current.get() == "a"
    now[0] = 1.0
    assert current.get() == "bb"
    now[0] = 2.5
    assert current.get() == "bb"
    file.unlink()
    with caplog.at_level(logging.WARNING):
        for now[0] in (4.0, 6.0):
            assert current.get() == "bb"
    assert caplog.text.count("there is no file") == 1, "it is said once"
    assert made == ["a", "bb"]


def test_equal_settings_share_what_was_read() -> None:
    one, other = TLS(ca=authority().file), TLS(ca=str(authority().file))
    kept = contexts_of(one)
    assert contexts_of(other) is kept
    assert kept.client() is kept.client()
    assert contexts_of(None) is not kept


# -- what cannot be used ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"certificate": 5}, "TLS.certificate must be the path of a file in PEM, not 5"),
        ({"certificate": b"x.pem"}, "TLS.certificate must be the path"),
        ({"ca": ""}, "TLS.ca must be the path of a file in PEM, not ''"),
        ({"key": "x"}, "TLS.key needs TLS.certificate"),
        ({"server_name": ""}, "TLS.server_name must be a name or an IP address"),
        ({"server_name": ".x"}, "TLS.server_name must be a name or an IP address"),
        ({"server_context": "x"}, "TLS.server_context must be an ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)"),
        ({"client_context": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)}, "TLS.client_context must be"),
        (
            {"client_context": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), "ca": "x"},
            "TLS.client_context says all that TLS.ca says",
        ),
        (
            {"server_context": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), "client_ca": "x"},
            "TLS.server_context says all that TLS.client_ca says",
        ),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TLS(**settings)
    assert why in str(caught.value)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "garbage.pem").write_text("garbage")
    encrypted = tmp_path / "encrypted.key"
    subprocess.run(
        ["openssl", "pkey", "-in", str(tls().key), "-aes256", "-passout", "pass:x", "-out", str(encrypted)],
        check=True,
    )
    return tmp_path


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({}, "to bind tls:// needs a certificate: open_peer(tls=duplex.TLS(certificate=..., key=...))"),
        ({"certificate": "missing.pem"}, "missing.pem, which TLS needs, cannot be read: No such file"),
        ({"certificate": "garbage.pem"}, "it has to hold a certificate and its private key, in PEM"),
        ({"certificate": tls().certificate}, "it has to hold a certificate and its private key, in PEM"),
        (
            {"certificate": tls().certificate, "key": "garbage.pem"},
            "garbage.pem the private key of that, in PEM",
        ),
        (
            {"certificate": tls().certificate, "key": "missing.key"},
            "missing.key, which TLS needs, cannot be read",
        ),
        (
            {"certificate": tls().certificate, "key": "encrypted.key"},
            "encrypted.key is encrypted: give one that is not",
        ),
        ({"certificate": tls().certificate, "key": stranger().issue().key}, "is none of this certificate"),
        (
            {"certificate": tls().certificate, "key": tls().key, "client_ca": "garbage.pem"},
            "garbage.pem, TLS.client_ca, holds no certificate in PEM",
        ),
    ],
)
async def test_files_that_cannot_be_used(files: Path, settings: dict[str, Any], why: str) -> None:
    settings = {field: files / path for field, path in settings.items()}
    async with opened() as ports:
        for _ in range(2):
            with pytest.raises(ConfigurationError) as caught:
                ports.bind(ANYWHERE, with_options(tls=TLS(**settings)))
            assert why in str(caught.value)
        ports.bind(ANYWHERE)


async def test_authorities_that_cannot_be_used(files: Path) -> None:
    async with opened() as ports:
        for ca, why in (("garbage.pem", "holds no certificate in PEM"), ("missing.pem", "cannot be read")):
            with pytest.raises(ConfigurationError, match=why):
                ports.connect("tls://127.0.0.1:1", with_options(tls=TLS(ca=files / ca)))


async def test_authorities_in_a_directory(tmp_path: Path) -> None:
    found = subprocess.run(
        ["openssl", "x509", "-in", str(authority().file), "-noout", "-subject_hash"],
        check=True,
        capture_output=True,
        text=True,
    )
    (tmp_path / f"{found.stdout.strip()}.0").write_bytes(authority().file.read_bytes())
    async with opened() as ports:
        bound = ports.bind(ANYWHERE)
        good = ports.connect(bound.port.endpoint, trusting(ca=tmp_path))
        good.send(await good.up(), b"HELLO")
        await bound.received()


# -- the wrong port --------------------------------------------------------------------------------------------


async def test_plain_and_encrypted_ends_name_each_other(caplog: pytest.LogCaptureFixture) -> None:
    async with opened() as ports:
        plain, encrypted = ports.bind("tcp://127.0.0.1:*"), ports.bind(ANYWHERE)
        assert "ZeroMQ's protocol without TLS: both need tls://, or both tcp://" in await why_not(
            ports, plain.port.endpoint.replace("tcp", "tls"), trusting()
        )
        assert "speaks TLS, and this one does not: both need tls://, or both tcp://" in await why_not(
            ports, encrypted.port.endpoint.replace("tls", "tcp"), trusting()
        )
    for port, what in ((plain, "speaks TLS, and this one does not"), (encrypted, "protocol without TLS")):
        assert any(what in text and text.startswith(port.port.endpoint) for text in caplog.messages)


async def test_libzmq_at_an_encrypted_port_is_named(caplog: pytest.LogCaptureFixture) -> None:
    code = """
import sys, zmq
with zmq.Context() as context, context.socket(zmq.DEALER) as remote:
    remote.linger = 0
    remote.connect(sys.argv[1])
    remote.send(b"HELLO")
    sys.stdin.read()
"""
    async with opened() as ports:
        bound = ports.bind(ANYWHERE)
        command = [sys.executable, "-c", code, bound.port.endpoint.replace("tls", "tcp")]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
            with fail_after(20):
                while "protocol without TLS" not in caplog.text:
                    await trio.sleep(0.01)  # nothing tells of what is logged
            process.communicate()
        assert not bound.ups


# -- strangers -------------------------------------------------------------------------------------------------


def hello(size: int | None = None) -> bytes:
    """What a client of TLS begins with."""
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()[:size]


@pytest.mark.parametrize(
    "said", [b"", hello(3), hello(50), hello()], ids=["nothing", "a head", "a part", "all"]
)
async def test_a_handshake_that_does_not_go_on_is_cut(said: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with opened() as ports:
        bound = ports.bind(ANYWHERE, with_options(hello_timeout=0.2))
        with dial(bound.port.endpoint) as wire:
            wire.sendall(said)
            began = time.monotonic()
            await hears(wire)
            assert time.monotonic() - began < within(5)
        assert not bound.ups
    assert "sent nothing within 0.2 s, and was cut" in caplog.text


async def test_a_handshake_byte_by_byte_has_no_more_time() -> None:
    async with opened() as ports:
        bound = ports.bind(ANYWHERE, with_options(hello_timeout=0.3))
        with dial(bound.port.endpoint) as wire:
            began = time.monotonic()
            with contextlib.suppress(ConnectionError):
                for byte in hello():
                    wire.send(bytes((byte,)))
                    await trio.sleep(0.01)  # slowly
            assert time.monotonic() - began < within(3)


async def test_encrypted_and_then_silent_is_cut_too() -> None:
    async with opened() as ports:
        bound = ports.bind(ANYWHERE, with_options(hello_timeout=0.3))

        def talk() -> bytes:
            context = ssl.create_default_context(cafile=str(authority().file))
            with (
                dial(bound.port.endpoint) as wire,
                context.wrap_socket(wire, server_hostname="localhost") as secure,
            ):
                secure.settimeout(within(10))
                secure.sendall(OPENING)
                heard = b""
                with contextlib.suppress(OSError):
                    while part := secure.recv(1000):
                        heard += part
                return heard

        assert b"ROUTER" in await trio.to_thread.run_sync(talk)
        assert not bound.ups


async def test_who_says_too_much_at_first_learns_so() -> None:
    async with opened() as ports:
        bound = ports.bind(ANYWHERE, with_options(refusal=b"too long"))

        def talk() -> bytes:
            context = ssl.create_default_context(cafile=str(authority().file))
            with (
                dial(bound.port.endpoint) as wire,
                context.wrap_socket(wire, server_hostname="localhost") as secure,
            ):
                secure.settimeout(within(10))
                secure.sendall(OPENING + message(bytes(65 * KiB)))
                heard = b""
                while b"too long" not in heard:
                    heard += secure.recv(1000)
                return heard

        assert (await trio.to_thread.run_sync(talk)).endswith(message(b"too long"))
        assert not bound.ups


# -- ends ------------------------------------------------------------------------------------------------------


async def test_a_connection_that_is_cut_is_told_from_one_that_ends() -> None:
    async with opened() as ports:
        bound, connecting = await ports.pair(ANYWHERE)
        near: Any = connecting.ups[0]
        # As the kernel does when a process is killed.
        near.wire._socket.shutdown(socket.SHUT_RDWR)
        assert (
            await bound.down()
            == f"{CLOSED}: it was cut: there was no end of TLS before that of the connection"
        )
        bound.send(await _again(bound, connecting), b"x")
        connecting.ups[1].close()
        assert await bound.down(2) == CLOSED


async def _again(bound: Recorder, connecting: Recorder) -> Any:
    connecting.send(await connecting.up(2), b"HELLO")
    return await bound.up(2)


async def test_what_waits_is_sent_when_the_other_side_reads_again() -> None:
    async with opened() as ports:
        bound, connecting = await ports.pair(ANYWHERE)
        near: Any = connecting.ups[0]
        near.wire._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        for number in range(20):
            connecting.send(near, b"%d" % number, bytes(MiB))
        messages = await bound.received(20)
        assert [int(first) for first, _ in messages] == list(range(20))


async def test_what_was_changed_on_its_way_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async with opened() as ports:
        bound, connecting = await ports.pair(ANYWHERE)
        near: Any = connecting.ups[0]
        connecting.send(near, b"right")
        near.wire._socket.send(b"\x17\x03\x03\x00\x20" + bytes(32))
        assert await bound.down() == "what came was changed on its way"
        assert await bound.received() == [[b"right"]]
        assert "by an alert of TLS: bad record mac" in await connecting.down()
        with pytest.raises(CarrierDown):
            near.send([b"x"])
    assert "was cut: what came was changed on its way" in caplog.text


@pytest.mark.parametrize("frames", [[b"small"], [bytes(MiB)]])
async def test_a_key_that_fails_while_sending_ends_the_connection(
    frames: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened() as ports:
        bound, connecting = await ports.pair(ANYWHERE)
        near: Any = connecting.ups[0]

        class Broken:
            def write(self, _data: object) -> int:
                error = ssl.SSLError(1, "[SSL] broken")
                error.reason = "IT_IS_BROKEN"
                raise error

        monkeypatch.setattr(near.wire, "_tls", Broken())
        for _ in range(2):
            with pytest.raises(CarrierDown, match="TLS has failed: it is broken"):
                near.send(frames)
        assert "TLS has failed" in await connecting.down()
        await bound.down()
