"""The HTTP client against servers that say exactly what a test wants, over real sockets."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme

from duplex_services._shared._http_client import Answer, Endpoint, HttpClient, NoAnswer, NotSent, _why
from tests.machine import fail_after
from tests.services.scripted import Server, answering, read_request, served

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Index: 7\r\n\r\nok"


async def silent(stream: trio.abc.Stream) -> None:
    """A server that reads and never answers."""
    while await stream.receive_some(4096):
        pass


@contextlib.asynccontextmanager
async def client_of(*ports: int, **options: float) -> AsyncIterator[HttpClient]:
    # Limits that no busy machine reaches, but where a test says so.
    kept = {"connect_within": 30.0, "answer_within": 30.0, **options}
    client = HttpClient([Endpoint("127.0.0.1", port) for port in ports], **kept)  # type: ignore[arg-type]
    try:
        with fail_after(10):
            yield client
    finally:
        await client.aclose()


@pytest.fixture
def nobody() -> int:
    """A port where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


async def test_answer_and_what_the_server_reads() -> None:
    seen = []

    async def handle(stream: trio.abc.Stream) -> None:
        seen.append(await read_request(stream))
        await stream.send_all(OK)

    async with served(handle) as (_, port), client_of(port) as client:
        answer = await client.request("PUT", "/v1/kv/a?b=c", b"body", headers=[("X-Token", "t")])
    assert answer == Answer(200, {"content-length": "2", "x-index": "7"}, b"ok")
    head, body = seen[0]
    lines = head.decode().split("\r\n")
    assert lines[0] == "PUT /v1/kv/a?b=c HTTP/1.1"
    assert {f"Host: 127.0.0.1:{port}", "Content-Length: 4", "X-Token: t"} <= set(lines)
    assert body == b"body"


async def test_connections_are_kept_and_shared() -> None:
    async with served(answering(OK)) as (server, port), client_of(port) as client:
        for _ in range(3):
            await client.request("GET", "/")
        assert server.connections == 1
        await client.aclose()
        while server.open:
            await trio.testing.wait_all_tasks_blocked()


@pytest.mark.parametrize(
    "end", [b"Connection: close\r\nContent-Length: 2\r\n\r\nok", b"\r\nok"], ids=["said", "without a length"]
)
async def test_connection_that_the_server_ends(end: bytes) -> None:
    async def handle(stream: trio.abc.Stream) -> None:
        await read_request(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\n" + end)

    async with served(handle) as (server, port), client_of(port) as client:
        for _ in range(2):
            assert (await client.request("GET", "/")).body == b"ok"
        assert server.connections == 2


async def test_idle_connection_that_the_server_has_closed_is_not_used() -> None:
    async def handle(stream: trio.abc.Stream) -> None:
        await read_request(stream)
        await stream.send_all(OK)

    async with served(handle) as (server, port), client_of(port) as client:
        for number in range(3):
            await client.request("POST", "/", repeatable=False)
            assert server.connections == number + 1
            while server.open:
                await trio.testing.wait_all_tasks_blocked()
            # The end of the connection is on its way through the kernel.
            await trio.sleep(0.05)


async def test_chunks_trailers_and_informational_answers() -> None:
    words = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Grpc-Status\r\n\r\n"
        b"3\r\nabc\r\n2\r\nde\r\n0\r\nGrpc-Status: 0\r\n\r\n"
    )

    async def in_bytes(stream: trio.abc.Stream) -> None:
        while (await read_request(stream))[0]:
            for number in range(len(words)):
                await stream.send_all(words[number : number + 1])

    async with served(in_bytes) as (server, port), client_of(port) as client:
        for _ in range(2):
            assert (await client.request("GET", "/")).body == b"abcde"
        assert server.connections == 1


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (b"", "closed the connection"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", "closed the connection"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "HTTP as we know it"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, "HTTP as we know it"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2000, "more than 1000 bytes"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "HTTP as we know it"),
    ],
    ids=["none", "cut", "other protocol", "long head", "long body", "switch"],
)
async def test_answer_that_is_none(words: bytes, why: str) -> None:
    async def handle(stream: trio.abc.Stream) -> None:
        await read_request(stream)
        await stream.send_all(words)

    async with served(handle) as (server, port), client_of(port, max_body=1000) as client:
        with pytest.raises(NoAnswer, match=why):
            await client.request("POST", "/", repeatable=False)
        while server.open:
            await trio.testing.wait_all_tasks_blocked()


