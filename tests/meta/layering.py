"""Reads imports with :mod:`ast` and says which of them break the layers of ``docs/design/plan.md``.

The levels and the rules are data, at the top; the functions below turn one source text into a list of
problems, so that the checks can be tried on invented sources.
"""

from __future__ import annotations

import ast
import dataclasses
import fnmatch
import functools
import graphlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]

#: The table of ``docs/design/plan.md``; a test compares the two.
LEVELS: Final[Mapping[str, int]] = {
    "duplex._authentication": 0,
    "duplex._elements": 0,
    "duplex._errors": 0,
    "duplex._backoff": 0,
    "duplex._balancing": 0,
    "duplex._status": 0,
    "duplex._identity": 0,
    "duplex._metadata": 0,
    "duplex._config": 0,
    "duplex._made": 0,
    "duplex._names": 0,
    "duplex._numbers": 0,
    "duplex._policies": 0,
    "duplex._version": 0,
    "duplex.protocol": 1,
    "duplex.codec": 2,
    "duplex.transports": 3,
    "duplex.engine": 4,
    "duplex.resolvers": 4,
    "duplex.service": 5,
    "duplex.client": 5,
    "duplex._peer": 6,
    "duplex._open": 6,
    "duplex._registering": 6,
    "duplex.builtin": 6,
    "duplex.middleware": 6,
    "duplex.testing": 6,
    "duplex.conformance": 6,
    "duplex.cli": 7,
}

#: What the table leaves out because it has no content of its own: the re-exports, and ``python -m duplex``.
FRONT: Final[Mapping[str, int]] = {"duplex": 6, "duplex._public": 6, "duplex.__main__": 7}

#: Parts of packages that know nobody who knows them, not even by a type.
ROOMS: Final = (
    "duplex.engine.threads",
    "duplex.engine.channels",
    "duplex.engine.tasks",
    "duplex.engine.calling",
    "duplex.engine.serving",
    "duplex.engine.links",
    "duplex.client",
    "duplex.client.balancing",
    "duplex.client.following",
)

#: Imports (importer, imported) that the levels alone would allow.
FORBIDDEN: Final = frozenset(
    {
        ("duplex.service", "duplex.client"),
        ("duplex.client", "duplex.service"),
        ("duplex.codec", "duplex.protocol"),
        ("duplex.transports", "duplex.protocol"),
        ("duplex.transports", "duplex.codec"),
        # What checks the wire must not share the mistakes of what it checks.
        ("duplex.conformance", "duplex.protocol"),
        ("duplex.conformance", "duplex.codec"),
        ("duplex.conformance", "duplex.transports"),
        ("duplex.conformance", "duplex.engine"),
        ("duplex.conformance", "duplex.service"),
        ("duplex.conformance", "duplex.client"),
    }
)

#: What has a clock, chance, threads or a network inside, and so is closed to levels 0 and 1.
IMPURE: Final = frozenset(
    {"asyncio", "multiprocessing", "random", "sched", "secrets", "select", "selectors", "socket", "ssl"}
    | {"subprocess", "threading", "time"}
)

#: Rooms of higher levels that are closed to these as well, and to trio.
SANS_IO: Final = ("duplex.transports.zmtp",)

#: What level 1 may use beside the standard library. Level 0 may use nothing.
WIRE_LIBRARIES: Final = frozenset({"msgpack", "msgspec"})

#: The lowest level that may import trio.
TRIO_FROM: Final = 3

#: Libraries with one home: only modules whose name matches may import them.
HOMES: Final[Mapping[str, tuple[str, ...]]] = {
    # The tool that checks other implementations has sockets of its own, and one module for them.
    "zmq": ("duplex.transports._zmq*", "duplex.conformance._wire"),
    "click": ("duplex.cli", "duplex.cli.*"),
    "dns": ("duplex.resolvers._dns",),
    "opentelemetry": ("duplex.middleware._trace",),
    "rich": ("duplex.cli", "duplex.cli.*"),
}

#: Where duplex modules may be imported inside functions, for the time that ``duplex --help`` takes.
LAZY: Final = frozenset({"duplex", "duplex.cli"})

#: What code outside the package may import.
PUBLIC_MODULES: Final = frozenset(
    {
        "duplex",
        "duplex.middleware",
        "duplex.builtin",
        "duplex.cli.live",
        "duplex.cli.options",
        "duplex.conformance",
        "duplex.resolvers",
        "duplex.testing",
        "duplex.transports",
    }
)


#: The services of ``duplex_services``, as docs/design/plan.md orders them: each may use those below it.
SERVICES: Final[Mapping[str, int]] = {
    "_shared": 0,
    "store": 1,
    "discovery": 2,
    "registration": 3,
    "ambassador": 3,
    "configuration": 3,
    "scheduling": 3,
    "mesh": 4,
}

