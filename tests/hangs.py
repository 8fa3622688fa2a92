"""A test that hangs costs one test: a plugin of pytest's that sets the timers of pytest-timeout.

By itself pytest-timeout raises wherever the test happens to be. In an asynchronous test that is mostly inside
of trio, which then believes for ever that it is running, and every test after that one fails. So here a
hanging trio run is cancelled instead, and the test fails with where its tasks were. What does not end even
so takes its process with it, after the stacks of all threads: under ``pytest -n`` that is one worker, and
another takes its place.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Generator, Iterator
from types import FrameType
from typing import Any, Final

import pytest
import pytest_timeout
import trio

from tests.machine import crowding

#: Seconds that a test has for its end after it has been cancelled, as many as before, within these bounds; then
#: its process goes.
MIN_GRACE: Final = 5.0
MAX_GRACE: Final = 30.0
#: Limits of as many seconds are there for what hangs: a busy machine gets more. Shorter ones are meant as they are.
LONG: Final = 30.0
#: Tasks and frames of one that a report shows.
MAX_TASKS: Final = 30
MAX_FRAMES: Final = 12

#: What every waiting task ends in, and what says nothing.
_TRIO_CORE: Final = f"{os.sep}trio{os.sep}_core{os.sep}"


class _Expiry:
    """The timers of the test that is running."""

    def __init__(self) -> None:
        #: The descriptor of the standard error stream that people see.
        self.stderr = -1
        #: Why the running test failed, if its time is over.
        self.report: str | None = None

    def arm(self, test: str, seconds: float) -> None:
        self.report = None

        def expire(number: int, frame: FrameType | None) -> None:
            if pytest_timeout.is_debugging():
                return
            if self.report is None:
                self.expire(seconds)
            else:
                os.write(self.stderr, f"\n{test} does not end: {self.report}\n".encode())

        grace = min(max(seconds, MIN_GRACE), MAX_GRACE)
        signal.signal(signal.SIGALRM, expire)
        signal.setitimer(signal.ITIMER_REAL, seconds, grace * 0.7)
        faulthandler.dump_traceback_later(seconds + grace, exit=True, file=self.stderr)

    def disarm(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def expire(self, seconds: float) -> None:
        """End the test, from inside of the signal's handler."""
        self.report = f"the test took longer than {seconds:g} s"
        if not trio.lowlevel.in_trio_run():
            self.report += "\n" + "\n".join(_of_threads())
            pytest.fail(self.report)
        # Where trio lets a KeyboardInterrupt be raised, any exception may be: the test's own code is running.
        if not trio.lowlevel.currently_ki_protected():
            pytest.fail(self.report)
        trio.lowlevel.current_trio_token().run_sync_soon(self._cancel)

    def _cancel(self) -> None:
        root = trio.lowlevel.current_root_task()
        if root is not None and root.child_nurseries:
            # The innermost nursery of trio's first task has one child, the task that was given to trio.run.
            main = root.child_nurseries[-1]
            self.report = f"{self.report}\n" + "\n".join(of_tasks(main))
            main.cancel_scope.cancel()


def of_tasks(nursery: trio.Nursery) -> Iterator[str]:
    """Tell where the tasks of a nursery wait, the youngest last."""
    tasks = list(_below(nursery))
    for task in tasks[:MAX_TASKS]:
        yield f"task {task.name} waits in"
        stack = traceback.StackSummary.extract(task.iter_await_frames())
        frames = [frame for frame in stack if _TRIO_CORE not in frame.filename]
        yield "".join(traceback.format_list(frames[-MAX_FRAMES:]))
    if len(tasks) > MAX_TASKS:
        yield f"and {len(tasks) - MAX_TASKS} more tasks"


def _below(nursery: trio.Nursery) -> Iterator[trio.lowlevel.Task]:
    for task in nursery.child_tasks:
        yield task
        for child in task.child_nurseries:
            yield from _below(child)


def _of_threads() -> Iterator[str]:
    """Tell where the other threads are; pytest shows where this one is."""
    frames = sys._current_frames()
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and thread.ident in frames:
            yield f"thread {thread.name} is in"
            yield "".join(traceback.format_stack(frames[thread.ident])[-MAX_FRAMES:])


_expiry = _Expiry()


def pytest_configure(config: pytest.Config) -> None:
    # Descriptor 2 is captured while tests run, and the last words before the process ends must be seen.
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        _expiry.stderr = os.dup(2)


def pytest_unconfigure() -> None:
    os.close(_expiry.stderr)


def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool:
    seconds = settings.timeout
    _expiry.arm(item.nodeid, seconds * crowding() if seconds >= LONG else seconds)
    return True


def pytest_timeout_cancel_timer(item: pytest.Item) -> bool:
    # It also comes when a test has failed; but what follows, its fixtures' ends, may hang too.
    return True


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    failed = item.session.testsfailed
    try:
        return (yield)
    finally:
        _expiry.disarm()
        if item.session.testsfailed > failed:
            _forget()


def _forget() -> None:
    """Let what a test left open when it failed complain now, and not in the middle of another one."""
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        if hasattr(sys, name):
            delattr(sys, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test that was cancelled, whatever became of it then; let an interrupt out of trio's groups."""
    try:
        result = yield
    except BaseException as error:
        if isinstance(error, BaseExceptionGroup) and error.subgroup(KeyboardInterrupt):
            raise KeyboardInterrupt from error
        if _expiry.report is None or isinstance(error, KeyboardInterrupt):
            raise
        raise pytest.fail.Exception(_expiry.report) from error
    if _expiry.report is not None:
        pytest.fail(_expiry.report)
    return result
