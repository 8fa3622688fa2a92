"""Options that commands of other packages have as those of ``duplex`` have them.

Each of these is a decorator of a function that becomes a command. It imports nothing that takes long.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from duplex.cli._options import credentials as credentials
from duplex.cli._options import credentials_option as credentials_option
from duplex.cli._options import log_option as log_option
from duplex.cli._options import output_option as output_option
from duplex.cli._options import permission_options as permission_options
from duplex.cli._tls_options import server_tls_options as server_tls_options
from duplex.cli._tls_options import tls as tls
from duplex.cli._tls_options import tls_options as tls_options

__all__ = (
    "credentials",
    "credentials_option",
    "load_function",
    "log_option",
    "output_option",
    "permission_options",
    "server_tls_options",
    "tls",
    "tls_options",
)


def load_function(target: str | None) -> Any:
    """Return what an option such as ``--authorize`` names: ``file.py:name`` or ``module:name``, with dots if it lies deeper; ``None``
    for ``None``. What its module prints when it is imported goes to stderr.

    Raises:
        Exception: there is no such thing, or importing it failed. ``duplex`` tells the user.
    """
    if target is None:
        return None
    from duplex.cli._target import load_function as load

    with contextlib.redirect_stdout(sys.stderr):
        return load(target)
