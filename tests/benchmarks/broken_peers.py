"""Peers that fail, each in its own way, for the tests of the driver."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable


class Broken:
    """Serves and runs, unless told to fail at one of the two."""

    def __init__(self, where: str = "", how: str = "") -> None:
        self._where = where
        self._how = how

    def serve(self, announce: Callable[[str], None]) -> None:
        self._fail_at("start")
        announce("nowhere")
        self._fail_at("serving")
        _hang()

    def run(self, scenario: str, address: str, seconds: float) -> float:
        assert address == "nowhere"
        self._fail_at("client")
        if self._where == "serving":
            _hang()
        return 1.5

    def _fail_at(self, where: str) -> None:
        if where != self._where:
            return
        if self._how == "hang":
            _hang()
        sys.stderr.write("reached the end\n")
        raise ArithmeticError(f"broken at {where}")


def _hang() -> None:
    while True:
        time.sleep(60)  # until the process is ended from outside


SOUND = Broken()
CRASHES_AT_START = Broken("start", "crash")
HANGS_AT_START = Broken("start", "hang")
SERVER_CRASHES = Broken("serving", "crash")
CLIENT_CRASHES = Broken("client", "crash")
CLIENT_HANGS = Broken("client", "hang")
