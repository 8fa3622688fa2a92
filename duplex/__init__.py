"""Duplex: brokerless RPC between peers.

Decorate functions, open a :class:`Peer`, bind and connect; either side of a link may call the other, with
single values, streams, callbacks and channels.
"""

from __future__ import annotations

import typing as _typing

from duplex._version import __version__ as __version__

if _typing.TYPE_CHECKING:
    from duplex._public import *  # noqa: F403 - each of its imports says that it is an export
else:
    # For type checkers there is no such function, or they would let every misspelt name pass.
    def __getattr__(name: str) -> object:
        """Import what is public when a name of it is first asked for, so that ``duplex --help`` is quick.

        It is all of it at once: nothing is slow later, and every class says from the beginning that it lives here.
        """
        if "__all__" not in globals() and (name == "__all__" or not name.startswith("_")):
            from duplex import _public

            names = sorted(
                name for name in vars(_public) if not name.startswith("_") and name != "annotations"
            )
            globals().update({**{name: getattr(_public, name) for name in names}, "__all__": tuple(names)})
        if name in globals():
            return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*__getattr__("__all__"), *globals()})
