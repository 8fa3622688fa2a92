"""A file that one process holds, and that says which."""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import socket
import weakref
from pathlib import Path
from typing import Final

import msgspec

from duplex_services.store._model import OpenError


class _Holder(msgspec.Struct):
    pid: int
    since: str
    host: str


#: Those of this process, which must not live on in a process that is forked off it.
_held: Final[weakref.WeakSet[FileLock]] = weakref.WeakSet()


class FileLock:
    """A lock on ``PATH.lock``, released when this process ends, however that comes.

    Args:
        path: of what is locked; the lock is a file beside it, which stays.

    Raises:
        OpenError: another process has it, and which; or there can be no lock.
    """

    def __init__(self, path: Path) -> None:
        self._file = -1
        place = path.with_name(path.name + ".lock")
        try:
            descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            raise OpenError(
                f"{place}: there is no folder {place.parent}; make it, or name another path"
            ) from None
        except OSError as error:
            raise OpenError(f"{place} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read(descriptor)
            os.close(descriptor)
            raise OpenError(f"{path} is in use by {holder}; one process at a time has a file open") from None
        except OSError as error:
            os.close(descriptor)
            raise OpenError(
                f"{place} cannot be locked ({error.strerror}): put the store on a local disk"
            ) from error
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        text = msgspec.json.encode(_Holder(os.getpid(), now, socket.gethostname()))
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text + b"\n", 0)
        self._file = descriptor
        _held.add(self)

    def release(self) -> None:
        """Let others have it."""
        _held.discard(self)
        os.ftruncate(self._file, 0)
        os.close(self._file)

    def _drop(self) -> None:
        # Closing it in a fork does not release it: that happens when its last copy is closed.
        os.close(self._file)


def _read(descriptor: int) -> str:
    try:
        holder = msgspec.json.decode(os.pread(descriptor, 1000, 0), type=_Holder)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return "another process"
    if holder.pid == os.getpid():
        return f"this process, which has had it open since {holder.since}"
    return f"process {holder.pid} on {holder.host} since {holder.since}"


def _after_fork() -> None:
    for lock in list(_held):
        lock._drop()
    _held.clear()


os.register_at_fork(after_in_child=_after_fork)
