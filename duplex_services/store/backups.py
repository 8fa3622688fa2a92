"""Backups of a store: one file with all that it held at one moment, which can be put back, there or into a store of another kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import trio

import duplex
from duplex_services.store._backends._copying import (
    Progress,
    copy_store,
    no_progress,
    put_back,
    read_copy,
    write_copy,
)
from duplex_services.store._backends._database import Contents
from duplex_services.store._model import (
    MAX_COMMIT_BYTES,
    MAX_OPERATIONS,
    Entry,
    Refused,
    last_writer_wins,
    missing,
)
from duplex_services.store._open import open_store
from duplex_services.store._store import Store
from duplex_services.store._url import file_of, parse_url

#: Keys and values are counted a little too large, so that what the store itself adds has room.
_ROOM: Final = 1024


class Backup(msgspec.Struct, frozen=True):
    """What a backup holds.

    Attributes:
        keys: how many, without those of the store's own.
        revision: of the moment at which it was made.
        size: bytes of the file.
        left_out: keys that were left out, as they live only as long as who holds their leases.
    """

    keys: int
    revision: int
    size: int
    left_out: int = 0


async def back_up(
    url: str, path: str | Path, *, replace: bool = False, progress: Progress = no_progress
) -> Backup:
    """Write all that a store holds at one moment into a file: ``await back_up("sqlite:///var/lib/store.db", "copy.db")``.

    The file of a sqlite store is copied whole, while the process that has it open goes on writing. Of any other store the backup has all
    keys but its own, and but those under leases.

    Args:
        url: of the store.
        path: of the file, which appears when it is whole, and can be read by its owner alone.
        replace: whether a file that is there is replaced.
        progress: called, in a thread, with the pages that are done and all there are, of a sqlite store.

    Raises:
        ConfigurationError: the URL is wrong, or names a store that is nowhere but in its process.
        OpenError: the store or the file cannot be opened, or the file is there; nothing was changed.
        Unavailable, Denied: the store does not answer, or not us.
    """
    target = Path(path)
    source = _file_of(url)
    if source is not None:
        contents = await trio.to_thread.run_sync(
            lambda: copy_store(source, target, progress, replace=replace)
        )
        return _told(contents, target)
    async with open_store(url) as store:
        snapshot = await store.list()
    kept = [entry for entry in snapshot.entries if entry.lease is None]
    contents = await trio.to_thread.run_sync(
        lambda: write_copy(kept, snapshot.revision, target, replace=replace)
    )
    return _told(contents, target, len(snapshot.entries) - len(kept))


async def restore(path: str | Path, url: str, *, replace: bool = False) -> Backup:
    """Put a backup into a store, which may be of another kind than the one that it was made of.

    A sqlite store, which nobody may have open, becomes what the backup is, at once, and all who use it see another epoch. Any
    other store is written to, 60 keys or fewer at a time; who watches it sees them come.

    Args:
        path: of the backup.
        url: of the store.
        replace: whether the store may hold something, which is gone then.

    Raises:
        ConfigurationError: as of :func:`back_up`.
        OpenError: the backup is none, or damaged; or the store cannot be opened, is in use, or holds something. Nothing was changed.
        Refused, Unavailable, Unknown: the store would not take all of it; what was written stays.
    """
    source, place = Path(path), _file_of(url)
    if place is not None:
        contents = await trio.to_thread.run_sync(lambda: put_back(source, place, replace=replace))
        return _told(contents, source)
    contents = await trio.to_thread.run_sync(read_copy, source)
    wanted = [entry for entry in contents.entries.values() if _is_users(entry) and entry.lease is None]
    async with open_store(url) as store:
        there = (await store.list()).entries
        if there and not replace:
            raise Refused(
                f"{store.address} holds {len(there)} keys already; --force puts the backup in their place"
            )
        await _write(store, wanted, is_new=not there)
        keys = {entry.key for entry in wanted}
        await _delete(store, [entry.key for entry in there if entry.key not in keys])
    return _told(contents, source, _count(contents) - len(wanted))


async def _write(store: Store, entries: Sequence[Entry], *, is_new: bool) -> None:
    for part in _parts(entries, MAX_OPERATIONS // 2):
        when = [missing(entry.key) for entry in part] if is_new else last_writer_wins
        await store.commit({entry.key: entry.value for entry in part}, when=when)


async def _delete(store: Store, keys: Sequence[str]) -> None:
    for begin in range(0, len(keys), MAX_OPERATIONS):
        await store.commit(deletes=keys[begin : begin + MAX_OPERATIONS], when=last_writer_wins)


def _parts(entries: Sequence[Entry], most: int) -> Iterator[list[Entry]]:
    """Cut entries into what one commit takes."""
    part: list[Entry] = []
    size = 0
    for entry in entries:
        # A condition names the key once more.
        own = 2 * len(entry.key.encode()) + len(entry.value)
        if part and (len(part) == most or size + own > MAX_COMMIT_BYTES - _ROOM):
            yield part
            part, size = [], 0
        part.append(entry)
        size += own
    if part:
        yield part


def _file_of(url: str) -> Path | None:
    parsed = parse_url(url)
    if parsed.scheme == "memory":
        raise duplex.ConfigurationError(
            f"{parsed.address} is in the memory of one process, and gone with it: there is nothing to keep"
        )
    return file_of(parsed) if parsed.scheme == "sqlite" else None


def _told(contents: Contents, path: Path, left_out: int = 0) -> Backup:
    return Backup(_count(contents), contents.revision, path.stat().st_size, left_out)


def _count(contents: Contents) -> int:
    return sum(map(_is_users, contents.entries.values()))


def _is_users(entry: Entry) -> bool:
    return not entry.key.startswith("_")
