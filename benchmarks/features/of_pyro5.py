"""What Pyro5 does."""

from __future__ import annotations

import contextlib
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.features._checks import Answer, Checks, answer

_SECONDS = 20.0


def _run(check: Callable[[], Any]) -> Any:
    found: list[Any] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            found.append(check())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(_SECONDS)
    if raised:
        raise raised[0]
    if not found:
        raise TimeoutError(f"it took more than {_SECONDS} s")
    return found[0]


CHECKS = Checks(_run)


@contextlib.contextmanager
def _daemon(*objects: Any, kind: Any = None, port: int = 0) -> Iterator[tuple[Any, list[Any]]]:
    """Serve objects in a thread, and give the daemon and where they are."""
    import Pyro5.api

    daemon = (kind or Pyro5.api.Daemon)(host="127.0.0.1", port=port)
    uris = [daemon.register(one) for one in objects]
    thread = threading.Thread(target=daemon.requestLoop, daemon=True)
    thread.start()
    try:
        yield daemon, uris
    finally:
        daemon.shutdown()
        thread.join(5)
        daemon.close()


@contextlib.contextmanager
def _linked(served: Any, kind: Any = None) -> Iterator[Any]:
    import Pyro5.api

    with _daemon(served, kind=kind) as (_, (uri,)), Pyro5.api.Proxy(uri) as proxy:
        yield proxy


def _exposed(**methods: Callable[..., Any]) -> Any:
    """Make an object of functions."""
    import Pyro5.api

    for name, method in methods.items():
        method.__name__ = name
    return Pyro5.api.expose(type("Served", (), {name: staticmethod(one) for name, one in methods.items()}))()


# -- calls -------------------------------------------------------------------------------------------------


def _service() -> Any:
    import Pyro5.api

    @Pyro5.api.expose
    class Calc:
        def add(self, a: int, b: int) -> int:
            """Add two numbers."""
            return a + b

        def count(self, upto: int) -> Iterator[int]:
            yield from range(upto)

        def visit(self, items: list[int], each: Any) -> int:
            each._pyroClaimOwnership()
            return sum(each.called(item) for item in items)

        def take(self, value: Any) -> str:
            return type(value).__name__

    return Calc()


@CHECKS.of("unary calls")
def unary() -> bool:
    """A method is called, and its result comes back."""
    with _linked(_service()) as proxy:
        return bool(proxy.add(1, 2) == 3)


@CHECKS.of("streams of results")
def results() -> bool:
    """A method yields, and the caller loops."""
    with _linked(_service()) as proxy:
        return list(proxy.count(3)) == [0, 1, 2]


@CHECKS.of("streams of arguments", "streams both ways at once", "channels as values")
def values_alone() -> bool:
    """A generator and a queue are refused as arguments."""
    import queue

    from Pyro5.errors import PyroError

    taken = []
    with _linked(_service()) as proxy:
        values: list[Any] = [(number for number in range(3)), queue.Queue()]
        for value in values:
            with contextlib.suppress(TypeError, PyroError, RecursionError):
                # What cannot be packed may come as a dict of what was in it, which is no queue.
                if proxy.take(value) != "dict":
                    taken.append(value)
    return bool(taken)


@CHECKS.of("a fast sender waits for a slow reader")
def flow_control() -> bool:
    """A generator is asked for an item when the reader wants one, and not before."""
    import Pyro5.api

    asked = 0

    @Pyro5.api.expose
    class Source:
        def flood(self) -> Iterator[int]:
            nonlocal asked
            while asked < 1000:
                asked += 1
                yield asked

    with _linked(Source()) as proxy:
        stream = proxy.flood()
        return [next(stream), next(stream)] == [1, 2] and asked == 2


@CHECKS.of("callbacks as arguments", "either end of a connection calls the other")
def callbacks() -> Answer:
    """An object of the caller's is passed and called back, over a connection to a daemon that the caller runs, too."""
    import Pyro5.api

    @Pyro5.api.expose
    class Callback:
        @Pyro5.api.callback
        def called(self, item: int) -> int:
            return item * 10

    callback = Callback()
    with _linked(_service()) as proxy:
        try:
            return answer(yes=proxy.visit([1, 2, 3], callback) == 60)
        except Exception as error:
            alone = type(error).__name__
        with _daemon(callback) as (_, (uri,)):
            return answer(yes=alone == "", part=proxy.visit([1, 2, 3], Pyro5.api.Proxy(uri)) == 60)


