"""What this owner has written where nothing says whose a key is: kept on disk, so that the next run knows it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final, final

import msgspec

#: What is kept of one registry.
_Keys: Final = dict[str, list[str]]


@final
class Ledger:
    """The keys of one registry that are this owner's, each with the values that it has written or is about to.

    Args:
        folder: the state folder.
        registry: names the registry.
    """

    def __init__(self, folder: Path, registry: str) -> None:
        digest = hashlib.blake2b(registry.encode(), digest_size=8).hexdigest()
        self._path = folder / f"written-{digest}.json"
        self._keys: dict[str, list[str]] = {}
        try:
            self._keys = msgspec.json.decode(self._path.read_bytes(), type=_Keys)
        except (OSError, msgspec.DecodeError):
            # Nothing was written yet, or the file is damaged: then what is there is taken for somebody else's.
            pass

    def has(self, key: str, value: str) -> bool:
        """Whether a key with a value is this owner's."""
        return value in self._keys.get(key, ())

    def will_write(self, key: str, value: str) -> None:
        """Note that a value is about to be written: after a crash either value is this owner's.

        Raises:
            OSError: that cannot be noted, so it must not be written.
        """
        values = self._keys.get(key, [])
        if values[-1:] != [value]:
            self._keep({**self._keys, key: [*values[-1:], value]})

    def has_dropped(self, key: str) -> None:
        """Note that a key is not this owner's any more.

        Raises:
            OSError: that cannot be noted.
        """
        if key in self._keys:
            self._keep({other: values for other, values in self._keys.items() if other != key})

    def _keep(self, keys: dict[str, list[str]]) -> None:
        new = self._path.with_suffix(".new")
        with new.open("wb") as file:
            file.write(msgspec.json.encode(keys))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)
        self._keys = keys
