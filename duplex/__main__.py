"""``python -m duplex``: the ``duplex`` command."""

from __future__ import annotations

from duplex.cli import main

main()
