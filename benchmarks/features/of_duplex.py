"""What Duplex does, shown with public names alone."""

from __future__ import annotations

import contextlib
import functools
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import trio

import duplex
from benchmarks.features._checks import Answer, Checks, answer
from benchmarks.peers._certificates import make_certificate

_SECONDS = 20.0


def _run(check: Callable[[], Awaitable[Any]]) -> Any:
    async def within_limits() -> Any:
        with trio.fail_after(_SECONDS):
            return await check()

    return trio.run(within_limits)


CHECKS = Checks(_run)


@contextlib.asynccontextmanager
async def _linked(
    *services: duplex.Service, server: Any = None, client: Any = None
) -> AsyncIterator[tuple[duplex.Peer, duplex.Peer]]:
    async with (
        duplex.open_peer(services=services, name="server", **(server or {})) as one,
        duplex.open_peer(name="client", **(client or {})) as two,
    ):
        await two.connect(await one.bind("tcp://127.0.0.1:*"))
        yield one, two


@contextlib.contextmanager
def _tls() -> Iterator[tuple[duplex.TLS, duplex.TLS]]:
    """What a server shows, and what its clients trust."""
    with tempfile.TemporaryDirectory() as directory:
        made = make_certificate(Path(directory))
        yield duplex.TLS(certificate=made.chain, key=made.key), duplex.TLS(ca=made.authority)


class _Two:
    """Two servers of one service, and a client that is linked to both."""

    def __init__(self, **client: Any) -> None:
        self.calls = {"one": 0, "two": 0}
        self.failing: set[str] = set()
        self.first_hangs = False
        self._client = client

    @contextlib.asynccontextmanager
    async def __call__(self) -> AsyncIterator[duplex.Peer]:
        async with (
            duplex.open_peer(services=[self._service("one")], name="one") as one,
            duplex.open_peer(services=[self._service("two")], name="two") as two,
            duplex.open_peer(**self._client) as client,
        ):
            for server in (one, two):
                await client.connect(await server.bind("tcp://127.0.0.1:*"))
            yield client

    def _service(self, name: str) -> duplex.Service:
        service = duplex.Service("worker")

        @service.rpc
        async def work() -> str:
            self.calls[name] += 1
            if name in self.failing:
                raise duplex.Unavailable("it fails")
            if self.first_hangs and sum(self.calls.values()) == 1:
                await trio.sleep_forever()
            return name

        return service


calc = duplex.Service("calc", version="1.2.3")


@calc.rpc
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@calc.rpc
async def count(upto: int) -> AsyncIterator[int]:
    """Count."""
    for number in range(upto):
        yield number


@calc.rpc
async def total(numbers: duplex.ReceiveChannel[int]) -> int:
    """Add up a stream."""
    return sum([number async for number in numbers])


@calc.rpc
async def double(numbers: duplex.ReceiveChannel[int]) -> AsyncIterator[int]:
    """Double each."""
    async for number in numbers:
        yield 2 * number


# -- calls -------------------------------------------------------------------------------------------------


@CHECKS.of("unary calls")
async def unary() -> bool:
    """A function is called, and its result comes back."""
    async with _linked(calc) as (_, client):
        return bool(await client.service("calc").add(1, 2) == 3)


@CHECKS.of("streams of results")
async def results() -> bool:
    """A handler yields, and the caller loops."""
    async with _linked(calc) as (_, client), client.service("calc").count.open(3) as call:
        return [number async for number in call] == [0, 1, 2]


@CHECKS.of("streams of arguments")
async def arguments() -> bool:
    """The caller sends, and the handler loops."""
    async with _linked(calc) as (_, client), client.service("calc").total.open() as call:
        for number in range(4):
            await call.send(number)
        return bool(await call.result() == 6)


@CHECKS.of("streams both ways at once")
async def both_ways() -> bool:
    """Each item is answered before the next is sent."""
    async with _linked(calc) as (_, client), client.service("calc").double.open() as call:
        answers = []
        for number in range(3):
            await call.send(number)
            answers.append(await call.receive())
        return answers == [0, 2, 4]


