"""A process that runs chosen tests again and again, each time in a child that imports the project anew.

What the tests stand on (pytest, trio, Hypothesis) is imported once, here: that is most of the time of a short run. It runs
in a copy of the project, and never imports the project itself. A line on stdin asks for a run, and a line on stdout tells
what became of it.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any, Final

import hypothesis
import msgspec
import numpy as np
import pytest
import pytest_timeout
import pytest_trio
import trio
import trio.testing
import zmq

#: Imported for the children.
PRELOADED: Final = (hypothesis, msgspec, np, pytest_timeout, pytest_trio, trio.testing, zmq)
#: Bytes of memory that a child may have, which may never stop taking more.
MEMORY: Final = 6 << 30
#: What pytest is told on top of the tests.
WORDS: Final = (
    *("-x", "-q", "--tb=line", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:cov"),
    *("-W", "ignore:Module already imported"),
)


class Only:
    """Leave only these tests, in this order."""

    def __init__(self, tests: list[str]) -> None:
        self._place = {test: place for place, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.nodeid in self._place]
        items.sort(key=lambda item: self._place[item.nodeid])


def run_child(tests: list[str], seconds: float, output: str, words: list[str]) -> None:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with open(output, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
    code = pytest.main([*WORDS, *words, "--timeout", str(seconds), *files], plugins=[Only(tests)])
    os._exit(code)


def run(tests: list[str], each: float, whole: float, output: str, words: list[str]) -> dict[str, Any]:
    """Run tests until one fails; tell how the run ended.

    Args:
        tests: their names as pytest has them, in the order to run them in.
        each: seconds that one of them may take.
        whole: seconds that all of them may take.
        output: the file that gets what is printed.
        words: more words for pytest.
    """
    child = os.fork()
    if child == 0:
        run_child(tests, each, output, words)
    began = time.monotonic()
    late = False

    def kill(number: int, frame: FrameType | None) -> None:
        nonlocal late
        late = True
        os.kill(child, signal.SIGKILL)

    signal.signal(signal.SIGALRM, kill)
    signal.setitimer(signal.ITIMER_REAL, whole)
    _, status = os.waitpid(child, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    # What the tests started, and did not come to stop, is in the child's session.
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        pass  # nothing was left
    return {"code": os.waitstatus_to_exitcode(status), "late": late, "seconds": time.monotonic() - began}


def main() -> None:
    assert not any(name.partition(".")[0] == "duplex" for name in sys.modules)
    sys.path.insert(0, str(Path.cwd()))
    os.environ["PYTHONPATH"] = str(Path.cwd())
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        answers.write(json.dumps(run(**json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
