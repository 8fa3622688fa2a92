"""Calls without an answer."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator

import pytest
import trio

import duplex
from tests.engine.helpers import Pair, linked, until
from tests.machine import fail_after


class Witness:
    """A service that notes what reaches it."""

    def __init__(self) -> None:
        self.seen: list[object] = []
        self.ended: list[str] = []
        self.go = trio.Event()
        self.service = service = duplex.Service("witness")

        @service.rpc
        async def note(value: object) -> str:
            self.seen.append(value)
            return "nobody sees this"

        @service.rpc
        def note_in_thread(value: object) -> None:
            self.seen.append(value)

        @service.rpc(inline=True)
        def note_inline(value: object) -> None:
            self.seen.append(value)

        @service.rpc
        async def fail() -> None:
            raise ValueError("nobody hears this")

        @service.rpc
        async def count(upto: int) -> AsyncIterator[int]:
            try:
                for number in range(upto):
                    yield number
            finally:
                self.ended.append("count")

        @service.rpc
        async def total(numbers: duplex.ReceiveChannel[int]) -> int:
            self.seen.append("must not run")
            return 0

        @service.rpc
        async def wait() -> None:
            self.seen.append("waiting")
            try:
                await self.go.wait()
            finally:
                self.ended.append("wait")

        @service.rpc
        async def look() -> None:
            call = duplex.current_call()
            self.seen.append((call.method, dict(call.metadata), call.time_remaining < math.inf))
            call.trailers["lost"] = "yes"


async def test_notification_arrives(endpoint: str) -> None:
    witness = Witness()
    async with linked(witness.service, endpoint=endpoint) as pair:
        remote = pair.service("witness")
        await remote.note.notify(1)
        await remote.note_in_thread.notify(2)
        await remote.note_inline.notify(3)
        await until(lambda: len(witness.seen) == 3)
    assert sorted(map(str, witness.seen)) == ["1", "2", "3"]


async def test_it_does_not_wait_for_the_handler() -> None:
    witness = Witness()
    async with linked(witness.service) as pair:
        await pair.service("witness").wait.notify()
        await until(lambda: witness.seen)
        assert witness.ended == []
        witness.go.set()
        await until(lambda: witness.ended)


async def test_metadata_and_deadline_travel() -> None:
    witness = Witness()
    async with linked(witness.service) as pair:
        await pair.service("witness").with_options(metadata={"a": "b"}).look.notify()
        await until(lambda: witness.seen)
    assert witness.seen == [("witness.look", {"a": "b"}, True)]


async def test_what_cannot_be_sent_says_what_it_was() -> None:
    async with linked(Witness().service, check=False) as pair:
        remote = pair.link.service("witness").wait
        await pair.link.aclose()
        with pytest.raises(duplex.PeerLost) as caught:
            await remote.notify()
        assert caught.value.method == "witness.wait"
        assert caught.value.peer == pair.link.peer_name


async def test_deadline_ends_a_notification(autojump_clock: object) -> None:
    witness = Witness()
    async with linked(witness.service, within=60) as pair:
        with trio.move_on_after(1):
            await pair.service("witness").wait.notify()
        await until(lambda: witness.seen)
        started = trio.current_time()
        while not witness.ended:
            await trio.sleep(0.1)
        assert trio.current_time() - started == pytest.approx(1, abs=0.2)


async def test_failure_is_logged_where_it_happens(caplog: pytest.LogCaptureFixture) -> None:
    witness = Witness()
    async with linked(witness.service) as pair:
        await pair.service("witness").fail.notify()
        await until(lambda: caplog.records)
        await pair.service("witness").note(1)
    assert "witness.fail" in caplog.text
    assert "nobody hears this" in caplog.text


async def test_method_that_does_not_exist(caplog: pytest.LogCaptureFixture) -> None:
    witness = Witness()
    async with linked(witness.service) as pair:
        await pair.service("witness").nowhere.notify()
        await until(lambda: caplog.records)
        await pair.service("witness").note(1)
    assert "'nowhere'" in caplog.text


async def test_wrong_arguments(caplog: pytest.LogCaptureFixture) -> None:
    witness = Witness()
    async with linked(witness.service) as pair:
        await pair.service("witness").note.notify(1, 2, 3)
        await until(lambda: caplog.records)
        await pair.service("witness").note(1)
    assert witness.seen == [1]


async def test_live_values_cannot_be_passed() -> None:
    witness = Witness()
    async with linked(witness.service) as pair:
        for value in (lambda: 1, trio.open_memory_channel[int](0)[0]):
            with pytest.raises(duplex.EncodeError):
                await pair.service("witness").note.notify(value)
        await pair.service("witness").note(1)


async def _notify_and_go_on(pair: Pair, method: str, *arguments: object) -> None:
    remote = pair.service("witness")
    await remote[method].notify(*arguments)
    for _ in range(5):
        await pair.settle()
    await remote.note(1)


async def test_generator_has_nobody_to_yield_to(caplog: pytest.LogCaptureFixture) -> None:
    """Its handler ends, one way or the other: nobody would ever cancel it."""
    witness = Witness()
    async with linked(witness.service) as pair:
        await _notify_and_go_on(pair, "count", 10)


async def test_handler_that_wants_a_stream_is_not_run(caplog: pytest.LogCaptureFixture) -> None:
    witness = Witness()
    async with linked(witness.service) as pair:
        await _notify_and_go_on(pair, "total")
        await until(lambda: caplog.records)
    assert witness.seen == [1]
    assert "witness.total" in caplog.text
    (record,) = caplog.records
    assert record.levelname == "WARNING", "a mistake of whoever calls"
    assert record.exc_info is None


async def test_notification_outlives_its_link(endpoint: str) -> None:
    """Nobody waits for it in any case, so it is all the same to it whether its caller is still there."""
    witness = Witness()
    async with linked(witness.service, endpoint=endpoint, check=False) as pair:
        await pair.service("witness").wait.notify()
        await until(lambda: witness.seen)
        await pair.link.aclose()
        await pair.back.wait_closed()
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        assert witness.ended == []
        witness.go.set()
        await until(lambda: witness.ended)


@pytest.mark.parametrize("late", [False, True])
async def test_drain_waits_for_notifications_whose_links_are_gone(autojump_clock: object, late: bool) -> None:
    """As for all others; and no longer."""
    witness = Witness()
    async with linked(witness.service, within=1000, check=False) as pair, trio.open_nursery() as nursery:
        await pair.service("witness").wait.notify()
        await until(lambda: witness.seen)
        await pair.link.aclose()
        await pair.back.wait_closed()
        began = trio.current_time()

        async def end_later() -> None:
            await trio.sleep(7)
            witness.go.set()

        if not late:
            nursery.start_soon(end_later)
        await pair.server.drain(20)
        assert witness.ended == ["wait"]
        assert trio.current_time() - began == pytest.approx(20 if late else 7, abs=0.1)


async def test_flood_is_bounded() -> None:
    """Notifications that run hold their credit, so only so many run at once, and none is lost."""
    witness = Witness()
    limits = duplex.Limits(link_window=64 * 1024)
    sent = 0

    async with linked(witness.service, server={"limits": limits}) as pair:
        async with trio.open_nursery() as nursery:

            async def flood() -> None:
                nonlocal sent
                for _ in range(100):
                    await pair.service("witness").wait.notify()
                    sent += 1

            nursery.start_soon(flood)
            await until(lambda: len(witness.seen) >= 16)
            for _ in range(5):
                await pair.settle()
            assert sent == len(witness.seen) <= 17
            witness.go.set()
        await until(lambda: len(witness.ended) == 100)


async def test_notification_without_a_link() -> None:
    with fail_after(5):
        async with duplex.open_peer() as peer:
            with pytest.raises(duplex.Unavailable, match="has not connected"):
                await peer.service("witness").note.notify(1)
