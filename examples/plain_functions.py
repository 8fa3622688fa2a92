"""Plain functions are served too: in worker threads, so that blocking is no sin.

``inline=True`` runs one on the event loop instead, which is quicker for what is done in no time. Functions of
a module need no ``Service`` object: decorate them and expose the module, or ``duplex serve`` it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import trio

import duplex

both_are_here = threading.Barrier(2, timeout=10)


def where() -> str:
    """Return the kind of thread this runs in."""
    return "the event loop" if threading.current_thread() is threading.main_thread() else "a worker thread"


@duplex.rpc
def in_a_thread() -> str:
    """Run where blocking harms nobody."""
    return where()


@duplex.rpc(inline=True)
def inline() -> str:
    """Run at once, for something quick."""
    return where()


@duplex.rpc
def meet(name: str) -> str:
    """Block until somebody else calls too, which only works if the two run side by side."""
    both_are_here.wait()
    return f"{name} met somebody"


@duplex.rpc
def lines(text: str) -> Iterator[str]:
    """Stream: plain generators do that too."""
    yield from text.splitlines()


async def main() -> None:
    async with duplex.open_peer() as server, duplex.open_peer() as client:
        server.expose(sys.modules[__name__], name="tools")
        await client.connect(await server.bind("tcp://127.0.0.1:*"))
        remote = client.service("tools")

        print("def:", await remote.in_a_thread())
        print("def, inline=True:", await remote.inline())

        met = []

        async def call_meet(name: str) -> None:
            met.append(await remote.meet(name))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call_meet, "ann")
            nursery.start_soon(call_meet, "bob")
        print(sorted(met))

        async with remote.lines.open("one\ntwo") as call:
            print([line async for line in call])


if __name__ == "__main__":
    trio.run(main)
