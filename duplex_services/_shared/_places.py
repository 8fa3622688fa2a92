"""Where the services keep things and listen, if nobody says otherwise."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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


def settings_of(service: str, environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Return what the service's TOML file says: ``/etc/duplex/SERVICE.toml``, or that below ``$XDG_CONFIG_HOME``.

    Raises:
        ConfigurationError: it is there, and is no TOML.
    """
    base = environment.get("XDG_CONFIG_HOME") or Path(environment.get("HOME", "/")) / ".config"
    for path in (Path(base) / "duplex" / f"{service}.toml", Path("/etc/duplex") / f"{service}.toml"):
        try:
            return tomllib.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise duplex.ConfigurationError(f"{path}: {error}") from error
    return {}