@CHECKS.of("calls without an answer")
def oneway() -> bool:
    """A method that is marked as ``oneway`` returns before it has ended."""
    import Pyro5.api

    begun, go_on = threading.Event(), threading.Event()

    @Pyro5.api.expose
    class Log:
        @Pyro5.api.oneway
        def write(self) -> None:
            begun.set()
            go_on.wait()

    with _linked(Log()) as proxy:
        proxy.write()
        ran = begun.wait(5)
        go_on.set()
        return ran


CHECKS.absent("one question to all servers", "Pyro5", "gather", "scatter", "everybody")
CHECKS.absent("publish and subscribe", "Pyro5", "publish", "subscri")
CHECKS.absent("messages for one of a group", "Pyro5", "queue_group", "publish", "subscri")
CHECKS.absent("persistent messages", "Pyro5", "persistent", "durable")

# -- time and failure --------------------------------------------------------------------------------------


@CHECKS.of(
    "the deadline of a call reaches its handler",
    "a handler's own calls inherit the deadline",
    "a cancelled call stops its handler",
)
def deadlines() -> bool:
    """A call times out; its method was told nothing of it, neither before nor after, and runs to its end."""
    import time

    import Pyro5.api
    from Pyro5.errors import TimeoutError as Late

    ended = threading.Event()
    told: list[Any] = []

    @Pyro5.api.expose
    class Worker:
        def work(self) -> None:
            told.append(dict(Pyro5.api.current_context.annotations))
            time.sleep(0.5)
            ended.set()

    with _linked(Worker()) as proxy:
        proxy._pyroTimeout = 0.2
        with contextlib.suppress(Late):
            proxy.work()
        return not ended.wait(5) or told != [{}]


