"""The shapes of types, for ``duplex describe``: fields, members and bounds, from JSON Schema to words of Python's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec

Schema: TypeAlias = Mapping[str, Any]

#: Schemas within one another that are written out; what lies deeper is cut short.
_DEEPEST: Final = 16

_NAMES: Final[Mapping[str, str]] = {
    "integer": "int",
    "number": "float",
    "string": "str",
    "boolean": "bool",
    "null": "None",
    "array": "list",
    "object": "dict",
}
_FORMATS: Final[Mapping[str, str]] = {
    "date-time": "datetime",
    "date": "date",
    "time": "time",
    "duration": "timedelta",
    "uuid": "UUID",
    "decimal": "Decimal",
}
#: The bounds of a value, and how each is put in words.
_BOUNDS: Final[Mapping[str, str]] = {
    "minimum": ">= {}",
    "exclusiveMinimum": "> {}",
    "maximum": "<= {}",
    "exclusiveMaximum": "< {}",
    "multipleOf": "a multiple of {}",
    "minLength": "length >= {}",
    "maxLength": "length <= {}",
    "pattern": "matching {}",
    "minItems": "length >= {}",
    "maxItems": "length <= {}",
}


def shape(name: str, defs: Schema) -> list[str]:
    """Return what a type is, in lines: its fields, or what it stands for.

    Args:
        name: a key of ``defs``.
        defs: the schemas of types by name.
    """
    schema = defs[name]
    name = str(schema.get("title", name))
    fields = schema.get("properties")
    if not isinstance(fields, Mapping):
        return [f"{name} = {type_words(schema)}"]
    required = schema.get("required", ())
    return [f"{name}:", *(f"    {_field(field, its, field in required)}" for field, its in fields.items())]


def bounds(schema: Schema) -> str:
    """Return the bounds of a value in words; empty if it has none."""
    if "prefixItems" in schema:
        return ""  # its length is that of the tuple
    return ", ".join(words.format(schema[key]) for key, words in _BOUNDS.items() if key in schema)


def named_types(schemas: Sequence[Any], defs: Schema) -> list[str]:
    """Return the names of all types that schemas refer to, those within them included, in the order of their use."""
    found: dict[str, None] = {}
    waiting = list(reversed(schemas))
    while waiting:
        for name in _references(waiting.pop()):
            if name not in found and isinstance(defs.get(name), Mapping):
                found[name] = None
                waiting.append(defs[name])
    return list(found)


def _references(value: Any) -> Iterator[str]:
    values = [value]
    while values:
        value = values.pop()
        if isinstance(value, Mapping):
            if isinstance(reference := value.get("$ref"), str):
                yield _name_of(reference)
            values += reversed(list(value.values()))
        elif isinstance(value, list):
            values += reversed(value)


def type_words(schema: Any, depth: int = 0) -> str:
    """Return a schema as a type of Python's, with the bounds that it has."""
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return "Any"
    words = _bare_words(schema, depth)
    limits = bounds(schema)
    return f"{words} ({limits})" if limits else words


def _bare_words(schema: Schema, depth: int) -> str:
    if isinstance(reference := schema.get("$ref"), str):
        return _name_of(reference)
    if isinstance(options := schema.get("anyOf") or schema.get("oneOf"), list):
        return " | ".join(type_words(option, depth + 1) for option in options)
    if isinstance(members := schema.get("enum"), list):
        return " | ".join(repr(member) for member in members)
    if schema.get("contentEncoding") == "base64":
        return "bytes"
    name = schema.get("type")
    if isinstance(name, list):
        return " | ".join(type_words({**schema, "type": each}, depth + 1) for each in name)
    if name == "string":
        return _FORMATS.get(str(schema.get("format")), "str")
    if isinstance(prefix := schema.get("prefixItems"), list):
        return f"tuple[{', '.join(type_words(item, depth + 1) for item in prefix)}]"
    if name == "array" and schema.get("items"):
        return f"list[{type_words(schema['items'], depth + 1)}]"
    if name == "object" and isinstance(fields := schema.get("properties"), Mapping):
        required = schema.get("required", ())
        inner = ", ".join(_field(field, its, field in required, depth + 1) for field, its in fields.items())
        return f"{{{inner}}}"
    if name == "object" and schema.get("additionalProperties"):
        return f"dict[str, {type_words(schema['additionalProperties'], depth + 1)}]"
    return _NAMES.get(str(name)) or str(schema.get("description") or "Any")


def _field(name: str, schema: Any, required: bool, depth: int = 0) -> str:
    text = f"{name}: {type_words(schema, depth)}"
    if isinstance(schema, Mapping) and "default" in schema:
        return f"{text} = {_literal(schema['default'])}"
    return text if required else f"{text}  (may be absent)"


def _literal(value: Any) -> str:
    """A default as it would be written in JSON, which is what the command line takes."""
    return msgspec.json.encode(value).decode()


def _name_of(reference: str) -> str:
    return reference.rpartition("/")[2]
