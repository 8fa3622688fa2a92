"""Values that are told to nobody who asks what a service offers: defaults that are, or hold, secrets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import msgspec

T = TypeVar("T")

#: ``Secret[str]``: a ``str`` to functions and callers. Reflection leaves out the default of a parameter or of a field
#: that is declared so, and of one that holds such a field. Its schema says ``writeOnly``, JSON Schema's word for it.
Secret = Annotated[T, msgspec.Meta(extra_json_schema={"writeOnly": True})]


def has_secret(schema: Any, defs: Mapping[str, Any]) -> bool:
    """Tell whether a value of a schema is secret, or has a part that is. ``defs`` is what its references point to."""
    followed = set()
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Mapping):
            if part.get("writeOnly") is True:
                return True
            reference = part.get("$ref")
            if isinstance(reference, str) and reference not in followed:
                followed.add(reference)
                waiting.append(defs.get(reference.rpartition("/")[2]))
            waiting += part.values()
        elif isinstance(part, (list, tuple)):
            waiting += part
    return False


def hide_defaults(schema: Any, defs: Mapping[str, Any]) -> Any:
    """Return a schema without the defaults of fields that are secret or have secret parts."""
    if isinstance(schema, (list, tuple)):
        return [hide_defaults(part, defs) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    hidden = {"default"} if "default" in schema and has_secret(schema, defs) else set()
    return {key: hide_defaults(value, defs) for key, value in schema.items() if key not in hidden}
