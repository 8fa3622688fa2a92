"""Serving until a signal comes, leaving in order, and telling what is under way."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Final

import click
import trio

import duplex

#: Where trio waits for something to happen, on Linux.
_IDLE: Final = "_io_epoll.py"


async def serve(
    services: Sequence[duplex.Service],
    endpoints: Sequence[str],
    *,
    name: str,
    debug: bool | None,
    stop: trio.Event,
    drain_timeout: float,
) -> None:
    """Serve until told to stop, and then drain. The real endpoints go to stdout, one a line, once all are bound.

    Args:
        services: what to serve.
        endpoints: where to bind.
        name: of the peer.
        debug: whether tracebacks go to callers; see :func:`duplex.open_peer`.
        stop: set to stop.
        drain_timeout: seconds that calls which run then may go on.
    """
    async with duplex.open_peer(services=services, name=name, debug=debug) as peer:
        with _report_on_sigusr1(peer):
            real = [await peer.bind(endpoint) for endpoint in endpoints]
            for endpoint in real:
                click.echo(endpoint)
            for service in services:
                click.echo(
                    f"serving {service.name} {service.version}: {', '.join(service.methods)}", err=True
                )
            await stop.wait()
            if running := len([call for call in peer.calls() if call.direction == "incoming"]):
                click.echo(
                    f"draining: {running} call{'s' if running > 1 else ''} may run on for {drain_timeout:g} s; "
                    f"a second signal stops at once",
                    err=True,
                )
            await peer.drain(drain_timeout)


@contextlib.contextmanager
def _report_on_sigusr1(peer: duplex.Peer) -> Iterator[None]:
    """Write the calls that are under way to stderr whenever SIGUSR1 comes, even if a handler blocks the loop."""

    def handle(_number: int, frame: FrameType | None) -> None:
        calls = peer.calls()
        text = "\n".join([f"{len(calls)} calls under way", *map(str, calls)])
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
