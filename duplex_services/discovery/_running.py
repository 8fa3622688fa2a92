"""A server of discovery as a process: its state folder, its name, its endpoints, and its orderly end."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import trio

import duplex
from duplex_services._shared._places import made_folder
from duplex_services.discovery._fronts import Fronts, open_fronts
from duplex_services.discovery._model import MOST_ENTRIES
from duplex_services.discovery._opening import open_directory
from duplex_services.discovery._rules._announcing import announced
from duplex_services.discovery._serving import Authorize, open_server


class Settings(msgspec.Struct, frozen=True):
    """What a server is told.

    Attributes:
        store: the URL; ``None`` for a file in the state folder.
        binds: where to listen.
        name: of the server; ``None`` for the one in the state folder.
        state: the folder.
        checks: whether it makes its share of the health checks.
        max_entries: instances and services that it takes.
        fronts: HTTP and DNS.
        authenticator: finds out who others are; ``None``: nobody does.
        authorize: decides who may call what; ``None``: everybody may do everything.
        tls: the certificates of ``tls://`` endpoints.
    """

    store: str | None
    binds: tuple[str, ...]
    name: str | None
    state: Path
    checks: bool = True
    max_entries: int = MOST_ENTRIES
    fronts: Fronts = Fronts()
    authenticator: duplex.Authenticator | None = None
    authorize: Authorize | None = None
    tls: duplex.TLS | None = None


async def run_server(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        settings: what to serve, and where.
        announce: told each endpoint once all are bound.

    Raises:
        ConfigurationError, StoreError, BindError, Superseded: it cannot begin, or go on.
    """
    if settings.authorize is not None and _is_open(settings.fronts):
        raise duplex.ConfigurationError(
            "authorize says who may change what, and HTTP would let everybody do it: say what changes have to show with "
            "--http-write-token, or that they may with --http-anybody"
        )
    with contextlib.ExitStack() as stack:
        name = settings.name or stack.enter_context(_own_name(settings.state))
        url = settings.store or f"sqlite:{made_folder(settings.state) / 'directory.db'}"
        for endpoint in settings.binds:
            if endpoint.startswith("ipc://"):
                made_folder(Path(endpoint.removeprefix("ipc://")).parent)
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with (
                open_directory(
                    url,
                    server=name,
                    checks=settings.checks,
                    max_entries=settings.max_entries,
                    tls=settings.tls,
                ) as directory,
                open_server(
                    directory,
                    settings.binds,
                    authenticator=settings.authenticator,
                    authorize=settings.authorize,
                    tls=settings.tls,
                ) as (peer, endpoints),
                open_fronts(directory, settings.fronts, peer) as addresses,
            ):
                directory.announce(announced((*endpoints, *addresses), settings.fronts.http_advertise))
                for endpoint in (*endpoints, *addresses):
                    announce(endpoint)
                # Those registered here go to another server, or come back: nobody is withdrawn.
                await signals.__anext__()


def _is_open(fronts: Fronts) -> bool:
    options = fronts.http_options
    return bool(fronts.http) and not options.write_token and not options.anybody


@contextlib.contextmanager
def _own_name(state: Path) -> Iterator[str]:
    """Return the name that is kept in the state folder, and hold it, as no other process may have it."""
    path = made_folder(state) / "server-name"
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise duplex.ConfigurationError(
                f"another server of discovery has the state folder {state}: give this one a folder of its own "
                "with --state, or a name with --name"
            ) from None
        file.seek(0)
        name = file.read().strip()
        if not name:
            name = f"server-{secrets.token_hex(4)}"
            file.write(f"{name}\n")
            file.flush()
            os.fsync(file.fileno())
        yield name
