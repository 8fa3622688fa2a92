"""What ``open_store`` says when it cannot."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

import duplex
from duplex_services.store import Unavailable, last_writer_wins, open_store
from duplex_services.store import _open as opening
from tests.meta.layering import ROOT
from tests.services.store.weather import Server, open_weather


@pytest.mark.parametrize("url", ["", "etcdd://a", "file:///x", "redis://a"])
async def test_no_store(url: str) -> None:
    with pytest.raises(duplex.ConfigurationError, match="kind of store"):
        async with open_store(url):
            pass


@pytest.mark.parametrize("option", ["patience", "verify_every"])
@pytest.mark.parametrize("value", [0, -1, "5", None, float("inf")])
async def test_a_time_that_makes_no_sense(option: str, value: Any) -> None:
    with pytest.raises(duplex.ConfigurationError, match=f"{option} is a number of seconds"):
        async with open_store("memory:", **{option: value}):
            pass


async def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(opening._KINDS, "other", ("_needs_other", "other"))

    def without(name: str) -> Any:
        assert name == "duplex_services.store._backends._needs_other"
        raise ModuleNotFoundError("No module named 'otherlib'", name="otherlib")

    monkeypatch.setattr("importlib.import_module", without)
    with pytest.raises(
        duplex.ConfigurationError, match=r"other: needs the library otherlib.*'duplex-rpc\[other\]'"
    ):
        async with open_store("other://host"):
            pass


async def test_a_module_of_ours_that_is_missing_is_no_missing_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(opening._KINDS, "other", ("_gone", "other"))
    with pytest.raises(ModuleNotFoundError, match="_gone"):
        async with open_store("other://host"):
            pass


async def test_opening_what_does_not_answer() -> None:
    backend = Server().client()
    backend.is_away = True
    with pytest.raises(Unavailable, match="nobody is there"):
        async with open_store(backend.opened()):
            pass


async def test_what_the_block_raises_comes_out_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        async with open_store("memory:"):
            raise ZeroDivisionError


async def test_a_fault_of_ours_is_not_hidden() -> None:
    async def broken(commits: object) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with open_weather() as (store, backend):
            backend.commit = broken  # type: ignore[method-assign]
            await store.commit({"a": b""}, when=last_writer_wins)


async def test_a_store_says_where_it_is() -> None:
    async with open_store("memory:mine") as store:
        assert store.address == "memory:mine"
        assert repr(store) == "<Store memory:mine>"
        assert repr(last_writer_wins) == "last_writer_wins"


def test_every_extra_that_is_named_is_there_and_among_those_of_all_services() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    (all_of_them,) = extras["services"]
    for extra in {extra for _, extra in opening._KINDS.values() if extra is not None}:
        assert extras[extra], extra
        assert extra in all_of_them, extra
