"""Coverage-guided fuzzing of the protocol with atheris; run by hand, for as long as you like.

::

    pip install atheris
    python -m tests.fuzz.fuzz_protocol -max_total_time=600 corpus/

The input is a conversation: a byte that says which end receives, then messages. Every message is a count of
frames and those frames, each with a 16-bit length. Nothing but ``RemoteProtocolError`` may come out of
``receive``, and the connection's accounts must hold after every message.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from duplex._errors import RemoteProtocolError
from duplex.protocol import ChannelOpened, MessageReceived
from tests.protocol.helpers import check_accounts, pair_in_use


def split(data: bytes) -> Iterator[list[bytes]]:
    """Cut an input into messages."""
    position = 0
    while position < len(data):
        count, position = data[position] % 4 + 1, position + 1
        frames = []
        for _ in range(count):
            length = int.from_bytes(data[position : position + 2], "big")
            frames.append(data[position + 2 : position + 2 + length])
            position += 2 + length
        yield frames


def one_input(data: bytes) -> None:
    """Feed one conversation to one end of a pair."""
    pair = pair_in_use()
    connection = pair.a if data[:1] < b"\x80" else pair.b
    for frames in split(data[1:]):
        try:
            events = connection.receive(frames, 0.0)
        except RemoteProtocolError:
            assert connection.is_closed
            events = []
        for event in events:
            if isinstance(event, MessageReceived):
                connection.consumed(event.channel, event.cost)
            elif isinstance(event, ChannelOpened) and event.notify:
                connection.finish(event.channel)
        check_accounts(connection)
        connection.data_to_send()


def main() -> None:
    """Run atheris; its options and corpus directories come from the command line."""
    import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]

    atheris.instrument_all()
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
