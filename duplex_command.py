"""Where the installed ``duplex`` command begins: at once able to be interrupted.

Importing :mod:`duplex` takes a good part of a second, in which Ctrl-C would be a traceback of whatever was being imported.
This stands beside the package because a module in it would import the package first.
"""

from __future__ import annotations

import signal


def main() -> None:
    """Import the command and run it. Until it is imported, SIGINT ends the process as it ends any other."""
    if ours := signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from duplex.cli import main as command

    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    command()
