"""ZooKeeper as a target: an ephemeral node for each service, which goes with this process."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar, final

import trio

import duplex
from duplex_services.registration._target import TargetError

_log: Final = logging.getLogger("duplex")

#: Seconds until the nodes of a process that is gone go too.
_SESSION: Final = 10.0

#: Seconds that one request may take.
_WITHIN: Final = 5.0

_T = TypeVar("_T")


@final
class ZooKeeperKeys:
    """ZooKeeper's nodes, through kazoo, whose calls block and so are made in threads.

    Args:
        hosts: ``HOST:PORT``.

    Raises:
        ConfigurationError: kazoo is not installed.
    """

    def __init__(self, hosts: str) -> None:
        try:
            from kazoo.client import KazooClient
        except ModuleNotFoundError:
            raise duplex.ConfigurationError(
                "zookeeper:// needs the library kazoo, which is not installed: pip install 'duplex-rpc[zookeeper]'"
            ) from None
        self._client = KazooClient(hosts, timeout=_SESSION, logger=_log, read_only=False)
        self._is_open = False
        self._own: frozenset[str] = frozenset()

    async def run(self) -> None:
        """Hold a session, until cancelled; its nodes go then."""
        self._client.start_async()
        self._is_open = True
        try:
            await trio.sleep_forever()
        finally:
            self._is_open = False
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._end)

    def _end(self) -> None:
        self._client.stop()
        self._client.close()

    async def read(self, prefix: str) -> Mapping[str, str]:
        """Return all nodes below a prefix, two levels deep, with their values."""
        return await self._do(lambda: self._read_all(f"/{prefix}".rstrip("/")))

    async def put(self, key: str, value: str, *, is_new: bool) -> bool:
        """Write a node, a new one only if it is not there; one of an earlier session is made anew."""
        return await self._do(lambda: self._put(f"/{key}", value.encode(), is_new))

    async def delete(self, key: str) -> None:
        """Delete a node, be it there or not, and its parent if that is empty."""
        await self._do(lambda: self._delete(f"/{key}"))

    def lasts(self, key: str) -> bool:
        """Whether a node is of this session."""
        return key in self._own

    def _read_all(self, base: str) -> Mapping[str, str]:
        found: dict[str, str] = {}
        own: set[str] = set()
        session = self._client.client_id[0] if self._client.client_id else 0
        for name in self._children(base):
            for last in self._children(f"{base}/{name}"):
                with contextlib.suppress(_exceptions().NoNodeError):
                    value, stat = self._client.retry(self._client.get, f"{base}/{name}/{last}")
                    key = f"{base}/{name}/{last}".removeprefix("/")
                    found[key] = value.decode(errors="replace")
                    if stat.ephemeralOwner == session:
                        own.add(key)
        self._own = frozenset(own)
        return found

    def _children(self, path: str) -> list[str]:
        try:
            return list(self._client.get_children(path or "/"))
        except _exceptions().NoNodeError:
            return []

    def _put(self, path: str, value: bytes, is_new: bool) -> bool:
        self._client.ensure_path(path.rpartition("/")[0])
        request = self._client.transaction()
        if not is_new:
            request.delete(path)
        request.create(path, value, ephemeral=True)
        results = request.commit()
        return not any(isinstance(result, Exception) for result in results)

    def _delete(self, path: str) -> None:
        exceptions = _exceptions()
        with contextlib.suppress(exceptions.NoNodeError):
            self._client.delete(path)
        with contextlib.suppress(exceptions.NoNodeError, exceptions.NotEmptyError):
            self._client.delete(path.rpartition("/")[0])

    async def _do(self, function: Callable[[], _T]) -> _T:
        if not self._is_open or not self._client.connected:
            raise TargetError("no server of ZooKeeper answers")
        with trio.move_on_after(_WITHIN):
            try:
                return await trio.to_thread.run_sync(function, abandon_on_cancel=True)
            except _failures() as error:
                raise TargetError(f"ZooKeeper: {type(error).__name__} {error}") from error
        raise TargetError(f"ZooKeeper does not answer within {_WITHIN:g} s")


def _exceptions() -> Any:
    from kazoo import exceptions

    return exceptions


def _failures() -> tuple[type[Exception], ...]:
    from kazoo.exceptions import KazooException
    from kazoo.handlers.threading import KazooTimeoutError

    return (KazooException, KazooTimeoutError, OSError)
