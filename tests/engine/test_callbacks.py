"""Functions as values: called back while the call lives that carried them, and not a moment longer."""

from __future__ import annotations

import functools
import gc
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgpack
import pytest
import trio
import trio.testing

import duplex
from tests.engine.helpers import Pair, collect, linked, made, outcome, process, until
from tests.engine.raw import RawDealer
from tests.machine import fail_after

callbacks = duplex.Service("callbacks")
#: Callbacks that handlers kept beyond their calls.
kept: list[Any] = []


@callbacks.rpc
async def apply(function: duplex.Callback[..., Any], *args: Any, **kwargs: Any) -> Any:
    return await function(*args, **kwargs)


@callbacks.rpc
async def each(items: list[int], visit: duplex.Callback[[int], None]) -> None:
    for item in items:
        await visit(item)


@callbacks.rpc
async def typed(function: duplex.Callback[[int], int]) -> int:
    return await function(1)


@callbacks.rpc
async def untyped(value: Any) -> list[Any]:
    """Call whatever is callable, wherever it is."""
    if isinstance(value, dict):
        return [await function(key) for key, function in value.items()]
    return [await function(index) for index, function in enumerate(value)]


@callbacks.rpc
async def keep(function: duplex.Callback[[], Any]) -> None:
    kept.append(function)


@callbacks.rpc
async def hold(function: duplex.Callback[[], Any]) -> None:
    kept.append(function)
    await trio.sleep_forever()


@callbacks.rpc
async def counter(start: int) -> Callable[..., Any]:
    """Return a function."""
    value = start

    async def step(by: int = 1) -> int:
        nonlocal value
        value += by
        return value

    return step


@callbacks.rpc
async def forward(function: duplex.Callback[..., Any]) -> Any:
    """Pass a callback of the caller's back to the caller."""
    return await duplex.current_call().link.service("home").apply(function, 1)


@callbacks.rpc
async def functions(count: int) -> AsyncIterator[Callable[[], int]]:
    for number in range(count):
        yield functools.partial(int, number)


@callbacks.rpc
async def run_all(tasks: duplex.ReceiveChannel[duplex.Callback[[], int]]) -> list[int]:
    """Call the functions that come on a stream, all at the end."""
    return [await task() for task in [task async for task in tasks]]


@pytest.fixture(autouse=True)
def _nothing_kept() -> None:
    kept.clear()


async def test_async_function(endpoint: str) -> None:
    seen: list[int] = []

    async def visit(item: int) -> None:
        await trio.lowlevel.checkpoint()
        seen.append(item)

    async with linked(callbacks, endpoint=endpoint) as pair:
        assert await pair.service("callbacks").each([1, 2, 3], visit) is None
    assert seen == [1, 2, 3]


async def test_anything_that_is_a_function() -> None:
    class Thing:
        def method(self, value: int) -> int:
            return value + 5

    seen: list[int] = []
    async with linked(callbacks) as pair:
        remote = pair.service("callbacks")
        assert await remote.each([1, 2], seen.append) is None
        assert seen == [1, 2]
        assert await remote.apply(lambda: 7) == 7
        assert await remote.apply(lambda a, *, b=0: [a, b], 1, b=2) == [1, 2]
        assert await remote.apply(functools.partial(max, 5), 3) == 5
        assert await remote.apply(Thing().method, 1) == 6
        assert await remote.apply(len, [1, 2, 3]) == 3


async def test_other_callables_must_be_wrapped() -> None:
    class Thing:
        def __call__(self) -> int:
            return 1  # pragma: no cover

    async with linked(callbacks) as pair:
        with pytest.raises(duplex.EncodeError):
            await pair.service("callbacks").apply(Thing())
        with pytest.raises(duplex.EncodeError):
            await pair.service("callbacks").apply(int)
        with pytest.raises(duplex.EncodeError):
            await pair.service("callbacks").apply(str.upper)


async def test_plain_function_runs_in_the_thread_of_whoever_passed_it() -> None:
    import threading

    async with linked(callbacks) as pair:
        assert await pair.service("callbacks").apply(threading.get_ident) == threading.get_ident()


async def test_generator_cannot_be_a_callback() -> None:
    async def stream() -> AsyncIterator[int]:
        yield 1  # pragma: no cover

    async with linked(callbacks) as pair:
        with pytest.raises(duplex.DuplexError, match="cannot yield"):
            await pair.service("callbacks").apply(stream)


