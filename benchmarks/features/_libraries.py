"""The libraries that are compared."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import importlib.util
import re
import subprocess
from collections.abc import Mapping
from typing import Final

from benchmarks.features._checks import Checks
from benchmarks.peers import find_program


@dataclasses.dataclass(frozen=True)
class Library:
    """A column of the table.

    Attributes:
        name: of the command line; its checks are in ``benchmarks.features.of_NAME``.
        title: of the column.
        distributions: what is installed, each with a version to be told.
        modules: what has to be there for the checks.
        program: a program that has to be there, too.
    """

    name: str
    title: str
    distributions: tuple[str, ...]
    modules: tuple[str, ...]
    program: str = ""

    @property
    def missing(self) -> str:
        """What is not installed here and needed, as a sentence; empty if all is there."""
        for module in self.modules:
            if importlib.util.find_spec(module) is None:
                return f"there is no module {module} (make features installs it)"
        if self.program and find_program(self.program) is None:
            return f"there is no program {self.program} (apt-get install {self.program})"
        return ""

    @property
    def versions(self) -> Mapping[str, str]:
        """The versions of what is installed here."""
        found = {name: importlib.metadata.version(name) for name in self.distributions}
        program = find_program(self.program) if self.program else None
        if program is not None:
            said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
            match = re.search(r"\d+(?:\.\d+)+", said)
            found[self.program] = match.group() if match else said.strip()
        return found

    def checks(self) -> Checks:
        """Its checks; for this the library need not be installed."""
        checks = importlib.import_module(f"benchmarks.features.of_{self.name}").CHECKS
        assert isinstance(checks, Checks)
        return checks


_GRPC: Final = ("grpcio", "grpcio-health-checking", "grpcio-reflection", "grpcio-channelz")

LIBRARIES: Final[Mapping[str, Library]] = {
    library.name: library
    for library in (
        Library("duplex", "Duplex", ("duplex-rpc", "trio", "pyzmq"), ("duplex", "numpy", "opentelemetry")),
        Library(
            "grpc",
            "gRPC",
            _GRPC,
            ("grpc", "grpc_health", "grpc_reflection", "grpc_channelz", "trustme", "numpy"),
        ),
        Library("nats", "NATS", ("nats-py",), ("nats", "trustme", "numpy"), "nats-server"),
        Library("zerorpc", "zerorpc", ("zerorpc", "pyzmq", "gevent"), ("zerorpc", "numpy")),
        Library("pyro5", "Pyro5", ("Pyro5", "serpent"), ("Pyro5", "trustme", "numpy")),
    )
}
