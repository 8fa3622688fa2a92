"""Health checks: what several come to, each kind against a real server, and a server of discovery that makes them (D-6)."""

from __future__ import annotations

import contextlib
import resource
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import trio
import trustme
from trio.testing import MockClock

import duplex
from duplex_services.discovery import Check, Directory, Registration, open_directory, open_server
from duplex_services.discovery._model import Health
from duplex_services.discovery._monitoring import monitor
from duplex_services.discovery._probes import probe
from duplex_services.discovery._probes._grpc import read_status, request_body
from duplex_services.discovery._rules._monitor import Monitor, Result, checker_of
from duplex_services.discovery._rules._targets import target_of
from duplex_services.discovery.client import keep_registered, open_client
from duplex_services.store import open_store
from tests.machine import fail_after, within
from tests.transports.certificates import tls

UP, DOWN, WARN = "passing", "critical", "warning"


# --------------------------------------------------------------------------------------- what they come to


@pytest.mark.parametrize(
    ("threshold", "found", "said"),
    [
        # Never up: nothing is said.
        (2, [DOWN] * 5, []),
        # Up at once, and later.
        (2, [UP, UP], [UP]),
        (2, [DOWN, DOWN, UP, UP], [UP]),
        # Up, down, up, with thresholds of two and three.
        (2, [UP, DOWN, DOWN, UP, UP], [UP, DOWN, UP]),
        (3, [UP, DOWN, DOWN, DOWN, UP, UP, UP], [UP, DOWN, UP]),
        (3, [UP, DOWN, DOWN, UP, UP], [UP]),
        # Flapping.
        (2, [UP, DOWN, UP, DOWN, UP, DOWN], [UP]),
        (2, [UP, DOWN, DOWN, UP, DOWN, UP, DOWN], [UP, DOWN]),
        (1, [DOWN, UP, DOWN, UP], [UP, DOWN, UP]),
        # Warnings count apart.
        (2, [UP, WARN, DOWN, WARN, DOWN], [UP]),
        (2, [WARN, UP, UP, DOWN, WARN, WARN], [WARN, UP, WARN]),
    ],
)
def test_what_checks_come_to(threshold: int, found: list[Health], said: list[Health]) -> None:
    monitor = Monitor(threshold)
    told: list[Health] = []
    for one in found:
        before, monitor = monitor.health, monitor.take(one)
        if monitor.health is not None and monitor.health != before:
            told.append(monitor.health)
    assert told == said


def test_the_first_success_is_looked_for_often() -> None:
    check = Check("tcp", interval=2.0)
    assert Monitor(2).pause(check) == 0.1
    # Who is not well after three seconds is asked ever less often, up to the check's own interval.
    monitor = Monitor(2)
    pauses = []
    for _ in range(300):
        monitor = monitor.take("critical")
        assert monitor.health is None
        pauses.append(monitor.pause(check))
    assert pauses[:30] == [0.1] * 30
    assert pauses == sorted(pauses)
    assert pauses[31] == pytest.approx(0.121)
    assert pauses[-1] == 2.0
    assert monitor.pause(Check("tcp", interval=3600)) == 3600
    assert monitor.take("passing") == Monitor(2, "passing")
    assert Monitor(2).pause(Check("tcp", interval=0.05)) == 0.05
    assert Monitor(2, "passing").pause(check) == 2.0


def test_each_server_has_its_share_of_the_checks() -> None:
    servers = ["a", "b", "c"]
    whole = {f"i{number}": checker_of("web", f"i{number}", servers) for number in range(600)}
    counts = [list(whole.values()).count(name) for name in servers]
    assert min(counts) > 120
    # If one goes, only its own move.
    left = {id: checker_of("web", id, ["a", "c"]) for id in whole}
    assert all(left[id] == name for id, name in whole.items() if name != "b")
    assert checker_of("web", "x", []) is None


@pytest.mark.parametrize(
    ("check", "said", "target"),
    [
        (Check("tcp"), {"host": "h", "port": 1}, "h:1"),
        (Check("tcp"), {"host": "fd00::1", "port": 1}, "[fd00::1]:1"),
        (Check("tcp", target="o:2"), {"host": "h", "port": 1}, "o:2"),
        (Check("grpc"), {"host": "h", "port": 1}, "h:1"),
        (Check("http"), {"host": "h", "port": 1}, "http://h:1/"),
        (Check("http", target="/ready?x"), {"host": "h", "port": 1}, "http://h:1/ready?x"),
        (Check("http", target="https://o/"), {}, "https://o/"),
        (Check("duplex"), {"endpoint": "ipc:///x", "host": "h", "port": 1}, "ipc:///x"),
        (Check("duplex"), {"host": "h", "port": 1}, "tcp://h:1"),
        (Check("command", target="true"), {}, "true"),
    ],
)
def test_targets(check: Check, said: dict[str, Any], target: str) -> None:
    assert target_of(check, Registration("a", **said)) == target