#: What one service may use of another beside its ``client``: all of what has no client, and the store's own faces.
FACES: Final = frozenset(
    {
        "duplex_services.store",
        "duplex_services.store.backups",
        "duplex_services.store.commands",
        "duplex_services.store.consul",
    }
)

#: Uses between services of one level (user, used).
BESIDE: Final = frozenset({("scheduling", "ambassador")})

#: Rooms of a service that decide or name things, and so do no I/O and know no time.
PURE_ROOMS: Final = ("_model", "_decide", "_rules", "_rules.*")


@dataclasses.dataclass(frozen=True)
class Import:
    """One imported name. ``from a.b import c`` gives module ``a.b`` and name ``c``; ``import a.b`` no name."""

    module: str
    name: str | None
    line: int
    #: Inside a function.
    nested: bool
    #: Under ``if TYPE_CHECKING``.
    typing_only: bool

    @property
    def full(self) -> str:
        """The dotted name of what is imported."""
        return self.module if self.name is None else f"{self.module}.{self.name}"

    @property
    def distribution(self) -> str:
        """The first part, ``zmq`` for ``zmq.green``."""
        return self.module.partition(".")[0]


@functools.cache  # Many tests ask for the same modules' imports, each for all of them.
def imports_of(source: str, module: str, *, is_package: bool = False) -> tuple[Import, ...]:
    """Every import in ``source``, wherever it stands, relative ones resolved for the module's name."""
    package = module if is_package else module.rpartition(".")[0]
    return tuple(_walk(ast.parse(source), package, nested=False, typing_only=False))


def _walk(node: ast.AST, package: str, *, nested: bool, typing_only: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, None, child.lineno, nested, typing_only)
        elif isinstance(child, ast.ImportFrom):
            base = _absolute(child, package)
            for alias in child.names:
                yield Import(base, alias.name, child.lineno, nested, typing_only)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for part in child.body:
                yield from _walk(ast.Module([part], []), package, nested=nested, typing_only=True)
            for part in child.orelse:
                yield from _walk(ast.Module([part], []), package, nested=nested, typing_only=typing_only)
        else:
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _walk(child, package, nested=nested or function, typing_only=typing_only)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if node.level == 0:
        return node.module or ""
    base = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def is_duplex(imported: Import) -> bool:
    """Whether the import is of the package, and not of ``duplex_services``."""
    return imported.distribution == "duplex"


def area_of(dotted: str) -> str | None:
    """The part of the package that a dotted name belongs to; ``None`` if it has no level.

    A name that ``duplex/__init__.py`` re-exports belongs to ``duplex`` itself.
    """
    parts = dotted.split(".")
    if len(parts) == 1:
        return parts[0]
    area = ".".join(parts[:2])
    return area if area in LEVELS or area in FRONT else None


def _target_area(imported: Import, modules: frozenset[str]) -> str | None:
    if imported.module != "duplex" or imported.name is None:
        return area_of(imported.module)
    area = area_of(imported.full)
    if area is None and imported.full not in modules:
        return "duplex"
    return area


def layer_problems(
    module: str, source: str, *, is_package: bool = False, modules: frozenset[str] = frozenset()
) -> list[str]:
    """What one module of ``duplex`` imports against the rules.

    ``modules`` are the names of all modules, to tell ``from duplex import Peer`` from the import of a module
    that has no level.
    """
    area = area_of(module)
    if area is None:
        return [f"{module} has no level: give it one in docs/design/plan.md and in {Path(__file__).name}"]
    level = {**LEVELS, **FRONT}[area]
    found: list[str] = []
    for imported in imports_of(source, module, is_package=is_package):
        where = f"{module}:{imported.line} imports {imported.full}"
        if is_duplex(imported):
            reason = _inner_reason(area, level, imported, modules)
        else:
            reason = _outer_reason(module, level, imported)
        if reason is not None:
            found.append(f"{where}: {reason}")
    return found


