"""The peers: which there are, what they need, and what each must offer.

A peer runs as two processes, ``python -m benchmarks.peers serve NAME`` and ``... run NAME SCENARIO ADDRESS
SECONDS``. To add one, write a module with an object of type :class:`Peer` and enter it in :data:`PEERS`.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import shutil
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, cast

if TYPE_CHECKING:
    from benchmarks.peers._runtimes import Runtime

#: What a peer may be able to do; scenarios ask for it.
ABILITIES: Final[Mapping[str, str]] = {
    "unary": "unary calls",
    "open-loop": "calls at fixed times",
    "echo": "bytes there and back",
    "download": "a server stream",
    "upload": "a client stream",
    "bidi": "both at once",
    "callbacks": "the server calls a function of the client",
    "links": "many connections from one process",
    "channels": "streams that stay open with nothing in them",
    "features": "options that can be switched on, of Duplex itself",
    "cli": "the command `duplex call`",
}

#: Those that are about Duplex itself.
OWN: Final = frozenset({"features", "cli"})

More = Callable[[int], bool]


class Client:
    """One connection of a client. A peer overrides what its abilities say.

    The methods are coroutines for every peer. Those of a peer that blocks never suspend, and each worker then
    has a thread of its own (``_runtimes.py``).
    """

    #: Bytes of the largest payload that the peer takes.
    largest: int = 1 << 40
    #: Keeps so many calls under way by itself, for those that are nothing but a socket.
    pipelined: Callable[[int, Callable[[], bool]], Awaitable[None]] | None = None

    async def unary(self, value: Any, /) -> Any:
        """Send a small dict and get it back."""
        raise NotImplementedError

    async def echo(self, data: bytes, /) -> Any:
        """Send bytes and get them back, as something that has a length."""
        raise NotImplementedError

    async def array(self, value: Any, /) -> Any:
        """Send a numpy array of float64 and get an array back; by default, as the bytes in it."""
        import numpy as np

        return np.frombuffer(await self.echo(value.tobytes()), np.float64)

    async def download(self, value: Any, more: More) -> None:
        """Receive a stream of the value until ``more``, told of every so many items, says no."""
        raise NotImplementedError

    async def upload(self, value: Any, more: More) -> int:
        """Send the value until ``more`` says no; return how many the server says it received."""
        raise NotImplementedError

    async def converse(self, value: Any, more: More) -> int:
        """Send the value until ``more`` says no, receiving each back; return how many came back."""
        raise NotImplementedError

    async def call_back(self, value: Any, count: int) -> None:
        """Make one call, within which the server calls a function of this client so many times."""
        raise NotImplementedError

    def hold(self) -> AbstractAsyncContextManager[None]:
        """Keep a stream open, on which the server sent one item and sends no more."""
        raise NotImplementedError

    def features(self) -> AbstractAsyncContextManager[Mapping[str, tuple[Any, Any]]]:
        """Give for each feature a call without it and one with it."""
        raise NotImplementedError

    def with_methods(self, number: int) -> AbstractAsyncContextManager[Client]:
        """Give a client of a server that has so many services of ten methods each."""
        raise NotImplementedError


class Peer(Protocol):
    """One way to make calls."""

    #: The module whose import is timed.
    imports: ClassVar[str]

    @property
    def runtime(self) -> Runtime:
        """What runs the client's coroutines."""

    def serve(self, announce: Callable[[str], None]) -> None:
        """Serve all scenarios at a free port of the loopback interface until the process is ended.

        Args:
            announce: to be called with the address once it can be connected to.
        """

    def connect(self, address: str) -> AbstractAsyncContextManager[Client]:
        """Give a client on a connection of its own."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """Where a peer is found, and what it can do."""

    name: str
    #: ``module:attribute``.
    location: str
    title: str
    abilities: frozenset[str]
    #: Distributions whose versions belong into the report.
    distributions: tuple[str, ...] = ()
    #: Modules without which the peer cannot run.
    modules: tuple[str, ...] = ()
    #: A program without which it cannot run, and how to get it.
    program: str = ""
    hint: str = "make bench installs it"

    @property
    def missing(self) -> str:
        """What it needs and is not installed, as a sentence; empty if it can run."""
        for module in self.modules:
            if importlib.util.find_spec(module) is None:
                return f"it needs the module {module} ({self.hint})"
        if self.program and find_program(self.program) is None:
            return f"it needs the program {self.program} ({self.hint})"
        return ""

    def load(self) -> Peer:
        """Import the peer."""
        module, _, attribute = self.location.partition(":")
        return cast("Peer", getattr(importlib.import_module(module), attribute))


def find_program(name: str) -> str | None:
    """Return the path of a program, also where Debian keeps servers."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")


_DUPLEX: Final = ("duplex-rpc", "trio", "pyzmq", "msgspec")
_UNARY: Final = frozenset({"unary", "open-loop", "echo"})