async def test_nobody_listens(nobody: int) -> None:
    async with client_of(nobody) as client:
        with pytest.raises(NotSent, match=f"http://127.0.0.1:{nobody}"):
            await client.request("POST", "/", repeatable=False)
        with pytest.raises(NotSent):
            async with client.stream("GET", "/"):
                pass


@pytest.mark.parametrize(
    ("target", "headers"),
    [("/a b", []), ("/\u00e9", []), ("/", [("X", "a\r\nY: b")]), ("/", [("X", "\u4e2d")])],
)
async def test_what_cannot_be_said_is_not_sent(target: str, headers: list[tuple[str, str]]) -> None:
    seen = []

    async def handle(stream: trio.abc.Stream) -> None:
        seen.append(await stream.receive_some(100))

    async with served(handle) as (_, port), client_of(port) as client:
        with pytest.raises(NotSent, match="cannot be asked for"):
            await client.request("GET", target, headers=headers)
    assert seen in ([], [b""])


async def test_next_endpoint_is_asked_and_stays(nobody: int) -> None:
    async with served(answering(OK)) as (server, port), client_of(nobody, port) as client:
        assert [endpoint.port for endpoint in client.endpoints] == [nobody, port]
        await client.request("POST", "/", repeatable=False)
        assert [endpoint.port for endpoint in client.endpoints] == [port, nobody]
        await client.request("GET", "/")
        assert server.connections == 1


async def test_reads_are_repeated_elsewhere_and_writes_are_not() -> None:
    async with (
        served(silent) as (first, one),
        served(answering(OK)) as (second, two),
        client_of(one, two, answer_within=0.3) as client,
    ):
        with pytest.raises(NoAnswer, match="does not answer within"):
            await client.request("PUT", "/", repeatable=False)
        assert (first.connections, second.connections) == (1, 0)
        client.pass_over(client.endpoints[0])
        assert client.endpoints[0].port == one
        assert (await client.request("GET", "/")).body == b"ok"
        assert (first.connections, second.connections) == (2, 1)


async def test_servers_own_failure() -> None:
    bad = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 9\r\n\r\nno leader"
    async with (
        served(answering(bad)) as (first, one),
        served(answering(OK)) as (second, two),
        client_of(one, two) as client,
    ):
        assert (await client.request("PUT", "/", repeatable=False)).body == b"no leader"
        client.pass_over(client.endpoints[0])
        assert (await client.request("GET", "/")).status == 200
        assert (first.connections, second.connections) == (1, 1)
    async with served(answering(bad)) as (_, one), client_of(one) as client:
        assert (await client.request("GET", "/")).status == 500


async def test_caller_without_patience_goes_on_to_the_next_endpoint() -> None:
    async with served(silent) as (_, one), served(answering(OK)) as (_, two), client_of(one, two) as client:
        with trio.move_on_after(0.01) as quick:
            await client.request("GET", "/")
        assert quick.cancelled_caught
        assert client.endpoints[0].port == one
        with trio.move_on_after(0.6) as slow:
            await client.request("GET", "/")
        assert slow.cancelled_caught
        assert client.endpoints[0].port == two


async def test_cancelled_request_leaves_no_answer_for_the_next() -> None:
    async def handle(stream: trio.abc.Stream) -> None:
        first = True
        while (await read_request(stream))[0]:
            await stream.send_all(OK[:20] if first else OK)
            first = False

    async with served(handle) as (server, port), client_of(port) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.request, "GET", "/")
            while not server.connections:
                await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        while server.open:
            await trio.testing.wait_all_tasks_blocked()


