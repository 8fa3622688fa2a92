"""The HTTP server as its clients see it: Python's own, curl, and those that send bytes that no sensible client would."""

from __future__ import annotations

import http.client
import logging
import random
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from duplex_services._shared._http_routes import NoRoute, Routes
from duplex_services._shared._http_server import (
    Answer,
    HttpLimits,
    HttpServer,
    Later,
    Request,
    Response,
    Send,
    Streaming,
    open_http_server,
)
from tests.machine import fail_after, require_program, within
from tests.services.servers import Certificates


class Told:
    """A handler that does what the path says, and notes what became of it."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.cancelled = trio.Event()
        self.begun = trio.Event()
        self.go_on = trio.Event()

    async def __call__(self, request: Request) -> Answer:
        self.requests.append(request)
        what = request.parts[0] if request.parts else ""
        if what == "fail":
            raise RuntimeError("no")
        if what == "wait":
            self.begun.set()
            await self.go_on.wait()
        if what == "later":
            return Later(self._later)
        if what == "endless":
            return Streaming("text/plain", self._endless)
        if what == "short":
            return Streaming("text/plain", lambda send: self._short(send), (("X-More", "1"),))
        if what == "broken":
            return Streaming("text/plain", self._broken)
        if what == "echo":
            return Response(200, b"hello", headers=(("X-Echo", request.headers["x-echo"]),))
        if what == "much":
            return Response(200, b"x" * 50_000_000)
        if what == "nothing":
            return Response(204)
        return Response(200, request.body or b"hello", "text/plain", (("X-Path", "/".join(request.parts)),))

    async def _later(self) -> Response:
        self.begun.set()
        try:
            await self.go_on.wait()
        except trio.Cancelled:
            self.cancelled.set()
            raise
        return Response(200, b"later")

    async def _endless(self, send: Send) -> None:
        self.begun.set()
        try:
            while True:
                await send(b"x" * 65536)
                await trio.lowlevel.checkpoint()
        except BaseException:
            self.cancelled.set()
            raise

    async def _short(self, send: Send) -> None:
        await send(b"one ")
        await send(b"two")

    async def _broken(self, send: Send) -> None:
        await send(b"one")
        raise RuntimeError("broken")


@asynccontextmanager
async def open_told(**limits: Any) -> AsyncIterator[tuple[Told, HttpServer, int]]:
    told = Told()
    tls = limits.pop("tls", None)
    async with open_http_server(told, "127.0.0.1:0", limits=HttpLimits(**limits), tls=tls) as server:
        yield told, server, int(server.addresses[0].rpartition(":")[2])


async def say(port: int, words: bytes, *, ends: bool = False) -> bytes:
    """Send bytes, and return all that comes until the server closes."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        received = bytearray()
        with fail_after(10):
            await stream.send_all(words)
            if ends:
                await stream.send_eof()
            async for chunk in stream:
                received += chunk
        return bytes(received)


def head(method: str, path: str, *lines: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: here", *lines, "", ""]).encode()


CLOSE = "Connection: close"


async def in_thread(port: int, use: Callable[[http.client.HTTPConnection], Any]) -> Any:
    def run() -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=within(10))
        try:
            return use(connection)
        finally:
            connection.close()

    return await trio.to_thread.run_sync(run)


# -------------------------------------------------------------------------------------- sensible clients


async def test_a_connection_has_many_requests() -> None:
    async with open_told() as (told, server, port):

        def use(connection: http.client.HTTPConnection) -> None:
            for method, path, body, status, answer in (
                ("GET", "/a%2Fb/c/?x=1&y=&x=2", None, 200, b"hello"),
                ("PUT", "/p", b"some" * 20_000, 200, b"some" * 20_000),
                ("HEAD", "/p", None, 200, b""),
                ("GET", "/nothing", None, 204, b""),
                ("GET", "/short", None, 200, b"one two"),
                ("HEAD", "/short", None, 200, b""),
                ("POST", "/chunks", iter([b"a", b"b" * 10]), 200, b"a" + b"b" * 10),
            ):
                connection.request(method, path, body)
                found = connection.getresponse()
                assert (found.status, found.read()) == (status, answer), path
                assert found.getheader("Date")
                if path == "/short":
                    assert found.getheader("X-More") == "1"
                elif status == 200:
                    assert found.getheader("Content-Length") == str(len(answer) or 5)

        await in_thread(port, use)
        assert server.requests == 7
        first = told.requests[0]
        assert (first.method, first.parts, first.query, first.client) == (
            "GET",
            ("a/b", "c"),
            {"x": "2", "y": ""},
            "127.0.0.1",
        )
        assert told.requests[2].method == "GET"
        assert repr(server) == f"<HttpServer at 127.0.0.1:{port}>"