async def test_nested_in_a_list_and_in_a_dict() -> None:
    async with linked(callbacks) as pair:
        remote = pair.service("callbacks")
        assert await remote.untyped([lambda n: n, lambda n: n * 10]) == [0, 10]
        assert await remote.untyped({"a": lambda key: key, "b": lambda key: key * 2}) == ["a", "bb"]


async def test_result_is_checked_against_the_annotation() -> None:
    async with linked(callbacks) as pair:
        remote = pair.service("callbacks")
        assert await remote.typed(lambda n: n + 1) == 2
        with pytest.raises(duplex.Internal):
            await remote.typed(lambda n: "text")
        assert await remote.typed(lambda n: n) == 1


async def test_wrong_arguments_are_told_to_the_handler() -> None:
    errors: list[Any] = []
    service = duplex.Service("service")

    @service.rpc
    async def confused(function: duplex.Callback[..., Any]) -> None:
        errors.append(await outcome(function(1, 2)))
        errors.append(await outcome(function("text")))

    def wants_int(number: int) -> int:
        return number  # pragma: no cover

    async with linked(service) as pair:
        await pair.service("service").confused(wants_int)
    assert [type(error) for error in errors] == [duplex.InvalidArgument] * 2


async def test_something_else_where_a_callback_is_expected() -> None:
    async with linked(callbacks) as pair:
        remote = pair.service("callbacks")
        with pytest.raises(duplex.InvalidArgument, match=r"'function'"):
            await remote.apply(1)
        with pytest.raises(duplex.InvalidArgument, match=r"'items'"):
            await remote.each(lambda n: n, lambda n: n)


async def test_errors_of_a_callback_reach_the_handler(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Any] = []
    service = duplex.Service("service")

    @service.rpc
    async def probe(function: duplex.Callback[[], None]) -> str:
        error = await outcome(function())
        seen.append(error)
        return type(error).__name__

    async def refuse() -> None:
        raise duplex.OutOfRange("too far", details=[1])

    def crash() -> None:
        raise ValueError("secret")

    async def cancelled() -> None:
        raise duplex.CallCancelled("not now")

    async with linked(service) as pair:
        remote = pair.service("service")
        assert await remote.probe(refuse) == "OutOfRange"
        assert (seen[0].message, seen[0].details, seen[0].peer) == ("too far", [1], "client")
        assert await remote.probe(crash) == "Internal"
        assert "secret" not in seen[1].message
        assert await remote.probe(cancelled) == "CallCancelled"
    assert "secret" in caplog.text


async def test_used_after_the_call(endpoint: str) -> None:
    async with linked(callbacks, endpoint=endpoint) as pair:
        await pair.service("callbacks").keep(lambda: 1)
        with pytest.raises(duplex.FailedPrecondition, match="is over"):
            await kept[0]()


async def test_used_after_the_call_was_cancelled() -> None:
    async with linked(callbacks) as pair:
        async with pair.service("callbacks").hold.open(lambda: 1):
            await until(lambda: kept)
            assert await kept[0]() == 1
        await pair.settle()
        with pytest.raises(duplex.FailedPrecondition):
            await kept[0]()


async def test_numbers_of_callbacks_are_not_used_again() -> None:
    """A callback that is over must not reach a later one of the same number."""
    async with linked(callbacks) as pair:
        remote = pair.service("callbacks")
        await remote.keep(lambda: "first")
        await remote.keep(lambda: "second")
        assert kept[0]._number != kept[1]._number


async def test_callback_that_calls_back_again() -> None:
    async with linked(callbacks) as pair:
        remote = pair.service("callbacks")

        async def outer(depth: int) -> int:
            if depth == 0:
                return 0
            inner: int = await remote.apply(outer, depth - 1)
            return 1 + inner

        assert await outer(5) == 5


async def test_callback_that_takes_a_callback() -> None:
    service = duplex.Service("service")

    @service.rpc
    async def ask(function: duplex.Callback[..., Any]) -> Any:
        return await function(lambda n: n * 2)

    async def answer(double: duplex.Callback[[int], int]) -> list[int]:
        return [await double(1), await double(2)]

    async with linked(service) as pair:
        assert await pair.service("service").ask(answer) == [2, 4]


async def test_many_calls_of_one_callback_at_once() -> None:
    service = duplex.Service("service")
    arrived, go = 0, trio.Event()

    @service.rpc
    async def burst(function: duplex.Callback[[int], int]) -> list[int]:
        results = [0] * 20

        async def one(index: int) -> None:
            results[index] = await function(index)

        async with trio.open_nursery() as nursery:
            for index in range(20):
                nursery.start_soon(one, index)
        return results

    async def slow(number: int) -> int:
        nonlocal arrived
        arrived += 1
        if arrived == 20:
            go.set()
        await go.wait()
        return number

    async with linked(service) as pair:
        assert await pair.service("service").burst(slow) == list(range(20))


