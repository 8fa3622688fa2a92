"""The instrument that transmits once in a pass of the scheduler, and must outlive whatever goes wrong there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

import duplex
from duplex.engine.tasks._flush import MOST_POSTPONED, Flusher, acquire_flusher, release_flusher
from tests.engine.helpers import linked


class Turns:
    """Counts the ends of bursts."""

    def __init__(self, fails: bool = False) -> None:
        self.done = 0
        self.fails = fails

    def sends_done(self) -> None:
        self.done += 1
        if self.fails:
            raise ZeroDivisionError("in the socket")


class Link:
    """Counts transmissions."""

    def __init__(self, turns: Turns, fails: bool = False) -> None:
        self.turns: Any = turns
        self.link = self
        self.sent = 0
        self.fails = fails

    def transmit(self) -> None:
        self.sent += 1
        if self.fails:
            raise ZeroDivisionError("in the link")


def test_a_socket_is_told_once_for_all_its_links() -> None:
    one, other = Turns(), Turns()
    links = [Link(one), Link(one), Link(other)]
    flusher = Flusher()
    flusher.dirty.extend(links)
    flusher.before_io_wait(1)
    assert [link.sent for link in links] == [1, 1, 1]
    assert (one.done, other.done) == (1, 1)
    flusher.before_io_wait(1)
    assert (one.done, other.done) == (1, 1), "there was nothing to do"


def test_sockets_are_asked_before_the_loop_sleeps_and_not_in_every_pass() -> None:
    turns = Turns()
    link = Link(turns)
    flusher = Flusher()
    for _ in range(3):
        flusher.dirty.append(link)
        flusher.before_io_wait(0)
    assert (link.sent, turns.done) == (3, 0)
    flusher.before_io_wait(0.001)
    assert turns.done == 1


def test_sockets_are_asked_also_if_the_loop_never_sleeps() -> None:
    turns: Any = Turns()
    flusher = Flusher()
    flusher.received(turns)
    for _ in range(MOST_POSTPONED):
        flusher.before_io_wait(0)
    assert turns.done == 0
    flusher.before_io_wait(0)
    assert turns.done == 1
    flusher.received(turns)
    flusher.before_io_wait(0)
    assert turns.done == 1, "it is postponed anew"


async def test_nothing_waits_for_a_clock_that_jumps(autojump_clock: object) -> None:
    """The loop never says that it is going to sleep there."""
    service = duplex.Service("service")

    @service.rpc
    async def echo(value: int) -> int:
        return value

    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def tick() -> None:
            while True:
                await trio.sleep(0.1)  # something for the clock to jump to

        began = trio.current_time()
        for _ in range(30):
            async with linked(service) as pair:
                # The caller receives its answer itself, and leaves the lead; who receives the ping then?
                for number in range(8):
                    assert await pair.service("service").echo(number) == number
                    await pair.back.ping()
        assert trio.current_time() == began
        nursery.cancel_scope.cancel()


def _asked_in_a_pass_without_sleep() -> int:
    flusher = acquire_flusher()
    turns: Any = Turns()
    try:
        flusher.received(turns)
        flusher.before_io_wait(0)
        return int(turns.done)
    finally:
        flusher._unsettled.pop(turns, None)
        release_flusher(flusher)


async def test_a_port_is_asked_in_every_pass_of_a_clock_that_jumps(autojump_clock: object) -> None:
    assert _asked_in_a_pass_without_sleep() == 1


async def test_a_port_is_not_asked_in_every_pass_of_a_real_clock() -> None:
    assert _asked_in_a_pass_without_sleep() == 0


@pytest.mark.parametrize("count", [1, 3])
def test_nothing_escapes(count: int, caplog: pytest.LogCaptureFixture) -> None:
    """trio drops an instrument that raises, and with it everything that was ever to be sent."""
    turns = Turns(fails=True)
    links = [Link(turns, fails=True) for _ in range(count)]
    flusher = Flusher()
    flusher.dirty.extend(links)
    flusher.before_io_wait(1)
    assert [link.sent for link in links] == [1] * count
    assert turns.done == 1
    assert len(caplog.records) == count + 1


async def test_one_flusher_for_a_run() -> None:
    one, two = acquire_flusher(), acquire_flusher()
    assert one is two
    release_flusher(two)
    turns = Turns()
    one.dirty.append(Link(turns))
    release_flusher(one)
    assert turns.done == 1, "the last one to leave transmits what is left"
    assert acquire_flusher() is one
    release_flusher(one)


@pytest.mark.plain_wire("counts messages")
async def test_what_is_queued_in_one_pass_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten calls made by ten tasks at once are one message, and so are the answers."""
    service = duplex.Service("service")

    @service.rpc
    async def good() -> None:
        pass

    async with linked(service) as pair:
        messages = 0
        receive: Callable[..., Any] = pair.back._inside.connection.receive

        def count(*arguments: Any) -> Any:
            nonlocal messages
            messages += 1
            return receive(*arguments)

        monkeypatch.setattr(pair.back._inside.connection, "receive", count)
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(pair.service("service").good)
        assert messages == 1


async def test_a_bug_in_handling_a_message_costs_its_link_only(caplog: pytest.LogCaptureFixture) -> None:
    async with linked() as good, duplex.open_peer(name="other") as other:
        link = await other.connect(good.endpoint)
        (back,) = [one for one in good.server.links if one.peer_name == "other"]

        def broken(event: Any) -> None:
            raise ZeroDivisionError("a bug of ours")

        back._inside.inbound._dispatch = dict.fromkeys(back._inside.inbound._dispatch, broken)
        with pytest.raises(duplex.PeerLost):
            await link.service("duplex.health").check()
        assert "a bug of ours" in caplog.text
        assert await good.service("duplex.health").check() == "SERVING"


def test_links_behind_are_transmitted_later_than_others() -> None:
    turns = Turns()
    links = [Link(turns), Link(turns), Link(turns)]
    flusher = Flusher()
    flusher.dirty.extend(links)
    flusher.transmit_but({links[1]})
    assert [link.sent for link in links] == [1, 0, 1]
    flusher.before_io_wait(1)
    assert [link.sent for link in links] == [1, 1, 1]
    assert turns.done == 1
