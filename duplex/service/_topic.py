"""Topics: what is published once goes to everybody who has subscribed. A service serves one as a method that streams.

A topic knows nothing of links. A subscription is a channel that a handler iterates, and the items go out by the handler's own
stream, with its credit. Between the two is a short queue, so that subscribers are independent of each other; what becomes of
items when it is full is said with the words that streams have for it.

A handler's loop over a subscription is left without anybody being told: the caller has gone, and the handler was cancelled. So a
subscription that is dropped leaves the topic as well as one that is closed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, Final, Generic, TypeVar, final, get_args

import trio

from duplex._config import Overflow
from duplex._errors import ConfigurationError, ResourceExhausted
from duplex._numbers import check_whole
from duplex.engine._runs import check_run
from duplex.engine.channels import ChannelStatistics, ReceiveChannel

T = TypeVar("T")

#: Items that are published before others have their turn: together they cost subscribers, and links, less than one by one.
_RUN: Final = 32


@final
class _Queue:
    """What one subscriber has not taken yet.

    Args:
        most: items that wait at once.
        overflow: what becomes of others.
        room: where publishers wait for room.
    """

    __slots__ = (
        "dropped",
        "is_over",
        "items",
        "most",
        "overflow",
        "receiver",
        "room",
        "taken",
        "was_too_slow",
    )

    def __init__(self, most: int, overflow: Overflow | None, room: trio.lowlevel.ParkingLot) -> None:
        self.most = most
        self.overflow = overflow
        self.room = room
        self.items: deque[Any] = deque()
        #: No more items come; and whether that is because the subscriber was too slow.
        self.is_over = False
        self.was_too_slow = False
        self.dropped = 0
        self.taken = 0
        #: Where the subscriber waits for an item.
        self.receiver = trio.lowlevel.ParkingLot()

    @property
    def has_room(self) -> bool:
        return len(self.items) < self.most

    def offer(self, item: Any) -> bool:
        """Take an item if there is room for it; tell whether that is done."""
        if not self.is_over:
            if len(self.items) >= self.most:
                return False
            self.items.append(item)
            if self.receiver:
                self.receiver.unpark_all()
        return True

    def put(self, item: Any) -> bool:
        """Take an item, or do with it what the subscriber has chosen; tell whether that is done, or the publisher has to wait."""
        if self.offer(item):
            return True
        if self.overflow is None:
            return False
        self.dropped += 1
        if self.overflow == "error":
            self.was_too_slow = True
            self.end()
        elif self.overflow == "drop_oldest":
            self.items.popleft()
            self.items.append(item)
        return True

    def take(self) -> Any:
        """Return the next item."""
        self.taken += 1
        item = self.items.popleft()
        if self.room:
            self.room.unpark_all()
        return item

    def end(self) -> None:
        """Take no more items."""
        self.is_over = True
        self.receiver.unpark_all()
        self.room.unpark_all()


def _too_slow(most: int) -> ResourceExhausted:
    return ResourceExhausted(
        f"the subscription was cut short: {most} items wait to be taken, and its overflow is 'error'; take them faster, or "
        f"have the service subscribe with more buffer= or with overflow='drop_oldest'"
    )


@final
class _Group:
    """Subscribers of whom one gets each item."""

    def __init__(self) -> None:
        #: That which has had an item last comes last.
        self.members: list[_Queue] = []
        self.room = trio.lowlevel.ParkingLot()

    def offer(self, item: Any) -> bool:
        """Give an item to the member with the fewest of those that have room; tell whether that is done."""
        if not self.members:
            return True
        least = self._least()
        if not least.offer(item):
            return False
        self._comes_last(least)
        return True

    def _least(self) -> _Queue:
        """Return the member with the fewest items: of those that have room, unless none has. One with a small buffer must not keep others
        from their work."""
        return min(self.members, key=lambda member: (not member.has_room, len(member.items)))

    def put(self, item: Any) -> bool:
        """Give an item to the member with the fewest; tell whether that is done, or the publisher has to wait."""
        while self.members:
            least = self._least()
            if least.has_room or least.overflow != "error":
                is_done = least.put(item)
                if is_done:
                    self._comes_last(least)
                return is_done
            # It is as slow as all others, and has chosen to be told.
            self.members.remove(least)
            least.put(item)
        return True

    def inherit(self, items: Iterable[Any]) -> None:
        """Have the members share what one who leaves has not taken, whether or not there is room."""
        for item in items if self.members else ():
            least = min(self.members, key=lambda member: len(member.items))
            least.items.append(item)
            least.receiver.unpark_all()
            self._comes_last(least)

    def _comes_last(self, member: _Queue) -> None:
        self.members.remove(member)
        self.members.append(member)


def _check_group(group: object) -> None:
    if group is not None and not (isinstance(group, str) and group):
        raise ConfigurationError(f"group must be a str that is not empty, or None, not {group!r}")


@final
class Topic(Generic[T]):
    """What is published here goes to all who have subscribed. To serve it, stream a subscription::

        news: duplex.Topic[str] = duplex.Topic()

        @board.rpc
        async def headlines() -> AsyncIterator[str]:
            async for headline in news.subscribe(overflow="drop_oldest"):
                yield headline

    It belongs to one event loop at a time, and to no peer: several services, and the program itself, may subscribe.

    Args:
        retain: who subscribes gets the item that was published last at once, if there is one.
    """

    def __init__(self, *, retain: bool = False) -> None:
        self._retain = retain
        self._retained: tuple[T, ...] = ()
        self._is_closed = False
        #: Those without a group (an ordered set), and the groups by name.
        self._alone: dict[_Queue, None] = {}
        self._groups: dict[str, _Group] = {}
        self._count = 0
        #: Items that were published since others last had their turn.
        self._run = 0
        #: Publishers that wait keep their order for all subscribers.
        self._turn = trio.StrictFIFOLock()

    def __repr__(self) -> str:
        return f"<Topic with {self._count} subscribers>"

    @property
    def subscribers(self) -> int:
        """How many there are."""
        return self._count

    async def publish(self, item: T) -> None:
        """Give an item to each subscriber, and to one member of each group.

        Waits for room with those that have no ``overflow``; all others have the item before. Publishers that wait take turns.

        Cancelled means that those for which it waited do not have the item.

        Raises:
            trio.ClosedResourceError: the topic is closed, or is while this waits: then those for which it waited do not have the item.
        """
        check_run()
        if self._turn.locked():
            await self._turn.acquire()
        else:
            await trio.lowlevel.checkpoint_if_cancelled()
            self._turn.acquire_nowait()
        try:
            if self._is_closed:
                raise trio.ClosedResourceError("this topic is closed")
            if self._retain:
                self._retained = (item,)
            full: list[_Queue | _Group] = [queue for queue in self._alone if not queue.offer(item)]
            full += [group for group in self._groups.values() if not group.offer(item)]
            self._run += 1
            if full or self._run == _RUN:
                # Those who are about to take something take it, before it counts that there is no room.
                self._run = 0
                await trio.lowlevel.checkpoint()
            for one in full:
                while not one.put(item):
                    await one.room.park()
                    if self._is_closed:
                        raise trio.ClosedResourceError("this topic was closed while this waited for room")
        finally:
            self._turn.release()

    def subscribe(
        self, *, group: str | None = None, overflow: Overflow | None = None, buffer: int = 64
    ) -> ReceiveChannel[T]:
        """Return a channel that gives what is published from now on, until it is closed or dropped.

        Args:
            group: a name; of all subscribers of a group one gets each item, the one with the fewest that it has not taken, of those that have room. What one
                who leaves has not taken goes to the others. A group gets no retained items.
            overflow: what becomes of an item when ``buffer`` is full. ``None``: publishers wait, and so does everybody else who is
                to get what they publish, so it is for subscribers that can be relied upon. ``"drop_oldest"`` and ``"drop_newest"`` drop an item,
                ``"error"`` has the subscriber fail with ``ResourceExhausted``, when it has taken what came before.
            buffer: items that wait until the subscriber takes them, beside those that its stream has under way.

        Raises:
            ConfigurationError: an argument is wrong.
        """
        check_run()
        _check_group(group)
        if overflow is not None and overflow not in get_args(Overflow):
            raise ConfigurationError(
                f"overflow must be one of {', '.join(map(repr, get_args(Overflow)))} or None, not {overflow!r}"
            )
        check_whole("buffer", buffer, low=1)
        if group is None:
            queue = _Queue(buffer, overflow, trio.lowlevel.ParkingLot())
            queue.items.extend(self._retained)
            self._alone[queue] = None
        else:
            found = self._groups.setdefault(group, _Group())
            queue = _Queue(buffer, overflow, found.room)
            found.members.append(queue)
        self._count += 1
        if self._is_closed:
            queue.end()
        return _Subscription(self, queue, group)

    def close(self) -> None:
        """End the topic: the channels of subscribers end, when these have taken what was published before. Idempotent."""
        self._is_closed = True
        for queue in (*self._alone, *(one for group in self._groups.values() for one in group.members)):
            queue.end()

    def _leave(self, queue: _Queue, group: str | None) -> None:
        """Forget a subscriber."""
        self._count -= 1
        queue.end()
        if group is None:
            self._alone.pop(queue, None)
            return
        found = self._groups.get(group)
        if found is None:
            return  # all of them were too slow
        if queue in found.members:
            found.members.remove(queue)
        found.inherit(queue.items)
        if not found.members:
            del self._groups[group]


@final
class _Subscription(ReceiveChannel[T]):
    """What :meth:`Topic.subscribe` returns."""

    __slots__ = ("_group", "_is_busy", "_is_closed", "_queue", "_token", "_topic")

    def __init__(self, topic: Topic[T], queue: _Queue, group: str | None) -> None:
        self._topic = topic
        self._queue = queue
        self._group = group
        self._is_closed = False
        self._is_busy = False
        self._token = trio.lowlevel.current_trio_token()

    async def receive(self) -> T:
        """See :class:`ReceiveChannel`."""
        queue = self._queue
        if self._is_busy:
            raise trio.BusyResourceError("another task receives from this subscription")
        self._is_busy = True
        try:
            # No more than the buffer holds is taken before others have their turn.
            await trio.lowlevel.checkpoint_if_cancelled()
            while not queue.items:
                if self._is_closed:
                    raise trio.ClosedResourceError("this subscription is closed")
                if queue.is_over:
                    if queue.was_too_slow:
                        # Each time another one: its traceback knows this channel, which must be dropped with it.
                        raise _too_slow(queue.most)
                    raise trio.EndOfChannel
                await queue.receiver.park()
        finally:
            self._is_busy = False
        item: T = queue.take()
        return item

    async def aclose(self) -> None:
        """See :class:`ReceiveChannel`."""
        if not self._is_closed:
            self._is_closed = True
            self._topic._leave(self._queue, self._group)
            self._queue.items.clear()
        await trio.lowlevel.checkpoint()

    def statistics(self) -> ChannelStatistics:
        """See :class:`ReceiveChannel`. Nothing is sent, and items that were never encoded have no bytes."""
        queue = self._queue
        return ChannelStatistics(
            send_credit=0,
            link_credit=0,
            buffered_items=len(queue.items),
            buffered_bytes=0,
            queued_items=0,
            queued_bytes=0,
            waiting_senders=len(queue.room),
            sent=0,
            received=queue.taken,
            dropped=queue.dropped,
        )

    def __del__(self) -> None:
        if self._is_closed:
            return
        leave, arguments = self._topic._leave, (self._queue, self._group)
        try:
            # From any thread, and in the middle of anything: the garbage collector decides.
            self._token.run_sync_soon(leave, *arguments)
        except trio.RunFinishedError:
            leave(*arguments)
