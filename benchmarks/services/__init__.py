"""The services under load: ``python -m benchmarks services``.

Discovery, as ``duplex discovery run`` over a file: how long things take with many instances and many who watch, what they
cost, how that grows; and beside a Consul agent in the same run.
"""

from __future__ import annotations

from benchmarks.services._command import add_options as add_options
from benchmarks.services._command import run as run
