"""The tasks that receive, run handlers and transmit, and who does which when."""

from __future__ import annotations

from duplex.engine.tasks._flush import Flusher as Flusher
from duplex.engine.tasks._flush import acquire_flusher as acquire_flusher
from duplex.engine.tasks._flush import release_flusher as release_flusher
from duplex.engine.tasks._job import Job as Job
from duplex.engine.tasks._job import Source as Source
from duplex.engine.tasks._workers import Workers as Workers

__all__ = ("Flusher", "Job", "Source", "Workers", "acquire_flusher", "release_flusher")
