"""What was known last, on disk: so that a program that starts while discovery is away finds whom it called before."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final, final

import msgspec

from duplex_services._shared._places import state_folder

_log: Final = logging.getLogger("duplex")

#: Bytes of a file; services with more endpoints are not kept.
MOST_BYTES: Final = 1_048_576

#: Files; the oldest go.
MOST_FILES: Final = 256

#: Seconds after which what was known says nothing any more: addresses belong to others by then.
MOST_AGE: Final = 86_400.0

#: Where they are; ``off``: nowhere.
VARIABLE: Final = "DUPLEX_DISCOVERY_CACHE"


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept.

    Attributes:
        key: whose.
        as_of: when it was last known to be so, in seconds since 1970.
        endpoints: address, weight and zone of each.
    """

    key: str
    as_of: float
    endpoints: list[tuple[str, float, str]]


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return where files are kept, or ``None`` if none are."""
    said = environment.get(VARIABLE, "")
    if said == "off":
        return None
    return Path(said) if said else state_folder("discovery", environment) / "cache"


@final
class Cache:
    """Files in a folder. Whatever is wrong with it does no harm.

    Args:
        folder: where; ``None`` for nowhere.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._has_complained = False

    def read(self, key: str, now: float) -> Kept | None:
        """Return what is kept, if it is whole, ours and not too old. Blocks.

        Args:
            key: of what.
            now: seconds since 1970.
        """
        if self._folder is None:
            return None
        path = self._path(self._folder, key)
        try:
            data = _read(path)
            digest, _, text = data.partition(b"\n")
            if digest.decode() != hashlib.sha256(text).hexdigest():
                raise ValueError("it is not what was written")
            kept = msgspec.json.decode(text, type=Kept)
            if kept.key != key:
                raise ValueError("it is of something else")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            _log.warning("what was kept of discovery in %s is not used: %s", path, error)
            return None
        # The clock may have been wrong when it was kept, or be wrong now.
        return kept if abs(now - kept.as_of) <= MOST_AGE else None

    def write(self, kept: Kept) -> None:
        """Keep something, in the place of what was there. Blocks."""
        if self._folder is None:
            return
        text = msgspec.json.encode(kept)
        if len(text) > MOST_BYTES:
            return
        path = self._path(self._folder, kept.key)
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not path.exists():
                self._make_room(self._folder)
            _write(path, hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
        except OSError as error:
            if not self._has_complained:
                self._has_complained = True
                _log.warning("what is known of discovery cannot be kept in %s: %s", self._folder, error)

    def forget(self, key: str) -> None:
        """Keep nothing of something. Blocks."""
        if self._folder is not None:
            with contextlib.suppress(OSError):  # what is not there is forgotten
                self._path(self._folder, key).unlink()

    @staticmethod
    def _path(folder: Path, key: str) -> Path:
        return folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"

    @staticmethod
    def _make_room(folder: Path) -> None:
        found: list[tuple[float, Path]] = []
        for path in folder.glob("*.json"):
            with contextlib.suppress(OSError):  # another process makes room too
                found.append((path.stat().st_mtime, path))
        for _, path in sorted(found)[: max(0, len(found) - MOST_FILES + 1)]:
            path.unlink(missing_ok=True)


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise ValueError("it is no file of this user's that others cannot write")
        data = file.read(MOST_BYTES + 100)
    if len(data) == MOST_BYTES + 100:
        raise ValueError("it is too large")
    return data


def _write(path: Path, data: bytes) -> None:
    new = path.with_suffix(f".{secrets.token_hex(4)}.new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
