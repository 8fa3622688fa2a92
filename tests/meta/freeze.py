"""Writes ``public_surface.txt`` from what ``duplex`` exports now: ``python -m tests.meta.freeze``."""

from __future__ import annotations

import duplex
from tests.meta.surface import FROZEN, public_names


def main() -> None:
    names = public_names(duplex)
    FROZEN.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    print(f"{FROZEN.name}: {len(names)} names")


if __name__ == "__main__":
    main()
