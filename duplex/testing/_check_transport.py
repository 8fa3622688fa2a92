"""A conformance suite for transports: what the engine relies on, tried out against any implementation.

::

    async def test_my_transport() -> None:
        await check_transport(MyTransport(), "mine://*")
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio

from duplex._config import Reconnect
from duplex._errors import BindError, ConfigurationError
from duplex._identity import Identity
from duplex._numbers import check_seconds
from duplex.transports._base import (
    ZERO_COPY_FROM,
    Buffer,
    Carrier,
    CarrierDown,
    Frames,
    Port,
    Transport,
    TransportOptions,
    Turns,
    TurnTaker,
    take_turns,
)
from duplex.transports._tls import TLS

_MiB: Final = 1024 * 1024
_OPTIONS: Final = TransportOptions(reconnect=Reconnect(initial=0.02, maximum=0.1))


async def check_transport(
    transport: Transport,
    endpoint: str = "tcp://127.0.0.1:*",
    *,
    notices_close: bool = True,
    limits_frames: bool = True,
    timeout: float = 30.0,
    tls: TLS | None = None,
) -> None:
    """Check that a transport keeps the contract of :mod:`duplex.transports`.

    Args:
        transport: what to check.
        endpoint: a wildcard endpoint, so that every bind gets a place of its own.
        notices_close: pass ``False`` for a transport that cannot notice that a remote end was closed until
            something is sent to it, such as ``inproc``. It is then not asked to.
        limits_frames: pass ``False`` for a transport that does not enforce ``TransportOptions.max_frame``.
        timeout: seconds that each check may take.
        tls: how both ends encrypt, for a transport that needs to be told (``TransportOptions.tls``).

    Raises:
        AssertionError: with the name of the check and what went otherwise than expected.
        ConfigurationError: the timeout is no number of seconds.
    """
    check_seconds("timeout", timeout, forever=True)
    lab = _Lab(transport, endpoint, notices_close, limits_frames, dataclasses.replace(_OPTIONS, tls=tls))
    for check in _CHECKS:
        name = check.__name__.removeprefix("_check_").replace("_", " ")
        problems: list[str] = []
        with trio.move_on_after(timeout) as scope:
            try:
                async with trio.open_nursery() as nursery:
                    lab.nursery = nursery
                    lab.ends = []
                    await check(lab)
                    nursery.cancel_scope.cancel()
            except BaseExceptionGroup as group:
                failed, other = group.split(AssertionError)
                if failed is None or other is not None:
                    raise
                problems += [str(error) for error in _leaves(failed)]
        if scope.cancelled_caught:
            waits = [f"{end.name} waits for {end.waits_for}" for end in lab.ends if end.waits_for]
            problems.append(
                f"nothing more happened within {timeout:g} s; {'; '.join(waits) or 'no one waits'}"
            )
        for end in lab.ends:
            problems += end.violations
        if problems:
            raise AssertionError(f"{name} over {endpoint}: {'; '.join(problems)}")


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    leaves: list[BaseException] = []
    for error in group.exceptions:
        leaves.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return leaves


def _expect(condition: object, otherwise: str) -> None:
    if not condition:
        raise AssertionError(otherwise)


class _End:
    """A port with a receiver that records everything and checks the order of the callbacks."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port: Port | None = None
        self.ups: list[Carrier] = []
        self.downs: list[tuple[Carrier, str]] = []
        self.messages: list[tuple[Carrier, Frames]] = []
        self.violations: list[str] = []
        self.waits_for = ""
        self.closed = False
        self.finished = trio.Event()
        #: Called with each message, instead of recording it.
        self.on_message: Callable[[Carrier, Frames], None] | None = None
        #: Called with each carrier that comes up.
        self.on_up: Callable[[Carrier], None] | None = None
        self.taker: TurnTaker = take_turns
        self.turns_over = trio.Event()
        #: All that the port has begun.
        self.turns: list[Turns] = []
        self._live: list[Carrier] = []
        self._changed = trio.lowlevel.ParkingLot()

    def carrier_up(self, carrier: Carrier) -> None:
        self._note(self.closed, "carrier_up after close()")
        self._note(carrier in self.ups, "carrier_up twice for one carrier")
        self._note(carrier.turns not in self.turns, "the turns of a carrier are none that the port takes")
        self.ups.append(carrier)
        self._live.append(carrier)
        if self.on_up is not None:
            self.on_up(carrier)
        self._changed.unpark_all()

    def carrier_message(self, carrier: Carrier, frames: Frames) -> None:
        self._note(self.closed, "carrier_message after close()")
        self._note(carrier not in self._live, "carrier_message for a carrier that is not up")
        self._note(type(frames[0]) is not bytes, f"frame 0 is {type(frames[0]).__name__}, not bytes")
        if self.on_message is not None:
            self.on_message(carrier, frames)
        else:
            self.messages.append((carrier, frames))
        self._changed.unpark_all()

    def carrier_down(self, carrier: Carrier, reason: str) -> None:
        self._note(self.closed, "carrier_down after close()")
        self._note(carrier not in self._live, "carrier_down for a carrier that is not up")
        self._note(not reason, "carrier_down without a reason")
        if carrier in self._live:
            self._live.remove(carrier)
        self.downs.append((carrier, reason))
        self._changed.unpark_all()

    def _note(self, wrong: bool, what: str) -> None:
        if wrong and what not in self.violations:
            self.violations.append(f"{self.name}: {what}")

    async def until(self, condition: Callable[[], object], what: str) -> None:
        self.waits_for = what
        while not condition():
            await self._changed.park()
        self.waits_for = ""

    def look_again(self) -> None:
        """Have ``until`` look at its condition."""
        self._changed.unpark_all()

    async def up(self, number: int = 1) -> Carrier:
        """Wait for carrier ``number``, counted from 1, to come up."""
        await self.until(lambda: len(self.ups) >= number, f"carrier_up number {number}")
        return self.ups[number - 1]

    async def down(self, number: int = 1) -> Carrier:
        """Wait for the end of carrier ``number``, counted from 1 in the order of their ends."""
        await self.until(lambda: len(self.downs) >= number, f"carrier_down number {number}")
        return self.downs[number - 1][0]

    async def received(self, number: int) -> list[list[bytes]]:
        """Wait until ``number`` messages have come and return them all as bytes."""
        await self.until(lambda: len(self.messages) >= number, f"message number {number}")
        return [[bytes(frame) for frame in frames] for _, frames in self.messages]

    def send(self, carrier: Carrier, *messages: Sequence[bytes | bytearray | memoryview]) -> None:
        for message in messages:
            carrier.send(message)
        carrier.turns.sends_done()

    @property
    def running(self) -> Port:
        _expect(self.port is not None, f"{self.name} has no port")
        assert self.port is not None
        return self.port

    def close(self) -> None:
        self.running.close()
        self.closed = True

    async def run(self) -> None:
        await self.running.run(self._take)
        self.finished.set()

    async def _take(self, turns: Turns) -> None:
        self.turns.append(turns)
        await self.taker(turns)


