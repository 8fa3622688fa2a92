"""No end overtakes what came before it: items of calls, results, calls themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from tests.engine.held import Held, held, late_tasks
from tests.engine.helpers import collect, feed, linked, outcome, until
from tests.machine import fail_after

ITEMS = [0, 1, 2, 3, 4]

streams = duplex.Service("streams")


async def _end(how: str) -> None:
    """What ends a stream."""
    link: Any = duplex.current_call().link
    if how == "error":
        raise duplex.NotFound("there are no more")
    if how == "link":
        await link.aclose()
    elif how == "drain":
        link.peer._inside.spawn(link.peer.drain, 0)
        await trio.sleep_forever()
    elif how == "cut":
        duplex.current_call().cancel("enough")
        await trio.sleep_forever()


@streams.rpc
async def give(how: str) -> AsyncIterator[int]:
    """Give some numbers, and end in one way or another."""
    for number in ITEMS:
        yield number
    await _end(how)


@streams.rpc
def give_from_a_thread(how: str) -> Iterator[int]:
    """The same in a plain generator."""
    yield from ITEMS
    trio.from_thread.run(_end, how)


OUTCOMES = {
    "return": None,
    "error": duplex.NotFound,
    "link": duplex.PeerLost,
    "drain": duplex.Unavailable,
    "cut": duplex.CallCancelled,
}


@pytest.mark.parametrize("how", OUTCOMES)
@pytest.mark.parametrize("method", ["give", "give_from_a_thread"])
async def test_items_that_came_with_the_end_come_before_it(method: str, how: str) -> None:
    async with linked(streams, check=False) as pair:
        hold = Held(pair.back)
        async with pair.service("streams")[method].open(how) as call:
            await until(lambda: call._call.over or hold.messages)
            await trio.testing.wait_all_tasks_blocked(0.01)
            hold.release()
            await trio.testing.wait_all_tasks_blocked(0.01)
            items: list[int] = []
            error = None
            try:
                while True:
                    items.append(await call.receive())
            except duplex.RPCError as caught:
                error = type(caught)
            except trio.EndOfChannel:
                pass
            assert items == ITEMS
            assert error is OUTCOMES[how]


# -- what a handler receives -----------------------------------------------------------------------------


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("when", ["sending", "waiting", "done"])
async def test_sender_is_told_when_the_handler_has_ended(when: str, fails: bool) -> None:
    """Whoever sends to a handler that has ended, has sent or waits for credit; what was not received is never taken for
    received: the call's outcome comes instead of the next step."""
    service = duplex.Service("service")

    @service.rpc
    async def taste(items: duplex.ReceiveChannel[bytes]) -> int:
        await items.receive()
        if fails:
            raise duplex.NotFound("no more, please")
        return 1

    async with linked(service, server={"limits": duplex.Limits(channel_window=1024)}) as pair:
        hold = Held(pair.back)
        async with pair.service("service").taste.open() as call:
            await call.send(bytes(100))
            await call.send(bytes(100))
            told: Any = duplex.NotFound if fails else trio.BrokenResourceError
            if when == "waiting":
                async with trio.open_nursery() as nursery:

                    @nursery.start_soon
                    async def flood() -> None:
                        with pytest.raises(told):
                            await feed(call, bytes(100))

                    await trio.testing.wait_all_tasks_blocked()
                    assert call.statistics().waiting_senders == 1
                    hold.release()
            else:
                await trio.testing.wait_all_tasks_blocked()
                hold.release()
                await pair.settle()
            if when == "sending":
                with pytest.raises(told):
                    await call.send(bytes(100))
            assert call.statistics().sent == (6 if when == "waiting" else 2)
            if fails:
                with pytest.raises(duplex.NotFound):
                    await call.result()
            else:
                assert await call.result() == 1


async def test_items_queued_for_a_handler_that_has_ended_are_counted() -> None:
    """With ``drop_oldest`` sending does not wait, so nobody is there to be told."""
    service = duplex.Service("service")

    @service.rpc
    async def taste(items: duplex.ReceiveChannel[bytes]) -> int:
        await items.receive()
        return 1

    async with linked(service, server={"limits": duplex.Limits(channel_window=1024)}) as pair:
        hold = Held(pair.back)
        method = pair.service("service").taste.with_options(overflow="drop_oldest")
        async with method.open() as call:
            for _ in range(12):
                await call.send(bytes(100))
            before = call.statistics()
            assert (before.sent + before.queued_items, before.dropped) == (12, 0)
            await trio.testing.wait_all_tasks_blocked()
            hold.release()
            assert await call.result() == 1
            after = call.statistics()
            assert (after.sent, after.dropped, after.queued_items) == (before.sent, before.queued_items, 0)
            assert pair.link.statistics().dropped_items == before.queued_items


