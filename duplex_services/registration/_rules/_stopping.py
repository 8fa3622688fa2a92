"""Whether a container was told to stop: by its own stop signal, and in the life that it has now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from duplex_services.registration._model import Container
from duplex_services.registration._rules._inspecting import read_signal, read_time


class Stop(msgspec.Struct, frozen=True):
    """A container was told to stop.

    Attributes:
        started: when the life began that this is of, as the engine says it.
    """

    started: str


def read_stop(event: Mapping[str, Any], container: Container) -> Stop | None:
    """Return that a container was told to stop, if an event says that.

    Args:
        event: of an engine.
        container: which it is about, as it was known before.
    """
    if event.get("Action") != "kill":
        return None
    attributes = (event.get("Actor") or {}).get("Attributes") or {}
    if read_signal(str(attributes.get("signal") or "")) != container.stop_signal:
        return None
    # Events may be told again after a lost connection; those of an earlier life say nothing of this one.
    at = event.get("timeNano")
    if isinstance(at, int) and at / 1e9 < read_time(container.started):
        return None
    return Stop(container.started)


def is_over(stop: Stop, container: Container) -> bool:
    """Whether the container has ended since, or begun anew."""
    return not container.is_alive or container.started != stop.started
