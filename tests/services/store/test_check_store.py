"""The suite can fail: each backend here has one fault, and the check that is there for it finds it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import msgspec
import pytest
import trio
import trio.testing

from duplex_services.store import Conflict, Entry, Store, Unavailable, open_store
from duplex_services.store._backend import Changes, Grant, Listing, Outcome, Report
from duplex_services.store._model import Commit, Unchanged
from duplex_services.store.testing import CHECKS, Faults, check_store
from duplex_services.store.testing._run import _checks_of
from tests.services.store.weather import Server, Weather

Clock = trio.testing.MockClock


class ForgetsConditions(Weather):
    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        return await super().commit(
            [msgspec.structs.replace(commit, when=commit.when[:1]) for commit in commits]
        )


class ComparesValuesOnly(Weather):
    """ABA: a key that was deleted and put again looks unchanged."""

    last: dict[int, bytes]

    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        kept = []
        for commit in commits:
            when = tuple(
                condition
                for condition in commit.when
                if not (isinstance(condition, Unchanged) and condition.key.endswith("aba"))
            )
            kept.append(msgspec.structs.replace(commit, when=when))
        return await super().commit(kept)


class NotAtomic(Weather):
    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        outcomes = await super().commit(commits)
        for commit, outcome in zip(commits, outcomes, strict=True):
            if isinstance(outcome, Conflict) and len(commit.puts) > 1:
                await super().commit([Commit(dict([*commit.puts.items()][:1]))])
        return outcomes


class SaysNotWhatItFound(Weather):
    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        outcomes = await super().commit(commits)
        return [Conflict(one.condition, None) if isinstance(one, Conflict) else one for one in outcomes]


class NamesTheLastCondition(Weather):
    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        outcomes = await super().commit(commits)
        return [
            Conflict(commit.when[-1], one.found) if isinstance(one, Conflict) else one
            for commit, one in zip(commits, outcomes, strict=True)
        ]


class MixesUpOutcomes(Weather):
    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        outcomes = await super().commit(commits)
        revisions = [one for one in outcomes if isinstance(one, int)]
        return [revisions[0] if isinstance(one, int) else one for one in outcomes]


class ReadsOldThings(Weather):
    """Not linearizable: as a follower that lags."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.old: dict[str, Entry | None] = {}

    async def get(self, key: str) -> Entry | None:
        entry = await super().get(key)
        if key.startswith("_"):
            return entry
        old = self.old.get(key, entry)
        self.old[key] = entry
        return old


class ListsByParts(Weather):
    async def list(self, prefix: str) -> Listing:
        listing = await super().list(prefix)
        folder = prefix.rstrip("/") + "/" if prefix else ""
        entries = tuple(entry for entry in listing.entries if entry.key.startswith(folder))
        return Listing(entries, listing.revision, listing.sentinel)


class MissesChanges(Weather):
    async def follow(self, since: Listing, report: Report) -> None:
        count = 0

        def pass_on(news: Changes | Listing) -> None:
            nonlocal count
            count += 1
            if count % 3:
                report(news)
            elif isinstance(news, Changes):
                report(Changes((), (), news.revision))

        await super().follow(since, pass_on)


class GoesBack(Weather):
    """Tells of what was deleted as if it were there."""

    async def follow(self, since: Listing, report: Report) -> None:
        ever: dict[str, Entry] = {}

        def pass_on(news: Changes | Listing) -> None:
            assert isinstance(news, Changes)
            ever.update((entry.key, entry) for entry in news.puts)
            back = tuple(ever[key] for key in news.deletes if key in ever)
            report(Changes(news.puts + back, (), news.revision))

        await super().follow(since, pass_on)


class SaysThatNothingChanged(Weather):
    async def newest(self, revision: int, count: int) -> int:
        await super().newest(revision, count)
        return revision

    async def follow(self, since: Listing, report: Report) -> None:
        def later(news: Changes | Listing) -> None:
            if trio.current_time() % 60 > 59:
                report(news)

        await super().follow(since, later)


class KeepsKeysOfDeadLeases(Weather):
    async def revoke(self, lease: str) -> None:
        self._state.leases.pop(lease, None)
        self._state._ends.pop(lease, None)


class NeverEndsLeases(Weather):
    async def end_leases(self) -> None:
        await trio.sleep_forever()