async def test_cancelling_the_call_cancels_its_running_callback() -> None:
    started, ended = trio.Event(), trio.Event()

    async def endless() -> None:
        started.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with linked(callbacks) as pair:
        async with pair.service("callbacks").apply.open(endless):
            await started.wait()
        await ended.wait()


async def test_result_that_is_a_function() -> None:
    async with linked(callbacks) as pair:
        async with pair.service("callbacks").counter.open(10) as call:
            step = await call.result()
            assert await step() == 11
            assert await step(by=5) == 16
            assert await call.result() is step
        with pytest.raises(duplex.FailedPrecondition):
            await step()


async def test_result_that_is_a_function_needs_an_open_call() -> None:
    async with linked(callbacks) as pair:
        remote = pair.service("callbacks")
        with pytest.raises(TypeError, match=r"call\.result\(\)"):
            await remote.counter(10)
        assert await remote.apply(lambda: 1) == 1


async def test_function_as_result_is_no_stream() -> None:
    async with linked(callbacks) as pair:
        async with pair.service("callbacks").counter.open(10) as call:
            with fail_after(1), pytest.raises(TypeError, match=r"call\.result\(\)"):
                await call.receive()


async def test_functions_in_a_stream() -> None:
    """They can be called after the generator has ended, as one in a single result can."""
    async with linked(callbacks) as pair:
        async with pair.service("callbacks").functions.open(3) as call:
            assert [await (await call.receive())() for _ in range(3)] == [0, 1, 2]
            assert await collect(call) == []


async def test_functions_sent_on_a_stream() -> None:
    async with linked(callbacks) as pair:
        async with pair.service("callbacks").run_all.open() as call:
            for number in range(3):
                await call.send(functools.partial(int, number))
            assert await call.result() == [0, 1, 2]


async def test_callback_passed_on_to_another_peer() -> None:
    """A function of the client's, passed by the server to a third peer, is called through both links."""
    third = duplex.Service("third")

    @third.rpc
    async def use(function: duplex.Callback[[int], int]) -> int:
        return await function(20) + 1

    middle = duplex.Service("middle")

    async with linked(middle) as pair, duplex.open_peer(services=[third], name="third") as far:
        await pair.server.connect(await far.bind("memory://*"))
        onward = pair.server.service("third")

        @middle.rpc
        async def relay(function: duplex.Callback[..., Any]) -> Any:
            return await onward.use(function)

        pair.server._inside.services.handlers["middle.relay"] = middle.methods["relay"]
        assert await pair.service("middle").relay(lambda n: n * 2) == 41


async def test_callback_passed_back_to_its_owner() -> None:
    home = duplex.Service("home")
    home.add(apply)
    async with linked(callbacks, offers=[home]) as pair:
        assert await pair.service("callbacks").forward(lambda n: n + 1) == 2


async def _lose(pair: Pair) -> None:
    await pair.back.aclose()


async def test_lost_link_during_a_callback(endpoint: str) -> None:
    started, ended = trio.Event(), trio.Event()

    async def endless() -> None:
        started.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with linked(callbacks, endpoint=endpoint, check=False) as pair:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outcome, pair.link.service("callbacks").apply(endless))
            await started.wait()
            await _lose(pair)
        await ended.wait()


@pytest.mark.parametrize("opened", [False, True], ids=["awaited", "opened"])
async def test_function_beside_something_that_cannot_travel(opened: bool) -> None:
    """The call never begins, and the function does not stay callable."""
    async with linked(callbacks) as pair:
        method = pair.service("callbacks").untyped
        with pytest.raises(duplex.EncodeError):
            await made(method, [lambda: 1, object()], opened=opened)


@pytest.mark.parametrize("opened", [False, True], ids=["awaited", "opened"])
async def test_function_beside_something_too_large(opened: bool) -> None:
    async with linked(callbacks, server={"limits": duplex.Limits(max_message=1024)}) as pair:
        method = pair.service("callbacks").untyped
        with pytest.raises(duplex.MessageTooLarge):
            await made(method, [lambda: 1, bytes(2000)], opened=opened)


