"""A session with ZooKeeper: kazoo, whose threads are its own, asked from trio.

Answers and events come in kazoo's threads and are handed over by trio's token; nothing here waits in a thread, but for
the end of a session.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, Final, final

import trio
from kazoo import exceptions
from kazoo.client import KazooClient
from kazoo.retry import KazooRetry

from duplex_services._shared._background import background
from duplex_services.store._backend import ANSWER_WITHIN
from duplex_services.store._model import Denied, Unavailable

_log: Final = logging.getLogger("duplex")
#: For kazoo, which has a warning for every attempt to connect, several in a second.
_kazoo_log: Final = logging.getLogger("duplex.store.kazoo")
_kazoo_log.setLevel(logging.ERROR)

#: Seconds that the end of a session may take; if nobody answers, ZooKeeper ends it itself.
_END_WITHIN: Final = 2.0

#: What says that the answer will not come. What was asked may have been done, or may yet be.
_LOST: Final = (
    exceptions.ConnectionLoss,
    exceptions.ConnectionClosedError,
    exceptions.SessionExpiredError,
    exceptions.OperationTimeoutError,
    exceptions.SessionMovedError,
)
_DENIED: Final = (exceptions.NoAuthError, exceptions.AuthFailedError, exceptions.InvalidACLError)


@final
class Lost(Exception):
    """No answer came: what was asked may have been done, or may yet be."""


@final
class Session:
    """Asks ZooKeeper, over whichever connection and whichever session there is.

    Args:
        address: for messages.
        seconds: for which the session is to outlive its connection; the server may make it more or less.
        client: makes a client of kazoo's.
    """

    def __init__(self, address: str, seconds: float, client: Callable[[], KazooClient]) -> None:
        self._address = address
        self._make = client
        self._token = trio.lowlevel.current_trio_token()
        self._changed = trio.Event()
        #: When trio's loop went round the last time that somebody looked.
        self._alive = time.monotonic()
        #: Seconds that the server agreed to.
        self.seconds = seconds
        self.is_connected = False
        self._client = self._begin()

    def _begin(self) -> KazooClient:
        client = self._make()
        connection = client._connection
        connect = connection._connect

        def noted(*arguments: Any) -> tuple[float, float]:
            # What the server agreed to is told to nobody; but kazoo waits two thirds of it for what it reads.
            read_timeout, connect_timeout = connect(*arguments)
            self.seconds = read_timeout * 1.5 / 1000
            return read_timeout, connect_timeout

        connection._connect = noted
        ping = connection._send_ping

        def ping_if_alive(*arguments: Any) -> None:
            # kazoo's thread would keep the session of a process that does nothing any more.
            if time.monotonic() - self._alive < self.seconds:
                ping(*arguments)

        connection._send_ping = ping_if_alive
        client.add_listener(lambda state: self.soon(lambda: self._note(client, state)))
        client.start_async()
        return client

    def _note(self, client: KazooClient, state: str) -> None:
        if client is self._client:
            was_connected, self.is_connected = self.is_connected, state == "CONNECTED"
            if was_connected != self.is_connected:
                _log.info("%s: the connection is %s", self._address, "there" if self.is_connected else "lost")
            self._changed.set()
            self._changed = trio.Event()

    def soon(self, call: Callable[[], object]) -> None:
        """Call something in trio's thread, from one of kazoo's."""
        # After the end of the run nobody cares.
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(call)

    # ---------------------------------------------------------------------------------------- questions

    async def ask(self, method: str, *arguments: Any, **more: Any) -> Any:
        """Ask one thing, by the name that kazoo has for it.

        Raises:
            kazoo.exceptions.ZookeeperError: the server's own errors.
            Denied: it will not answer us.
            Unavailable: nobody could be asked.
            Lost: no answer came.
        """
        (answer,) = await self.ask_all([(method, arguments, more)])
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def ask_all(self, questions: Sequence[tuple[str, tuple[Any, ...], dict[str, Any]]]) -> list[Any]:
        """Ask several things, which are answered in order, as of moments that are in order.

        Returns:
            Answers, and errors of the server's.

        Raises:
            Denied: it will not answer one of them.
            Unavailable: nobody could be asked.
            Lost: the answer to one did not come.
        """
        client = await self._connected()
        return await self._answers(
            [getattr(client, f"{method}_async")(*arguments, **more) for method, arguments, more in questions]
        )

    async def transact(self, build: Callable[[Any], None]) -> list[Any]:
        """Do several things or none.

        Args:
            build: calls ``create``, ``set_data``, ``delete`` and ``check`` of what it is given.

        Returns:
            The results; if there is an error among them nothing was done.

        Raises:
            Unavailable: nobody could be asked.
            Lost: no answer came.
        """
        transaction = (await self._connected()).transaction()
        build(transaction)
        (answer,) = await self._answers([transaction.commit_async()])
        if isinstance(answer, Exception):
            raise answer
        results: list[Any] = answer
        return results

    async def _answers(self, results: Sequence[Any]) -> list[Any]:
        done = trio.Event()
        left = len(results)
        lock = threading.Lock()

        def one_more(_: object) -> None:
            nonlocal left
            with lock:
                left -= 1
                is_last = not left
            if is_last:
                self.soon(done.set)

        for result in results:
            result.rawlink(one_more)
        with trio.move_on_after(ANSWER_WITHIN):
            await done.wait()
        answers = []
        for result in results:
            if not result.ready():
                raise Lost(f"{self._address} does not answer within {ANSWER_WITHIN:g} s")
            error = result.exception
            if isinstance(error, _LOST):
                raise Lost(f"{self._address}: {type(error).__name__}") from error
            if isinstance(error, _DENIED):
                raise Denied(f"{self._address}: {type(error).__name__}") from error
            answers.append(result.value if error is None else error)
        return answers

    async def _connected(self) -> KazooClient:
        """Wait for a connection; kazoo would keep a question for when there is one, however late."""
        with trio.move_on_after(ANSWER_WITHIN):
            while not self.is_connected:
                await self._changed.wait()
        if not self.is_connected:
            raise Unavailable(f"{self._address}: there is no connection")
        return self._client

    # ---------------------------------------------------------------------------------------- its life

    async def keep(self) -> None:
        """Begin another session when this one is over and kazoo does not notice, until cancelled.

        A server that was wiped refuses who has seen what it has not, and kazoo tries again without end.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._live)
            while True:
                with trio.move_on_after(2 * self.seconds + ANSWER_WITHIN):
                    while not self.is_connected:
                        await self._changed.wait()
                if not self.is_connected:
                    _log.info("%s has not answered for two sessions: another one begins", self._address)
                    nursery.start_soon(_end, self._client)
                    self._client = self._begin()
                    continue
                await self._changed.wait()

    async def _live(self) -> None:
        while True:
            self._alive = time.monotonic()
            await trio.sleep(self.seconds / 6)

    async def aclose(self) -> None:
        """End the session, and with it its leases."""
        with trio.move_on_after(_END_WITHIN, shield=True):
            await _end(self._client)


async def _end(client: KazooClient) -> None:
    def stop() -> None:
        try:
            client.stop()
            client.close()
        except Exception as error:
            # Nobody can do more about it: the session ends by itself.
            _log.debug("a session with ZooKeeper was not ended: %r", error)

    await trio.to_thread.run_sync(stop, abandon_on_cancel=True)


@contextlib.asynccontextmanager
async def open_session(
    address: str, seconds: float, client: Callable[..., KazooClient]
) -> AsyncGenerator[Session]:
    """Begin a session; nobody needs to be there yet.

    Args:
        address: for messages.
        seconds: for which it is to outlive its connection.
        client: makes a client of kazoo's, given further words for it.
    """

    def make() -> KazooClient:
        for_ever = KazooRetry(max_tries=-1, delay=0.05, max_delay=0.5, max_jitter=0.4)
        return client(timeout=seconds, connection_retry=for_ever, logger=_kazoo_log)

    session = Session(address, seconds, make)
    try:
        async with background() as nursery:
            nursery.start_soon(session.keep)
            yield session
    finally:
        await session.aclose()