async def test_end_of_the_input_waits_for_what_is_queued() -> None:
    service = duplex.Service("service")

    @service.rpc
    async def count(items: duplex.ReceiveChannel[bytes]) -> int:
        return len([item async for item in items])

    async with linked(service, server={"limits": duplex.Limits(channel_window=1024)}) as pair:
        method = pair.service("service").count.with_options(overflow="drop_oldest")
        with held(pair.back) as hold:
            async with method.open() as call:
                for _ in range(12):
                    await call.send(bytes(100))
                assert call.statistics().queued_items
                hold.release()
                assert await call.result() == 12


@pytest.mark.parametrize("what", ["send_eof", "aclose", "result"])
async def test_whoever_waits_to_send_is_told_when_another_task_ends_the_input(what: str) -> None:
    """The item that waits for credit was not sent, and whoever sends it learns that."""
    service = duplex.Service("service")
    begin = trio.Event()

    @service.rpc
    async def count(items: duplex.ReceiveChannel[bytes]) -> int:
        await begin.wait()
        return len([item async for item in items])

    async with linked(service, server={"limits": duplex.Limits(channel_window=1024)}) as pair:
        async with pair.service("service").count.open() as call:
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def flood() -> None:
                    with pytest.raises((trio.ClosedResourceError, duplex.CallCancelled)):
                        await feed(call, bytes(100))

                await trio.testing.wait_all_tasks_blocked()
                assert call.statistics().waiting_senders == 1
                if what == "result":
                    nursery.start_soon(call.result)
                    await trio.testing.wait_all_tasks_blocked()
                    begin.set()
                else:
                    await getattr(call, what)()
            if what == "send_eof":
                begin.set()
            if what != "aclose":
                assert await call.result() == call.statistics().sent


async def test_items_that_wait_for_credit_when_the_handler_ends() -> None:
    """They are those of a channel of the caller's, which another task of the handler's feeds. It is told; the caller
    gets what was sent, and then the end."""
    service = duplex.Service("service")
    sent = 0
    told: list[Any] = []

    @service.rpc
    async def feed_and_go(sink: duplex.SendChannel[bytes]) -> str:
        async def feed() -> None:
            nonlocal sent
            try:
                while True:
                    await sink.send(bytes(100))
                    sent += 1
            except trio.BrokenResourceError as error:
                told.append(error)

        peer: Any = duplex.current_call().link.peer
        peer._inside.spawn(feed)
        await trio.testing.wait_all_tasks_blocked()
        return "gone"

    async with linked(service, client={"limits": duplex.Limits(channel_window=1024)}) as pair:
        sink, source = trio.open_memory_channel[bytes](0)
        assert await pair.service("service").feed_and_go(sink) == "gone"
        assert len(await collect(source)) == sent > 5
        assert len(told) == 1


@pytest.mark.plain_wire("all has to come in one turn")
@pytest.mark.parametrize("ended", [False, True])
async def test_handler_that_ends_while_another_task_still_receives(ended: bool) -> None:
    """It must not take for all what there was of a stream that had not ended; nor may it send."""
    service = duplex.Service("service")
    seen: list[Any] = []

    @service.rpc
    async def keep(both: duplex.Channel[int, int]) -> None:
        peer: Any = duplex.current_call().link.peer
        peer._inside.spawn(gather, both)
        await both.receive()

    async def gather(both: duplex.Channel[int, int]) -> None:
        await trio.testing.wait_all_tasks_blocked()
        try:
            while True:
                seen.append(await both.receive())
        except duplex.CallCancelled as error:
            seen.append(error.message)
        except trio.EndOfChannel:
            seen.append("end")
        with pytest.raises(trio.BrokenResourceError):
            await both.send(1)

    async with linked(service) as pair:
        hold = Held(pair.link)
        async with pair.service("service").keep.open() as call:
            for number in range(4):
                await call.send(number)
            if ended:
                await call.send_eof()
            await trio.testing.wait_all_tasks_blocked()
            hold.release()
            assert await collect(call) == []
        await until(lambda: len(seen) == 4)
    assert seen == [1, 2, 3, "end" if ended else "the handler has ended, and the call with it"]


