"""From the words of a command line to the arguments of a call, by the method's description.

===============  ==========================================================================================
``word``         the next positional argument, of the parameter's type
``name=word``    the argument ``name``, of the parameter's type
``name:=JSON``   the argument ``name``, given in JSON
``:=JSON``       the next positional argument, given in JSON
===============  ==========================================================================================

``@FILE`` stands for what is in a file, and ``@-`` for standard input: in the place of JSON, and of a word where bytes
are taken, which are then those of the file. A text that looks like ``name=word``, where no parameter has that name, is
refused rather than passed on as a text, because a misspelt name looks just so; in JSON it can be given.

Without a description, every ``name=`` and ``name:=`` is a named argument, and a word is JSON if it parses as
such, else a string.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, NoReturn

import msgspec

from duplex.cli._errors import CommandError
from duplex.cli._values import from_json, from_word, live_word, parse_json, read_file


class Parameter(msgspec.Struct, frozen=True):
    """What the command line needs to know of a parameter; a part of what reflection sends."""

    name: str
    kind: str = "positional_or_keyword"
    required: bool = True
    stream: bool = False
    type: str = ""
    schema: dict[str, Any] = {}


class ValueType(msgspec.Struct, frozen=True):
    """The type of results, or of items that are streamed in."""

    type: str = ""
    schema: dict[str, Any] = {}


class Method(msgspec.Struct, frozen=True):
    """What the command line needs to know of a method; a part of what reflection sends."""

    name: str
    kind: str = "unary"
    signature: str = ""
    doc: str = ""
    idempotent: bool = False
    deprecated: str | None = None
    resumable: bool = False
    requires: list[str] = []
    parameters: list[Parameter] = []
    input: ValueType | None = None
    result: ValueType = ValueType()
    defs: dict[str, Any] = msgspec.field(name="$defs", default_factory=dict)

    @property
    def streams_input(self) -> bool:
        """Whether the caller streams items in."""
        return self.kind in ("client_streaming", "bidirectional")

    @property
    def streams_output(self) -> bool:
        """Whether results are streamed out."""
        return self.kind in ("server_streaming", "bidirectional")


class Arguments(NamedTuple):
    """What a method is called with."""

    positional: list[Any]
    keyword: dict[str, Any]


_NAMED: Final = re.compile(r"(?P<name>[^\W\d]\w*)?(?P<sign>:?=)(?P<value>.*)", re.DOTALL)
_BY_POSITION: Final = ("positional_only", "positional_or_keyword")
_BY_NAME: Final = ("positional_or_keyword", "keyword_only")
#: What stands in for the schema of arguments that no parameter is known for.
_UNKNOWN: Final = Parameter("")


def check_method(method: Method) -> None:
    """Raise ``CommandError`` if the method takes or returns something that no command line can hold."""
    for parameter in method.parameters:
        live = live_word(parameter.schema)
        if live and parameter.required and not parameter.stream:
            raise CommandError(
                f"{method.name} takes {live} ({parameter.name!r}), which the command line cannot pass"
            )
    live = live_word(method.result.schema)
    if live:
        raise CommandError(f"{method.name} returns {live}, which the command line cannot use")


def bind_words(words: Sequence[str], method: Method | None) -> Arguments:
    """Return the arguments that words stand for.

    Args:
        words: the words, as the module's docstring says.
        method: the method's description; ``None`` if there is none.

    Raises:
        CommandError: the words do not fit the method.
    """
    return _Binder(method).bind(words)


def read_data(data: str) -> list[Any] | dict[str, Any]:
    """Return the arguments that ``--data`` holds or names.

    Raises:
        CommandError: it cannot be read, or is no JSON object or array.
    """
    try:
        value = parse_json(read_file(data[1:]) if data.startswith("@") else data)
    except ValueError as error:
        raise CommandError(f"--data: {error}") from None
    if not isinstance(value, list | dict):
        raise CommandError(
            "--data: a JSON object is needed, for arguments by name, or a JSON array, for arguments by position"
        )
    return value


def bind_data(data: list[Any] | dict[str, Any], method: Method | None) -> Arguments:
    """Return the arguments that one JSON value holds: by name in an object, by position in an array.

    What the method does not take is left for the other side to refuse.

    Raises:
        CommandError: a part of it cannot be of the type that the method wants.
    """
    binder = _Binder(method)
    if isinstance(data, dict):
        return Arguments([], {name: binder.plain(binder.named(name), name, v) for name, v in data.items()})
    return Arguments([binder.plain(binder.slot(i), str(i + 1), v) for i, v in enumerate(data)], {})


class _Word(NamedTuple):
    """One word, taken apart."""

    #: Of the argument that it gives; ``None`` if it gives the next positional one.
    name: str | None
    text: str
    is_json: bool


class _Binder:
    """Finds the parameters that arguments are for."""

    def __init__(self, method: Method | None) -> None:
        self._method = method
        parameters = method.parameters if method else []
        self._defs = method.defs if method else {}
        self._slots = [p for p in parameters if p.kind in _BY_POSITION and not p.stream]
        self._names = {p.name: p for p in parameters if p.kind not in ("var_positional", "var_keyword")}
        self._rest = next((p for p in parameters if p.kind == "var_positional"), None)
        self._others = next((p for p in parameters if p.kind == "var_keyword"), None)
        if method is None:
            self._rest = self._others = _UNKNOWN

    def bind(self, words: Sequence[str]) -> Arguments:
        positional: list[Any] = []
        keyword: dict[str, Any] = {}
        parsed = [self._parse(word) for word in words]
        for word in parsed:
            if word.name is not None:
                if word.name in keyword:
                    self._fail(f"the argument {word.name!r} is given twice")
                keyword[word.name] = self._value(word, self._by_name(word.name), word.name)
                continue
            slot = self.slot(len(positional))
            if slot is None:
                count = sum(word.name is None for word in parsed)
                taken = "1 is" if len(self._slots) == 1 else f"{len(self._slots) or 'none'} are"
                self._fail(f"of positional arguments, {taken} taken and {count} given")
            positional.append(self._value(word, slot, slot.name or str(len(positional) + 1)))
        self._check_complete(positional, keyword)
        return Arguments(positional, keyword)

    def slot(self, index: int) -> Parameter | None:
        """Return the parameter of a positional argument."""
        return self._slots[index] if index < len(self._slots) else self._rest

    def named(self, name: str) -> Parameter | None:
        """Return the parameter of a named argument."""
        return self._names.get(name, self._others)

    def plain(self, parameter: Parameter | None, label: str, value: Any) -> Any:
        """Return the argument that a JSON value is; without a parameter, it is left to the other side."""
        if parameter is None:
            return value
        try:
            return from_json(value, parameter.schema, self._defs, parameter.type)
        except ValueError as error:
            self._fail(f"argument {label!r}: {error}")

    def _parse(self, word: str) -> _Word:
        match = _NAMED.fullmatch(word)
        if match is None:
            return _Word(None, word, False)
        name, sign, text = match.group("name", "sign", "value")
        if name is None:
            return _Word(None, text, True) if sign == ":=" else _Word(None, word, False)
        if self.named(name) is not None:
            return _Word(name, text, sign == ":=")
        if sign == "=" and text in ("", "="):
            return _Word(None, word, False)  # the end of base64
        as_text = msgspec.json.encode(word).decode()
        self._fail(
            f"there is no parameter {name!r}; to pass {word!r} as a text, write {shlex.quote(':=' + as_text)}"
        )

    def _value(self, word: _Word, parameter: Parameter, label: str) -> Any:
        try:
            if word.is_json:
                text = read_file(word.text[1:]) if word.text.startswith("@") else word.text
                return from_json(parse_json(text), parameter.schema, self._defs, parameter.type)
            return from_word(word.text, parameter.schema, self._defs, parameter.type)
        except ValueError as error:
            self._fail(f"argument {label!r}: {error}")

    def _by_name(self, name: str) -> Parameter:
        """Return the parameter of a named argument that there is."""
        parameter = self.named(name)
        assert parameter is not None
        if parameter.stream:
            self._fail(f"{name!r} is the call's own stream: its items come from standard input")
        if parameter.kind != "positional_only":
            return parameter
        if self._others is None:
            self._fail(f"the argument {name!r} must be given by position, not by name")
        return self._others

    def _check_complete(self, positional: Sequence[Any], keyword: dict[str, Any]) -> None:
        filled = self._slots[: len(positional)]
        for parameter in filled:
            if parameter.kind in _BY_NAME and parameter.name in keyword:
                self._fail(f"the argument {parameter.name!r} is given twice, by position and by name")
        missing = [
            repr(p.name)
            for p in self._names.values()
            if p.required
            and not p.stream
            and p not in filled
            and not (p.kind in _BY_NAME and p.name in keyword)
        ]
        if missing:
            self._fail(f"missing argument{'s' if len(missing) > 1 else ''} {', '.join(missing)}")

    def _fail(self, problem: str) -> NoReturn:
        raise CommandError(f"{problem}; it is {self._method.signature}" if self._method else problem)
