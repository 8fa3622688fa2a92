"""What a process takes of the machine, read from ``/proc``."""

from __future__ import annotations

import ctypes
import gc
import os
from pathlib import Path
from typing import Final

#: Writing this to ``clear_refs`` sets the peak of the resident memory back to what it is now.
_RESET_PEAK: Final = "5"


def settle() -> None:
    """Give back all memory that nothing uses, so that two measurements can be compared."""
    for _ in range(3):
        gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def resident(pid: int, *, peak: bool = False) -> float:
    """Return the resident memory of a process in MiB, or the most that it was."""
    key = "VmHWM:" if peak else "VmRSS:"
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    return 0.0


def reset_peak(pid: int) -> None:
    """Begin to measure the peak anew."""
    Path(f"/proc/{pid}/clear_refs").write_text(_RESET_PEAK)


def descriptors(pid: int) -> int:
    """Return how many files and sockets a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))
