"""The wheel holds what is imported, so that an installation is not a lesser thing than a checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from duplex._version import __version__
from tests.meta.layering import ROOT, python_files

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by the backend that the test extra installs, so that nothing is fetched."""
    target = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", target, ROOT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    [path] = target.glob("*.whl")
    return path


def test_every_module_is_in_the_wheel(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        str(path.relative_to(ROOT))
        for package in ("duplex", "duplex_services")
        for path in python_files(package)
    }
    assert expected - names == set()


def test_the_scenarios_are_in_the_wheel(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    inside = tmp_path / "duplex" / "conformance" / "scenarios"
    expected = {path.name for path in (ROOT / "spec" / "scenarios").iterdir()}
    assert {path.name for path in inside.iterdir()} == expected
    # Away from the checkout, so that they can only come from there.
    listed = subprocess.run(
        [sys.executable, "-m", "duplex", "conformance", "--list", "--only", "dmtp/7/pong"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert "dmtp/7/pong" in listed.stdout


def test_the_wheel_says_it_is_typed(wheel: Path) -> None:
    assert "duplex/py.typed" in zipfile.ZipFile(wheel).namelist()


def test_the_wheel_holds_nothing_else(wheel: Path) -> None:
    tops = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    [info] = [top for top in tops if top.endswith(".dist-info")]
    assert tops == {"duplex", "duplex_services", info}


def test_the_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [info] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = archive.read(info).decode()
        scripts = archive.read(info.replace("METADATA", "entry_points.txt")).decode()
        licenses = [name for name in archive.namelist() if name.endswith("licenses/LICENSE")]
    assert "\nName: duplex-rpc\n" in metadata
    assert f"\nVersion: {__version__}\n" in metadata
    assert "duplex = duplex.cli:main" in scripts
    assert licenses