@pytest.mark.parametrize(
    "check", [Check("tcp"), Check("http"), Check("http", target="/x"), Check("duplex"), Check("grpc")]
)
async def test_there_is_nothing_to_check(check: Check) -> None:
    result = await probe(check, Registration("a", endpoint="" if check.kind == "duplex" else "ipc:///x"))
    assert result.health == DOWN
    assert "has no target" in result.note


# ------------------------------------------------------------------------------------------ each kind


async def check_it(kind: Any, port: int, **options: Any) -> Result:
    with fail_after(10):
        return await probe(Check(kind, **options), Registration("a", host="127.0.0.1", port=port))


@pytest.fixture
def closed_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextlib.asynccontextmanager
async def answering(
    serve: Callable[[trio.abc.Stream], Any], tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """A server of TCP that does one thing with each connection."""
    async with trio.open_nursery() as nursery:

        async def one(stream: trio.SocketStream) -> None:
            with contextlib.suppress(trio.BrokenResourceError, ssl.SSLError, trio.ClosedResourceError):
                async with stream:
                    await serve(stream if tls is None else trio.SSLStream(stream, tls, server_side=True))

        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, one, [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def stay(stream: trio.abc.Stream) -> None:
    await trio.sleep_forever()


@pytest.mark.parametrize("kind", ["tcp", "http", "duplex", "grpc"])
async def test_nobody_listens(kind: str, closed_port: int) -> None:
    result = await check_it(kind, closed_port, timeout=0.5)
    assert result.health == DOWN
    assert str(closed_port) in result.note or "no answer" in result.note


@pytest.mark.parametrize("kind", ["http", "duplex", "grpc"])
async def test_nobody_answers(kind: str) -> None:
    async with answering(stay) as port:
        result = await check_it(kind, port, timeout=0.2)
    assert result.health == DOWN


async def test_tcp() -> None:
    async with answering(stay) as port:
        assert await check_it("tcp", port) == Result("passing", f"127.0.0.1:{port}: connected")
    result = await check_it("tcp", 1, target="nonsense")
    assert result == Result("critical", "'nonsense' is no HOST:PORT")


class Http:
    """Answers each request with the same, and remembers what was asked."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self.asked = b""

    async def __call__(self, stream: trio.abc.Stream) -> None:
        while b"\r\n\r\n" not in self.asked:
            self.asked += await stream.receive_some(4096)
        await stream.send_all(self._answer)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nready"


@pytest.mark.parametrize(
    ("answer", "options", "health", "note"),
    [
        (OK, {}, UP, "status 200"),
        (OK, {"status": 204}, DOWN, "status 200, not 204"),
        (OK, {"contains": "ready"}, UP, "status 200"),
        (OK, {"contains": "steady"}, DOWN, "status 200, without 'steady'"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", {}, DOWN, "status 503, not 200"),
        (b"HTTP/1.1 302 Moved\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", {}, DOWN, "status 302, not 200"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 9000 + b"late", {"contains": "late"}, DOWN, "without 'late'"),
        (b"nonsense\r\n\r\n", {}, DOWN, "127.0.0.1"),
        (b"", {}, DOWN, "127.0.0.1"),
    ],
)
async def test_http(answer: bytes, options: dict[str, Any], health: str, note: str) -> None:
    async with answering(Http(answer)) as port:
        result = await check_it("http", port, **options)
    assert result.health == health
    assert note in result.note


async def test_http_asks_for_a_host_and_a_path() -> None:
    server = Http(OK)
    async with answering(server) as port:
        assert (await check_it("http", port, target="/ready?full", host="web.example")).health == UP
    assert server.asked.startswith(b"GET /ready?full HTTP/1.1\r\n")
    assert server.asked.lower().count(b"host: web.example") == 1
    assert server.asked.lower().count(b"host:") == 1
    result = await check_it("http", 1, target="ftp://x")
    assert result.note == "'ftp://x' is no URL to check: http://HOST:PORT/PATH"


@pytest.mark.parametrize("target", ["/a b", "/\u00e9", "?a b"])
async def test_http_of_what_is_no_url(target: str) -> None:
    async with answering(stay) as port:
        found = await probe(Check("http", f"http://127.0.0.1:{port}{target}"), Registration("a"))
    assert found.health == "critical"
    assert "cannot be asked for" in found.note


async def test_a_check_that_fails_itself_is_critical(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> Any:
        raise RuntimeError("of its own")

    monkeypatch.setattr("duplex_services.discovery._probes._run._prober", broken)
    found = await probe(Check("tcp"), Registration("a", host="127.0.0.1", port=80))
    assert found == Result("critical", "the check itself fails: RuntimeError")
    assert "a tcp check of '' failed" in caplog.text


async def test_https_takes_any_certificate() -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("elsewhere.example").configure_cert(context)
    async with answering(Http(OK), context) as port:
        assert (await check_it("http", port, target=f"https://127.0.0.1:{port}/")).health == UP


async def test_duplex() -> None:
    calc = duplex.Service("calc")
    async with duplex.open_peer(services=[calc]) as peer:
        endpoint = await peer.bind("tcp://127.0.0.1:*")
        for check, health, note in (
            (Check("duplex"), UP, "the peer takes calls"),
            (Check("duplex", service="calc"), UP, "calc takes calls"),
            (Check("duplex", service="other"), DOWN, "there is no service 'other'"),
        ):
            with fail_after(10):
                result = await probe(check, Registration("a", endpoint=endpoint))
            assert result.health == health
            assert note in result.note
    result = await probe(Check("duplex", target="nonsense"), Registration("a", endpoint=endpoint))
    assert result.health == DOWN


async def test_duplex_with_tls() -> None:
    own = tls()
    async with duplex.open_peer(tls=own) as peer:
        said = Registration(
            "a", endpoint=await peer.bind("tls://127.0.0.1:*"), check=Check("duplex", interval=0.2)
        )
        for trusted, health in ((duplex.TLS(ca=own.ca), UP), (None, DOWN)):
            with fail_after(20):
                assert (await probe(Check("duplex"), said, trusted)).health == health
                async with open_directory("memory:", tls=trusted) as directory:
                    await directory.instances.register("api", said, is_held=True)
                    while states(directory) != {"a": health}:
                        await trio.sleep(0.01)  # nothing tells of a change but its state


@contextlib.contextmanager
def grpc_server(answer: bytes, code: grpc.StatusCode | None = None) -> Iterator[tuple[int, list[bytes]]]:
    """gRPC's own server with a health service that gives one answer."""
    asked: list[bytes] = []

    def health(request: bytes, context: Any) -> bytes:
        asked.append(request)
        if code is not None:
            context.abort(code, "no")
        return answer

    handler = grpc.unary_unary_rpc_method_handler(health)
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port, asked
    finally:
        server.stop(0).wait()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "code", "health", "note"),
    [
        (b"\x08\x01", None, UP, "the server is SERVING"),
        (b"\x08\x02", None, DOWN, "the server is NOT_SERVING"),
        (b"", None, DOWN, "the server is UNKNOWN"),
        (b"\x08\x07", None, DOWN, "no answer that makes sense"),
        (b"x" * 9000, None, DOWN, "too much of it"),
        (b"", grpc.StatusCode.NOT_FOUND, DOWN, "gRPC status 5"),
    ],
)
async def test_grpc(answer: bytes, code: grpc.StatusCode | None, health: str, note: str) -> None:
    with grpc_server(answer, code) as (port, asked):
        result = await check_it("grpc", port)
        assert asked == [b""]
    assert result.health == health
    assert note in result.note


