"""What zerorpc does."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.features._checks import Answer, Checks, answer

_SECONDS = 20.0


def _run(check: Callable[[], Any]) -> Any:
    import gevent

    with gevent.Timeout(_SECONDS):
        return check()


CHECKS = Checks(_run)


def _endpoint(socket: Any) -> str:
    endpoint: bytes = socket._events._socket.last_endpoint
    return endpoint.decode().rstrip("\0")


@contextlib.contextmanager
def _running(*servers: Any) -> Iterator[list[str]]:
    """Bind servers, or whatever runs like one, at free ports, and run them in greenlets."""
    import gevent

    greenlets, endpoints = [], []
    for server in servers:
        server.bind("tcp://127.0.0.1:*")
        endpoints.append(_endpoint(server))
        greenlets.append(gevent.spawn(server.run))
    try:
        yield endpoints
    finally:
        for server, greenlet in zip(servers, greenlets, strict=True):
            server.close()
            greenlet.kill()


@contextlib.contextmanager
def _linked(methods: Any, server: Any = None, **options: Any) -> Iterator[Any]:
    import zerorpc

    with _running(zerorpc.Server(methods, **(server or {}))) as (endpoint,):
        client = zerorpc.Client(**options)
        client.connect(endpoint)
        try:
            yield client
        finally:
            client.close()


# -- calls -------------------------------------------------------------------------------------------------


@CHECKS.of("unary calls")
def unary() -> bool:
    """A function is called, and its result comes back."""
    with _linked({"add": lambda a, b: a + b}) as client:
        return bool(client.add(1, 2) == 3)


@CHECKS.of("streams of results")
def results() -> bool:
    """A handler yields, and the caller loops."""
    import zerorpc

    with _linked({"count": zerorpc.stream(lambda upto: iter(range(upto)))}) as client:
        return list(client.count(3)) == [0, 1, 2]


@CHECKS.of(
    "streams of arguments", "streams both ways at once", "callbacks as arguments", "channels as values"
)
def values_alone() -> bool:
    """An iterator, a function and a queue are refused as arguments: what msgpack cannot pack cannot be passed."""
    import gevent.queue

    taken = []
    with _linked({"take": lambda _: None}) as client:
        for value in (iter([1, 2]), lambda: None, gevent.queue.Queue()):
            with contextlib.suppress(TypeError):
                client.take(value)
                taken.append(value)
    return bool(taken)


@CHECKS.of("a fast sender waits for a slow reader")
def flow_control() -> bool:
    """A handler that could yield ten thousand items stops after some hundred while nobody reads, and loses none."""
    import gevent
    import zerorpc

    sent = 0

    @zerorpc.stream
    def flood() -> Iterator[int]:
        nonlocal sent
        for sent in range(1, 10_001):
            yield sent
            gevent.sleep(0)

    with _linked({"flood": flood}) as client:
        stream = client.flood()
        before = -1
        while sent != before or sent == 0:
            before = sent
            gevent.sleep(0.2)
        stopped_at = sent
        return stopped_at < 10_000 and list(stream) == list(range(1, 10_001))


@CHECKS.of("either end of a connection calls the other")
def either_end() -> bool:
    """A server has no way to call, and a client none to serve."""
    import zerorpc

    calls = {"connect_to", "_process_response"} & set(dir(zerorpc.Server))
    serves = {"run", "_acceptor"} & set(dir(zerorpc.Client))
    there = {"run"} <= set(dir(zerorpc.Server)) and {"_process_response"} <= set(dir(zerorpc.Client))
    return bool(calls or serves) or not there


@CHECKS.of("calls without an answer", "messages for one of a group")
def pushing() -> bool:
    """What a pusher sends arrives at one of two pullers, and both get some."""
    import gevent
    import zerorpc

    counts = [0, 0]

    def puller(number: int) -> Any:
        def work() -> None:
            counts[number] += 1

        return zerorpc.Puller({"work": work})

    with _running(puller(0), puller(1)) as endpoints:
        pusher = zerorpc.Pusher()
        for endpoint in endpoints:
            pusher.connect(endpoint)
        gevent.sleep(0.2)
        for _ in range(20):
            pusher.work()
        while sum(counts) < 20:
            gevent.sleep(0.02)
        pusher.close()
    return sum(counts) == 20 and all(counts)


@CHECKS.of("publish and subscribe")
def publishing() -> bool:
    """What a publisher sends arrives at two subscribers."""
    import gevent
    import zerorpc

    seen: list[str] = []
    with _running(*(zerorpc.Subscriber({"news": seen.append}) for _ in range(2))) as endpoints:
        publisher = zerorpc.Publisher()
        for endpoint in endpoints:
            publisher.connect(endpoint)
        gevent.sleep(0.2)
        publisher.news("rain")
        while len(seen) < 2:
            gevent.sleep(0.02)
        publisher.close()
    return seen == ["rain", "rain"]


CHECKS.absent("one question to all servers", "zerorpc", "gather", "scatter", "everybody", "all_servers")
CHECKS.absent("persistent messages", "zerorpc", "persistence", "persistent", "durable")

# -- time and failure --------------------------------------------------------------------------------------


@CHECKS.of(
    "the deadline of a call reaches its handler",
    "a handler's own calls inherit the deadline",
    "a cancelled call stops its handler",
)
def deadlines() -> bool:
    """A call times out; its handler was told nothing of it, neither before nor after, and runs to its end."""
    import gevent
    import gevent.event
    import zerorpc

    headers: list[dict[Any, Any]] = []
    ended = gevent.event.Event()

    class Look:
        def server_before_exec(self, event: Any) -> None:
            headers.append(event.header)

    def work() -> None:
        gevent.sleep(0.5)
        ended.set()

    context = zerorpc.Context()
    context.register_middleware(Look())
    with _linked({"work": work}, server={"context": context}, timeout=0.2) as client:
        with contextlib.suppress(zerorpc.TimeoutExpired):
            client.work()
        ran_on = ended.wait(5)
    told = {str(key) for header in headers for key in header} - {"message_id", "v", "response_to"}
    return bool(told) or not ran_on


@CHECKS.of("a server that goes away fails its calls at once")
def lost() -> Answer:
    """The process of a server is killed during a call, which fails after two heartbeats (here of 0.5 s, by default of 5 s)."""
    import gevent
    import zerorpc

    source = (
        "import gevent, zerorpc\n"
        "server = zerorpc.Server({'sleep': lambda: gevent.sleep(100)}, heartbeat=0.5)\n"
        "server.bind('tcp://127.0.0.1:*')\n"
        "print(server._events._socket.last_endpoint.decode().rstrip(chr(0)), flush=True)\n"
        "server.run()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        client = zerorpc.Client(process.stdout.readline().strip(), heartbeat=0.5)
        gevent.spawn_later(0.5, process.kill)
        try:
            client.sleep()
        except zerorpc.LostRemote:
            return answer(yes=False, part=True)
        finally:
            client.close()
    finally:
        process.kill()
        process.communicate()
    return "no"


@CHECKS.of("connections come back by themselves")
def reconnecting() -> bool:
    """A server closes, another begins at its endpoint, and a call of the same client arrives there."""
    import gevent
    import zerorpc

    with _running(zerorpc.Server({"name": lambda: "first"})) as (endpoint,):
        client = zerorpc.Client(endpoint)
        assert client.name() == "first"
    gevent.sleep(0.2)
    second = zerorpc.Server({"name": lambda: "second"})
    second.bind(endpoint)
    greenlet = gevent.spawn(second.run)
    try:
        return bool(client.name() == "second")
    finally:
        client.close()
        second.close()
        greenlet.kill()


CHECKS.absent("retries", "zerorpc", "retry", "retries", "attempt")
CHECKS.absent("hedging", "zerorpc", "hedg")
CHECKS.absent("failing servers get no calls for a while", "zerorpc", "breaker", "outlier", "eject")
CHECKS.absent("a repeated call runs once", "zerorpc", "idempoten", "dedup")
CHECKS.absent("a stream goes on after a lost connection", "zerorpc", "resum", "cursor")


@CHECKS.of("a server can stop without failing calls")
def draining() -> bool:
    """A call that runs when its server is stopped is not answered."""
    import gevent
    import gevent.event
    import zerorpc

    begun, go_on = gevent.event.Event(), gevent.event.Event()

    def work() -> str:
        begun.set()
        go_on.wait()
        return "done"

    server = zerorpc.Server({"work": work})
    server.bind("tcp://127.0.0.1:*")
    running = gevent.spawn(server.run)
    client = zerorpc.Client(_endpoint(server), timeout=2)
    call = gevent.spawn(_outcome, client.work)
    begun.wait()
    server.stop()
    gevent.sleep(0.1)
    go_on.set()
    try:
        return bool(call.get() == "done")
    finally:
        client.close()
        server.close()
        running.kill()


def _outcome(method: Callable[[], Any]) -> Any:
    try:
        return method()
    except Exception as error:
        return type(error).__name__


# -- many programs -----------------------------------------------------------------------------------------


@CHECKS.of("calls are shared out among servers")
def balancing() -> Answer:
    """A client that is connected to two servers has ten calls each answered by one of them, and both get some."""
    import gevent
    import zerorpc

    servers = [zerorpc.Server({"name": lambda name=name: name}) for name in ("one", "two")]
    with _running(*servers) as endpoints:
        client = zerorpc.Client(timeout=3)
        for endpoint in endpoints:
            client.connect(endpoint)
        gevent.sleep(0.2)
        names = [_outcome(client.name) for _ in range(10)]
        client.close()
    shared = {"one", "two"} <= set(names)
    return answer(yes=shared and set(names) == {"one", "two"}, part=shared)


CHECKS.absent("servers are found by name", "zerorpc", "discover", "registry", "nameserver", "dns")


@CHECKS.of("nothing runs between the programs")
def brokerless() -> bool:
    """The client is connected to the endpoint at which the server's own process is bound."""
    return unary()


