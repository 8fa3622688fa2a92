"""A transport of one's own: Unix sockets, over which each side knows who the other one is.

The operating system tells which user, and which process, is at the other end of a Unix socket; nobody can make that up.
So every call comes with an identity. Linux only, for the way in which that is asked.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import tempfile
from typing import ClassVar, Final

import trio

import duplex
from duplex.transports import (
    ZERO_COPY_FROM,
    Buffer,
    CarrierDown,
    Frames,
    Port,
    Receiver,
    TransportOptions,
    TurnTaker,
    take_turns,
)

#: Messages that are delivered in a turn, bytes that are read in one, and bytes that may wait to be sent.
TURN: Final = 32
CHUNK: Final = 256 * 1024
MOST_UNSENT: Final = 64 * 1024 * 1024
#: Frames of a message.
MOST_FRAMES: Final = 65536


class Connection:
    """One connection: a carrier, and the turns in which its messages come.

    A message is the number of its frames, the length of each, all as 32-bit integers, and the frames.
    """

    def __init__(self, port: UnixPort, wire: socket.socket, *, is_up: bool) -> None:
        self._port = port
        self._wire = wire
        wire.setblocking(False)
        pid, uid, _ = struct.unpack("3i", wire.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        self.identity = duplex.Identity(f"uid:{uid}", "unix socket", {"pid": pid})
        self.address = f"{port.endpoint} (pid {pid})"
        self._is_up = is_up
        self._is_reported = False
        self._arrived = bytearray()
        self._unsent = bytearray()
        #: Why nothing can be sent any more.
        self._gone = ""
        self._ended = False
        #: There may be something to take.
        self._again = True
        self._token = trio.lowlevel.current_trio_token()
        self._writer = trio.lowlevel.ParkingLot()

    # -- the carrier: none of this waits ---------------------------------------------------------------

    @property
    def turns(self) -> Connection:
        return self

    def send(self, frames: Frames) -> None:
        if self._gone:
            raise CarrierDown(self._gone)
        parts = [memoryview(frame).tobytes() for frame in frames]
        if not parts:
            raise ValueError("a message needs at least one frame")
        self._unsent += struct.pack(f"!{1 + len(parts)}I", len(parts), *map(len, parts)) + b"".join(parts)
        self._write()
        if len(self._unsent) > MOST_UNSENT:
            self._gone = "the remote end has stopped reading"
        if self._gone:
            self.probe()  # so that a turn reports it
            raise CarrierDown(self._gone)
        if self._unsent:
            self._token.run_sync_soon(self._writer.unpark_all, idempotent=True)

    def close(self) -> None:
        self._gone = self._gone or "the carrier was closed"
        self._ended = True
        self.probe()

    # -- the turns -------------------------------------------------------------------------------------

    @property
    def is_shared(self) -> bool:
        return False

    def take(self, *, lazily: bool = False) -> bool:
        self._again = False
        if self._is_up and not self._is_reported and not self._is_over:
            self._report()
        try:
            self._receive()
        except (OSError, ValueError) as error:
            self._gone = self._gone or str(error)
            if self._is_reported and not self._is_over:
                self._port.receiver.carrier_down(self, self._gone)
            self._ended = True
        return not self._is_over

    async def wait(self) -> None:
        if self._again or self._is_over:
            await trio.lowlevel.checkpoint()
        else:
            with contextlib.suppress(trio.ClosedResourceError):  # so probe() ends it
                await trio.lowlevel.wait_readable(self._wire)

    def sends_done(self) -> None:
        """Nothing to do: to send takes away no sign that something has come."""

    def probe(self) -> None:
        self._again = True
        # No task may be woken at once: this may be called from an instrument.
        self._token.run_sync_soon(self._interrupt, idempotent=True)

    # -- inside ----------------------------------------------------------------------------------------

    @property
    def _is_over(self) -> bool:
        """Whether nothing is reported any more."""
        return self._ended or self._port.closed

    def _interrupt(self) -> None:
        if self._wire.fileno() >= 0:
            trio.lowlevel.notify_closing(self._wire)

    def _report(self) -> None:
        self._is_reported = True
        self._port.receiver.carrier_up(self)

    def _receive(self) -> None:
        """Deliver some of what has come. Raises ``OSError`` or ``ValueError`` once nothing more comes."""
        if self._deliver():  # what the turn before has left; then there is time for others first
            self._again = True
            return
        try:
            data = self._wire.recv(CHUNK)
        except BlockingIOError:
            if self._gone:
                raise OSError(self._gone) from None
            return
        if not data:
            raise OSError("the remote end has closed the connection")
        self._arrived += data
        self._again = self._deliver()

    def _deliver(self) -> bool:
        """Pass some messages on that have come entirely; tell whether there was one."""
        for number in range(TURN):
            message = None if self._is_over else self._next_message()
            if message is None:
                return number > 0
            if not self._is_reported:
                self._report()
            if not self._is_over:  # the receiver may have closed it
                self._port.receiver.carrier_message(self, message)
        return True

    def _next_message(self) -> list[Buffer] | None:
        arrived = self._arrived
        if len(arrived) < 4:
            return None
        (count,) = struct.unpack_from("!I", arrived)
        if not 1 <= count <= MOST_FRAMES:
            raise ValueError(f"the remote end has sent a message of {count} frames")
        at = 4 + 4 * count
        if len(arrived) < at:
            return None
        sizes = struct.unpack_from(f"!{count}I", arrived, 4)
        if max(sizes) > self._port.options.max_frame:
            raise ValueError(f"the remote end has sent a frame of {max(sizes)} bytes")
        if len(arrived) < at + sum(sizes):
            return None
        whole = memoryview(bytes(arrived[: at + sum(sizes)]))
        del arrived[: len(whole)]
        frames: list[Buffer] = []
        for size in sizes:
            frame = whole[at : at + size]
            frames.append(frame if frames and size >= ZERO_COPY_FROM else bytes(frame))
            at += size
        return frames

    def _write(self) -> None:
        try:
            with contextlib.suppress(BlockingIOError):
                del self._unsent[: self._wire.send(self._unsent)]
        except OSError as error:
            self._unsent.clear()
            self._gone = self._gone or str(error)

    async def _write_all(self) -> None:
        while self._unsent:
            self._write()
            if self._unsent:
                with contextlib.suppress(trio.ClosedResourceError):
                    await trio.lowlevel.wait_writable(self._wire)

    async def _keep_writing(self) -> None:
        while True:
            await self._write_all()
            await self._writer.park()

    async def serve(self, taker: TurnTaker) -> None:
        """Have the turns taken until the connection is over; then transmit the rest, and close it."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_writing)
                await taker(self)
                nursery.cancel_scope.cancel()
        finally:
            self._gone = self._gone or "the port was closed"
            self._ended = True
            self._interrupt()  # another task may wait for the next turn
            with trio.move_on_after(self._port.linger, shield=True):
                await self._write_all()
            self._wire.close()


