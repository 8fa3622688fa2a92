"""``consul://HOST,HOST/PREFIX``: Consul's key-value store.

Consul has no history: one who waits for a change is given everything again. A change of rights looks like an empty
store, and a server that was cut off like a quiet one. So what is read is read consistently; but for what is waited for,
which is verified.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar, final

import msgspec
import trio

import duplex
from duplex_services._shared._background import background
from duplex_services._shared._http_client import Answer, Headers, HttpClient, HttpError
from duplex_services.store._backend import ANSWER_WITHIN, SENTINEL, Grant, Listing, Outcome, Report
from duplex_services.store._backends import _consul_words as words
from duplex_services.store._backends._http import (
    MAX_BODY,
    SECRET_OPTION,
    TLS_OPTIONS,
    failure_of,
    open_client,
    root_of,
    secret_of,
)
from duplex_services.store._backends._parts import in_parts
from duplex_services.store._model import (
    Commit,
    Conflict,
    Denied,
    Entry,
    LeaseLost,
    Refused,
    StoreError,
    Unavailable,
    Unchanged,
    Unknown,
)
from duplex_services.store._rules._commits import holds
from duplex_services.store._url import StoreURL

T = TypeVar("T")

_PORT: Final = 8500
#: Seconds that a server holds a question while nothing changes; it adds up to a sixteenth of it.
_WAIT: Final = 5
#: Seconds between two questions whose answer is everything; or so many times what it takes us to read one.
_FLOOR: Final = 0.1
_REST: Final = 4.0
#: Seconds between two looks whether a server still hears of the leader, and for how many it may not have.
_LOOK: Final = 1.0
_DEAF: Final = 2.0
#: Seconds that Consul allows a session.
_MIN_TTL: Final = 10
_MAX_TTL: Final = 24 * 3600
#: Seconds until servers have elected a leader, and somebody has deleted the keys of a lease.
_ELECTION: Final = 10.0
#: The node of Consul's catalogue that sessions belong to: those of a server's own node die with it.
_NODE: Final = "duplex"
#: How often commits are sent again that were refused for what is not so any more.
_TRIES: Final = 5
#: Seconds within which one of all stores deletes the keys of a lease that has ended.
_LOT: Final = 0.3
_PAUSE: Final = 1.0


@final
class ConsulBackend:
    """See :class:`duplex_services.store._backend.Backend`."""

    is_late = True
    hides_denied = True
    group_limit = 30

    def __init__(self, address: str, client: HttpClient, root: str, token: str) -> None:
        self.address = address
        self._http = client
        self._layout = words.Layout(root)
        self._headers: Headers = [("X-Consul-Token", token)] if token else ()
        #: The session of each lease that is ours.
        self._sessions: dict[str, str] = {}
        #: Keys whose lease has ended, when everything was last seen.
        self._orphans: tuple[Entry, ...] = ()
        self._is_orphaned = trio.Event()

    # ------------------------------------------------------------------------------------------- reading

    async def get(self, key: str) -> Entry | None:
        found = await self._value(self._layout.keys + key)
        return None if found is None else self._layout.entry(found)

    async def list(self, prefix: str) -> Listing:
        found = await self._read_tree(prefix) if prefix else None
        if found is not None:
            return found
        answer = await self._ask("GET", f"{words.path_of(self._layout.root)}?recurse&consistent")
        listing, _ = self._everything(answer)
        entries = tuple(entry for entry in listing.entries if entry.key.startswith(prefix))
        return msgspec.structs.replace(listing, entries=entries)

    async def _read_tree(self, prefix: str) -> Listing | None:
        """Read what is under a prefix; ``None`` if the store was never used, or hides that."""
        operations = self._layout.read(prefix, SENTINEL)
        answer = await self._ask("PUT", "/v1/txn?consistent", operations)
        kvs = self._decoded(answer, words.Txn).kvs
        # What we may not read is left out without a word.
        if answer.status != 200 or [kv.Key for kv in kvs[-2:]] != self._layout.proofs(SENTINEL):
            return None
        *tree, sentinel, revision = kvs
        entries = tuple(self._layout.entry(kv) for kv in tree)
        return Listing(entries, revision.ModifyIndex, self._layout.entry(sentinel))

    async def newest(self, revision: int, count: int) -> int:
        found = await self._value(self._layout.revision)
        return 0 if found is None else found.ModifyIndex

    async def _value(self, key: str) -> words.KV | None:
        answer = await self._ask("GET", f"{words.path_of(key)}?consistent")
        found = [] if answer.status == 404 else self._decoded(answer, list[words.KV])
        return found[0] if found else None

    def _everything(self, answer: Answer) -> tuple[Listing, int]:
        """Read an answer that has all there is; return also Consul's index of it."""
        index = _number(answer.headers, "x-consul-index")
        if index is None:
            raise Unavailable(f"{self.address} answers without an index")
        kvs = [] if answer.status == 404 else self._decoded(answer, list[words.KV])
        listing, leases = self._layout.listing(kvs, SENTINEL, otherwise=index)
        self._orphans = tuple(
            entry for entry in listing.entries if entry.lease is not None and entry.lease not in leases
        )
        if self._orphans:
            self._is_orphaned.set()
        return listing, index

    # ------------------------------------------------------------------------------------------- writing

    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        outcomes: dict[int, Outcome] = {}
        rounds = 0
        while len(outcomes) < len(commits):
            rounds += 1
            left = [index for index in range(len(commits)) if index not in outcomes]
            for part in in_parts([commits[index] for index in left], words.cost_of, words.LIMITS):
                places, left = left[: len(part)], left[len(part) :]
                found = await self._commit(part, is_last=rounds > _TRIES)
                outcomes.update((places[place], outcome) for place, outcome in found.items())
        return [outcomes[index] for index in range(len(commits))]

    async def _commit(self, commits: Sequence[Commit], *, is_last: bool) -> Mapping[int, Outcome]:
        """Make commits in one transaction.

        Returns:
            The outcomes of all; or if one was refused, and so all were, of those that are the reason.
        """
        operations = [self._layout.operations(commit) for commit in commits]
        together = [*(one for part in operations for one in part), self._layout.next_revision()]
        try:
            answer = await self._ask("PUT", "/v1/txn", together, is_read=False)
            found = self._decoded(answer, words.Txn, is_read=False)
            if answer.status == 200:
                made = found.kvs[-1:]
                if not made or made[0].Key != self._layout.revision:
                    raise Unknown(f"{self.address} says nothing of the revision of a commit")
                return dict.fromkeys(range(len(commits)), made[0].ModifyIndex)
            return await self._refusals(commits, operations, found.Errors or [], is_last=is_last)
        except (Refused, Unavailable, Unknown) as error:
            return dict.fromkeys(range(len(commits)), error)

    async def _refusals(
        self,
        commits: Sequence[Commit],
        operations: Sequence[Sequence[object]],
        errors: Iterable[words.OpError],
        *,
        is_last: bool,
    ) -> Mapping[int, Outcome]:
        refused: dict[int, Outcome] = {}
        blamed = words.blame(errors, [len(part) for part in operations])
        if not blamed or len(commits) in blamed:
            what = blamed[len(commits)].What if blamed else "refused for no reason"
            raise (Denied if what == words.DENIED else Refused)(f"{self.address}: {what}")
        for place, error in blamed.items():
            outcome = await self._refusal(commits[place], error, is_last=is_last)
            if outcome is not None:
                refused[place] = outcome
        return refused

    async def _refusal(self, commit: Commit, error: words.OpError, *, is_last: bool) -> Outcome | None:
        """Return why a commit was refused; ``None`` if that is not so any more."""
        if error.What == words.DENIED:
            return Denied(f"{self.address}: {error.What}")
        if error.OpIndex < len(commit.when):
            condition = commit.when[error.OpIndex]
            found = await self.get(condition.key)
            if not holds(condition, found):
                return Conflict(condition, found)
            return Unavailable(f"{condition.key} of {self.address} changes too often") if is_last else None
        if error.OpIndex == len(commit.when) and commit.lease is not None:
            return LeaseLost(commit.lease)
        return Refused(f"{self.address}: {error.What}")

    # ---------------------------------------------------------------------------------------- following

    async def follow(self, since: Listing, report: Report) -> None:
        endpoint = self._http.endpoints[0]
        client = HttpClient([endpoint], answer_within=ANSWER_WITHIN, max_body=MAX_BODY)
        has_gap = False
        try:
            async with background() as nursery:
                nursery.start_soon(self._mind_the_leader, client)
                await self._follow(client, since.revision, report)
            has_gap = True
        finally:
            if not has_gap:
                self._http.pass_over(endpoint)
            await client.aclose()

    async def _follow(self, client: HttpClient, told: int, report: Report) -> None:
        index = told
        while True:
            target = f"{words.path_of(self._layout.root)}?recurse&stale&wait={_WAIT}s&index={index}"
            answer = await self._ask("GET", target, client=client, within=_WAIT * 17 / 16 + ANSWER_WITHIN)
            began = trio.current_time()
            listing, index = self._everything(answer)
            if listing.sentinel is None or listing.revision < told:
                return
            if listing.revision > told:
                told = listing.revision
                report(listing)
            await trio.sleep(max(_FLOOR, _REST * (trio.current_time() - began)))

    async def _mind_the_leader(self, client: HttpClient) -> None:
        """Look whether the server that is asked still hears of the leader.

        Raises:
            Unavailable: it does not. Its answers to questions that wait tell only how it was when it was asked.
        """
        while True:
            await trio.sleep(_LOOK)
            answer = await self._ask("GET", f"{words.path_of(self._layout.revision)}?stale", client=client)
            silence = _number(answer.headers, "x-consul-lastcontact")
            if answer.headers.get("x-consul-knownleader") != "true" or silence is None:
                raise Unavailable(f"{client.endpoints[0]} knows of no leader")
            if silence > 1000 * _DEAF:
                raise Unavailable(f"{client.endpoints[0]} has not heard of the leader for {silence} ms")

    # ------------------------------------------------------------------------------------------- leases

    async def grant(self, ttl: float) -> Grant:
        seconds = min(max(math.ceil(ttl), _MIN_TTL), _MAX_TTL)
        lease = words.new_lease_name()
        try:
            session = await self._new_session(seconds)
            made = await self._ask("PUT", "/v1/txn", self._layout.new_lease(lease, session), is_read=False)
        except Unknown as error:
            # A session that nobody knows of ends by itself.
            raise Unavailable(error.message) from error
        if made.status != 200:
            raise self._failed(made)
        self._sessions[lease] = session
        return Grant(lease, float(seconds), 4.0 * seconds + _ELECTION)

    async def _new_session(self, ttl: int) -> str:
        wish = {
            "Name": "duplex",
            "Node": _NODE,
            "NodeChecks": [],
            "Checks": [],
            "TTL": f"{ttl}s",
            "Behavior": "delete",
            "LockDelay": "0s",
        }
        try:
            answer = await self._ask("PUT", "/v1/session/create", wish)
        except Unavailable as error:
            if "node" not in error.message.lower():
                raise
            await self._ask("PUT", "/v1/catalog/register", {"Node": _NODE, "Address": "127.0.0.1"})
            answer = await self._ask("PUT", "/v1/session/create", wish)
        return self._decoded(answer, words.Session).ID

    async def beat(self, lease: str) -> None:
        session = self._sessions.get(lease)
        if session is not None:
            answer = await self._ask("PUT", f"/v1/session/renew/{session}")
            if answer.status == 200:
                return
            self._sessions.pop(lease, None)
        raise LeaseLost(lease)

    async def revoke(self, lease: str) -> None:
        session = self._sessions.pop(lease, None)
        if session is None:
            return
        await self._ask("PUT", f"/v1/session/destroy/{session}")
        listing = await self.list("")
        await self._delete(entry for entry in listing.entries if entry.lease == lease)

    async def delete_orphans(self) -> None:
        """Delete keys whose lease has ended, until cancelled; whichever store is the first does it for all."""
        while True:
            await self._is_orphaned.wait()
            await trio.sleep(random.uniform(0, _LOT))
            self._is_orphaned = trio.Event()
            try:
                await self._delete(self._orphans)
            except StoreError:
                await trio.sleep(_PAUSE)
                # Followers may see them only when something else changes.
                with contextlib.suppress(StoreError):
                    await self.list("")

    async def _delete(self, entries: Iterable[Entry]) -> None:
        commits = [
            Commit(deletes=(entry.key,), when=(Unchanged(entry.key, entry.modified),)) for entry in entries
        ]
        for outcome in await self.commit(commits):
            if isinstance(outcome, Denied | Unavailable | Unknown):
                raise type(outcome)(outcome.message)

    # ---------------------------------------------------------------------------------------- questions

    async def _ask(
        self,
        method: str,
        target: str,
        body: Any = None,
        *,
        is_read: bool = True,
        client: HttpClient | None = None,
        within: float | None = None,
    ) -> Answer:
        """Ask, and return an answer with status 200, 404 or 409.

        Args:
            method: as HTTP has it.
            target: path and query.
            body: what becomes JSON.
            is_read: whether it does no harm to ask twice.
            client: instead of the one that goes from server to server.
            within: seconds, instead of the client's.
        """
        content = b"" if body is None else msgspec.json.encode(body)
        try:
            answer = await (client or self._http).request(
                method, target, content, headers=self._headers, repeatable=is_read, answer_within=within
            )
        except HttpError as error:
            raise failure_of(error, is_read=is_read) from error
        if answer.status not in (200, 404, 409):
            raise self._failed(answer, is_read=is_read)
        return answer

    def _failed(self, answer: Answer, *, is_read: bool = True) -> Denied | Refused | Unavailable | Unknown:
        said = answer.body[:200].decode(errors="replace").strip() or f"status {answer.status}"
        message = f"{self.address}: {said}"
        if answer.status == 403:
            return Denied(message)
        if is_read or answer.status == 429 or said == words.NO_LEADER:
            return Unavailable(message)
        return Refused(message) if answer.status in (400, 413) else Unknown(message)

    def _decoded(self, answer: Answer, kind: type[T], *, is_read: bool = True) -> T:
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except msgspec.DecodeError as error:
            message = f"{self.address} answers what makes no sense: {error}"
            raise (Unavailable if is_read else Unknown)(message) from error


def _number(headers: Mapping[str, str], name: str) -> int | None:
    text = headers.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() else None


@contextlib.asynccontextmanager
async def open_backend(url: StoreURL) -> AsyncGenerator[ConsulBackend]:
    """Open one; nobody is asked yet."""
    url.check_options((*TLS_OPTIONS, SECRET_OPTION))
    if url.user:
        raise duplex.ConfigurationError(
            f"{url.address}: Consul knows no users; a token stands behind a colon, consul://:TOKEN@HOST"
        )
    client = open_client(url, _PORT)
    backend = ConsulBackend(url.address, client, root_of(url), secret_of(url))
    try:
        async with background() as nursery:
            nursery.start_soon(backend.delete_orphans)
            yield backend
    finally:
        await client.aclose()
