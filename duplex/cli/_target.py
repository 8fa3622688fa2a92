"""What ``duplex serve`` serves: from ``file.py``, ``module`` or ``module:attribute`` to services."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import traceback
import types
from pathlib import Path
from typing import Any, Final

import duplex
from duplex.cli._errors import CommandError

_ADVICE: Final = "make a duplex.Service, put @duplex.rpc above its functions, or name an object or a class with such methods"


def load_services(target: str) -> list[duplex.Service]:
    """Return the services that a target stands for.

    Args:
        target: a file that ends in ``.py`` or the dotted name of a module; behind a colon, the name of
            something in it: a ``Service``, a class or an object with ``@rpc`` methods, or a module.

    Raises:
        CommandError: there is no such thing, importing it failed, or there is nothing in it to serve.
    """
    place, _, attribute = target.partition(":")
    found: Any = _import(place)
    label = place
    for name in attribute.split(".") if attribute else ():
        found = _attribute(found, name, label)
        label = _join(label, name)
    try:
        services = _services(found, label)
        for service in services:
            # Annotations that could not be resolved so far are now, or never.
            len(service.methods)
    except duplex.ConfigurationError as error:
        raise CommandError(f"{label} cannot be served: {error}") from None
    return services


def load_function(target: str) -> Any:
    """Return what ``file.py:name`` or ``module:name`` stands for, with dots if it lies deeper.

    Raises:
        CommandError: there is no such thing, or importing it failed.
    """
    place, _, attribute = target.partition(":")
    if not attribute:
        raise CommandError(f"{target} names no function: it is given as file.py:name or module:name")
    found: Any = _import(place)
    for name in attribute.split("."):
        found = _attribute(found, name, place)
        place = _join(place, name)
    return found


def target_name(target: str) -> str:
    """Return a name for the peer that serves a target."""
    place = target.partition(":")[0]
    return Path(place).stem if _is_file(place) else place.rpartition(".")[2]


def _join(label: str, name: str) -> str:
    return f"{label}{'.' if ':' in label else ':'}{name}"


def _services(found: Any, label: str) -> list[duplex.Service]:
    if isinstance(found, duplex.Service):
        return [found]
    if isinstance(found, types.ModuleType):
        services = duplex.services_of(found)
        if not services:
            raise CommandError(f"{label} has nothing to serve: {_ADVICE}, as in {_join(label, 'NAME')}")
        return services
    if isinstance(found, type):
        found = _instance(found, label)
    elif inspect.isroutine(found):
        raise CommandError(
            f"{label} is a function; serve its module, in which @duplex.rpc marks what to serve"
        )
    return [duplex.Service.from_object(found)]


def _instance(cls: type, label: str) -> object:
    try:
        inspect.signature(cls).bind()
    except TypeError as error:
        raise CommandError(
            f"{label} cannot be made without arguments ({error}); make an object of it in the module, and name that"
        ) from None
    except ValueError:
        pass  # Python does not know, so try
    try:
        return cls()
    except Exception as error:
        raise CommandError(f"{label} cannot be made:\n{_trimmed(error)}") from None


def _attribute(found: Any, name: str, label: str) -> Any:
    try:
        return getattr(found, name)
    except AttributeError:
        names = [other for other in dir(found) if not other.startswith("_")]
        raise CommandError(
            f"{label} has no attribute {name!r}; it has {', '.join(names) or 'none'}"
        ) from None


# -- importing -------------------------------------------------------------------------------------------


def _is_file(place: str) -> bool:
    return place.endswith(".py") or os.sep in place


def _import(place: str) -> types.ModuleType:
    if not place:
        raise CommandError("a target is file.py, module or module:attribute")
    return _import_file(Path(place)) if _is_file(place) else _import_module(place)


def _import_file(path: Path) -> types.ModuleType:
    if path.is_dir():
        raise CommandError(f"{path} is a folder; name a file in it, or the module that it is")
    if not path.exists():
        raise CommandError(f"there is no file {path}")
    name = path.stem
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path.resolve()):
        return known  # several things of it are asked for
    if name in sys.modules or name in sys.stdlib_module_names:
        raise CommandError(
            f"{path} has the name of the module {name!r}, which it would hide; give it another"
        )
    # As `python file.py` has it.
    sys.path.insert(0, str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise CommandError(f"{path} is no Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise CommandError(f"importing {path} failed:\n{_trimmed(error)}") from None
    return module


def _import_module(name: str) -> types.ModuleType:
    # As `python -m module` has it.
    sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and (missing == name or name.startswith(f"{missing}.")):
            raise CommandError(
                f"there is no module {missing!r} here or among the installed ones; a file's name ends in .py"
            ) from None
        raise CommandError(f"importing {name} failed:\n{_trimmed(error)}") from None


def _trimmed(error: BaseException) -> str:
    """Return the traceback of an error without what this package and Python's importing add to it."""
    frames = error.__traceback__
    while frames is not None and _is_ours(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    lines = traceback.format_exception(type(error), error, frames)
    return "".join(lines).rstrip()


def _is_ours(filename: str) -> bool:
    return filename == __file__ or filename.startswith("<frozen importlib") or filename == importlib.__file__
