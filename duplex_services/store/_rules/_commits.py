"""What a commit may hold, whether its conditions hold, and what it makes of what is there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, TypeAlias

import msgspec

from duplex_services.store._model import (
    MAX_COMMIT_BYTES,
    MAX_OPERATIONS,
    Commit,
    Condition,
    Conflict,
    Entry,
    Exists,
    LastWriterWins,
    Missing,
    TooLarge,
    Unchanged,
)
from duplex_services.store._rules._keys import check_key

#: Where the leaders of elections are kept. A guard, which names such a key, protects without being changed:
#: the only one to write in its term settles each commit before the next.
LEADERS: Final = "_lead/"

#: What a writer's key adds to a commit: a put and a condition.
SPARE: Final = 2
_SPARE_BYTES: Final = 1024

#: How an entry is found.
Look: TypeAlias = Callable[[str], Entry | None]

When: TypeAlias = Sequence[Condition | LastWriterWins] | LastWriterWins


def check_commit(
    puts: Mapping[str, bytes],
    deletes: Iterable[str],
    when: When,
    lease: str | None,
    *,
    own: bool = False,
    spare: int = 0,
) -> Commit:
    """Make a commit of what somebody gave.

    Args:
        puts: values by key.
        deletes: keys.
        when: conditions.
        lease: a lease's id.
        own: whether it may change the store's own keys.
        spare: how many operations more than the limit it may have.

    Raises:
        TypeError: something is of a wrong type.
        ValueError: something makes no sense; or no condition protects it.
        TooLarge: it is over a limit.
    """
    given = _puts(puts, own=own)
    gone = _deletes(deletes, own=own)
    conditions, is_careless = _conditions(when)
    if not given and not gone:
        raise ValueError("this commit changes nothing: it has no puts and no deletes")
    for key in gone:
        if key in given:
            raise ValueError(f"{key!r} is put and deleted in one commit")
    commit = Commit(given, gone, conditions, lease)
    check_limits(commit, spare)
    if not is_careless and not _is_protected(commit):
        raise ValueError(
            "no condition protects this commit: should it be late, it would overwrite what others wrote. "
            "Let when= have missing(key) or unchanged(key, modified) of a key that it changes, "
            "or a term's guard; or say last_writer_wins"
        )
    return commit


def check_limits(commit: Commit, spare: int = 0) -> None:
    """Refuse a commit that some store could not take.

    Raises:
        TooLarge: which limit, and by how much.
    """
    operations = len(commit.puts) + len(commit.deletes) + len(commit.when)
    if operations > MAX_OPERATIONS + spare:
        raise TooLarge("puts, deletes and conditions of one commit", operations, MAX_OPERATIONS + spare)
    size = sum(len(key.encode()) + len(value) for key, value in commit.puts.items())
    size += sum(len(key.encode()) for key in commit.deletes)
    size += sum(len(condition.key.encode()) for condition in commit.when)
    limit = MAX_COMMIT_BYTES + (_SPARE_BYTES if spare else 0)
    if size > limit:
        raise TooLarge("bytes of keys and values of one commit", size, limit)


def first_conflict(when: Iterable[Condition], look: Look) -> Conflict | None:
    """Return the first condition that does not hold, with what is there, or ``None`` if all hold."""
    for condition in when:
        entry = look(condition.key)
        if not holds(condition, entry):
            return Conflict(condition, entry)
    return None


def holds(condition: Condition, entry: Entry | None) -> bool:
    """Whether a condition holds of what is there under its key."""
    match condition:
        case Missing():
            return entry is None
        case Exists():
            return entry is not None
        case Unchanged():
            return entry is not None and entry.modified == condition.modified


def changes_of(commit: Commit, look: Look, revision: int) -> dict[str, Entry | None]:
    """Return what a commit, all of whose conditions hold, makes of what is there.

    Args:
        commit: which.
        look: finds what is there.
        revision: the one that it makes.

    Returns:
        The new entry of each key, ``None`` where it is gone; without those that were not there to be deleted.
    """
    changes: dict[str, Entry | None] = {}
    for key, value in commit.puts.items():
        old = look(key)
        changes[key] = Entry(key, value, revision if old is None else old.created, revision, commit.lease)
    for key in commit.deletes:
        if look(key) is not None:
            changes[key] = None
    return changes


def take_group(waiting: Sequence[Commit], limit: int) -> list[int]:
    """Choose commits that can be made together: none of them names a key that another one changes.

    Args:
        waiting: in the order in which they came. The first is always taken, so none waits endlessly.
        limit: how many are taken at most.

    Returns:
        Indices into ``waiting``, growing.
    """
    taken: list[int] = []
    changed: set[str] = set()
    named: set[str] = set()
    for index, commit in enumerate(waiting):
        changes = {*commit.puts, *commit.deletes}
        names = changes | {condition.key for condition in commit.when}
        if names.isdisjoint(changed) and changes.isdisjoint(named):
            taken.append(index)
            if len(taken) == limit:
                break
        # What was passed over counts too: who comes later does not overtake who touches the same keys.
        changed |= changes
        named |= names
    return taken


def _puts(puts: object, *, own: bool) -> dict[str, bytes]:
    if not isinstance(puts, Mapping):
        raise TypeError(f"puts are values by key, a dict, not {type(puts).__name__}")
    given: dict[str, bytes] = {}
    for key, value in puts.items():
        if not isinstance(value, bytes | bytearray | memoryview):
            raise TypeError(f"the value of {key!r:.100} is bytes, not {type(value).__name__}")
        given[check_key(key, own=own)] = bytes(value)
    return given


def _deletes(deletes: object, *, own: bool) -> tuple[str, ...]:
    if isinstance(deletes, str) or not isinstance(deletes, Iterable):
        raise TypeError(f"deletes are several keys, such as [{deletes!r:.100}], not {type(deletes).__name__}")
    gone = tuple(check_key(key, own=own) for key in deletes)
    return _once(gone, "deleted")


def _conditions(when: object) -> tuple[tuple[Condition, ...], bool]:
    if isinstance(when, LastWriterWins):
        return (), True
    if isinstance(when, Condition) or not isinstance(when, Iterable):
        raise TypeError(f"when is several conditions, such as [missing(key)], not {when!r:.100}")
    found: list[Condition] = []
    is_careless = False
    for condition in when:
        if isinstance(condition, LastWriterWins):
            is_careless = True
        elif isinstance(condition, Condition):
            check_key(condition.key, own=True)
            if isinstance(condition, Unchanged) and type(condition.modified) is not int:
                raise TypeError(
                    f"unchanged compares with Entry.modified, an int, not {condition.modified!r:.100}"
                )
            found.append(condition)
        else:
            raise TypeError(
                f"{condition!r:.100} is no condition: missing, exists, unchanged or last_writer_wins"
            )
    _once([condition.key for condition in found], "named in conditions")
    return tuple(found), is_careless


def _once(keys: Collection[str], what: str) -> tuple[str, ...]:
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if list(keys).count(key) > 1)
        raise ValueError(f"{twice!r} is {what} twice in one commit")
    return tuple(keys)


def _is_protected(commit: Commit) -> bool:
    for condition in commit.when:
        if isinstance(condition, Exists):
            continue
        changed = condition.key in commit.puts or condition.key in commit.deletes
        if changed or (isinstance(condition, Unchanged) and condition.key.startswith(LEADERS)):
            return True
    return False


def with_writer(commit: Commit, slot: str, modified: int | None, mark: bytes) -> Commit:
    """Return the commit with a writer's key in it, so that its copies can be told apart.

    Args:
        commit: which.
        slot: the writer's key.
        modified: the revision that put it last, ``None`` if it is not there.
        mark: what to put there: which commit this is.
    """
    condition = Missing(slot) if modified is None else Unchanged(slot, modified)
    return msgspec.structs.replace(commit, puts={**commit.puts, slot: mark}, when=(condition, *commit.when))