async def test_curl(tmp_path: Any) -> None:
    curl = require_program("curl", package="curl")
    body = tmp_path / "body"
    body.write_bytes(b"z" * 100_000)
    async with open_told() as (_, _, port):

        async def run(*words: str) -> str:
            command = [curl, "-sS", "--noproxy", "*", "--max-time", str(within(10)), *words]
            return (await trio.run_process(command, capture_stdout=True, capture_stderr=True)).stdout.decode()

        url = f"http://127.0.0.1:{port}"
        assert await run(f"{url}/a", f"{url}/b") == "hellohello"
        assert "X-Path: a" in await run("-I", f"{url}/a")
        # It asks first whether so much is welcome.
        assert await run("-H", "Expect: 100-continue", "-T", str(body), f"{url}/up") == "z" * 100_000
        assert await run("--http1.0", f"{url}/short") == "one two"


async def test_requests_that_come_at_once_are_answered_in_turn() -> None:
    async with open_told() as (told, _, port):
        words = head("PUT", "/1", "Content-Length: 3") + b"one" + head("GET", "/2") + head("GET", "/3", CLOSE)
        answer = await say(port, words)
        assert [line for line in answer.split(b"\r\n") if line.startswith(b"X-Path")] == [
            b"X-Path: 1",
            b"X-Path: 2",
            b"X-Path: 3",
        ]
        assert [one.body for one in told.requests] == [b"one", b"", b""]
        # Who says that it is done is answered all the same.
        assert b"hello" in await say(port, head("GET", "/4"), ends=True)


async def test_tls(certificates: Certificates) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.server)
    async with open_told(tls=context, head_within=0.5) as (_, _, port):
        trusting = ssl.create_default_context(cafile=str(certificates.authority))

        def use(_: object) -> bytes:
            connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=within(10), context=trusting)
            connection.request("GET", "/a")
            found = connection.getresponse().read()
            connection.close()
            return found

        assert await in_thread(port, use) == b"hello"
        # Who speaks no TLS, or nothing at all, costs a connection for a while.
        assert b"hello" not in await say(port, head("GET", "/a"))
        assert await say(port, b"") == b""


