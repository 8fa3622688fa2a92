"""How a view of the store moves on: what a listing says against what is known, and what each reader is still to hear."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from duplex_services.store._model import Entry


def difference(known: Mapping[str, Entry], entries: Iterable[Entry]) -> dict[str, Entry | None]:
    """Return what a listing changes about what is known.

    Args:
        known: entries by key.
        entries: all that there are now.

    Returns:
        By key, the entry that is new or was put again, and ``None`` for what is gone.
    """
    now = {entry.key: entry for entry in entries}
    changes: dict[str, Entry | None] = {}
    for key, entry in now.items():
        old = known.get(key)
        if old is None or old != entry:
            changes[key] = entry
    for key in known:
        if key not in now:
            changes[key] = None
    return changes


def to_tell(
    heard: Mapping[str, int | None], known: Mapping[str, Entry]
) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """Return what a reader has missed, merged: of each key only how it is now.

    Args:
        heard: the keys that changed since the reader was told, each with the ``modified`` that it was told last,
            ``None`` if it knows of no such key.
        known: all that there is now.

    Returns:
        Puts, sorted by key, and deletes, sorted too.
    """
    puts: list[Entry] = []
    deletes: list[str] = []
    for key in sorted(heard):
        entry = known.get(key)
        if entry is None:
            if heard[key] is not None:
                deletes.append(key)
        elif entry.modified != heard[key]:
            puts.append(entry)
    return tuple(puts), tuple(deletes)
