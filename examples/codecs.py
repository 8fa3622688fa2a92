"""Codecs: how values become bytes is chosen by the caller, call by call.

``msgpack`` is the default and carries everything. ``json`` is for callers and tools that speak nothing else.
``raw`` is bytes as they are, for methods that take bytes and give bytes.
"""

from __future__ import annotations

import datetime as dt
import decimal

import trio

import duplex

tools = duplex.Service("tools")


@tools.rpc
async def later(moment: dt.datetime, days: int) -> dt.datetime:
    """Return the same time some days later."""
    return moment + dt.timedelta(days=days)


@tools.rpc
async def double(price: decimal.Decimal) -> decimal.Decimal:
    """Return twice the price."""
    return 2 * price


@tools.rpc
async def reverse(data: bytes) -> bytes:
    """Return the bytes backwards."""
    return data[::-1]


async def main() -> None:
    async with duplex.open_peer(services=[tools]) as server, duplex.open_peer() as client:
        await client.connect(await server.bind("tcp://127.0.0.1:*"))
        remote = client.service("tools")
        noon = dt.datetime(2026, 2, 27, 12, tzinfo=dt.UTC)

        # In JSON a moment travels as text. The handler gets a datetime all the same, because it says so.
        print("msgpack:", await remote.later(noon, days=2), await remote.double(decimal.Decimal("0.10")))

        as_json = remote.with_options(codec="json")
        print("json:", await as_json.later(noon, days=2), await as_json.double("0.10"))

        as_bytes = remote.with_options(codec="raw")
        print("raw:", await as_bytes.reverse(b"\x01\x02\x03"))

        try:
            await as_bytes.later(noon, 2)
        except duplex.EncodeError as error:
            print("raw:", error)


if __name__ == "__main__":
    trio.run(main)
