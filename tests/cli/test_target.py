"""What ``duplex serve`` finds to serve in a target."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

import duplex
from duplex.cli._errors import CommandError
from duplex.cli._target import load_services, target_name
from tests.cli.harness import TARGETS

PLAIN = TARGETS / "plain.py"


pytestmark = pytest.mark.usefixtures("forget_imports")


def names(target: object) -> list[tuple[str, list[str]]]:
    """The services of a target, with their methods."""
    return [(service.name, sorted(service.methods)) for service in load_services(str(target))]


def write(folder: Path, name: str, source: str) -> Path:
    """Make a file."""
    path = folder / name
    path.write_text(source)
    return path


def test_a_file() -> None:
    (service,) = load_services(str(PLAIN))
    assert (service.name, service.version, list(service.methods)) == ("plain", "3.2.1", ["greet"])
    assert str(TARGETS) == sys.path[0]


def test_a_file_with_services(tmp_path: Path) -> None:
    source = "import duplex\na = duplex.Service('a')\nb = duplex.Service('b.c')\n@a.rpc\ndef go(): ...\n"
    assert names(write(tmp_path, "several.py", source)) == [("a", ["go"]), ("b.c", [])]


def test_a_file_that_imports_its_neighbour(tmp_path: Path) -> None:
    write(tmp_path, "neighbour.py", "import duplex\n@duplex.rpc\ndef go(): ...\n")
    assert names(write(tmp_path, "importer.py", "from neighbour import go\n")) == [("importer", ["go"])]


def test_a_module_of_the_present_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TARGETS)
    assert names("plain") == [("plain", ["greet"])]


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [("Counter", ("counter", ["up"])), ("deep", ("named", ["name_of"]))],
)
def test_an_attribute(attribute: str, expected: object) -> None:
    assert names(f"{PLAIN}:{attribute}") == [expected]


def test_a_class_whose_signature_python_does_not_know(tmp_path: Path) -> None:
    source = "import duplex\nclass Table(dict):\n    @duplex.rpc\n    def look(self, key: str): ...\n"
    assert names(f"{write(tmp_path, 'tables.py', source)}:Table") == [("table", ["look"])]


def test_an_attribute_of_an_attribute(tmp_path: Path) -> None:
    write(tmp_path, "inner.py", "import duplex\nclass Outer:\n    service = duplex.Service('deep')\n")
    path = write(tmp_path, "outer.py", "import inner\n")
    assert names(f"{path}:inner.Outer.service") == [("deep", [])]


def test_an_attribute_with_nothing_to_serve(tmp_path: Path) -> None:
    write(tmp_path, "empty.py", "")
    path = write(tmp_path, "outer.py", "import empty\n")
    with pytest.raises(CommandError, match=r"outer.py:empty has nothing to serve: .*, as in .*:empty\.NAME"):
        load_services(f"{path}:empty")


def test_a_module_as_an_attribute(tmp_path: Path) -> None:
    write(tmp_path, "served.py", "import duplex\nmine = duplex.Service('mine')\n")
    assert names(f"{write(tmp_path, 'server.py', 'import served')}:served") == [("mine", [])]


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("nope", "has no attribute 'nope'; it has Counter, Named, Picky, Silent, "),
        ("Counter.nope", "plain.py:Counter has no attribute 'nope'; it has up"),
        ("Named", "Named cannot be made without arguments (missing a required argument: 'name')"),
        ("Picky", "Picky cannot be made:\nTraceback (most recent call last):\n"),
        ("greet", "greet is a function; serve its module"),
        ("silent", "silent cannot be served: Silent has no methods that are decorated with @duplex.rpc"),
        ("Silent", "Silent cannot be served: Silent has no methods"),
        ("__version__", "__version__ cannot be served: str has no methods"),
    ],
)
def test_attributes_that_cannot_be_served(attribute: str, message: str) -> None:
    with pytest.raises(CommandError) as caught:
        load_services(f"{PLAIN}:{attribute}")
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("", "a target is file.py, module or module:attribute"),
        (":x", "a target is file.py, module or module:attribute"),
        ("nowhere/at/all.py", "there is no file nowhere/at/all.py"),
        (str(TARGETS), "is a folder; name a file in it"),
        ("no_such_module", "there is no module 'no_such_module' here or among the installed ones"),
        ("no_such_module.inner", "there is no module 'no_such_module' here"),
        ("duplex.no_such_module", "there is no module 'duplex.no_such_module' here"),
        ("this_is_no.module name", "there is no module"),
        ("..relative", "importing ..relative failed"),
        ("json", "json has nothing to serve: make a duplex.Service, put @duplex.rpc above"),
    ],
)
def test_targets_that_are_not_there(target: str, message: str) -> None:
    with pytest.raises(CommandError) as caught:
        load_services(target)
    assert message in str(caught.value)


def test_a_file_that_hides_a_module(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"has the name of the module 'json', which it would hide"):
        load_services(str(write(tmp_path, "json.py", "")))


def test_a_file_that_is_not_python(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"is no Python file: its name must end in \.py"):
        load_services(str(write(tmp_path, "service.txt", "")))


def test_a_file_that_fails_shows_its_own_traceback_only(tmp_path: Path) -> None:
    path = write(tmp_path, "failing.py", "def go():\n    raise OSError('disk on fire')\n\ngo()\n")
    with pytest.raises(CommandError) as caught:
        load_services(str(path))
    message = str(caught.value)
    assert message.startswith(f"importing {path} failed:\nTraceback (most recent call last):\n")
    assert message.endswith("OSError: disk on fire")
    assert [line.split('"')[1] for line in message.splitlines() if "File " in line] == [str(path)] * 2


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def (:\n", "SyntaxError"),
        ("import no_such_module\n", "No module named 'no_such_module'"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
        ("import duplex\n@duplex.rpc\ndef _private(): ...\n", "begins with an underscore"),
    ],
)
def test_a_module_that_cannot_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    write(tmp_path, "broken_target.py", source)
    monkeypatch.chdir(tmp_path)
    for target in ("broken_target", "broken_target.py"):
        sys.modules.pop("broken_target", None)
        with pytest.raises(CommandError) as caught:
            load_services(target)
        assert str(caught.value).startswith(f"importing {target} failed:\n")
        assert message in str(caught.value)
        assert "importlib" not in str(caught.value)


def test_services_of_one_name(tmp_path: Path) -> None:
    path = write(tmp_path, "twice.py", "import duplex\na = duplex.Service('a')\nb = duplex.Service('a')\n")
    with pytest.raises(
        CommandError, match=r"twice.py cannot be served: twice has two services that are called 'a'"
    ):
        load_services(str(path))


def test_annotations_that_stay_unknown(tmp_path: Path) -> None:
    source = "import duplex\na = duplex.Service('a')\n@a.rpc\ndef go(x: 'Missing'): ...\n"
    with pytest.raises(CommandError, match="the annotation 'Missing' cannot be resolved"):
        load_services(str(write(tmp_path, "unknown.py", source)))


@pytest.mark.parametrize(
    ("target", "name"),
    [("a/b/calc.py", "calc"), ("calc.py:Thing", "calc"), ("package.calc", "calc"), ("calc:thing", "calc")],
)
def test_the_name_of_the_peer(target: str, name: str) -> None:
    assert target_name(target) == name


def test_what_is_loaded_is_a_service() -> None:
    module = types.ModuleType("loaded")
    sys.modules["loaded"] = module
    module.__dict__["service"] = duplex.Service("mine")
    assert names("loaded:service") == [("mine", [])]
    assert names("loaded") == [("mine", [])]