async def test_requests_wait_for_a_connection() -> None:
    async with (
        served(silent) as (server, port),
        client_of(port, connections=2, answer_within=0.2) as client,
        trio.open_nursery() as nursery,
    ):

        async def ask(error: type[Exception], why: str) -> None:
            with pytest.raises(error, match=why):
                await client.request(
                    "PUT", "/", repeatable=False, answer_within=5 if error is NoAnswer else 0.1
                )

        async def lose() -> None:
            await client.request("PUT", "/")

        with trio.CancelScope() as scope:
            async with trio.open_nursery() as losers:
                losers.start_soon(lose)
                losers.start_soon(lose)
                while server.connections < 2:
                    await trio.testing.wait_all_tasks_blocked()
                await ask(NotSent, "other requests")
                scope.cancel()
        nursery.cancel_scope.cancel()
    assert server.connections == 2


# ----------------------------------------------------------------------------------------------- streams


async def test_stream_of_lines() -> None:
    async def handle(stream: trio.abc.Stream) -> None:
        await read_request(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for chunk in (b"one\ntw", b"o\n", b"\nthree"):
            await stream.send_all(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        await stream.send_all(b"0\r\n\r\n")

    async with served(handle) as (_, port), client_of(port) as client:
        async with client.stream("POST", "/v3/watch", b"{}") as stream:
            assert (stream.status, stream.headers["transfer-encoding"]) == (200, "chunked")
            assert stream.endpoint.port == port
            found = [await stream.line(100) for _ in range(6)]
        assert found == [b"one", b"two", b"", b"three", None, None]


async def test_stream_whose_wait_for_a_line_is_given_up_loses_nothing() -> None:
    more = trio.Event()

    async def handle(stream: trio.abc.Stream) -> None:
        await read_request(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhal")
        await more.wait()
        await stream.send_all(b"f\n!")

    async with served(handle) as (_, port), client_of(port) as client, client.stream("GET", "/") as stream:
        with trio.move_on_after(0.05):
            await stream.line(100)
        more.set()
        assert await stream.line(100) == b"half"
        assert await stream.line(100) == b"!"


async def test_stream_that_is_lost_is_asked_for_elsewhere() -> None:
    async def handle(stream: trio.abc.Stream) -> None:
        await read_request(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")

    async with served(handle) as (_, one), served(answering(OK)) as (_, two), client_of(one, two) as client:
        with pytest.raises(NoAnswer):
            async with client.stream("GET", "/") as stream:
                await stream.line(100)
        async with client.stream("GET", "/") as stream:
            assert await stream.chunk() == b"ok"
            assert await stream.chunk() == b""


async def test_stream_whose_head_does_not_come() -> None:
    async with served(silent) as (server, port), client_of(port) as client:
        with pytest.raises(NoAnswer, match=r"within 0\.05 s"):
            async with client.stream("GET", "/", answer_within=0.05):
                pass
        while server.open:
            await trio.testing.wait_all_tasks_blocked()


async def test_line_that_is_too_long() -> None:
    words = b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2000
    async with served(answering(words)) as (_, port), client_of(port) as client:
        with pytest.raises(NoAnswer, match="line of more than 100 bytes"):
            async with client.stream("GET", "/") as stream:
                await stream.line(100)


# ---------------------------------------------------------------------------------- TLS and Unix sockets


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_tls(authority: trustme.CA, name: str, *, clients: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    if clients:
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_tls(authority: trustme.CA, *, certificate: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if certificate:
        authority.issue_cert("client").configure_cert(context)
    return context


async def ask_over_tls(port: int, context: ssl.SSLContext) -> Answer:
    client = HttpClient([Endpoint("127.0.0.1", port, context)], connect_within=30, answer_within=30)
    try:
        for _ in range(2):
            answer = await client.request("POST", "/", b"x", repeatable=False)
        return answer
    finally:
        await client.aclose()


async def test_tls_with_certificates_of_both_sides(authority: trustme.CA) -> None:
    tls = server_tls(authority, "127.0.0.1", clients=True)
    async with served(answering(OK), tls=tls) as (server, port):
        assert (await ask_over_tls(port, client_tls(authority, certificate=True))).body == b"ok"
        assert server.connections == 1


@pytest.mark.parametrize("name", ["127.0.0.1", "other.test"])
async def test_server_that_proves_nothing_is_not_asked(authority: trustme.CA, name: str) -> None:
    """The certificate is of an authority that nobody knows, or for another name."""
    tls = server_tls(authority, name)
    trusted = trustme.CA() if name == "127.0.0.1" else authority

    async def handle(stream: trio.abc.Stream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            assert await stream.receive_some(10) == b""

    async with served(handle, tls=tls) as (_, port):
        with pytest.raises(NotSent, match="CERTIFICATE_VERIFY_FAILED"):
            await ask_over_tls(port, client_tls(trusted))


async def test_client_whose_certificate_is_refused_has_sent_nothing(authority: trustme.CA) -> None:
    tls = server_tls(authority, "127.0.0.1", clients=True)
    listening = socket.create_server(("127.0.0.1", 0))

    def refuse() -> None:
        # The blocking kind: trio's keeps the alert, which says why, to itself.
        accepted, _ = listening.accept()
        with tls.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False) as secure:
            with pytest.raises(ssl.SSLError):
                secure.do_handshake()
            # Read on, or the kernel would answer the request with a reset.
            socket.socket.shutdown(secure, socket.SHUT_WR)
            while socket.socket.recv(secure, 100):
                pass

    with listening:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, refuse)
            with pytest.raises(NotSent, match=r"(?i)alert"):
                await ask_over_tls(listening.getsockname()[1], client_tls(authority))


async def test_server_without_tls(authority: trustme.CA) -> None:
    async def handle(stream: trio.abc.Stream) -> None:
        await stream.receive_some(10)
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with served(handle) as (_, port):
        with pytest.raises(NotSent, match="https://"):
            await ask_over_tls(port, client_tls(authority))


async def test_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    endpoint = Endpoint("localhost", socket=path)
    client = HttpClient([endpoint], connect_within=30, answer_within=30)
    with pytest.raises(NotSent, match=f"unix:{path}"):
        await client.request("GET", "/")
    listening = trio.socket.socket(trio.socket.AF_UNIX)
    await listening.bind(str(path))
    listening.listen()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            trio.serve_listeners, Server(answering(OK)).serve, [trio.SocketListener(listening)]
        )
        assert (await client.request("GET", "/")).body == b"ok"
        await client.aclose()
        nursery.cancel_scope.cancel()


def test_endpoints_as_text() -> None:
    assert str(Endpoint("::1", 8500)) == "http://[::1]:8500"
    assert str(Endpoint("host", 8500, ssl.create_default_context())) == "https://host:8500"


async def test_endpoint_that_is_not_first_is_not_passed_over() -> None:
    async with client_of(1, 2) as client:
        client.pass_over(client.endpoints[1])
        assert [endpoint.port for endpoint in client.endpoints] == [1, 2]


async def test_network_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(host: str, port: int) -> trio.SocketStream:
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(trio, "open_tcp_stream", never)
    async with client_of(1, connect_within=0.01) as client:
        with pytest.raises(NotSent, match=r"cannot connect within 0\.01 s"):
            await client.request("GET", "/")


async def test_answer_to_a_request_that_was_cut_off() -> None:
    """A server may answer and close before it has read everything."""
    refused = b"HTTP/1.1 413 Payload Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno"

    async def handle(stream: trio.abc.Stream) -> None:
        await stream.receive_some(100)
        await stream.send_all(refused)

    async with served(handle) as (_, port), client_of(port) as client:
        for _ in range(20):
            answer = await client.request("PUT", "/", b"x" * 3_000_000, repeatable=False)
            assert (answer.status, answer.body) == (413, b"no")


async def test_why_nobody_can_be_connected() -> None:
    """The reason of the system, once, however many addresses a name has."""
    client = HttpClient([Endpoint("127.0.0.1", 1)])
    with pytest.raises(NotSent, match=r"^http://127\.0\.0\.1:1: Connection refused$"):
        await client.request("GET", "/")
    several = OSError("all attempts failed")
    refused = [ConnectionRefusedError(111, f"Error connecting to {n}: Connection refused") for n in (1, 2)]
    several.__cause__ = ExceptionGroup("all", [*refused, OSError("odd")])
    assert _why(several, 1.0) == "Connection refused; odd"
