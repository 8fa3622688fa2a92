"""Writes ``public_surface.txt`` from what ``duplex`` exports now: ``python -m tests.meta.freeze``."""

from __future__ import annotations

import duplex
from tests.meta.surface import FROZEN, surface


def main() -> None:
    lines = surface(duplex)
    FROZEN.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    print(f"{FROZEN.name}: {len(lines)} lines")


if __name__ == "__main__":
    main()
