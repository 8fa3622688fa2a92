"""A store in memory behind bad weather: answers are lost, commits come late, watches go deaf, rights are taken away."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import trio

from duplex_services._shared._background import background
from duplex_services.store import Denied, Refused, Store, StoreError, Unavailable, Unknown, open_store
from duplex_services.store._backend import SENTINEL, Changes, Grant, Listing, Outcome, Report
from duplex_services.store._backends._memory import MemoryBackend
from duplex_services.store._backends._state import State, Step
from duplex_services.store._model import Commit, Entry


class Recorded(State):
    """A state that remembers what was made of it."""

    def __init__(
        self,
        entries: Mapping[str, Entry] | None = None,
        revision: int = 0,
        leases: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.become(entries or {}, revision, leases or {})
        self.steps: list[Step] = []

    def apply(self, steps: Sequence[Step]) -> None:
        self.steps += steps
        super().apply(steps)

    def values_of(self, key: str) -> list[bytes | None]:
        """Every value that a key has had, in order; ``None`` where it was deleted."""
        entries = [step.changes[key] for step in self.steps if key in step.changes]
        return [None if entry is None else entry.value for entry in entries]


class Server:
    """What clients talk to."""

    def __init__(self) -> None:
        self.state = Recorded()
        #: Commits that are still on their way; each call lets one happen.
        self.late: list[Callable[[], None]] = []

    def wipe(self) -> None:
        """Put an empty store in its place; who follows the old one hears nothing more."""
        self.state = Recorded()

    def copy(self) -> Recorded:
        """Return how it is now, to be put back."""
        return Recorded(self.state.entries, self.state.revision, self.state.leases)

    def client(self) -> Weather:
        """Return a way to it."""
        return Weather(self)


class Weather(MemoryBackend):
    """One client's way to the server. Every fault is an attribute, to be set at any time."""

    is_late = True
    hides_denied = True
    group_limit = 8

    def __init__(self, server: Server) -> None:
        super().__init__("weather:", server.state)
        self.server = server
        #: Nobody answers.
        self.is_away = False
        #: Nobody answers, and commits happen later.
        self.is_stalled = False
        #: Reading gives nothing, as of an empty store; writing is refused.
        self.is_denied = False
        #: What was reported is not passed on.
        self.is_deaf = False
        #: What becomes of the next groups: made; lost, which is made and not answered; late, which is made some time;
        #: never, which is not and not answered either; or what is raised.
        self.fates: list[str | StoreError] = []
        #: How often each question was asked.
        self.asked: dict[str, int] = {}
        self.groups: list[list[Commit]] = []
        #: Seconds that every answer takes.
        self.delay = 0.0

    async def _way(self, what: str) -> None:
        self.asked[what] = self.asked.get(what, 0) + 1
        self._state = self.server.state
        await trio.lowlevel.checkpoint()
        if self.delay:
            await trio.sleep(self.delay)
        if self.is_away or (self.is_stalled and what != "commit"):
            raise Unavailable("nobody is there")

    async def get(self, key: str) -> Entry | None:
        await self._way("get")
        return None if self.is_denied else await super().get(key)

    async def list(self, prefix: str) -> Listing:
        await self._way("list")
        listing = await super().list(prefix)
        return Listing((), listing.revision, None) if self.is_denied else listing

    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        self.groups.append(list(commits))
        await self._way("commit")
        if self.is_denied:
            if any(SENTINEL in commit.puts for commit in commits):
                return await super().commit(commits)
            raise Denied("you may not write")
        fate: str | StoreError = "late" if self.is_stalled else "made"
        if self.fates:
            fate = self.fates.pop(0)
        if isinstance(fate, Refused) and not isinstance(fate, Denied):
            return [fate for _ in commits]
        if isinstance(fate, StoreError):
            raise fate
        if fate == "late":
            server = self.server
            server.late.append(lambda: server.state.apply(server.state.plan(commits)[1]))
            raise Unknown("no answer came")
        if fate == "never":
            raise Unknown("no answer came")
        outcomes = await super().commit(commits)
        if fate == "lost":
            raise Unknown("no answer came")
        assert fate == "made"
        return outcomes

    async def follow(self, since: Listing, report: Report) -> None:
        await self._way("follow")

        def pass_on(news: Changes | Listing) -> None:
            if not (self.is_deaf or self.is_away or self.is_stalled):
                report(news)

        await super().follow(since, pass_on)

    async def newest(self, revision: int, count: int) -> int:
        await self._way("newest")
        return await super().newest(revision, count)

    async def grant(self, ttl: float) -> Grant:
        await self._way("grant")
        return await super().grant(ttl)

    async def beat(self, lease: str) -> None:
        await self._way("beat")
        await super().beat(lease)

    async def revoke(self, lease: str) -> None:
        await self._way("revoke")
        await super().revoke(lease)

    def opened(self) -> AbstractAsyncContextManager[Weather]:
        return self._open()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Weather]:
        async with background() as nursery:
            nursery.start_soon(self.end_leases)
            yield self


@asynccontextmanager
async def open_weather(
    server: Server | None = None,
    *,
    patience: float = 10.0,
    verify_every: float = 5.0,
    kind: Callable[[Server], Weather] | None = None,
) -> AsyncIterator[tuple[Store, Weather]]:
    """Open a store over such a backend."""
    backend = (kind or Weather)(server or Server())
    async with open_store(backend.opened(), patience=patience, verify_every=verify_every) as store:
        yield store, backend