@dataclasses.dataclass
class _Lab:
    transport: Transport
    endpoint: str
    notices_close: bool
    limits_frames: bool
    options: TransportOptions

    def __post_init__(self) -> None:
        self.nursery: trio.Nursery
        self.ends: list[_End] = []

    def bind(
        self,
        endpoint: str | None = None,
        options: TransportOptions | None = None,
        *,
        leaves_turns: bool = False,
    ) -> _End:
        end = _End(f"bound end {len(self.ends)}")
        end.port = self.transport.bind(endpoint or self.endpoint, end, options or self.options)
        return self._start(end, leaves_turns)

    def connect(
        self, endpoint: str, options: TransportOptions | None = None, *, leaves_turns: bool = False
    ) -> _End:
        end = _End(f"connecting end {len(self.ends)}")
        end.port = self.transport.connect(endpoint, end, options or self.options)
        return self._start(end, leaves_turns)

    def _start(self, end: _End, leaves_turns: bool) -> _End:
        if leaves_turns:
            end.taker = functools.partial(_leave_turns, self.nursery, end)
        self.ends.append(end)
        self.nursery.start_soon(end.run)
        return end

    async def pair(self) -> tuple[_End, Carrier, _End, Carrier]:
        """A bound and a connecting end with a carrier each; the greetings that this takes are removed. The first message of each is
        one short frame, as a transport may take no more of strangers."""
        bound = self.bind()
        connecting = self.connect(bound.running.endpoint)
        near = await connecting.up()
        connecting.send(near, [b"greeting"])
        far = await bound.up()
        bound.send(far, [b"greeting"])
        for end in (bound, connecting):
            await end.received(1)
            end.messages.clear()
        return bound, far, connecting, near

    async def gone(self, end: _End, carrier: Carrier) -> None:
        """Wait until ``end`` has noticed that the remote end of ``carrier`` is gone, sending if it needs that."""
        if not self.notices_close:
            while True:
                await trio.sleep(0.005)  # there is nothing to wait for but that a send notices
                try:
                    end.send(carrier, [b"anyone there?"])
                except CarrierDown:
                    break
        await end.until(lambda: any(down is carrier for down, _ in end.downs), "carrier_down")
        _refuses(carrier)


