"""Prints when it is imported, when it is called, and by a child process."""

from __future__ import annotations

import subprocess
import sys

import duplex

print("imported")


@duplex.rpc
def say(text: str) -> None:
    """Print a text, here and in a child process."""
    print(text)
    subprocess.run([sys.executable, "-c", f"print({text!r} + ' in a child')"], check=True)
