"""What grpcio does. Methods are registered by hand, since no code is generated here; messages are bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from benchmarks.features._checks import Answer, Checks, answer

_SECONDS = 20.0


def _run(check: Callable[[], Awaitable[Any]]) -> Any:
    async def within_limits() -> Any:
        async with asyncio.timeout(_SECONDS):
            return await check()

    return asyncio.run(within_limits())


CHECKS = Checks(_run)

#: Channels of one process share their connections otherwise, also after a server is gone.
_OPTIONS = (("grpc.use_local_subchannel_pool", 1),)


def _handlers(**methods: tuple[str, Callable[..., Any]]) -> Any:
    import grpc

    made = {
        name: getattr(grpc, f"{kind}_rpc_method_handler")(function)
        for name, (kind, function) in methods.items()
    }
    return grpc.method_handlers_generic_handler("S", made)


@contextlib.asynccontextmanager
async def _server(*handlers: Any, port: int = 0, **options: Any) -> AsyncIterator[tuple[Any, int]]:
    import grpc.aio

    server = grpc.aio.server(**options)
    server.add_generic_rpc_handlers(handlers)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield server, port
    finally:
        await server.stop(None)


@contextlib.asynccontextmanager
async def _channel(*ports: int, config: Mapping[str, Any] | None = None, **more: Any) -> AsyncIterator[Any]:
    import grpc.aio

    options: list[tuple[str, Any]] = [*_OPTIONS]
    if config is not None:
        options.append(("grpc.service_config", json.dumps(config)))
    target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
    async with grpc.aio.insecure_channel(target, options=options, **more) as channel:
        yield channel


@contextlib.asynccontextmanager
async def _linked(**methods: tuple[str, Callable[..., Any]]) -> AsyncIterator[Any]:
    async with _server(_handlers(**methods)) as (_, port), _channel(port) as channel:
        yield channel


async def _echo(request: bytes, _: Any) -> bytes:
    return request


def _config(**policy: Any) -> dict[str, Any]:
    return {"methodConfig": [{"name": [{"service": "S"}], **policy}]}


# -- calls -------------------------------------------------------------------------------------------------


@CHECKS.of("unary calls", "asyncio")
async def unary() -> bool:
    """A function is called with grpc.aio, and its result comes back."""
    async with _linked(echo=("unary_unary", _echo)) as channel:
        return bool(await channel.unary_unary("/S/echo")(b"hello") == b"hello")


@CHECKS.of("streams of results")
async def results() -> bool:
    """A handler yields, and the caller loops."""

    async def count(request: bytes, _: Any) -> AsyncIterator[bytes]:
        for number in range(request[0]):
            yield bytes([number])

    async with _linked(count=("unary_stream", count)) as channel:
        return [item[0] async for item in channel.unary_stream("/S/count")(bytes([3]))] == [0, 1, 2]


@CHECKS.of("streams of arguments")
async def arguments() -> bool:
    """The caller sends, and the handler loops."""

    async def total(requests: AsyncIterator[bytes], _: Any) -> bytes:
        return bytes([sum([request[0] async for request in requests])])

    async with _linked(total=("stream_unary", total)) as channel:
        call = channel.stream_unary("/S/total")()
        for number in range(4):
            await call.write(bytes([number]))
        await call.done_writing()
        return bool(await call == bytes([6]))


@CHECKS.of("streams both ways at once")
async def both_ways() -> bool:
    """Each item is answered before the next is sent."""

    async def double(requests: AsyncIterator[bytes], _: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request * 2

    async with _linked(double=("stream_stream", double)) as channel:
        call = channel.stream_stream("/S/double")()
        answers = []
        for word in (b"a", b"b"):
            await call.write(word)
            answers.append(await call.read())
        await call.done_writing()
        return answers == [b"aa", b"bb"]


@CHECKS.of("a fast sender waits for a slow reader")
async def flow_control() -> bool:
    """A handler that could yield a thousand items of 64 KiB stops after some while nobody reads, and loses none."""
    sent = 0

    async def flood(_: bytes, __: Any) -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 1000:
            sent += 1
            yield bytes(65536)

    async with _linked(flood=("unary_stream", flood)) as channel:
        call = channel.unary_stream("/S/flood")(b"")
        before = -1
        while sent != before or sent == 0:
            before = sent
            await asyncio.sleep(0.2)
        stopped_at = sent
        return stopped_at < 1000 and len([item async for item in call]) == 1000


@CHECKS.of("either end of a connection calls the other", "callbacks as arguments", "channels as values")
async def one_way() -> bool:
    """Neither a channel nor what a handler gets has a way to serve or to call, and a function is no message."""
    import grpc.aio

    async with _linked(echo=("unary_unary", _echo)) as channel:
        with contextlib.suppress(TypeError):
            await channel.unary_unary("/S/echo")(lambda: None)
            return True
    names = {*dir(grpc.aio.Channel), *dir(grpc.aio.ServicerContext)}
    kinds = {"unary_unary", "unary_stream", "stream_unary", "stream_stream"}
    serves = [name for name in dir(grpc.aio.Channel) if "handler" in name or "servicer" in name]
    calls = kinds & set(dir(grpc.aio.ServicerContext))
    return bool(serves or calls) or not names >= kinds


CHECKS.absent("calls without an answer", "grpc", "oneway", "one_way", "notify_only", "fire_and")
CHECKS.absent("one question to all servers", "grpc", "gather", "broadcast", "scatter")

# -- time and failure --------------------------------------------------------------------------------------


async def _time_left(propagated: bool) -> list[float | None]:
    """The seconds left of a call with 5 s, at its handler, and at one that this calls."""
    left: list[float | None] = []

    async def look(_: bytes, context: Any) -> bytes:
        left.append(context.time_remaining())
        return b""

    async with _linked(look=("unary_unary", look)) as inner:

        async def ask(_: bytes, context: Any) -> bytes:
            left.append(context.time_remaining())
            return bytes(await inner.unary_unary("/S/look")(b""))

        async with _linked(ask=("unary_unary", ask)) as channel:
            await channel.unary_unary("/S/ask")(b"", timeout=5)
    return left[1:] if propagated else left[:1]


@CHECKS.of("the deadline of a call reaches its handler")
async def deadline() -> bool:
    """A handler sees how much time is left of the timeout of its caller."""
    (left,) = await _time_left(propagated=False)
    return left is not None and 0 < left < 6  # it travels as a rounded number


@CHECKS.of("a handler's own calls inherit the deadline")
async def inherited() -> bool:
    """A handler that the handler calls, at another server, sees no deadline."""
    (left,) = await _time_left(propagated=True)
    return left is not None and 0 < left < 6  # it travels as a rounded number


@CHECKS.of("a cancelled call stops its handler")
async def cancellation() -> bool:
    """A handler that sleeps without end is cancelled when the caller cancels."""
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def sleep(_: bytes, __: Any) -> bytes:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return b""

    async with _linked(sleep=("unary_unary", sleep)) as channel:
        call = channel.unary_unary("/S/sleep")(b"")
        waiting = asyncio.ensure_future(_ended(call))
        await begun.wait()
        call.cancel()
        await cancelled.wait()
        await waiting
        return True


async def _ended(call: Any) -> str:
    import grpc

    try:
        await call
    except asyncio.CancelledError:
        return "CANCELLED"
    except grpc.RpcError as error:
        return str(error.code().name)  # type: ignore[attr-defined, unused-ignore]
    return "OK"


@CHECKS.of("a server that goes away fails its calls at once")
async def lost() -> bool:
    """A server stops during a call, without grace; the call fails with UNAVAILABLE or CANCELLED within two seconds."""
    begun = asyncio.Event()

    async def sleep(_: bytes, __: Any) -> bytes:
        begun.set()
        await asyncio.Event().wait()
        return b""

    async with _server(_handlers(sleep=("unary_unary", sleep))) as (server, port), _channel(port) as channel:
        call = channel.unary_unary("/S/sleep")(b"")
        waiting = asyncio.ensure_future(_ended(call))
        await begun.wait()
        await server.stop(None)
        async with asyncio.timeout(2):
            return await waiting in ("UNAVAILABLE", "CANCELLED")


@CHECKS.of("connections come back by themselves")
async def reconnecting() -> bool:
    """A server stops, another begins at its port, and a call of the same channel arrives there."""
    async with _server(_handlers(echo=("unary_unary", _echo))) as (first, port), _channel(port) as channel:
        await channel.unary_unary("/S/echo")(b"1")
        await first.stop(None)
        async with _server(_handlers(echo=("unary_unary", _echo)), port=port):
            return bool(await channel.unary_unary("/S/echo")(b"2", wait_for_ready=True) == b"2")


@CHECKS.of("retries")
async def retries() -> bool:
    """A call that fails twice with UNAVAILABLE succeeds the third time, by the service config alone."""
    import grpc

    attempts = 0

    async def work(_: bytes, context: Any) -> bytes:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
        return bytes([attempts])

    policy = {
        "maxAttempts": 4,
        "initialBackoff": "0.01s",
        "maxBackoff": "0.1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    async with _server(_handlers(work=("unary_unary", work))) as (_, port):
        async with _channel(port, config=_config(retryPolicy=policy)) as channel:
            return bool(await channel.unary_unary("/S/work")(b"") == bytes([3]))


@CHECKS.of("hedging")
async def hedging() -> bool:
    """With a ``hedgingPolicy`` of 0.05 s, a call that takes half a second is still made only once."""
    attempts = 0

    async def work(_: bytes, __: Any) -> bytes:
        nonlocal attempts
        attempts += 1
        await asyncio.sleep(0.5)
        return b""

    policy = {"maxAttempts": 3, "hedgingDelay": "0.05s", "nonFatalStatusCodes": ["UNAVAILABLE"]}
    async with _server(_handlers(work=("unary_unary", work))) as (_, port):
        async with _channel(port, config=_config(hedgingPolicy=policy)) as channel:
            await channel.unary_unary("/S/work")(b"")
    return attempts > 1


@contextlib.asynccontextmanager
async def _two(failing: str = "") -> AsyncIterator[tuple[dict[str, int], tuple[int, int]]]:
    import grpc

    calls = {"one": 0, "two": 0}

    def handlers(name: str) -> Any:
        async def work(_: bytes, context: Any) -> bytes:
            calls[name] += 1
            if name == failing:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "it fails")
            return name.encode()

        return _handlers(work=("unary_unary", work))

    async with _server(handlers("one")) as (_, one), _server(handlers("two")) as (_, two):
        yield calls, (one, two)


@CHECKS.of("failing servers get no calls for a while")
async def breaking() -> bool:
    """Of two servers one fails always; with ``outlier_detection_experimental`` it is called no more after a while."""
    detection = {
        "interval": "0.2s",
        "baseEjectionTime": "30s",
        "maxEjectionPercent": 100,
        "failurePercentageEjection": {"threshold": 50, "minimumHosts": 2, "requestVolume": 2},
        "childPolicy": [{"round_robin": {}}],
    }
    config = {"loadBalancingConfig": [{"outlier_detection_experimental": detection}]}
    async with _two(failing="one") as (calls, ports), _channel(*ports, config=config) as channel:
        work = channel.unary_unary("/S/work")
        for _ in range(20):
            await _ended(work(b""))
        await asyncio.sleep(0.6)
        before = dict(calls)
        for _ in range(20):
            await _ended(work(b""))
        return calls["one"] == before["one"] and calls["two"] == before["two"] + 20 and before["one"] > 0


CHECKS.absent("a repeated call runs once", "grpc", "idempoten", "dedup")
CHECKS.absent("a stream goes on after a lost connection", "grpc", "resum", "cursor")


@CHECKS.of("a server can stop without failing calls")
async def draining() -> bool:
    """A call that runs when its server begins to stop, with a time of grace, ends well."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def work(_: bytes, __: Any) -> bytes:
        begun.set()
        await go_on.wait()
        return b"done"

    async with _server(_handlers(work=("unary_unary", work))) as (server, port), _channel(port) as channel:
        waiting = asyncio.ensure_future(_ended(channel.unary_unary("/S/work")(b"")))
        await begun.wait()
        stopping = asyncio.ensure_future(server.stop(5))
        await asyncio.sleep(0.1)
        go_on.set()
        await stopping
        return await waiting == "OK"


