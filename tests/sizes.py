"""How much of a thing a test does: some of it in ``make test``, and much in ``make test-long``."""

from __future__ import annotations

import os
from typing import Final

#: Whether the tests take as long as they like.
LONG: Final = os.environ.get("DUPLEX_TESTS") == "long"


def size(usual: int, long: int) -> int:
    """Return the first number, or the second if ``DUPLEX_TESTS=long``.

    Args:
        usual: enough to find what goes wrong every time, or nearly.
        long: enough to find what goes wrong now and then.
    """
    return long if LONG else usual
