"""What nats-py does, through a nats-server of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks.features._broker import broker
from benchmarks.features._checks import Answer, Checks, answer

_SECONDS = 20.0


def _run(check: Callable[[], Awaitable[Any]]) -> Any:
    async def within_limits() -> Any:
        async with asyncio.timeout(_SECONDS):
            return await check()

    return asyncio.run(within_limits())


CHECKS = Checks(_run)


@contextlib.asynccontextmanager
async def _connections(number: int = 2, config: str = "", **options: Any) -> AsyncIterator[list[Any]]:
    import nats

    async def unheeded(_: Exception) -> None:
        """Errors that a check looks for it finds elsewhere."""

    async with broker(config) as address, contextlib.AsyncExitStack() as stack:
        made = []
        for _ in range(number):
            connection = await nats.connect(address, **{"error_cb": unheeded, **options})
            stack.push_async_callback(connection.close)
            made.append(connection)
        yield made


async def _settle(connection: Any) -> None:
    """Wait until the server has processed what the client has sent so far."""
    for _ in range(2):  # the first ping of a flush goes out before what is still pending
        await connection.flush()


async def _serve(
    connection: Any, subject: str, function: Callable[[Any], Awaitable[None]], **more: Any
) -> None:
    async def handler(message: Any) -> None:
        await function(message)

    await connection.subscribe(subject, cb=handler, **more)
    await _settle(connection)


async def _until(condition: Callable[[], bool]) -> None:
    while True:
        if condition():
            return
        await asyncio.sleep(0.01)


# -- calls -------------------------------------------------------------------------------------------------


@CHECKS.of("unary calls", "asyncio", "either end of a connection calls the other")
async def unary() -> bool:
    """Each of two programs answers a request of the other, over the connection that it has."""
    async with _connections() as pair:
        replies = []
        for subject, one, other in (("first", *pair), ("second", *pair[::-1])):
            await _serve(one, subject, lambda message: message.respond(message.data))
            replies.append((await other.request(subject, subject.encode())).data)
        return replies == [b"first", b"second"]


@CHECKS.of("streams of results")
async def results() -> Answer:
    """Several replies to one request arrive; that there are no more is for the programs to say."""

    async with _connections() as (server, client):

        async def count(message: Any) -> None:
            for number in range(3):
                await message.respond(bytes([number]))

        await _serve(server, "count", count)
        inbox = client.new_inbox()
        replies = await client.subscribe(inbox)
        await client.publish("count", b"", reply=inbox)
        received = [(await replies.next_msg(timeout=5)).data[0] for _ in range(3)]
        try:
            await replies.next_msg(timeout=0.3)
        except TimeoutError:
            return answer(yes=False, part=received == [0, 1, 2])
        return "yes"


@CHECKS.of("streams of arguments", "streams both ways at once")
async def arguments() -> Answer:
    """A request has one message; more of them have to go to a subject on which the programs agree."""
    async with _connections() as (server, client):
        seen = []

        async def take(message: Any) -> None:
            seen.append(message.data)
            await message.respond(message.data)

        await _serve(server, "take", take)
        inbox = client.new_inbox()
        replies = await client.subscribe(inbox)
        for word in (b"a", b"b"):
            await client.publish("take", word, reply=inbox)
        answers = [(await replies.next_msg(timeout=5)).data for _ in range(2)]
        lists = hasattr(client, "request_many") or hasattr(client, "open_stream")
        return answer(yes=lists, part=seen == answers == [b"a", b"b"])


@CHECKS.of("a fast sender waits for a slow reader")
async def flow_control() -> Answer:
    """A subscriber that reads nothing loses messages; a consumer of JetStream loses none, as it pulls them."""
    from nats.errors import SlowConsumerError

    lost: list[Exception] = []

    async def note(error: Exception) -> None:
        lost.append(error)

    async with _connections(error_cb=note) as (publisher, reader):
        await reader.subscribe("news", pending_msgs_limit=10)
        await _settle(reader)
        stream = publisher.jetstream()
        await stream.add_stream(name="KEPT", subjects=["kept"])
        for number in range(100):
            await publisher.publish("news", b"")
            await stream.publish("kept", bytes([number]))
        await _until(lambda: bool(lost))
        puller = await reader.jetstream().pull_subscribe("kept", "reader")
        pulled: list[Any] = []
        while len(pulled) < 100:
            pulled += await puller.fetch(10, timeout=5)
        dropped = any(isinstance(error, SlowConsumerError) for error in lost)
        return answer(yes=not dropped, part=[message.data[0] for message in pulled] == list(range(100)))


@CHECKS.of("callbacks as arguments", "channels as values")
async def values() -> Answer:
    """A function is no message; the name of a subject is, and can be called back, or listened to."""
    async with _connections() as (server, client):
        with contextlib.suppress(TypeError):
            await client.publish("visit", lambda: None)
            return "yes"
        called: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def visit(message: Any) -> None:
            await server.publish(message.data.decode(), b"called back")

        async def back(message: Any) -> None:
            called.set_result(message.data)

        await _serve(server, "visit", visit)
        inbox = client.new_inbox()
        await _serve(client, inbox, back)
        await client.publish("visit", inbox.encode())
        return answer(yes=False, part=await called == b"called back")


@CHECKS.of("calls without an answer", "publish and subscribe")
async def publish() -> bool:
    """What one publishes arrives at two subscribers."""
    async with _connections(3) as (publisher, *others):
        subscriptions = [await other.subscribe("news.*") for other in others]
        for other in others:
            await _settle(other)
        await publisher.publish("news.today", b"rain")
        return all([(await one.next_msg(timeout=5)).data == b"rain" for one in subscriptions])


@CHECKS.of("messages for one of a group", "calls are shared out among servers")
async def queue_group() -> bool:
    """Of twenty requests each is answered by one of two subscribers of a queue group, and neither gets all."""
    async with _connections(3) as (client, *servers):
        counts = [0, 0]

        def server(number: int) -> Callable[[Any], Awaitable[None]]:
            async def work(message: Any) -> None:
                counts[number] += 1
                await message.respond(b"")

            return work

        for number, connection in enumerate(servers):
            await _serve(connection, "work", server(number), queue="workers")
        for _ in range(20):
            await client.request("work", b"")
        return sum(counts) == 20 and all(counts)


@CHECKS.of("one question to all servers")
async def gather() -> Answer:
    """Two servers answer one question; how many there are to wait for the client does not learn."""
    async with _connections(3) as (client, *servers):
        for connection in servers:
            await _serve(connection, "who", lambda message: message.respond(b"me"))
        inbox = client.new_inbox()
        replies = await client.subscribe(inbox)
        await client.publish("who", b"", reply=inbox)
        answers = [(await replies.next_msg(timeout=5)).data for _ in range(2)]
        return answer(yes=hasattr(client, "request_many"), part=answers == [b"me", b"me"])


@CHECKS.of("persistent messages")
async def persistence() -> bool:
    """A message waits in JetStream for a reader who comes later."""
    async with _connections() as (publisher, reader):
        stream = publisher.jetstream()
        await stream.add_stream(name="ORDERS", subjects=["orders"])
        await stream.publish("orders", b"1 tea")
        puller = await reader.jetstream().pull_subscribe("orders", "late")
        (message,) = await puller.fetch(1, timeout=5)
        return bool(message.data == b"1 tea")


# -- time and failure --------------------------------------------------------------------------------------


@CHECKS.of(
    "the deadline of a call reaches its handler",
    "a handler's own calls inherit the deadline",
    "a cancelled call stops its handler",
)
async def deadlines() -> bool:
    """A request has a timeout, of which its message says nothing; after it, and after a cancellation, the handler runs on."""
    ended: asyncio.Queue[bool] = asyncio.Queue()

    async with _connections() as (server, client):

        async def work(message: Any) -> None:
            stopped = bool(message.headers)
            try:
                await asyncio.sleep(0.5)
            except asyncio.CancelledError:
                stopped = True
            ended.put_nowait(stopped)

        await _serve(server, "work", work)
        with contextlib.suppress(TimeoutError):
            await client.request("work", b"", timeout=0.1)
        first = await ended.get()
        waiting = asyncio.ensure_future(client.request("work", b"", timeout=5))
        await asyncio.sleep(0.1)
        waiting.cancel()
        return first or await ended.get()


@CHECKS.of("a server that goes away fails its calls at once")
async def lost() -> Answer:
    """A request to nobody fails at once; one whose server goes away while it works waits for its timeout."""
    from nats.errors import NoRespondersError

    async with _connections() as (server, client):
        try:
            await client.request("work", b"", timeout=5)
        except NoRespondersError:
            pass
        begun = asyncio.Event()

        async def work(_: Any) -> None:
            begun.set()

        await _serve(server, "work", work)
        waiting = asyncio.ensure_future(client.request("work", b"", timeout=2))
        await begun.wait()
        await server.close()
        async with asyncio.timeout(5):
            try:
                await waiting
            except TimeoutError:
                return "part"
            except NoRespondersError:
                return "yes"
        return "no"


@CHECKS.of("connections come back by themselves")
async def reconnecting() -> bool:
    """A client's connection is cut, and a moment later its subscription is there again."""
    async with _connections(reconnect_time_wait=0.05) as (publisher, subscriber):
        subscription = await subscriber.subscribe("news")
        await _settle(subscriber)
        subscriber._transport.close()
        await _until(lambda: subscriber.stats["reconnects"] > 0)
        await _settle(subscriber)
        await publisher.publish("news", b"rain")
        return bool((await subscription.next_msg(timeout=5)).data == b"rain")