# ----------------------------------------------------------------------------------- those that are not


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (head("GET", "/", "Content-Length: -1"), 400),
        (head("GET", "/", "Content-Length: 1", "Content-Length: 2"), 400),
        (head("GET", "/", "Transfer-Encoding: gzip"), 501),
        (head("PUT", "/", "Transfer-Encoding: chunked") + b"zz\r\n", 400),
        (head("PUT", "/", "Content-Length: 2000"), 413),
        (head("PUT", "/", "Content-Length: 2000", "Expect: 100-continue"), 413),
        (head("PUT", "/", "Transfer-Encoding: chunked") + b"7d0\r\n" + b"x" * 2000 + b"\r\n0\r\n\r\n", 413),
        (head("GET", "/", "X: " + "x" * 4000), 431),
        (head("PUT", "/", "Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
        (b"PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (head("GET", "/?" + "&".join(f"a{n}" for n in range(200))), 400),
        (b"GET / HT", 408),
        (head("PUT", "/", "Content-Length: 10") + b"half", 408),
    ],
)
async def test_what_makes_no_sense_is_refused(words: bytes, status: int) -> None:
    async with open_told(body=1000, head=3000, head_within=0.3, body_within=0.3) as (told, server, port):
        answer = await say(port, words)
        assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer
        assert b"connection: close" in answer.lower()
        assert told.requests == []
        assert b"hello" in await say(port, head("GET", "/", CLOSE))
        assert server.requests == 1


@pytest.mark.parametrize(
    ("target", "parts", "query"),
    [
        ("/a/b?c=d", ("a", "b"), {"c": "d"}),
        ("//a/b", ("a", "b"), {}),
        ("//[", ("[",), {}),
        ("http://[::1/a", ("a",), {}),
        ("http://a?b=/c", (), {"b": "/c"}),
        ("HTTP://a.example:80/b/../c", ("b", "..", "c"), {}),
        ("/a:b/http://c/", ("a:b", "http:", "", "c"), {}),
        ("/a#b?c", ("a#b",), {"c": ""}),
        ("*", ("*",), {}),
        ("/a%2fb/%2e%2e?%2f", ("a/b", ".."), {"/": ""}),
    ],
)
async def test_what_is_asked_for(target: str, parts: tuple[str, ...], query: dict[str, str]) -> None:
    async with open_told() as (told, _, port):
        assert b"HTTP/1.1 " in await say(port, head("GET", target, CLOSE))
        [request] = told.requests
        assert (request.parts, request.query) == (parts, query)


async def test_what_makes_no_sense_after_a_head_is_told_so() -> None:
    async with open_told() as (_, _, port):
        answer = await say(port, head("HEAD", "/nothing") + b"nonsense\r\n\r\n")
        assert answer.count(b"HTTP/1.1 ") == 2
        assert b"HTTP/1.1 400 " in answer
        assert answer.endswith(b"nonsense')\n"), answer


async def test_whatever_comes_is_answered_or_the_connection_is_closed() -> None:
    chance = random.Random(1)
    seeds = [
        head("GET", "/a?b=c", "Accept: text/plain", CLOSE),
        head("PUT", "/a", "Content-Length: 5", CLOSE) + b"12345",
        head("PUT", "/a", "Transfer-Encoding: chunked", "Expect: 100-continue", CLOSE)
        + b"3\r\nabc\r\n0\r\n\r\n",
    ]
    async with open_told(body=1000, head=3000) as (_, _, port):
        for _ in range(300):
            words = bytearray(chance.choice(seeds))
            for _ in range(chance.randrange(1, 8)):
                words[chance.randrange(len(words))] = chance.randrange(256)
            answer = await say(port, bytes(words), ends=True)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
        assert b"hello" in await say(port, head("GET", "/", CLOSE))


async def test_what_fails_in_one_connection_is_nothing_to_others(caplog: pytest.LogCaptureFixture) -> None:
    async with open_told() as (_, server, port):
        answer = await say(port, head("GET", "/echo", CLOSE).replace(b"Host", b"X-Echo: caf\xe9\r\nHost"))
        assert b"X-Echo: caf\xe9\r\n" in answer

        def fail(status: int, message: str) -> Response:
            raise RuntimeError("no")

        server.refuse = fail
        assert await say(port, b"nonsense\r\n\r\n") == b""
        assert b"hello" in await say(port, head("GET", "/", CLOSE))
    assert [record.getMessage() for record in caplog.records] == ["a connection of HTTP's failed"]


async def send_until_closed(port: int, first: bytes, more: bytes, pause: float) -> float:
    """Send bytes again and again; return how long the server took them, in seconds."""
    began = trio.current_time()
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        with fail_after(20):
            try:
                await stream.send_all(first)
                while True:
                    await stream.send_all(more)
                    # A client that is slow for real: the server has sockets, and so real time.
                    await trio.sleep(pause)
            except trio.BrokenResourceError:
                return trio.current_time() - began


async def test_bytes_one_by_one_have_no_more_time() -> None:
    async with open_told(head_within=0.5) as (told, _, port):
        took = await send_until_closed(port, b"GET / HTTP/1.1\r\nX: ", b"x", 0.1)
        assert 0.4 < took < within(5)
        assert told.requests == []


async def test_whoever_says_nothing_is_closed() -> None:
    async with open_told(idle=0.2) as (_, server, port):
        assert await say(port, b"") == b""
        assert b"hello" in await say(port, head("GET", "/"))
        assert await say(port, b"", ends=True) == b""
        assert server.requests == 1


async def test_too_many_connections_are_told_so() -> None:
    async with open_told(connections=1) as (told, server, port):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(head("GET", "/later"))
            await told.begun.wait()
            assert b"503" in await say(port, b"")
        with fail_after(5):
            while server.connections:
                # Real sockets: the server is told of the end by the kernel.
                await trio.sleep(0.01)
        assert b"hello" in await say(port, head("GET", "/", CLOSE))


@pytest.mark.parametrize(
    "said",
    [b"", b"GET / HTTP/1.1\r\n", head("GET", "/a"), head("PUT", "/a", "Content-Length: 1000") + b"x"],
    ids=["nothing", "half a head", "one request", "half a body"],
)
async def test_who_only_has_connections_keeps_nobody_out(said: bytes) -> None:
    async with open_told(connections=3) as (_, server, port), AsyncExitStack() as stack:
        held = []
        for _ in range(8):
            stream = await stack.enter_async_context(await trio.open_tcp_stream("127.0.0.1", port))
            await stream.send_all(said)
            held.append(stream)
        with fail_after(10):
            # Those that have waited longest are closed, without a word to what they never asked.
            for stream in held[:5]:
                heard = b""
                while more := await stream.receive_some(1000):
                    heard += more
                assert (
                    heard.count(b"HTTP/1.1 ")
                    == heard.count(b"hello")
                    == (said[-2:] == b"\r\n" and b"/a" in said)
                )
            assert b"hello" in await say(port, head("GET", "/", CLOSE))
            while server.connections > 3:
                # Real sockets: the server is told of the end by the kernel.
                await trio.sleep(0.01)


async def test_who_takes_no_answers_keeps_nobody_out() -> None:
    async with open_told(connections=3) as (told, _, port), AsyncExitStack() as stack:
        for number in range(8):
            stream = await stack.enter_async_context(await trio.open_tcp_stream("127.0.0.1", port))
            await stream.send_all(head("GET", "/much"))
            with fail_after(10):
                while len(told.requests) <= number:
                    # Real sockets: the kernel hands over what was sent.
                    await trio.sleep(0.01)
        assert b"hello" in await say(port, head("GET", "/", CLOSE))


async def test_a_handler_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "duplex"):
        async with open_told() as (_, _, port):
            answer = await say(port, head("GET", "/fail") + head("GET", "/x", CLOSE))
            assert answer.startswith(b"HTTP/1.1 500 ")
            assert answer.endswith(b"hello")
            assert b"RuntimeError" not in answer
            # What has begun cannot be taken back: it ends without its end.
            assert not (await say(port, head("GET", "/broken"))).endswith(b"0\r\n\r\n")
    assert [record.getMessage() for record in caplog.records] == ["GET /fail failed", "GET /broken failed"]


