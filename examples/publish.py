"""What is published once goes to everybody who has subscribed; of a group, to one; and who comes late gets the last item."""

from __future__ import annotations

from collections.abc import AsyncIterator

import trio

import duplex

market = duplex.Service("market")
prices: duplex.Topic[float] = duplex.Topic(retain=True)
orders: duplex.Topic[str] = duplex.Topic()


@market.rpc(name="prices")
async def stream_prices() -> AsyncIterator[float]:
    """The latest price, and each one from then on."""
    async for price in prices.subscribe(overflow="drop_oldest"):
        yield price


@market.rpc(name="orders")
async def stream_orders() -> AsyncIterator[str]:
    """Orders to be carried out; each goes to one of those who ask for them."""
    mine = orders.subscribe(group="brokers")
    yield "ready"
    async for order in mine:
        yield order


@market.rpc
async def publish(price: float) -> None:
    """Tell everybody the price."""
    await prices.publish(price)


@market.rpc
async def order(what: str) -> None:
    """Have somebody carry out an order."""
    await orders.publish(what)


async def main() -> None:
    async with duplex.open_peer(services=[market]) as server, duplex.open_peer() as client:
        await client.connect(await server.bind("tcp://127.0.0.1:*"))
        remote = client.service("market")

        await remote.publish(17.5)
        async with remote.prices.open() as first, remote.prices.open() as second:
            print("retained:", await first.receive(), await second.receive())
            await remote.publish(18.0)
            print("published:", await first.receive(), await second.receive())

        async with remote.orders.open() as one, remote.orders.open() as other:
            print("brokers:", await one.receive(), await other.receive())
            for what in ("buy tea", "sell coffee"):
                await remote.order(what)
            print("one each:", sorted([await one.receive(), await other.receive()]))


if __name__ == "__main__":
    trio.run(main)
