"""Installs the peers of the extra ``bench``: ``python benchmarks/_install.py``, by the interpreter of their venv.

One package that cannot be had must not keep the others out: if all at once does not work, each is tried alone, and
what failed is named. The benchmarks then show its peer as missing.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Install, and return 1 if not even Duplex itself could be installed."""
    if not _pip("-e", str(ROOT)):
        return 1
    with (ROOT / "pyproject.toml").open("rb") as file:
        pinned: list[str] = tomllib.load(file)["project"]["optional-dependencies"]["bench"]
    if _pip(*pinned):
        return 0
    failed = [requirement for requirement in pinned if not _pip(requirement)]
    for requirement in failed:
        print(f"could not be installed, and is missing from the benchmarks: {requirement}", file=sys.stderr)
    return 0


def _pip(*arguments: str) -> bool:
    command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