# ------------------------------------------------------------------------------------- answers that take time


async def test_an_answer_that_comes_later() -> None:
    async with open_told() as (told, _, port):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(head("GET", "/later"))
            await told.begun.wait()
            # More may be asked meanwhile.
            await stream.send_all(head("GET", "/next", CLOSE))
            told.go_on.set()
            received = b"".join([bytes(chunk) async for chunk in stream])
            assert received.index(b"later") < received.index(b"hello")


@pytest.mark.parametrize("path", ["/later", "/endless"])
async def test_nobody_waits_for_it_any_more(path: str) -> None:
    async with open_told() as (told, server, port):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(head("GET", path))
            with fail_after(5):
                await told.begun.wait()
        with fail_after(5):
            await told.cancelled.wait()
            while server.connections:
                # Real sockets: the server is told of the end by the kernel.
                await trio.sleep(0.01)


async def test_a_client_that_breaks_the_connection_is_nothing_to_log(monkeypatch: pytest.MonkeyPatch) -> None:
    # Whether the end or the failure of what is sent is seen first is a race: here it is the failure.
    send_all = trio.SocketStream.send_all

    async def broken(stream: trio.SocketStream, data: bytes) -> None:
        if len(data) > 60_000:
            raise trio.BrokenResourceError
        await send_all(stream, data)

    monkeypatch.setattr(trio.SocketStream, "send_all", broken)
    async with open_told() as (_, server, port):
        assert b"200" in await say(port, head("GET", "/endless"))
        with fail_after(5):
            while server.connections:
                # Real sockets: the server is told of the end by the kernel.
                await trio.sleep(0.01)


async def test_a_client_that_sends_too_much_ahead_is_closed() -> None:
    async with open_told() as (told, _, port):
        await send_until_closed(port, head("GET", "/later"), b"x" * 65_536, 0)
        assert told.cancelled.is_set()