class TakesDeadLeases(Weather):
    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        alive = self.server.state.leases
        kept = [
            commit if commit.lease in alive else msgspec.structs.replace(commit, lease=None)
            for commit in commits
        ]
        return await super().commit(kept)


class BreaksPromises(Weather):
    """Says that a dead holder's keys go sooner than they do."""

    async def grant(self, ttl: float) -> Grant:
        given = await super().grant(ttl * 20)
        return Grant(given.id, ttl, ttl)


class PutsLeaveTheLease(Weather):
    """As a Consul session does: a put without a lease leaves the key with the lease that it had."""

    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        kept = []
        for commit in commits:
            olds = [self.server.state.entries.get(key) for key in commit.puts]
            lease = next((old.lease for old in olds if old is not None and old.lease), None)
            kept.append(msgspec.structs.replace(commit, lease=commit.lease or lease))
        return await super().commit(kept)


class TakesAHundredKilobytes(Weather):
    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        if any(len(value) > 150_000 for commit in commits for value in commit.puts.values()):
            raise Unavailable("the connection was lost")
        return await super().commit(commits)


class TakesFiftyOperations(Weather):
    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        if any(len(commit.puts) > 50 for commit in commits):
            raise Unavailable("too many operations")
        return await super().commit(commits)


class CountsFromOne(Weather):
    """Revisions of its own for each key, as versions of ZooKeeper's nodes."""

    async def get(self, key: str) -> Entry | None:
        entry = await super().get(key)
        if entry is None or key.startswith("_"):
            return entry
        return Entry(entry.key, entry.value, entry.created, entry.modified - entry.created + 1, entry.lease)


class StripsValues(Weather):
    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        kept = [
            msgspec.structs.replace(commit, puts={key: value.strip() for key, value in commit.puts.items()})
            for commit in commits
        ]
        return await super().commit(kept)


class LetsTwoLead(Weather):
    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        kept = [
            msgspec.structs.replace(commit, when=commit.when[:1])
            if any(key.startswith("_lead/") for key in commit.puts)
            else commit
            for commit in commits
        ]
        return await super().commit(kept)

    async def list(self, prefix: str) -> Listing:
        listing = await super().list(prefix)
        kept = tuple(entry for entry in listing.entries if not entry.key.startswith("_lead/"))
        return Listing(kept, listing.revision, listing.sentinel)


FAULTY = {
    ForgetsConditions: ["conflict", "counter", "history"],
    ComparesValuesOnly: ["aba"],
    NotAtomic: ["conflict", "group"],
    SaysNotWhatItFound: ["conflict", "aba"],
    NamesTheLastCondition: ["conflict"],
    MixesUpOutcomes: ["group"],
    ReadsOldThings: ["basic", "history"],
    ListsByParts: ["keys"],
    MissesChanges: ["watch", "slow_watch"],
    GoesBack: ["watch"],
    SaysThatNothingChanged: ["watch_is_fresh"],
    KeepsKeysOfDeadLeases: ["lease"],
    NeverEndsLeases: ["lease_is_kept"],
    TakesDeadLeases: ["lease_is_kept"],
    BreaksPromises: ["lease_is_kept"],
    PutsLeaveTheLease: ["lease"],
    TakesAHundredKilobytes: ["limits"],
    TakesFiftyOperations: ["limits"],
    CountsFromOne: ["basic"],
    StripsValues: ["values"],
    LetsTwoLead: ["lead"],
}


def opener_of(kind: Callable[[Server], Weather]) -> Callable[..., AbstractAsyncContextManager[Store]]:
    server = Server()

    def opener(**options: float) -> AbstractAsyncContextManager[Store]:
        backend = kind(server)
        return open_store(backend.opened(), **options)

    return opener


@pytest.mark.parametrize(
    ("kind", "check"), [(kind, check) for kind, checks in FAULTY.items() for check in checks]
)
async def test_a_fault_is_found(kind: type[Weather], check: str, autojump_clock: Clock) -> None:
    with pytest.raises(AssertionError, match=f"^{check}: "):
        await check_store(opener_of(kind), only=[check], timeout=100)


@pytest.mark.parametrize(
    "check", [name for name in CHECKS if name.partition("_")[0] not in Faults.__struct_fields__]
)
async def test_without_a_fault_none_is_found(check: str, autojump_clock: Clock) -> None:
    (result,) = await check_store(opener_of(Weather), only=[check])
    assert result.left_out == ""


