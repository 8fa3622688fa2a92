"""Serves the callbacks of ``test_callbacks`` in a process of its own."""

from __future__ import annotations

import sys

import trio

from tests.engine.helpers import serve_until_eof
from tests.engine.test_callbacks import callbacks

if __name__ == "__main__":
    trio.run(lambda: serve_until_eof(callbacks, endpoint=sys.argv[1]))
