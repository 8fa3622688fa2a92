"""What a served store offers, for callers in any program: ``peer.service(StoreService)``.

``open_store("duplex+tcp://HOST:PORT")`` stands on this and gives the whole :class:`Store`; these are the bare questions.
"""

from __future__ import annotations

from typing import Final, Literal, Never, Protocol, TypeAlias

import msgspec

import duplex
from duplex_services.store._model import Commit as Commit
from duplex_services.store._model import Entry as Entry

#: The name under which a store is served.
SERVICE: Final = "store"


Kind: TypeAlias = Literal["made", "conflict", "refused", "denied", "lease_lost", "unavailable", "unknown"]


class Page(msgspec.Struct, frozen=True):
    """A part of what is listed.

    Attributes:
        entries: in any order.
        more: whether other pages follow; all of them are of one moment.
        revision: of that moment.
        sentinel: the key that names the epoch.
    """

    entries: tuple[Entry, ...]
    more: bool
    revision: int
    sentinel: Entry | None


class News(msgspec.Struct, frozen=True):
    """A part of what has changed.

    Attributes:
        puts: entries that were put.
        deletes: keys that were deleted.
        more: whether other parts follow that belong to the same revision.
        revision: how far this goes, with all its parts.
        whole: these are all entries that there are, not only those that changed.
    """

    puts: tuple[Entry, ...]
    deletes: tuple[str, ...]
    more: bool
    revision: int
    whole: bool = False


class Answer(msgspec.Struct, frozen=True):
    """How a commit ended.

    Attributes:
        kind: how.
        revision: the one that it made, if it was made.
        condition: of a conflict, the index of the condition that did not hold.
        found: of a conflict, the entry that was there.
        message: of all others, what went wrong.
    """

    kind: Kind
    revision: int = 0
    condition: int = 0
    found: Entry | None = None
    message: str = ""


class Granted(msgspec.Struct, frozen=True):
    """A lease, as :class:`Lease` has it."""

    id: str
    ttl: float
    gone_within: float


class StoreService(Protocol):
    """The methods."""

    #: Read a key.
    get: duplex.Unary[[str], Entry | None]
    #: Make commits, each for itself.
    commit: duplex.Unary[[tuple[Commit, ...]], tuple[Answer, ...]]
    #: Tell what has changed since a revision, and what changes from now on.
    follow: duplex.Streaming[[int], Never, News]
    #: Tell the revision of the newest change since a revision, after which there are so many keys.
    newest: duplex.Unary[[int, int], int]
    #: Grant a lease of about so many seconds.
    grant: duplex.Unary[[float], Granted]
    #: Keep a lease.
    beat: duplex.Unary[[str], None]
    #: End a lease, and delete its keys.
    revoke: duplex.Unary[[str], None]
    #: List the keys that begin with a prefix, the store's own too.
    list: duplex.Streaming[[str], Never, Page]