def _refuses(carrier: Carrier) -> None:
    try:
        carrier.send([b"too late"])
    except CarrierDown:
        return
    raise AssertionError("send on a carrier that is down does not raise CarrierDown")


async def _check_endpoints(lab: _Lab) -> None:
    first = lab.bind().running
    second = lab.bind().running
    scheme = lab.endpoint.partition("://")[0]
    _expect(scheme in lab.transport.schemes, f"schemes lacks {scheme!r}")
    for port in (first, second):
        _expect(
            port.endpoint.startswith(f"{scheme}://") and "*" not in port.endpoint,
            f"the wildcard of {lab.endpoint} became {port.endpoint!r}",
        )
        _expect(
            port.last_error is None and port.attempt is None, "a bound port has a last_error, or an attempt"
        )
    _expect(first.endpoint != second.endpoint, "two wildcard binds share one endpoint")
    _expect(lab.connect(first.endpoint).running.endpoint == first.endpoint, "connecting changed the endpoint")


async def _check_errors_of_endpoints(lab: _Lab) -> None:
    taken = lab.bind().running.endpoint
    try:
        lab.bind(taken)
    except BindError as error:
        _expect(taken in str(error), f"BindError does not name {taken}: {error}")
    else:
        raise AssertionError("an endpoint could be bound twice")
    scheme = lab.endpoint.partition("://")[0]
    for wrong in ("nonsense", f"{scheme}://", "nosuchscheme://x"):
        for method in (lab.transport.bind, lab.transport.connect):
            try:
                method(wrong, _End("nobody"), lab.options)
            except ConfigurationError as error:
                _expect(wrong in str(error), f"ConfigurationError does not name {wrong!r}: {error}")
            else:
                raise AssertionError(f"no ConfigurationError for {wrong!r}")


async def _check_up_and_first_message(lab: _Lab) -> None:
    bound = lab.bind()
    connecting = lab.connect(bound.running.endpoint)
    near = await connecting.up()
    connecting.send(near, [b"first"])
    _expect(await bound.received(1) == [[b"first"]], "the first message is not what was sent")
    _expect(bound.messages[0][0] is bound.ups[0], "the first message came with another carrier")
    for carrier in (near, bound.ups[0]):
        _expect(carrier.address, "a carrier has no address")
        _expect(isinstance(carrier.identity, Identity), "a carrier has no identity")


async def _check_order_and_whole_messages(lab: _Lab) -> None:
    bound, far, connecting, near = await lab.pair()
    sent = [[str(n).encode(), *(bytes([n % 256]) * (n % 7 * i) for i in range(n % 5))] for n in range(2000)]
    for sender, carrier, receiver in ((connecting, near, bound), (bound, far, connecting)):
        for start in range(0, len(sent), 50):
            sender.send(carrier, *sent[start : start + 50])
            await trio.lowlevel.checkpoint()
        got = await receiver.received(len(sent))
        _expect(got == sent, f"{receiver.name}: messages changed, or changed places")


