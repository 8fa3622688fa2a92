"""Forks, Ctrl-C, and the report of what is under way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio

import duplex
from tests.engine.helpers import ROOT, feed, linked, until
from tests.machine import within

service = duplex.Service("service")


@service.rpc
async def good() -> int:
    return 1


@service.rpc
async def hang() -> None:
    await trio.sleep_forever()


@service.rpc
async def count() -> AsyncIterator[int]:
    number = 0
    while True:
        yield number
        number += 1


@service.rpc
async def hoard(items: duplex.ReceiveChannel[bytes]) -> None:
    await trio.sleep_forever()


def in_a_fork(function: Callable[[], None]) -> str:
    """Run a function in a fork of this process, which then ends at once; return its error, as text."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            function()
            text = "no error"
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(writing, text.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        text = file.read().decode()
    os.waitpid(child, 0)
    return text


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("what", ["call", "open", "connect", "notify"])
async def test_a_forked_child_is_told_that_the_peer_is_not_its_own(what: str) -> None:
    async with linked(service, endpoint="tcp://127.0.0.1:*") as pair:
        remote = pair.service("service")

        async def use() -> None:
            if what == "connect":
                pair.client.connect_soon(pair.endpoint)
            elif what == "open":
                async with remote.count.open() as numbers:
                    await numbers.receive()
            elif what == "notify":
                await remote.good.notify()
            else:
                await remote.good()

        def child() -> None:
            use().send(None)  # as trio would: the error comes before anything is waited for

        error = in_a_fork(child)
        assert error.startswith("RuntimeError: this peer belongs to process"), error
        assert f"process {os.getpid()}, and this is a fork of it" in error
        assert "spawn" in error
        assert await remote.good() == 1, "the parent goes on"


_FORKING = """
import gc, multiprocessing, sys, trio, duplex

async def main():
    service = duplex.Service("service")

    @service.rpc
    async def good() -> int:
        return 1

    async with duplex.open_peer(services=[service]) as server, duplex.open_peer() as client:
        await client.connect(await server.bind("tcp://127.0.0.1:*"))

        def work():
            client._inside.close()  # which says nothing to anybody here
            del globals()["trio"]
            gc.collect()
            sys.exit(7)

        child = multiprocessing.get_context("fork").Process(target=work)
        child.start()
        await trio.to_thread.run_sync(child.join)
        assert child.exitcode == 7, child.exitcode
        (link,) = client.links
        for _ in range(100):
            assert await client.service("service").good() == 1
        assert client.links == [link]
        print("fine")

trio.run(main)
"""


@pytest.mark.slow
def test_a_forked_child_ends_without_harm_to_its_parent() -> None:
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _FORKING],
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert run.stdout.endswith("fine\n"), run.stderr
    assert run.returncode == 0, run.stderr


_INTERRUPTED = """
import sys, trio, duplex
service = duplex.Service("service")

@service.rpc
async def spin() -> None:
    while True:
        await trio.lowlevel.checkpoint()

@service.rpc(inline=True)
def add(a: int, b: int) -> int:
    return a + b

async def main():
    async with duplex.open_peer(services=[service]) as server, duplex.open_peer() as client:
        await client.connect(await server.bind("tcp://127.0.0.1:*"))
        remote = client.service("service")

        async def forever():
            while True:
                await remote.add(1, 2)

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(forever)
                nursery.start_soon(remote.spin)
            print("busy", flush=True)

try:
    trio.run(main)
except* KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_ctrl_c_ends_a_busy_program(seed: int) -> None:
    """Wherever it strikes: handlers, callers, or the engine itself."""
    # Not where coverage measures: Ctrl-C within its tracer leaves its lock taken, and the program hangs in that.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    with subprocess.Popen(
        [sys.executable, "-c", _INTERRUPTED],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as running:  # fmt: skip
        assert running.stdout is not None
        try:
            assert running.stdout.readline() == "busy\n"
            # Bytes that arrive say nothing of where the program is, so time has to.
            trio.run(trio.sleep, 0.05 + 0.037 * seed)
            running.send_signal(signal.SIGINT)
            out, err = running.communicate(timeout=within(20))
        finally:
            running.kill()
    assert out == "interrupted\n", err
    assert running.returncode == 0, err
    assert "Exception ignored" not in err
    assert "never awaited" not in err


async def test_calls_under_way_are_listed_on_both_sides() -> None:
    limits = duplex.Limits(channel_window=2000)
    async with linked(service, server={"limits": limits}) as pair, trio.open_nursery() as nursery:
        assert pair.client.calls() == pair.server.calls() == []
        remote = pair.service("service")
        nursery.start_soon(remote.hang.with_options(timeout=8))
        await until(lambda: pair.server.calls())

        async def stall() -> None:
            async with remote.hoard.open() as call:
                await feed(call, bytes(500))

        async def read_nothing() -> None:
            async with remote.count.open():
                await trio.sleep_forever()

        nursery.start_soon(stall)
        nursery.start_soon(read_nothing)
        await until(lambda: len(pair.server.calls()) == 3 and pair.back._inside.credit.waiters)
        await until(lambda: pair.link._inside.credit.waiters)
        await until(lambda: any(call.unread > 1000 for call in pair.client.calls()))
        outgoing = {call.method: call for call in pair.client.calls()}
        incoming = {call.method: call for call in pair.server.calls()}
        assert next(iter(outgoing)) == next(iter(incoming)) == "service.hang", "the oldest first"
        assert outgoing.keys() == incoming.keys() == {"service.hang", "service.hoard", "service.count"}
        for name, calls, peer in (("outgoing", outgoing, "server"), ("incoming", incoming, "client")):
            for call in calls.values():
                assert (call.direction, call.peer) == (name, peer)
                assert 0 <= call.age < 10
                assert call.channel
        for calls in (outgoing, incoming):
            assert calls["service.hang"].remaining is not None
            assert 0 < calls["service.hang"].remaining <= 8
            assert calls["service.hoard"].remaining is not None  # that of the test
        assert outgoing["service.hoard"].credit <= 0
        assert outgoing["service.hoard"].waiting_senders == 1
        assert incoming["service.hoard"].unread >= 3
        assert outgoing["service.count"].unread > 1000
        assert incoming["service.count"].waiting_senders == 1
        texts = [str(call) for call in outgoing.values()]
        assert any("to server  channel" in text and "1 senders wait for credit" in text for text in texts)
        nursery.cancel_scope.cancel()
    assert str(
        duplex.CallInfo(direction="waiting", method="calc", peer="", age=1.25, peer_is_slow=True)
    ).split() == ["1.250", "s", "waiting", "calc", "for", "a", "link", "(peer", "is", "slow)"]


async def test_a_unary_call_that_waits_for_credit_is_listed() -> None:
    limits = duplex.Limits(link_window=2000, link_buffer=0, channel_window=5000)
    async with linked(service, server={"limits": limits}) as pair, trio.open_nursery() as nursery:
        remote: Any = pair.service("service")

        async def stall() -> None:
            async with remote.hoard.open() as call:
                # One item, larger than the window: it takes all there is, the part for calls too.
                await call.send(bytes(3000))
                await trio.sleep_forever()

        nursery.start_soon(stall)
        await until(lambda: pair.link.statistics().send_credit <= 0)
        nursery.start_soon(remote.good)
        await until(lambda: pair.link._inside.credit.waiters)
        (waiting,) = [call for call in pair.client.calls() if call.method == "service.good"]
        assert (waiting.channel, waiting.waiting_senders) == (0, 1)
        assert 0 <= waiting.age < 10
        nursery.cancel_scope.cancel()
