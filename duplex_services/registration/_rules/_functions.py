"""The functions of templates: Registrator's, and those that Go's templates have by themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final


class TemplateError(ValueError):
    """A template makes no sense, or not with this data."""


class WantedError(Exception):
    """The content of an address is needed that nobody has fetched yet: the argument."""


def show(value: object) -> str:
    """Return a value as Go prints it."""
    match value:
        case None:
            return "<no value>"
        case bool():
            return "true" if value else "false"
        case bytes():
            return value.decode(errors="replace")
        case float():
            return f"{value:g}"
        case list() | tuple():
            return f"[{' '.join(map(show, value))}]"
        case dict():
            return f"map[{' '.join(f'{show(key)}:{show(value[key])}' for key in sorted(value))}]"
        case _:
            return str(value)


def is_true(value: object) -> bool:
    """Whether Go's ``if`` takes a value for true: it is not empty."""
    return bool(value)


def element(value: object, key: object) -> object:
    """Return the element of a list or a map, as ``index`` and ``.Field`` have it.

    Raises:
        TemplateError: there cannot be one.
    """
    if isinstance(value, Mapping):
        if key in value:
            found: object = value[key]
            return found
        # Go's names of fields differ from JSON's in that: ``ID`` is ``Id`` there.
        folded = {str(name).lower(): name for name in value}
        name = folded.get(str(key).lower())
        return None if name is None else value[name]
    if isinstance(value, list | tuple | str) and isinstance(key, int):
        if 0 <= key < len(value):
            chosen: object = value[key]
            return chosen
        raise TemplateError(f"index {key} is out of range: there are {len(value)}")
    if value is None:
        return None
    raise TemplateError(f"{show(value)!r} has no {show(key)!r}")


def _slice(text: str, start: int, end: int | None = None) -> str:
    stop = len(text) if end is None else end
    return text[start:stop] if 0 <= start <= stop <= len(text) else text


def _nth(number: int, items: list[str]) -> str:
    if not items:
        raise TemplateError("sIndex has an empty list")
    at = number + len(items) if number < 0 else number
    return items[min(max(at, 0), len(items) - 1)]


def _matching(pattern: str, items: list[str]) -> list[str]:
    try:
        wanted = re.compile(pattern)
    except re.error as error:
        raise TemplateError(f"{pattern!r} is no regular expression: {error}") from None
    return [item for item in items if wanted.search(item)]


def _json_parse(data: bytes | str, path: str) -> str:
    try:
        value = json.loads(data)
    except ValueError as error:
        raise TemplateError(f"jsonParse was given no JSON: {error}") from None
    for key in path.split("::"):
        value = element(value, int(key) if isinstance(value, list) and key.isdecimal() else key)
    return "" if value is None else show(value)


def _index(value: object, *keys: object) -> object:
    for key in keys:
        value = element(value, key)
    return value


def _printf(form: str, *values: object) -> str:
    rest = list(values)

    def one(match: re.Match[str]) -> str:
        if match[0] == "%%":
            return "%"
        if not rest:
            raise TemplateError(f"printf {form!r} has too few values")
        value = rest.pop(0)
        return json.dumps(show(value)) if match[1] == "q" else show(value)

    return re.sub(r"%(?:%|([vsdqt]))", one, form)


def _last_of(values: tuple[object, ...], *, until: bool) -> object:
    return next((value for value in values if is_true(value) is until), values[-1])


FUNCTIONS: Final[Mapping[str, Callable[..., object]]] = {
    "strSlice": _slice,
    "sIndex": _nth,
    "mIndex": lambda key, values: element(values, key) or "",
    "toUpper": lambda text: text.upper(),
    "toLower": lambda text: text.lower(),
    "replace": lambda number, old, new, text: text.replace(old, new, number),
    "join": lambda separator, items: separator.join(items),
    "split": lambda separator, text: text.split(separator) if separator else list(text),
    "splitIndex": lambda number, separator, text: _nth(number, text.split(separator)),
    "matchFirstElement": lambda pattern, items: next(iter(_matching(pattern, items)), ""),
    "matchAllElements": _matching,
    "jsonParse": _json_parse,
    "index": _index,
    "len": len,
    "print": lambda *values: "".join(map(show, values)),
    "printf": _printf,
    "not": lambda value: not is_true(value),
    "and": lambda *values: _last_of(values, until=False),
    "or": lambda *values: _last_of(values, until=True),
    "eq": lambda first, *others: any(first == other for other in others),
    "ne": lambda first, second: first != second,
    "lt": lambda first, second: first < second,
    "le": lambda first, second: first <= second,
    "gt": lambda first, second: first > second,
    "ge": lambda first, second: first >= second,
}


def call(name: str, arguments: list[Any], fetched: Mapping[str, bytes]) -> object:
    """Return what a function makes of its arguments.

    Raises:
        TemplateError: there is none of that name, or it cannot do anything with these.
        WantedError: ``httpGet`` is asked for what is not among ``fetched``.
    """
    if name == "httpGet":
        if len(arguments) != 1 or not isinstance(arguments[0], str):
            raise TemplateError("httpGet takes one address")
        if arguments[0] not in fetched:
            raise WantedError(arguments[0])
        return fetched[arguments[0]]
    function = FUNCTIONS.get(name)
    if function is None:
        raise TemplateError(f"there is no function {name!r}: there are {', '.join([*FUNCTIONS, 'httpGet'])}")
    try:
        return function(*arguments)
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        if isinstance(error, TemplateError):
            raise
        raise TemplateError(
            f"{name} cannot be applied to {', '.join(map(repr, arguments))}: {error}"
        ) from None
