"""What tests ask of the machine: skipped or failed with the reason where it is missing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests import machine


@pytest.fixture(autouse=True)
def nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_install", lambda package: False)
    monkeypatch.delenv("DUPLEX_REQUIRE_SERVICES", raising=False)


def test_program_that_cannot_be_installed() -> None:
    with pytest.raises(pytest.skip.Exception, match="no-such-program is not installed"):
        machine.require_program("no-such-program", package="no-such-package")


@pytest.mark.parametrize(
    ("user", "program", "reason"),
    [(1000, "/sbin/ip", "need root"), (0, None, "iproute2")],
)
def test_namespaces_that_cannot_be_made(
    monkeypatch: pytest.MonkeyPatch, user: int, program: str | None, reason: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(shutil, "which", lambda name: program)
    monkeypatch.setattr(Path, "exists", lambda path: True)
    with pytest.raises(pytest.skip.Exception, match=reason):
        machine.require_namespaces()
    monkeypatch.setenv("DUPLEX_REQUIRE_SERVICES", "1")
    with pytest.raises(pytest.fail.Exception, match=reason):
        machine.require_namespaces()


def test_kernel_without_tun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(Path, "exists", lambda path: False)
    assert machine.why_no_namespaces() == "this kernel has no /dev/net/tun"


def test_namespaces_that_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: f"/sbin/{name}")
    monkeypatch.setattr(Path, "exists", lambda path: True)
    assert machine.why_no_namespaces() is None
