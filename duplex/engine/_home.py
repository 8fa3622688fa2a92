"""Where a peer is at home: its event loop, its tasks, its thread and its process."""

from __future__ import annotations

import contextvars
import functools
import os
import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, Final, final

import trio

#: Those of this process, whose peers its forks must not use.
_homes: Final[weakref.WeakSet[Home]] = weakref.WeakSet()


@trio.lowlevel.enable_ki_protection
async def _protected(function: Callable[..., Awaitable[object]], *args: Any) -> None:
    """Run something of the engine's own. Ctrl-C then strikes the program's code, and not half-way through what
    links and sockets keep in order."""
    await function(*args)


def _disown() -> None:
    """In a forked child: no thread of it is that of its parent's peers."""
    for home in _homes:
        home.disown()


os.register_at_fork(after_in_child=_disown)


@final
class Home:
    """Runs the tasks of one peer, and knows who else must not use it.

    Args:
        nursery: the parent of all the peer's tasks.
        terminate: ends the peer's links without a word to anybody, in a fork of its process.

    Attributes:
        context: what a copy of is the context of each task and handler.
    """

    def __init__(self, nursery: trio.Nursery, terminate: Callable[[], None]) -> None:
        self.nursery = nursery
        self.context = contextvars.copy_context()
        self._terminate = terminate
        self._thread = threading.get_ident()
        self._process = os.getpid()
        _homes.add(self)

    def check_thread(self) -> None:
        """Raise ``RuntimeError`` if this is not the thread whose event loop the peer belongs to: tasks of
        another loop would wait without end, and break this one. Also in a process that was forked from the peer's."""
        if threading.get_ident() != self._thread:
            if os.getpid() != self._process:
                raise RuntimeError(
                    f"this peer belongs to process {self._process}, and this is a fork of it, which cannot use "
                    f"its sockets and tasks: open a peer in this process, and start it with the "
                    f"multiprocessing method 'spawn', or with subprocess, rather than by os.fork()"
                )
            raise RuntimeError(
                "this peer belongs to the event loop of another thread; from a thread of that loop's, call "
                "trio.from_thread.run(...), and in a program with several loops open a peer in each"
            )

    def disown(self) -> None:
        """Note that this process is a fork of the peer's: nothing may be sent on sockets that are not its own."""
        self._thread = -1
        self._terminate()

    def spawn(self, function: Callable[..., Awaitable[object]], *args: Any, name: str | None = None) -> None:
        """Run something of the peer's own until it ends or the peer does, in the peer's context, not that of
        the task that asks for it."""
        self.check_thread()
        start = functools.partial(self.nursery.start_soon, _protected, function, *args, name=name)
        self.context.copy().run(start)

    def spawn_here(self, function: Callable[..., Awaitable[object]], *args: Any, name: str) -> None:
        """Run something of the peer's own until it ends or the peer does, in the context of the task that asks for it."""
        self.nursery.start_soon(functools.partial(_protected, function, *args), name=name)