async def test_function_for_a_method_that_does_not_exist() -> None:
    async with linked(callbacks) as pair:
        for _ in range(3):
            with pytest.raises(duplex.Unimplemented):
                await pair.service("callbacks").nowhere(lambda: 1)
            async with pair.service("callbacks").nowhere.open(lambda: 1) as call:
                with pytest.raises(duplex.Unimplemented):
                    await call.result()


@pytest.mark.slow
async def test_callback_over_processes() -> None:
    seen: list[int] = []
    with process("tests.engine.serve_callbacks", "tcp://127.0.0.1:*") as (_, endpoint), fail_after(5):
        async with duplex.open_peer() as client:
            await client.connect(endpoint)
            await client.service("callbacks").each(list(range(100)), seen.append)
    assert seen == list(range(100))


def test_callbacks_come_from_peers_only() -> None:
    make: Any = duplex.Callback
    with pytest.raises(TypeError, match="pass a plain function"):
        make()


async def test_annotation_without_parameters() -> None:
    service = duplex.Service("service")

    @service.rpc
    async def call(function: duplex.Callback) -> Any:  # type: ignore[type-arg]
        return await function(1, two=2)

    async with linked(service) as pair:
        assert await pair.service("service").call(lambda one, *, two: [one, two]) == [1, 2]


async def test_function_for_a_method_that_streams() -> None:
    """Its arguments come in a message of their own; it must be opened all the same."""
    service = duplex.Service("service")

    @service.rpc
    async def each(function: duplex.Callback[[], int]) -> AsyncIterator[int]:
        yield await function()

    @service.rpc
    async def listen(function: duplex.Callback[[], int], items: duplex.ReceiveChannel[int]) -> int:
        return await function() + await items.receive()

    async with linked(service) as pair:
        remote = pair.service("service")
        for method in (remote.each, remote.listen):
            with pytest.raises((TypeError, duplex.InvalidArgument), match=r"open\("):
                await method(lambda: 1)
        async with remote.each.open(lambda: 1) as call:
            assert await collect(call) == [1]
        async with remote.listen.open(lambda: 1) as call:
            await call.send(2)
            assert await call.result() == 3


async def test_a_callback_that_answers_with_a_channel_is_an_error_of_the_call() -> None:
    """The handler did not choose how to call it, so it is told in the words of calls, not of its own mistakes."""
    service = duplex.Service("service")
    caught: list[Exception] = []

    @service.rpc
    async def ask(question: duplex.Callback[[], int]) -> str:
        try:
            await question()
        except duplex.RPCError as error:
            caught.append(error)
        return "asked"

    with fail_after(10):
        async with duplex.open_peer(services=[service]) as server:
            with RawDealer(await server.bind("tcp://127.0.0.1:*")) as raw:
                await raw.shake_hands(
                    [7, 1, "service.ask", 2], [8, 1, msgpack.packb([[msgpack.ExtType(3, b"\x01")]]), 1]
                )
                (opened,) = await raw.commands(7)
                assert opened[2] == 1
                raw.say([8, opened[1], b"\x01", 2])
                (closed,) = await raw.commands(10)
                assert closed[1:3] == [1, 0]
    assert [type(error) for error in caught] == [duplex.Internal]
    assert "did not answer with a single result" in str(caught[0])


@pytest.mark.parametrize(("function", "channel"), [(True, False), (False, True), (True, True)])
async def test_an_error_knows_whether_channels_went_with_the_call(function: bool, channel: bool) -> None:
    """They are used up then, so the call cannot be made again."""
    service = duplex.Service("service")

    @service.rpc
    async def fail(first: Any, second: Any) -> None:
        raise duplex.NotFound("nothing")

    async def callback() -> None:
        pass

    _sending, receiving = trio.open_memory_channel[int](1)
    async with linked(service) as pair:
        error = await outcome(
            pair.service("service").fail(callback if function else 1, receiving if channel else 2)
        )
        assert type(error) is duplex.NotFound
        assert error._took_channels is channel


async def test_a_call_that_is_refused_before_its_arguments_were_sent_keeps_nothing_of_them() -> None:
    def function() -> None:
        pass

    kept = weakref.ref(function)
    async with linked(duplex.Service("service")) as pair:
        window = pair.link._inside.connection._outgoing
        granted, window.balance = window.balance, 0
        opening = pair.service("service").missing.open(function)
        del function
        async with opening as call:
            error = await outcome(call.result())
        window.balance += granted
        assert type(error) is duplex.Unimplemented
        assert not pair.link._inside.values.functions
        del opening, error
        gc.collect()
        assert kept() is None
        assert call.method == "service.missing"
