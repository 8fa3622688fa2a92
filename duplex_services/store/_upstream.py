"""The one watch that a store has upstream: list, follow, ask whether that is all, and list again when in doubt."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar, TypeVarTuple, Unpack

import msgspec
import trio

from duplex_services.store._backend import ANSWER_WITHIN, SENTINEL, WRITERS, Backend, Changes, Listing
from duplex_services.store._epochs import Epochs, epoch_in
from duplex_services.store._model import Entry, StoreError
from duplex_services.store._rules._clocks import WatchClock, next_pause
from duplex_services.store._rules._views import difference
from duplex_services.store._view import Reader, View

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_log: Final = logging.getLogger("duplex")

_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0
#: Seconds for which reports may be behind what the store says that it has; without any of them that is deafness.
_BEHIND: Final = 1.0


class Upstream:
    """Keeps a :class:`View` true, and says when it cannot.

    Args:
        backend: of what.
        epochs: which life of the store this is.
        verify_every: seconds after which a view that could not be verified is stale.
    """

    def __init__(self, backend: Backend, epochs: Epochs, verify_every: float) -> None:
        self.view = View()
        #: How often everything was listed.
        self.listings = 0
        self._backend = backend
        self._epochs = epochs
        self._verify_every = verify_every
        self._opened = 0.0
        #: How many questions were asked whose answer confirms the view.
        self._questions = 0
        self._is_asked = trio.Event()
        self._confirmed = trio.Event()
        self._following: trio.CancelScope | None = None

    def open_reader(self, prefix: str | None) -> Reader:
        """Begin to tell somebody what is there, and what changes."""
        reader = Reader(self.view, prefix, self._questions)
        self.view.add(reader)
        self._is_asked.set()
        return reader

    async def run(self) -> None:
        """Do so until cancelled."""
        self._opened = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._mind_the_time)
            pause = 0.0
            while True:
                began = trio.current_time()
                listing = await self._or_trouble(self._list)
                if listing is not None:
                    await self._follow(listing)
                if trio.current_time() - began > _LONGEST_PAUSE:
                    pause = 0.0
                else:
                    pause = next_pause(pause, first=_FIRST_PAUSE, longest=_LONGEST_PAUSE)
                    await trio.sleep(pause)

    # -------------------------------------------------------------------------------------- everything

    async def _list(self) -> Listing:
        """List everything, in whichever epoch that is now, and take it in."""
        while True:
            number, asked = self._question()
            listing = await self._backend.list("")
            self.listings += 1
            sentinel = listing.sentinel
            if sentinel is None:
                await self._epochs.establish()
            elif epoch_in(sentinel) == self.view.epoch and listing.revision < self.view.revision:
                _log.warning("%s was put back to an older state: a new epoch begins", self._backend.address)
                await self._epochs.renew(sentinel)
            else:
                changes = difference(self.view.entries, _without_writers(listing))
                self.view.move(changes, listing.revision, epoch_in(sentinel), is_full=True)
                self._confirm(number, asked)
                return listing

    # ---------------------------------------------------------------------------------------- changes

    async def _follow(self, listing: Listing) -> None:
        """Take in what changes, until that is in doubt."""
        with trio.CancelScope() as scope:
            self._following = scope
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._verify, scope)
                await self._or_trouble(self._backend.follow, listing, self._report)
                scope.cancel()
        self._following = None

    def _report(self, news: Changes | Listing) -> None:
        scope = self._following
        if scope is None or scope.cancel_called or news.revision <= self.view.revision:
            return
        if isinstance(news, Listing):
            same = news.sentinel is not None and epoch_in(news.sentinel) == self.view.epoch
            changes = difference(self.view.entries, _without_writers(news))
        else:
            changes = {entry.key: entry for entry in news.puts if self._is_news(entry)}
            changes.update((key, None) for key in news.deletes if not key.startswith(WRITERS))
            sentinel = changes.get(SENTINEL, self.view.entries.get(SENTINEL))
            same = sentinel is not None and epoch_in(sentinel) == self.view.epoch
        if not same:
            # Another life of the store, or none of our business any more: whatever it is, a listing tells.
            scope.cancel()
            return
        self.view.move(changes, news.revision, self.view.epoch)

    def _is_news(self, entry: Entry) -> bool:
        known = self.view.entries.get(entry.key)
        return not entry.key.startswith(WRITERS) and (known is None or known.modified < entry.modified)

    async def _verify(self, following: trio.CancelScope) -> None:
        """Ask the store whether what was reported is all, and end the following if it is not."""
        view = self.view
        pause = 0.0
        while True:
            with trio.move_on_at(self._clock.ask_at):
                await self._is_asked.wait()
            self._is_asked = trio.Event()
            number, asked = self._question()
            before = view.revision
            newest = await self._or_trouble(self._newest, before)
            sentinel = None if newest is None else await self._or_trouble(self._sentinel)
            if newest is None or sentinel is None:
                pause = next_pause(pause, first=_FIRST_PAUSE, longest=_LONGEST_PAUSE)
                await trio.sleep(pause)
                continue
            pause = 0.0
            if epoch_in(sentinel) != view.epoch or newest < before:
                # The store was wiped, replaced or put back, and followers would not hear of it.
                following.cancel()
                return
            with trio.move_on_after(_BEHIND):
                while view.revision < newest:
                    await view.moved()
            if view.revision >= newest:
                self._confirm(number, asked)
            elif view.revision == before:
                _log.info("the watch of %s was deaf: it is begun anew", self._backend.address)
                following.cancel()
                return

    async def _newest(self, revision: int) -> int:
        return await self._backend.newest(revision, len(self.view.entries))

    async def _sentinel(self) -> Entry:
        """Read the sentinel, where it is still allowed and the store still the same, or begin a new epoch."""
        while True:
            sentinel = await self._backend.get(SENTINEL)
            if sentinel is not None:
                return sentinel
            await self._epochs.establish()

    # --------------------------------------------------------------------------------------- certainty

    @property
    def _clock(self) -> WatchClock:
        return WatchClock(self._verify_every, ANSWER_WITHIN, self._opened, self.view.confirmed)

    def _question(self) -> tuple[int, float]:
        self._questions += 1
        return self._questions, trio.current_time()

    def _confirm(self, number: int, asked: float) -> None:
        clock = msgspec.structs.replace(self._clock, confirmed=asked)
        self.view.confirm(number, asked, is_stale=clock.is_stale(trio.current_time()))
        self._confirmed.set()
        self._confirmed = trio.Event()

    async def _mind_the_time(self) -> None:
        while True:
            with trio.move_on_at(self._clock.stale_at):
                await self._confirmed.wait()
                continue
            if self.view.stale_since is None:
                self.view.lose(self._clock.since)
            await self._confirmed.wait()

    async def _or_trouble(self, ask: Callable[[Unpack[Ts]], Awaitable[T]], *arguments: *Ts) -> T | None:
        """Ask; ``None`` and a reason to tell, if there is no answer."""
        try:
            return await ask(*arguments)
        except StoreError as error:
            if self.view.trouble is None or self.view.trouble.message != error.message:
                _log.info("the watch of %s: %s", self._backend.address, error.message)
            self.view.trouble = error
            return None


def _without_writers(listing: Listing) -> list[Entry]:
    return [entry for entry in listing.entries if not entry.key.startswith(WRITERS)]