def test_every_check_is_in_the_list() -> None:
    from duplex_services.store.testing import _checks

    assert set(_checks_of(_checks)) < set(CHECKS)
    assert list(CHECKS)[:2] == ["basic", "keys"]


# -------------------------------------------------------------------------------------------------- faults


class Harmed:
    """Clients whose weather a suite can spoil."""

    def __init__(self, kind: Callable[[Server], Weather] = Weather) -> None:
        self.server = Server()
        self.kind = kind
        self.clients: list[Weather] = []

    def open(self, **options: float) -> AbstractAsyncContextManager[Store]:
        backend = self.kind(self.server)
        self.clients.append(backend)
        return open_store(backend.opened(), **options)

    @property
    def faults(self) -> Faults:
        return Faults(self.stall, self.restart, self.replace, self.deny, self.deafen)

    @asynccontextmanager
    async def stall(self) -> AsyncIterator[None]:
        """What is sent arrives when it is over."""
        for client in self.clients:
            client.is_stalled = True
        try:
            yield
        finally:
            for client in self.clients:
                client.is_stalled = False
            trio.lowlevel.spawn_system_task(self._arrive)

    async def _arrive(self) -> None:
        # What was on its way takes a moment; the clock is the test's.
        await trio.sleep(1)
        while self.server.late:
            self.server.late.pop(0)()

    @asynccontextmanager
    async def restart(self) -> AsyncIterator[None]:
        self.server.state = self.server.copy()
        self.server.state.grace(trio.current_time())
        yield

    @asynccontextmanager
    async def replace(self) -> AsyncIterator[None]:
        self.server.wipe()
        yield

    @asynccontextmanager
    async def deny(self) -> AsyncIterator[None]:
        for client in self.clients:
            client.is_denied = True
        yield
        for client in self.clients:
            client.is_denied = False

    @asynccontextmanager
    async def deafen(self) -> AsyncIterator[None]:
        for client in self.clients:
            client.is_deaf = True
        yield
        for client in self.clients:
            client.is_deaf = False


NEED_FAULTS = [name for name in CHECKS if name.partition("_")[0] in Faults.__struct_fields__]


@pytest.mark.parametrize("check", NEED_FAULTS)
async def test_what_a_store_does_in_bad_weather(check: str, autojump_clock: Clock) -> None:
    harmed = Harmed()
    (result,) = await check_store(harmed.open, only=[check], faults=harmed.faults)
    assert result.left_out == ""


class IsLateAndSaysItIsNot(Weather):
    is_late = False


class CallsDeniedEmpty(Weather):
    """What it may not read is empty, and its sentinel is made up."""

    async def list(self, prefix: str) -> Listing:
        listing = await super().list(prefix)
        return Listing(listing.entries, listing.revision, self.server.state.entries.get("_epoch"))

    async def get(self, key: str) -> Entry | None:
        return self.server.state.entries.get(key) if key == "_epoch" else await super().get(key)


class LosesLeasesEarly(Weather):
    """Its server counts half as long as it says."""

    async def grant(self, ttl: float) -> Grant:
        given = await super().grant(ttl / 2)
        return Grant(given.id, ttl, ttl)


class ForgetsOnRestart(Weather):
    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        outcomes = await super().commit(commits)
        self.server.copy = lambda: type(self.server.state)()  # type: ignore[method-assign]
        return outcomes


class StaysWithTheOldOne(Weather):
    """Of a store that was replaced it goes on asking the old one."""

    async def _way(self, what: str) -> None:
        state = self._state
        await super()._way(what)
        self._state = state


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        (IsLateAndSaysItIsNot, "stall_late_commit"),
        (CallsDeniedEmpty, "deny_is_not_empty"),
        (LosesLeasesEarly, "stall_lease"),
        (ForgetsOnRestart, "restart_keeps"),
        (StaysWithTheOldOne, "replace_is_told"),
        (SaysThatNothingChanged, "deafen_is_noticed"),
    ],
)
async def test_a_fault_in_bad_weather_is_found(
    kind: type[Weather], check: str, autojump_clock: Clock
) -> None:
    harmed = Harmed(kind)
    with pytest.raises(AssertionError, match=f"^{check}: "):
        await check_store(harmed.open, only=[check], faults=harmed.faults, timeout=100)
