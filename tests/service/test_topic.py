"""Topics: who gets what is published, who waits for whom, and what becomes of those who leave."""

from __future__ import annotations

import gc
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import example, given
from hypothesis import strategies as st

import duplex
from tests.engine.helpers import collect, linked, until
from tests.machine import fail_after


async def published(topic: duplex.Topic[Any], *items: Any) -> None:
    for item in items:
        await topic.publish(item)


async def test_everybody_gets_what_is_published_after_they_subscribed(autojump_clock: object) -> None:
    topic: duplex.Topic[int] = duplex.Topic()
    await topic.publish(0)
    first = topic.subscribe()
    await topic.publish(1)
    second = topic.subscribe()
    await published(topic, 2, 3)
    assert topic.subscribers == 2
    assert await collect(first, 3) == [1, 2, 3]
    assert await collect(second, 2) == [2, 3]
    topic.close()
    assert await collect(first) == await collect(second) == []


async def test_what_was_published_last_is_retained(autojump_clock: object) -> None:
    topic: duplex.Topic[str] = duplex.Topic(retain=True)
    early = topic.subscribe()
    await published(topic, "a", "b")
    late = topic.subscribe()
    grouped = topic.subscribe(group="g")
    await topic.publish("c")
    assert await collect(early, 3) == ["a", "b", "c"]
    assert await collect(late, 2) == ["b", "c"]
    assert await collect(grouped, 1) == ["c"], "its group may have had it"
    topic.close()
    assert await collect(topic.subscribe()) == ["c"]


async def test_publishers_wait_for_a_subscriber_without_overflow_and_keep_their_order(
    autojump_clock: object,
) -> None:
    topic: duplex.Topic[int] = duplex.Topic()
    slow, quick = topic.subscribe(buffer=2), topic.subscribe(overflow="drop_oldest", buffer=9)
    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(topic.publish, number)
            await trio.testing.wait_all_tasks_blocked()
        assert slow.statistics().buffered_items == 2
        assert slow.statistics().waiting_senders == 1
        assert await collect(quick, 3) == [0, 1, 2], "it has what the publisher waits for others to have"
        assert await collect(slow, 6) == list(range(6))
        assert await collect(quick, 3) == [3, 4, 5]


