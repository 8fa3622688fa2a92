"""Where the services keep things and listen, if nobody says otherwise."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import duplex


def state_folder(service: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Return where a service keeps its state: ``/var/lib/duplex/SERVICE`` as root, else below ``$XDG_STATE_HOME``."""
    if os.geteuid() == 0:
        return Path("/var/lib/duplex") / service
    base = environment.get("XDG_STATE_HOME") or Path(environment.get("HOME", "/")) / ".local/state"
    return Path(base) / "duplex" / service


def socket_endpoint(service: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return where a service listens: ``/run/duplex/SERVICE.sock`` as root, else below ``$XDG_RUNTIME_DIR`` or its state."""
    if os.geteuid() == 0:
        folder = Path("/run/duplex")
    elif runtime := environment.get("XDG_RUNTIME_DIR"):
        folder = Path(runtime) / "duplex"
    else:
        folder = state_folder(service, environment)
    return f"ipc://{folder / service}.sock"


def made_folder(folder: Path) -> Path:
    """Return a folder that is there, for this user alone if it had to be made.

    Raises:
        ConfigurationError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise duplex.ConfigurationError(f"{folder}: {error.strerror}") from error
    return folder


def settings_files(service: str, environment: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """Return where a service's settings may be, of which the first that there is counts: below ``$XDG_CONFIG_HOME``, and in
    ``/etc/duplex``."""
    base = environment.get("XDG_CONFIG_HOME") or Path(environment.get("HOME", "/")) / ".config"
    return tuple(folder / "duplex" / f"{service}.toml" for folder in (Path(base), Path("/etc")))
