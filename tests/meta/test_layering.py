"""Imports only point down. The rules are in ``layering.py``; here they meet the code, and bad inventions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.meta.layering import (
    LEVELS,
    ROOMS,
    ROOT,
    circle_of,
    cycle,
    imports_of,
    layer_problems,
    module_name,
    outside_problems,
    python_files,
    service_problems,
)

FILES = {module_name(path): path for path in python_files("duplex")}
SERVICE_FILES = {module_name(path): path for path in python_files("duplex_services")}
OUTSIDE = [path for folder in ("duplex_services", "benchmarks", "examples") for path in python_files(folder)]


@pytest.mark.parametrize("module", sorted(FILES))
def test_module_keeps_to_its_layer(module: str) -> None:
    path = FILES[module]
    problems = layer_problems(
        module,
        path.read_text(encoding="utf-8"),
        is_package=path.name == "__init__.py",
        modules=frozenset(FILES),
    )
    assert not problems, "\n".join(problems)


def test_no_import_cycle() -> None:
    sources = {module: path.read_text(encoding="utf-8") for module, path in FILES.items()}
    packages = frozenset(module for module, path in FILES.items() if path.name == "__init__.py")
    assert cycle(sources, packages, of_types=True) == []


@pytest.mark.parametrize("module", sorted(SERVICE_FILES))
def test_service_keeps_to_its_layer(module: str) -> None:
    path = SERVICE_FILES[module]
    source = path.read_text(encoding="utf-8")
    problems = service_problems(module, source, is_package=path.name == "__init__.py")
    assert not problems, "\n".join(problems)


def test_no_import_cycle_among_the_services() -> None:
    sources = {module: path.read_text(encoding="utf-8") for module, path in SERVICE_FILES.items()}
    packages = frozenset(module for module, path in SERVICE_FILES.items() if path.name == "__init__.py")
    assert cycle(sources, packages, of_types=True) == []


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_know_nobody_who_knows_them(room: str) -> None:
    sources = {module: path.read_text(encoding="utf-8") for module, path in FILES.items()}
    packages = frozenset(module for module, path in FILES.items() if path.name == "__init__.py")
    assert circle_of(room, sources, packages) == []


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: str(path.relative_to(ROOT)))
def test_outside_code_uses_public_names(path: Path) -> None:
    problems = outside_problems(module_name(path), path.read_text(encoding="utf-8"))
    assert not problems, "\n".join(problems)


def test_levels_are_those_of_the_plan() -> None:
    plan = (ROOT / "docs/design/plan.md").read_text(encoding="utf-8")
    written: dict[str, int] = {}
    for level, packages in re.findall(r"^\| (\d) \| ([^|]*) \|", plan, flags=re.MULTILINE):
        for name in " ".join(re.findall(r"`([^`]*)`", packages)).split():
            written[name if name.startswith("duplex.") else f"duplex.{name}"] = int(level)
    assert written == dict(LEVELS)


# ------------------------------------------------------------------------- the checks can fail


@pytest.mark.parametrize(
    ("module", "source", "reason"),
    [
        ("duplex.engine._link", "from duplex.client import Proxy", "points up, from level 4 to 5"),
        ("duplex.engine._link", "from ..cli import main", "points up"),
        ("duplex.engine._link", "import duplex", "points up"),
        ("duplex.engine._link", "from duplex import _peer", "points up"),
        ("duplex.codec._base", "if TYPE_CHECKING:\n    from duplex.engine import Link", "points up"),
        ("duplex.client._proxy", "from duplex.service import Service", "must not know"),
        ("duplex.service._rpc", "import duplex.client._proxy", "must not know"),
        ("duplex.transports._memory", "from duplex.protocol import Connection", "must not know"),
        ("duplex.engine._link", "def f():\n    from duplex._errors import RPCError", "top of the module"),
        (
            "duplex.engine._link",
            "f = lambda: 1\nclass A:\n    def g(self):\n        import duplex.codec",
            "top",
        ),
        ("duplex.engine._link", "from duplex.newcomer import x", "no level"),
        ("duplex.newcomer", "", "no level"),
        ("duplex.protocol._state", "import time", "no clock"),
        ("duplex.protocol._state", "if 1:\n    from random import random", "no clock"),
        ("duplex.protocol._state", "import trio", "trio begins"),
        ("duplex.protocol._state", "import numpy", "does not use numpy"),
        ("duplex._errors", "import msgspec", "does not use msgspec"),
        ("duplex._errors", "import trio", "trio begins"),
        ("duplex._config", "def f():\n    import time", "no clock"),
        ("duplex.codec._base", "import trio.abc", "trio begins"),
        ("duplex.codec._base", "import zmq", "home"),
        ("duplex.transports._memory", "import zmq", "home"),
        ("duplex.transports.zmtp._frames", "import socket", "no clock, no chance and no I/O"),
        ("duplex.transports.zmtp", "import trio", "no clock, no chance and no I/O"),
        ("duplex.engine._link", "from zmq.utils import monitor", "home"),
        ("duplex.engine._link", "import rich.table", "home"),
        ("duplex.client._proxy", "import click", "home"),
    ],
)
def test_bad_import_is_found(module: str, source: str, reason: str) -> None:
    problems = layer_problems(module, source, modules=frozenset({"duplex.newcomer"}))
    assert len(problems) == 1, problems
    assert reason in problems[0]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("duplex._errors", "from duplex._status import StatusCode\nimport enum"),
        (
            "duplex.protocol._state",
            "from ._events import Event\nimport msgspec\nfrom duplex._errors import X",
        ),
        ("duplex.transports._zmq_socket", "import zmq, trio, time"),
        (
            "duplex.engine._link",
            "from duplex.codec._base import Codec\nfrom duplex.engine.channels._types import Channel",
        ),
        ("duplex.cli._call", "def f():\n    import duplex\n    from duplex import open_peer, _peer"),
        ("duplex.builtin._health", "from duplex._peer import Peer"),
        ("duplex.__main__", "from duplex.cli import main"),
    ],
)
def test_good_import_passes(module: str, source: str) -> None:
    assert layer_problems(module, source) == []


@pytest.mark.parametrize(
    ("module", "source", "reason"),
    [
        ("duplex_services.store._x", "from duplex_services.discovery import client", "store must not know"),
        ("duplex_services._shared._x", "import duplex_services.store", "_shared must not know"),
        ("duplex_services.mesh._x", "from duplex_services.discovery import Directory", "through"),
        ("duplex_services.mesh._x", "from duplex_services.discovery._view import View", "through"),
        ("duplex_services.discovery._x", "from duplex_services.store._store import Store", "through"),
        ("duplex_services.registration._x", "import duplex_services.ambassador.client", "must not know"),
        ("duplex_services.ambassador._x", "from duplex_services.scheduling import client", "must not know"),
        ("duplex_services.other._x", "", "no known service"),
        ("duplex_services.store._x", "from duplex_services.other import x", "no service other"),
        ("duplex_services.store._rules._x", "import time", "no clock"),
        ("duplex_services.store._rules", "import trio", "no clock"),
        ("duplex_services.store._model", "from random import random", "no clock"),
        ("duplex_services.mesh._decide", "import socket", "no clock"),
    ],
)
def test_bad_import_of_a_service_is_found(module: str, source: str, reason: str) -> None:
    problems = service_problems(module, source)
    assert len(problems) == 1, problems
    assert reason in problems[0]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("duplex_services", "import duplex"),
        ("duplex_services.discovery._x", "from duplex_services.store import open_store"),
        ("duplex_services.discovery._x", "import duplex_services.store"),
        ("duplex_services.discovery._x", "from duplex_services.store.client import Entry"),
        ("duplex_services.mesh._x", "from duplex_services.discovery import client"),
        ("duplex_services.scheduling._x", "from duplex_services.ambassador.client import Route"),
        ("duplex_services.mesh._x", "from duplex_services._shared._background import background"),
        ("duplex_services.store._x", "import time, trio\nfrom duplex_services.store._rules import _keys"),
        ("duplex_services.store._rules._x", "import msgspec, duplex, math"),
    ],
)
def test_good_import_of_a_service_passes(module: str, source: str) -> None:
    assert service_problems(module, source) == []


def test_the_core_knows_no_service() -> None:
    problems = layer_problems("duplex.cli._main", "def f():\n    import duplex_services.store")
    assert len(problems) == 1
    assert "through entry points" in problems[0]


def test_cycle_is_found() -> None:
    sources = {
        "duplex.engine": "from duplex.engine._a import A",
        "duplex.engine._a": "from . import _b",
        "duplex.engine._b": "import duplex.engine._a",
    }
    packages = frozenset({"duplex.engine"})
    assert set(cycle(sources, packages)) == {"duplex.engine._a", "duplex.engine._b"}
    sources["duplex.engine._b"] = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import _a"
    assert cycle(sources, packages) == []
    assert set(cycle(sources, packages, of_types=True)) == {"duplex.engine._a", "duplex.engine._b"}


def test_circle_of_knowledge_is_found() -> None:
    sources = {
        "duplex.room": "",
        "duplex.room._a": "from duplex.below import b\nfrom duplex.room._c import C",
        "duplex.room._c": "import duplex.room._a",
        "duplex.below": "from duplex._deeper import D",
        "duplex._deeper": "if TYPE_CHECKING:\n    from duplex.above import A",
        "duplex.above": "import trio\nfrom duplex.room._a import a",
    }
    packages = frozenset({"duplex.room"})
    way = ["duplex.room._a", "duplex.below", "duplex._deeper", "duplex.above", "duplex.room._a"]
    assert circle_of("duplex.room", sources, packages) == way
    sources["duplex._deeper"] = ""
    assert circle_of("duplex.room", sources, packages) == []


def test_relative_imports_are_resolved() -> None:
    assert imports_of("from .a import b", "duplex.codec", is_package=True)[0].full == "duplex.codec.a.b"
    assert imports_of("from .a import b", "duplex.codec._x")[0].full == "duplex.codec.a.b"
    assert imports_of("from ..a import b", "duplex.codec._x")[0].full == "duplex.a.b"
    assert imports_of("from .. import b", "duplex.codec._x")[0].full == "duplex.b"


@pytest.mark.parametrize(
    "source",
    [
        "from duplex._peer import Peer",
        "from duplex import _peer",
        "from duplex import engine",
        "import duplex.engine._link",
        "from duplex.engine import Link",
        "from duplex.testing import _pairs",
        "import duplex\nduplex._errors.RPCError",
        "import duplex\nduplex.engine.Link",
    ],
)
def test_private_use_from_outside_is_found(source: str) -> None:
    assert outside_problems("examples.bad", source)


@pytest.mark.parametrize(
    "source",
    [
        "import duplex\nduplex.open_peer()\nduplex.__version__",
        "from duplex import Service, testing",
        "from duplex.testing import open_peer_pair",
        "from duplex_services._shared import anything",
    ],
)
def test_public_use_from_outside_passes(source: str) -> None:
    assert outside_problems("examples.good", source) == []
