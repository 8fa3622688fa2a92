"""Which function handles a request, by its method and path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import msgspec

from duplex_services._shared._http_server import Answer, Request

#: Is given the request, and the parts of the path that the route leaves open.
RouteHandler: TypeAlias = Callable[..., Awaitable[Answer]]


class NoRoute(msgspec.Struct, frozen=True):
    """There is no such path, or it is not for that method.

    Attributes:
        allowed: methods that the path is for.
    """

    allowed: tuple[str, ...]


class Routes:
    """Methods and paths, and what handles them."""

    def __init__(self) -> None:
        self._routes: list[tuple[str, tuple[str, ...], RouteHandler]] = []

    def add(self, method: str, path: str, handler: RouteHandler) -> None:
        """Have a function handle a path: in ``/services/{}`` the second part may be anything, and is given to it."""
        self._routes.append((method, tuple(path.strip("/").split("/")), handler))

    def find(self, request: Request) -> tuple[RouteHandler, tuple[str, ...]] | NoRoute:
        """Return what handles a request, and the open parts of its path. A route without open parts is added before one with."""
        allowed = []
        for method, path, handler in self._routes:
            if len(path) != len(request.parts):
                continue
            pairs = list(zip(path, request.parts, strict=True))
            if all(wanted in {"{}", part} for wanted, part in pairs):
                if method == request.method:
                    return handler, tuple(part for wanted, part in pairs if wanted == "{}")
                allowed.append(method)
        return NoRoute(tuple(dict.fromkeys(allowed)))