def service_problems(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """What one module of ``duplex_services`` imports against the order of the services, and of their rooms."""
    parts = module.split(".")
    if len(parts) == 1:
        return []
    service, room = parts[1], ".".join(parts[2:])
    if service not in SERVICES:
        return [f"{module} is of no known service: give it a level in {Path(__file__).name}"]
    is_pure = any(fnmatch.fnmatchcase(room, pattern) for pattern in PURE_ROOMS)
    found: list[str] = []
    for imported in imports_of(source, module, is_package=is_package):
        name = imported.distribution
        reason = None
        if name == "duplex_services":
            reason = _service_reason(service, imported)
        elif is_pure and (name in IMPURE or name == "trio"):
            reason = "what decides has no clock, no chance and no I/O"
        if reason is not None:
            found.append(f"{module}:{imported.line} imports {imported.full}: {reason}")
    return found


def _service_reason(service: str, imported: Import) -> str | None:
    target = imported.full.split(".")[1]
    if target == service:
        return None
    if target not in SERVICES:
        return f"there is no service {target}"
    if SERVICES[target] >= SERVICES[service] and (service, target) not in BESIDE:
        return f"{service} must not know {target}"
    if target == "_shared" or imported.module in FACES or imported.full in FACES:
        return None
    client = f"duplex_services.{target}.client"
    if imported.module != client and imported.full != client:
        return f"services use each other through {client}"
    return None


def _inner_reason(area: str, level: int, imported: Import, modules: frozenset[str]) -> str | None:
    target = _target_area(imported, modules)
    if target is None:
        return "that has no level in docs/design/plan.md"
    target_level = {**LEVELS, **FRONT}[target]
    if (area, target) in FORBIDDEN:
        return f"{area} must not know {target}"
    if target_level > level:
        return f"that points up, from level {level} to {target_level}"
    if imported.nested and area not in LAZY:
        return "imports of the package stand at the top of the module"
    return None


def _outer_reason(module: str, level: int, imported: Import) -> str | None:
    name = imported.distribution
    if name == "duplex_services":
        return "the services stand on duplex, and are found by it through entry points"
    home = HOMES.get(name)
    if home is not None and not any(fnmatch.fnmatchcase(module, pattern) for pattern in home):
        return f"{name} has its home in {' and '.join(home)}"
    if name == "trio" and level < TRIO_FROM:
        return f"trio begins at level {TRIO_FROM}"
    if any(module == room or module.startswith(f"{room}.") for room in SANS_IO):
        return (
            "what speaks a protocol has no clock, no chance and no I/O" if name in IMPURE | {"trio"} else None
        )
    if level > 1:
        return None
    if name in IMPURE:
        return f"level {level} has no clock, no chance and no I/O"
    if name not in sys.stdlib_module_names and not (level == 1 and name in WIRE_LIBRARIES):
        return f"level {level} does not use {name}"
    return None


def cycle(sources: Mapping[str, str], packages: frozenset[str], *, of_types: bool = False) -> list[str]:
    """The modules of one import cycle, empty if there is none. Imports for types alone count if that is asked for."""
    graph: dict[str, set[str]] = {}
    for module, source in sources.items():
        targets = set()
        for imported in imports_of(source, module, is_package=module in packages):
            if imported.nested or (imported.typing_only and not of_types):
                continue
            target = imported.full if imported.full in sources else imported.module
            if target in sources and target != module:
                targets.add(target)
        graph[module] = targets
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def circle_of(room: str, sources: Mapping[str, str], packages: frozenset[str]) -> list[str]:
    """How what a room knows leads back to it: modules, each of which imports the next one, be it for types alone; empty
    if it does not.

    What is in the room is known by those above it, and knows nobody of whom that holds: then it can be read, tested and
    changed by itself.
    """
    graph = {
        module: {
            target
            for imported in imports_of(source, module, is_package=module in packages)
            if (target := imported.full if imported.full in sources else imported.module) in sources
        }
        for module, source in sources.items()
    }
    within = {module for module in sources if module == room or module.startswith(f"{room}.")}
    ways = [
        [module, target]
        for module in sorted(within)
        for target in sorted(graph[module])
        if target not in within
    ]
    seen = {way[-1] for way in ways}
    while ways:
        way = ways.pop(0)
        for target in sorted(graph[way[-1]]):
            if target in within:
                return [*way, target]
            if target not in seen:
                seen.add(target)
                ways.append([*way, target])
    return []


def outside_problems(name: str, source: str) -> list[str]:
    """What code outside the package, such as an example, uses of it that is not public."""
    found = []
    for imported in imports_of(source, name):
        if not is_duplex(imported):
            continue
        inner = imported.full in LEVELS or imported.full in FRONT
        private = (imported.name or "").startswith("_") and imported.name != "__version__"
        if (
            imported.module not in PUBLIC_MODULES
            or private
            or (inner and imported.full not in PUBLIC_MODULES)
        ):
            found.append(f"{name}:{imported.line} imports {imported.full}, which is not public")
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)):
            continue
        full = f"duplex.{node.attr}"
        private = node.attr.startswith("_") and node.attr != "__version__"
        if node.value.id == "duplex" and (private or (full in LEVELS and full not in PUBLIC_MODULES)):
            found.append(f"{name}:{node.lineno} uses {full}, which is not public")
    return found


def module_name(path: Path) -> str:
    """The dotted name of a file of the repository."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def python_files(folder: str) -> list[Path]:
    """The Python files below a folder of the repository, sorted."""
    return sorted((ROOT / folder).rglob("*.py"))
