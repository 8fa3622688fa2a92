"""Reflection: every peer tells what it offers, unless it was opened with ``reflection=False``.

Names, kinds, signatures, documentation and JSON Schemas all come from the code, and are what
``duplex list`` and ``duplex describe`` print.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import trio

import duplex

weather = duplex.Service("weather", version="1.2.0", description="What the sky does.")


@dataclass
class Report:
    """The weather at one place."""

    place: str
    degrees: float


@weather.rpc(idempotent=True)
async def report(place: str, *, unit: str = "C") -> Report:
    """Return the present weather."""
    return Report(place, 21.5 if unit == "C" else 70.7)


@weather.rpc
async def watch(place: str) -> AsyncIterator[Report]:
    """Yield the weather whenever it changes."""
    yield await report(place)


async def main() -> None:
    async with duplex.open_peer(services=[weather]) as server, duplex.open_peer() as client:
        link = await client.connect(await server.bind("tcp://127.0.0.1:*"))
        print("offered:", dict(link.services))

        reflection = client.service("duplex.reflection")
        for service in await reflection.services():
            print(f"{service['name']} {service['version']}: {', '.join(service['methods'])}")

        described = await reflection.describe("weather")
        for method in described["methods"]:
            print(f"{method['kind']}: {method['signature']}")
            print(f"    {method['doc']}")

        (method,) = (await reflection.describe("weather", "report"))["methods"]
        print("the result's schema:", json.dumps(method["result"]["schema"]))
        print("with the fields:", sorted(method["$defs"]["Report"]["properties"]))


if __name__ == "__main__":
    trio.run(main)
