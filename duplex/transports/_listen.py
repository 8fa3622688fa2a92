"""The sockets that listen, of ``tcp://`` and ``ipc://``; those of ``zmq+tcp://`` and ``zmq+ipc://`` are handed to libzmq.

libzmq can make them itself, but it removes whatever file is at an ipc path without looking, ends the process where
it has no descriptor left to look an address up, and tells of an address that it listens at on which nobody can
connect. So a bound port makes its socket, with the operating system's own errors, and libzmq takes it over
(``ZMQ_USE_FD``).

**What is at an ipc path already.** ``bind`` of the kernel refuses any file that is there, so nothing is ever lost to
it. The one thing that is removed is a *stale* socket, which a process left behind that was killed: a socket, not a
link to one, of this user's, at which a connection is refused. That takes several steps, and between them another
process may do the same, or be about to listen. A process that binds therefore holds a lock on the directory meanwhile
(``flock``: it leaves no file behind, and ends with its process). A program that binds there and knows nothing of the
lock is looked at twice; the moment between the second look and the removal cannot be closed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import struct
import time
from collections.abc import Iterator
from typing import Any, Final, final

from duplex._errors import BindError
from duplex.transports._base import EndpointBusy
from duplex.transports._endpoint import Endpoint

#: Connections that wait to be accepted: every client of a restarted service comes back at once.
BACKLOG: Final = 1024
#: Seconds that a lock on a directory is waited for. It is held for less than a millisecond.
LOCK_PATIENCE: Final = 0.25
#: Who may connect to an ipc endpoint: those who may write to its file. Others can be let in once it is bound.
IPC_MODE: Final = 0o600
#: The ``ioctl`` of Linux that returns the IPv4 address of an interface, and what it works on.
_SIOCGIFADDR: Final = 0x8915
_LONGEST_NAME: Final = 16
_IFREQ: Final = struct.Struct(f"{_LONGEST_NAME}s16s8x")
#: What a file system says that has no locks, or a directory that may not be read.
_NO_LOCK: Final = frozenset({errno.EACCES, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
_LIVE: Final = frozenset({0, errno.EAGAIN, errno.EINPROGRESS})


def cause(error: OSError) -> str:
    """Say what went wrong, without what Python adds."""
    if error.errno == errno.ENODEV:
        return "this machine has no interface or address of that name"
    return os.strerror(error.errno) if error.errno else str(error)


@final
class Listener:
    """A socket that listens, and the endpoint that it listens at.

    Args:
        endpoint: where.
        blocking: whether to wait for a lock that another process holds.

    Raises:
        OSError: the operating system refused.
        BindError: something is in the way that is left alone; the message says what, and what to do about it.
        EndpointBusy: without waiting, if another process may be about to remove it.
    """

    def __init__(self, endpoint: Endpoint, *, blocking: bool = True) -> None:
        self.file: IpcFile | None = None
        if endpoint.has_host:
            self.socket, self.endpoint = _listen_tcp(endpoint)
        elif endpoint.name.startswith("@"):
            self.socket, self.endpoint = _listen_abstract(endpoint), endpoint
        else:
            self.socket, self.file = _listen_ipc(endpoint, blocking)
            self.endpoint = endpoint

    def close(self) -> None:
        """Give it up, if libzmq has not taken it over."""
        self.socket.close()
        if self.file is not None:
            self.file.remove(anyway=True)


# -- tcp ---------------------------------------------------------------------------------------------------


def _listen_tcp(endpoint: Endpoint) -> tuple[socket.socket, Endpoint]:
    family, address = _tcp_address(endpoint)
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind(address)
        listening.listen(BACKLOG)
        listening.setblocking(False)
        return listening, tcp_endpoint(listening.getsockname(), endpoint)
    except BaseException:
        listening.close()
        raise


def _tcp_address(endpoint: Endpoint) -> tuple[int, tuple[Any, ...]]:
    """Return the family and the address to bind. Names are not looked up: an endpoint to bind is an address of this
    machine's, or an interface."""
    host, port = endpoint.host, endpoint.port
    if host == "*":
        host = "::" if has_ipv6() else "0.0.0.0"
    try:
        # As bytes, as the interface in an IPv6 address is no name that could be encoded as those of hosts are.
        found = socket.getaddrinfo(
            os.fsencode(host), port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )
    except socket.gaierror:
        return socket.AF_INET, (_interface_address(host), port)
    family, _, _, _, address = found[0]
    return family, tuple(address)


def has_ipv6() -> bool:
    """Whether this machine has IPv6 addresses. A container without has the protocol all the same, and lets a socket
    listen at ``::``, where nobody can connect."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise  # that says nothing of IPv6
        return False
    return True


def _interface_address(name: str) -> str:
    """Return the IPv4 address of an interface."""
    encoded = os.fsencode(name)
    if len(encoded) >= _LONGEST_NAME:
        raise OSError(errno.ENODEV, "")  # it would be cut
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        answer = fcntl.ioctl(probe, _SIOCGIFADDR, _IFREQ.pack(encoded, b""))
    _, address = _IFREQ.unpack(answer)
    return socket.inet_ntoa(address[4:8])


def tcp_endpoint(address: tuple[Any, ...], like: Endpoint | None = None) -> Endpoint:
    """Return the endpoint that stands for an address as Python gives it: of tcp, or of the kind that another one is. An IPv6 address that means something on one
    interface only has that one's name in it."""
    host, port = str(address[0]), int(address[1])
    if len(address) == 4 and address[3] and "%" not in host:
        host = f"{host}%{_interface_name(int(address[3]))}"
    if like is None:
        return Endpoint("tcp", host, port)
    return Endpoint(like.scheme, host, port, prefix=like.prefix)


