"""From what a user says to sources and targets."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

import duplex
from duplex_services._shared._places import socket_endpoint
from duplex_services.registration._docker._engine import Engine
from duplex_services.registration._docker._source import INTERVAL, DockerSource
from duplex_services.registration._files import FileSource
from duplex_services.registration._model import Options
from duplex_services.registration._source import Source
from duplex_services.registration._target import Target

#: The schemes of Registrator's registries.
REGISTRIES: Final = (
    "consul",
    "consul-unix",
    "consul-tls",
    "consulkv",
    "consulkv-unix",
    "etcd",
    "skydns2",
    "zookeeper",
)

#: Where engines listen, the first one first.
_SOCKETS: Final = ("/run/docker.sock", "/var/run/docker.sock", "/run/podman/podman.sock")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a registrar is told.

    Attributes:
        targets: URLs of registries; empty for discovery.
        discovery: its endpoints, where it is a target and says none itself; empty for this host's.
        credentials: what proves to the servers of discovery who this is; ``None`` for nothing.
        tls: which of their certificates are trusted, and which one is shown.
        docker: where the engine listens; ``None`` for no engine.
        files: folders of files that say what is to be listed.
        advertise: which of this host's addresses others are told.
        hostname: instead of the host's.
        state: the state folder.
        interval: seconds between two lists of containers, and of what registries have.
        options: what is to be listed, and how.
    """

    targets: tuple[str, ...] = ()
    discovery: tuple[str, ...] = ()
    credentials: bytes | None = None
    tls: duplex.TLS | None = None
    docker: str | None = ""
    files: tuple[Path, ...] = ()
    advertise: tuple[str, ...] = ()
    hostname: str = ""
    state: Path
    interval: float = INTERVAL
    options: Options = Options()


def docker_address(given: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return where the engine listens: as it is given, else ``DOCKER_HOST``, else where one has its socket."""
    found = given or environment.get("DOCKER_HOST", "")
    if found:
        return found
    there = [path for path in _SOCKETS if Path(path).exists()]
    return f"unix://{(there or _SOCKETS)[0]}"


def docker_tls(environment: Mapping[str, str] = os.environ) -> ssl.SSLContext | None:
    """Return how an engine's certificate is checked and ours is shown, as Docker's own variables say.

    Raises:
        ConfigurationError: the certificates cannot be read.
    """
    if not environment.get("DOCKER_TLS_VERIFY"):
        return None
    folder = Path(environment.get("DOCKER_CERT_PATH") or Path(environment.get("HOME", "/")) / ".docker")
    try:
        context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    except (OSError, ssl.SSLError) as error:
        raise duplex.ConfigurationError(f"DOCKER_CERT_PATH {folder}: {error}") from error
    return context


def open_sources(settings: Settings, owner: str) -> list[Source]:
    """Return what tells what runs.

    Raises:
        ConfigurationError: there is nothing, or something makes no sense.
    """
    sources: list[Source] = []
    if settings.docker is not None:
        where = docker_address(settings.docker)
        tls = None if where.startswith("unix:") else docker_tls()
        sources.append(DockerSource(Engine(where, tls), interval=settings.interval))
    for number, folder in enumerate(settings.files):
        source = FileSource(folder, owner)
        source.name = "files" if number == 0 else f"files-{number + 1}"
        sources.append(source)
    if not sources:
        raise duplex.ConfigurationError("there is nothing to list: no engine (--no-docker), and no --files")
    return sources


def open_targets(settings: Settings, owner: str) -> list[Target]:
    """Return the registries.

    Raises:
        ConfigurationError: one makes no sense.
    """
    return [open_target(text, settings, owner) for text in settings.targets or ("discovery:",)]


def open_target(text: str, settings: Settings, owner: str) -> Target:
    """Return a registry.

    Raises:
        ConfigurationError: there is none of that kind.
    """
    scheme, _, rest = text.partition(":")
    if scheme == "discovery":
        return _discovery(rest, settings, owner)
    if scheme not in REGISTRIES:
        raise duplex.ConfigurationError(
            f"unrecognized adapter: {text}: a target is discovery:, or begins with "
            + ", ".join(f"{name}://" for name in REGISTRIES)
        )
    from duplex_services.registration._registries import open_registry

    return open_registry(text, owner, settings.state, settings.options.ttl)


def _discovery(rest: str, settings: Settings, owner: str) -> Target:
    from duplex_services.registration._targets._discovery import DiscoveryTarget

    servers = [part for part in rest.removeprefix("//").split(",") if part] or [
        part for text in settings.discovery for part in text.split(",") if part
    ]
    return DiscoveryTarget(
        _endpoints(servers) or (socket_endpoint("discovery"),), owner, settings.credentials, settings.tls
    )


def _endpoints(servers: Sequence[str]) -> tuple[str, ...]:
    return tuple(server if "://" in server else f"tcp://{server}" for server in servers)
