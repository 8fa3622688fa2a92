"""``zookeeper://HOST,HOST/ROOT``: ZooKeeper, through kazoo.

What it holds is mirrored in memory, and each question asks first whether that is still so. A commit is decided on the
mirror and made on condition that nothing has changed since: so it is exact, and its answer need not be believed, it can
be looked up.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import random
import secrets
from collections.abc import AsyncGenerator, Collection, Iterable, Iterator, Sequence
from typing import Any, Final, final

import trio
from kazoo import exceptions
from kazoo.client import KazooClient
from kazoo.security import CREATOR_ALL_ACL

import duplex
from duplex_services._shared._background import background
from duplex_services.store._backend import SENTINEL, Grant, Listing, Outcome, Report
from duplex_services.store._backends import _zookeeper_words as words
from duplex_services.store._backends._http import SECRET_OPTION, TLS_OPTIONS, root_of, secret_of, tls_of
from duplex_services.store._backends._zookeeper_mirror import Mirror
from duplex_services.store._backends._zookeeper_session import Lost, Session, open_session
from duplex_services.store._model import (
    Commit,
    Denied,
    Entry,
    LeaseLost,
    StoreError,
    Unavailable,
    Unchanged,
    Unknown,
)
from duplex_services.store._rules._clocks import next_pause
from duplex_services.store._rules._numbers import check_seconds
from duplex_services.store._url import StoreURL

_PORT: Final = 2181
#: The option for how long a session outlives its connection, and what it is otherwise, in seconds.
_SESSION_OPTION: Final = "session"
_SESSION: Final = 10.0
#: Seconds until servers have elected a leader, and somebody has deleted the keys of a lease.
_ELECTION: Final = 5.0
#: The part of a session that is sure, counted from when a beat was sent: who answers it tells the leader of it within
#: half a tick, and a session has two ticks at least.
_SURE: Final = 0.75
#: Bytes of one request; a server that is sent more than 1 MiB hangs up.
_GROUP_BYTES: Final = 512 * 1024
#: Nodes that are read at once.
_AT_ONCE: Final = 500
#: How often what changes meanwhile is read again, and a commit is made again that others came before.
_ROUNDS: Final = 100
#: Seconds between two looks whether anything changed, should no event say so.
_LOOK: Final = 2.0
#: Seconds within which one of all stores deletes the keys of a lease that has ended.
_LOT: Final = 0.2
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0


@final
class ZooKeeperBackend:
    """See :class:`duplex_services.store._backend.Backend`."""

    is_late = False
    hides_denied = False
    group_limit = 32

    def __init__(self, address: str, session: Session, root: str) -> None:
        self.address = address
        self._session = session
        self._paths = words.Paths(root)
        self._mirror = Mirror()
        self._mirroring = trio.Lock()
        self._committing = trio.Lock()
        self._client = secrets.token_hex(4)
        self._count = itertools.count(1)
        self._moved = trio.Event()
        self._leases_moved = trio.Event()
        #: Until when each lease of ours lasts, as far as is known.
        self._ours: dict[str, float] = {}
        self._granted = trio.Event()

    # ------------------------------------------------------------------------------------------- reading

    async def get(self, key: str) -> Entry | None:
        await self._catch_up()
        return self._mirror.entries.get(key)

    async def list(self, prefix: str) -> Listing:
        await self._catch_up()
        return self._mirror.listing(prefix)

    async def newest(self, revision: int, count: int) -> int:
        await self._catch_up()
        return self._mirror.revision

    async def follow(self, since: Listing, report: Report) -> None:
        told = since.revision
        while True:
            self._moved = trio.Event()
            moved = self._moved
            await self._catch_up(is_followed=True)
            changes = self._mirror.changes_since(told)
            if changes is None or self._mirror.entries.get(SENTINEL) != since.sentinel:
                return
            if changes.revision > told:
                told = changes.revision
                report(changes)
            with trio.move_on_after(_LOOK):
                await moved.wait()

    def _on_moved(self, event: object) -> None:
        self._session.soon(lambda: self._moved.set())

    def _on_leases_moved(self, event: object) -> None:
        self._session.soon(lambda: self._leases_moved.set())

    # ----------------------------------------------------------------------------------------- mirroring

    async def _catch_up(self, *, is_followed: bool = False) -> None:
        """Let the mirror show all that was committed before this was called.

        Args:
            is_followed: whether an event is to tell of the next commit.
        """
        watch = self._on_moved if is_followed else None
        path = self._paths.head
        known = self._mirror.life, self._mirror.revision
        try:
            _, found = await self._session.ask_all([("sync", (path,), {}), ("get", (path, watch), {})])
            if isinstance(found, exceptions.NoNodeError):
                await self._make_nodes()
                found = await self._session.ask("get", path, watch)
            head, stat = self._head(found)
            async with self._mirroring:
                mirror = self._mirror
                if known[0] == stat.czxid and known[1] > head.revision:
                    # It was put back to an older state.
                    mirror.forget()
                if mirror.life != stat.czxid or mirror.revision < head.revision:
                    await self._read(head, stat)
        except (Lost, exceptions.ZookeeperError) as error:
            raise Unavailable(str(error) or f"{self.address}: {type(error).__name__}") from error

    async def _make_nodes(self) -> None:
        paths = self._paths
        for path in (paths.keys, paths.leases):
            await self._session.ask("ensure_path", path)
        with contextlib.suppress(exceptions.NodeExistsError):
            await self._session.ask("create", paths.head, words.write_head(words.first_head()))

    async def _read(self, head: words.Head, stat: Any) -> None:
        """Bring the mirror to a head, or to a later one if there is one meanwhile."""
        mirror = self._mirror
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
        raise Unavailable(f"{self.address} changes faster than it can be read")

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
            raise Unavailable(f"{self.address}: the node of {key!r} is not a store's: {error}") from error

    def _head(self, found: Any) -> tuple[words.Head, Any]:
        if isinstance(found, Exception):
            raise found
        data, stat = found
        try:
            return words.read_head(data), stat
        except ValueError as error:
            raise Unavailable(f"{self.address}: {self._paths.head} is not a store's: {error}") from error

    # ------------------------------------------------------------------------------------------- writing

    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        outcomes: list[Outcome] = []
        async with self._committing:
            for chunk in _chunks(commits):
                try:
                    outcomes += await self._commit(chunk)
                except (Denied, Unavailable, Unknown) as error:
                    outcomes += [error] * len(chunk)
        return outcomes

    async def _commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        """Make commits as one, and stay until it is known what became of them.

        Raises:
            Denied, Unavailable: nothing was done, and nothing will be.
            Unknown: the store was emptied before that could be known.
        """
        attempt = _Attempt()
        pause = 0.0
        for tries in itertools.count(1):
            try:
                if not attempt.is_current:
                    await self._catch_up()
                    attempt.is_current = True
                found = attempt.settled(self._mirror) or await self._try(commits, attempt)
                if found is not None:
                    return found
                if tries > _ROUNDS and not attempt.is_open:
                    raise Unavailable(f"{self.address}: others came first {tries} times")
            except Lost:
                attempt.is_current = False
            except (Denied, Unavailable):
                # As long as one attempt may still come true, that it cannot be looked up is no answer.
                if not attempt.is_open:
                    raise
                attempt.is_current = False
            else:
                continue
            pause = next_pause(pause, first=_FIRST_PAUSE, longest=_LONGEST_PAUSE)
            await trio.sleep(pause)
        raise AssertionError("it counts for ever")

    async def _try(self, commits: Sequence[Commit], attempt: _Attempt) -> Sequence[Outcome] | None:
        """Make commits if the mirror is true; ``None`` if it turns out that it is not."""
        mirror = self._mirror
        plan = words.plan(commits, mirror.entries.get, mirror.revision + 1, attempt.lost)
        if not plan.changes:
            before = mirror.life, mirror.revision
            await self._catch_up()
            return plan.outcomes if before == (mirror.life, mirror.revision) else None
        mark = f"{self._client}-{next(self._count)}"
        head = mirror.head.after(mark, plan.changes)
        life, version = mirror.life, mirror.version
        attempt.send(mark, plan.outcomes, life, version)
        try:
            results = await self._session.transact(functools.partial(self._build, plan, head))
        except (StoreError, exceptions.ZookeeperError) as error:
            attempt.fail(mark)
            if isinstance(error, StoreError):
                raise
            raise Unavailable(f"{self.address}: {error!r}") from error
        reason = next((result for result in results if _is_reason(result)), None)
        if reason is None:
            async with self._mirroring:
                if (mirror.life, mirror.version) == (life, version):
                    mirror.advance(plan.changes, head, version + 1)
            return plan.outcomes
        attempt.fail(mark)
        attempt.is_current = False
        place = results.index(reason)
        if isinstance(reason, exceptions.NoAuthError):
            raise Denied(f"{self.address}: {reason!r}")
        if place < len(plan.leases) and isinstance(reason, exceptions.NoNodeError):
            attempt.lost.add(plan.leases[place])
        elif not isinstance(reason, exceptions.BadVersionError):
            # Somebody else writes below our nodes, or they are gone.
            mirror.forget()
        return None

    def _build(self, plan: words.Plan, head: words.Head, transaction: Any) -> None:
        for lease in plan.leases:
            transaction.check(self._paths.of_lease(lease), -1)
        for key, entry in plan.changes.items():
            path = self._paths.of_key(key)
            if entry is None:
                transaction.delete(path)
            elif key in self._mirror.entries:
                transaction.set_data(path, words.write_entry(entry))
            else:
                transaction.create(path, words.write_entry(entry))
        transaction.set_data(self._paths.head, words.write_head(head), self._mirror.version)

    # ------------------------------------------------------------------------------------------- leases

    async def grant(self, ttl: float) -> Grant:
        lease = secrets.token_hex(8)
        sent = trio.current_time()
        try:
            await self._catch_up()
            await self._session.ask("create", self._paths.of_lease(lease), b"", ephemeral=True)
        except (Lost, exceptions.ZookeeperError) as error:
            # If it was made after all, nothing will ever be under it.
            raise Unavailable(f"{self.address}: no lease was made: {error!r}") from error
        seconds = self._session.seconds
        grant = Grant(lease, _SURE * seconds, 2 * seconds + _ELECTION)
        self._ours[lease] = sent + grant.ttl
        self._granted.set()
        return grant

    async def beat(self, lease: str) -> None:
        path = self._paths.of_lease(lease)
        sent = trio.current_time()
        try:
            # Who answers is asked first to speak with the leader: it alone ends sessions.
            _, found = await self._session.ask_all([("sync", (path,), {}), ("exists", (path,), {})])
        except Lost as error:
            raise Unavailable(str(error)) from error
        if isinstance(found, Exception):
            raise Unavailable(f"{self.address}: {found!r}")
        if found is None:
            raise LeaseLost(lease)
        if lease in self._ours:
            self._ours[lease] = max(self._ours[lease], sent + _SURE * self._session.seconds)

    async def revoke(self, lease: str) -> None:
        await self._end(lease)
        await self._catch_up()
        await self._delete(self._mirror.leases.get(lease, ()), lease)

    async def _end(self, lease: str) -> None:
        try:
            with contextlib.suppress(exceptions.NoNodeError):
                await self._session.ask("delete", self._paths.of_lease(lease))
        except (Lost, exceptions.ZookeeperError) as error:
            raise Unavailable(f"{self.address}: {error!r}") from error
        self._ours.pop(lease, None)

    async def end_leases(self) -> None:
        """End leases of ours that nobody has beaten for, until cancelled: the session alone would keep them."""
        while True:
            self._granted = trio.Event()
            with trio.move_on_at(min(self._ours.values(), default=math.inf)):
                await self._granted.wait()
            now = trio.current_time()
            for lease in [lease for lease, end in self._ours.items() if end <= now]:
                try:
                    await self._end(lease)
                except StoreError:
                    self._ours[lease] = now + _LONGEST_PAUSE

    async def delete_orphans(self) -> None:
        """Delete keys whose lease has ended, until cancelled; whichever store is the first does it for all."""
        while True:
            self._leases_moved = trio.Event()
            moved = self._leases_moved
            try:
                await self._catch_up()
                # A lease that is made later has no keys yet.
                in_use = {*self._mirror.leases}
                there = await self._session.ask("get_children", self._paths.leases, self._on_leases_moved)
                for lease in in_use.difference(there):
                    await trio.sleep(random.uniform(0, _LOT))
                    await self._delete(self._mirror.leases.get(lease, ()), lease)
            except (StoreError, Lost, exceptions.ZookeeperError):
                # Whoever opened this store hears of it by other questions.
                await trio.sleep(_LONGEST_PAUSE)
                continue
            with trio.move_on_after(_LOOK):
                await moved.wait()

    async def _delete(self, keys: Iterable[str], lease: str) -> None:
        while doomed := [key for key in sorted(keys) if self._is_under(key, lease)]:
            entries = [self._mirror.entries[key] for key in doomed[: self.group_limit]]
            commits = [
                Commit(deletes=(entry.key,), when=(Unchanged(entry.key, entry.modified),))
                for entry in entries
            ]
            for outcome in await self.commit(commits):
                if isinstance(outcome, Denied | Unavailable | Unknown):
                    raise type(outcome)(outcome.message)

    def _is_under(self, key: str, lease: str) -> bool:
        entry = self._mirror.entries.get(key)
        return entry is not None and entry.lease == lease


@final
class _Attempt:
    """What is known of commits that are being made.

    Attributes:
        lost: leases that turned out to be gone.
        is_current: whether the mirror was true a moment ago.
    """

    def __init__(self) -> None:
        self.lost: set[str] = set()
        self.is_current = False
        self._open: dict[str, Sequence[Outcome]] = {}
        self._life = 0
        self._version = 0

    @property
    def is_open(self) -> bool:
        """Whether something that was sent may still come true."""
        return bool(self._open)

    def send(self, mark: str, outcomes: Sequence[Outcome], life: int, version: int) -> None:
        """Note that something is sent, on condition that the head still has a version."""
        self._open[mark] = outcomes
        self._life = life
        self._version = version

    def fail(self, mark: str) -> None:
        """Note that what had a mark did not come true, and will not."""
        del self._open[mark]

    def settled(self, mirror: Mirror) -> Sequence[Outcome] | None:
        """Return the outcomes if something that was sent has come true; else forget what cannot any more.

        Raises:
            Unknown: that cannot be known any more.
        """
        if not self._open:
            return None
        if mirror.life != self._life:
            raise Unknown("the store was emptied while the outcome of a commit was open")
        mark = mirror.head.made_by(self._open)
        if mark is not None:
            return self._open[mark]
        if mirror.version != self._version:
            self._open.clear()
        return None


def _is_reason(result: object) -> bool:
    """Whether a result of a transaction is why all of it failed."""
    rest = exceptions.RolledBackError, exceptions.RuntimeInconsistency
    return isinstance(result, Exception) and not isinstance(result, rest)


def _chunks(commits: Iterable[Commit]) -> Iterator[list[Commit]]:
    """Split a group so that each part is one request."""
    chunk: list[Commit] = []
    left = _GROUP_BYTES
    for commit in commits:
        size = words.size_of(commit)
        if chunk and size > left:
            yield chunk
            chunk, left = [], _GROUP_BYTES
        chunk.append(commit)
        left -= size
    yield chunk


@contextlib.asynccontextmanager
async def open_backend(url: StoreURL) -> AsyncGenerator[ZooKeeperBackend]:
    """Open one; nobody needs to be there yet."""
    url.check_options((*TLS_OPTIONS, SECRET_OPTION, _SESSION_OPTION))
    given = url.options.get(_SESSION_OPTION)
    try:
        seconds = _SESSION if given is None else check_seconds(_SESSION_OPTION, float(given))
    except ValueError:
        raise duplex.ConfigurationError(
            f"{_SESSION_OPTION}={given} of {url.address} is not a number of seconds"
        ) from None
    hosts = ",".join(
        f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in url.endpoints(_PORT)
    )
    client = functools.partial(KazooClient, hosts, **_identity(url), **_tls(url))
    root = "/" + root_of(url).removesuffix("/")
    async with open_session(url.address, seconds, client) as session, background() as nursery:
        backend = ZooKeeperBackend(url.address, session, root)
        nursery.start_soon(backend.delete_orphans)
        nursery.start_soon(backend.end_leases)
        yield backend


def _identity(url: StoreURL) -> dict[str, Any]:
    """Return who we are; what we make is then for us alone."""
    secret = secret_of(url)
    if bool(url.user) != bool(secret):
        raise duplex.ConfigurationError(f"{url.address} has a user or a password, and not both")
    who = [("digest", f"{url.user}:{secret}")] if secret else []
    if who or "cert" in url.options:
        return {"auth_data": who, "default_acl": CREATOR_ALL_ACL}
    return {}


def _tls(url: StoreURL) -> dict[str, Any]:
    if tls_of(url) is None:
        return {}
    cert = url.options.get("cert")
    return {
        "use_ssl": True,
        "check_hostname": True,
        "ca": url.options.get("ca"),
        "certfile": cert,
        "keyfile": url.options.get("key", cert),
    }
