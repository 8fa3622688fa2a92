"""How a store lies in ZooKeeper's nodes. No I/O.

==================  ==========================================================================================
``/ROOT/k/KEY``     a key, percent-encoded: a line with its lease and its revisions, then its value
``/ROOT/l/LEASE``   an ephemeral node: there while the lease is
``/ROOT/rev``       the revision, and what the last commits changed: every commit sets it, on condition that it is as it
                    was read. So commits are in one order, and who watches this node misses none
==================  ==========================================================================================

Versions of nodes begin anew when a node does, and a node's children and their values are not read as of one moment.
That one node is what makes up for both.
"""

from __future__ import annotations

import time
import urllib.parse
from collections.abc import Callable, Collection, Sequence
from typing import Final

import msgspec

from duplex_services.store._backend import Outcome
from duplex_services.store._model import Commit, Entry, LeaseLost
from duplex_services.store._rules._commits import changes_of, first_conflict

#: Commits that are remembered, and bytes of the keys that they changed; who is further behind reads everything.
_REMEMBERED: Final = 128
_KEY_BYTES: Final = 12_000


class Step(msgspec.Struct, frozen=True, array_like=True):
    """What is remembered of one commit, or of several that were made as one.

    Attributes:
        revision: that it made.
        mark: who made it, and which of theirs it is.
        keys: that it changed; ``None`` if they are too many or it is too long ago.
    """

    revision: int
    mark: str
    keys: tuple[str, ...] | None


class Head(msgspec.Struct, frozen=True):
    """What is in ``rev``.

    Attributes:
        revision: of the last commit.
        steps: the last commits, the oldest first.
    """

    revision: int
    steps: tuple[Step, ...] = ()

    def after(self, mark: str, keys: Collection[str]) -> Head:
        """Return the head after one more commit."""
        steps = [Step(self.revision + 1, mark, tuple(sorted(keys)))]
        left = _KEY_BYTES
        for step in (*steps, *reversed(self.steps[1 - _REMEMBERED :])):
            left -= sum(len(key.encode()) + 4 for key in step.keys or ())
            kept = step.keys if left >= 0 and step.keys is not None else None
            steps.append(Step(step.revision, step.mark, kept))
            if kept is None:
                # Without this one the ones before it help nobody.
                left = -1
        return Head(self.revision + 1, tuple(reversed(steps[1:])))

    def changed_since(self, revision: int) -> set[str] | None:
        """Return the keys that were changed since a revision, ``None`` if that is not known any more."""
        if revision == self.revision:
            return set()
        newer = [step for step in self.steps if step.revision > revision]
        if len(newer) != self.revision - revision or any(step.keys is None for step in newer):
            return None
        return {key for step in newer for key in step.keys or ()}

    def made_by(self, marks: Collection[str]) -> str | None:
        """Return which of some marks made one of the last commits, ``None`` if none did."""
        return next((step.mark for step in self.steps if step.mark in marks), None)


def first_head() -> Head:
    """Return the head of a new store.

    Its revision is the time, so that revisions of a store that was wiped are not taken for those of the new one. There
    are fewer than a thousand commits in a second.
    """
    return Head(int(time.time() * 1000))


class Plan(msgspec.Struct, frozen=True):
    """What some commits make of what is there.

    Attributes:
        outcomes: of each.
        changes: entries by key, ``None`` for what is gone.
        leases: those that must be there.
    """

    outcomes: tuple[Outcome, ...]
    changes: dict[str, Entry | None]
    leases: tuple[str, ...]


def plan(
    commits: Sequence[Commit], look: Callable[[str], Entry | None], revision: int, lost: Collection[str]
) -> Plan:
    """Decide what becomes of commits that do not touch each other.

    Args:
        commits: which.
        look: finds what is there.
        revision: the next one.
        lost: leases that are gone.
    """
    outcomes: list[Outcome] = []
    changes: dict[str, Entry | None] = {}
    leases: dict[str, None] = {}
    for commit in commits:
        conflict = first_conflict(commit.when, look)
        if conflict is not None:
            outcomes.append(conflict)
            continue
        if commit.lease is not None:
            if commit.lease in lost:
                outcomes.append(LeaseLost(commit.lease))
                continue
            leases[commit.lease] = None
        made = changes_of(commit, look, revision)
        changes.update(made)
        outcomes.append(revision if made else revision - 1)
    return Plan(tuple(outcomes), changes, tuple(leases))


# ------------------------------------------------------------------------------------------------ nodes


class Paths:
    """The paths of a store's nodes.

    Args:
        root: the path of the node above all, without a slash at its end.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.head = f"{root}/rev"
        self.keys = f"{root}/k"
        self.leases = f"{root}/l"

    def of_key(self, key: str) -> str:
        """Return the path of a key's node."""
        return f"{self.keys}/{urllib.parse.quote(key, safe='')}"

    def of_lease(self, lease: str) -> str:
        """Return the path of a lease's node."""
        return f"{self.leases}/{urllib.parse.quote(lease, safe='')}"


def key_of(node: str) -> str:
    """Return the key of a node, by its name without the path."""
    return urllib.parse.unquote(node)


def write_entry(entry: Entry) -> bytes:
    """Return what is in the node of an entry."""
    return msgspec.json.encode((entry.lease, entry.created, entry.modified)) + b"\n" + entry.value


def read_entry(key: str, data: bytes) -> Entry:
    """Read the node of a key.

    Raises:
        ValueError: nobody here wrote it.
    """
    line, _, value = data.partition(b"\n")
    lease, created, modified = msgspec.json.decode(line, type=tuple[str | None, int, int])
    return Entry(key, value, created, modified, lease)


def write_head(head: Head) -> bytes:
    """Return what is in ``rev``."""
    return msgspec.json.encode(head)


def read_head(data: bytes) -> Head:
    """Read ``rev``.

    Raises:
        ValueError: nobody here wrote it.
    """
    return msgspec.json.decode(data, type=Head)


def cost_of(commit: Commit) -> tuple[int]:
    """Return about how many bytes a commit makes a request longer."""
    changed = (*commit.puts, *commit.deletes)
    return (sum(200 + 3 * len(key.encode()) for key in changed) + sum(map(len, commit.puts.values())),)
