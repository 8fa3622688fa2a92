"""``duplex+tcp://HOST:PORT`` and ``duplex+ipc:///PATH``: a store that another process serves."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Final

import trio

import duplex
from duplex_services.store._backend import ANSWER_WITHIN, SENTINEL, Changes, Grant, Listing, Outcome, Report
from duplex_services.store._model import (
    Commit,
    Conflict,
    Denied,
    Entry,
    LeaseLost,
    Refused,
    Unavailable,
    Unknown,
)
from duplex_services.store._url import StoreURL
from duplex_services.store.client import SERVICE, Answer, News, StoreService

_PORT: Final = 7711

#: Entries that are taken of one listing; a server that never stops sending would take all memory.
_MOST_ENTRIES: Final = 2_000_000

#: A server that was restarted is noticed soon: watches are stale until it is.
_RECONNECT: Final = duplex.Reconnect(initial=0.05, maximum=1.0)


class RemoteBackend:
    """A :class:`Backend` over a peer that serves a store."""

    #: A call whose link was lost, or that waits at a server that was stopped, may be executed yet.
    is_late = True
    hides_denied = False
    group_limit = 32

    def __init__(self, address: str, peer: duplex.Peer) -> None:
        self.address = address
        remote = peer.service(StoreService, name=SERVICE)
        self._get = remote.get.with_options(timeout=ANSWER_WITHIN)
        self._commit = remote.commit.with_options(timeout=ANSWER_WITHIN)
        self._newest = remote.newest.with_options(timeout=ANSWER_WITHIN)
        self._grant = remote.grant.with_options(timeout=ANSWER_WITHIN)
        self._beat = remote.beat.with_options(timeout=ANSWER_WITHIN)
        self._revoke = remote.revoke.with_options(timeout=ANSWER_WITHIN)
        self._list = remote.list
        self._follow = remote.follow

    async def get(self, key: str) -> Entry | None:
        with self._asking():
            return await self._get(key)

    async def list(self, prefix: str) -> Listing:
        entries: list[Entry] = []
        with self._asking():
            async with self._list.open(prefix) as pages:
                while True:
                    with trio.fail_after(ANSWER_WITHIN):
                        page = await pages.receive()
                    entries += page.entries
                    if not page.more:
                        return Listing(tuple(entries), page.revision, page.sentinel)
                    self._check_count(entries)

    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        try:
            answers = await self._commit(tuple(commits))
        except duplex.PermissionDenied as error:
            raise Denied(error.message) from error
        except duplex.InvalidArgument as error:
            refused = f"{self.address} does not take this: {error.message}"
            return [Refused(refused) for _ in commits]
        except duplex.RPCError as error:
            kind = Unknown if error.may_have_executed else Unavailable
            raise kind(self._what(error)) from error
        if len(answers) != len(commits):
            raise Unknown(f"{self.address} answered {len(answers)} of {len(commits)} commits")
        return [_outcome(commit, answer) for commit, answer in zip(commits, answers, strict=True)]

    async def follow(self, since: Listing, report: Report) -> None:
        with self._asking():
            async with self._follow.open(since.revision) as stream:
                puts: list[Entry] = []
                deletes: list[str] = []
                async for news in stream:
                    puts += news.puts
                    deletes += news.deletes
                    self._check_count(puts, deletes)
                    if not news.more:
                        report(_reported(news, puts, deletes))
                        puts, deletes = [], []

    async def newest(self, revision: int, count: int) -> int:
        with self._asking():
            return await self._newest(revision, count)

    async def grant(self, ttl: float) -> Grant:
        with self._asking():
            granted = await self._grant(ttl)
        return Grant(granted.id, granted.ttl, granted.gone_within)

    async def beat(self, lease: str) -> None:
        with self._asking(lease):
            await self._beat(lease)

    async def revoke(self, lease: str) -> None:
        with self._asking(lease):
            await self._revoke(lease)

    @contextlib.contextmanager
    def _asking(self, lease: str = "") -> Iterator[None]:
        """Turn the outcome of a call into what a store raises."""
        try:
            yield
        except duplex.PermissionDenied as error:
            raise Denied(error.message) from error
        except duplex.NotFound as error:
            raise (LeaseLost(lease) if lease else Unavailable(self._what(error))) from error
        except (duplex.FailedPrecondition, duplex.InvalidArgument) as error:
            raise Refused(error.message) from error
        except duplex.RPCError as error:
            raise Unavailable(self._what(error)) from error
        except (trio.TooSlowError, trio.EndOfChannel) as error:
            raise Unavailable(f"{self.address} did not go on within {ANSWER_WITHIN:g} s") from error

    def _check_count(self, *parts: Sequence[object]) -> None:
        if sum(map(len, parts)) > _MOST_ENTRIES:
            raise Unavailable(f"{self.address} tells of more than {_MOST_ENTRIES} entries at once")

    def _what(self, error: duplex.RPCError) -> str:
        if isinstance(error, duplex.DeadlineExceeded) and not error.may_have_executed:
            return f"{self.address}: nobody is there, or no store is served there"
        return f"{self.address}: {error.message}"


def _outcome(commit: Commit, answer: Answer) -> Outcome:
    match answer.kind:
        case "made":
            return answer.revision
        case "conflict" if 0 <= answer.condition < len(commit.when):
            return Conflict(commit.when[answer.condition], answer.found)
        case "lease_lost" if commit.lease is not None:
            return LeaseLost(commit.lease)
        case "denied":
            return Denied(answer.message)
        case "refused":
            return Refused(answer.message)
        case "unavailable":
            return Unavailable(answer.message)
        case _:
            # Also what makes no sense: it says nothing about what was done.
            return Unknown(answer.message or f"an answer that makes no sense: {answer}")


def _reported(news: News, puts: Sequence[Entry], deletes: Sequence[str]) -> Changes | Listing:
    if not news.whole:
        return Changes(tuple(puts), tuple(deletes), news.revision)
    sentinel = next((entry for entry in puts if entry.key == SENTINEL), None)
    return Listing(tuple(puts), news.revision, sentinel)


def _endpoint_of(url: StoreURL) -> str:
    url.check_options(())
    kind = url.scheme.partition("+")[2]
    if url.user:
        raise duplex.ConfigurationError(f"{url.address}: a served store has no users and passwords")
    if kind == "ipc":
        if url.hosts or not url.path.startswith("/"):
            raise duplex.ConfigurationError(
                f"{url.address} names no socket: duplex+ipc:///run/duplex/store.sock"
            )
        return f"ipc://{url.path}"
    if len(url.hosts) != 1 or url.path.strip("/"):
        raise duplex.ConfigurationError(f"{url.address} is not one place: duplex+tcp://HOST:PORT")
    ((host, port),) = url.endpoints(_PORT)
    return f"tcp://{f'[{host}]' if ':' in host else host}:{port}"


@contextlib.asynccontextmanager
async def open_backend(url: StoreURL) -> AsyncGenerator[RemoteBackend]:
    """Connect, now or when the server is there."""
    endpoint = _endpoint_of(url)
    async with duplex.open_peer(
        name="store client", reconnect=_RECONNECT, connect_timeout=ANSWER_WITHIN, reflection=False
    ) as peer:
        peer.connect_soon(endpoint)
        yield RemoteBackend(url.address, peer)