@CHECKS.of("retries")
async def retries() -> Answer:
    """A request that is refused is not made again; a message of JetStream that is refused is delivered again."""
    attempts = 0

    async with _connections() as (server, client):

        async def work(message: Any) -> None:
            nonlocal attempts
            attempts += 1
            await server.publish(message.reply, b"", headers={"Nats-Service-Error-Code": "503"})

        await _serve(server, "work", work)
        await client.request("work", b"", timeout=5)
        stream = client.jetstream()
        await stream.add_stream(name="JOBS", subjects=["jobs"])
        await stream.publish("jobs", b"1")
        puller = await server.jetstream().pull_subscribe("jobs", "worker")
        (message,) = await puller.fetch(1, timeout=5)
        await message.nak()
        (again,) = await puller.fetch(1, timeout=5)
        return answer(yes=attempts > 1, part=again.metadata.num_delivered == 2)


CHECKS.absent("hedging", "nats", "hedg")
CHECKS.absent("failing servers get no calls for a while", "nats", "breaker", "outlier", "eject")


@CHECKS.of("a repeated call runs once")
async def idempotency() -> Answer:
    """Of two messages with one id JetStream keeps one; requests have no such thing."""
    async with _connections(1) as (client,):
        stream = client.jetstream()
        await stream.add_stream(name="ORDERS", subjects=["orders"])
        acks = [await stream.publish("orders", b"1", headers={"Nats-Msg-Id": "17"}) for _ in range(2)]
        return answer(yes=False, part=[bool(ack.duplicate) for ack in acks] == [False, True])