# -- many programs -----------------------------------------------------------------------------------------


@CHECKS.of("calls are shared out among servers")
async def balancing() -> bool:
    """With ``round_robin``, of ten calls each of two servers gets five."""
    config: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}
    async with _two() as (calls, ports), _channel(*ports, config=config) as channel:
        work = channel.unary_unary("/S/work")
        while not all(calls.values()):  # until both are connected
            await work(b"")
        calls.update(one=0, two=0)
        for _ in range(10):
            await work(b"")
        return calls == {"one": 5, "two": 5}


@CHECKS.of("servers are found by name")
async def discovery() -> bool:
    """A channel to ``dns:///localhost`` asks for the addresses, and calls there."""
    import grpc.aio

    async with _server(_handlers(echo=("unary_unary", _echo))) as (_, port):
        async with grpc.aio.insecure_channel(f"dns:///localhost:{port}", options=_OPTIONS) as channel:
            return bool(await channel.unary_unary("/S/echo")(b"hello", wait_for_ready=True) == b"hello")


@CHECKS.of("nothing runs between the programs")
async def brokerless() -> bool:
    """A handler sees the client's own address."""
    seen = []

    async def look(_: bytes, context: Any) -> bytes:
        seen.append(context.peer())
        return b""

    async with _linked(look=("unary_unary", look)) as channel:
        await channel.unary_unary("/S/look")(b"")
    return len(seen) == 1 and seen[0].startswith("ipv4:127.0.0.1:")