def _interface_name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return str(index)  # it is gone, or was never there: connecting says so


# -- ipc ---------------------------------------------------------------------------------------------------


def _listen_abstract(endpoint: Endpoint) -> socket.socket:
    """Listen at a name that is no file; it is gone with its socket, and the kernel refuses a second one."""
    listening = socket.socket(socket.AF_UNIX)
    try:
        listening.bind(f"\0{endpoint.name[1:]}")
        listening.listen(BACKLOG)
        listening.setblocking(False)
        return listening
    except BaseException:
        listening.close()
        raise


def _listen_ipc(endpoint: Endpoint, blocking: bool) -> tuple[socket.socket, IpcFile]:
    listening = socket.socket(socket.AF_UNIX)
    try:
        # On Linux the file gets the mode of the socket, so there is no moment in which it has another one.
        os.fchmod(listening.fileno(), IPC_MODE)
        with _locked(endpoint.name, LOCK_PATIENCE if blocking else 0.0) as locked:
            _bind_path(listening, endpoint, locked, blocking)
            listening.listen(BACKLOG)
            file = IpcFile(endpoint.name)
        listening.setblocking(False)
        return listening, file
    except BaseException:
        listening.close()
        raise


def _bind_path(listening: socket.socket, endpoint: Endpoint, locked: bool, blocking: bool) -> None:
    try:
        listening.bind(endpoint.name)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        _remove_stale(endpoint, locked, blocking)
        listening.bind(endpoint.name)


def _remove_stale(endpoint: Endpoint, locked: bool, blocking: bool) -> None:
    """Remove a socket that a dead process left behind; BindError if it is anything else."""
    path = endpoint.name

    found = _look(path)
    if found is None:
        return  # it has just been removed
    if not stat.S_ISSOCK(found.st_mode):
        raise _left_alone(endpoint, f"{_kind(found.st_mode)} is there")
    if found.st_uid != os.geteuid():
        raise _left_alone(endpoint, f"a socket of another user is there (uid {found.st_uid})")
    error = _try_connecting(path)
    if error in _LIVE:
        raise BindError(
            f"cannot bind {endpoint}: {os.strerror(errno.EADDRINUSE)}: a process listens there; stop that one, "
            f"or bind another path"
        )
    if error != errno.ECONNREFUSED:
        raise _left_alone(endpoint, f"a socket is there that cannot be tried ({os.strerror(error)})")
    if not locked:
        left = _left_alone(
            endpoint,
            "a socket is there at which nobody listens, but another process has its directory locked",
        )
        raise left if blocking else EndpointBusy(str(left), LOCK_PATIENCE)
    again = _look(path)
    if again is not None and _identity(again) == _identity(found):
        os.unlink(path)


def _left_alone(endpoint: Endpoint, what: str) -> BindError:
    return BindError(
        f"cannot bind {endpoint}: {what}, and is left as it is; bind another path, or remove it if nobody needs it"
    )


def _look(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def _identity(found: os.stat_result) -> tuple[int, int, int]:
    """Return what tells a file from another that is made at its path later: numbers are used again at once. Its
    mode and owner may change meanwhile, which does not touch the time."""
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _kind(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "a file"
    if stat.S_ISDIR(mode):
        return "a directory"
    if stat.S_ISLNK(mode):
        return "a symbolic link"
    return "a named pipe" if stat.S_ISFIFO(mode) else "a device"


def _try_connecting(path: str) -> int:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path)


@contextlib.contextmanager
def _locked(path: str, patience: float) -> Iterator[bool]:
    """Hold the lock on a path's directory; ``False`` if somebody else holds it for so many seconds, ``True`` also where
    there can be none. ``OSError`` if the directory is not there, or descriptors are short."""
    try:
        directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in _NO_LOCK:
            raise
        yield True
        return
    try:
        yield _lock(directory, patience)
    finally:
        os.close(directory)


def _lock(directory: int, patience: float) -> bool:
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno in _NO_LOCK:
                return True
            if error.errno != errno.EWOULDBLOCK:
                raise
        if time.monotonic() >= until:
            return False
        time.sleep(0.001)


@final
class IpcFile:
    """The file of an ipc endpoint of this process."""

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)
        self._made = _identity(os.lstat(path))

    def remove(self, *, anyway: bool) -> bool:
        """Remove the file, unless it is gone or another by now: somebody else has bound the path since.

        Args:
            anyway: also if another process holds the lock on its directory.

        Returns:
            Whether that is done.
        """
        with contextlib.suppress(OSError), _locked(self._path, 0.0) as locked:
            if not locked and not anyway:
                return False
            if _identity(os.lstat(self._path)) == self._made:
                os.unlink(self._path)
        return True
