"""What becomes of the services of a container that has ended."""

from __future__ import annotations

import datetime as dt
from typing import Final

from duplex_services.registration._model import Container, Options

#: Set in the code of a process that a signal ended, as shells and Docker have it.
_BY_SIGNAL: Final = 128


def kept_until(container: Container, options: Options) -> float | None:
    """Return until when the services of a container that has ended stay listed, in seconds since 1970.

    Args:
        container: that has no process any more.
        options: what an exit withdraws.

    Returns:
        The time; infinity for as long as the container exists; ``None`` if they go at once.
    """
    if container.status not in ("exited", "dead"):
        return None
    if options.keep_exited > 0:
        return container.finished + options.keep_exited
    if options.deregister == "always" or is_success(container.exit_code):
        return None
    return container.finished + options.ttl if options.ttl > 0 else float("inf")


def is_success(code: int) -> bool:
    """Whether an exit withdraws services also with ``on-success``: by itself and well, or by a signal."""
    return code == 0 or code & _BY_SIGNAL != 0


def exit_note(container: Container) -> str:
    """Say when and how a container ended."""
    when = dt.datetime.fromtimestamp(container.finished, dt.UTC)
    return f"exited {container.exit_code} at {when:%Y-%m-%dT%H:%M:%SZ}"