@CHECKS.of("a fast sender waits for a slow reader")
async def flow_control() -> bool:
    """A handler that could yield a thousand items of 64 KiB stops after some while nobody reads, and loses none."""
    sent = 0
    service = duplex.Service("source")

    @service.rpc
    async def flood() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 1000:
            sent += 1
            yield bytes(65536)

    async with _linked(service) as (_, client), client.service("source").flood.open() as call:
        while True:
            before = sent
            await trio.sleep(0.2)
            if sent == before and sent > 0:
                break
        stopped_at = sent
        received = len([item async for item in call])
        return stopped_at < 1000 and received == 1000


@CHECKS.of("either end of a connection calls the other")
async def either_end() -> bool:
    """The peer that was connected to calls the one that connected, over the same link."""
    async with _linked(client={"services": [calc]}) as (server, _):
        (link,) = server.links
        return bool(await link.service("calc").add(1, 2) == 3)


@CHECKS.of("callbacks as arguments")
async def callbacks() -> bool:
    """A function of the caller's is passed, and called by the handler."""
    service = duplex.Service("visitor")

    @service.rpc
    async def visit(items: list[int], each: duplex.Callback[[int], int]) -> int:
        return sum([await each(item) for item in items])

    async with _linked(service) as (_, client):
        return bool(await client.service("visitor").visit([1, 2, 3], lambda item: item * 10) == 60)


@CHECKS.of("channels as values")
async def channels() -> bool:
    """An end of a trio memory channel is passed, and what the handler sends there arrives at the other end."""
    service = duplex.Service("pipes")

    @service.rpc
    async def fill(numbers: duplex.SendChannel[int]) -> None:
        async with numbers:
            for number in range(3):
                await numbers.send(number)

    send, receive = trio.open_memory_channel[int](3)
    async with _linked(service) as (_, client):
        await client.service("pipes").fill(send)
        return [number async for number in receive] == [0, 1, 2]


@CHECKS.of("calls without an answer")
async def notifications() -> bool:
    """A notification returns before its handler has ended."""
    begun, go_on = trio.Event(), trio.Event()
    service = duplex.Service("log")

    @service.rpc
    async def write(line: str) -> None:
        begun.set()
        await go_on.wait()

    async with _linked(service) as (_, client):
        await client.service("log").write.notify("hello")
        await begun.wait()
        go_on.set()
        return True


@CHECKS.of("one question to all servers")
async def gather() -> bool:
    """Two servers answer one ``gather``, and one that fails does not hide the other."""
    both = _Two()
    both.failing.add("two")
    async with both() as client:
        outcomes = {peer.name: outcome async for peer, outcome in client.service("worker").work.gather()}
        return outcomes["one"].result() == "one" and isinstance(outcomes["two"].error, duplex.Unavailable)


async def _published(group: str | None) -> list[list[int]]:
    """What two subscribers, of a group or not, have received of twenty items."""
    service = duplex.Service("board")
    topic: duplex.Topic[int] = duplex.Topic()

    @service.rpc
    async def items() -> AsyncIterator[int]:
        async for item in topic.subscribe(group=group):
            yield item

    received: list[list[int]] = [[], []]
    async with (
        duplex.open_peer(services=[service]) as server,
        duplex.open_peer() as one,
        duplex.open_peer() as other,
    ):
        endpoint = await server.bind("tcp://127.0.0.1:*")

        async def subscribe(peer: duplex.Peer, taken: list[int]) -> None:
            await peer.connect(endpoint)
            async with peer.service("board").items.open() as call:
                taken.extend([item async for item in call])

        async with trio.open_nursery() as nursery:
            for peer, taken in zip((one, other), received, strict=True):
                nursery.start_soon(subscribe, peer, taken)
            while True:
                if topic.subscribers == 2:
                    break
                await trio.sleep(0.01)
            for number in range(20):
                await topic.publish(number)
            topic.close()
    return received


@CHECKS.of("publish and subscribe")
async def publishing() -> bool:
    """What is published to a topic arrives at two subscribers."""
    return await _published(None) == [list(range(20))] * 2


@CHECKS.of("messages for one of a group")
async def group() -> bool:
    """Of what is published to a group each item arrives at one of two subscribers, and both get some."""
    first, second = await _published("workers")
    return sorted(first + second) == list(range(20)) and bool(first and second)


# -- time and failure --------------------------------------------------------------------------------------