async def _check_empty_frames(lab: _Lab) -> None:
    bound, far, connecting, near = await lab.pair()
    sent = [[b""], [b"", b""], [b"", b"x", b""], [b"x", b"", b""]]
    for sender, carrier, receiver in ((connecting, near, bound), (bound, far, connecting)):
        sender.send(carrier, *sent)
        got = await receiver.received(len(sent))
        _expect(got == sent, f"{receiver.name}: {sent} became {got}")


async def _check_kinds_of_buffer(lab: _Lab) -> None:
    bound, far, connecting, near = await lab.pair()
    large = bytes(range(256)) * (ZERO_COPY_FROM // 256)
    strided = memoryview(bytes(range(200)))[::2]
    reusable = bytearray(b"as it was")
    message: list[Buffer] = [
        b"head",
        bytearray(b"array"),
        memoryview(b"view"),
        reusable,
        bytearray(large),
        memoryview(large),
    ]
    for sender, carrier, receiver in ((connecting, near, bound), (bound, far, connecting)):
        reusable[:] = b"as it was"
        sender.send(carrier, message, [bytearray(b"head")], [memoryview(b"head"), strided])
        reusable[:] = b"OVERWRITE"
        got = await receiver.received(3)
        _expect(got[0][3] == b"as it was", "a small buffer was not copied when it was sent")
        _expect(got[0] == [b"head", b"array", b"view", b"as it was", large, large], "buffers changed")
        _expect(got[1:] == [[b"head"], [b"head", bytes(strided)]], "buffers changed")


async def _check_large_attachments(lab: _Lab) -> None:
    bound, far, connecting, near = await lab.pair()
    sizes = (ZERO_COPY_FROM - 1, ZERO_COPY_FROM, _MiB, 8 * _MiB)
    message = [b"sizes", *(bytes([index]) * size for index, size in enumerate(sizes))]
    connecting.send(near, message, [b"after"])
    _expect(await bound.received(2) == [message, [b"after"]], "large attachments changed")
    # What was received can be sent on as it is.
    bound.send(far, bound.messages[0][1], [b"after"])
    _expect(
        await connecting.received(2) == [message, [b"after"]], "large attachments changed on the way back"
    )


async def _check_large_first_frame(lab: _Lab) -> None:
    bound, far, connecting, near = await lab.pair()
    message = [bytes(2 * _MiB)]
    connecting.send(near, message)
    _expect(await bound.received(1) == [message], "a large frame 0 changed")
    bound.send(far, message)
    _expect(await connecting.received(1) == [message], "a large frame 0 changed on the way back")


async def _check_both_directions_at_once(lab: _Lab) -> None:
    bound, far, connecting, near = await lab.pair()
    total = 3000

    async def stream(end: _End, carrier: Carrier) -> None:
        for start in range(0, total, 10):
            burst: list[list[bytes]] = [[b"%d" % n, bytes(100)] for n in range(start, start + 10)]
            end.send(carrier, *burst)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream, bound, far)
        nursery.start_soon(stream, connecting, near)
        for end in (bound, connecting):
            got = await end.received(total)
            _expect([int(frames[0]) for frames in got] == list(range(total)), f"{end.name}: order or loss")


async def _check_sends_from_within_callbacks(lab: _Lab) -> None:
    bound, _, connecting, near = await lab.pair()

    def echo(carrier: Carrier, frames: Frames) -> None:
        bound.send(carrier, list(frames))

    def count_down(carrier: Carrier, frames: Frames) -> None:
        left = int(bytes(frames[0]))
        if left:
            connecting.send(carrier, [b"%d" % (left - 1)])
        else:
            connecting.messages.append((carrier, frames))

    bound.on_message = echo
    connecting.on_message = count_down
    connecting.send(near, [b"200"])
    await connecting.received(1)


