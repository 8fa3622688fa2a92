"""Neither client nor server: the peer that accepted the link calls the one that made it, over the same link.

A device connects out, perhaps from behind a firewall, and is then commanded: first by a handler that calls
its caller back, then by the hub of its own accord.
"""

from __future__ import annotations

import trio

import duplex

hub_service = duplex.Service("hub")
device_service = duplex.Service("device")


@device_service.rpc
async def temperature() -> float:
    """Return the temperature here."""
    return 21.5


@device_service.rpc
async def show(text: str) -> None:
    """Show a text."""
    print("the device shows:", text)


@hub_service.rpc
async def register(kind: str) -> str:
    """Take note of a device, after asking it something: the caller's own services can be called."""
    call = duplex.current_call()
    reading = await call.link.service("device").temperature()
    return f"{call.peer} is a {kind} at {reading} degrees"


async def main() -> None:
    async with (
        duplex.open_peer(services=[hub_service], name="hub") as hub,
        duplex.open_peer(services=[device_service], name="attic") as device,
    ):
        endpoint = await hub.bind("tcp://127.0.0.1:*")
        await device.connect(endpoint)

        print("the hub says:", await device.service("hub").register("thermometer"))

        for link in hub.links:
            print("the hub has a link to", link.peer_name)
            await link.service("device").show("hello from the hub")


if __name__ == "__main__":
    trio.run(main)
