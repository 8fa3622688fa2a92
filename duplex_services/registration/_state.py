"""What a registrar keeps over restarts: whose its entries are, and what it listed last."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, final

import msgspec

import duplex
from duplex_services.registration._model import Service

_OWNER: Final = "owner"
_SERVICES: Final = "services.json"


class _Kept(msgspec.Struct):
    services: dict[str, tuple[Service, ...]]


@final
class State:
    """The state folder, held.

    Attributes:
        owner: a random id, made once: neither the host's name nor its addresses, which others may have tomorrow.
        services: what was listed last, by source.
    """

    def __init__(self, folder: Path, owner: str) -> None:
        self.owner = owner
        self.services: dict[str, tuple[Service, ...]] = {}
        self._path = folder / _SERVICES
        try:
            self.services = msgspec.json.decode(self._path.read_bytes(), type=_Kept).services
        except (OSError, msgspec.DecodeError):
            # Nothing was listed yet, or the file is damaged: sources tell what runs, and the owner what is ours.
            pass

    def keep(self, services: Mapping[str, tuple[Service, ...]]) -> None:
        """Keep what is to be listed, if it is different.

        Raises:
            OSError: it cannot be written; what was kept before stays.
        """
        if services == self.services:
            return
        new = self._path.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(_Kept(dict(services))))
        new.replace(self._path)
        self.services = dict(services)


@contextlib.contextmanager
def open_state(folder: Path) -> Iterator[State]:
    """Hold a state folder, which is made if it is not there: no two registrars have one owner.

    Raises:
        ConfigurationError: it cannot be made, or another registrar has it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = (folder / _OWNER).open("a+", encoding="utf-8")
    except OSError as error:
        raise duplex.ConfigurationError(f"{folder}: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise duplex.ConfigurationError(
                f"another registrar has the state folder {folder}: give this one a folder of its own with --state"
            ) from None
        file.seek(0)
        owner = file.read().strip()
        if not owner:
            owner = secrets.token_hex(8)
            file.write(f"{owner}\n")
            file.flush()
            os.fsync(file.fileno())
        yield State(folder, owner)


def read_state(folder: Path) -> State:
    """Return what is kept in a state folder, without holding it: for a look. If it is not there, the owner is nobody."""
    try:
        owner = (folder / _OWNER).read_text(encoding="utf-8").strip()
    except OSError:
        owner = ""
    return State(folder, owner or "nobody")