# -- data --------------------------------------------------------------------------------------------------


@CHECKS.of("arguments are checked before the handler runs")
async def checked() -> bool:
    """Bytes that are no message of the method's type are refused, and the handler does not run."""
    import grpc
    from grpc_health.v1 import health_pb2

    ran = False

    async def check(_: Any, __: Any) -> bytes:
        nonlocal ran
        ran = True
        return b""

    handler = grpc.unary_unary_rpc_method_handler(check, health_pb2.HealthCheckRequest.FromString)
    handlers = grpc.method_handlers_generic_handler("S", {"check": handler})
    async with _server(handlers) as (_, port), _channel(port) as channel:
        status = await _ended(channel.unary_unary("/S/check")(b"\xff\xff\xff"))
    return status in ("INTERNAL", "UNKNOWN") and not ran


@CHECKS.of("errors have codes and details")
async def errors() -> bool:
    """A code, a message and bytes of details, in a trailer, arrive as they were set."""
    import grpc

    async def buy(_: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.NOT_FOUND, "sold out", (("why-bin", b"\0\1"),))
        return b""

    async with _linked(buy=("unary_unary", buy)) as channel:
        try:
            await channel.unary_unary("/S/buy")(b"")
        except grpc.aio.AioRpcError as error:
            trailers = dict(error.trailing_metadata())
            return (error.code().name, error.details(), trailers["why-bin"]) == (
                "NOT_FOUND",
                "sold out",
                b"\0\1",
            )
        return False