# -- data --------------------------------------------------------------------------------------------------


@CHECKS.of("arguments are checked before the handler runs")
def checked() -> bool:
    """A text for an ``int`` comes to the handler as it is."""

    def take(number: int) -> str:
        return type(number).__name__

    with _linked({"take": take}) as client:
        return _outcome(lambda: client.take("2")) != "str"


@CHECKS.of("type checkers know the methods")
def typed() -> bool:
    """A client takes any name at all."""
    import zerorpc

    client = zerorpc.Client()
    try:
        return not callable(client.there_is_no_such_method)
    finally:
        client.close()


@CHECKS.of("errors have codes and details")
def errors() -> Answer:
    """An error arrives with the name of its class, its message and its traceback, as texts."""
    import zerorpc

    def buy() -> None:
        raise LookupError("sold out", {"left": 0})

    with _linked({"buy": buy}) as client:
        try:
            client.buy()
        except zerorpc.RemoteError as error:
            told = error.name == "LookupError" and "Traceback" in error.traceback
            return answer(yes=hasattr(error, "code") or hasattr(error, "details"), part=told)
    return "no"


@CHECKS.of("headers beside the arguments", "code around all calls, of both sides")
def middleware() -> bool:
    """Middleware of a client puts something into the header of a call, and that of a server finds it there."""
    import zerorpc

    seen = []

    class Calling:
        def client_before_request(self, event: Any) -> None:
            event.header["user"] = "ann"

    class Serving:
        def server_before_exec(self, event: Any) -> None:
            seen.append(event.header.get("user", event.header.get(b"user")))

    ours, theirs = zerorpc.Context(), zerorpc.Context()
    ours.register_middleware(Calling())
    theirs.register_middleware(Serving())
    with _linked({"ok": lambda: True}, server={"context": theirs}, context=ours) as client:
        client.ok()
    return seen in (["ann"], [b"ann"])


