"""Idempotency keys: a method runs once for a key, however often it is called.

A caller whose link was lost cannot know whether its call was executed. With a key it may simply call again, over
any link, until the outcome of the one run is remembered no longer. The key is claimed before the handler starts,
so attempts at the same moment are safe too: one runs, the others wait for it.

An ordinary call has one channel and one run. Here there may be several channels, over different links, one after
the other or at once (:class:`Attempt`), and the run has none of its own (:class:`KeyedRun`): links come and go, and it
goes on. What joins them is the key's :class:`Entry` in the :class:`ResultCache`.

What is remembered is the outcome of a run that came to its end, success or error; where room is short, only that
there was one, so that the handler does not run again. A run that was cut short, by its callers or by its deadline, is
forgotten, and the next attempt runs; so is one whose arguments were refused, for its handler never began.
``docs/design/repetition.md`` has the reasons.
"""

from __future__ import annotations

from duplex.engine.serving.idempotency._cache import KEY_SIZE as KEY_SIZE
from duplex.engine.serving.idempotency._cache import ResultCache as ResultCache

__all__ = ("KEY_SIZE", "ResultCache")
