"""Tasks that serve a block, and end with it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

import trio


@contextlib.asynccontextmanager
async def background() -> AsyncGenerator[trio.Nursery]:
    """Open a nursery for tasks that serve the block: they are cancelled when it ends.

    What the block raises comes out as it is; a nursery alone would wrap it in a group. If one of the tasks fails, the
    block is cancelled and the task's exception comes out, alone if there is one.
    """
    body_error: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            except BaseException as error:
                body_error = error
            finally:
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        serious = group.split(trio.Cancelled)[1]
        if serious is not None:
            if len(serious.exceptions) == 1:
                raise serious.exceptions[0] from body_error
            raise
        # Otherwise a scope further out was cancelled, which the block knows too.
        if body_error is None:
            raise
    if body_error is not None:
        raise body_error
