"""Keeps a mirror true to the nodes of a store."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final, final

import trio
from kazoo import exceptions

from duplex_services.store._backends import _zookeeper_words as words
from duplex_services.store._backends._zookeeper_mirror import Mirror
from duplex_services.store._backends._zookeeper_session import Lost, Session
from duplex_services.store._model import Entry, Unavailable

#: Nodes that are read at once.
_AT_ONCE: Final = 500
#: How often what changes meanwhile is read again.
_ROUNDS: Final = 100


@final
class Reader:
    """Reads what the mirror lacks: the head says what that is.

    Args:
        address: for messages.
        session: whom to ask.
        paths: where the nodes are; they are made if they are not there.
    """

    def __init__(self, address: str, session: Session, paths: words.Paths) -> None:
        self.mirror = Mirror()
        self._address = address
        self._session = session
        self._paths = paths
        self._reading = trio.Lock()

    async def catch_up(self, watch: Callable[[object], None] | None = None) -> Mirror:
        """Let the mirror show all that was committed before this was called.

        Args:
            watch: called, in a thread of kazoo's, at the next commit.

        Returns:
            The mirror.

        Raises:
            Denied: it may not be read.
            Unavailable: it cannot be read, or is not a store's.
        """
        path = self._paths.head
        mirror = self.mirror
        known = mirror.life, mirror.revision
        try:
            _, found = await self._session.ask_all([("sync", (path,), {}), ("get", (path, watch), {})])
            if isinstance(found, exceptions.NoNodeError):
                await self._make_nodes()
                found = await self._session.ask("get", path, watch)
            head, stat = self._head(found)
            async with self._reading:
                if known[0] == stat.czxid and known[1] > head.revision:
                    # It was put back to an older state.
                    mirror.forget()
                if mirror.life != stat.czxid or mirror.revision < head.revision:
                    await self._read(head, stat)
        except (Lost, exceptions.ZookeeperError) as error:
            raise Unavailable(f"{self._address}: {error or type(error).__name__}") from error
        return mirror

    async def take(self, plan: words.Plan, head: words.Head, life: int, version: int) -> None:
        """Take in a commit that was made, unless the mirror has moved on meanwhile.

        Args:
            plan: what it was.
            head: what it made of the head.
            life: of the mirror when it was planned.
            version: of the mirror when it was planned.
        """
        async with self._reading:
            if (self.mirror.life, self.mirror.version) == (life, version):
                self.mirror.advance(plan.changes, head, version + 1)

    async def _make_nodes(self) -> None:
        paths = self._paths
        for path in (paths.keys, paths.leases):
            await self._session.ask("ensure_path", path)
        with contextlib.suppress(exceptions.NodeExistsError):
            await self._session.ask("create", paths.head, words.write_head(words.first_head()))

    async def _read(self, head: words.Head, stat: Any) -> None:
        """Bring the mirror to a head, or to a later one if there is one meanwhile."""
        mirror = self.mirror
        for _ in range(_ROUNDS):
            is_same = mirror.life == stat.czxid
            changed = head.changed_since(mirror.revision) if is_same else None
            names = await self._names() if changed is None else changed
            found: dict[str, Entry | None] = {}
            for _ in range(_ROUNDS):
                entries, newer, newer_stat = await self._values(names)
                found.update(entries)
                names_left = newer.changed_since(head.revision) if newer_stat.czxid == stat.czxid else None
                head, stat = newer, newer_stat
                if names_left is None:
                    break
                if not names_left:
                    if changed is None:
                        mirror.load(found, head, stat.version, stat.czxid)
                    else:
                        mirror.advance(found, head, stat.version)
                    return
                names = names_left
        raise Unavailable(f"{self._address} changes faster than it can be read")

    async def _names(self) -> Collection[str]:
        return [words.key_of(node) for node in await self._session.ask("get_children", self._paths.keys)]

    async def _values(self, names: Iterable[str]) -> tuple[dict[str, Entry | None], words.Head, Any]:
        """Read keys, and after them the head: if that is the one from before, they are all of that moment."""
        entries: dict[str, Entry | None] = {}
        keys = iter(names)
        while True:
            some = [*itertools.islice(keys, _AT_ONCE)]
            paths = [*(self._paths.of_key(key) for key in some), self._paths.head]
            *values, found = await self._session.ask_all([("get", (path,), {}) for path in paths])
            for key, value in zip(some, values, strict=True):
                entries[key] = self._entry(key, value)
            if len(some) < _AT_ONCE:
                head, stat = self._head(found)
                return entries, head, stat

    def _entry(self, key: str, found: Any) -> Entry | None:
        if isinstance(found, exceptions.NoNodeError):
            return None
        if isinstance(found, Exception):
            raise found
        try:
            return words.read_entry(key, found[0])
        except ValueError as error:
            raise Unavailable(f"{self._address}: the node of {key!r} is not a store's: {error}") from error

    def _head(self, found: Any) -> tuple[words.Head, Any]:
        if isinstance(found, Exception):
            raise found
        data, stat = found
        try:
            return words.read_head(data), stat
        except ValueError as error:
            raise Unavailable(f"{self._address}: {self._paths.head} is not a store's: {error}") from error
