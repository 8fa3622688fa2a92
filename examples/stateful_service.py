"""A service with state: an object whose decorated methods are exposed.

What is not decorated cannot be called. The class also types its own client.
"""

from __future__ import annotations

import trio

import duplex


class Inventory:
    """Counts things."""

    def __init__(self, stock: dict[str, int]) -> None:
        self._stock = stock

    @duplex.rpc
    async def count(self, item: str) -> int:
        """Return how many there are."""
        return self._stock.get(item, 0)

    @duplex.rpc
    async def add(self, item: str, count: int = 1) -> int:
        """Put some in and return how many there are now."""
        self._stock[item] = self._stock.get(item, 0) + count
        return self._stock[item]

    async def clear(self) -> None:
        """Remove everything; for this process only."""
        self._stock.clear()


async def main() -> None:
    async with duplex.open_peer() as server, duplex.open_peer() as client:
        server.expose(Inventory({"apple": 3}))
        server.expose(Inventory({"nail": 500}), name="hardware")
        await client.connect(await server.bind("tcp://127.0.0.1:*"))

        food = client.service(Inventory)  # the service's name comes from the class: "inventory"
        hardware = client.service(Inventory, name="hardware")

        print("apples:", await food.add("apple", 2))
        print("nails:", await hardware.count("nail"))
        print("nails among the food:", await food.count("nail"))
        try:
            await client.service("inventory").clear()
        except duplex.Unimplemented as error:
            print(error.message)


if __name__ == "__main__":
    trio.run(main)