@CHECKS.of("numpy arrays are arguments, and travel as buffers")
def arrays() -> bool:
    """An array is refused as an argument."""
    import numpy as np

    with _linked({"take": lambda value: type(value).__name__}) as client:
        try:
            return bool(client.take(np.zeros(1000)) == "ndarray")
        except TypeError:
            return False


# -- operation ---------------------------------------------------------------------------------------------


@CHECKS.of("health checks")
def health() -> Answer:
    """A server answers a ping; nothing of it says whether it is well."""
    with _linked({"ok": lambda: True}) as client:
        told = client._zerorpc_ping()
        return answer(yes=isinstance(told, dict), part=told[0] == "pong")


@CHECKS.of("a server tells what it offers")
def reflection() -> bool:
    """A server tells its methods, with their parameters and docstrings, unless it needs what Python 3.11 has removed."""
    import zerorpc

    def add(a: Any, b: Any) -> Any:
        """Add two numbers."""
        return a + b

    with _linked({"add": add}) as client:
        try:
            told = client._zerorpc_inspect()["methods"]["add"]
        except zerorpc.RemoteError as error:
            if error.name == "AttributeError" and "getargspec" in error.msg:
                return False
            raise
        return told["doc"] == "Add two numbers." and [one["name"] for one in told["args"]] == ["a", "b"]


@CHECKS.of("calls from a shell")
def shell() -> bool:
    """The command ``zerorpc`` prints a result, unless it needs what Python 3.10 has removed."""
    import gevent.subprocess
    import zerorpc

    with _running(zerorpc.Server({"add": lambda a, b: a + b})) as (endpoint,):
        program = "from zerorpc.cli import main; main()"
        command = [sys.executable, "-c", program, "-j", endpoint, "add", "1", "2"]
        ran = gevent.subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=_SECONDS
        )
    if "'collections' has no attribute 'Iterator'" not in ran.stderr:
        ran.check_returncode()
    return bool(ran.stdout.strip() == "3")


CHECKS.absent("calls are counted, by method", "zerorpc", "statistic", "metric", "histogram")


@CHECKS.of("traces of calls across programs")
def tracing() -> Answer:
    """What a middleware calls the context of a task travels with calls, so that a trace can be followed; it makes none."""
    import zerorpc

    seen = []

    class Calling:
        def get_task_context(self) -> dict[str, str]:
            return {"trace": "17"}

    class Serving:
        def load_task_context(self, header: Any) -> None:
            seen.append(header.get("trace", header.get(b"trace")))

    ours, theirs = zerorpc.Context(), zerorpc.Context()
    ours.register_middleware(Calling())
    theirs.register_middleware(Serving())
    with _linked({"ok": lambda: True}, server={"context": theirs}, context=ours) as client:
        client.ok()
    return answer(yes=False, part=seen in (["17"], [b"17"]))


CHECKS.absent("encryption", "zerorpc", "curve", "ssl", "tls")
CHECKS.absent("callers are authenticated", "zerorpc", "authent", "authoriz", "password", "credential")
CHECKS.absent("asyncio", "zerorpc", "asyncio")
CHECKS.absent("trio", "zerorpc", "trio")
