"""``etcd://HOST,HOST/PREFIX``: etcd v3, through its JSON gateway.

A commit is a transaction, several are transactions within one: each has conditions and an answer of its own, and all
share one request and one revision, which is etcd's own.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncGenerator, Awaitable, Sequence
from typing import Any, Final, NoReturn, TypeVar, final

import msgspec
import trio

from duplex_services._shared._http_client import Answer, Headers, HttpClient, HttpError, Stream
from duplex_services.store._backend import SENTINEL, WRITERS, Changes, Grant, Listing, Outcome, Report
from duplex_services.store._backends import _etcd_words as words
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
    Unknown,
)
from duplex_services.store._rules._commits import first_conflict
from duplex_services.store._url import StoreURL

T = TypeVar("T")

_PORT: Final = 2379
#: Bytes of keys and values in one request, which may have 1.5 MiB in all.
_GROUP_BYTES: Final = 1024 * 1024
#: Seconds until members have elected a leader and leases count again.
_ELECTION: Final = 4.0
#: Without it a member that was cut off from the others goes on being silent.
_HAS_LEADER: Final = ("Grpc-Metadata-hasleader", "true")


@final
class EtcdBackend:
    """See :class:`duplex_services.store._backend.Backend`."""

    is_late = True
    hides_denied = False

    def __init__(self, address: str, client: HttpClient, root: str, user: str, password: str) -> None:
        self.address = address
        self._http = client
        self._root = root.encode()
        self._login = _Login(client, user, password)
        #: What was asked last, and etcd's own revision then: while that stays, nothing has changed.
        self._quiet: tuple[int, int, int] | None = None
        # A transaction may have 128 operations, and those within one get what it leaves of them. But etcd does not look
        # at the rights to what is within: a user's commits are not grouped, so that who may not is told so.
        self.group_limit = 1 if user else 60

    # ------------------------------------------------------------------------------------------- reading

    async def get(self, key: str) -> Entry | None:
        found = await self._read("/v3/kv/range", {"key": self._key(key)}, words.Range)
        return self._entry(found.kvs[0]) if found.kvs else None

    async def list(self, prefix: str) -> Listing:
        ranges = [*self._ranges(prefix), {"key": self._key(SENTINEL)}]
        found = await self._read_together(ranges)
        *ours, sentinel = [answer.kvs for answer in found.ranges]
        return Listing(
            tuple(self._entry(kv) for kvs in ours for kv in kvs),
            found.header.revision,
            self._entry(sentinel[0]) if sentinel else None,
        )

    async def newest(self, revision: int, count: int) -> int:
        ranges = self._ranges("")
        counts = [{**one, "count_only": True} for one in ranges]
        found = await self._read_together(counts)
        there = sum(answer.count for answer in found.ranges)
        if self._quiet != (revision, count, found.header.revision):
            newer = {"min_mod_revision": revision + 1, "keys_only": True, "limit": 1}
            found = await self._read_together([*counts, *({**one, **newer} for one in ranges)])
            there = sum(answer.count for answer in found.ranges[: len(counts)])
            if any(answer.kvs for answer in found.ranges[len(counts) :]):
                return found.header.revision
        if there != count:
            return found.header.revision
        self._quiet = (revision, count, found.header.revision)
        return revision

    def _ranges(self, prefix: str) -> Sequence[dict[str, Any]]:
        """The keys under a prefix; the writers' are many, and nobody asks for them unless by their name."""
        start = self._key(prefix)
        if not WRITERS.startswith(prefix):
            return [{"key": start, "range_end": words.behind(start)}]
        writers = self._key(WRITERS)
        if prefix == WRITERS:
            return [{"key": writers, "range_end": words.behind(writers)}]
        return [
            {"key": start, "range_end": writers},
            {"key": words.behind(writers), "range_end": words.behind(start)},
        ]

    async def _read_together(self, ranges: Sequence[dict[str, Any]]) -> words.Txn:
        body = {"success": [{"request_range": one} for one in ranges]}
        found = await self._read("/v3/kv/txn", body, words.Txn)
        if len(found.ranges) != len(ranges):
            raise Unavailable(f"{self.address} answered {len(found.ranges)} of {len(ranges)} questions")
        return found

    # ------------------------------------------------------------------------------------------- writing

    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        outcomes: list[Outcome] = []
        for part in in_parts(commits, _cost, (_GROUP_BYTES,)):
            outcomes += await self._commit_or_error(part)
        return outcomes

    async def _commit_or_error(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        try:
            return await self._commit(commits)
        except words.EtcdError as error:
            refused = _refusal_of(error, self.address)
            if isinstance(refused, Refused) and len(commits) > 1:
                # One of them is not possible, and so none was made.
                return [outcome for one in commits for outcome in await self._commit_or_error([one])]
            if isinstance(refused, LeaseLost):
                return [LeaseLost(one.lease or "") for one in commits]
            return [refused] * len(commits)
        except (Denied, Unavailable, Unknown) as error:
            return [error] * len(commits)

    async def _commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        if len(commits) == 1:
            found = await self._ask("/v3/kv/txn", self._txn(commits[0]), words.Txn, is_read=False)
            parts: list[words.Txn | None] = [found]
        else:
            body = {"success": [{"request_txn": self._txn(commit)} for commit in commits]}
            found = await self._ask("/v3/kv/txn", body, words.Txn, is_read=False)
            parts = [response.response_txn for response in found.responses]
        if len(parts) != len(commits):
            raise Unknown(f"{self.address} answered {len(parts)} of {len(commits)} commits")
        outcomes: list[Outcome] = []
        for commit, part in zip(commits, parts, strict=True):
            if part is not None and part.succeeded:
                outcomes.append(found.header.revision)
            else:
                outcomes.append(self._conflict(commit, part))
        return outcomes

    def _txn(self, commit: Commit) -> dict[str, Any]:
        lease = {} if commit.lease is None else {"lease": commit.lease}
        puts = [
            {"request_put": {"key": self._key(key), "value": value, **lease}}
            for key, value in commit.puts.items()
        ]
        deletes = [{"request_delete_range": {"key": self._key(key)}} for key in commit.deletes]
        return {
            "compare": [words.compare(condition, self._key(condition.key)) for condition in commit.when],
            "success": puts + deletes,
            # If one does not hold, what is there is told of the same moment.
            "failure": [{"request_range": {"key": self._key(condition.key)}} for condition in commit.when],
        }

    def _conflict(self, commit: Commit, part: words.Txn | None) -> Conflict | Unknown:
        answers = [] if part is None else part.ranges
        if len(answers) == len(commit.when):
            found = {
                condition.key: self._entry(answer.kvs[0]) if answer.kvs else None
                for condition, answer in zip(commit.when, answers, strict=True)
            }
            conflict = first_conflict(commit.when, found.get)
            if conflict is not None:
                return conflict
        return Unknown(f"{self.address} refused a commit and told no condition that does not hold")

    # ---------------------------------------------------------------------------------------- following

    async def follow(self, since: Listing, report: Report) -> None:
        body = {
            "create_request": {
                "key": self._root,
                "range_end": words.behind(self._root),
                "start_revision": since.revision + 1,
            }
        }
        headers = [_HAS_LEADER, *await self._in_words(self._login.headers())]
        try:
            async with self._http.stream(
                "POST", "/v3/watch", msgspec.json.encode(body), headers=headers
            ) as stream:
                try:
                    await self._follow(stream, since.revision, report)
                except (trio.Cancelled, StoreError):
                    self._http.pass_over(stream.endpoint)
                    raise
        except HttpError as error:
            raise failure_of(error, is_read=True) from error

    async def _follow(self, stream: Stream, told: int, report: Report) -> None:
        if stream.status != 200:
            body = b""
            while chunk := await stream.chunk():
                body += chunk
            raise self._read_failed(words.error_of(stream.status, body))
        while True:
            news = await self._news(stream)
            if news.canceled:
                if news.compact_revision:
                    return
                self._refused_watch(news.cancel_reason)
            if news.created and news.header.revision < told:
                return
            changes = self._changes(news.events)
            if changes.revision > told:
                told = changes.revision
                report(changes)

    async def _news(self, stream: Stream) -> words.Watch:
        line = await stream.line(MAX_BODY)
        if line is None:
            raise Unavailable(f"{self.address} has ended the watch")
        try:
            found = msgspec.json.decode(line, type=words.WatchLine, strict=False)
        except msgspec.DecodeError as error:
            raise Unavailable(f"{self.address} says of changes what makes no sense: {error}") from error
        if found.result is None:
            raise self._read_failed(words.error_in(found.error))
        return found.result

    def _changes(self, events: Sequence[words.Event]) -> Changes:
        """Fold events, whose revisions only go up and are whole, into what came of them."""
        puts: dict[str, Entry] = {}
        deletes: dict[str, None] = {}
        for event in events:
            key = self._name(event.kv.key)
            puts.pop(key, None)
            deletes.pop(key, None)
            if event.type == "DELETE":
                deletes[key] = None
            else:
                puts[key] = self._entry(event.kv)
        # The header's revision may be ahead of them: they come in parts.
        revision = events[-1].kv.mod_revision if events else 0
        return Changes(tuple(puts.values()), tuple(deletes), revision)

    def _refused_watch(self, reason: str) -> NoReturn:
        error = words.EtcdError(words.code_in(reason), reason)
        if error.asks_who:
            self._login.forget()
            raise Unavailable(f"{self.address} has forgotten who we are: {reason}")
        raise self._read_failed(error)

    # ------------------------------------------------------------------------------------------- leases

    async def grant(self, ttl: float) -> Grant:
        try:
            found = await self._ask("/v3/lease/grant", {"TTL": math.ceil(ttl)}, words.Lease, is_read=False)
        except Unknown as error:
            # A lease that nobody knows of ends by itself.
            raise Unavailable(error.message) from error
        except words.EtcdError as error:
            raise self._read_failed(error) from error
        return Grant(str(found.ID), float(found.TTL), 2.0 * found.TTL + _ELECTION)

    async def beat(self, lease: str) -> None:
        # The answer is the first one of a stream.
        found = await self._read("/v3/lease/keepalive", {"ID": lease}, words.LeaseLine)
        if found.result is None:
            error = words.error_in(found.error)
            if error.code == words.NOT_FOUND:
                raise LeaseLost(lease)
            raise self._read_failed(error)
        if found.result.TTL <= 0:
            raise LeaseLost(lease)

    async def revoke(self, lease: str) -> None:
        with contextlib.suppress(LeaseLost):
            await self._read("/v3/lease/revoke", {"ID": lease}, words.Nothing)

    # ---------------------------------------------------------------------------------------- questions

    async def _read(self, path: str, body: dict[str, Any], answer: type[T]) -> T:
        try:
            return await self._ask(path, body, answer, is_read=True)
        except words.EtcdError as error:
            if error.code == words.NOT_FOUND and "ID" in body:
                raise LeaseLost(str(body["ID"])) from error
            raise self._read_failed(error) from error

    async def _ask(self, path: str, body: dict[str, Any], kind: type[T], *, is_read: bool) -> T:
        """Ask, and once more if etcd has forgotten who we are.

        Raises:
            EtcdError: etcd's own.
            Denied: we are not who we say.
            Unavailable, Unknown: nobody answers.
        """
        content = msgspec.json.encode(body)
        headers = await self._in_words(self._login.headers())
        answer = await self._send(path, content, headers, is_read=is_read)
        is_asked = answer.status != 200 and words.error_of(answer.status, answer.body).asks_who
        if is_asked and self._login.forget(headers):
            headers = await self._in_words(self._login.headers())
            answer = await self._send(path, content, headers, is_read=is_read)
        if answer.status != 200:
            raise words.error_of(answer.status, answer.body)
        try:
            return msgspec.json.decode(answer.body, type=kind, strict=False)
        except msgspec.DecodeError as error:
            problem = f"{self.address} answers what makes no sense: {error}"
            raise (Unavailable if is_read else Unknown)(problem) from error

    async def _send(self, path: str, content: bytes, headers: Headers, *, is_read: bool) -> Answer:
        try:
            return await self._http.request("POST", path, content, headers=headers, repeatable=is_read)
        except HttpError as error:
            raise failure_of(error, is_read=is_read) from error

    async def _in_words(self, asking: Awaitable[Headers]) -> Headers:
        try:
            return await asking
        except HttpError as error:
            raise failure_of(error, is_read=True) from error
        except words.EtcdError as error:
            raise self._read_failed(error) from error

    def _read_failed(self, error: words.EtcdError) -> Denied | Unavailable:
        kind = Denied if error.is_denial else Unavailable
        return kind(f"{self.address}: {error.message}")

    # --------------------------------------------------------------------------------------------- words

    def _key(self, key: str) -> bytes:
        return self._root + key.encode()

    def _name(self, key: bytes) -> str:
        return key[len(self._root) :].decode(errors="backslashreplace")

    def _entry(self, kv: words.KV) -> Entry:
        lease = str(kv.lease) if kv.lease else None
        return Entry(self._name(kv.key), kv.value, kv.create_revision, kv.mod_revision, lease)


@final
class _Login:
    """The token that says who we are, and is renewed when etcd does not know it any more."""

    def __init__(self, client: HttpClient, user: str, password: str) -> None:
        self._http = client
        self._user = user
        self._password = password
        self._headers: Headers | None = None if user else ()
        self._lock = trio.Lock()

    async def headers(self) -> Headers:
        """Return the headers that say who we are; empty without a user, or where etcd does not want to know."""
        async with self._lock:
            if self._headers is None:
                body = {"name": self._user, "password": self._password}
                answer = await self._http.request("POST", "/v3/auth/authenticate", msgspec.json.encode(body))
                self._headers = words.token_in(answer.status, answer.body)
            return self._headers

    def forget(self, headers: Headers | None = None) -> bool:
        """Ask for a new token next time; tell whether that can help.

        Args:
            headers: those that were no good, if somebody has not replaced them meanwhile.
        """
        if self._user and (headers is None or headers == self._headers):
            self._headers = None
        return bool(self._user)


def _refusal_of(error: words.EtcdError, address: str) -> Refused | Unavailable | Unknown:
    """Return what an error of etcd's means for a commit."""
    message = f"{address}: {error.message}"
    if error.is_denial:
        return Denied(message)
    if error.code == words.NOT_FOUND:
        return LeaseLost("")
    if "too many requests" in error.message:
        return Unavailable(message)
    if error.code in words.REFUSALS:
        return Refused(message)
    return Unknown(message)


def _cost(commit: Commit) -> tuple[int]:
    """About how many bytes a commit makes a request longer."""
    return (sum(map(len, commit.puts.values())) + 1000 * len(commit.when),)


@contextlib.asynccontextmanager
async def open_backend(url: StoreURL) -> AsyncGenerator[EtcdBackend]:
    """Open one; nobody is asked yet."""
    url.check_options((*TLS_OPTIONS, SECRET_OPTION))
    client = open_client(url, _PORT)
    try:
        yield EtcdBackend(url.address, client, root_of(url), url.user, secret_of(url))
    finally:
        await client.aclose()
