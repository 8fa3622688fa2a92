"""Serving until a signal comes, leaving in order, and telling what is under way."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator, Sequence
from types import FrameType
from typing import Final

import trio

from duplex import TLS, Advertise, Authenticator, Peer, Service, middleware, open_peer
from duplex.cli._report import tell

#: Where trio waits for something to happen, on Linux.
_IDLE: Final = "_io_epoll.py"


async def serve(
    services: Sequence[Service],
    endpoints: Sequence[str],
    *,
    name: str,
    debug: bool | None,
    stop: trio.Event,
    drain_timeout: float,
    log_calls: bool,
    announce: Callable[[str], None],
    discovery: Sequence[str],
    advertise: Advertise,
    authorize: Callable[..., bool | Awaitable[bool]] | None,
    authenticator: Authenticator | None,
    shown: bytes | None,
    certificates: TLS | None,
) -> None:
    """Serve until told to stop, and then drain.

    Args:
        services: what to serve.
        endpoints: where to bind.
        name: of the peer.
        debug: whether tracebacks go to callers; see :func:`duplex.open_peer`.
        stop: set to stop.
        drain_timeout: seconds that calls which run then may go on.
        log_calls: whether each call is logged.
        announce: told the real endpoints, a line each, once all are bound.
        discovery: where the services are registered; nowhere, if it is empty.
        advertise: what is said of them there.
        authorize: decides which calls may be made; see :func:`duplex.open_peer`.
        authenticator: finds out who others are.
        shown: the credentials.
        certificates: of ``tls://`` endpoints.
    """
    if log_calls:
        # Also where warnings alone are logged of everything else.
        logging.getLogger("duplex.calls").setLevel(logging.INFO)
    async with open_peer(
        services=services,
        name=name,
        debug=debug,
        middleware=[middleware.log_calls()] if log_calls else [],
        observer=middleware.log_unserved() if log_calls else None,
        discovery=discovery or None,
        advertise=advertise,
        authorize=authorize,
        authenticator=authenticator,
        credentials=shown,
        tls=certificates,
    ) as peer:
        with _report_on_sigusr1(peer):
            real = [await peer.bind(endpoint) for endpoint in endpoints]
            for endpoint in real:
                announce(endpoint)
            for service in services:
                tell(f"serving {service.name} {service.version}: {', '.join(service.methods)}")
            await stop.wait()
            if running := len([call for call in peer.calls() if call.direction == "incoming"]):
                tell(
                    f"draining: {running} call{'s' if running > 1 else ''} may run on for {drain_timeout:g} s; "
                    f"a second signal stops at once"
                )
            await peer.drain(drain_timeout)


@contextlib.contextmanager
def stdout_apart() -> Iterator[Callable[[str], None]]:
    """Send what is printed in the block to stderr. Gives a function that writes a line to stdout all the same.

    What is served may print when it is imported, or when it is called, and a reader of endpoints must not get
    that. Child processes inherit it so, and C libraries keep to it.
    """
    sys.stdout.flush()
    descriptor = sys.stdout.fileno()
    kept = os.dup(descriptor)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # as stderr is

    def write(line: str) -> None:
        data = f"{line}\n".encode()
        while data:
            data = data[os.write(kept, data) :]

    try:
        os.dup2(sys.stderr.fileno(), descriptor)
        yield write
    finally:
        # What was printed and fails now is lost, but not an error.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os.dup2(kept, descriptor)
        os.close(kept)


@contextlib.contextmanager
def _report_on_sigusr1(peer: Peer) -> Iterator[None]:
    """Write the calls that are under way to stderr whenever SIGUSR1 comes, even if a handler blocks the loop."""

    def handle(_number: int, frame: FrameType | None) -> None:
        calls = peer.calls()
        text = "\n".join([f"{len(calls)} call{'s' if len(calls) != 1 else ''} under way", *map(str, calls)])
        if frame is not None and os.path.basename(frame.f_code.co_filename) != _IDLE:
            text += "\nthe event loop is busy here:\n" + "".join(traceback.format_stack(frame))
        # Not through sys.stderr, which the signal may have interrupted.
        with contextlib.suppress(OSError):
            os.write(sys.stderr.fileno(), (text.rstrip() + "\n").encode(errors="replace"))

    previous = signal.signal(signal.SIGUSR1, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, previous)