@CHECKS.of("headers beside the arguments")
async def metadata() -> bool:
    """A header arrives with the call, and a trailer with its result."""

    async def user(_: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("seen", "yes"),))
        return str(dict(context.invocation_metadata())["user"]).encode()

    async with _linked(user=("unary_unary", user)) as channel:
        call = channel.unary_unary("/S/user")(b"", metadata=(("user", "ann"),))
        return await call == b"ann" and dict(await call.trailing_metadata())["seen"] == "yes"


@CHECKS.of("numpy arrays are arguments, and travel as buffers")
async def arrays() -> bool:
    """A message has to be ``bytes``: an array is refused."""
    import numpy as np

    async with _linked(echo=("unary_unary", _echo)) as channel:
        try:
            await channel.unary_unary("/S/echo")(np.zeros(1000))
        except TypeError:
            return False
        return True


# -- operation ---------------------------------------------------------------------------------------------


@CHECKS.of("code around all calls, of both sides")
async def interceptors() -> bool:
    """One interceptor is around a handler, and one around its call."""
    import grpc.aio

    seen = []

    class Serving(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation: Any, details: Any) -> Any:
            seen.append(details.method)
            return await continuation(details)

    class Calling(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            seen.append(details.method)
            return await continuation(details, request)

    handlers = _handlers(echo=("unary_unary", _echo))
    async with _server(handlers, interceptors=[Serving()]) as (_, port):
        async with _channel(port, interceptors=[Calling()]) as channel:
            await channel.unary_unary("/S/echo")(b"")
    return [name if isinstance(name, str) else name.decode() for name in seen] == ["/S/echo"] * 2


@CHECKS.of("health checks")
async def health() -> bool:
    """A service is made ill, and its health, of grpcio-health-checking, says so."""
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc

    async with _server() as (server, port), _channel(port) as channel:
        servicer = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        stub = health_pb2_grpc.HealthStub(channel)
        seen = []
        for status in ("SERVING", "NOT_SERVING"):
            await servicer.set("calc", getattr(health_pb2.HealthCheckResponse, status))
            reply = await stub.Check(health_pb2.HealthCheckRequest(service="calc"))
            seen.append(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))
        return seen == ["SERVING", "NOT_SERVING"]


