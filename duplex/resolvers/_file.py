"""Endpoints that a file lists."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import final

import msgspec
import trio

from duplex._errors import ConfigurationError
from duplex._numbers import LEAST_SECONDS, check_seconds
from duplex.resolvers._endpoint import Endpoint


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    endpoint: str
    weight: float = 1.0
    zone: str = ""
    service: str = ""


def read_endpoints(data: bytes, source: object) -> list[Endpoint]:
    """Return the endpoints that a JSON text lists: an array of addresses, or of objects with ``endpoint`` and, if there is
    need, ``weight``, ``zone`` and ``service``.

    Args:
        data: the text.
        source: where it comes from, for errors.

    Raises:
        ConfigurationError: it is something else; the message says where.
    """
    try:
        entries = msgspec.json.decode(data, type=list[str | _Entry])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{source} is no list of endpoints: {error}") from None
    try:
        return [
            Endpoint(entry)
            if isinstance(entry, str)
            else Endpoint(entry.endpoint, weight=entry.weight, zone=entry.zone, service=entry.service)
            for entry in entries
        ]
    except ConfigurationError as error:
        raise ConfigurationError(f"{source}: {error}") from None


@final
class FileResolver:
    """The endpoints that a file lists, read again whenever it changes.

    The file is JSON: ``["tcp://10.0.0.1:7700", {"endpoint": "tcp://10.0.0.2:7700", "weight": 2, "zone": "b"}]``. A file that is
    missing, or is being written and not complete, is an error, and not an empty list: what was known stays.

    Args:
        path: the file.
        interval: seconds between looks at it.

    Raises:
        ConfigurationError: the interval is wrong.
    """

    def __init__(self, path: str | os.PathLike[str], interval: float = 1.0) -> None:
        self._path = Path(path)
        self._interval: float = check_seconds("interval", interval, low=LEAST_SECONDS)

    def __repr__(self) -> str:
        return f"<the file {self._path}>"

    async def resolve(self, service: str) -> AsyncIterator[Sequence[Endpoint]]:
        """See :meth:`Resolver.resolve`."""
        known: object = None
        while True:
            # In a thread, because file systems may be on a network. One that hangs is left behind, or nobody could leave.
            stamp, data = await trio.to_thread.run_sync(self._look, known, abandon_on_cancel=True)
            if data is not None:
                yield read_endpoints(data, self._path)
                known = stamp
            await trio.sleep(self._interval)

    def _look(self, known: object) -> tuple[object, bytes | None]:
        """Return what tells this state of the file from others, and what is in it if that is another one than before."""
        found = self._path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ConfigurationError(f"{self._path} is no file")
        stamp = found.st_mtime_ns, found.st_size, found.st_ino
        return stamp, None if stamp == known else self._path.read_bytes()