@pytest.mark.slow
async def test_grpc_asks_about_a_service() -> None:
    with grpc_server(b"\x08\x01") as (port, asked):
        assert (await check_it("grpc", port, service="x" * 200)).health == UP
    assert asked == [b"\x0a\xc8\x01" + b"x" * 200]


def test_what_grpc_says() -> None:
    assert request_body("") == b"\0\0\0\0\0"
    assert read_status(b"\0\0\0\0\2\x08\x03") == "SERVICE_UNKNOWN"
    for body in (b"", b"\0\0", b"\1\0\0\0\2\x08\x01", b"\0\0\0\0\2\x10\x01", b"\0\0\0\0\1\x08"):
        assert read_status(body) == ""


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad\r\n\r\n", b"", b"\0" * 100])
async def test_what_is_no_grpc(answer: bytes) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await stream.receive_some(4096)
        await stream.send_all(answer)

    async with answering(serve) as port:
        result = await check_it("grpc", port, timeout=1.0)
    assert result.health == DOWN


@pytest.mark.parametrize(
    ("line", "health", "note"),
    [
        ("print('all well')", UP, "all well"),
        ("import sys; print('slow'); sys.exit(1)", WARN, "slow"),
        ("import sys; sys.exit('broken')", WARN, "broken"),
        ("import os; os._exit(2)", DOWN, "ended with 2"),
        ("import time; time.sleep(60)", DOWN, "no answer within 0.5 s"),
        ("print('x' * 9000)", UP, "x" * 500),
    ],
)
@pytest.mark.slow
async def test_commands(line: str, health: str, note: str) -> None:
    timeout = 0.5 if "sleep" in line else within(5)
    result = await check_it("command", 1, target=f'{sys.executable} -c "{line}"', timeout=timeout)
    assert result.health == health
    assert result.note.endswith(note)