@CHECKS.of("a server tells what it offers")
async def reflection() -> bool:
    """With grpcio-reflection a server lists its services."""
    from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

    async with _server() as (server, port), _channel(port) as channel:
        reflection.enable_server_reflection(("S", reflection.SERVICE_NAME), server)
        question = reflection_pb2.ServerReflectionRequest(list_services="")
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([question]))
        async for reply in call:
            return "S" in [service.name for service in reply.list_services_response.service]
        return False


@CHECKS.of("calls are counted, by method")
async def statistics() -> Answer:
    """With grpcio-channelz a server tells how many calls it had, and how many failed, of all methods together."""
    from grpc_channelz.v1 import channelz, channelz_pb2, channelz_pb2_grpc

    handlers = _handlers(echo=("unary_unary", _echo))
    async with (
        _server(handlers, options=[("grpc.enable_channelz", 1)]) as (server, port),
        _channel(port) as channel,
    ):
        channelz.add_channelz_servicer(server)
        await channel.unary_unary("/S/echo")(b"")
        stub = channelz_pb2_grpc.ChannelzStub(channel)
        reply = await stub.GetServers(channelz_pb2.GetServersRequest(start_server_id=0))
        counted = [one for one in reply.server if one.data.calls_succeeded >= 1]
        return answer(yes=False, part=bool(counted))


@CHECKS.of("encryption", "callers are authenticated")
async def certificates() -> bool:
    """Over TLS, a handler knows the caller by the name in its certificate; who has none gets no answer."""
    import grpc.aio
    import trustme

    authority = trustme.CA()
    own, callers = authority.issue_cert("localhost"), authority.issue_cert("ann.example")

    def pair(certificate: Any) -> tuple[bytes, bytes]:
        chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
        return certificate.private_key_pem.bytes(), chain

    async def who(_: bytes, context: Any) -> bytes:
        return bytes(context.auth_context()["x509_subject_alternative_name"][0])

    trusted = authority.cert_pem.bytes()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_handlers(who=("unary_unary", who)),))
    credentials = grpc.ssl_server_credentials([pair(own)], trusted, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        key, chain = pair(callers)
        target = f"localhost:{port}"
        known, unknown = (
            grpc.ssl_channel_credentials(trusted, key, chain),
            grpc.ssl_channel_credentials(trusted),
        )
        async with grpc.aio.secure_channel(target, known) as channel:
            name = await channel.unary_unary("/S/who")(b"")
        async with grpc.aio.secure_channel(target, unknown) as channel:
            refused = await _ended(channel.unary_unary("/S/who")(b"", timeout=2))
    finally:
        await server.stop(None)
    return name == b"ann.example" and refused in ("UNAVAILABLE", "DEADLINE_EXCEEDED")


CHECKS.absent("publish and subscribe", "grpc", "publish", "subscriber")
CHECKS.absent("messages for one of a group", "grpc", "queue_group", "publish")
CHECKS.absent("persistent messages", "grpc", "persistent", "durable")
CHECKS.absent("trio", "grpc", "trio")