async def _check_sends_from_an_instrument(lab: _Lab) -> None:
    bound, far, connecting, near = await lab.pair()
    queue: list[Callable[[], None]] = []
    failures: list[Exception] = []
    token = trio.lowlevel.current_trio_token()

    class Flush(trio.abc.Instrument):
        def before_io_wait(self, timeout: float) -> None:
            try:
                while queue:
                    queue.pop(0)()
            except Exception as error:
                failures.append(error)
                token.run_sync_soon(connecting.look_again)

    def pong(carrier: Carrier, frames: Frames) -> None:
        bound.messages.append((carrier, frames))
        queue.append(lambda: bound.send(far, list(frames)))

    bound.on_message = pong
    instrument = Flush()
    trio.lowlevel.add_instrument(instrument)
    try:
        for _ in range(100):
            connecting.messages.clear()
            queue.append(lambda: connecting.send(near, [b"ping"]))
            await connecting.until(lambda: failures or connecting.messages, "the answer")
            _expect(not failures, f"sending from before_io_wait failed: {failures}")
    finally:
        trio.lowlevel.remove_instrument(instrument)


async def _check_many_carriers(lab: _Lab) -> None:
    bound = lab.bind()
    bound.on_message = lambda carrier, frames: bound.send(carrier, list(frames))
    ends = [lab.connect(bound.running.endpoint) for _ in range(20)]
    for index, end in enumerate(ends):
        carrier = await end.up()
        end.send(carrier, [b"greeting"], *([b"%d" % index, b"%d" % n] for n in range(20)))
    for index, end in enumerate(ends):
        expected = [[b"greeting"], *([b"%d" % index, b"%d" % n] for n in range(20))]
        _expect(
            await end.received(21) == expected, f"{end.name} got another's messages, or not all of its own"
        )
    _expect(len(bound.ups) == 20, f"20 remote ends became {len(bound.ups)} carriers")
    for carrier in (*bound.ups, *(end.ups[0] for end in ends)):
        users = [other for end in lab.ends for other in end.ups if other.turns is carrier.turns]
        _expect(carrier.turns.is_shared or len(users) == 1, "carriers share turns that are not shared")


async def _check_connect_before_bind(lab: _Lab) -> None:
    early = lab.bind()
    endpoint = early.running.endpoint
    early.close()
    await early.finished.wait()
    await trio.sleep(0.05)  # a transport may close in the background, and still accept meanwhile
    connecting = lab.connect(endpoint)
    if lab.notices_close:
        connecting.waits_for = "last_error to say why there is no connection"
        while True:
            await trio.sleep(0.005)  # nothing tells of an attempt that failed
            if connecting.running.last_error is not None:
                break
        connecting.waits_for = ""
        _expect(not connecting.ups, "a carrier came up though nothing is bound")
    bound = lab.bind(endpoint)
    connecting.send(await connecting.up(), [b"hello"])
    _expect(await bound.received(1) == [[b"hello"]], "the message after a late bind changed")
    _expect(connecting.running.last_error is None, "last_error stays though the connection stands")
    _expect(connecting.running.attempt is None, "attempt stays though the connection stands")


async def _check_connecting_end_closes(lab: _Lab) -> None:
    bound, far, connecting, near = await lab.pair()
    connecting.send(near, *([b"last", b"%d" % n] for n in range(100)))
    connecting.close()
    got = await bound.received(100)
    _expect(got == [[b"last", b"%d" % n] for n in range(100)], "messages sent before close() were lost")
    await lab.gone(bound, far)
    _expect(len(bound.ups) == 1, "the closed end came up again")
    _refuses(near)


async def _check_bound_end_closes_and_comes_back(lab: _Lab) -> None:
    bound, far, connecting, near = await lab.pair()
    endpoint = bound.running.endpoint
    bound.send(far, *([b"last", b"%d" % n] for n in range(100)))
    bound.close()
    got = await connecting.received(100)
    _expect(got == [[b"last", b"%d" % n] for n in range(100)], "messages sent before close() were lost")
    await lab.gone(connecting, near)
    _refuses(far)
    await bound.finished.wait()
    again = lab.bind(endpoint)
    new = await connecting.up(2)
    _expect(new is not near, "after a rebind the old carrier came up again instead of a new one")
    connecting.send(new, [b"hello"])
    _expect(await again.received(1) == [[b"hello"]], "the first message after a rebind changed")
    again.send(again.ups[0], [b"welcome"])
    await connecting.until(lambda: connecting.messages[-1][0] is new, "a message on the new carrier")
    _expect(bytes(connecting.messages[-1][1][0]) == b"welcome", "the answer after a rebind changed")