@CHECKS.of("the deadline of a call reaches its handler", "a handler's own calls inherit the deadline")
async def deadlines() -> bool:
    """A handler that the handler calls, on a third peer, sees the deadline that the first caller has set."""
    left: list[float] = []
    inner, outer = duplex.Service("inner"), duplex.Service("outer")

    @inner.rpc
    async def look() -> None:
        left.append(duplex.current_call().time_remaining)

    @outer.rpc
    async def ask() -> None:
        left.append(duplex.current_call().time_remaining)
        await middle.service("inner").look()

    async with duplex.open_peer(services=[inner]) as last, _linked(outer) as (middle, client):
        await middle.connect(await last.bind("tcp://127.0.0.1:*"))
        with trio.fail_after(5):
            await client.service("outer").ask()
    return len(left) == 2 and all(0 < seconds <= 5 for seconds in left)


@CHECKS.of("a cancelled call stops its handler")
async def cancellation() -> bool:
    """A handler that sleeps without end is cancelled when the caller cancels."""
    begun, cancelled = trio.Event(), trio.Event()
    service = duplex.Service("sleeper")

    @service.rpc
    async def sleep() -> None:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with _linked(service) as (_, client):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.service("sleeper").sleep)
            await begun.wait()
            nursery.cancel_scope.cancel()
        await cancelled.wait()
        return True


@CHECKS.of("a server that goes away fails its calls at once")
async def lost() -> bool:
    """The process of a server is killed during a call, which fails within two seconds."""
    program = [sys.executable, "-m", "benchmarks.features._sleeper"]
    async with duplex.open_peer() as client, trio.open_nursery() as nursery:
        run = functools.partial(trio.run_process, check=False, stdout=subprocess.PIPE)
        process = await nursery.start(run, program)
        assert process.stdout is not None
        await client.connect((await process.stdout.receive_some()).decode().strip())
        async with client.service("sleeper").sleep.open(1) as call:
            assert await call.receive() == 1
            process.kill()
            with trio.fail_after(2):
                try:
                    await call.receive()
                except duplex.PeerLost:
                    return True
    return False


@CHECKS.of("connections come back by themselves")
async def reconnecting() -> bool:
    """A server is closed, another is bound at its endpoint, and the next call of the same client arrives there."""
    async with duplex.open_peer() as client:
        async with duplex.open_peer(services=[calc]) as first:
            endpoint = await first.bind("tcp://127.0.0.1:*")
            await client.connect(endpoint)
            await client.service("calc").add(1, 2)
        async with duplex.open_peer(services=[calc]) as second:
            await second.bind(endpoint)
            return bool(await client.service("calc").add(1, 2) == 3)


@CHECKS.of("retries")
async def retries() -> bool:
    """A call that fails twice with ``Unavailable`` succeeds the third time, by an option alone."""
    attempts = 0
    service = duplex.Service("shaky")

    @service.rpc(idempotent=True)
    async def work() -> int:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise duplex.Unavailable("not yet")
        return attempts

    async with _linked(service) as (_, client):
        policy = duplex.RetryPolicy(initial=0.01)
        return bool(await client.service("shaky").with_options(retry=policy, idempotent=True).work() == 3)


@CHECKS.of("hedging")
async def hedging() -> bool:
    """The first call never answers; it is made at the other server as well, and answered."""
    both = _Two()
    both.first_hangs = True
    async with both() as client:
        policy = duplex.HedgingPolicy(delay=0.05)
        name = await client.service("worker").with_options(hedging=policy, idempotent=True).work()
        return name in ("one", "two") and both.calls == {"one": 1, "two": 1}


@CHECKS.of("failing servers get no calls for a while")
async def breaking() -> bool:
    """Of two servers one fails always; after a few failures it is called no more."""
    both = _Two(balancer="round_robin", circuit_breaker=duplex.CircuitBreaker(failures=2))
    both.failing.add("one")
    async with both() as client:
        for _ in range(20):
            with contextlib.suppress(duplex.Unavailable):
                await client.service("worker").work()
        return both.calls["one"] == 2 and both.calls["two"] == 18


