"""``import duplex`` is quick: what it exports is imported, all at once, when the first name of it is asked for."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import pytest

import duplex
from tests.meta.surface import public_names


def fresh(source: str) -> str:
    """What a new process prints that runs a source text."""
    command = [sys.executable, "-c", source]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


MODULES = (
    "print(*sorted(name for name in sys.modules if name.partition('.')[0] in ('duplex', 'trio', 'zmq')))"
)


@pytest.mark.parametrize(
    "use",
    ["duplex.__version__", "hasattr(duplex, '_no_name')", "hasattr(duplex, '__wrapped__')", "vars(duplex)"],
)
def test_nothing_is_imported_before_a_public_name_is_asked_for(use: str) -> None:
    assert fresh(f"import sys, duplex; {use}; {MODULES}") == "duplex duplex._version"


@pytest.mark.slow
@pytest.mark.parametrize("use", ["duplex.Metadata", "dir(duplex)", "hasattr(duplex, 'no_name')"])
def test_the_first_name_brings_all(use: str) -> None:
    names = fresh(f"import duplex; {use}; print(*vars(duplex))").split()
    assert set(public_names(duplex)) <= set(names)


@pytest.mark.slow
def test_all_names_are_listed_and_imported_by_a_star() -> None:
    assert set(public_names(duplex)) <= set(fresh("import duplex; print(*dir(duplex))").split())
    assert set(public_names(duplex)) <= set(fresh("from duplex import *; print(*globals())").split())


@pytest.mark.slow
def test_threads_that_ask_at_once_all_get_it() -> None:
    source = (
        "import duplex; from concurrent.futures import ThreadPoolExecutor as Pool\n"
        "with Pool(8) as pool: print(len(set(pool.map(lambda _: duplex.Peer, range(100)))))"
    )
    assert fresh(source) == "1"


@pytest.mark.slow
def test_an_error_is_unpickled_where_nothing_was_imported() -> None:
    data = pickle.dumps(duplex.NotFound("gone"))
    assert fresh(f"import pickle; print(repr(pickle.loads({data!r})))") == repr(duplex.NotFound("gone"))


@pytest.mark.slow
def test_testing_alone_brings_the_classes_as_they_are_named_in_public() -> None:
    source = "import duplex.testing, duplex._errors; print(duplex._errors.EncodeError)"
    assert fresh(source) == "<class 'duplex.EncodeError'>"


@pytest.mark.parametrize("name", ["Peeer", "_private"])
def test_a_name_that_is_not_there(name: str) -> None:
    package: Any = duplex
    with pytest.raises(AttributeError, match=f"module 'duplex' has no attribute '{name}'") as caught:
        getattr(package, name)
    assert (caught.value.name, caught.value.obj) == (name, duplex)


def test_what_was_replaced_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplex, "open_peer", None)
    assert not hasattr(duplex, "no_name")
    assert duplex.open_peer is None