async def _check_one_of_many_closes(lab: _Lab) -> None:
    bound, far, _, _ = await lab.pair()
    other = lab.connect(bound.running.endpoint)
    near = await other.up()
    other.send(near, [b"other"])
    await bound.received(1)
    other_far = bound.messages[0][0]
    other.close()
    await lab.gone(bound, other_far)
    await trio.sleep(0.05)  # time to take the wrong one down as well
    _expect(len(bound.downs) == 1, "another remote end was declared down too")
    bound.send(far, [b"still there"])


async def _check_carrier_closed_by_the_connecting_end(lab: _Lab) -> None:
    bound, far, connecting, near = await lab.pair()
    connecting.send(near, [b"goodbye"])
    near.close()
    near.close()
    _refuses(near)
    await bound.received(1)
    await lab.gone(bound, far)
    new = await connecting.up(2)
    connecting.send(new, [b"hello again"])
    _expect((await bound.received(2))[1] == [b"hello again"], "the message after a new connection changed")
    _expect(bound.messages[1][0] is not far, "the new connection has the old carrier")
    _expect(not connecting.downs, "carrier_down came for a carrier that was closed here")


async def _check_carrier_closed_by_the_bound_end(lab: _Lab) -> None:
    bound, far, connecting, near = await lab.pair()
    far.close()
    far.close()
    _refuses(far)
    with contextlib.suppress(CarrierDown):
        connecting.send(near, [b"hello?"])
    await trio.sleep(0.05)  # time for what must not come
    _expect(len(bound.ups) == 1 and not bound.messages, "a message after close() was delivered")
    _expect(not bound.downs, "carrier_down came for a carrier that was closed here")


async def _leave_turns(nursery: trio.Nursery, end: _End, turns: Turns) -> None:
    """Have another task take each turn, lazily, and give up every other wait."""
    over = trio.Event()

    async def take(impatient: bool) -> None:
        if not turns.take(lazily=True):
            over.set()
            end.turns_over.set()
            return
        turns.sends_done()
        # A moment in which something may come or not: what is to hold holds either way.
        with trio.move_on_after(0.001 if impatient else math.inf):
            await turns.wait()
        nursery.start_soon(take, not impatient)

    nursery.start_soon(take, True)
    await over.wait()


async def _check_turns_that_other_tasks_take(lab: _Lab) -> None:
    bound = lab.bind(leaves_turns=True)
    connecting = lab.connect(bound.running.endpoint, leaves_turns=True)
    near = await connecting.up()
    connecting.send(near, [b"greeting"])
    far = await bound.up()
    for number in range(200):
        connecting.send(near, *([b"%d" % number] for number in range(4 * number, 4 * number + 4)))
        bound.send(far, [b"%d" % number])
        if number % 7 == 0:
            await trio.lowlevel.checkpoint()
    _expect(
        await bound.received(801) == [[b"greeting"], *([b"%d" % number] for number in range(800))],
        "messages are lost or out of order",
    )
    _expect(
        await connecting.received(200) == [[b"%d" % number] for number in range(200)],
        "messages are lost or out of order on the way back",
    )
    connecting.close()
    await lab.gone(bound, far)
    await connecting.finished.wait()
    await connecting.turns_over.wait()
    bound.close()
    await bound.finished.wait()
    await bound.turns_over.wait()


async def _check_run_and_close(lab: _Lab) -> None:
    bound, far, connecting, near = await lab.pair()
    for end in (connecting, bound):
        end.close()
        end.close()
        await end.finished.wait()
    for carrier in (far, near):
        carrier.turns.sends_done()
        carrier.turns.probe()
        _refuses(carrier)
        carrier.close()


async def _check_close_before_run(lab: _Lab) -> None:
    end = _End("bound end")
    port = lab.transport.bind(lab.endpoint, end, lab.options)
    port.close()
    await port.run()
    port = lab.transport.connect(port.endpoint, end, lab.options)
    port.close()
    await port.run()