async def test_a_client_that_does_not_read_is_closed() -> None:
    async with open_told(send_within=0.3) as (told, server, port):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(head("GET", "/endless"))
            with fail_after(10):
                await told.cancelled.wait()
                while server.connections:
                    # Real sockets: the server is told of the end by the kernel.
                    await trio.sleep(0.01)


# ------------------------------------------------------------------------------------------------- the end


async def test_what_is_being_answered_may_end() -> None:
    answers: dict[str, bytes] = {}
    async with trio.open_nursery() as nursery:
        async with open_told() as (told, server, port):

            async def ask(path: str) -> None:
                answers[path] = await say(port, head("GET", path) if path else b"")

            for path in ("", "/later", "/wait"):
                told.begun = trio.Event()
                nursery.start_soon(ask, path)
                if path:
                    with fail_after(5):
                        await told.begun.wait()
            nursery.start_soon(_release, told, server)
    assert answers[""] == b""
    assert answers["/later"].startswith(b"HTTP/1.1 503 ")
    assert answers["/wait"].endswith(b"hello")
    assert b"connection: close" in answers["/wait"].lower()
    with pytest.raises(OSError, match="all attempts to connect"):
        await trio.open_tcp_stream("127.0.0.1", port)


async def _release(told: Told, server: HttpServer) -> None:
    while not server.is_closing:
        await trio.lowlevel.checkpoint()
    told.go_on.set()


async def test_who_takes_too_long_is_not_waited_for() -> None:
    async with trio.open_nursery() as nursery:
        async with open_told(close_within=0.2) as (told, _, port):
            nursery.start_soon(say_and_lose, port)
            with fail_after(5):
                await told.begun.wait()


async def say_and_lose(port: int) -> None:
    try:
        assert await say(port, head("GET", "/wait")) == b""
    except trio.BrokenResourceError:
        pass


async def test_streams_end_in_order_when_the_server_does() -> None:
    received = bytearray()
    async with trio.open_nursery() as nursery:
        waiting = trio.Event()

        async def handler(request: Request) -> Answer:
            async def write(send: Send) -> None:
                await send(b"one")
                waiting.set()
                await trio.sleep_forever()

            return Streaming("text/plain", write)

        async with open_http_server(handler, "127.0.0.1:0") as server:
            port = int(server.addresses[0].rpartition(":")[2])

            async def ask() -> None:
                received.extend(await say(port, head("GET", "/")))

            nursery.start_soon(ask)
            with fail_after(5):
                await waiting.wait()
    assert received.endswith(b"3\r\none\r\n0\r\n\r\n")


async def test_an_accept_that_fails_is_tried_again(autojump_clock: trio.testing.MockClock) -> None:
    class Tired(trio.abc.Listener[trio.SocketStream]):
        tries = 0

        async def accept(self) -> trio.SocketStream:
            self.tries += 1
            if self.tries == 3:
                raise trio.ClosedResourceError
            raise OSError(24, "Too many open files")

        async def aclose(self) -> None:
            """There is nothing to close."""

    async with open_told() as (_, server, _):
        tired = Tired()
        async with trio.open_nursery() as nursery:
            await server.accept(tired, nursery)
        assert tired.tries == 3


async def test_an_address_that_is_taken() -> None:
    async with open_told() as (told, server, _):
        with pytest.raises(duplex.ConfigurationError, match="in use"):
            async with open_http_server(told, server.addresses[0]):
                pass


# ---------------------------------------------------------------------------------------------------- routes


def test_routes() -> None:
    async def one(request: Request) -> Answer:
        return Response()

    async def two(request: Request, name: str) -> Answer:
        return Response()

    routes = Routes()
    routes.add("GET", "/things", one)
    routes.add("GET", "/things/{}", two)
    routes.add("PUT", "/things/{}", one)

    def find(method: str, *parts: str) -> Any:
        return routes.find(Request(method, parts, {}, {}, b"", ""))

    assert find("GET", "things") == (one, ())
    assert find("GET", "things", "a/b") == (two, ("a/b",))
    assert find("PUT", "things", "a") == (one, ("a",))
    assert find("POST", "things", "a") == NoRoute(("GET", "PUT"))
    assert find("GET", "others") == NoRoute(())
    assert find("GET") == NoRoute(())