@CHECKS.of("a stream goes on after a lost connection")
async def resuming() -> Answer:
    """A reader that comes back to its durable consumer of JetStream goes on behind what it has acknowledged."""
    async with _connections(3) as (publisher, first, second):
        stream = publisher.jetstream()
        await stream.add_stream(name="NEWS", subjects=["news"])
        for number in range(4):
            await stream.publish("news", bytes([number]))
        received = []
        for connection in (first, second):
            puller = await connection.jetstream().pull_subscribe("news", "reader")
            for message in await puller.fetch(2, timeout=5):
                received.append(message.data[0])
                await message.ack_sync()
            await connection.close()
        return answer(yes=False, part=received == [0, 1, 2, 3])


@CHECKS.of("a server can stop without failing calls")
async def draining() -> bool:
    """A request that is being worked on when its server begins to drain is answered."""
    async with _connections() as (server, client):
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def work(message: Any) -> None:
            begun.set()
            await go_on.wait()
            await message.respond(b"done")

        await _serve(server, "work", work)
        waiting = asyncio.ensure_future(client.request("work", b"", timeout=5))
        await begun.wait()
        draining = asyncio.ensure_future(server.drain())
        await asyncio.sleep(0.1)
        go_on.set()
        result = (await waiting).data
        await draining
        return bool(result == b"done")


# -- many programs -----------------------------------------------------------------------------------------


@CHECKS.of("servers are found by name")
async def discovery() -> bool:
    """A client that knows the broker alone calls a subject, wherever that is served."""
    async with _connections() as (server, client):
        await _serve(server, "calc.add", lambda message: message.respond(b"3"))
        return bool((await client.request("calc.add", b"1 2")).data == b"3")


@CHECKS.of("nothing runs between the programs")
async def brokerless() -> bool:
    """Without a server nobody can connect to anybody: nats-py listens nowhere."""
    from benchmarks.features._names import names_with

    return bool(names_with("nats", ["start_server", "create_server", "listen"]))


# -- data --------------------------------------------------------------------------------------------------


@CHECKS.of("arguments are checked before the handler runs", "type checkers know the methods")
async def checked() -> bool:
    """Whatever bytes are sent come to the handler; a request takes nothing else."""
    async with _connections() as (server, client):
        await _serve(server, "add", lambda message: message.respond(message.data))
        return bool((await client.request("add", b"\xff no numbers")).data != b"\xff no numbers")


@CHECKS.of("headers beside the arguments")
async def metadata() -> bool:
    """A header arrives with a request, and one with its reply."""
    async with _connections() as (server, client):
        await _serve(
            server,
            "who",
            lambda message: server.publish(message.reply, b"", headers={"seen": message.headers["user"]}),
        )
        reply = await client.request("who", b"", headers={"user": "ann"})
        return bool(reply.headers == {"seen": "ann"})


@CHECKS.of("numpy arrays are arguments, and travel as buffers")
async def arrays() -> bool:
    """An array of bytes is refused as a message, or arrives as ``bytes``."""
    import numpy as np

    async with _connections() as (server, client):
        kinds = []

        async def take(message: Any) -> None:
            kinds.append(type(message.data))
            await message.respond(b"")

        await _serve(server, "take", take)
        try:
            await client.request("take", np.zeros(1000, np.uint8))
        except TypeError:
            return False
        return kinds == [np.ndarray]