@CHECKS.of("a repeated call runs once")
async def idempotency() -> bool:
    """Two calls with one idempotency key have one run, and the same result."""
    runs = 0
    service = duplex.Service("bank")

    @service.rpc
    async def pay() -> int:
        nonlocal runs
        runs += 1
        return runs

    async with _linked(service) as (_, client):
        bank = client.service("bank").with_options(idempotency_key="17")
        return [await bank.pay(), await bank.pay()] == [1, 1]


@CHECKS.of("a stream goes on after a lost connection")
async def resuming() -> bool:
    """The link is cut in the midst of a stream, and the reader gets every item once."""
    service = duplex.Service("news")

    @service.rpc(resumable=True)
    async def follow(*, cursor: int | None = None) -> AsyncIterator[duplex.Tracked[int, int]]:
        for number in range(0 if cursor is None else cursor + 1, 6):
            yield duplex.Tracked(number, number)
            if number == 2 and cursor is None:
                await trio.sleep_forever()

    async with _linked(service) as (server, client):
        received = []
        async with client.service("news").follow.with_options(resume=True).open() as stream:
            async for number in stream:
                received.append(number)
                if number == 2:
                    await server.links[0].aclose()
            return received == list(range(6)) and stream.resumptions == 1


@CHECKS.of("a server can stop without failing calls")
async def draining() -> bool:
    """A call that runs when its server begins to drain ends well."""
    begun, go_on = trio.Event(), trio.Event()
    service = duplex.Service("worker")

    @service.rpc
    async def work() -> str:
        begun.set()
        await go_on.wait()
        return "done"

    results = []
    async with _linked(service) as (server, client), trio.open_nursery() as nursery:

        async def call() -> None:
            results.append(await client.service("worker").work())

        nursery.start_soon(call)
        await begun.wait()
        nursery.start_soon(server.drain)
        await trio.sleep(0.1)
        go_on.set()
    return results == ["done"]


# -- many programs -----------------------------------------------------------------------------------------


@CHECKS.of("calls are shared out among servers")
async def balancing() -> bool:
    """Of ten calls each of two servers gets five."""
    both = _Two()
    async with both() as client:
        in_turn = client.service("worker").with_options(balancer="round_robin")
        for _ in range(10):
            await in_turn.work()
        return both.calls == {"one": 5, "two": 5}


@CHECKS.of("servers are found by name")
async def discovery() -> bool:
    """A resolver yields an endpoint, and then another one, and calls follow."""
    one, two = duplex.Service("worker"), duplex.Service("worker")
    one.add(lambda: "one", name="work", inline=True)
    two.add(lambda: "two", name="work", inline=True)
    moved = trio.Event()

    class Registry:
        def __init__(self, first: str, second: str) -> None:
            self._endpoints = (first, second)

        async def resolve(self, service: str) -> AsyncIterator[list[duplex.Endpoint]]:
            yield [duplex.Endpoint(self._endpoints[0])]
            await moved.wait()
            yield [duplex.Endpoint(self._endpoints[1])]
            await trio.sleep_forever()

    async with duplex.open_peer(services=[one]) as a, duplex.open_peer(services=[two]) as b:
        endpoints = [await peer.bind("tcp://127.0.0.1:*") for peer in (a, b)]
        async with duplex.open_peer() as client:
            client.connect_service("worker", Registry(*endpoints))
            worker = client.service("worker")
            assert await worker.work() == "one"
            moved.set()
            while True:
                if await worker.work() == "two":
                    return True
                await trio.sleep(0.01)


@CHECKS.of("nothing runs between the programs")
async def brokerless() -> bool:
    """The client's link has the endpoint at which the server's own process is bound."""
    async with _linked(calc) as (server, client):
        return client.links[0].endpoint in server.endpoints


# -- data --------------------------------------------------------------------------------------------------


@CHECKS.of("arguments are checked before the handler runs")
async def checked() -> bool:
    """A text for an ``int`` is refused, with the name of the parameter."""
    async with _linked(calc) as (_, client):
        try:
            await client.service("calc").add(1, "2")
        except duplex.InvalidArgument as error:
            return "'b'" in error.message
        return False