PEERS: Final[Mapping[str, Entry]] = {
    entry.name: entry
    for entry in (
        Entry(
            "duplex",
            "benchmarks.peers.duplex_peer:TASKS",
            "Duplex, handlers are `async def`",
            frozenset(ABILITIES),
            _DUPLEX,
        ),
        Entry(
            "duplex-inline",
            "benchmarks.peers.duplex_peer:INLINE",
            "Duplex, handlers are plain functions with `inline=True`",
            _UNARY | {"download"},
            _DUPLEX,
        ),
        Entry(
            "duplex-libzmq",
            "benchmarks.peers.duplex_peer:LIBZMQ",
            "Duplex over libzmq's sockets",
            _UNARY | {"download", "upload", "bidi"},
            _DUPLEX,
        ),
        Entry(
            "duplex-tls",
            "benchmarks.peers.duplex_peer:TLS",
            "Duplex over TLS",
            _UNARY | {"download", "upload", "bidi", "links"},
            (*_DUPLEX, "trustme"),
            ("trustme",),
        ),
        Entry(
            "grpc",
            "benchmarks.peers.grpc_peer:PLAIN",
            "grpc.aio, generic handlers, msgpack payloads",
            _UNARY | {"download", "upload", "bidi", "links", "channels"},
            ("grpcio", "msgspec"),
            ("grpc",),
        ),
        Entry(
            "grpc-tls",
            "benchmarks.peers.grpc_peer:TLS",
            "the same over TLS",
            _UNARY | {"download", "upload", "bidi", "links", "channels"},
            ("grpcio", "trustme"),
            ("grpc", "trustme"),
        ),
        Entry(
            "grpclib",
            "benchmarks.peers.grpclib_peer:PEER",
            "grpclib (asyncio, h2), a msgpack codec",
            # Its connections take 100 streams at once.
            _UNARY | {"download", "upload", "bidi", "links"},
            ("grpclib", "h2"),
            ("grpclib",),
        ),
        Entry(
            "aiozmq",
            "benchmarks.peers.aiozmq_peer:PEER",
            "aiozmq.rpc",
            _UNARY | {"links"},
            ("aiozmq", "msgpack"),
            ("aiozmq", "msgpack"),
        ),
        Entry(
            "zerorpc",
            "benchmarks.peers.zerorpc_peer:PEER",
            "zerorpc (gevent), greenlets",
            frozenset({"unary", "open-loop", "echo", "download", "links"}),
            ("zerorpc", "gevent"),
            ("zerorpc",),
        ),
        Entry(
            "rpyc",
            "benchmarks.peers.rpyc_peer:PEER",
            "RPyC, ThreadedServer, a thread and a connection for each call in flight, msgpack by hand",
            _UNARY | {"download", "callbacks"},
            ("rpyc",),
            ("rpyc",),
        ),
        Entry(
            "pyro5",
            "benchmarks.peers.pyro5_peer:PEER",
            "Pyro5, msgpack, a thread and a connection for each call in flight",
            _UNARY | {"download", "callbacks"},
            ("Pyro5",),
            ("Pyro5", "msgpack"),
        ),
        Entry(
            "pycapnp",
            "benchmarks.peers.pycapnp_peer:PEER",
            "Cap'n Proto (C++ core), with a schema",
            _UNARY | {"download", "callbacks", "links"},
            ("pycapnp",),
            ("capnp",),
        ),
        Entry(
            "nats",
            "benchmarks.peers.nats_peer:PEER",
            "nats-py through nats-server, msgpack",
            _UNARY | {"download", "upload"},
            ("nats-py",),
            ("nats",),
            program="nats-server",
            hint="apt-get install nats-server, and make bench",
        ),
        Entry(
            "http",
            "benchmarks.peers.http_peer:PEER",
            "FastAPI on uvicorn (uvloop, httptools), aiohttp client, JSON",
            _UNARY | {"download", "upload"},
            ("fastapi", "uvicorn", "aiohttp"),
            ("fastapi", "uvicorn", "aiohttp", "uvloop", "httptools"),
        ),
        Entry(
            "pyzmq",
            "benchmarks.peers.pyzmq_peer:PEER",
            "pyzmq alone: blocking DEALER and ROUTER, no event loop, no protocol",
            frozenset({"unary", "echo", "download", "upload"}),
            ("pyzmq", "msgspec"),
        ),
        Entry(
            "trio-pyzmq",
            "benchmarks.peers.trio_pyzmq_peer:PEER",
            "trio and pyzmq alone, in the manner of Duplex: batches, calls by number, no protocol",
            frozenset({"unary", "echo", "download", "upload", "links"}),
            ("trio", "pyzmq", "msgspec"),
        ),
        Entry(
            "tcp",
            "benchmarks.peers.tcp_peer:PEER",
            "TCP alone: blocking sockets, a length before each message, no protocol",
            frozenset({"unary", "echo", "download", "upload"}),
            ("msgspec",),
        ),
    )
}


def entry_of(name: str) -> Entry:
    """Return the entry of a peer, given by its name, or by ``module:attribute``, also if it has no entry.

    Raises ``KeyError`` if there is none.
    """
    if ":" not in name:
        return PEERS[name]
    known = (entry for entry in PEERS.values() if entry.location == name)
    return next(known, Entry(name, name, name, frozenset(ABILITIES)))
