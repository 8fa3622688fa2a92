"""Single values: from a word or from JSON to what a method expects, as its JSON Schema says.

Nothing is validated here beyond what is needed to choose a type: the other side checks every argument anyway,
and says more precisely what is wrong.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec

Schema: TypeAlias = Mapping[str, Any]

#: What stays connected to this process and so cannot be written down, and how to call it.
LIVE: Final[Mapping[str, str]] = {
    "callback": "a callback",
    "send_channel": "a channel",
    "receive_channel": "a channel",
    "channel": "a channel",
}

#: References and unions within one another that are followed; what lies deeper counts as untyped.
_DEEPEST: Final = 32
#: The dtype in the text of an array type: ``NDArray[float64]``.
#: What stands for the numbers that JSON has no words for.
_NOT_FINITE: Final = frozenset({"NaN", "Infinity", "-Infinity"})

_DTYPE: Final = re.compile(r"\bNDArray\[(\w+)\]")


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text. Raises ``ValueError`` that says where it is wrong."""
    if isinstance(text, bytes):
        # Some programs begin a text in UTF-8 with this mark.
        text = text.removeprefix(codecs.BOM_UTF8)
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None


def read_file(name: str) -> bytes:
    """Return what is in a file, or, if its name is ``-``, what comes on standard input. Raises ``ValueError``."""
    try:
        if name == "-":
            return sys.stdin.buffer.read() if sys.stdin is not None else b""
        with open(name, "rb") as file:
            return file.read()
    except OSError as error:
        raise ValueError(
            f"cannot read {'standard input' if name == '-' else name}: {error.strerror}"
        ) from None


def live_word(schema: Schema) -> str | None:
    """Return "a callback" or "a channel" if that is what the schema stands for, else ``None``."""
    return LIVE.get(str(schema.get("x-duplex")))


def takes_bytes(schema: Schema, defs: Schema) -> bool:
    """Tell whether bytes are of what is expected."""
    return any(_kind(option) in ("any", "bytes") for option in _options(schema, defs))


def from_word(word: str, schema: Schema, defs: Schema, type_text: str = "") -> Any:
    """Return what a word of the command line stands for.

    Where several types are possible, the strictest that fits wins: ``5`` for ``int | str`` is a number.

    Args:
        word: the word as the shell gave it.
        schema: JSON Schema of what is expected; an empty one takes JSON, and any other word as a string.
        defs: what its references point to.
        type_text: the type as Python writes it, for messages and for the dtype of arrays.

    Raises:
        ValueError: it fits none of the types.
    """
    options = _options(schema, defs)
    kinds = [_kind(option) for option in options]
    if "any" in kinds:
        try:
            return parse_json(word)
        except ValueError:
            return word
    problems: list[str] = []
    for kind, read in _READERS.items():
        for option in (option for option, its_kind in zip(options, kinds, strict=True) if its_kind == kind):
            try:
                return read(word, option, defs, type_text)
            except ValueError as error:
                problems.append(str(error))
    if len(problems) == 1:
        raise ValueError(problems[0])
    raise ValueError(f"{word!r} fits none of the types in {type_text or 'the schema'}")


def from_json(value: Any, schema: Schema, defs: Schema, type_text: str = "") -> Any:
    """Return what a JSON value stands for, as :func:`duplex.cli._output.to_plain` writes it: base64 becomes bytes,
    nested lists become arrays and ``"NaN"`` a number, where the schema has those; all else stays.

    Args:
        value: plain data.
        schema: JSON Schema of what is expected.
        defs: what its references point to.
        type_text: the type as Python writes it, for the dtype of arrays.

    Raises:
        ValueError: base64 or an array was expected and this is none.
    """
    options = _options(schema, defs)
    kinds = [_kind(option) for option in options]
    if isinstance(value, str) and "string" not in kinds:
        if "number" in kinds and value in _NOT_FINITE:
            return float(value)
        return _base64(value) if "bytes" in kinds else value
    if isinstance(value, list):
        if "ndarray" in kinds:
            return _array(value, type_text)
        for option in _of_kind("array", options):
            prefix = option.get("prefixItems", ())
            rest = option.get("items")
            schemas = [*prefix, *[rest] * (len(value) - len(prefix))]
            return [
                from_json(item, its if isinstance(its, Mapping) else {}, defs)
                for item, its in zip(value, schemas, strict=False)
            ] + value[len(schemas) :]
    if isinstance(value, dict):
        for option in _of_kind("object", options):
            properties = option.get("properties", {})
            if not _may_be(value, option, properties):
                continue
            others = option.get("additionalProperties")
            return {
                key: from_json(item, properties.get(key, others if isinstance(others, Mapping) else {}), defs)
                for key, item in value.items()
            }
    return value


def _may_be(value: Mapping[str, Any], option: Schema, properties: Mapping[str, Schema]) -> bool:
    """Tell whether an object can be of a schema, to choose among those of a union."""
    return all(name in value for name in option.get("required", ())) and all(
        value[name] in its["enum"] for name, its in properties.items() if "enum" in its and name in value
    )


