"""Peers that fail, each in its own way, for the tests of the driver."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from benchmarks.peers import Client
from benchmarks.peers._runtimes import Threads


class Broken:
    """Serves and answers, unless told to fail at one of the two."""

    imports: ClassVar[str] = "sys"
    runtime: ClassVar[Threads] = Threads()

    def __init__(self, where: str = "", how: str = "") -> None:
        self._where = where
        self._how = how

    def serve(self, announce: Callable[[str], None]) -> None:
        self._fail_at("start")
        announce("nowhere")
        self._fail_at("serving")
        _hang()

    @asynccontextmanager
    async def connect(self, address: str) -> AsyncIterator[Client]:
        assert address == "nowhere"
        self._fail_at("client")
        yield _Echo(self._where)

    def _fail_at(self, where: str) -> None:
        if where != self._where:
            return
        if self._how == "hang":
            _hang()
        sys.stderr.write("reached the end\n")
        raise ArithmeticError(f"broken at {where}")


class _Echo(Client):
    def __init__(self, where: str) -> None:
        self._where = where

    async def unary(self, value: Any, /) -> Any:
        if self._where == "serving":
            _hang()
        return value


def _hang() -> None:
    while True:
        time.sleep(60)  # until the process is ended from outside


SOUND = Broken()
CRASHES_AT_START = Broken("start", "crash")
HANGS_AT_START = Broken("start", "hang")
SERVER_CRASHES = Broken("serving", "crash")
CLIENT_CRASHES = Broken("client", "crash")
CLIENT_HANGS = Broken("client", "hang")