@CHECKS.of("a server that goes away fails its calls at once")
def lost() -> bool:
    """The process of a server is killed during a call, which fails within two seconds."""
    import subprocess
    import sys

    import Pyro5.api
    from Pyro5.errors import CommunicationError

    source = (
        "import Pyro5.api, time\n"
        "@Pyro5.api.expose\n"
        "class Sleeper:\n"
        "    def sleep(self): time.sleep(100)\n"
        "daemon = Pyro5.api.Daemon(host='127.0.0.1')\n"
        "print(daemon.register(Sleeper()), flush=True)\n"
        "daemon.requestLoop()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    killing = threading.Timer(0.5, process.kill)
    try:
        with Pyro5.api.Proxy(process.stdout.readline().strip()) as proxy:
            proxy._pyroBind()
            proxy._pyroTimeout = 2.5
            killing.start()
            try:
                proxy.sleep()
            except Pyro5.errors.TimeoutError:
                return False
            except CommunicationError:
                return True
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    return False


def _ended(method: Callable[[], Any]) -> str:
    try:
        return str(method())
    except Exception as error:
        return type(error).__name__


@CHECKS.of("connections come back by themselves")
def reconnecting() -> Answer:
    """A server closes, another begins at its port: the next call of a proxy fails, the one after that arrives."""
    import Pyro5.api

    served = _service()
    with _daemon() as (daemon, _):
        uri = daemon.register(served, objectId="calc")
        proxy = Pyro5.api.Proxy(uri)
        proxy.add(1, 2)
        port = uri.port
    with _daemon(port=port) as (daemon, _):
        daemon.register(_service(), objectId="calc")
        outcomes = [_ended(lambda: proxy.add(1, 2)) for _ in range(2)]
        proxy._pyroRelease()
    return answer(yes=outcomes[0] == "3", part=outcomes[1] == "3")


@CHECKS.of("retries")
def retries() -> Answer:
    """With ``_pyroMaxRetries`` a call is made again after its connection was lost, though it may have run; not after an error."""
    import Pyro5.api

    runs = {"fails": 0, "loses": 0}

    @Pyro5.api.expose
    class Shaky:
        def fails(self) -> None:
            runs["fails"] += 1
            raise RuntimeError("not yet")

        def loses(self) -> int:
            runs["loses"] += 1
            if runs["loses"] == 1:
                Pyro5.api.current_context.client.sock.shutdown(socket.SHUT_RDWR)
            return runs["loses"]

    with _linked(Shaky()) as proxy:
        proxy._pyroMaxRetries = 3
        with contextlib.suppress(RuntimeError):
            proxy.fails()
        result = _ended(proxy.loses)
    return answer(yes=runs["fails"] > 1, part=result == "2")


CHECKS.absent("hedging", "Pyro5", "hedg")
CHECKS.absent("failing servers get no calls for a while", "Pyro5", "breaker", "outlier", "eject")
CHECKS.absent("a repeated call runs once", "Pyro5", "idempoten", "dedup")


@CHECKS.of("a stream goes on after a lost connection")
def resuming() -> Answer:
    """A generator waits 30 s for its reader to connect again, if that does so by hand; not for a server that starts anew."""
    import Pyro5.errors

    with _linked(_service()) as proxy:
        stream = proxy.count(4)
        received = [next(stream), next(stream)]
        proxy._pyroConnection.sock.shutdown(socket.SHUT_RDWR)
        try:
            return answer(yes=[*received, *stream] == [0, 1, 2, 3])
        except Pyro5.errors.CommunicationError:
            proxy._pyroReconnect(1)
        return answer(yes=False, part=[*received, *stream] == [0, 1, 2, 3])


@CHECKS.of("a server can stop without failing calls")
def draining() -> bool:
    """A call that runs when its daemon is shut down is not answered."""
    import Pyro5.api

    begun, go_on = threading.Event(), threading.Event()

    @Pyro5.api.expose
    class Worker:
        def work(self) -> str:
            begun.set()
            go_on.wait()
            return "done"

    outcomes: list[str] = []
    with _daemon(Worker()) as (daemon, (uri,)):

        def call() -> None:
            with Pyro5.api.Proxy(uri) as proxy:
                outcomes.append(_ended(proxy.work))

        calling = threading.Thread(target=call)
        calling.start()
        begun.wait()
        stopping = threading.Thread(target=daemon.shutdown)
        stopping.start()
        stopping.join(0.5)
        go_on.set()
        calling.join(5)
        stopping.join(5)
    return outcomes == ["done"]


# -- many programs -----------------------------------------------------------------------------------------

CHECKS.absent("calls are shared out among servers", "Pyro5", "balanc", "round_robin", "least_")


@CHECKS.of("servers are found by name")
def discovery() -> bool:
    """A server registers with Pyro's name server, and a client finds it there."""
    import Pyro5.api
    import Pyro5.nameserver

    name_server = Pyro5.nameserver.NameServerDaemon(host="127.0.0.1", port=0)
    thread = threading.Thread(target=name_server.requestLoop, daemon=True)
    thread.start()
    host, port = name_server.locationStr.split(":")
    try:
        with _daemon(_service()) as (_, (uri,)):
            with Pyro5.api.locate_ns(host, int(port)) as names:
                names.register("calc", uri)
                found = names.lookup("calc")
            with Pyro5.api.Proxy(found) as proxy:
                return bool(proxy.add(1, 2) == 3)
    finally:
        name_server.shutdown()
        thread.join(5)
        name_server.close()


@CHECKS.of("nothing runs between the programs")
def brokerless() -> bool:
    """The client is connected to the port of the server's own process."""
    with _daemon(_service()) as (daemon, (uri,)):
        return bool(uri.port == daemon.sock.getsockname()[1]) and unary()


# -- data --------------------------------------------------------------------------------------------------


@CHECKS.of("arguments are checked before the handler runs")
def checked() -> bool:
    """A text for a number comes to the method as it is."""

    def take(number: int) -> str:
        return type(number).__name__

    with _linked(_exposed(take=take)) as proxy:
        return bool(proxy.take("2") != "str")


@CHECKS.of("type checkers know the methods")
def typed() -> bool:
    """A proxy is made of where the object is, and of no class that would say what it has."""
    import inspect

    import Pyro5.api

    parameters = set(inspect.signature(Pyro5.api.Proxy).parameters)
    return hasattr(Pyro5.api.Proxy, "__class_getitem__") or parameters != {"uri", "connected_socket"}


@CHECKS.of("errors have codes and details")
def errors() -> Answer:
    """Python's own exceptions arrive as they are, with what is in them; there are no codes."""

    def buy() -> None:
        raise LookupError("sold out", {"left": 0})

    with _linked(_exposed(buy=buy)) as proxy:
        try:
            proxy.buy()
        except LookupError as error:
            return answer(yes=hasattr(error, "code"), part=error.args == ("sold out", {"left": 0}))
    return "no"


@CHECKS.of("headers beside the arguments")
def metadata() -> bool:
    """An annotation arrives with the call, and one with its result."""
    import Pyro5.api

    def user() -> str:
        context = Pyro5.api.current_context
        context.response_annotations = {"SEEN": b"yes"}
        return bytes(context.annotations["USER"]).decode()

    with _linked(_exposed(user=user)) as proxy:
        Pyro5.api.current_context.annotations = {"USER": b"ann"}
        result = proxy.user()
        return result == "ann" and bytes(Pyro5.api.current_context.response_annotations["SEEN"]) == b"yes"


@CHECKS.of("numpy arrays are arguments, and travel as buffers")
def arrays() -> bool:
    """An array is refused as an argument, or arrives as something else."""
    import numpy as np

    with _linked(_service()) as proxy:
        return _ended(lambda: proxy.take(np.zeros(1000))) == "ndarray"


# -- operation ---------------------------------------------------------------------------------------------

CHECKS.absent("code around all calls, of both sides", "Pyro5", "middleware", "intercept_", "around_call")


@CHECKS.of("health checks")
def health() -> Answer:
    """A daemon answers a ping; nothing of it says whether it is well."""
    import Pyro5.api

    with _daemon() as (daemon, _), Pyro5.api.Proxy(f"PYRO:Pyro.Daemon@{daemon.locationStr}") as proxy:
        return answer(yes=hasattr(daemon, "health"), part=proxy.ping() is None)


@CHECKS.of("a server tells what it offers")
def reflection() -> Answer:
    """A daemon tells its objects and their methods, without parameters."""
    import Pyro5.api

    with _daemon(_service()) as (daemon, (uri,)):
        with Pyro5.api.Proxy(f"PYRO:Pyro.Daemon@{daemon.locationStr}") as proxy:
            told = proxy.get_metadata(uri.object)
            listed = uri.object in proxy.registered()
            return answer(
                yes="a" in str(told.get("parameters", "")), part=listed and "add" in told["methods"]
            )


@CHECKS.of("calls from a shell")
def shell() -> Answer:
    """Of the commands that Pyro5 installs none calls a method; one is a gateway for HTTP, at which ``curl`` can."""
    from importlib.metadata import distribution

    commands = {
        entry.name for entry in distribution("Pyro5").entry_points if entry.group == "console_scripts"
    }
    others = {"pyro5-ns", "pyro5-nsc", "pyro5-echoserver", "pyro5-check-config", "pyro5-httpgateway"}
    return answer(yes=bool(commands - others), part="pyro5-httpgateway" in commands)


CHECKS.absent("calls are counted, by method", "Pyro5", "statistic", "metric_", "histogram")


@CHECKS.of("traces of calls across programs")
def tracing() -> Answer:
    """An id that the caller sets reaches the method, so that calls can be told apart in a log; it is no trace."""
    import uuid

    import Pyro5.api

    def look() -> str:
        return str(Pyro5.api.current_context.correlation_id)

    mine = uuid.uuid4()
    with _linked(_exposed(look=look)) as proxy:
        Pyro5.api.current_context.correlation_id = mine
        try:
            return answer(yes=False, part=proxy.look() == str(mine))
        finally:
            Pyro5.api.current_context.correlation_id = None


@CHECKS.of("encryption", "callers are authenticated")
def certificates() -> bool:
    """Over TLS, a daemon knows the caller by the name in its certificate; who has none is refused."""
    import Pyro5.api
    import trustme

    authority = trustme.CA()
    names: list[Any] = []

    class Daemon(Pyro5.api.Daemon):  # type: ignore[misc, unused-ignore]
        def validateHandshake(self, conn: Any, data: Any) -> Any:
            names.append(conn.getpeercert()["subjectAltName"])
            return super().validateHandshake(conn, data)

    with tempfile.TemporaryDirectory() as directory:
        trusted = Path(directory) / "authority.pem"
        authority.cert_pem.write_to_path(str(trusted))
        paths = {}
        for name in ("localhost", "ann.example"):
            certificate = authority.issue_cert(name)
            paths[name] = (str(Path(directory) / f"{name}.pem"), str(Path(directory) / f"{name}.key"))
            certificate.private_key_pem.write_to_path(paths[name][1])
            for number, blob in enumerate(certificate.cert_chain_pems):
                blob.write_to_path(paths[name][0], append=number > 0)
        config = Pyro5.config
        config.SSL, config.SSL_REQUIRECLIENTCERT, config.SSL_CACERTS = True, True, str(trusted)
        config.SSL_SERVERCERT, config.SSL_SERVERKEY = paths["localhost"]
        config.SSL_CLIENTCERT, config.SSL_CLIENTKEY = paths["ann.example"]
        try:
            with _daemon(_service(), kind=Daemon) as (_, (uri,)):
                place = f"PYRO:{uri.object}@localhost:{uri.port}"
                with Pyro5.api.Proxy(place) as proxy:
                    answered = proxy.add(1, 2) == 3
                refused = _refused(uri.port, str(trusted))
        finally:
            config.SSL = config.SSL_REQUIRECLIENTCERT = False
    return answered and refused and names == [(("DNS", "ann.example"),)]


def _refused(port: int, trusted: str) -> bool:
    """Whether a TLS connection without a certificate of the caller's is closed before anything is said."""
    context = ssl.create_default_context(cafile=trusted)
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="localhost") as encrypted:
                return encrypted.recv(1) == b""
        except (ssl.SSLError, ConnectionError):
            return True


CHECKS.absent("asyncio", "Pyro5", "asyncio")
CHECKS.absent("trio", "Pyro5", "trio")