class UnixPort:
    """What bound and connecting ports have in common."""

    def __init__(self, path: str, receiver: Receiver, options: TransportOptions) -> None:
        self.path = path
        self.receiver = receiver
        self.options = options
        self.last_error: str | None = None
        self.attempt: str | None = None  # a Unix socket accepts at once or not at all
        self.linger = 1.0
        self._scope = trio.CancelScope()
        self.closed = False

    @property
    def endpoint(self) -> str:
        return f"unix://{self.path}"

    async def run(self, taker: TurnTaker = take_turns) -> None:
        try:
            with self._scope:
                if not self.closed:
                    await self._run(taker)
        finally:
            self.close()

    async def _run(self, taker: TurnTaker) -> None:
        raise NotImplementedError

    def close(self, linger: float | None = None) -> None:
        if not self.closed:
            self.closed = True
            if linger is not None:
                self.linger = linger
            self._scope.cancel()


class BoundPort(UnixPort):
    """Takes connections: each has turns of its own, so any task may receive from it."""

    def __init__(self, path: str, receiver: Receiver, options: TransportOptions) -> None:
        super().__init__(path, receiver, options)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.setblocking(False)
        try:
            self._listener.bind(path)
            self._listener.listen()
        except OSError as error:
            self._listener.close()
            raise duplex.BindError(f"cannot bind {self.endpoint}: {error.strerror or error}") from None

    async def _run(self, taker: TurnTaker) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                await trio.lowlevel.wait_readable(self._listener)
                try:
                    wire, _ = self._listener.accept()
                except BlockingIOError:
                    continue
                except OSError:  # there are no descriptors left
                    await trio.sleep(0.1)
                    continue
                nursery.start_soon(Connection(self, wire, is_up=False).serve, taker)

    def close(self, linger: float | None = None) -> None:
        if not self.closed:
            super().close(linger)  # first, so that nobody waits for the listener any more
            os.unlink(self.path)
            self._listener.close()


class ConnectingPort(UnixPort):
    """Makes one connection after the other."""

    async def _run(self, taker: TurnTaker) -> None:
        reconnect = self.options.reconnect
        pause = reconnect.initial
        while True:
            wire = socket.socket(socket.AF_UNIX)
            try:
                wire.connect(self.path)
            except OSError as error:
                wire.close()
                self.last_error = f"cannot connect to {self.path}: {error.strerror or error}"
            else:
                self.last_error = None
                began = trio.current_time()
                await Connection(self, wire, is_up=True).serve(taker)
                if trio.current_time() - began >= reconnect.maximum:
                    pause = reconnect.initial
            await trio.sleep(pause)
            pause = min(pause * reconnect.multiplier, reconnect.maximum)


class UnixTransport:
    """``unix:///path``; binding ``unix://*`` makes up a path."""

    schemes: ClassVar = frozenset({"unix"})

    def bind(self, endpoint: str, receiver: Receiver, options: TransportOptions) -> Port:
        path = self._path(endpoint)
        return BoundPort(tempfile.mktemp() if path == "*" else path, receiver, options)

    def connect(self, endpoint: str, receiver: Receiver, options: TransportOptions) -> Port:
        return ConnectingPort(self._path(endpoint), receiver, options)

    @staticmethod
    def _path(endpoint: str) -> str:
        scheme, separator, path = endpoint.partition("://")
        if scheme != "unix" or not separator or not path:
            raise duplex.ConfigurationError(
                f"{endpoint!r} is not an endpoint of this transport; write unix:///path"
            )
        return path


guarded = duplex.Service("guarded")


@guarded.rpc
async def who_am_i() -> str:
    """Tell the caller who it is, and how that is known."""
    identity = duplex.current_call().peer.identity
    return f"{identity} (by {identity.proof})".replace(f"uid:{os.getuid()}", "the user who runs this")


async def main() -> None:
    transports = [UnixTransport()]
    async with (
        duplex.open_peer(services=[guarded], transports=transports) as server,
        duplex.open_peer(transports=transports) as client,
    ):
        link = await client.connect(await server.bind("unix://*"))
        print("the client is", await link.service("guarded").who_am_i())
        print(
            "the server is",
            "the same" if link.remote.identity == server.links[0].remote.identity else "another",
        )
        try:
            await client.connect("tcp://127.0.0.1:7700")
        except duplex.ConfigurationError as error:
            print(error)


if __name__ == "__main__":
    trio.run(main)