@CHECKS.of("type checkers know the methods")
async def typed() -> bool:
    """A proxy made from a ``Protocol`` class works; what type checkers say of it is in tests/typing."""

    class Calc(Protocol):
        async def add(self, a: int, b: int) -> int: ...

    async with _linked(calc) as (_, client):
        result: int = await client.service(Calc).add(1, 2)
        return result == 3


@CHECKS.of("errors have codes and details")
async def errors() -> bool:
    """A code, a message and structured details arrive as they were raised."""
    service = duplex.Service("shop")

    @service.rpc
    async def buy() -> None:
        raise duplex.NotFound("sold out", details={"left": 0})

    async with _linked(service) as (_, client):
        try:
            await client.service("shop").buy()
        except duplex.NotFound as error:
            return error.details == {"left": 0} and error.message == "sold out"
        return False


@CHECKS.of("headers beside the arguments")
async def metadata() -> bool:
    """A header arrives with the call, and a trailer with its result."""
    service = duplex.Service("echo")

    @service.rpc
    async def user() -> Any:
        duplex.current_call().trailers["seen"] = "yes"
        return duplex.current_call().metadata["user"]

    async with _linked(service) as (_, client):
        remote = client.service("echo").with_options(metadata={"user": "ann"})
        async with remote.user.open() as call:
            return await call.result() == "ann" and call.trailers["seen"] == "yes"


@CHECKS.of("numpy arrays are arguments, and travel as buffers")
async def arrays() -> bool:
    """An array arrives as an array, which is a view of memory that it does not own."""
    import numpy as np

    service = duplex.Service("arrays")
    owned: list[bool] = []

    @service.rpc
    async def take(values: np.ndarray[Any, np.dtype[np.float64]]) -> int:
        owned.append(bool(values.flags.owndata))
        return values.nbytes

    async with _linked(service) as (_, client):
        size = await client.service("arrays").take(np.zeros(1_000_000))
        return size == 8_000_000 and owned == [False]


# -- operation ---------------------------------------------------------------------------------------------


@CHECKS.of("code around all calls, of both sides")
async def middleware() -> bool:
    """One function is around a handler, and one around its call."""
    seen = []

    async def around(call: Any, next: Any) -> Any:
        seen.append(call.method)
        return await next(call)

    async with _linked(calc, server={"middleware": [around]}, client={"call_middleware": [around]}) as (
        _,
        client,
    ):
        await client.service("calc").add(1, 2)
    return seen.count("calc.add") == 2


@CHECKS.of("health checks")
async def health() -> bool:
    """A service is made ill, and its health says so."""
    async with _linked(calc) as (server, client):
        before = await client.service("duplex.health").check("calc")
        server.set_health("calc", serving=False)
        return [before, await client.service("duplex.health").check("calc")] == ["SERVING", "NOT_SERVING"]


def _duplex(*arguments: str) -> str:
    command = [sys.executable, "-m", "duplex", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=_SECONDS).stdout


@CHECKS.of("a server tells what it offers", "calls from a shell")
async def shell() -> bool:
    """``duplex describe`` prints a signature and its docstring, and ``duplex call`` a result."""
    async with duplex.open_peer(services=[calc]) as server:
        endpoint = await server.bind("tcp://127.0.0.1:*")
        told = await trio.to_thread.run_sync(_duplex, "describe", endpoint, "calc.add")
        result = await trio.to_thread.run_sync(_duplex, "call", endpoint, "calc.add", "1", "2")
    return "calc.add(a: int, b: int) -> int" in told and "Add two numbers." in told and result.strip() == "3"


@CHECKS.of("calls are counted, by method")
async def statistics() -> bool:
    """The server counts a call and an error of a method, and tells them over the link."""
    async with _linked(calc) as (server, client):
        await client.service("calc").add(1, 2)
        with contextlib.suppress(duplex.InvalidArgument):
            await client.service("calc").add(1, "2")
        told = await client.service("duplex.stats").snapshot()
        (served,) = (one for one in server.method_statistics() if one.method == "calc.add")
        return "calc.add" in str(told) and served.calls == 2 and served.errors == {"INVALID_ARGUMENT": 1}


