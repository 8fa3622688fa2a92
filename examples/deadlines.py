"""Deadlines: trio's cancel scope around a call is its deadline, and travels.

The handler runs under the caller's deadline, and so do the calls that the handler makes in turn. A
``timeout`` among the options does the same as an option, and ends in ``DeadlineExceeded``.
"""

from __future__ import annotations

import trio

import duplex

store = duplex.Service("store")
handler_ended = trio.Event()


@store.rpc
async def seconds_left() -> float:
    """Return the seconds until this call has to end."""
    return duplex.current_call().time_remaining


@store.rpc
async def slow_query() -> None:
    """Run until the deadline."""
    try:
        await trio.sleep_forever()
    finally:
        handler_ended.set()


class Front:
    """A service that calls another one."""

    def __init__(self, store: duplex.ServiceProxy) -> None:
        self._store = store

    @duplex.rpc
    async def seconds_left(self) -> list[float]:
        """Return the seconds that are left here, and at the service behind."""
        return [duplex.current_call().time_remaining, await self._store.seconds_left()]


async def main() -> None:
    async with (
        duplex.open_peer(services=[store]) as back,
        duplex.open_peer() as middle,
        duplex.open_peer() as client,
    ):
        await middle.connect(await back.bind("tcp://127.0.0.1:*"))
        middle.expose(Front(middle.service("store")), name="front")
        await client.connect(await middle.bind("tcp://127.0.0.1:*"))
        front = client.service("front")

        with trio.fail_after(60):
            here, behind = await front.seconds_left()
        print(f"seconds left in front: {here:.0f}, behind: {behind:.0f}")

        here, behind = await front.seconds_left()
        print(f"without a deadline: {here}, {behind}")

        await client.connect(back.endpoints[0])
        query = client.service("store").slow_query

        try:
            with trio.fail_after(0.1):
                await query()
        except trio.TooSlowError:
            print("the scope's deadline passed")
        await handler_ended.wait()
        print("the handler was cancelled too")

        try:
            await query.with_options(timeout=0.1)()
        except duplex.DeadlineExceeded as error:
            print("the option's deadline passed:", error.message)


if __name__ == "__main__":
    trio.run(main)
