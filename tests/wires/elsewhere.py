"""The server of a test in a process of its own: ``pytest --wire=process``.

The process is a fork, so it has whatever service the test has made. What a handler does to objects of the test is done to
copies, and the server itself cannot be looked at: :class:`Elsewhere` says so, and the test is skipped.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, NoReturn

import trio

import duplex
from tests.machine import fail_after, within

#: Any time of the child's that is longer than this is too long, in seconds of a quiet machine.
PATIENCE: Final = 20.0
#: And after which what is left over there is left for good.
REST: Final = 2.0


class LookedElsewhereError(Exception):
    """A test looks at what is in another process."""


class Elsewhere:
    """In the place of an object that is in another process."""

    def __init__(self, what: str) -> None:
        self.__dict__["what"] = what

    def __getattr__(self, name: str) -> NoReturn:
        raise LookedElsewhereError(f"looks at {self.what}, which is in another process")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise LookedElsewhereError(f"changes {self.what}, which is in another process")


def is_about_elsewhere(error: BaseException | None) -> str | None:
    """Return what an error says of a look into another process, however deep in groups it is."""
    if isinstance(error, BaseExceptionGroup):
        return next((text for inner in error.exceptions if (text := is_about_elsewhere(inner))), None)
    return str(error) if isinstance(error, LookedElsewhereError) else None


@contextlib.asynccontextmanager
async def served(
    services: Sequence[duplex.Service],
    endpoint: str,
    options: dict[str, Any],
    leftovers: Callable[[Any], list[str]],
) -> AsyncIterator[str]:
    """Serve in a fork; gives the endpoint. Afterwards nothing may be left over there.

    Args:
        services: what is served.
        endpoint: where; if that is a place within a process, at a port instead.
        options: of ``open_peer``.
        leftovers: lists what is left over on a link.
    """
    if endpoint.startswith(("memory:", "inproc:")):
        endpoint = "tcp://127.0.0.1:*"
    asking, asked = os.pipe()
    telling, told = os.pipe()
    child = os.fork()
    if not child:
        os.close(asked)
        os.close(telling)
        # In a thread of its own, as in this one trio runs already.
        thread = threading.Thread(
            target=_in_fork, args=(asking, told, services, endpoint, options, leftovers), daemon=True
        )
        thread.start()
        thread.join()
        os._exit(0)
    os.close(asking)
    os.close(told)
    async with trio.lowlevel.FdStream(telling) as answers:
        try:
            with fail_after(PATIENCE):
                yield await _next(answers)
                os.write(asked, b"end")
                if left := await _next(answers):
                    raise AssertionError(left)
        finally:
            os.close(asked)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, 9)
            os.waitpid(child, 0)


async def _next(answers: trio.lowlevel.FdStream) -> Any:
    data = bytearray()
    while not data.endswith(b"\n"):
        piece = await answers.receive_some()
        if not piece:
            raise AssertionError("the process of the server has ended")
        data += piece
    found = pickle.loads(bytes.fromhex(data.decode()))
    if isinstance(found, BaseException):
        raise found
    return found


def _in_fork(
    asking: int,
    told: int,
    services: Sequence[duplex.Service],
    endpoint: str,
    options: dict[str, Any],
    leftovers: Callable[[Any], list[str]],
) -> None:
    def tell(value: Any) -> None:
        os.write(told, pickle.dumps(value).hex().encode() + b"\n")

    async def serve() -> None:
        async with duplex.open_peer(services=services, **options) as peer:
            tell(await peer.bind(endpoint))
            await trio.lowlevel.wait_readable(asking)
            if not os.read(asking, 3):
                return  # the test has failed, and asks for nothing
            left: list[str] = []
            with trio.move_on_after(within(REST)):
                while left := [found for link in peer.links for found in leftovers(link)]:
                    await trio.sleep(0.01)  # the other process tells nothing
            tell("; ".join(left))

    try:
        trio.run(serve)
    except BaseException as error:
        tell(AssertionError(f"the server failed: {error!r}\n{traceback.format_exc()}"))
