"""The ``duplex`` command: a client of the public API, nothing more."""

from __future__ import annotations

from duplex.cli._main import main

__all__ = ("main",)
