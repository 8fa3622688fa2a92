"""How the different kinds of functions are run, and what they see."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from tests.engine.helpers import collect, linked, outcome, until
from tests.machine import fail_after

handlers = duplex.Service("handlers")


@handlers.rpc
def thread_of_plain() -> list[Any]:
    return [threading.get_ident(), duplex.current_call().method]


@handlers.rpc
def threads_of_generator(count: int) -> Iterator[list[Any]]:
    for _ in range(count):
        yield [threading.get_ident(), duplex.current_call().method]


@handlers.rpc(inline=True)
def thread_of_inline() -> list[Any]:
    return [threading.get_ident(), duplex.current_call().method]


@handlers.rpc(inline=True)
def threads_of_inline_generator(count: int) -> Iterator[int]:
    for _ in range(count):
        yield threading.get_ident()


@handlers.rpc
async def thread_of_async() -> int:
    return threading.get_ident()


async def test_plain_function_runs_in_a_thread() -> None:
    async with linked(handlers) as pair:
        ident, method = await pair.service("handlers").thread_of_plain()
        assert ident != threading.get_ident()
        assert method == "handlers.thread_of_plain"


async def test_plain_generator_runs_in_threads() -> None:
    async with linked(handlers) as pair:
        async with pair.service("handlers").threads_of_generator.open(3) as call:
            seen = await collect(call)
        assert len(seen) == 3
        assert all(ident != threading.get_ident() for ident, _ in seen)
        assert {method for _, method in seen} == {"handlers.threads_of_generator"}


@pytest.mark.one_process("compares threads")
async def test_inline_runs_on_the_event_loop() -> None:
    async with linked(handlers) as pair:
        remote = pair.service("handlers")
        ident = threading.get_ident()
        assert await remote.thread_of_inline() == [ident, "handlers.thread_of_inline"]
        assert await remote.thread_of_async() == ident
        async with remote.threads_of_inline_generator.open(2) as call:
            assert await collect(call) == [ident, ident]


async def test_async_generator_is_closed_when_the_caller_leaves() -> None:
    closed = trio.Event()
    service = duplex.Service("service")

    @service.rpc
    async def forever() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    async with linked(service) as pair:
        async with pair.service("service").forever.open() as call:
            assert await call.receive() == 1
        await closed.wait()


async def test_plain_generator_is_closed_when_the_caller_leaves() -> None:
    closed = threading.Event()
    service = duplex.Service("service")

    @service.rpc
    def forever() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    async with linked(service) as pair:
        async with pair.service("service").forever.open() as call:
            assert await call.receive() == 1
        await until(closed.is_set)


async def test_cancelling_a_generator_that_blocks_in_its_thread(caplog: pytest.LogCaptureFixture) -> None:
    """The generator cannot be closed while its thread is in it; nothing may be made of that."""
    entered, go, closed = threading.Event(), threading.Event(), threading.Event()
    service = duplex.Service("service")

    @service.rpc
    def blocked() -> Iterator[int]:
        try:
            entered.set()
            go.wait(5)
            yield 1
        finally:
            closed.set()

    async with linked(service) as pair:
        async with pair.service("service").blocked.open():
            await until(entered.is_set)
        await until(lambda: not pair.back.statistics().incoming)
        go.set()
        await until(closed.is_set)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def test_cancelling_a_plain_function_answers_at_once() -> None:
    entered, go = threading.Event(), threading.Event()
    service = duplex.Service("service")

    @service.rpc
    def blocked() -> None:
        entered.set()
        go.wait(5)

    async with linked(service) as pair:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pair.service("service").blocked)
                await until(entered.is_set)
                scope.cancel()
        await until(lambda: not pair.back.statistics().incoming)
        assert not go.is_set()
        go.set()


async def test_threads_are_limited() -> None:
    lock = threading.Lock()
    running, most = 0, 0
    full, go = threading.Event(), threading.Event()
    service = duplex.Service("service")

    @service.rpc
    def busy() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if running == 2:
                full.set()
        go.wait(5)
        with lock:
            running -= 1

    async with linked(service, server={"max_threads": 2}) as pair:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(pair.service("service").busy)
            await until(full.is_set)
            await pair.settle()
            go.set()
    assert most == 2


async def test_generator_that_waits_for_a_thread_can_be_given_up() -> None:
    """It never began, so there is nothing that would need a thread to be closed."""
    entered, go = threading.Event(), threading.Event()
    service = duplex.Service("service")

    @service.rpc
    def blocked() -> None:
        entered.set()
        go.wait(5)

    @service.rpc
    def numbers() -> Iterator[int]:
        yield 1

    async with linked(service, server={"max_threads": 1}) as pair:
        async with pair.service("service").blocked.open():
            await until(entered.is_set)
            async with pair.service("service").numbers.open():
                await pair.settle()
                assert pair.back.statistics().incoming == 2
            with trio.move_on_after(0.5) as scope:
                await until(lambda: pair.back.statistics().incoming == 1)
            go.set()
            assert not scope.cancelled_caught
    assert go.is_set()


async def test_abandoned_threads_keep_their_place() -> None:
    """Callers that give up do not make the server start more threads than it may."""
    entered, go = threading.Semaphore(0), threading.Event()
    service = duplex.Service("service")

    @service.rpc
    def blocked() -> None:
        entered.release()
        go.wait(5)

    async with linked(service, server={"max_threads": 1}) as pair:
        for _ in range(3):
            async with pair.service("service").blocked.open():
                await pair.settle()
        assert pair.server._inside.threads.running == 1
        assert entered.acquire(timeout=5)
        assert not entered.acquire(blocking=False)
        go.set()
        await until(lambda: pair.server._inside.threads.running == 0)


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def test_every_handler_sees_the_context_that_the_peer_was_opened_in() -> None:
    """A worker that is new and one that has served before must not differ in this."""
    service = duplex.Service("service")

    @service.rpc
    async def look() -> str:
        return variable.get()

    @service.rpc
    async def spoil() -> None:
        variable.set("spoilt")

    @service.rpc(inline=True)
    def look_inline() -> str:
        return variable.get()

    token = variable.set("open")
    try:
        async with duplex.open_peer(services=[service]) as server, duplex.open_peer() as client:
            with fail_after(5):
                variable.set("bind")
                await client.connect(await server.bind("memory://*"))
                remote = client.service("service")
                assert await remote.look_inline() == "open"
                seen = [await remote.look()]
                await remote.spoil()
                seen += [await remote.look(), await remote.look_inline()]
                assert seen == ["open"] * 3
    finally:
        variable.reset(token)


async def test_current_call_in_child_tasks_and_nowhere_else() -> None:
    service = duplex.Service("service")
    methods: list[str] = []

    @service.rpc
    async def parent() -> None:
        async def child() -> None:
            methods.append(duplex.current_call().method)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)

    async with linked(service) as pair:
        await pair.service("service").parent()
        with pytest.raises(RuntimeError, match="only inside a handler"):
            duplex.current_call()
    assert methods == ["service.parent"]


async def test_current_call_tells_everything() -> None:
    service = duplex.Service("service")
    seen: dict[str, Any] = {}

    @service.rpc
    async def look() -> None:
        call = duplex.current_call()
        call.state["key"] = 1
        seen.update(
            method=call.method,
            peer=call.peer,
            metadata=dict(call.metadata),
            trailers=dict(call.trailers),
            deadline=call.deadline,
            remaining=call.time_remaining,
            state=call.state,
            link=call.link,
            again=duplex.current_call() is call,
        )

    async with linked(service) as pair:
        with trio.fail_after(5):
            await pair.service("service").with_options(metadata={"a": "b"}).look()
        assert seen == {
            "method": "service.look",
            "peer": duplex.PeerInfo(pair.client.id, "client"),
            "metadata": {"a": "b"},
            "trailers": {},
            "deadline": seen["deadline"],
            "remaining": seen["remaining"],
            "state": {"key": 1},
            "link": pair.back,
            "again": True,
        }
        assert 0 < seen["remaining"] <= 5
        assert str(seen["peer"]) == "client"
        assert str(duplex.PeerInfo("id", "")) == "id"


async def test_exposed_object_keeps_its_state() -> None:
    class Counter:
        def __init__(self, start: int) -> None:
            self.value = start

        @duplex.rpc
        async def step(self, by: int = 1) -> int:
            self.value += by
            return self.value

        @duplex.rpc(name="value", inline=True)
        def get(self) -> int:
            return self.value

        async def secret(self) -> None:
            """Not decorated, so not callable from elsewhere."""

    async with linked() as pair:
        service = pair.server.expose(Counter(10), version="2.0.0")
        assert (service.name, service.version) == ("counter", "2.0.0")
        pair.server.expose(Counter(100), name="other")
        await pair.settle()
        remote = pair.service("counter")
        assert await remote.step() == 11
        assert await remote.step(by=5) == 16
        assert await remote.value() == 16
        assert await pair.service("other").step() == 101
        for name in ("secret", "get", "__init__"):
            with pytest.raises(duplex.Unimplemented):
                await remote[name]()


async def test_exposed_module() -> None:
    from types import ModuleType

    module = ModuleType("tools")

    @duplex.rpc
    async def answer() -> int:
        return 42

    module.answer = answer  # type: ignore[attr-defined]
    async with linked() as pair:
        assert pair.server.expose(module, name="tools").name == "tools"
        await pair.settle()
        assert await pair.service("tools").answer() == 42


async def test_more_calls_than_workers_are_kept() -> None:
    from duplex.engine.tasks._workers import MAX_IDLE_WORKERS

    go = trio.Event()
    service = duplex.Service("service")

    @service.rpc
    async def wait() -> None:
        await go.wait()

    async with linked(service) as pair:
        async with trio.open_nursery() as nursery:
            for _ in range(MAX_IDLE_WORKERS + 20):
                nursery.start_soon(pair.service("service").wait)
            await pair.settle()
            assert pair.back.statistics().incoming == MAX_IDLE_WORKERS + 20
            go.set()
        assert len(pair.server._inside.workers._idle) == MAX_IDLE_WORKERS


async def test_inline_function_that_returns_live_values() -> None:
    """It may return what any other may."""
    service = duplex.Service("service")

    @service.rpc(inline=True)
    def function() -> Any:
        return lambda number: number + 1

    @service.rpc(inline=True)
    def channel() -> Any:
        sink, source = trio.open_memory_channel[int](10)
        with sink:
            for number in range(3):
                sink.send_nowait(number)
        return source

    async with linked(service) as pair:
        async with pair.service("service").function.open() as call:
            assert await (await call.result())(1) == 2
        async with pair.service("service").channel.open() as call:
            assert await collect(await call.result()) == [0, 1, 2]


async def test_handler_that_closes_its_own_link() -> None:
    service = duplex.Service("service")

    @service.rpc
    async def leave() -> str:
        link: Any = duplex.current_call().link
        await link.aclose()
        return "nobody hears this"

    async with linked(service, check=False) as pair:
        with pytest.raises(duplex.PeerLost):
            await pair.link.service("service").leave()
        await until(lambda: not pair.link.is_open)
        assert await pair.service("duplex.health").check() == "SERVING", "it has connected again"


@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.plain_wire("the calls have to come in one message")
async def test_handler_that_closes_its_own_peer(inline: bool) -> None:
    service = duplex.Service("service")
    closing: list[duplex.Peer] = []

    async def leave() -> None:
        await closing[0].aclose()

    def leave_inline() -> None:
        closing[0]._inside.close()

    service.add(leave_inline if inline else leave, name="leave", inline=inline)
    async with linked(service, check=False) as pair:
        closing.append(pair.server)
        results: list[Any] = []

        async def call() -> None:
            results.append(await outcome(pair.link.service("service").leave()))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(call)
        assert [type(result) for result in results] == [duplex.PeerLost] * 3
        assert pair.server.links == []


@pytest.mark.parametrize("where", ["async", "inline", "group"])
async def test_keyboard_interrupt_is_not_an_error_of_the_handler(where: str) -> None:
    """Whoever presses Ctrl-C means the program."""
    service = duplex.Service("service")

    async def interrupted() -> None:
        if where == "group":
            raise BaseExceptionGroup("", [KeyboardInterrupt(), ValueError()])
        raise KeyboardInterrupt

    def interrupted_inline() -> None:
        raise KeyboardInterrupt

    service.add(
        interrupted_inline if where == "inline" else interrupted, name="stop", inline=where == "inline"
    )
    caught: BaseException | None = None
    try:
        async with duplex.open_peer() as client, duplex.open_peer(services=[service]) as server:
            with fail_after(5):
                await client.connect(await server.bind("memory://*"))
                await client.service("service").stop()
    except BaseException as error:
        caught = error
    while isinstance(caught, BaseExceptionGroup):
        caught = caught.exceptions[0]
    assert isinstance(caught, KeyboardInterrupt)


async def test_plain_function_calls_back_from_its_thread() -> None:
    """With trio's own bridge, as any code in a thread does."""
    service = duplex.Service("service")
    home = duplex.Service("home")

    @home.rpc
    async def where() -> str:
        return duplex.current_call().peer.name

    @service.rpc
    def ask(function: duplex.Callback[[int], int]) -> list[Any]:
        link: Any = duplex.current_call().link
        return [
            trio.from_thread.run(link.service("home").where),
            trio.from_thread.run(function, 20),
            duplex.current_call().method,
        ]

    async with linked(service, offers=[home]) as pair:
        assert await pair.service("service").ask(lambda n: n + 1) == ["server", 21, "service.ask"]


@pytest.mark.parametrize("scheme", ["tcp", "inproc"])
async def test_peers_of_two_event_loops_in_one_process(scheme: str) -> None:
    """One of them in a thread of its own."""
    endpoint: list[str] = []
    bound, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        async with duplex.open_peer(services=[handlers], name="elsewhere") as server:
            endpoint.append(await server.bind("tcp://127.0.0.1:*" if scheme == "tcp" else "inproc://*"))
            bound.set()
            await until(stop.is_set)

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    try:
        with fail_after(5):
            await until(bound.is_set)
            async with duplex.open_peer() as client:
                link = await client.connect(endpoint[0])
                assert link.peer_name == "elsewhere"
                for _ in range(20):
                    assert await client.service("handlers").thread_of_async() == thread.ident
    finally:
        stop.set()
        thread.join(5)


async def test_names_need_not_be_ascii() -> None:
    service = duplex.Service("größe")

    @service.rpc(name="länge")
    async def length(text: str) -> int:
        return len(text)

    async with linked(service, client={"name": "Клиент"}) as pair:
        assert await pair.service("größe")["länge"]("☺😈") == 2
        assert pair.back.peer_name == "Клиент"