@pytest.mark.slow
async def test_of_what_a_command_prints_the_beginning_is_kept() -> None:
    """Two hundred megabytes go by, and this process does not grow by them."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line = "import sys; [sys.stdout.write('well ' * 200_000) for _ in range(200)]; sys.exit(1)"
    result = await check_it("command", 1, target=f'{sys.executable} -c "{line}"', timeout=within(30))
    assert result.health == WARN
    assert result.note.startswith("well well")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


@pytest.mark.parametrize(
    ("target", "note"), [("/no/such/program", "No such file"), ("'open", "quotation"), (" ", "empty")]
)
async def test_commands_that_cannot_run(target: str, note: str) -> None:
    result = await check_it("command", 1, target=target)
    assert result.health == DOWN
    assert note in result.note


async def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "duplex_services.discovery._probes._grpc", raising=False)
    monkeypatch.setitem(sys.modules, "h2", None)
    monkeypatch.delitem(sys.modules, "h2.connection", raising=False)
    result = await check_it("grpc", 1)
    assert "pip install 'duplex-rpc[discovery]'" in result.note


# --------------------------------------------------------------------------- by a server of discovery


def states(directory: Directory) -> dict[str, str]:
    return {one.id: one.state for one in directory.reading.view.all_instances("api")}


async def until(directory: Directory, expected: dict[str, str], seconds: float) -> None:
    with fail_after(seconds):
        async for _ in directory.reading.watch("api"):
            if states(directory) == expected:
                return


class Listener:
    """Listens at a port of its own, or does not."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]

    def close(self) -> None:
        self._socket.close()

    def open(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", self.port))


@pytest.mark.slow
async def test_lookups_do_not_return_the_unhealthy() -> None:
    # D-6: three instances, one of which stops listening, and listens again.
    listeners = {id: Listener() for id in "abc"}
    check = Check("tcp", interval=0.5)
    try:
        async with open_directory("memory:") as directory:
            for id, listener in listeners.items():
                said = Registration(id, host="127.0.0.1", port=listener.port, check=check)
                await directory.instances.register("api", said, is_held=True)
            await until(directory, dict.fromkeys("abc", UP), 2)
            index = directory.reading.status().as_of
            listeners["b"].close()
            began = trio.current_time()
            await until(directory, {"a": UP, "b": DOWN, "c": UP}, 2)
            assert trio.current_time() - began > 0.4
            assert [one.id for one in directory.reading.view.instances("api")] == ["a", "c"]
            instance = directory.reading.view.instance("api", "b")
            assert instance is not None
            assert "Connection refused" in instance.note
            changes = directory.reading.view.diff("api", index, 1000) or ()
            told = [(change.kind, change.id) for change in changes if change.kind != "leader"]
            assert told == [("update", "b")]
            listeners["b"].open()
            await until(directory, dict.fromkeys("abc", UP), 2)
            kinds = [change.kind for change in directory.reading.view.last_changes("api", "b")]
            assert "down" not in kinds
    finally:
        for listener in listeners.values():
            listener.close()


async def test_a_single_failure_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    found = [UP, DOWN, UP, DOWN, UP, DOWN, DOWN]

    async def fake(check: Check, registration: Registration, _tls: duplex.TLS | None) -> Result:
        await trio.lowlevel.checkpoint()
        health: Any = found.pop(0) if found else DOWN
        return Result(health, "as it was written")

    monkeypatch.setattr("duplex_services.discovery._monitoring.probe", fake)
    async with open_directory("memory:") as directory:
        said = Registration("a", host="127.0.0.1", port=1, check=Check("tcp", interval=1.0))
        await directory.instances.register("api", said, is_held=True)
        await trio.sleep(5.5)
        assert states(directory) == {"a": UP}
        await trio.sleep(3)
        assert states(directory) == {"a": DOWN}
        kinds = [change.kind for change in directory.reading.view.last_changes("api", "a")]
        assert [kind for kind in kinds if kind != "leader"] == ["up", "update", "update"]


async def test_checks_that_hang_hold_up_none_of_what_is_well(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr("duplex_services.discovery._checking._AT_ONCE", 2)
    is_well = True

    async def fake(check: Check, registration: Registration, _tls: duplex.TLS | None) -> Result:
        if registration.id != "good":
            await trio.sleep(check.timeout)
        return Result("passing" if is_well and registration.id == "good" else "critical")

    monkeypatch.setattr("duplex_services.discovery._monitoring.probe", fake)
    async with open_directory("memory:") as directory:
        for id in ("good", "slow-1", "slow-2", "slow-3"):
            check = Check("tcp", interval=1.0, timeout=3000.0)
            said = Registration(id, host="127.0.0.1", port=1, check=check)
            await directory.instances.register("api", said, is_held=True)
            await trio.sleep(2)
        assert states(directory)["good"] == UP
        is_well = False
        await trio.sleep(5)
        assert states(directory)["good"] == DOWN


async def test_checks_are_spread_and_move_with_their_servers(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def fake(check: Check, registration: Registration, _tls: duplex.TLS | None) -> Result:
        await trio.lowlevel.checkpoint()
        return Result("passing", f"port {registration.port}")

    monkeypatch.setattr("duplex_services.discovery._monitoring.probe", fake)
    async with open_store("memory:") as store, open_directory(store, server="a") as first:
        async with open_directory(store, server="b") as second:
            for number in range(40):
                said = Registration(f"i{number}", host="h", port=number + 1, check=Check("tcp"))
                await first.instances.heartbeat("api", said, 600.0)
            command = Registration("own", host="h", port=1, check=Check("command", target="true"))
            await first.instances.heartbeat("api", command, 600.0)
            await trio.sleep(2)
            assert first.checked + second.checked == 40
            assert min(first.checked, second.checked) > 5
            # What is to be run as a program is for its registrant alone.
            assert {id for id, state in states(first).items() if state != UP} == {"own"}
        await trio.sleep(2)
        assert first.checked == 40
        await first.instances.deregister("api", "i0")
        said = Registration("i1", host="h", port=999, check=Check("tcp"))
        await first.instances.heartbeat("api", said, 600.0)
        await trio.sleep(2)
        assert first.checked == 39
        assert states(first)["i1"] == UP
        quiet = Registration("i2", host="h", port=3)
        await first.instances.heartbeat("api", quiet, 600.0)
        await trio.sleep(1)
        assert first.checked == 38


async def test_a_server_without_checks(autojump_clock: MockClock) -> None:
    async with open_directory("memory:", checks=False) as directory:
        said = Registration("a", host="h", port=1, check=Check("tcp"))
        await directory.instances.heartbeat("api", said, 60.0)
        await trio.sleep(5)
        assert directory.checked == 0
        instance = directory.reading.view.instance("api", "a")
        assert instance is not None
        assert instance.note == "not checked yet"


# ------------------------------------------------------------------------------- by whoever registers


@pytest.mark.slow
async def test_a_registrant_checks_itself(tmp_path: Path) -> None:
    mark = tmp_path / "well"
    check = Check("command", target=f"sh -c 'test -e {mark} || exit 2'", interval=0.2, threshold=2)
    async with open_directory("memory:") as directory:
        async with open_server(directory, [f"ipc://{tmp_path}/d.sock"]) as (_, (endpoint,)):
            async with open_client(endpoint) as peer:
                said = Registration("a", host="127.0.0.1", port=80)
                async with keep_registered(peer, "api", said, check=check) as registered:
                    with fail_after(10):
                        await registered.registered()
                    await until(directory, {"a": DOWN}, 5)
                    mark.touch()
                    await until(directory, {"a": UP}, 5)
                    mark.unlink()
                    await until(directory, {"a": DOWN}, 5)


async def test_what_is_known_from_before_is_not_said_again(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def fake(check: Check, registration: Registration, _tls: duplex.TLS | None) -> Result:
        await trio.lowlevel.checkpoint()
        return Result("passing")

    monkeypatch.setattr("duplex_services.discovery._monitoring.probe", fake)

    async def report(found: Result) -> None:
        pytest.fail(f"{found} was known")

    with trio.move_on_after(30) as scope:
        await monitor(Check("tcp"), Registration("a"), "passing", report)
    assert scope.cancelled_caught
