"""Plain functions: the threads that they run in, and the deadlines of the calls that run there."""

from __future__ import annotations

from duplex.engine.threads._deadlines import ABOUT as ABOUT
from duplex.engine.threads._deadlines import CLEAN_UP as CLEAN_UP
from duplex.engine.threads._deadlines import detached as detached
from duplex.engine.threads._deadlines import in_thread as in_thread
from duplex.engine.threads._deadlines import remaining as remaining
from duplex.engine.threads._deadlines import remaining_until as remaining_until
from duplex.engine.threads._deadlines import served_call as served_call
from duplex.engine.threads._deadlines import shared as shared
from duplex.engine.threads._deadlines import thread_call as thread_call
from duplex.engine.threads._deadlines import told_by_own as told_by_own
from duplex.engine.threads._generator import END_OF_ITEMS as END_OF_ITEMS
from duplex.engine.threads._generator import GeneratorThread as GeneratorThread
from duplex.engine.threads._interpreter import Interpreter as Interpreter
from duplex.engine.threads._threads import Threads as Threads
from duplex.engine.threads._threads import run_in_thread as run_in_thread
from duplex.engine.threads._threads import run_plain as run_plain
from duplex.engine.threads._threads import wait_in_thread as wait_in_thread
from duplex.engine.threads._threads import wait_rescheduled as wait_rescheduled

__all__ = (
    "ABOUT",
    "CLEAN_UP",
    "END_OF_ITEMS",
    "GeneratorThread",
    "Interpreter",
    "Threads",
    "detached",
    "in_thread",
    "remaining",
    "remaining_until",
    "run_in_thread",
    "run_plain",
    "served_call",
    "shared",
    "thread_call",
    "told_by_own",
    "wait_in_thread",
    "wait_rescheduled",
)
