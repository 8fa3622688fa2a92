"""A remote end that reads nothing, or asks for what costs it nothing, cannot make a peer keep more than its limits."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from duplex.engine.serving._services import nearest
from tests.engine.helpers import linked, outcome, until
from tests.engine.raw import HELLO, RawDealer
from tests.machine import fail_after

#: A window as large as can be said.
HUGE = {"link_window": 2**53 - 1, "channel_window": 2**53 - 1}
KEPT = 128 * 1024
ITEM = 4096


class Source:
    """A service whose stream counts what was asked of it."""

    def __init__(self) -> None:
        self.items = 0
        self.service = service = duplex.Service("source")

        @service.rpc
        async def download() -> AsyncIterator[bytes]:
            while True:
                yield bytes(ITEM)
                self.items += 1

        @service.rpc
        async def add(a: int, b: int) -> int:
            return a + b


async def _stands_still(source: Source) -> int:
    """Wait until no more is asked of the stream, and return how much was."""
    await until(lambda: source.items)
    await trio.testing.wait_all_tasks_blocked()
    return source.items


@pytest.mark.parametrize("how", ["window", "grant"])
async def test_a_download_waits_for_what_is_read_not_for_what_is_granted(how: str) -> None:
    source = Source()
    async with duplex.open_peer(services=[source.service], limits=duplex.Limits(max_unsent=KEPT)) as server:
        with fail_after(10), RawDealer(await server.bind("tcp://127.0.0.1:*")) as raw:
            raw.say([*HELLO, ["msgpack"], [], HUGE if how == "window" else {}])
            await raw.commands(0)
            grants = [[6, 0, 2**52], [6, 1, 2**52]] if how == "grant" else []
            raw.say([7, 1, "source.download", 1, b"\x91\x90"], *grants)
            first = await _stands_still(source)
            assert KEPT * 3 // 4 < first * ITEM <= KEPT + ITEM
            # The same for another ten times as much, as it is read: an answer to a ping proves what came before.
            answered = 0
            while source.items < 10 * first:
                pings = await raw.commands(3, answered + 1)
                assert source.items - len([c for c in raw.received if c[0] == 8]) <= first + 1
                raw.say(*[[4, ping[1], 0] for ping in pings[answered:]])
                answered = len(pings)


async def test_who_reads_no_refusals_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    source = Source()
    limits = duplex.Limits(max_unsent=KEPT)
    async with (
        duplex.open_peer(services=[source.service], limits=limits) as server,
        duplex.open_peer() as client,
    ):
        with fail_after(10), RawDealer(await server.bind("tcp://127.0.0.1:*")) as raw:
            await client.connect(server.endpoints[0])
            await raw.shake_hands()
            await until(lambda: len(server.links) == 2)
            (link,) = [link for link in server.links if link.peer_name == "raw"]
            for number in range(100):
                raw.say(*[[7, 2 * (100 * number + n) + 1, "source.nothing", 1] for n in range(100)])
            await link.wait_closed()
            assert len(server.links) == 1
            assert await client.service("source").add(1, 2) == 3
            goodbye = await raw.hears_the_end()
            assert goodbye[2] == "closing"
            assert "bytes of answers wait for the peer" in goodbye[3]
            answers = [command for command in raw.received if command[0] == 10]
            assert sum(len(str(answer)) for answer in answers) < 2 * KEPT
    (record,) = [record for record in caplog.records if "is cut" in record.message]
    assert record.levelno == logging.WARNING
    assert "Limits.max_unsent" in record.message


async def test_who_reads_them_may_be_refused_without_end() -> None:
    async with linked(Source().service, server={"limits": duplex.Limits(max_unsent=64 * 1024)}) as pair:
        for _ in range(1000):
            assert type(await outcome(pair.service("source").nothing())) is duplex.Unimplemented
        assert pair.link.is_open


async def test_a_refusal_is_short_however_much_there_is() -> None:
    service = duplex.Service("many")

    async def method(x: int) -> int:
        return x

    for number in range(150):
        service.rpc(name=f"method_{number:03d}")(method)
    others = [duplex.Service(f"other_{number:02d}_{'y' * 240}") for number in range(50)]
    async with linked(service, *others) as pair:
        error = await outcome(pair.service("many")["method_070x"]())
        assert error.message.endswith(
            "it has method_069, method_070, method_071, method_072, method_073 and 145 others"
        )
        error = await outcome(pair.link.service("other_10")["y"]())
        assert "other_10_yyy" in error.message
        assert len(error.message) == 1024


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (0, "none"),
        (1, "a"),
        (5, "a, b, c, d, e"),
        (6, "b, c, d, e, f and 1 others"),
    ],
)
def test_names_are_told_up_to_a_number(number: int, told: str) -> None:
    assert nearest("x", list("abcdef"[:number])) == told


async def test_the_names_in_a_refusal_are_the_nearest() -> None:
    service = duplex.Service("svc")

    async def method() -> None:
        pass

    for name in "abcdefghij":
        service.rpc(name=name)(method)
    async with linked(service) as pair:
        for wrong, named in (
            ("_", "a, b, c, d, e"),
            ("cc", "b, c, d, e, f"),
            ("zz", "f, g, h, i, j"),
        ):
            assert pair.server._inside.services.explain_missing(f"svc.{wrong}").endswith(
                f"it has {named} and 5 others"
            )


@pytest.mark.parametrize("more", [0, 1])
async def test_details_of_the_largest_size(more: int) -> None:
    service = duplex.Service("svc")
    text = "x" * (64 * 1024 - 3 + more)  # three bytes say how long it is

    @service.rpc
    async def fail() -> None:
        raise duplex.NotFound("nothing", details=text)

    async with linked(service) as pair:
        error = await outcome(pair.service("svc").fail())
    assert error.details == (None if more else text)


async def test_details_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """They cost no credit."""
    service = duplex.Service("svc")

    @service.rpc
    async def fail(size: int) -> None:
        raise duplex.NotFound("nothing", details=list(range(size)))

    async with linked(service) as pair:
        error = await outcome(pair.service("svc").fail(1000))
        assert len(error.details) == 1000
        error = await outcome(pair.service("svc").fail(100_000))
        assert error.message == "nothing"
        assert error.details is None
    assert any("details over 64 KiB cannot travel" in record.message for record in caplog.records)


@pytest.mark.parametrize("key", [None, "k"])
async def test_many_calls_that_fail_at_once_are_told_in_short(
    key: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """An honest peer gets all of them, however large they would be, and keeps its link."""
    service = duplex.Service("service")
    go = trio.Event()

    @service.rpc
    async def fail() -> None:
        await go.wait()
        duplex.current_call().trailers["more"] = "x" * 1000
        raise duplex.Unavailable("y" * 1000, details="z" * 1000)

    async with linked(service, server={"limits": duplex.Limits(max_unsent=KEPT)}) as pair:
        errors: list[Any] = []

        async def call(number: int) -> None:
            method = pair.service("service").fail
            if key is not None:
                method = method.with_options(idempotency_key=f"{key}{number}")
            errors.append(await outcome(method()))

        async with trio.open_nursery() as nursery:
            for number in range(60):
                nursery.start_soon(call, number)
            await until(lambda: pair.server._inside.admission.running == 60)
            go.set()
        assert {type(error) for error in errors} == {duplex.Unavailable}
        whole = [error for error in errors if error.details]
        short = [error for error in errors if not error.details]
        assert {(len(error.message), len(error.metadata["more"])) for error in whole} == {(1000, 1000)}
        assert {(len(error.message), len(error.metadata)) for error in short} == {(256, 0)}
        assert all(error.may_have_executed for error in errors)
        assert whole
        assert short
        assert pair.link.is_open
    assert "without their details" in caplog.text


@pytest.mark.parametrize("how", ["call", "open", "notify"])
async def test_many_calls_with_metadata_wait_for_each_other(how: str) -> None:
    """It costs no credit, and is no reason to give the link up either."""
    source = Source()
    done = 0
    async with linked(source.service, client={"limits": duplex.Limits(max_unsent=KEPT)}) as pair:
        method = pair.service("source").add.with_options(metadata={"token": "x" * 5000})

        async def call() -> None:
            nonlocal done
            if how == "call":
                assert await method(1, 2) == 3
            elif how == "open":
                async with method.open(1, 2) as opened:
                    assert await opened.result() == 3
            else:
                await method.notify(1, 2)
            done += 1

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(call)
        assert done == 100
        await pair.settle()
        assert pair.link.is_open


@pytest.mark.parametrize("key", [None, "k"])
async def test_many_results_with_trailers_wait_for_each_other(key: str | None) -> None:
    service = duplex.Service("service")
    go = trio.Event()

    @service.rpc
    async def work(number: int) -> int:
        await go.wait()
        duplex.current_call().trailers["more"] = "x" * 5000
        return number

    async with linked(service, server={"limits": duplex.Limits(max_unsent=KEPT)}) as pair:
        results: list[int] = []

        async def call(number: int) -> None:
            method = pair.service("service").work
            if key is not None:
                method = method.with_options(idempotency_key=f"{key}{number}")
            results.append(await method(number))

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(call, number)
            await until(lambda: pair.server._inside.admission.running == 100)
            go.set()
        assert sorted(results) == list(range(100))
        assert pair.link.is_open
