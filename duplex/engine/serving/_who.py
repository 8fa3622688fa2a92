"""What those are called that have no name of the program's."""

from __future__ import annotations

from typing import Final

#: What the names of Duplex's own services begin with.
BUILTIN: Final = "duplex."
#: What a callback is called in logs.
CALLBACK: Final = "callback"