# -- operation ---------------------------------------------------------------------------------------------

CHECKS.absent("code around all calls, of both sides", "nats", "middleware", "intercept")


@contextlib.asynccontextmanager
async def _service() -> AsyncIterator[Any]:
    from nats import micro
    from nats.micro.request import ServiceError

    async with _connections() as (server, client):

        async def add(request: Any) -> None:
            if request.data == b"bad":
                await request.respond_error("400", "bad numbers", data=b"details")
            elif request.data == b"worse":
                raise ServiceError("500", "it fails")
            else:
                await request.respond(b"3")

        service = await micro.add_service(server, name="calc", version="1.2.3")
        await service.add_endpoint(name="add", handler=add)
        await _settle(server)
        try:
            yield client
        finally:
            await service.stop()


async def _asked(client: Any, verb: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((await client.request(f"$SRV.{verb}.calc", b"")).data)
    return told


@CHECKS.of("errors have codes and details")
async def errors() -> bool:
    """A service of ``nats.micro`` answers with a code, a message and bytes of details."""
    async with _service() as client:
        reply = await client.request("add", b"bad")
        told = (reply.headers["Nats-Service-Error-Code"], reply.headers["Nats-Service-Error"], reply.data)
        return bool(told == ("400", "bad numbers", b"details"))


@CHECKS.of("health checks")
async def health() -> Answer:
    """A service of ``nats.micro`` answers a ping; nothing of it says whether it is well."""
    async with _service() as client:
        told = await _asked(client, "PING")
        return answer(yes="status" in told or "health" in told, part=told["name"] == "calc")


@CHECKS.of("a server tells what it offers")
async def reflection() -> Answer:
    """A service of ``nats.micro`` tells its endpoints, without the types of what they take."""
    async with _service() as client:
        (endpoint,) = (await _asked(client, "INFO"))["endpoints"]
        return answer(yes="schema" in endpoint, part=endpoint["name"] == "add")


@CHECKS.of("calls are counted, by method")
async def statistics() -> bool:
    """A service of ``nats.micro`` counts requests, errors and times of an endpoint, and tells them."""
    async with _service() as client:
        await client.request("add", b"")
        await client.request("add", b"worse")
        (endpoint,) = (await _asked(client, "STATS"))["endpoints"]
        return (endpoint["num_requests"], endpoint["num_errors"]) == (2, 1) and endpoint[
            "processing_time"
        ] > 0


@CHECKS.of("encryption")
async def encryption() -> bool:
    """A client connects over TLS, and one that does not trust the server's certificate does not."""
    import nats
    import trustme

    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    with tempfile.TemporaryDirectory() as directory:
        key, chain = Path(directory) / "key.pem", Path(directory) / "chain.pem"
        certificate.private_key_pem.write_to_path(str(key))
        for number, blob in enumerate(certificate.cert_chain_pems):
            blob.write_to_path(str(chain), append=number > 0)
        async with broker(f'tls: {{cert_file: "{chain}", key_file: "{key}"}}') as address:
            trusting = ssl.create_default_context()
            authority.configure_trust(trusting)
            address = address.replace("127.0.0.1", "localhost")
            connection = await nats.connect(address, tls=trusting)
            encrypted = connection._transport._io_writer.get_extra_info("cipher") is not None
            await connection.close()
            try:
                await nats.connect(
                    address, tls=ssl.create_default_context(), allow_reconnect=False, error_cb=_unheeded
                )
            except (ssl.SSLError, nats.errors.Error, OSError):
                return encrypted
            return False


async def _unheeded(_: Exception) -> None:
    """The error is raised as well."""


@CHECKS.of("callers are authenticated")
async def authentication() -> bool:
    """A user with a wrong password is refused, and the right one may use the subjects that are his alone."""
    import nats

    users = '{user: ann, password: pw, permissions: {publish: ["open"]}}'
    async with broker(f"authorization: {{users: [{users}]}}") as address:
        try:
            await nats.connect(address, user="ann", password="no", allow_reconnect=False, error_cb=_unheeded)
        except nats.errors.Error:
            pass
        else:
            return False
        errors: list[Exception] = []

        async def note(error: Exception) -> None:
            errors.append(error)

        connection = await nats.connect(address, user="ann", password="pw", error_cb=note)
        await connection.publish("open", b"")
        await connection.publish("closed", b"")
        await _settle(connection)
        await _until(lambda: bool(errors))
        await connection.close()
        return len(errors) == 1 and "ermissions" in str(errors[0])


CHECKS.absent("trio", "nats", "trio")
