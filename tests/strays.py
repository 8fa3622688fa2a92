"""A test that is cancelled by mistake fails: a plugin of pytest's.

pytest-trio runs a test in a scope of its own, which takes a ``Cancelled`` that leaves the test for its own, so such a test
would pass, however little of it has run.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import trio


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.obj = failing_if_cancelled(item.obj)


def failing_if_cancelled(function: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Any]:
    """Return a test that fails where it is cancelled, but not by what it runs in, as when a fixture has failed."""

    @functools.wraps(function)
    async def test(*args: Any, **kwargs: Any) -> None:
        try:
            await function(*args, **kwargs)
        except BaseException as error:
            if _is_cancellation(error) and trio.current_effective_deadline() != -math.inf:
                pytest.fail(f"the test was cancelled, and nobody meant to: {error!r}")
            raise

    return test


def _is_cancellation(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_cancellation, error.exceptions))
    return isinstance(error, trio.Cancelled)
