"""Plain processes: a folder of TOML files, each of which says what is to be listed.

::

    [web]
    ports = [80, "53/udp"]
    labels = { SERVICE_TAGS = "blue" }
"""

from __future__ import annotations

import hashlib
import logging
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, final

import msgspec
import trio

from duplex_services.registration._model import PROCESS, Container
from duplex_services.registration._rules._inspecting import read_port
from duplex_services.registration._source import SourceError

_log: Final = logging.getLogger("duplex")

#: Seconds between two looks at the folder.
_INTERVAL: Final = 1.0


class _Said(msgspec.Struct, forbid_unknown_fields=True):
    """A table of such a file."""

    ports: list[int | str]
    labels: dict[str, str] = {}


@final
class FileSource:
    """What the files of a folder say, those that end with ``.toml``. A process there is one of the host's network.

    A file that makes no sense says what it said before, and ``trouble`` says what is wrong with it.

    Args:
        folder: which.
        owner: whose; files of one name on two hosts are two things.

    Attributes:
        name: ``files``.
        containers: what they say; ``None`` if the folder was never read.
        trouble: what is wrong with the folder, or with a file.
    """

    def __init__(self, folder: Path, owner: str) -> None:
        self.name = "files"
        self.containers: tuple[Container, ...] | None = None
        self.trouble = "it was not read yet"
        self._folder = folder
        self._owner = owner
        self._read: dict[str, tuple[tuple[int, int, int], tuple[Container, ...], str]] = {}

    async def run(self, changed: Callable[[], None]) -> None:
        """Keep ``containers`` true until cancelled."""
        while True:
            before = (self.containers, self.trouble)
            try:
                await self.look()
            except SourceError as error:
                self.trouble = str(error)
            if (self.containers, self.trouble) != before:
                if self.trouble:
                    _log.warning("%s", self.trouble)
                changed()
            await trio.sleep(_INTERVAL)

    async def look(self) -> None:
        """Look once.

        Raises:
            SourceError: the folder cannot be read; what was known stays.
        """
        try:
            await trio.to_thread.run_sync(self._look)
        except OSError as error:
            raise SourceError(f"{self._folder}: {error.strerror}") from error
        self.trouble = "; ".join(problem for _, _, problem in self._read.values() if problem)
        found = tuple(container for name in sorted(self._read) for container in self._read[name][1])
        self.containers = self.containers if found == self.containers else found

    def _look(self) -> None:
        there: dict[str, tuple[tuple[int, int, int], tuple[Container, ...], str]] = {}
        for path in sorted(self._folder.iterdir()):
            if path.suffix != ".toml" or not path.is_file():
                continue
            facts = path.stat()
            version = (facts.st_ino, facts.st_size, facts.st_mtime_ns)
            known = self._read.get(path.name)
            if known is not None and known[0] == version:
                there[path.name] = known
                continue
            try:
                there[path.name] = (version, tuple(_read(path, self._owner)), "")
            except (ValueError, OSError) as error:
                there[path.name] = (version, known[1] if known else (), f"{path}: {error}")
        self._read = there


def _read(path: Path, owner: str) -> list[Container]:
    return [
        _container(path, name, data, owner)
        for name, data in tomllib.loads(path.read_text(encoding="utf-8")).items()
    ]


def _container(path: Path, name: str, data: Any, owner: str) -> Container:
    try:
        said = msgspec.convert(data, _Said)
        ports = tuple(sorted(read_port(str(text)) for text in said.ports))
    except (msgspec.ValidationError, ValueError) as error:
        raise ValueError(f"[{name}]: {error}") from error
    id = hashlib.blake2b(f"{owner}/{path.stem}/{name}".encode(), digest_size=16).hexdigest()
    return Container(
        id=id,
        name=name,
        image=name,
        hostname=name,
        mode=PROCESS,
        labels={"SERVICE_NAME": name, **said.labels},
        exposed=ports,
        inspected={"Id": id, "Name": name, "Config": {"Labels": said.labels}},
    )
