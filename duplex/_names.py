"""The rule by which a class names a service, for those who serve it and those who call it."""

from __future__ import annotations

import re


def service_name_of(cls: type) -> str:
    """Return the name that a class stands for: its ``service_name`` attribute, or its own name in lower case
    with underscores, less a final ``Protocol`` or ``Service``: ``UserStore`` gives ``user_store``."""
    explicit = getattr(cls, "service_name", None)
    if isinstance(explicit, str):
        return explicit
    name = re.sub(r"(Protocol|Service)$", "", cls.__name__) or cls.__name__
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
