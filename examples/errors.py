"""Errors: expected ones have a class, a message and details; unexpected ones have an incident id.

A handler raises ``NotFound`` and the caller catches ``NotFound``. Of an exception that nobody planned the
caller learns only an id; the traceback stays in the log of the peer where it happened.
"""

from __future__ import annotations

import io
import logging

import trio

import duplex

shop = duplex.Service("shop")
STOCK = {"apple": 3, "pear": 0}


@shop.rpc
async def buy(item: str, count: int = 1) -> int:
    """Buy something, and return how many are left.

    Raises NotFound for an unknown item, FailedPrecondition if there are not enough.
    """
    if item not in STOCK:
        raise duplex.NotFound(f"we do not sell {item!r}", details={"known": sorted(STOCK)})
    if STOCK[item] < count:
        raise duplex.FailedPrecondition("not enough in stock", details={"item": item, "left": STOCK[item]})
    STOCK[item] -= count
    return STOCK[item]


@shop.rpc
async def average_price() -> float:
    """Fail in a way that nobody planned."""
    prices: list[float] = []
    return sum(prices) / len(prices)


async def main() -> None:
    log = io.StringIO()  # stands for the log of the serving process
    logging.basicConfig(stream=log, force=True)

    async with duplex.open_peer(services=[shop], name="shop-1") as server, duplex.open_peer() as client:
        await client.connect(await server.bind("tcp://127.0.0.1:*"))
        remote = client.service("shop")

        print("left:", await remote.buy("apple"))

        try:
            await remote.buy("anvil")
        except duplex.NotFound as error:
            print(f"{type(error).__name__}: {error}")
            print("  details:", error.details)

        try:
            await remote.buy("pear")
        except duplex.RPCError as error:  # the base class of all outcomes
            print(error.code.name, error.details, "method:", error.method, "peer:", error.peer)

        try:
            await remote.buy("apple", "two")
        except duplex.InvalidArgument as error:  # the handler did not run
            print(f"{type(error).__name__}: {error.message}")

        try:
            await remote.sell("apple")
        except duplex.Unimplemented as error:
            print(f"{type(error).__name__}: {error.message}")

        try:
            await remote.average_price()
        except duplex.Internal as error:
            incident = error.details["incident"]
            print(f"{type(error).__name__}: {error.message.replace(incident, '(an id)')}")
            print("  the log has that id:", incident in log.getvalue())
            print("  the log has the traceback:", "ZeroDivisionError" in log.getvalue())


if __name__ == "__main__":
    trio.run(main)
