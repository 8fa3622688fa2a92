"""What is fuzzed in one process: functions that take bytes, and fail if something is wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from duplex._errors import DecodeError, LocalProtocolError, RemoteProtocolError, ResourceExhausted
from duplex.codec import Codec
from duplex.protocol import ChannelOpened, Connection, HelloReceived, MessageReceived
from duplex.transports.zmtp import Bounds, Null, ZmtpConnection, ZmtpError
from tests.codec.helpers import CODEC, JSON, RAW, FakeLive
from tests.codec.test_hostile import MEMORY, MSGPACK, PLAIN
from tests.fuzz.inputs import SMALL_LIMITS, split
from tests.protocol.helpers import ConnectionPair, check_accounts, hello, one_by_one, pair_in_use

#: What a connection may say to its own side: the state has changed since, and it does no harm.
OWN_FAULT: Final = (LocalProtocolError, ResourceExhausted)


def start(mode: int) -> Connection:
    """Return a connection of either role: before, during and after the handshake, and in use."""
    role, state = mode & 1, mode >> 1 & 3
    if state == 0 or state == 1:
        connection = Connection(hello("x", **SMALL_LIMITS), connecting=bool(role), now=0.0)
        if role and state == 1:
            connection.greet()
        return connection
    pair = ConnectionPair() if state == 2 else pair_in_use()
    return pair.a if role else pair.b


class Application:
    """What uses the connection: it does what an input says, and takes what came, or does not."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.theirs: list[int] = []
        self.mine: list[int] = []
        self.held: list[tuple[int, int]] = []
        self.notified: list[int] = []

    def act(self, action: int) -> None:
        """Do one of eight things, mostly nothing."""
        connection = self.connection
        with contextlib.suppress(*OWN_FAULT):
            match action % 16:
                case 1:
                    self.mine.append(connection.open("s.m", payload=b"first"))
                case 2:
                    for channel in self.theirs:
                        connection.send(channel, b"some")
                        run = connection.begin_items(channel)
                        if run is not None:
                            run.add(b"more")
                case 3:
                    for channel in self.theirs:
                        connection.close(channel, payload=b"last")
                case 4:
                    for channel in self.mine:
                        connection.cancel(channel, "enough")
                case 5:
                    for channel, cost in self.held:
                        connection.consumed(channel, cost)
                    self.held.clear()
                case 6:
                    for channel in self.notified:
                        connection.finish(channel)
                    self.notified.clear()
                case 7:
                    connection.leave()
                case 8:
                    connection.ping(0.0)

    def receive(self, frames: list[bytes]) -> None:
        """Let the connection have a message."""
        connection = self.connection
        try:
            events = one_by_one(connection.receive(frames, 0.0))
        except RemoteProtocolError:
            assert connection.is_closed
            return
        for event in events:
            match event:
                case HelloReceived():
                    connection.accept()
                case ChannelOpened(notify=True):
                    self.notified.append(event.channel)
                case ChannelOpened():
                    self.theirs.append(event.channel)
                    self.held.append((event.channel, event.cost))
                case MessageReceived():
                    self.held.append((event.channel, event.cost))


def connection(data: bytes) -> None:
    """A conversation with one end of a link: events or ``RemoteProtocolError``, and the accounts hold."""
    mode, messages = split(data)
    application = Application(start(mode))
    end = application.connection
    for message in messages:
        application.act(message.action)
        application.receive(message.frames)
        check_accounts(end)
        sent = end.data_to_send()
        if end.is_closed:
            assert not application.connection._channels
            assert len(sent) <= 64
    end.terminate()
    check_accounts(end)


CODECS: Final[tuple[tuple[Codec, list[Any]], ...]] = ((CODEC, MSGPACK), (JSON, PLAIN), (RAW, MEMORY))


def codec(data: bytes) -> None:
    """A payload with attachments, for every codec and many types: a value or ``DecodeError``.

    The first byte says which codec, the second which type; then come frames, as in a message.
    """
    which, messages = split(data[1:])
    chosen, types = CODECS[data[0] % 3 if data else 0]
    for message in messages[:1]:
        payload, attachments = message.frames[0], message.frames[1:]
        for live in (None, FakeLive()):
            with contextlib.suppress(DecodeError):
                chosen.decoder(types[which % len(types)])(payload, attachments, live)
        with contextlib.suppress(DecodeError):
            chosen.decode_arguments(payload, attachments, FakeLive(), views=bool(message.action & 1))


ZMTP_BEFORE: Final = Bounds(frame=200, frames=1, message=200, commands=4)
ZMTP_AFTER: Final = Bounds(frame=100_000, frames=4, message=150_000, commands=8)


def _hear(
    data: bytes, mode: int, step: int
) -> tuple[list[list[bytes]], tuple[str, int | None] | None, bytes, str]:
    """Return what becomes of a stream that comes in pieces of so many bytes: messages, the error, answers, and how it ends."""
    end = ZmtpConnection(
        socket_type="DEALER" if mode & 1 else "ROUTER", mechanism=Null(), before=ZMTP_BEFORE, after=ZMTP_AFTER
    )
    came: list[list[bytes]] = []
    said = b""
    error: tuple[str, int | None] | None = None
    try:
        for start in range(0, len(data), step):
            for message in end.receive(data[start : start + step]):
                came.append([bytes(frame) for frame in message])
                assert type(message[0]) is bytes
                assert end.properties is not None
                if mode & 2:
                    end.trust()
            said += end.data_to_send()
    except ZmtpError as wrong:
        # Its text quotes what has come so far.
        error = wrong.kind, wrong.at
    assert error is None or (error[1] is not None and error[1] <= len(data))
    for frames in came[1:] if mode & 2 else came:
        bounds = ZMTP_AFTER if mode & 2 else ZMTP_BEFORE
        assert len(frames) <= bounds.frames
        assert sum(map(len, frames)) <= bounds.message
    return came, error, said, f"{end.greeting} {end.properties} {end.ttl} {end.pongs}"


def zmtp(data: bytes) -> tuple[str, int | None] | None:
    """A stream that comes to one end of a ZMTP connection: messages or ``ZmtpError``, whatever the pieces are in which it comes.

    The first byte says which end, whether it trusts who has sent a message, and how long the pieces are.

    Returns:
        What the error is about, and where it is.
    """
    mode = data[0] if data else 0
    whole = _hear(data[1:], mode, max(1, len(data)))
    pieces = _hear(data[1:], mode, (mode >> 2) % 61 + 1 if len(data) < 5000 else 997 * ((mode >> 2) + 1))
    assert pieces[:2] == whole[:2]
    assert pieces[3] == whole[3]
    if whole[1] is None and whole[2].count(b"PONG") < 16:
        assert pieces[2] == whole[2]
    return whole[1]


TARGETS: Final[Mapping[str, Callable[[bytes], object]]] = {
    "connection": connection,
    "codec": codec,
    "zmtp": zmtp,
}