# -- what a schema says ----------------------------------------------------------------------------------


def _options(schema: Schema, defs: Schema, depth: int = 0) -> list[Schema]:
    """Return the simple schemas that a schema is the union of, references resolved."""
    if depth > _DEEPEST:
        return [{}]
    reference = schema.get("$ref")
    if isinstance(reference, str):
        target = defs.get(reference.rpartition("/")[2], {})
        return _options(target, defs, depth + 1)
    union = schema.get("anyOf") or schema.get("oneOf")
    if union:
        return [option for part in union for option in _options(part, defs, depth + 1)]
    if isinstance(schema.get("type"), list):
        return [{**schema, "type": name} for name in schema["type"]]
    return [schema]


def _kind(option: Schema) -> str:
    """Return what reads a simple schema: a key of :data:`_READERS`, or ``any``."""
    special = str(option.get("x-duplex"))
    if special in LIVE:
        return "live"
    if special == "ndarray":
        return "ndarray"
    if "enum" in option:
        return "enum"
    if option.get("contentEncoding") == "base64":
        return "bytes"
    name = str(option.get("type"))
    return name if name in _READERS else "any"


def _of_kind(kind: str, options: Sequence[Schema]) -> list[Schema]:
    return [option for option in options if _kind(option) == kind]


# -- words -----------------------------------------------------------------------------------------------


def _null(word: str, _option: Schema, _defs: Schema, _type: str) -> None:
    if word not in ("null", "None"):
        raise ValueError(f"{word!r} is not null")


def _boolean(word: str, _option: Schema, _defs: Schema, _type: str) -> bool:
    if word.lower() not in ("true", "false"):
        raise ValueError(f"{word!r} is neither true nor false")
    return word.lower() == "true"


def _integer(word: str, _option: Schema, _defs: Schema, _type: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise ValueError(f"{word!r} is not a whole number") from None


def _number(word: str, _option: Schema, _defs: Schema, _type: str) -> float:
    try:
        return float(word[1:-1] if word[1:-1] in _NOT_FINITE else word)  # also as it is printed, with quotes
    except ValueError:
        raise ValueError(f"{word!r} is not a number") from None


def _enum(word: str, option: Schema, _defs: Schema, _type: str) -> Any:
    choices: list[Any] = option["enum"]
    if word in choices:
        return word
    try:
        value = parse_json(word)
    except ValueError:
        value = None
    for choice in choices:
        if choice == value and type(choice) is type(value):
            return value
    raise ValueError(f"{word!r} is none of {', '.join(map(str, choices))}")


def _container(kind: type, name: str) -> Callable[[str, Schema, Schema, str], Any]:
    def read(word: str, option: Schema, defs: Schema, type_text: str) -> Any:
        try:
            value = parse_json(word)
        except ValueError as error:
            raise ValueError(f"{word!r} is not a JSON {name}: {error}") from None
        if not isinstance(value, kind):
            raise ValueError(f"{word!r} is not a JSON {name}")
        return from_json(value, option, defs, type_text)

    return read


def _live(_word: str, option: Schema, _defs: Schema, _type: str) -> Any:
    raise ValueError(f"{live_word(option)} cannot be passed from the command line")


def _bytes(word: str, _option: Schema, _defs: Schema, _type: str) -> bytes:
    return read_file(word[1:]) if word.startswith("@") else _base64(word)


def _string(word: str, _option: Schema, _defs: Schema, _type: str) -> str:
    return word


#: How words are read, the strictest first.
_READERS: Final[Mapping[str, Callable[[str, Schema, Schema, str], Any]]] = {
    "null": _null,
    "boolean": _boolean,
    "integer": _integer,
    "number": _number,
    "enum": _enum,
    "array": _container(list, "array"),
    "object": _container(dict, "object"),
    "ndarray": _container(list, "array"),
    "live": _live,
    "bytes": _bytes,
    "string": _string,
}


# -- what JSON has no form for ---------------------------------------------------------------------------


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(
            f"bytes are written in base64, which {_short(text)!r} is not ({error}), or come from a @FILE"
        ) from None


def _array(value: list[Any], type_text: str) -> Any:
    try:
        import numpy as np
    except ImportError:
        raise ValueError(
            "an array is expected, but numpy is missing here: install duplex-rpc[numpy]"
        ) from None
    match = _DTYPE.search(type_text)
    dtype = getattr(np, match[1], None) if match else None
    concrete = isinstance(dtype, type) and issubclass(dtype, np.generic) and not dtype.__subclasses__()
    try:
        array = np.array(value, dtype=dtype if concrete else None)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"no array: {error}") from None
    if array.dtype.hasobject:
        raise ValueError("no array: it holds something other than numbers, or rows of different lengths")
    return array


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:40] + "..."
