"""What is particular to ``memory://``."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from duplex import BindError, ConfigurationError, Reconnect
from duplex.transports import CarrierDown, MemoryTransport, TransportOptions
from tests.machine import fail_after
from tests.transports.helpers import QUICK, Recorder, open_ports


async def test_sending_from_before_io_wait_reschedules_nothing_there() -> None:
    """trio drops an instrument that raises, and breaks when tasks are rescheduled in one."""

    class Sends(trio.abc.Instrument):
        def __init__(self) -> None:
            self.left = 100
            self.calls = 0

        def before_io_wait(self, timeout: float) -> None:
            self.calls += 1
            if self.left:
                self.left -= 1
                for recorder in (bound, connecting):
                    recorder.send(recorder.ups[0], b"%d" % self.left)

    async with open_ports() as ports:
        bound, connecting = await ports.pair("memory://*")
        instrument = Sends()
        trio.lowlevel.add_instrument(instrument)
        expected = [[b"%d" % number] for number in reversed(range(100))]
        assert await bound.received(100) == expected
        assert await connecting.received(100) == expected
        trio.lowlevel.remove_instrument(instrument)
        assert instrument.calls >= 100


async def test_messages_of_a_tick_wake_the_receiver_once() -> None:
    async with open_ports() as ports:
        bound, connecting = await ports.pair("memory://*")
        turns = []
        bound.on_message = lambda carrier, frames: turns.append(trio.lowlevel.current_statistics())
        for number in range(10):
            connecting.send(connecting.ups[0], b"%d" % number)
        assert not bound.messages
        await bound.received(10)


async def test_a_long_queue_lets_other_tasks_in() -> None:
    async with open_ports() as ports:
        bound, connecting = await ports.pair("memory://*")
        for number in range(1000):
            connecting.send(connecting.ups[0], b"%d" % number)
        seen = []
        while len(bound.messages) < 1000:
            await trio.lowlevel.checkpoint()
            seen.append(len(bound.messages))
        assert len(set(seen)) > 10


async def test_names_belong_to_one_run() -> None:
    async with open_ports() as ports:
        await ports.pair("memory://name")

        def elsewhere() -> None:
            async def main() -> None:
                async with open_ports() as ports:
                    await ports.pair("memory://name")

            trio.run(main)

        await trio.to_thread.run_sync(elsewhere)


async def test_bound_names() -> None:
    async with open_ports() as ports:
        bound, connecting = await ports.pair("memory://name")
        assert bound.port.endpoint == connecting.port.endpoint == "memory://name"
        assert bound.ups[0].address == "memory://name#1"
        assert connecting.ups[0].address == "memory://name"
        with pytest.raises(BindError, match="cannot bind memory://name: it is bound already"):
            MemoryTransport().bind("memory://name", Recorder(), QUICK)
        bound.port.close()
        await ports.pair("memory://name")


@pytest.mark.parametrize("endpoint", ["memory:", "memory://", "tcp://x", "name"])
async def test_malformed(endpoint: str) -> None:
    for method in (MemoryTransport().bind, MemoryTransport().connect):
        with pytest.raises(ConfigurationError, match="write memory://name"):
            method(endpoint, Recorder(), QUICK)


async def test_the_wildcard_is_for_binding() -> None:
    with pytest.raises(ConfigurationError, match="is for binding"):
        MemoryTransport().connect("memory://*", Recorder(), QUICK)


async def test_waiting_for_a_name(autojump_clock: trio.testing.MockClock) -> None:
    async with open_ports() as ports:
        connecting = [ports.connect("memory://name") for _ in range(3)]
        await trio.sleep(3600)
        for recorder in connecting:
            assert not recorder.ups
            assert recorder.port.last_error is not None
            assert "nothing is bound at memory://name in this event loop" in recorder.port.last_error
        connecting[1].port.close()
        bound = ports.bind("memory://name")
        for recorder in (connecting[0], connecting[2]):
            recorder.send(await recorder.up(), b"hello")
            assert recorder.port.last_error is None
        await bound.received(2)
        assert not connecting[1].ups


async def test_closing_a_connection_pauses_before_the_next(autojump_clock: trio.testing.MockClock) -> None:
    options = TransportOptions(reconnect=Reconnect(initial=3, jitter=0))
    async with open_ports() as ports:
        bound, connecting = await ports.pair("memory://*", options)
        began = trio.current_time()
        connecting.ups[0].close()
        assert await bound.down() == "the remote end closed the connection"
        connecting.send(await connecting.up(2), b"hello")
        assert trio.current_time() - began == 3
        await bound.up(2)


async def test_a_port_closed_during_that_pause(autojump_clock: trio.testing.MockClock) -> None:
    async with open_ports() as ports:
        _, connecting = await ports.pair(
            "memory://*", TransportOptions(reconnect=Reconnect(initial=7, maximum=7))
        )
        connecting.ups[0].close()
        await trio.sleep(3)
        connecting.port.close()
        with fail_after(1):
            await connecting.finished.wait()


async def test_news_after_the_end_is_dropped() -> None:
    async with open_ports() as ports:
        bound, connecting = await ports.pair("memory://*")
        bound.send(bound.ups[0], b"on its way")
        connecting.ups[0].close()
        await bound.down()
        await trio.testing.wait_all_tasks_blocked()
        assert not connecting.messages
        with pytest.raises(CarrierDown, match="the remote end closed the connection"):
            bound.ups[0].send([b"too late"])


async def test_an_end_before_the_first_message() -> None:
    async with open_ports() as ports:
        bound = ports.bind("memory://*")
        connecting = ports.connect(bound.port.endpoint)
        await connecting.up()
        connecting.port.close()
        await trio.testing.wait_all_tasks_blocked()
        assert not bound.ups
        assert not bound.downs


async def test_a_carrier_closed_as_it_comes_up() -> None:
    class Refuses(Recorder):
        def carrier_up(self, carrier: Any) -> None:
            super().carrier_up(carrier)
            carrier.close()

    bound = Refuses()
    bound.port = MemoryTransport().bind("memory://*", bound, QUICK)
    async with open_ports() as ports, trio.open_nursery() as nursery:
        nursery.start_soon(bound.run)
        connecting = ports.connect(bound.port.endpoint)
        connecting.send(await connecting.up(), b"hello")
        await bound.up()
        await trio.testing.wait_all_tasks_blocked()
        assert not bound.messages
        nursery.cancel_scope.cancel()


async def test_empty_messages_are_refused() -> None:
    async with open_ports() as ports:
        _, connecting = await ports.pair("memory://*")
        with pytest.raises(ValueError, match="at least one frame"):
            connecting.ups[0].send([])


async def test_what_outlives_its_run_can_be_closed() -> None:
    def elsewhere() -> Any:
        async def main() -> Any:
            return MemoryTransport().bind("memory://*", Recorder(), QUICK)

        return trio.run(main)

    port = await trio.to_thread.run_sync(elsewhere)
    port.close()
