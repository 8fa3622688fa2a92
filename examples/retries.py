"""Servers that fail, or take long, and a caller that notices little of it.

`retry` makes a call again that failed, where that is safe. `hedging` makes one more while the first takes long. A circuit breaker
gives a server that fails again and again no calls for a while.
"""

from __future__ import annotations

import contextlib
import logging

import trio

import duplex


class Weather:
    """A server with its moods."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.failures = 0
        self.is_ill = False
        self.is_slow = False

    @duplex.rpc(idempotent=True)
    async def temperature(self) -> str:
        """Measure, if that works."""
        if self.is_slow:
            await trio.sleep(10)
        if self.is_ill:
            self.failures += 1
            raise duplex.Unavailable(f"the sensor of {self.name} is broken")
        return f"21 degrees, says {self.name}"


async def main() -> None:
    # Else it would be said here as well who gets no calls, and why.
    logging.getLogger("duplex").setLevel(logging.ERROR)
    north, south = Weather("north"), Weather("south")
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            # In turn, so that the server that fails is asked too; by default calls go where they are answered sooner.
            duplex.open_peer(balancer="round_robin", circuit_breaker=duplex.CircuitBreaker(failures=3))
        )
        for weather in (north, south):
            server = await stack.enter_async_context(duplex.open_peer(name=weather.name))
            server.expose(weather, name="weather")
            await client.connect(await server.bind("tcp://127.0.0.1:*"))

        # The class says which methods may run twice for one call.
        remote = client.service(Weather, name="weather")

        print("A server is slow, and another one is asked as well:")
        north.is_slow = True
        hedging = duplex.HedgingPolicy(delay=0.05)
        print(" ", await remote.temperature.with_options(hedging=hedging)())
        north.is_slow = False

        print("A server fails:")
        north.is_ill = True
        try:
            await remote.temperature()
        except duplex.Unavailable as error:
            print(" ", error.message)

        print("The call is made again, at the other one:")
        retry = duplex.RetryPolicy(initial=0.01)
        print(" ", await remote.temperature.with_options(retry=retry)())

        print("After three failures in a row it gets no calls any more:")
        for _ in range(20):
            await remote.temperature.with_options(retry=retry)()
        print("  calls that failed:", north.failures)

        counted = client.statistics()
        print(f"{counted.retries} retries, {counted.hedges} hedged, {counted.ejections} ejected")


if __name__ == "__main__":
    trio.run(main)