@CHECKS.of("traces of calls across programs")
async def tracing() -> bool:
    """A handler that a handler calls, at a third peer, is part of the trace that the first caller has begun."""
    from opentelemetry import trace

    from duplex.middleware import trace_calls

    both: dict[str, Any] = {"middleware": [trace_calls()], "call_middleware": [trace_calls()]}
    inner, outer = duplex.Service("inner"), duplex.Service("outer")

    @inner.rpc
    async def look() -> str:
        return f"{trace.get_current_span().get_span_context().trace_id:x}"

    @outer.rpc
    async def ask() -> Any:
        return await middle.service("inner").look()

    begun = trace.SpanContext(trace_id=0xABC, span_id=1, is_remote=False, trace_flags=trace.TraceFlags(1))
    async with (
        duplex.open_peer(services=[inner], **both) as last,
        _linked(outer, server=both, client=both) as (middle, client),
    ):
        await middle.connect(await last.bind("tcp://127.0.0.1:*"))
        with trace.use_span(trace.NonRecordingSpan(begun)):
            return await client.service("outer").ask() == "abc"


@CHECKS.of("encryption")
async def encryption() -> bool:
    """What is sent over TLS is seen by somebody in between, and is not read; who does not trust the certificate does not connect."""
    seen = bytearray()
    service = duplex.Service("post")
    service.add(len, name="send", inline=True)

    async def copy(source: trio.SocketStream, target: trio.SocketStream) -> None:
        async for some in source:
            seen.extend(some)
            await target.send_all(some)

    with _tls() as (own, trusting):
        async with duplex.open_peer(services=[service], tls=own) as server, trio.open_nursery() as nursery:
            port = int((await server.bind("tls://127.0.0.1:*")).rpartition(":")[2])

            async def relay(stream: trio.SocketStream) -> None:
                async with (
                    await trio.open_tcp_stream("127.0.0.1", port) as other,
                    trio.open_nursery() as both,
                ):
                    both.start_soon(copy, stream, other)
                    both.start_soon(copy, other, stream)

            serve = functools.partial(trio.serve_tcp, host="127.0.0.1")
            (listener,) = await nursery.start(serve, relay, 0)
            between = f"tls://127.0.0.1:{listener.socket.getsockname()[1]}"
            async with duplex.open_peer(tls=trusting) as client:
                await client.connect(between)
                sent = await client.service("post").send("a secret of 26 letters") == 22
            async with duplex.open_peer() as client:
                try:
                    await client.connect(between, timeout=1)
                except duplex.ConnectError as error:
                    refused = "certificate is not accepted" in str(error)
            nursery.cancel_scope.cancel()
    return sent and refused and len(seen) > 1000 and b"a secret of 26 letters" not in seen


@CHECKS.of("callers are authenticated")
async def authentication() -> Answer:
    """A handler knows the caller by its token, which travels over TLS, and who has none gets no link."""

    async def by_token(handshake: duplex.Handshake) -> duplex.Identity:
        if handshake.credentials != b"of ann":
            raise duplex.Unauthenticated("a token is needed")
        return duplex.Identity("ann", "token")

    service = duplex.Service("door")
    service.add(lambda: duplex.current_call().peer.identity.principal, name="known", inline=True)
    with _tls() as (own, trusting):
        async with duplex.open_peer(services=[service], authenticator=by_token, tls=own) as server:
            endpoint = await server.bind("tls://127.0.0.1:*")
            async with duplex.open_peer(credentials=b"of ann", tls=trusting) as ann:
                await ann.connect(endpoint)
                known = await ann.service("door").known() == "ann"
            async with duplex.open_peer(tls=trusting) as stranger:
                try:
                    await stranger.connect(endpoint)
                except duplex.HandshakeError:
                    return answer(yes=known, part=False)
    return "no"


CHECKS.absent("persistent messages", "duplex", "persistent", "durable")


@CHECKS.of("trio")
async def trio_alone() -> bool:
    """These checks run on trio."""
    return bool(trio.lowlevel.in_trio_task())


@CHECKS.of("asyncio")
async def asyncio_refused() -> Answer:
    """A task of asyncio's is told that it cannot open a peer; docs/how-to/use-beside-asyncio.md has what can be done."""
    import asyncio

    async def attempt() -> bool:
        try:
            async with duplex.open_peer():
                return True
        except RuntimeError:
            return False

    return answer(yes=await trio.to_thread.run_sync(asyncio.run, attempt()), part=True)
