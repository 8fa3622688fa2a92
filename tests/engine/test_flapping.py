"""Remote ends that give up each link as soon as it is made: the next one is made after a pause that grows."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, cast

import msgpack
import pytest
import trio

import duplex
from duplex.engine.links._succession import MOST_LEFT, Succession
from duplex.transports import DEFAULT, Carrier, Frames, Port, TransportOptions
from tests.engine.helpers import outcome, until
from tests.engine.raw import HELLO, RawRouter, batch
from tests.machine import fail_after

#: Enough to show that there is no pause.
TOO_MANY: Final = 300

GREETING: Final = [*HELLO, ["msgpack"], [], {}, [{"name": "service"}]]


class Fickle:
    """A bound remote end, which answers each greeting as it was told to."""

    port: Port

    def __init__(self, answers: list[list[Any]], *, hangs_up: bool) -> None:
        self.answers = answers
        self.hangs_up = hangs_up
        #: When links were made, by trio's clock.
        self.greeted: list[float] = []
        self.others: list[list[Any]] = []
        self.carriers: list[Carrier] = []

    def carrier_up(self, carrier: Carrier) -> None:
        self.carriers.append(carrier)

    def carrier_message(self, carrier: Carrier, frames: Frames) -> None:
        for command in msgpack.unpackb(frames[0], strict_map_key=False):
            if command[0] == 0:
                self.greeted.append(trio.current_time())
                if len(self.greeted) >= TOO_MANY:
                    self.port.close()
                    return
                for answer in self.answers:
                    carrier.send([batch(*answer)])
                if self.hangs_up:
                    # A bound port cannot cut a connection, but what is behind it can.
                    cast("Any", carrier)._link.end("it hung up")
            else:
                self.others.append(command)

    def carrier_down(self, carrier: Carrier, reason: str) -> None:
        self.carriers.remove(carrier)


@contextlib.asynccontextmanager
async def fickle(*answers: list[Any], hangs_up: bool = False) -> AsyncIterator[Fickle]:
    remote = Fickle(list(answers), hangs_up=hangs_up)
    remote.port = DEFAULT.transport_for("memory://").bind("memory://fickle", remote, TransportOptions())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(remote.port.run)
        yield remote
        remote.port.close()


WAYS: Final[dict[str, Callable[[], Any]]] = {
    "draining": lambda: fickle([GREETING], [[5, 0, "draining"]]),
    "draining at once": lambda: fickle([GREETING, [5, 0, "draining"]]),
    "draining again and again": lambda: fickle([GREETING], *[[[5, 0, "draining"]]] * 5),
    "draining, and then closed": lambda: fickle([GREETING], [[5, 0, "draining"]], hangs_up=True),
    "draining, then a wrong command": lambda: fickle([GREETING], [[5, 0, "draining"]], [[99]]),
    "a reason of a later version": lambda: fickle([GREETING], [[5, 0, "yawning"]]),
    "closing": lambda: fickle([GREETING], [[5, 0, "closing"]]),
    "closed": lambda: fickle([GREETING], hangs_up=True),
    "closed without an answer": lambda: fickle(hangs_up=True),
    "refused": lambda: fickle([[1, "limit", "full"]]),
    "refused as draining": lambda: fickle([[1, "draining"]], hangs_up=True),
    "a wrong answer": lambda: fickle([[99]]),
    "a wrong command": lambda: fickle([GREETING], [[99]]),
    "two greetings": lambda: fickle([GREETING], [GREETING], hangs_up=True),
}


@pytest.mark.parametrize("way", WAYS)
async def test_links_that_do_not_last_become_rare(way: str, autojump_clock: object) -> None:
    """With the pauses of Reconnect: 0.1 s, 0.2 s and so on, and never more than 5 s, a fifth more or less."""
    async with WAYS[way]() as remote, duplex.open_peer() as client:
        client.connect_soon("memory://fickle")
        await trio.sleep(120)
        assert 120 / 5 <= len(remote.greeted) <= 6 + 120 / (0.8 * 5) + 2
        gaps = [after - before for before, after in zip(remote.greeted, remote.greeted[1:], strict=False)]
        assert min(gaps[1:]) >= 0.8 * 0.1
        assert max(gaps) <= 5.001
        # Nor do links add up that the other side does not end.
        assert len(client.links) <= MOST_LEFT + 1
        assert len(client._inside.ports.receivers) <= MOST_LEFT + 2
        assert len(remote.carriers) <= MOST_LEFT + 1


async def test_the_first_time_a_link_is_left_the_next_one_comes_at_once(autojump_clock: object) -> None:
    async with fickle([GREETING], [[5, 0, "draining"]]) as remote, duplex.open_peer() as client:
        client.connect_soon("memory://fickle")
        await trio.sleep(0.05)
        assert len(remote.greeted) == 2


async def test_links_that_lasted_are_replaced_at_once(autojump_clock: object) -> None:
    """However often: they were drained by somebody who means it."""
    async with fickle([GREETING]) as remote, duplex.open_peer() as client:
        client.connect_soon("memory://fickle")
        for number in range(1, 20):
            await trio.sleep(6)
            assert len(remote.greeted) == number
            remote.carriers[-1].send([batch([5, 0, "draining"])])
            await trio.sleep(0.01)
            assert len(remote.greeted) == number + 1


async def test_links_that_this_side_finds_too_old_are_replaced_at_once(autojump_clock: object) -> None:
    keepalive = duplex.Keepalive(max_age=1)
    async with fickle([GREETING]) as remote, duplex.open_peer(keepalive=keepalive) as client:
        client.connect_soon("memory://fickle")
        await trio.sleep(60)
        assert 50 <= len(remote.greeted) <= 70


async def test_a_link_on_which_a_call_waits_is_kept(autojump_clock: object) -> None:
    """Until the call is over, however many come and go after it."""
    async with fickle([GREETING]) as remote, duplex.open_peer() as client, trio.open_nursery() as nursery:
        link = await client.connect("memory://fickle")
        results: list[Any] = []

        async def call() -> None:
            results.append(await outcome(link.service("service").method()))

        nursery.start_soon(call)
        await until(lambda: remote.others)
        (first,) = remote.carriers
        remote.answers.append([[5, 0, "draining"]])
        first.send([batch([5, 1, "draining"])])
        await trio.sleep(120)
        assert link in client.links
        first.send([batch([10, 1, 0, b"\x2a"])])
        await until(lambda: results)
        assert results == [42]
        await trio.sleep(10)
        assert link not in client.links


async def test_calls_to_a_remote_end_that_is_idle_at_once_connect_after_pauses(
    autojump_clock: object,
) -> None:
    async with fickle([GREETING], [[5, 0, "idle"]]) as remote, duplex.open_peer() as client:
        client.connect_soon("memory://fickle")
        remote_service = client.service("service").with_options(timeout=0.01)
        with trio.move_on_after(60):
            while True:
                with contextlib.suppress(duplex.RPCError):
                    await remote_service.method()
        assert 5 <= len(remote.greeted) <= 25


async def test_who_does_not_wait_is_told_of_the_pause(autojump_clock: object) -> None:
    async with fickle([GREETING], [[5, 0, "draining"]], hangs_up=True), duplex.open_peer() as client:
        client.connect_soon("memory://fickle")
        await trio.sleep(30)
        remote = client.service("service").with_options(wait_for_ready=False)
        errors = []
        for _ in range(20):
            errors.append(str(await outcome(remote.method())))
            await trio.sleep(0.3)
        assert any(
            "as soon as they were made, and the next one is made after a pause" in text for text in errors
        )


async def test_disconnecting_ends_the_pause(autojump_clock: object) -> None:
    async with (
        fickle([GREETING], [[5, 0, "draining"]], hangs_up=True) as remote,
        duplex.open_peer() as client,
    ):
        client.connect_soon("memory://fickle")
        await trio.sleep(30)
        while not any(receiver.is_pausing for receiver in client._inside.ports.receivers):
            await trio.sleep(0.1)
        greeted = len(remote.greeted)
        await client.disconnect("memory://fickle")
        await trio.testing.wait_all_tasks_blocked()
        assert not [task.name for task in client._inside.home.nursery.child_tasks if "port" in task.name]
        await trio.sleep(30)
        assert len(remote.greeted) == greeted


async def test_over_sockets_too() -> None:
    """A server that drains after each greeting: what comes in a second are a handful of links."""
    with fail_after(10), RawRouter() as router:
        reconnect = duplex.Reconnect(initial=0.2, jitter=0)
        greetings = 0
        async with duplex.open_peer(reconnect=reconnect) as client:
            client.connect_soon(router.endpoint)
            with trio.move_on_after(1):
                while greetings < 50:
                    await router.more()
                    greetings += sum(command[0] == 0 for command in router.received)
                    router.received.clear()
                    router.say(GREETING)
                    router.say([5, 0, "draining"])
        # At once, at once, after 0.2 s, 0.4 s and 0.8 s.
        assert 2 <= greetings <= 5


def test_pauses_count_from_when_the_link_was_made() -> None:
    succession = Succession(duplex.Reconnect(initial=1, multiplier=2, maximum=4, jitter=0))
    assert [succession.pause(0.5) for _ in range(5)] == [0, 0.5, 1.5, 3.5, 3.5]
    assert succession.pause(3) == 1
    assert succession.pause(4) == 0
    assert [succession.pause(0) for _ in range(3)] == [0, 1, 2]
