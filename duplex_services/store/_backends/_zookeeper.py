"""``zookeeper://HOST,HOST/ROOT``: ZooKeeper, through kazoo.

What it holds is mirrored in memory, and each question asks first whether that is still so. A commit is decided on the
mirror and made on condition that nothing has changed since: so it is exact, and its answer need not be believed, it can
be looked up.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import secrets
from collections.abc import AsyncGenerator, Sequence
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
from duplex_services.store._backends._parts import in_parts
from duplex_services.store._backends._zookeeper_leases import Leases
from duplex_services.store._backends._zookeeper_mirror import Mirror
from duplex_services.store._backends._zookeeper_reader import Reader
from duplex_services.store._backends._zookeeper_session import Lost, Session, open_session
from duplex_services.store._model import (
    Commit,
    Denied,
    Entry,
    StoreError,
    Unavailable,
    Unknown,
)
from duplex_services.store._rules._clocks import next_pause
from duplex_services.store._rules._numbers import check_seconds
from duplex_services.store._url import StoreURL

_PORT: Final = 2181
#: The option for how long a session outlives its connection, and what it is otherwise, in seconds.
_SESSION_OPTION: Final = "session"
_SESSION: Final = 10.0
#: Bytes of one request; a server that is sent more than 1 MiB hangs up.
_GROUP_BYTES: Final = 512 * 1024
#: How often a commit is made again that others came before.
_ROUNDS: Final = 100
#: Seconds between two looks whether anything changed, should no event say so.
_LOOK: Final = 2.0
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
        self._reader = Reader(address, session, self._paths)
        self._leases = Leases(address, session, self._paths, self._reader, self.commit)
        self._committing = trio.Lock()
        self._client = secrets.token_hex(4)
        self._count = itertools.count(1)
        self._moved = trio.Event()

    # ------------------------------------------------------------------------------------------- reading

    async def get(self, key: str) -> Entry | None:
        return (await self._reader.catch_up()).entries.get(key)

    async def list(self, prefix: str) -> Listing:
        return (await self._reader.catch_up()).listing(prefix)

    async def newest(self, revision: int, count: int) -> int:
        return (await self._reader.catch_up()).revision

    async def follow(self, since: Listing, report: Report) -> None:
        told = since.revision
        while True:
            self._moved = moved = trio.Event()
            mirror = await self._reader.catch_up(self._on_moved)
            changes = mirror.changes_since(told)
            if changes is None or mirror.entries.get(SENTINEL) != since.sentinel:
                return
            if changes.revision > told:
                told = changes.revision
                report(changes)
            with trio.move_on_after(_LOOK):
                await moved.wait()

    def _on_moved(self, event: object) -> None:
        self._session.soon(lambda: self._moved.set())

    # ------------------------------------------------------------------------------------------- leases

    async def grant(self, ttl: float) -> Grant:
        return await self._leases.grant()

    async def beat(self, lease: str) -> None:
        await self._leases.beat(lease)

    async def revoke(self, lease: str) -> None:
        await self._leases.revoke(lease)

    async def keep_leases(self) -> None:
        """End leases when they are over, and delete their keys, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._leases.end_leases)
            nursery.start_soon(self._leases.delete_orphans)

    # ------------------------------------------------------------------------------------------- writing

    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        outcomes: list[Outcome] = []
        async with self._committing:
            for part in in_parts(commits, words.cost_of, (_GROUP_BYTES,)):
                try:
                    outcomes += await self._commit(part)
                except (Denied, Unavailable, Unknown) as error:
                    outcomes += [error] * len(part)
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
                    await self._reader.catch_up()
                    attempt.is_current = True
                found = attempt.settled(self._reader.mirror) or await self._try(commits, attempt)
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
        raise AssertionError("the counting never ends")

    async def _try(self, commits: Sequence[Commit], attempt: _Attempt) -> Sequence[Outcome] | None:
        """Make commits if the mirror is true; ``None`` if it turns out that it is not."""
        mirror = self._reader.mirror
        plan = words.plan(commits, mirror.entries.get, mirror.revision + 1, attempt.lost)
        if not plan.changes:
            before = mirror.life, mirror.revision
            await self._reader.catch_up()
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
            await self._reader.take(plan, head, life, version)
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
            elif key in self._reader.mirror.entries:
                transaction.set_data(path, words.write_entry(entry))
            else:
                transaction.create(path, words.write_entry(entry))
        transaction.set_data(self._paths.head, words.write_head(head), self._reader.mirror.version)


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
        nursery.start_soon(backend.keep_leases)
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