# -- callbacks -------------------------------------------------------------------------------------------


async def test_callback_that_is_called_just_before_the_result() -> None:
    """Together with it, by a task that nobody waits for."""
    service = duplex.Service("service")
    answers: list[Any] = []

    @service.rpc
    async def call_and_go(visit: duplex.Callback[[int], int]) -> str:
        async def call() -> None:
            answers.append(await visit(20))

        peer: Any = duplex.current_call().link.peer
        peer._inside.spawn(call)
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        return "gone"

    async def visit(value: int) -> int:
        await trio.lowlevel.checkpoint()
        return value + 1

    async with linked(service) as pair:
        results: list[Any] = []

        async def call() -> None:
            results.append(await outcome(pair.service("service").call_and_go(visit)))

        async with trio.open_nursery() as nursery:
            with held(pair.back):
                nursery.start_soon(call)
                await trio.testing.wait_all_tasks_blocked()
        await until(lambda: answers)
    assert results == ["gone"]
    assert answers == [21]


async def test_channel_that_a_callback_was_given() -> None:
    """What was sent on it arrives, though the call of the callback ended with it at once."""
    service = duplex.Service("service")

    @service.rpc
    async def offer(visit: duplex.Callback[[Any], str]) -> list[int]:
        sink, source = trio.open_memory_channel[int](0)
        with late_tasks(pair.server):
            assert await visit(sink) == "taken"
        return await collect(source)

    async def take(sink: duplex.SendChannel[int]) -> str:
        for number in range(5):
            await sink.send(number)
        return "taken"

    async with linked(service) as pair:
        assert await pair.service("service").offer(take) == [0, 1, 2, 3, 4]


# -- what comes before the end of a link --------------------------------------------------------------


async def test_result_that_came_before_the_link_was_broken() -> None:
    """By what stands behind it in the same message."""
    service = duplex.Service("service")
    begin = trio.Event()

    @service.rpc
    async def wait() -> str:
        await begin.wait()
        return "done"

    async with linked(service, check=False) as pair:
        results: list[Any] = []

        async def call() -> None:
            results.append(await outcome(pair.service("service").wait()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await trio.testing.wait_all_tasks_blocked()
            with held(pair.back) as hold:
                begin.set()
                await trio.testing.wait_all_tasks_blocked()
                (message,) = hold.messages
                hold.messages = [[bytes([message[0][0] + 1]) + message[0][1:] + b"\x92\x09\x63"]]
        assert results == ["done"]
        await pair.link.wait_closed()


async def test_notification_that_came_before_the_link_ended() -> None:
    """Nobody waits for a notification in any case, so it does not matter to it whether its caller is still there."""
    service = duplex.Service("service")
    seen: list[Any] = []

    @service.rpc
    async def note(value: str) -> None:
        await trio.lowlevel.checkpoint()
        seen.append(value)

    @service.rpc
    def note_in_a_thread(value: str) -> None:
        seen.append(value)

    async with linked(service, check=False) as pair:
        with held(pair.link):
            await pair.service("service").note.notify("async")
            await pair.service("service").note_in_a_thread.notify("thread")
            await trio.testing.wait_all_tasks_blocked()
            await pair.link.aclose()
        await until(lambda: len(seen) == 2)
    assert sorted(seen) == ["async", "thread"]


async def test_resumed_stream_goes_on_behind_what_came_with_the_end(autojump_clock: object) -> None:
    """Items and the news that the server goes away come at once: none is lost, and none comes twice."""
    service = duplex.Service("service")

    @service.rpc(resumable=True)
    async def log(cursor: int | None = None) -> AsyncIterator[duplex.Tracked[int, str]]:
        begin = 0 if cursor is None else cursor + 1
        for number in range(begin, min(begin + 4, 10)):
            yield duplex.Tracked(number, f"line {number}")
        if begin + 4 < 10:
            link: Any = duplex.current_call().link
            await link.aclose()

    with fail_after(60):
        async with duplex.open_peer(services=[service]) as server, duplex.open_peer() as client:
            await client.connect(await server.bind("memory://*"))
            hold = Held(server.links[0])
            method = client.service("service").log.with_options(resume=True)
            async with method.open() as stream:
                await trio.testing.wait_all_tasks_blocked()
                assert hold.messages == []
                assert await collect(stream) == [f"line {number}" for number in range(10)]
                assert stream.resumptions == 2