async def _check_cancelling_run(lab: _Lab) -> None:
    end = _End("bound end")
    end.port = lab.transport.bind(lab.endpoint, end, lab.options)
    endpoint = end.port.endpoint
    connecting = _End("connecting end")
    connecting.port = lab.transport.connect(endpoint, connecting, lab.options)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end.run)
        nursery.start_soon(connecting.run)
        near = await connecting.up()
        nursery.cancel_scope.cancel()
    _refuses(near)
    _expect(not end.finished.is_set(), "cancelling run() made it return instead of letting Cancelled through")
    # Cancelling has closed the port, so its endpoint is free.
    lab.bind(endpoint)


async def _check_closing_from_within_a_callback(lab: _Lab) -> None:
    bound, far, connecting, near = await lab.pair()
    connecting.on_message = lambda carrier, frames: connecting.close()
    bound.on_message = lambda carrier, frames: bound.close()
    bound.send(far, [b"one"], [b"two"])
    await connecting.finished.wait()
    _refuses(near)
    other = lab.connect(bound.running.endpoint)
    other.send(await other.up(), [b"one"], [b"two"])
    await bound.finished.wait()


async def _check_closing_as_a_carrier_comes_up(lab: _Lab) -> None:
    bound = lab.bind()
    refused: list[Carrier] = []

    def refuse(carrier: Carrier) -> None:
        carrier.close()
        refused.append(carrier)

    bound.on_up = refuse
    connecting = lab.connect(bound.running.endpoint)
    near = await connecting.up()
    connecting.send(near, [b"one"], [b"two"])
    await bound.up()
    near.close()
    connecting.send(await connecting.up(2), [b"three"])
    await bound.up(2)
    _expect(not bound.messages, "a message came for a carrier that was closed as it came up")
    near = connecting.ups[1]
    near.close()
    bound.on_up = lambda carrier: bound.close()
    connecting.send(await connecting.up(3), [b"four"])
    await bound.finished.wait()

    other = lab.bind()
    connecting = lab.connect(other.running.endpoint)
    connecting.on_up = lambda carrier: refuse(carrier) if len(connecting.ups) < 3 else connecting.close()
    await connecting.finished.wait()
    _expect(len(connecting.ups) == 3, "a connection that was closed as it came up was not tried again")


async def _check_oversize_frame(lab: _Lab) -> None:
    if not lab.limits_frames:
        return
    limited = dataclasses.replace(lab.options, max_frame=100_000)
    bound = lab.bind(options=limited)
    good = lab.connect(bound.running.endpoint)
    good_near = await good.up()
    good.send(good_near, [b"good"])
    await bound.received(1)
    bad = lab.connect(bound.running.endpoint)
    bad_near = await bad.up()
    bad.send(bad_near, [b"bad"], [b"bad", bytes(100_001)])
    _expect(await bad.down() is bad_near, "a frame over the limit did not cut the connection")
    _expect(
        await bound.down() is bound.messages[1][0], "the receiver of a frame over the limit kept the carrier"
    )
    good.send(good_near, [b"still good", bytes(100_000)])
    got = await bound.received(3)
    _expect(
        got[2] == [b"still good", bytes(100_000)], "another connection suffered from a frame over the limit"
    )


_CHECKS: Final[Sequence[Callable[[_Lab], Awaitable[None]]]] = (
    _check_endpoints,
    _check_errors_of_endpoints,
    _check_up_and_first_message,
    _check_order_and_whole_messages,
    _check_empty_frames,
    _check_kinds_of_buffer,
    _check_large_attachments,
    _check_large_first_frame,
    _check_both_directions_at_once,
    _check_sends_from_within_callbacks,
    _check_sends_from_an_instrument,
    _check_many_carriers,
    _check_connect_before_bind,
    _check_connecting_end_closes,
    _check_bound_end_closes_and_comes_back,
    _check_one_of_many_closes,
    _check_carrier_closed_by_the_connecting_end,
    _check_carrier_closed_by_the_bound_end,
    _check_turns_that_other_tasks_take,
    _check_run_and_close,
    _check_close_before_run,
    _check_cancelling_run,
    _check_closing_from_within_a_callback,
    _check_closing_as_a_carrier_comes_up,
    _check_oversize_frame,
)