async def test_room_that_was_made_while_the_publisher_waited_for_another(autojump_clock: object) -> None:
    topic: duplex.Topic[int] = duplex.Topic()
    one, other = topic.subscribe(buffer=1), topic.subscribe(buffer=1)
    await topic.publish(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(topic.publish, 2)
        await trio.testing.wait_all_tasks_blocked()
        assert await other.receive() == 1
        await trio.testing.wait_all_tasks_blocked()
        assert await one.receive() == 1
        with fail_after(5):
            assert (await one.receive(), await other.receive()) == (2, 2)


@pytest.mark.parametrize(
    ("overflow", "expected"), [("drop_oldest", [2, 3]), ("drop_newest", [0, 1]), ("error", [0, 1])]
)
async def test_overflow(overflow: Any, expected: list[int], autojump_clock: object) -> None:
    topic: duplex.Topic[int] = duplex.Topic()
    channel = topic.subscribe(overflow=overflow, buffer=2)
    other = topic.subscribe()
    await published(topic, *range(4))
    assert await collect(channel, 2) == expected
    assert channel.statistics().dropped == (1 if overflow == "error" else 2)
    assert channel.statistics().received == 2
    await topic.publish(4)
    if overflow == "error":
        for _ in range(2):
            with pytest.raises(duplex.ResourceExhausted, match="2 items wait to be taken"):
                await channel.receive()
    else:
        assert await channel.receive() == 4
    assert await collect(other, 5) == list(range(5)), "nobody else is concerned"
    topic.close()
    with pytest.raises(duplex.ResourceExhausted if overflow == "error" else trio.EndOfChannel):
        await channel.receive()


# -- leaving -------------------------------------------------------------------------------------------


async def test_a_publisher_does_not_wait_for_one_who_leaves(autojump_clock: object) -> None:
    topic: duplex.Topic[int] = duplex.Topic()
    for leave in ("close", "drop"):
        channel: Any = topic.subscribe(buffer=1)
        await topic.publish(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(topic.publish, 2)
            await trio.testing.wait_all_tasks_blocked()
            if leave == "close":
                await channel.aclose()
                await channel.aclose()
                with pytest.raises(trio.ClosedResourceError):
                    await channel.receive()
            else:
                del channel
    assert topic.subscribers == 0
    topic.close()
    with pytest.raises(trio.ClosedResourceError, match="this topic is closed"):
        await topic.publish(3)


async def test_a_subscription_that_is_dropped_has_left(autojump_clock: object) -> None:
    topic: duplex.Topic[int] = duplex.Topic()
    async for _ in _retaining(topic):
        break
    await until(lambda: topic.subscribers == 0)
    circle: list[Any] = [topic.subscribe()]
    circle.append(circle)
    del circle
    collector = threading.Thread(target=gc.collect)
    collector.start()
    collector.join()
    await until(lambda: topic.subscribers == 0)


def _retaining(topic: duplex.Topic[int]) -> duplex.ReceiveChannel[int]:
    found: Any = topic.subscribe()
    found._queue.items.append(1)
    return found  # type: ignore[no-any-return]


def test_a_subscription_of_a_run_that_has_ended_has_left() -> None:
    topic: duplex.Topic[int] = duplex.Topic()

    async def keep() -> Any:
        return topic.subscribe(buffer=1)

    kept = trio.run(keep)
    assert topic.subscribers == 1
    del kept
    gc.collect()  # what is left of the run knows it
    assert topic.subscribers == 0
    trio.run(published, topic, 1, 2, 3)


async def test_a_wait_that_is_cancelled_takes_nothing_and_leaves_nothing(autojump_clock: object) -> None:
    topic: duplex.Topic[int] = duplex.Topic()
    channel = topic.subscribe()
    with trio.move_on_after(1):
        await channel.receive()
    await topic.publish(1)
    with trio.CancelScope() as scope:
        scope.cancel()
        await channel.receive()
    assert await channel.receive() == 1


async def test_two_tasks_cannot_receive_from_one_subscription(autojump_clock: object) -> None:
    topic: duplex.Topic[int] = duplex.Topic()
    channel = topic.subscribe()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(collect, channel, 1)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await channel.receive()
        await topic.publish(1)


# -- groups --------------------------------------------------------------------------------------------


async def test_one_of_a_group_gets_each_item(autojump_clock: object) -> None:
    topic: duplex.Topic[int] = duplex.Topic()
    a, b, c = (topic.subscribe(group="g") for _ in range(3))
    other, alone = topic.subscribe(group="h"), topic.subscribe()
    await published(topic, *range(6))
    assert await collect(a, 2) == [0, 3]
    await published(topic, 6, 7)
    topic.close()
    assert await collect(a) == [6, 7], "it had fewest that it had not taken"
    assert await collect(b) == [1, 4]
    assert await collect(c) == [2, 5]
    assert await collect(other) == await collect(alone) == list(range(8))


async def test_what_a_member_has_not_taken_goes_to_the_others_when_it_leaves(autojump_clock: object) -> None:
    topic: duplex.Topic[int] = duplex.Topic()
    a, b, c = (topic.subscribe(group="g", buffer=2) for _ in range(3))
    await published(topic, *range(6))
    await a.aclose()
    assert await collect(b, 3) == [1, 4, 0]
    assert await collect(c, 3) == [2, 5, 3]
    await b.aclose()
    await topic.publish(6)
    await c.aclose()
    await topic.publish(7)
    again = topic.subscribe(group="g")
    await topic.publish(8)
    assert await collect(again, 1) == [8], "nobody was there for the others"


async def test_a_publisher_waits_until_any_member_has_room(autojump_clock: object) -> None:
    topic: duplex.Topic[int] = duplex.Topic()
    a, b = (topic.subscribe(group="g", buffer=1) for _ in range(2))
    await published(topic, 1, 2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(topic.publish, 3)
        await trio.testing.wait_all_tasks_blocked()
        assert await b.receive() == 2
        assert await b.receive() == 3
        nursery.start_soon(published, topic, 4, 5)
        await trio.testing.wait_all_tasks_blocked()
        await a.aclose()
        assert sorted(await collect(b, 3)) == [1, 4, 5]


async def test_a_member_with_a_small_buffer_keeps_no_other_from_its_work(autojump_clock: object) -> None:
    topic: duplex.Topic[int] = duplex.Topic()
    stalled = topic.subscribe(group="workers", buffer=1)
    other = topic.subscribe(group="workers", buffer=64)
    with trio.fail_after(1):
        for number in range(20):
            await topic.publish(number)
    assert stalled.statistics().buffered_items == 1
    assert other.statistics().buffered_items == 19


async def test_a_publisher_that_waits_is_told_when_the_topic_is_closed(autojump_clock: object) -> None:
    """What it publishes goes to nobody any more whom it waited for, and to none that it would ask after these."""
    topic: duplex.Topic[int] = duplex.Topic()
    full = topic.subscribe(buffer=1)
    await topic.publish(1)
    async with trio.open_nursery() as nursery:

        async def publish() -> None:
            with pytest.raises(trio.ClosedResourceError, match="closed while this waited"):
                await topic.publish(2)

        nursery.start_soon(publish)
        await trio.testing.wait_all_tasks_blocked()
        topic.close()
    assert [number async for number in full] == [1]


async def test_members_that_are_all_too_slow(autojump_clock: object) -> None:
    topic: duplex.Topic[int] = duplex.Topic()
    a, b = (topic.subscribe(group="g", overflow="error", buffer=1) for _ in range(2))
    await published(topic, 1, 2)
    await topic.publish(3)
    await topic.publish(4)  # nobody is left who gets it
    for member, had in ((a, 1), (b, 2)):
        assert await member.receive() == had
        with pytest.raises(duplex.ResourceExhausted):
            await member.receive()
    await a.aclose()
    await b.aclose()
    assert topic.subscribers == 0
    c = topic.subscribe(group="g", overflow="drop_oldest", buffer=1)
    await published(topic, 4, 5)
    assert await c.receive() == 5


def test_what_cannot_be_subscribed() -> None:
    async def main() -> None:
        topic: duplex.Topic[int] = duplex.Topic()
        for wrong in ({"group": ""}, {"group": 1}, {"overflow": "never"}, {"buffer": 0}):
            with pytest.raises(duplex.ConfigurationError, match=next(iter(wrong))):
                topic.subscribe(**wrong)
        assert repr(topic) == "<Topic with 0 subscribers>"

    trio.run(main)
    topic: duplex.Topic[int] = duplex.Topic()
    with pytest.raises(RuntimeError, match="Duplex runs on trio"):
        topic.subscribe()
    with pytest.raises(RuntimeError, match="Duplex runs on trio"):
        topic.publish(1).send(None)


# -- served --------------------------------------------------------------------------------------------


def _board(topic: duplex.Topic[str], **how: Any) -> duplex.Service:
    board = duplex.Service("board")

    @board.rpc
    async def headlines(group: str | None = None) -> AsyncIterator[str]:
        async for headline in topic.subscribe(group=group, **how):
            yield headline

    @board.rpc
    async def channel() -> duplex.ReceiveChannel[str]:
        return topic.subscribe(**how)

    return board


async def test_a_service_serves_it_as_a_stream(autojump_clock: object) -> None:
    topic: duplex.Topic[str] = duplex.Topic(retain=True)
    await topic.publish("zero")
    async with linked(_board(topic)) as pair:
        remote = pair.service("board")
        async with remote.headlines.open() as one, remote.headlines.open() as other:
            assert await one.receive() == await other.receive() == "zero"
            await published(topic, "one", "two")
            assert await collect(one, 2) == await collect(other, 2) == ["one", "two"]
        await until(lambda: topic.subscribers == 0)
        async with remote.headlines.open() as one:
            assert await one.receive() == "two"
            topic.close()
            assert await collect(one) == []


async def test_a_subscription_travels_as_a_channel(autojump_clock: object) -> None:
    topic: duplex.Topic[str] = duplex.Topic()
    async with linked(_board(topic)) as pair:
        async with pair.service("board").channel.open() as call:
            headlines = await call.result()
            await topic.publish("one")
            assert await headlines.receive() == "one"
        await until(lambda: topic.subscribers == 0)


async def test_one_who_does_not_read_is_nobody_elses_trouble(autojump_clock: object) -> None:
    topic: duplex.Topic[str] = duplex.Topic()
    window = duplex.Limits(channel_window=4096)
    async with (
        duplex.open_peer(services=[_board(topic, overflow="error", buffer=4)]) as server,
        duplex.open_peer(limits=window) as slow,
        duplex.open_peer(limits=window) as quick,
    ):
        endpoint = await server.bind("memory://*")
        await slow.connect(endpoint)
        await quick.connect(endpoint)
        heard: list[str] = []
        async with slow.service("board").headlines.open() as unread, trio.open_nursery() as nursery:

            async def hear() -> None:
                async with quick.service("board").headlines.open() as call:
                    heard.extend(await collect(call, 100))

            nursery.start_soon(hear)
            await until(lambda: topic.subscribers == 2)
            with fail_after(10):
                for number in range(100):
                    await topic.publish(f"{number}" + "." * 200)
                    await quick.links[0].ping()
            await until(lambda: len(heard) == 100)
            with pytest.raises(duplex.ResourceExhausted, match="the subscription was cut short"):
                await collect(unread)
        await until(lambda: topic.subscribers == 0)


async def test_the_members_of_a_group_are_callers(autojump_clock: object) -> None:
    topic: duplex.Topic[str] = duplex.Topic()
    async with linked(_board(topic)) as pair:
        remote = pair.service("board")
        async with remote.headlines.open(group="g") as one, remote.headlines.open(group="g") as other:
            await until(lambda: topic.subscribers == 2)
            await published(topic, *"abcd")
            assert sorted([*await collect(one, 2), *await collect(other, 2)]) == list("abcd")


async def test_a_member_that_leaves_fails_for_that_member_only(autojump_clock: object) -> None:
    """A broadcast to callbacks: each is called by the handler that has it."""
    said: duplex.Topic[str] = duplex.Topic()
    room = duplex.Service("room")

    @room.rpc
    async def listen(tell: duplex.Callback[[str], None]) -> None:
        async for text in said.subscribe():
            await tell(text)

    @room.rpc
    async def say(text: str) -> None:
        await said.publish(text)

    async with (
        duplex.open_peer(services=[room]) as server,
        duplex.open_peer() as ann,
        duplex.open_peer() as ben,
        trio.open_nursery() as nursery,
    ):
        endpoint = await server.bind("memory://*")
        heard: dict[str, list[str]] = {"ann": [], "ben": []}
        for name, peer in (("ann", ann), ("ben", ben)):
            await peer.connect(endpoint)

            async def hear(text: str, name: str = name) -> None:
                heard[name].append(text)

            async def listening(peer: duplex.Peer = peer, hear: Any = hear) -> None:
                with pytest.raises((duplex.Unavailable, duplex.CallCancelled)):
                    await peer.service("room").listen(hear)

            nursery.start_soon(listening)
        await until(lambda: said.subscribers == 2)
        await ann.service("room").say("hello")
        await until(lambda: heard == {"ann": ["hello"], "ben": ["hello"]})
        await ben.aclose()
        await ann.service("room").say("ben?")
        await until(lambda: heard["ann"] == ["hello", "ben?"])
        await until(lambda: said.subscribers == 1)
        await ann.aclose()


# -- whatever happens ----------------------------------------------------------------------------------


class Reader:
    """A subscriber, and what it has taken."""

    def __init__(self, topic: duplex.Topic[int], group: str | None, overflow: Any, published: int) -> None:
        self.channel: Any = topic.subscribe(group=group, overflow=overflow, buffer=3)
        self.group = group
        self.overflow = overflow
        #: How many items had been published before.
        self.since = published
        self.taken: list[int] = []

    async def take_all(self) -> None:
        """Take what there is, and no more."""
        while self.channel.statistics().buffered_items:
            self.taken.append(await self.channel.receive())


@given(
    st.lists(
        st.tuples(st.sampled_from(["publish", "take", "leave", "join"]), st.integers(0, 2**16)), max_size=60
    )
)
@example([("join", 0), *[("publish", 0)] * 5, ("join", 0), ("publish", 0), ("take", 0), ("leave", 0)])
@example([("join", 2), ("join", 5), *[("publish", 0)] * 9, ("leave", 0), ("publish", 0), ("take", 0)])
def test_nobody_gets_what_is_another_s_or_out_of_order_or_twice(steps: list[tuple[str, int]]) -> None:
    trio.run(_anything, steps)


async def _anything(steps: list[tuple[str, int]]) -> None:
    topic: duplex.Topic[int] = duplex.Topic()
    readers: list[Reader] = []
    gone: list[Reader] = []
    published = 0

    async with trio.open_nursery() as nursery:
        for step, which in steps:
            if step == "join":
                overflow = (None, "drop_oldest", "drop_newest", "error")[which % 4]
                group = (None, None, "g")[which % 3]
                readers.append(Reader(topic, group, None if group else overflow, published))
            elif step == "publish":
                nursery.start_soon(topic.publish, published)
                published += 1
            elif readers and step == "take":
                await readers[which % len(readers)].take_all()
            elif readers:
                reader = readers.pop(which % len(readers))
                gone.append(reader)
                await reader.channel.aclose()
            await trio.testing.wait_all_tasks_blocked()
        while any(reader.channel.statistics().buffered_items for reader in readers):
            for reader in readers:
                await reader.take_all()
            await trio.testing.wait_all_tasks_blocked()
    for reader in readers:
        statistics = reader.channel.statistics()
        if reader.group is None:
            assert reader.taken == sorted(set(reader.taken)), "in order, and once"
            # What publishers had waited to publish when it joined it has, too.
            first = reader.taken[0] if reader.taken else published
            if reader.overflow is None:
                assert first <= reader.since
                assert reader.taken == list(range(first, published)), "and without a gap"
            elif reader.overflow != "error":
                assert len(reader.taken) + statistics.dropped >= published - reader.since
    shared = [item for reader in (*readers, *gone) if reader.group for item in reader.taken]
    assert len(shared) == len(set(shared)), "one of the group has each"
    members = [reader for reader in readers if reader.group]
    if members and not any(reader.group for reader in gone):
        first = min(reader.since for reader in members)
        assert set(range(first, published)) <= set(shared), "and somebody has each"
    assert topic.subscribers == len(readers)
